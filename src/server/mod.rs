//! All that talks to PostgreSQL: connecting, sessions, the catalogs, every SQL
//! text, and what an error means. `tokio_postgres` is named nowhere else.

pub mod amcheck;
pub mod blocking;
pub mod catalog;
pub mod connect;
mod copy;
pub mod copy_text;
pub mod counters;
pub mod ddl;
mod error;
mod facts;
pub mod fault;
pub mod files;
pub mod inventory;
pub mod keys;
pub mod life;
pub mod pages;
pub mod pattern;
pub mod raw;
pub mod relation;
pub mod restoring;
pub mod session;
mod silence;
pub mod sql;
pub mod toast;
pub mod whose_file;
pub mod words;
pub mod written;
