//! What the options mean: each value read once, so that the rest sees no text. Pure.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use openssl::ssl::SslVersion;
use tokio_postgres::config::ChannelBinding;

use super::params::Params;
use super::{ConnectError, Password};

/// libpq's six modes, from never to always and sure of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        })
    }
}

/// Which certificates vouch for the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RootCert {
    /// This file. It need not exist unless the mode says so; there is none without a home directory.
    File(Option<PathBuf>),
    /// Those of the operating system.
    System,
}

/// All about TLS.
#[derive(Debug, Clone)]
pub(super) struct TlsSettings {
    pub(super) mode: SslMode,
    /// TLS from the first byte, as PostgreSQL 17 and later can.
    pub(super) direct: bool,
    pub(super) root: RootCert,
    /// None if no certificate is to be sent.
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) key_password: Option<Password>,
    pub(super) crl: Option<PathBuf>,
    pub(super) crl_directory: Option<PathBuf>,
    pub(super) sni: bool,
    pub(super) min_version: SslVersion,
    pub(super) max_version: Option<SslVersion>,
}

/// What the session must be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionAttrs {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// TCP keepalives; what is not said is the system's.
#[derive(Debug, Clone)]
pub(super) struct Keepalives {
    pub(super) on: bool,
    pub(super) idle: Option<Duration>,
    pub(super) interval: Option<Duration>,
    pub(super) count: Option<u32>,
    pub(super) user_timeout_millis: Option<u32>,
}

impl TlsSettings {
    pub(super) fn read(
        params: &Params,
        home: Option<PathBuf>,
    ) -> Result<TlsSettings, ConnectError> {
        let system = params.get("sslrootcert") == Some("system");
        let mode = match params.choice("sslmode") {
            None if system => SslMode::VerifyFull,
            None => SslMode::Prefer,
            Some(text) => ssl_mode(text)?,
        };
        if system && mode < SslMode::VerifyFull {
            return Err(weak(mode, "sslrootcert=system (use \"verify-full\")"));
        }
        let direct = match params.choice("sslnegotiation") {
            None | Some("postgres") => false,
            Some("direct") if mode < SslMode::Require => {
                let why =
                    "sslnegotiation=direct (use \"require\", \"verify-ca\", or \"verify-full\")";
                return Err(weak(mode, why));
            }
            Some("direct") => true,
            Some(other) => return Err(invalid("sslnegotiation", other)),
        };
        let min_version =
            version(params, "ssl_min_protocol_version")?.unwrap_or(SslVersion::TLS1_2);
        let max_version = version(params, "ssl_max_protocol_version")?;
        if max_version.is_some_and(|max| rank(max) < rank(min_version)) {
            return Err(ConnectError::usage("invalid SSL protocol version range"));
        }
        let file = |option: &str, default: &str| match params.get(option) {
            Some(file) => Some(PathBuf::from(file)),
            None => home.as_ref().map(|home| home.join(".postgresql").join(default)),
        };
        let crl_directory = params.get("sslcrldir").map(PathBuf::from);
        Ok(TlsSettings {
            mode,
            direct,
            root: if system {
                RootCert::System
            } else {
                RootCert::File(file("sslrootcert", "root.crt"))
            },
            cert: file("sslcert", "postgresql.crt")
                .filter(|_| params.get("sslcertmode") != Some("disable")),
            key: file("sslkey", "postgresql.key"),
            key_password: params.get("sslpassword").map(|password| Password(password.into())),
            crl: match &crl_directory {
                Some(_) => params.get("sslcrl").map(PathBuf::from),
                None => file("sslcrl", "root.crl"),
            },
            crl_directory,
            sni: params.get("sslsni").is_none_or(|sni| sni.starts_with('1')),
            min_version,
            max_version,
        })
    }
}

impl Keepalives {
    pub(super) fn read(params: &Params) -> Result<Keepalives, ConnectError> {
        let seconds =
            |name| positive(params, name).map(|n| n.map(|n| Duration::from_secs(n.into())));
        Ok(Keepalives {
            on: integer(params, "keepalives")? != Some(0),
            idle: seconds("keepalives_idle")?,
            interval: seconds("keepalives_interval")?,
            count: positive(params, "keepalives_count")?,
            user_timeout_millis: positive(params, "tcp_user_timeout")?,
        })
    }
}

/// Zero, negative or not given: wait for ever.
pub(super) fn connect_timeout(params: &Params) -> Result<Option<Duration>, ConnectError> {
    let seconds = integer(params, "connect_timeout")?.and_then(|n| u64::try_from(n).ok());
    Ok(seconds.filter(|&n| n > 0).map(Duration::from_secs))
}

pub(super) fn session_attrs(params: &Params) -> Result<SessionAttrs, ConnectError> {
    Ok(match params.choice("target_session_attrs") {
        None | Some("any") => SessionAttrs::Any,
        Some("read-write") => SessionAttrs::ReadWrite,
        Some("read-only") => SessionAttrs::ReadOnly,
        Some("primary") => SessionAttrs::Primary,
        Some("standby") => SessionAttrs::Standby,
        Some("prefer-standby") => SessionAttrs::PreferStandby,
        Some(other) => return Err(invalid("target_session_attrs", other)),
    })
}

/// Whether the order of hosts and of their addresses is left to chance.
pub(super) fn load_balance(params: &Params) -> Result<bool, ConnectError> {
    match params.choice("load_balance_hosts") {
        None | Some("disable") => Ok(false),
        Some("random") => Ok(true),
        Some(other) => Err(invalid("load_balance_hosts", other)),
    }
}

pub(super) fn channel_binding(params: &Params) -> Result<ChannelBinding, ConnectError> {
    match params.choice("channel_binding") {
        None | Some("prefer") => Ok(ChannelBinding::Prefer),
        Some("disable") => Ok(ChannelBinding::Disable),
        Some("require") => Ok(ChannelBinding::Require),
        Some(other) => Err(invalid("channel_binding", other)),
    }
}

fn ssl_mode(text: &str) -> Result<SslMode, ConnectError> {
    use SslMode::{Allow, Disable, Prefer, Require, VerifyCa, VerifyFull};
    [Disable, Allow, Prefer, Require, VerifyCa, VerifyFull]
        .into_iter()
        .find(|mode| mode.to_string() == text)
        .ok_or_else(|| invalid("sslmode", text))
}

fn version(params: &Params, name: &str) -> Result<Option<SslVersion>, ConnectError> {
    let Some(text) = params.get(name) else { return Ok(None) };
    match text.to_ascii_lowercase().as_str() {
        "tlsv1" => Ok(Some(SslVersion::TLS1)),
        "tlsv1.1" => Ok(Some(SslVersion::TLS1_1)),
        "tlsv1.2" => Ok(Some(SslVersion::TLS1_2)),
        "tlsv1.3" => Ok(Some(SslVersion::TLS1_3)),
        _ => Err(invalid(name, text)),
    }
}

/// SslVersion has no order of its own.
fn rank(version: SslVersion) -> usize {
    let order = [SslVersion::TLS1, SslVersion::TLS1_1, SslVersion::TLS1_2, SslVersion::TLS1_3];
    order.iter().position(|&v| v == version).unwrap_or(order.len())
}

fn integer(params: &Params, name: &str) -> Result<Option<i32>, ConnectError> {
    let Some(text) = params.get(name) else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| {
        ConnectError::usage(format!(
            "invalid integer value \"{text}\" for connection option \"{name}\""
        ))
    })
}

/// Zero and less ask for the system's default.
fn positive(params: &Params, name: &str) -> Result<Option<u32>, ConnectError> {
    Ok(integer(params, name)?.and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0))
}

fn invalid(name: &str, value: &str) -> ConnectError {
    ConnectError::usage(format!("invalid {name} value: \"{value}\""))
}

fn weak(mode: SslMode, with: &str) -> ConnectError {
    ConnectError::usage(format!("weak sslmode \"{mode}\" may not be used with {with}"))
}
