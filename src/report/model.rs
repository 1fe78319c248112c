//! What a run found, in one form for all that show it: whichever command ran,
//! and whatever form is asked for, it is made of a [`Report`].
//!
//! `pg_salvage verify` writes it as `verify.json`; that of a dump is made of its
//! `manifest.json`. `docs/report.schema.json` is the promise to scripts.

use crate::output::manifest::{Rows, RunStatus, Tool};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod relation;

pub use relation::*;

/// It changes when a script that relies on the schema could break.
pub const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub format_version: u32,
    pub tool: Tool,
    pub command: Command,
    pub started: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    pub status: RunStatus,
    pub exit_code: u8,
    pub server: Server,
    /// At which anything was looked at, in this order: pages, rows, amcheck.
    pub levels: Vec<Level>,
    pub databases: Vec<Database>,
    /// By database, schema and name.
    pub relations: Vec<Relation>,
    /// What concerns more than one relation.
    pub notes: Vec<String>,
    /// Where a time or an order was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What is different from an earlier report, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    pub totals: Totals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    Dump,
    Verify,
}

/// How deep was looked; each by itself finds what the others cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Every page of every file: checksums and structure.
    Pages,
    /// Every row, through the server, with its TOAST values.
    Rows,
    /// `verify_heapam`, `bt_index_check` and their like.
    Amcheck,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// As in `server_version`.
    pub version: String,
    /// A host name, an address or the directory of a socket; empty: the server
    /// was not asked.
    pub host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub in_recovery: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_checksums: Option<bool>,
    /// Bytes in a block.
    pub block_size: u32,
    /// A string, as it has more digits than JSON numbers keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Database {
    pub name: String,
    pub oid: u32,
    pub status: RunStatus,
    /// What was seen of its files; none where no pages were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<Pages>,
    /// Why it, or a level of it, was not looked at to its end.
    pub notes: Vec<String>,
}

/// Sums over the files of a database, and of the shared catalogs with the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// Forks, of one segment or more.
    pub files: u64,
    pub blocks: u64,
    pub bytes: u64,
    /// Extended and never written, as far as pages tell.
    pub zero_pages: u64,
    pub damaged_blocks: u64,
}

/// How much of all was reached, and how old the rest is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Whether the time (`--max-duration`) ended before the work.
    pub ended: bool,
    /// Of all relations the one that was not found clean for longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Oldest>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Oldest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub schema: String,
    pub name: String,
    /// When it was last found clean, or, where `never`, when it was first seen.
    pub since: Timestamp,
    pub never: bool,
}

/// What is different from an earlier report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// When the run of that report began.
    pub started: Timestamp,
    pub changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub kind: ChangeKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub schema: String,
    pub name: String,
    /// For people; one line.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Damage that the earlier report does not have.
    NewDamage,
    /// It was damaged, was looked at as deeply as then, and is not.
    Healed,
    /// It was there, and is not.
    Gone,
    /// It has fewer rows, by more than was allowed.
    RowsFell,
    /// Its contents are others, although the statistics know of no write.
    ContentChanged,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub clean: u64,
    pub damaged: u64,
    pub incomplete: u64,
    pub not_reached: u64,
    pub skipped: u64,
    pub rows: Rows,
    pub blocks: Blocks,
    pub bytes: u64,
    /// Places that are named, of all relations.
    pub problems: u64,
}

impl Totals {
    pub fn of(relations: &[Relation]) -> Self {
        let mut totals = Self::default();
        for relation in relations {
            *match relation.status {
                Status::Clean => &mut totals.clean,
                Status::Damaged => &mut totals.damaged,
                Status::Incomplete => &mut totals.incomplete,
                Status::NotReached => &mut totals.not_reached,
                Status::Skipped => &mut totals.skipped,
            } += 1;
            totals.rows += relation.rows.unwrap_or_default();
            let problems = relation.problems_count();
            // Numbers may come from anybody's manifest.
            for (sum, part) in [
                (&mut totals.blocks.total, relation.blocks.total),
                (&mut totals.blocks.damaged, relation.blocks.damaged),
                (&mut totals.blocks.lost, relation.blocks.lost),
                (&mut totals.bytes, relation.bytes),
                (&mut totals.problems, problems),
            ] {
                *sum = sum.saturating_add(part);
            }
        }
        totals
    }
}
