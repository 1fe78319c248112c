//! What a test may wish of its server, and the configuration that makes of it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Everything has a default: `ServerOptions { checksums: true, ..Default::default() }`.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    pub checksums: bool,
    /// Lines of postgresql.conf; these have the last word.
    pub settings: Vec<(String, String)>,
    /// Listen on a free port of 127.0.0.1 besides the socket.
    pub tcp: bool,
    /// The whole of pg_hba.conf; without it everyone is trusted.
    pub hba: Option<String>,
    pub tls: Option<Tls>,
    /// `minimal`, `replica` (the server's default) or `logical`.
    pub wal_level: Option<String>,
    /// The environment of the server.
    pub environment: Vec<(String, OsString)>,
    /// So much memory may each of its processes have (`ulimit -v`), in kB.
    pub memory_kb: Option<u64>,
    /// Keep the files on a disk, for measurements, where memory would do.
    pub on_disk: bool,
}

/// The server's certificate and key, and the authority that clients' own
/// certificates must come from. The files are copied.
#[derive(Clone, Debug)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_authority: Option<PathBuf>,
}

impl ServerOptions {
    pub fn checksums(checksums: bool) -> ServerOptions {
        ServerOptions { checksums, ..ServerOptions::default() }
    }

    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> ServerOptions {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What is appended to the postgresql.conf that initdb wrote.
    pub(super) fn configuration(&self, major: u32, socket_dir: &Path, port: u16) -> String {
        let socket_dir = socket_dir.display().to_string();
        let listen = if self.tcp { "127.0.0.1" } else { "" };
        let port = port.to_string();
        let mut settings = vec![
            ("unix_socket_directories", socket_dir.as_str()),
            ("listen_addresses", listen),
            ("port", port.as_str()),
            ("shared_buffers", "32MB"),
            ("max_connections", "50"),
            ("fsync", "off"),
            ("full_page_writes", "off"),
            // Were it off, a VACUUM right after a load could set no hint bits,
            // and so no page all-visible.
            ("synchronous_commit", "on"),
            // Only the test itself may change pages, and only when it says so.
            ("autovacuum", "off"),
            ("checkpoint_timeout", "1h"),
            ("restart_after_crash", "on"),
            ("lc_messages", "C"),
            ("timezone", "UTC"),
            ("log_line_prefix", "%m [%p] "),
        ];
        if major >= 11 {
            settings.push(("jit", "off"));
        }
        if let Some(level) = &self.wal_level {
            settings.push(("wal_level", level));
            if level == "minimal" {
                settings.push(("max_wal_senders", "0"));
            }
        }
        if let Some(tls) = &self.tls {
            settings.push(("ssl", "on"));
            settings.push(("ssl_cert_file", "server.crt"));
            settings.push(("ssl_key_file", "server.key"));
            if tls.client_authority.is_some() {
                settings.push(("ssl_ca_file", "root.crt"));
            }
        }
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut lines = String::from("\n");
        for (name, value) in settings.into_iter().chain(own) {
            writeln!(lines, "{name} = '{}'", value.replace('\'', "''")).expect("to a string");
        }
        lines
    }
}
