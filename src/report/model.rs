//! What a run found, in one form for all that show it: whichever command ran,
//! and whatever form is asked for, it is made of a [`Report`].
//!
//! `pg_salvage verify` writes it as `verify.json`; that of a dump is made of its
//! `manifest.json`. `docs/report.schema.json` is the promise to scripts.

use super::words::visible;
use crate::output::manifest::{Rows, RunStatus, Tool};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// It changes when a script that relies on the schema could break.
pub const FORMAT_VERSION: u32 = 1;

/// So many problems of a relation are listed.
pub const PROBLEMS_MAX: usize = 1000;

/// So many parts the map of a relation has.
pub const EXTENTS_MAX: usize = 10_000;

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

/// How a relation was found; the worse, the higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not asked for, or without anything to look at.
    Skipped,
    /// Looked at to its end, at all levels that were asked for and that it has.
    Clean,
    /// Its turn did not come in the time that was given.
    NotReached,
    /// Not looked at to its end, for other reasons than damage.
    Incomplete,
    /// Something is wrong, or lost.
    Damaged,
}

/// A relation, or a file that none is known to have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    /// None: it is shared by all databases, or the server was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Empty for a file that no relation is known to have.
    pub schema: String,
    /// Of the relation, or the path of the file from the data directory on.
    pub name: String,
    /// 0: no relation is known.
    pub oid: u32,
    /// `table`, `materialised view`, `index`, `TOAST table`, `sequence`,
    /// `large objects`, `file`, ...
    pub kind: String,
    /// `schema.name` of the table that an index or a TOAST table belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub status: Status,
    /// Why it has this status, where that does not go without saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The levels at which it was looked at to its end.
    pub levels: Vec<Level>,
    /// None: rows were not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Rows>,
    pub blocks: Blocks,
    /// Of its files, all forks; 0 where that was not looked at.
    pub bytes: u64,
    /// Of the text of all its rows, whatever their order: 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<String>,
    /// What the statistics have counted: to tell whether somebody has written
    /// since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    /// When it was last found clean at all levels that were asked for, in this
    /// run or an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ok: Option<Timestamp>,
    /// At most [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub problems_omitted: u64,
    /// What became of the main fork, block by block, in order and without gaps;
    /// empty where all of it is clean, or nothing is known. Where there would be
    /// more than [`EXTENTS_MAX`], neighbours have the worst status of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub map: Vec<Extent>,
    /// What to do next, the first thing first.
    pub advice: Vec<Step>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// Of all forks where pages were looked at, else of the main fork.
    pub total: u64,
    pub damaged: u64,
    /// Of the damaged ones, those of which no row was had.
    pub lost: u64,
}

/// Counters of the cumulative statistics, and what the file was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Rows inserted, updated and deleted, as counted before it was read.
    pub before: u64,
    /// The same, after it was read.
    pub after: u64,
    /// When the statistics of the database were reset, as the server writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<String>,
    /// The file's number: another one was written by `TRUNCATE` and its like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relfilenode: Option<u32>,
}

/// Something that is wrong. Of the places those are given that are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub level: Level,
    /// `main`, `fsm`, `vm` or `init`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_block: Option<u32>,
    /// It is damaged, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_block: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The segment, from the data directory on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Where the first block begins in it, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// One word for scripts: `checksum`, `page`, `length`, `silent_loss`, ...
    pub cause: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// For people; one line.
    pub message: String,
}

/// A part of a main fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub first_block: u32,
    pub blocks: u32,
    pub status: BlockStatus,
}

/// What became of a block, the worse the higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockStatus {
    Clean,
    /// Not looked at, or not to its end, for other reasons than damage.
    Untried,
    /// Damage was seen; its rows were had.
    Suspect,
    /// Some rows, or some columns of some rows, are lost.
    Partial,
    /// Damage was seen, and rows were not read.
    Damaged,
    /// It, or some of its rows, was left out, lest the server went down.
    Fenced,
    Lost,
}

impl BlockStatus {
    pub const ALL: [Self; 7] = [
        Self::Clean,
        Self::Untried,
        Self::Suspect,
        Self::Partial,
        Self::Damaged,
        Self::Fenced,
        Self::Lost,
    ];
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub text: String,
    /// Statements, each complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sql: Vec<String>,
    /// Lines for a shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
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

impl Relation {
    /// `database.schema.name`, as far as it has them, for people.
    pub fn title(&self) -> String {
        let parts = self.database.iter().chain(Some(&self.schema).filter(|s| !s.is_empty()));
        let parts: Vec<&str> = parts.chain([&self.name]).map(String::as_str).collect();
        visible(&parts.join("."))
    }

    /// What tells relations apart.
    pub fn key(&self) -> (Option<&str>, &str, &str) {
        (self.database.as_deref(), &self.schema, &self.name)
    }
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
            let problems = relation.problems_omitted.saturating_add(relation.problems.len() as u64);
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
