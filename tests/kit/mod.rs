//! The test kit: private PostgreSQL servers, a sample database, damage done to
//! the files of a stopped server, and the rows as they were before the damage.
//!
//! Tests, examples and benches take it in with `#[path = "kit/mod.rs"] mod kit;`.
//! It relies on nothing but the servers that `tests/kit/fetch-servers` installs.
#![allow(dead_code, unreachable_pub, clippy::print_stderr, clippy::unwrap_used)]
// Each test takes what it needs of the kit.
#![allow(unused_imports)]

pub mod checksum;
pub mod disk;
pub mod dumped;
pub mod expect;
pub mod flips;
pub mod fuse;
mod guard;
pub mod harm;
pub mod json_schema;
mod log;
pub mod observe;
mod options;
pub mod oracle;
pub mod owner;
pub mod page_edit;
mod ping;
pub mod place;
pub mod places;
pub mod pooler;
pub mod proxy;
pub mod sample;
pub mod server;
pub mod small_disk;
mod standby;
mod template;
pub mod tidy_dir;
pub mod tls;
pub mod version;
pub mod victim;
pub mod ward;

pub use disk::Disk;
pub use expect::Expect;
pub use flips::random_flips;
pub use fuse::FuseFile;
pub use harm::{ChecksumAfter, Harm, Harmed, Place, harm};
pub use options::{ServerOptions, Tls};
pub use places::Places;
pub use proxy::{Cut, Proxy};
pub use server::{Server, Stop};
pub use small_disk::SmallDisk;
pub use version::Version;
pub use ward::{At, Plan, Ward};
