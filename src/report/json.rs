//! JSON, as `docs/report.schema.json` describes it, written and read.

use super::block_map;
use super::model::{FORMAT_VERSION, Report};
use serde::Deserialize;

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("the report cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the report has format version {0}, and this program reads version {FORMAT_VERSION}")]
    Version(u32),
    #[error("the map of {0} is not in order")]
    Map(String),
}

impl Report {
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self)
            .expect("structs, lists and maps by string are always JSON");
        json.push('\n');
        json
    }

    /// Unknown fields are passed over, so that a later version may add some.
    pub fn from_json(json: &[u8]) -> Result<Self, ReportError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let Version { format_version } = serde_json::from_slice(json)?;
        if format_version != FORMAT_VERSION {
            return Err(ReportError::Version(format_version));
        }
        let report: Self = serde_json::from_slice(json)?;
        let unsound = report.relations.iter().find(|r| !block_map::is_sound(&r.map));
        unsound.map_or(Ok(()), |r| Err(ReportError::Map(r.title())))?;
        Ok(report)
    }
}

#[cfg(test)]
mod tests;
