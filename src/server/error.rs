//! Why a statement failed, or a session could not be begun.

use super::connect::{ConnectError, ConnectErrorKind};
use super::fault::{self, Fault, Phase, Words};
use crate::heap::Place;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The server, or the connection, in its words.
    #[error("{}", .words.one_line())]
    Server { words: Box<Words>, source: tokio_postgres::Error },
    /// The server was silent for too long, or the statement took longer than
    /// it may: it was ended, or the session was given up.
    #[error("{}", .words.one_line())]
    Hung { words: Box<Words>, why: Hung },
    /// Not as many rows came as the server says that it has sent.
    #[error("{}", .words.one_line())]
    Miscounted { words: Box<Words> },
    /// The session was given up before this statement.
    #[error("{}", .words.one_line())]
    GivenUp { words: Box<Words> },
}

/// What it means that a check (amcheck) has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFault {
    /// What was checked is damaged there.
    Damage(Place),
    /// No such relation can be opened.
    Missing,
    /// It may not be asked, or not of this relation.
    Refused,
    /// It has fewer blocks than were asked about.
    Shorter,
    /// The server is short of something, or somebody is in the way.
    Environment,
    SessionLost,
    Hung,
    /// Words that tell of no damage: a function of an index on an expression may
    /// say anything.
    Other,
}

/// Which patience was at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hung {
    /// No byte came from the server (`--read-timeout`).
    Silent,
    /// The statement took too long (`--statement-timeout`).
    Slow,
}

impl ReadError {
    pub fn words(&self) -> &Words {
        let (Self::Server { words, .. }
        | Self::Hung { words, .. }
        | Self::Miscounted { words }
        | Self::GivenUp { words }) = self;
        words
    }

    /// Empty where the session is of no use any more.
    pub fn sqlstate(&self) -> &str {
        &self.words().sqlstate
    }

    /// Whether the statement hung, and was ended.
    pub fn is_hung(&self) -> bool {
        matches!(self, Self::Hung { .. })
    }

    /// Whether the server is short of something.
    /// The role may not.
    pub fn is_permission(&self) -> bool {
        fault::is_permission(self.sqlstate())
    }

    pub fn is_shortage(&self) -> bool {
        fault::is_shortage(self.sqlstate())
    }

    /// What it means.
    pub fn fault(&self, phase: Phase, path: Option<&str>) -> Fault {
        match self {
            Self::Server { source, .. } => fault::fault(source, phase, path),
            Self::Hung { .. } => Fault::Hung,
            Self::Miscounted { .. } => Fault::Miscounted,
            Self::GivenUp { .. } => Fault::SessionLost,
        }
    }
}

impl ReadError {
    /// What it means that a check has failed; see [`fault::of_check`].
    pub fn check_fault(&self, path: Option<&str>, is_toast: bool) -> CheckFault {
        match self {
            Self::Server { words, .. } => fault::of_check(words, path, is_toast),
            Self::Hung { .. } => CheckFault::Hung,
            Self::Miscounted { .. } => CheckFault::Other,
            Self::GivenUp { .. } => CheckFault::SessionLost,
        }
    }
}

impl From<tokio_postgres::Error> for ReadError {
    fn from(source: tokio_postgres::Error) -> Self {
        Self::Server { words: Box::new(Words::of(&source)), source }
    }
}

/// Why a session could not be begun.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("could not begin a session: {0}")]
    Begin(#[from] ReadError),
    /// What every session needs is damaged, and not in an index alone.
    #[error(
        "{0} (also with ignore_system_indexes: the system catalogs of this database are damaged \
         where every session reads them; what is left is single-user mode on a copy, or tools \
         that read the files)"
    )]
    NoSession(Box<OpenError>),
}

impl OpenError {
    /// Whether the shared snapshot is gone: whoever exported it is.
    pub fn is_stale_snapshot(&self) -> bool {
        matches!(self, Self::Begin(e) if fault::is_stale_snapshot(e.sqlstate()))
    }

    /// Whether the server has no connection left for us.
    pub fn is_too_many(&self) -> bool {
        matches!(self, Self::Connect(e) if e.kind() == ConnectErrorKind::TooManyConnections)
    }

    /// Whether a session was had, and the server is short of something else.
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::Begin(e) if e.is_shortage())
    }

    /// Whether something that every session needs is damaged.
    pub fn is_damage(&self) -> bool {
        /// Not translated, and with another SQLSTATE since 18.
        const LOOKUP: &str = "cache lookup failed";
        match self {
            Self::Connect(e) => {
                e.sqlstate().is_some_and(fault::is_of_damage) || e.to_string().contains(LOOKUP)
            }
            Self::Begin(e) => !e.is_hung() && fault::is_of_damage(e.sqlstate()),
            Self::NoSession(_) => true,
        }
    }

    /// Whether it may work a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoSession(_) => false,
            Self::Connect(e) => e.is_transient(),
            // Just after a crash a connection can be accepted and ended again.
            Self::Begin(e) => {
                let code = e.sqlstate();
                code.is_empty() || fault::is_not_ready(code) || fault::is_shortage(code)
            }
        }
    }
}
