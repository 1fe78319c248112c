//! What a heap is, and how a damaged one is read: places in it, the map of
//! what became of each, and the rule that says what to read next.
//!
//! Pure: no IO, no async, no SQL. Nothing outside this folder is named here, so
//! the whole salvage is tested by simulation (`examples/simulate.rs`).

mod ahead;
pub mod columns;
pub mod ctid;
mod killers;
pub mod map;
pub mod narrow;
mod open;
pub mod outcome;
mod raw;
pub mod salvage;
mod within;

pub use ahead::{Around, Opened};
pub use columns::Columns;
pub use ctid::{BlockNumber, BlockRange, Ctid, OffsetNumber, stretches, tuples_per_page_max};
pub use map::{Extent, Status, TidMap};
pub use outcome::{Limits, Loss, Outcome, Place, Read, Recorded, RowClass, Rows};
pub use raw::RawBlock;
pub use salvage::{Known, Salvage};
