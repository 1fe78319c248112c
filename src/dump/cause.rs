//! Why a place was lost, as the manifest calls it.

use super::Finding;
use crate::output::manifest;

/// Why a place was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server could not read the page.
    Page,
    /// The server could not read the tuple.
    Tuple,
    /// What the tuple needs of another relation (TOAST) could not be read.
    StoredElsewhere,
    /// A column that lies behind a damaged one: where it begins is not known.
    Untrusted,
    /// A library that the column's type needs is missing.
    MissingLibrary,
    /// Reading it took the server down.
    ServerCrash,
    /// Its bytes would lead the server astray: it was not read.
    Structure,
    /// It was not read, lest the server went down, or since too much hung.
    NotTried,
    /// The connection is lost each time that it is read; the server is well.
    ConnectionLost,
    /// A read of it alone did not come to an end.
    Hung,
    /// The server has not the memory to send it.
    TooLarge,
    /// The relation's file is gone.
    MissingFile,
    /// What the catalogs say of it is damaged: it cannot be opened.
    Catalog,
    /// A crash of the server has emptied the unlogged table.
    EmptiedByCrash,
    /// Rows are missing, and no read said so.
    SilentLoss,
}

impl Cause {
    const ALL: [Self; 15] = [
        Self::Page,
        Self::Tuple,
        Self::StoredElsewhere,
        Self::Untrusted,
        Self::MissingLibrary,
        Self::ServerCrash,
        Self::Structure,
        Self::NotTried,
        Self::ConnectionLost,
        Self::Hung,
        Self::TooLarge,
        Self::MissingFile,
        Self::Catalog,
        Self::EmptiedByCrash,
        Self::SilentLoss,
    ];

    /// Why a relation with these findings was not read to its end, if it was
    /// not: for something that is no damage.
    pub fn why_incomplete(findings: &[Finding]) -> Option<&'static str> {
        let has = |cause| findings.iter().any(|f| f.cause == cause);
        if has(Self::Hung) {
            Some("reads of it hung, and were ended: what they were to read is missing")
        } else if has(Self::TooLarge) {
            Some("it has rows that the server has not the memory to send")
        } else if has(Self::ConnectionLost) {
            Some("the connection was lost each time that some of it was read")
        } else if has(Self::SilentLoss) {
            Some("not all rows that the server has sent came: something on the way loses them")
        } else {
            has(Self::NotTried).then_some("blocks were not tried, lest the server went down")
        }
    }

    /// Of a loss in a manifest.
    pub fn of(lost: &manifest::Lost) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == lost.cause)
    }

    /// Whether it is no damage, and may be over when the place is read again.
    pub fn is_passing(self) -> bool {
        use Cause::{ConnectionLost, Hung, NotTried, SilentLoss, TooLarge};
        matches!(self, NotTried | ConnectionLost | Hung | TooLarge | SilentLoss)
    }

    /// As it is called in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Tuple => "tuple",
            Self::StoredElsewhere => "stored_elsewhere",
            Self::Untrusted => "untrusted",
            Self::MissingLibrary => "missing_library",
            Self::ServerCrash => "server_crash",
            Self::Structure => "structure",
            Self::NotTried => "not_tried",
            Self::ConnectionLost => "connection_lost",
            Self::Hung => "hung",
            Self::TooLarge => "too_large",
            Self::MissingFile => "missing_file",
            Self::Catalog => "catalog",
            Self::EmptiedByCrash => "emptied_by_crash",
            Self::SilentLoss => "silent_loss",
        }
    }
}
