//! What the salvage reads, what comes of a read, and what that means for its
//! rows. Plain data.

use super::ctid::{BlockNumber, BlockRange, Ctid, OffsetNumber};
use std::fmt;

/// One COPY of a part of the heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Whole blocks, in heap order. With `tagged`, each row says its ctid.
    Blocks { range: BlockRange, tagged: bool },
    /// Tuples of one block by exact TIDs, `first` to `last`, both included.
    /// Always tagged.
    Tuples { block: BlockNumber, first: OffsetNumber, last: OffsetNumber },
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocks { range, .. } => range.fmt(f),
            Self::Tuples { block, first, last } => {
                write!(f, "block {block}, offsets {first}..{last}")
            }
        }
    }
}

/// What bounds the reads of a heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most line pointers of a page.
    pub tuples_max: OffsetNumber,
    /// The most blocks of one read after the first, where a read names each tuple
    /// that it wants. None: a read of many blocks costs no more than they do.
    pub blocks_per_read: Option<u32>,
}

impl From<OffsetNumber> for Limits {
    fn from(tuples_max: OffsetNumber) -> Self {
        Self { tuples_max, blocks_per_read: None }
    }
}

/// Where the server says that the damage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It could not read the page of this block of this relation's main fork.
    Page(BlockNumber),
    /// In another relation: its TOAST, an index of that, a catalog.
    Elsewhere,
    /// The words name no place.
    Unknown,
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Complete,
    /// The server reported an error. `last` is the ctid of the last row that
    /// came, if the read was tagged and a row came.
    Failed {
        last: Option<Ctid>,
        place: Place,
    },
    /// The server was silent until the read was ended.
    Hung {
        last: Option<Ctid>,
    },
    /// The server went down under this read, and this read alone is to blame.
    Crashed {
        last: Option<Ctid>,
    },
    /// Of a read of one tuple that failed at this place: some of its columns
    /// were had by themselves.
    Partial {
        place: Place,
    },
}

/// How far the rows of a block can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowClass {
    /// From a block in which no damage was seen.
    Clean,
    /// From a block in which damage was seen.
    Suspect,
}

/// What becomes of the rows of the read just recorded, and of those held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All are clean.
    Clean,
    /// Of an untagged read: none counts. Of a tagged one: the rows of the last
    /// block do not count, those of the blocks before are clean.
    Undo,
    /// All are of one block that is not settled: hold them back.
    Hold,
    /// That block is settled: everything held back is of this class.
    Settled(RowClass),
}

/// A place given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Block(BlockNumber),
    Tuple(Ctid),
    /// What was left of a block when its page could not be read any more.
    Tuples(BlockNumber, OffsetNumber, OffsetNumber),
}

/// The answer to a recorded read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub rows: Rows,
    pub loss: Option<Loss>,
}

impl Recorded {
    pub(super) const fn rows(rows: Rows) -> Self {
        Self { rows, loss: None }
    }
}
