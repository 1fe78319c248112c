//! The connection options of libpq 18: which environment variable goes with which, and which of them we honour.

use super::ConnectError;

/// What we do about an option.
enum Support {
    /// It is honoured.
    Yes,
    /// It changes nothing for us, whatever its value.
    Ignored,
    /// Of its values, only these are what we do anyway.
    Only(&'static [&'static str]),
    /// A value would have to be honoured, and is not.
    No,
}

/// One option.
pub(super) struct Keyword {
    pub(super) name: &'static str,
    pub(super) env: Option<&'static str>,
    support: Support,
}

const fn yes(name: &'static str, env: &'static str) -> Keyword {
    Keyword { name, env: Some(env), support: Support::Yes }
}

const fn plain(name: &'static str, support: Support) -> Keyword {
    Keyword { name, env: None, support }
}

const fn with(name: &'static str, env: &'static str, support: Support) -> Keyword {
    Keyword { name, env: Some(env), support }
}

/// PGKRBSRVNAME, PGGSSLIB and PGGSSDELEGATION are not read: they matter only where the server asks for GSSAPI, and
/// that fails by itself. PGCLIENTENCODING is not read: the encoding of the connection is UTF8.
pub(super) const KEYWORDS: &[Keyword] = &[
    plain("service", Support::Yes),
    yes("user", "PGUSER"),
    yes("password", "PGPASSWORD"),
    yes("passfile", "PGPASSFILE"),
    yes("channel_binding", "PGCHANNELBINDING"),
    yes("connect_timeout", "PGCONNECT_TIMEOUT"),
    yes("dbname", "PGDATABASE"),
    yes("host", "PGHOST"),
    yes("hostaddr", "PGHOSTADDR"),
    yes("port", "PGPORT"),
    yes("options", "PGOPTIONS"),
    yes("application_name", "PGAPPNAME"),
    plain("fallback_application_name", Support::Yes),
    plain("keepalives", Support::Yes),
    plain("keepalives_idle", Support::Yes),
    plain("keepalives_interval", Support::Yes),
    plain("keepalives_count", Support::Yes),
    plain("tcp_user_timeout", Support::Yes),
    yes("sslmode", "PGSSLMODE"),
    yes("sslnegotiation", "PGSSLNEGOTIATION"),
    yes("sslcert", "PGSSLCERT"),
    yes("sslkey", "PGSSLKEY"),
    plain("sslpassword", Support::Yes),
    yes("sslrootcert", "PGSSLROOTCERT"),
    yes("sslcrl", "PGSSLCRL"),
    yes("sslcrldir", "PGSSLCRLDIR"),
    yes("sslsni", "PGSSLSNI"),
    yes("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    yes("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    yes("target_session_attrs", "PGTARGETSESSIONATTRS"),
    yes("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    plain("client_encoding", Support::Ignored),
    // libpq itself compresses nothing since OpenSSL stopped to.
    plain("sslcompression", Support::Ignored),
    with("sslcertmode", "PGSSLCERTMODE", Support::Only(&["disable", "allow"])),
    with("gssencmode", "PGGSSENCMODE", Support::Only(&["disable", "prefer"])),
    plain("replication", Support::Only(&["false", "off", "no", "0"])),
    with("min_protocol_version", "PGMINPROTOCOLVERSION", Support::Only(&["3.0"])),
    with("max_protocol_version", "PGMAXPROTOCOLVERSION", Support::Only(&["3.0", "3.2", "latest"])),
    with("require_auth", "PGREQUIREAUTH", Support::No),
    with("requirepeer", "PGREQUIREPEER", Support::No),
    plain("krbsrvname", Support::No),
    plain("gsslib", Support::No),
    plain("gssdelegation", Support::Only(&["0"])),
    plain("sslkeylogfile", Support::No),
    plain("scram_client_key", Support::No),
    plain("scram_server_key", Support::No),
    plain("oauth_issuer", Support::No),
    plain("oauth_client_id", Support::No),
    plain("oauth_client_secret", Support::No),
    plain("oauth_scope", Support::No),
];

/// The option of that name.
pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}

impl Keyword {
    /// Refuses a value that would have to be honoured and is not. An empty one asks for the default.
    pub(super) fn check(&self, value: &str) -> Result<(), ConnectError> {
        match self.support {
            Support::Yes | Support::Ignored => Ok(()),
            _ if value.is_empty() => Ok(()),
            Support::Only(values) if values.contains(&value) => Ok(()),
            Support::Only(values) => Err(ConnectError::usage(format!(
                "connection option \"{}\" is not supported with value \"{value}\", only with \"{}\"",
                self.name,
                values.join("\" or \"")
            ))),
            Support::No => Err(ConnectError::usage(format!(
                "connection option \"{}\" is not supported",
                self.name
            ))),
        }
    }
}
