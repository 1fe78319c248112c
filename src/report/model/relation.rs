//! What was found of one relation.

use super::Level;
use crate::output::manifest::Rows;
use crate::report::words::visible;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// So many problems of a relation are listed.
pub const PROBLEMS_MAX: usize = 1000;

/// So many parts the map of a relation has.
pub const EXTENTS_MAX: usize = 10_000;

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

impl Relation {
    /// One of which nothing else is known: nobody has looked at it.
    pub fn named(database: Option<&str>, schema: &str, name: &str, kind: &str) -> Self {
        Self {
            database: database.map(str::to_owned),
            schema: schema.to_owned(),
            name: name.to_owned(),
            oid: 0,
            kind: kind.to_owned(),
            owner: None,
            status: Status::Skipped,
            reason: None,
            levels: Vec::new(),
            rows: None,
            blocks: Blocks::default(),
            bytes: 0,
            content_hash: None,
            written: None,
            last_ok: None,
            problems: Vec::new(),
            problems_omitted: 0,
            map: Vec::new(),
            advice: Vec::new(),
        }
    }

    /// Lists a problem, or counts it where enough are listed.
    pub fn add_problem(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.problems_omitted = self.problems_omitted.saturating_add(1);
        }
    }

    /// Problems that are listed, and those that are not.
    pub fn problems_count(&self) -> u64 {
        self.problems_omitted.saturating_add(self.problems.len() as u64)
    }

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

impl Problem {
    /// One of which no place is known.
    pub fn new(level: Level, cause: &str, message: String) -> Self {
        Self {
            level,
            fork: None,
            first_block: None,
            last_block: None,
            ctid: None,
            column: None,
            file: None,
            offset: None,
            cause: cause.to_owned(),
            sqlstate: None,
            message,
        }
    }
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
