//! Reads every table of a damaged PostgreSQL database over plain connections,
//! each into its own compressed file, and names what is damaged or lost.
//!
//! Modules in the order in which they are best read; `docs/architecture.md`
//! has the arrow of their dependencies.

pub mod heap;
pub mod output;
pub mod progress;
pub mod server;
pub mod dump;
