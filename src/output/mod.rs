//! server.
//!
//! A file under a final name is complete and synced; until then it is

pub mod error;

pub mod codec;

pub use codec::Codec;
pub use error::OutputError;
