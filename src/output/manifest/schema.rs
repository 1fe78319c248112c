//! What the manifest says of the schema and of the archive that it makes of the
//! dump directory.

use serde::{Deserialize, Serialize};

/// Who has described the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaSource {
    PgDump,
    /// pg_salvage, from the catalogs.
    Own,
    /// Nobody: there is no archive, and the rows are to be loaded by hand.
    #[default]
    None,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub source: SchemaSource,
    /// The version of pg_dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Why it is not by pg_dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From the dump directory on.
    pub files: Vec<String>,
    /// Objects that could not be described.
    pub lost: Vec<LostObject>,
    /// What is not in the archive, and what is to be known of it.
    pub notes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_objects: Option<ArchivedLargeObjects>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostObject {
    /// As pg_dump calls it: `TABLE`, `FUNCTION`.
    pub kind: String,
    pub name: String,
    pub message: String,
}

/// Large objects as `pg_restore` loads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedLargeObjects {
    pub folder: String,
    pub count: u64,
    /// How many are left out, since not all of them is clean.
    pub left_out: u64,
}
