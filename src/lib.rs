//! Reads every table of a damaged PostgreSQL database over plain connections,
//! each into its own compressed file, and names what is damaged or lost.

pub mod heap;
