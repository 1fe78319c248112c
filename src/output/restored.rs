//! `restore.json`: what a restore has loaded, what not, and why.
//!
//! Scripts rely on it: `docs/restore.schema.json` is the promise, and the test
//! beside this file holds the two together. A field that is not known is left
//! out; a list is always there. Times are RFC 3339.

use super::manifest::{RelationKind, RowClass, Tool};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const FORMAT_VERSION: u32 = 1;

/// Before what it is, where only its owner could not be set.
const OWNER_OF: &str = "OWNER OF ";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    pub format_version: u32,
    pub tool: Tool,
    /// The dump directory, as it was given.
    pub dump: String,
    pub started: Timestamp,
    /// When later runs have gone on with it.
    pub resumed: Vec<Timestamp>,
    pub finished: Timestamp,
    pub status: Status,
    pub exit_code: u8,
    pub target: TargetServer,
    /// What was asked, by the long names of the options.
    pub options: BTreeMap<String, serde_json::Value>,
    pub warnings: Vec<String>,
    pub relations: Vec<Relation>,
    /// How many things were made by statements of the schema.
    pub made: u64,
    pub not_made: Vec<NotMade>,
    /// Foreign keys that are there, and do not hold for all rows.
    pub not_valid: Vec<NotMade>,
    pub totals: Totals,
}

/// How a restore ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All that was to be loaded is, and everything was made.
    Complete,
    /// Rows were rejected, or something could not be made.
    WithRejects,
    /// It did not come to its end; it can be resumed.
    Incomplete,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetServer {
    pub version_num: u32,
    pub database: String,
    pub encoding: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    /// In the database that was dumped.
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: RelationKind,
    pub status: RelationStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub files: Vec<File>,
    /// Rows that were taken out again, since an earlier one has their key.
    pub duplicates: u64,
    /// The file of rejected rows, beside this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationStatus {
    /// Every row of the files that were to be loaded is there.
    Loaded,
    /// Some rows were rejected, or a file is not what it was.
    WithRejects,
    /// Nothing was loaded.
    NotLoaded,
    /// There was nothing to load, or it was not asked for.
    Skipped,
}

/// A data file, and what became of its rows: `loaded`, `rejected` and `skipped`
/// are together `read`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub class: RowClass,
    pub path: String,
    /// By the manifest.
    pub rows: u64,
    /// Whether it was to be loaded.
    pub included: bool,
    pub read: u64,
    pub loaded: u64,
    pub rejected: u64,
    /// By `--on-conflict skip`: not loaded, since there is a row with the key.
    pub skipped: u64,
    /// What is not as the manifest says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complaint: Option<String>,
}

/// Something of the schema that could not be made, or not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotMade {
    /// Its number in `toc.dat`; 0 for what is not in there.
    pub dump_id: i32,
    /// What it is, as in `pg_restore -l`.
    pub desc: String,
    pub schema: String,
    pub tag: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sqlstate: String,
    pub message: String,
    /// The keys that are in the way.
    pub keys: Vec<String>,
    /// How many rows have such keys, where they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

impl NotMade {
    /// The same, where it is only the owner that could not be set.
    pub fn owner_of(self) -> Self {
        Self { desc: format!("{OWNER_OF}{}", self.desc), ..self }
    }

    /// Whether something is there, and has another owner.
    pub fn is_owner(&self) -> bool {
        self.desc.starts_with(OWNER_OF)
    }
}

/// What was compared: the files (or the source) and the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub equal: bool,
    /// Rows that should be there: those of the files, without the rejected.
    pub expected: u64,
    pub found: u64,
    /// The sums of the hashes of all rows, in hexadecimal.
    pub expected_hash: String,
    pub found_hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub rows: u64,
    pub loaded: u64,
    pub rejected: u64,
    pub skipped: u64,
    pub duplicates: u64,
}

impl Restored {
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self)
            .expect("structs, lists and maps by string are always JSON");
        json.push('\n');
        json
    }

    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

impl Totals {
    pub fn of(relations: &[Relation]) -> Self {
        let mut totals = Self::default();
        for relation in relations {
            totals.duplicates += relation.duplicates;
            for file in relation.files.iter().filter(|f| f.included) {
                totals.rows += file.rows;
                totals.loaded += file.loaded;
                totals.rejected += file.rejected;
                totals.skipped += file.skipped;
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests;
