//! The list of hosts to try, from `host`, `hostaddr` and `port`. Pure.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::ConnectError;
use super::params::Params;

const DEFAULT_PORT: u16 = 5432;

/// Where a libpq may have been built to look for the socket: Debian's way first.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// One place where the server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) place: Place,
    pub(super) port: u16,
}

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A directory with a Unix socket, or `@` and an abstract name.
    Socket(PathBuf),
    /// A name or address. With an address (`hostaddr`) the name is not looked up, only verified. It is empty if only
    /// `hostaddr` was given.
    Tcp { name: String, address: Option<String> },
}

impl Host {
    /// What `.pgpass` has in its first field.
    pub(super) fn passfile_name(&self) -> String {
        match &self.place {
            Place::Socket(directory)
                if SOCKET_DIRECTORIES.iter().any(|d| Path::new(d) == directory) =>
            {
                "localhost".into()
            }
            Place::Socket(directory) => directory.display().to_string(),
            Place::Tcp { name, address: Some(address) } if name.is_empty() => address.clone(),
            Place::Tcp { name, .. } => name.clone(),
        }
    }

    /// The path of the Unix socket; an abstract one begins with a zero byte, as the kernel has it.
    pub(super) fn socket_path(&self) -> Option<PathBuf> {
        let Place::Socket(directory) = &self.place else { return None };
        let path = directory.join(format!(".s.PGSQL.{}", self.port));
        match path.to_str().and_then(|path| path.strip_prefix('@')) {
            Some(name) => Some(format!("\0{name}").into()),
            None => Some(path),
        }
    }

    /// `on host "h", port 5432` or `on socket "/tmp/.s.PGSQL.5432"`.
    pub(super) fn on(&self) -> String {
        match &self.place {
            Place::Socket(directory) => {
                format!(
                    "on socket \"{}\"",
                    directory.join(format!(".s.PGSQL.{}", self.port)).display()
                )
            }
            Place::Tcp { .. } => format!("on {self}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Socket(directory) => write!(f, "socket directory \"{}\"", directory.display())?,
            Place::Tcp { name, address: Some(address) } if name.is_empty() => {
                write!(f, "host \"{address}\"")?;
            }
            Place::Tcp { name, .. } => write!(f, "host \"{name}\"")?,
        }
        write!(f, ", port {}", self.port)
    }
}

/// All hosts in their order.
pub(super) fn list(params: &Params) -> Result<Vec<Host>, ConnectError> {
    let names: Vec<&str> =
        params.get("host").map(|list| list.split(',').collect()).unwrap_or_default();
    let addresses: Vec<&str> =
        params.get("hostaddr").map(|list| list.split(',').collect()).unwrap_or_default();
    let count = if addresses.is_empty() { names.len().max(1) } else { addresses.len() };
    if !addresses.is_empty() && !names.is_empty() && names.len() != count {
        return Err(ConnectError::usage(format!(
            "could not match {} host names to {count} hostaddr values",
            names.len()
        )));
    }
    let ports = ports(params.get("port"), count)?;
    let at = |list: &[&str], i: usize| list.get(i).copied().unwrap_or("").to_string();
    ports
        .into_iter()
        .enumerate()
        .map(|(i, port)| Ok(Host { place: place(at(&names, i), at(&addresses, i))?, port }))
        .collect()
}

fn place(name: String, address: String) -> Result<Place, ConnectError> {
    if !address.is_empty() {
        // An IPv6 address may have a zone behind it, which only the system can read.
        let numeric = address.split('%').next().unwrap_or_default();
        if numeric.parse::<IpAddr>().is_err() {
            return Err(ConnectError::usage(format!(
                "could not parse network address \"{address}\""
            )));
        }
        return Ok(Place::Tcp { name, address: Some(address) });
    }
    Ok(match name.as_str() {
        "" => Place::Socket(default_directory()),
        name if name.starts_with(['/', '@']) => Place::Socket(name.into()),
        _ => Place::Tcp { name, address: None },
    })
}

fn default_directory() -> PathBuf {
    let [debian, upstream] = SOCKET_DIRECTORIES.map(PathBuf::from);
    if debian.is_dir() { debian } else { upstream }
}

/// One port for each host. One port alone is for all.
fn ports(list: Option<&str>, count: usize) -> Result<Vec<u16>, ConnectError> {
    let Some(list) = list else { return Ok(vec![DEFAULT_PORT; count]) };
    let ports = list.split(',').map(port).collect::<Result<Vec<_>, _>>()?;
    match ports[..] {
        [port] => Ok(vec![port; count]),
        _ if ports.len() == count => Ok(ports),
        _ => Err(ConnectError::usage(format!(
            "could not match {} port numbers to {count} hosts",
            ports.len()
        ))),
    }
}

fn port(text: &str) -> Result<u16, ConnectError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let number: i64 = trimmed.parse().map_err(|_| {
        ConnectError::usage(format!(
            "invalid integer value \"{text}\" for connection option \"port\""
        ))
    })?;
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(ConnectError::usage(format!("invalid port number: \"{text}\""))),
    }
}
