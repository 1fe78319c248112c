//! Connecting as libpq's users expect: the same options, files, environment and TLS modes, and errors in one line.
//!
//! [`Target::resolve`] makes of the command line, the service file and the environment a [`Target`]; [`connect`] makes
//! of that a [`Connected`]. What libpq accepts is accepted, or refused with the word that is not supported.

use std::fmt;
use std::path::PathBuf;

mod attempt;
mod client;
mod connected;
mod conninfo;
mod error;
mod hangup;
mod hosts;
mod keywords;
mod params;
mod passfile;
mod pooler;
mod servicefile;
mod session;
mod settings;
mod stream;
mod tap;
mod target;
mod tls;
mod uri;

pub use attempt::connect;
pub use client::ForClient;
pub use connected::{CancelHandle, Connected, Notice, Notices};
pub use error::{ConnectError, ConnectErrorKind};
pub use hangup::HangUps;
pub use pooler::refuse_shared_sessions;
pub use tap::Copied;
pub use target::Target;

/// What the command line says about connecting, unread.
#[derive(Clone, Default)]
pub struct ConnectArgs {
    /// `-h`: a host, a socket directory, or a list of them.
    pub host: Option<String>,
    /// `-p`: a port, or a list of as many as there are hosts.
    pub port: Option<String>,
    /// `-U`.
    pub user: Option<String>,
    /// `-d`: a database name, a connection string or a URI.
    pub dbname: Option<String>,
    /// `-w` and `-W`.
    pub password: PasswordPrompt,
}

/// A connection string may have a password in it, so it is not shown.
impl fmt::Debug for ConnectArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dbname = self
            .dbname
            .as_deref()
            .map(|name| if conninfo::is_conninfo(name) { "..." } else { name });
        f.debug_struct("ConnectArgs")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("dbname", &dbname)
            .field("password", &self.password)
            .finish()
    }
}

/// Whether a password may be asked for at the terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PasswordPrompt {
    /// `-w`: never; where one is needed the connection fails.
    Never,
    /// When the server wants one and none was found.
    #[default]
    Auto,
    /// `-W`: before the first connection.
    Force,
}

/// A password. It is not printed, not even for debugging.
#[derive(Clone, PartialEq, Eq)]
struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(...)")
    }
}

fn home(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    env("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}
