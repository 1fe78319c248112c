//! Reads every table of a damaged PostgreSQL database over plain connections.

pub mod server;
