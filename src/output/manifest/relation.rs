//! What the manifest says of one relation.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::output::ContentHash;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_hex: Option<String>,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_hex: Option<String>,
    pub kind: RelationKind,
    pub persistence: Persistence,
    /// As `pg_relation_filepath()` gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relfilenode: Option<String>,
    pub status: RelationStatus,
    /// Why it has this status, where that does not go without saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The numbers of the snapshots that its rows were read with.
    pub snapshots: Vec<u32>,
    /// In the order in which they are in the data files.
    pub columns: Vec<Column>,
    pub columns_left_out: Vec<ColumnLeftOut>,
    pub rows: Rows,
    /// Of all its rows, whatever their order; only where it is clean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<ContentHash>,
    pub blocks: Blocks,
    pub files: Vec<FileEntry>,
    pub lost: Vec<Lost>,
    /// How many more are lost than `lost` lists; the map has them all.
    pub lost_omitted: u64,
    /// What indexes know of the rows in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_keys: Option<LostKeys>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Errors>,
    /// The file that says what became of every part of the heap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// Images of damaged pages, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<Pages>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_objects: Option<LargeObjects>,
    pub advice: Vec<String>,
    /// For who reads a relation in parts, one run after the other. Not in the file.
    #[serde(skip)]
    pub read: Option<ReadBlocks>,
}

/// Blocks of a main fork that were read one after the other, all of them clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBlocks {
    pub filenode: u32,
    /// The first of them.
    pub from: u32,
    /// The first that is none of them.
    pub to: u32,
}

impl Relation {
    /// Every file and folder of the dump that it names.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        let Self { files, lost_keys, errors, map, pages, .. } = self;
        let files = files.iter().map(|file| file.path.as_str());
        let keys = lost_keys.iter().flat_map(|keys| [&keys.path, &keys.sql]).flatten();
        let errors = errors.iter().filter_map(|errors| errors.path.as_ref());
        let pages = pages.iter().map(|pages| &pages.folder);
        files.chain(keys.chain(errors).chain(map).chain(pages).map(String::as_str))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    Table,
    Matview,
    Sequence,
    LargeObjects,
    LargeObjectMetadata,
    PartitionedTable,
    View,
    ForeignTable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Persistence {
    Permanent,
    Unlogged,
    Temporary,
}

/// How a relation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationStatus {
    /// Read whole, and the server reported no damage.
    Clean,
    /// Damaged; what could be had was had.
    Salvaged,
    /// Damaged; nothing could be had.
    Lost,
    /// Not asked for, or it holds no rows.
    Skipped,
    /// Not read to the end, for other reasons than damage.
    Failed,
}

/// What can be said for the rows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowClass {
    /// The server vouched for them, and no damage was seen in their blocks.
    Clean,
    /// From a damaged block: decoded, not vouched for.
    Suspect,
    /// Some columns could not be read and are null here.
    Partial,
    /// No rows of the relation: what is left in TOAST of values that are lost,
    /// each chunk with the ctid and the column that it is of.
    ToastChunks,
    /// In COPY's binary format: rows that are too long to be sent as text.
    Oversize,
}

impl RowClass {
    /// All of them, in order.
    pub const ALL: [Self; 5] =
        [Self::Clean, Self::Suspect, Self::Partial, Self::ToastChunks, Self::Oversize];

    pub const COUNT: usize = Self::ALL.len();
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_hex: Option<String>,
    /// As `format_type()` gives it.
    #[serde(rename = "type")]
    pub type_name: String,
    pub attnum: i16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnLeftOut {
    pub name: String,
    pub why: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    pub clean: u64,
    pub suspect: u64,
    pub partial: u64,
    /// Too long to be sent as text, and had in binary form.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub oversize: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde asks for it.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    pub total: u64,
    pub clean: u64,
    /// Damaged, and some of its rows were had.
    pub damaged: u64,
    pub lost: u64,
}

/// A finished data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub class: RowClass,
    /// From the dump directory on.
    pub path: String,
    pub rows: u64,
    /// The size of the file, compressed.
    pub bytes: u64,
    /// Of the file, compressed: what `sha256sum` says.
    pub sha256: String,
}

/// A place whose rows, or one column of them, could not be had: blocks from
/// `first_block` to `last_block`, or the tuple at `ctid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_block: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_block: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    pub cause: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    pub message: String,
}

impl Lost {
    /// The first block of the place.
    pub fn block(&self) -> Option<u32> {
        let of_ctid = |c: &String| c.strip_prefix('(')?.split(',').next()?.parse().ok();
        self.first_block.or_else(|| self.ctid.as_ref().and_then(of_ctid))
    }

    /// Whether it lies before a block.
    pub fn is_before(&self, block: u32) -> bool {
        self.block().is_some_and(|b| b < block)
    }
}

/// Lost rows that indexes still know. Where none were found there are no files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostKeys {
    /// The list of them, from the dump directory on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Statements that fetch them from a restored copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// How many are listed.
    pub rows: u64,
    /// Of these, how many there were for certain; others may have been deleted.
    pub certain: u64,
    /// How many more an index knows than are listed.
    pub omitted: u64,
    /// What could not be looked at, and how keys were had where not from files.
    pub notes: Vec<String>,
}

/// Damaged pages as they lay on the server's disk: `main.<block>.page` in
/// `folder`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    pub folder: String,
    pub count: u64,
    /// How many more the last run did not keep, since there were too many.
    pub omitted: u64,
}

/// The log of errors, in `path` unless there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How many there were, also those that the file does not list.
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    pub last_value: i64,
    pub is_called: bool,
    /// The sequence could not be read: this comes from the column it feeds.
    pub derived: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub increment: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjects {
    pub count: u64,
    pub pages: u64,
    pub missing: Vec<MissingPages>,
}

/// Pages that a large object should have; the server reads zeros there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPages {
    pub loid: u32,
    pub first_page: u32,
    pub last_page: u32,
}

impl Rows {
    /// All that were had. Numbers may come from anybody's manifest.
    pub fn total(self) -> u64 {
        let others = [self.suspect, self.partial, self.oversize];
        others.into_iter().fold(self.clean, u64::saturating_add)
    }
}

impl AddAssign for Rows {
    fn add_assign(&mut self, other: Self) {
        self.clean = self.clean.saturating_add(other.clean);
        self.suspect = self.suspect.saturating_add(other.suspect);
        self.partial = self.partial.saturating_add(other.partial);
        self.oversize = self.oversize.saturating_add(other.oversize);
    }
}

impl AddAssign for Blocks {
    fn add_assign(&mut self, other: Self) {
        self.total = self.total.saturating_add(other.total);
        self.clean = self.clean.saturating_add(other.clean);
        self.damaged = self.damaged.saturating_add(other.damaged);
        self.lost = self.lost.saturating_add(other.lost);
    }
}
