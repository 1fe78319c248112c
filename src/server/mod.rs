//! All that talks to PostgreSQL.

pub mod connect;
pub mod pattern;
pub mod words;
