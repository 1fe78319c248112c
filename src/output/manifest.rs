//! `manifest.json`: what a run read, from where, and what became of it.
//!
//! Scripts rely on it: `docs/manifest.schema.json` is the promise, and the test
//! beside this file holds the two together. A field that is not known is left
//! out; a list is always there. Times are RFC 3339. Unknown fields are passed
//! over on reading, so that a later version may add some.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod relation;
mod schema;

pub use relation::*;
pub use schema::*;

pub const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    pub tool: Tool,
    /// When the first run into the directory began.
    pub started: Timestamp,
    /// When later ones have gone on with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<Timestamp>,
    /// None while the run goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    pub status: RunStatus,
    pub exit_code: u8,
    pub server: Server,
    pub database: Database,
    pub snapshots: Vec<Snapshot>,
    /// What was asked, by the long names of the options.
    pub options: BTreeMap<String, serde_json::Value>,
    pub warnings: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catalogs: Vec<Catalog>,
    /// What the dump has of the schema; none where nothing was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    pub relations: Vec<Relation>,
    pub totals: Totals,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// All was read, and the server reported no damage.
    Clean,
    /// All was tried, and there is damage.
    Damaged,
    /// Something was not looked at; the run can be resumed.
    Incomplete,
}

impl RunStatus {
    /// As JSON has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Damaged => "damaged",
            Self::Incomplete => "incomplete",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// As in `server_version_num`.
    pub version_num: u32,
    pub version: String,
    /// A host name, an address or the directory of a socket.
    pub host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub in_recovery: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_checksums: Option<bool>,
    pub block_size: u32,
    pub encoding: String,
    /// A string, as it has more digits than JSON numbers keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<Wal>,
    /// Something was read with ignore_system_indexes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub system_indexes_ignored: bool,
}

/// What went into the server's log (WAL) while the last run read; on a standby,
/// what was replayed. Who wrote it cannot be told: reading writes, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wal {
    /// As `pg_lsn` is written, when the run began and when it ended.
    pub before: String,
    pub after: String,
    pub bytes: u64,
    /// How many transaction ids were given out: transactions that may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactions: Option<u64>,
}

/// What could not be read of a system catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    pub name: String,
    /// Whether all but what is lost was read.
    pub to_its_end: bool,
    pub lost: Vec<Lost>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Database {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_hex: Option<String>,
    pub oid: u32,
    pub encoding: String,
}

/// What a snapshot is called: a server crash ends one, and another begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Relations refer to it by this.
    pub number: u32,
    /// As `pg_export_snapshot()` gave it.
    pub id: String,
    pub taken_at: Timestamp,
    pub in_recovery: bool,
    /// The number of the first snapshot that sees the same rows: this one, or
    /// one before it.
    pub same_as: u32,
}

/// Sums over all relations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    pub relations: RelationCounts,
    pub rows: Rows,
    pub blocks: Blocks,
    /// Compressed, of all data files.
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RelationCounts {
    pub clean: u64,
    pub salvaged: u64,
    pub lost: u64,
    pub skipped: u64,
    pub failed: u64,
}

impl Manifest {
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self)
            .expect("structs, lists and maps by string are always JSON");
        json.push('\n');
        json
    }

    pub fn from_json(json: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let Version { format_version } = serde_json::from_slice(json)?;
        if format_version != FORMAT_VERSION {
            return Err(ManifestError::Version(format_version));
        }
        let manifest: Self = serde_json::from_slice(json)?;
        let outside = manifest.paths().find(|path| !is_inside(path)).map(str::to_owned);
        outside.map_or(Ok(manifest), |path| Err(ManifestError::Outside(path)))
    }

    /// Every file and folder of the dump that it names.
    fn paths(&self) -> impl Iterator<Item = &str> {
        let schema = self.schema.iter().flat_map(|schema| {
            let folder = schema.large_objects.iter().map(|objects| objects.folder.as_str());
            schema.files.iter().map(String::as_str).chain(folder)
        });
        self.relations.iter().flat_map(Relation::paths).chain(schema)
    }
}

/// Whether a path leads nowhere but into the dump directory.
fn is_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the manifest has format version {0}, and this program reads version {FORMAT_VERSION}")]
    Version(u32),
    #[error("it names {0:?}, which is no path inside of the dump directory")]
    Outside(String),
}

impl Totals {
    pub fn of(relations: &[Relation]) -> Self {
        let mut totals = Self::default();
        for relation in relations {
            let count = match relation.status {
                RelationStatus::Clean => &mut totals.relations.clean,
                RelationStatus::Salvaged => &mut totals.relations.salvaged,
                RelationStatus::Lost => &mut totals.relations.lost,
                RelationStatus::Skipped => &mut totals.relations.skipped,
                RelationStatus::Failed => &mut totals.relations.failed,
            };
            *count += 1;
            totals.rows += relation.rows;
            totals.blocks += relation.blocks;
            totals.bytes += relation.files.iter().map(|file| file.bytes).sum::<u64>();
        }
        totals
    }
}

/// A name for people, and, if it is not valid UTF-8, its exact bytes.
pub fn lossy(name: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(name) {
        Ok(name) => (name.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(name).into_owned(), Some(hex(name))),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
