//! Why a connection could not be had, in one line.

use std::io;

use crate::server::words;

/// PgBouncer's words; PostgreSQL has others.
const NO_SUCH_OPTION: &str = "unsupported startup parameter";
const POOLER: &str = "a connection pooler in between does not take it: leave it out, or connect to \
                      the server itself";

/// What kind of trouble it is, for those who decide whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectErrorKind {
    /// What was asked for makes no sense or is not supported. Trying again is useless.
    Usage,
    /// Nobody answered: refused, timed out, no such host, or closed before a word was said.
    Unreachable,
    /// The server is there and says "not now": starting up, shutting down, in recovery, or not in the role asked for.
    NotReady,
    /// `max_connections` or a limit of the role or database is reached.
    TooManyConnections,
    /// The server said no: authentication, no such database, not permitted.
    Refused,
    /// TLS could not be had as asked for.
    Tls,
}

/// Why a connection could not be had. `Display` is one line without a full stop.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    pub(super) kind: ConnectErrorKind,
    pub(super) message: String,
    pub(super) sqlstate: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
    /// The server asked for a password and there was none.
    pub(super) needs_password: bool,
    /// It was said on an encrypted connection.
    pub(super) over_tls: bool,
}

impl ConnectError {
    pub(super) fn new(kind: ConnectErrorKind, message: impl Into<String>) -> ConnectError {
        ConnectError {
            kind,
            message: message.into(),
            sqlstate: None,
            detail: None,
            hint: None,
            needs_password: false,
            over_tls: false,
        }
    }

    pub(super) fn usage(message: impl Into<String>) -> ConnectError {
        ConnectError::new(ConnectErrorKind::Usage, message)
    }

    pub(super) fn tls(message: impl Into<String>) -> ConnectError {
        ConnectError::new(ConnectErrorKind::Tls, message)
    }

    pub(super) fn io(error: &io::Error) -> ConnectError {
        ConnectError::new(ConnectErrorKind::Unreachable, words::io_words(error))
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> ConnectErrorKind {
        self.kind
    }

    /// Whether the same may work later without anyone changing anything.
    pub fn is_transient(&self) -> bool {
        use ConnectErrorKind::{NotReady, TooManyConnections, Unreachable};
        matches!(self.kind, Unreachable | NotReady | TooManyConnections)
    }

    /// The server's SQLSTATE, if the server was what refused.
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// The server's DETAIL.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The server's HINT, or ours.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl From<&tokio_postgres::Error> for ConnectError {
    fn from(error: &tokio_postgres::Error) -> ConnectError {
        let sqlstate = error.code().map(|code| code.code().to_string());
        let message = words::words(error);
        let kind = kind_of(sqlstate.as_deref(), &message);
        let (detail, hint) = (words::detail(error), words::hint(error));
        let message = match message.contains(NO_SUCH_OPTION) {
            true => format!("{message} ({POOLER})"),
            false => message,
        };
        ConnectError { sqlstate, detail, hint, ..ConnectError::new(kind, message) }
    }
}

/// A server that says nothing, or not enough to be understood, may be one that is going down.
fn kind_of(sqlstate: Option<&str>, words: &str) -> ConnectErrorKind {
    match sqlstate {
        None if words.starts_with("authentication error") => ConnectErrorKind::Refused,
        None if words.starts_with("invalid configuration") => ConnectErrorKind::Refused,
        // Something was said, as by a server whose messages are not in UTF-8 before it knows that we want that.
        None if words.starts_with("error parsing response") => ConnectErrorKind::Refused,
        None if words.starts_with("unexpected message") => ConnectErrorKind::Refused,
        None => ConnectErrorKind::Unreachable,
        Some("53300") => ConnectErrorKind::TooManyConnections,
        Some("57P01" | "57P02" | "57P03") => ConnectErrorKind::NotReady,
        // Out of memory, disk or other things that come back.
        Some(code) if code.starts_with("53") => ConnectErrorKind::NotReady,
        Some(_) => ConnectErrorKind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_follows_from_the_sqlstate() {
        use ConnectErrorKind::*;
        for (sqlstate, kind) in [
            ("28P01", Refused),
            ("28000", Refused),
            ("3D000", Refused),
            ("XX001", Refused),
            ("57P03", NotReady),
            ("57P02", NotReady),
            ("53200", NotReady),
            ("53300", TooManyConnections),
        ] {
            assert_eq!(kind_of(Some(sqlstate), ""), kind, "{sqlstate}");
        }
        assert_eq!(kind_of(None, "server closed the connection unexpectedly"), Unreachable);
        assert_eq!(kind_of(None, "authentication error: x"), Refused);
    }
}
