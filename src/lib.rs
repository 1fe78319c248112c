//! Reads every table of a damaged PostgreSQL database over plain connections,
//! each into its own compressed file, and names what is damaged or lost.
//!
//! Modules in the order in which they are best read; `docs/architecture.md`
//! has the arrow of their dependencies.

pub mod advice;
pub mod archive;
pub mod cli;
pub mod compare;
pub mod dump;
pub mod heap;
pub mod inspect;
pub mod list;
pub mod locate;
pub mod nightly;
pub mod output;
pub mod page;
pub mod progress;
pub mod report;
pub mod restore;
pub mod run;
pub mod server;
pub mod show;
pub mod verify;
