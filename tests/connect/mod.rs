//! Connecting to real servers: each way in, and the exact words where there is none.
//!
//! Where psql is installed, each connection is also tried with it: it must come to the same end by the same means.

// What clippy.toml allows in tests it does not see in their helpers.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod asking;
mod certs;
mod files;
mod hosts;
mod passwords;
mod server;
mod sessions;
mod tls;
