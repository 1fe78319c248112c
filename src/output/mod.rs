//! All that is written to the dump directory, and nothing that talks to a
//! server.
//!
//! A file under a final name is complete and synced; until then it is
//! `*.part`. The directory has mode 0700 and its files 0600. `one_file` is for
//! what somebody wants elsewhere.

pub mod error;

pub mod dir;
pub mod names;
pub mod one_file;
pub mod space;

pub mod binary;
pub mod codec;
mod content;
mod frame;
mod part;
pub mod rows;

pub mod error_log;
mod fault_point;
pub mod journal;
pub mod large_objects;
pub mod links;
pub mod lost_keys;
pub mod manifest;
pub mod pages;
mod redact;
pub mod schema;
pub mod toc;

mod binary_rows;
pub mod keys_dir;
pub mod rejects;
pub mod restore_dir;
pub mod restored;
mod row_reader;

#[cfg(test)]
pub(crate) mod schema_checks;

pub use binary_rows::BinaryRows;
pub use codec::Codec;
pub use content::{Content, ContentHash};
pub use dir::DumpDir;
pub use error::OutputError;
pub use frame::open_rows;
pub use pages::PageFiles;
pub use rejects::{Rejected, Rejects};
pub use restore_dir::RestoreDir;
pub use row_reader::{RowReader, Rows};
pub use rows::{Mark, Piece, RowWriter};
