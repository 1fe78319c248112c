//! Reading what is known to be bad: whether that is allowed, who may, and the
//! session that does it.
//!
//! On a primary it changes the evidence: once the page is in the server's cache,
//! hint bits are set on it and its dead rows are pruned by whoever reads it, and
//! it is then written back with a checksum that fits. A standby writes nothing.

use super::generation::Numbered;
use super::{Run, RunError};
use crate::dump::{CheckPages, Checking};
use crate::server::pages::{MAY_READ, READ_FUNCTION};
use crate::server::session::{ReadError, Session};
use crate::server::sql::ident;
use std::sync::atomic::Ordering::Relaxed;

const ON_PRIMARY: &str = "changes evidence on a primary: the server may set hint bits on a bad page \
     that it has read, or prune it, and then writes it back with a checksum that fits, after which \
     nothing tells that it was bad; start a copy of the data directory as a standby (with a file \
     standby.signal) and read that, or add --allow-on-primary";

const TO_NO_AVAIL: &str =
    "--ignore-checksum-failure has no effect: the server has no data checksums";

const ZEROED: &str = "--zero-damaged-pages is not used: a page of zeros has no rows, all other \
     pages are read anyway (but for tables of which one index is damaged in its first page: drop \
     that, on a copy), and every session of the server would get the zeros without an error";

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unchecked {
    /// Pages whose checksums are wrong.
    pub checksums: bool,
    /// Asked for, and said to be of no use.
    pub zeros: bool,
    /// Also where the server may write.
    pub on_primary: bool,
    /// Whether rows of pages that the server refuses are decoded from their bytes,
    /// where the role may read files.
    pub raw: bool,
}

impl Unchecked {
    /// Refuses what would do harm, or cannot be done. Turns off what would have no
    /// effect. Returns what is to be said of it.
    pub(super) async fn check(&mut self, session: &Session) -> Result<Vec<String>, RunError> {
        let server = session.server();
        let asked = [
            (self.checksums && server.data_checksums, "--ignore-checksum-failure"),
            (self.zeros, "--zero-damaged-pages"),
        ];
        let asked = asked.into_iter().find(|(is_asked, _)| *is_asked);
        if let Some((_, option)) = asked.filter(|_| !server.in_recovery && !self.on_primary) {
            return Err(RunError::Unchecked(format!("{option} {ON_PRIMARY}")));
        }
        let mut warnings = Vec::new();
        if self.zeros {
            warnings.push(ZEROED.to_owned());
        }
        if self.checksums && !server.data_checksums {
            self.checksums = false;
            warnings.push(TO_NO_AVAIL.to_owned());
        }
        if self.checksums {
            check_rights(session).await?;
            if !server.in_recovery {
                warnings.push(
                    "bad pages are read unchecked on a primary (--allow-on-primary): the server \
                     may write them back changed, with checksums that fit; pages/ has them as \
                     they were"
                        .to_owned(),
                );
            }
        }
        Ok(warnings)
    }
}

/// Whether this role may read pages unchecked, and have the images that come
/// first. The error says what would give it the right.
async fn check_rights(session: &Session) -> Result<(), RunError> {
    const SET: &str = "SET LOCAL ignore_checksum_failure TO on";
    let (may_set, may_read) = (may(session, SET).await?, may(session, MAY_READ).await?);
    if may_set && may_read {
        return Ok(());
    }
    let role = session.value("SELECT current_user").await?.unwrap_or_default();
    if !may_set && session.server().version < 150_000 {
        return Err(RunError::Unchecked(format!(
            "role \"{role}\" may not use --ignore-checksum-failure: before PostgreSQL 15 only a \
             superuser may set ignore_checksum_failure"
        )));
    }
    let quoted = ident(&role);
    let set = format!("GRANT SET ON PARAMETER ignore_checksum_failure TO {quoted}");
    let read = format!("GRANT EXECUTE ON FUNCTION {READ_FUNCTION} TO {quoted}");
    let grants = [(may_set, set), (may_read, read)];
    let missing: Vec<String> =
        grants.into_iter().filter(|(may, _)| !may).map(|(_, grant)| grant).collect();
    Err(RunError::Unchecked(format!(
        "role \"{role}\" may not use --ignore-checksum-failure; a superuser can allow it, in this \
         database: {}",
        missing.join("; ")
    )))
}

/// Why pages cannot be looked at before they are read, where that is always
/// wanted, and what would allow it.
pub(super) async fn may_check(
    checking: &Checking,
    session: &Session,
) -> Result<Option<String>, ReadError> {
    if checking.when != CheckPages::Always || may(session, MAY_READ).await? {
        return Ok(None);
    }
    checking.refuse();
    let role = session.value("SELECT current_user").await?.unwrap_or_default();
    Ok(Some(format!(
        "pages are not checked before they are read: role \"{role}\" may not read the files of the \
         server; a superuser can allow it, in this database: GRANT EXECUTE ON FUNCTION \
         {READ_FUNCTION} TO {}",
        ident(&role)
    )))
}

/// Whether a statement is allowed; it is undone.
async fn may(session: &Session, sql: &str) -> Result<bool, ReadError> {
    let tried = session.execute(sql).await;
    if let Err(error) = &tried
        && error.sqlstate().is_empty()
    {
        return tried.map(|()| false);
    }
    session.leave_relation().await?;
    Ok(tried.is_ok())
}

/// The session that has pages taken into the server's cache; or why there is none.
pub(super) enum Loader {
    Session(Box<Numbered>),
    None(String),
}

impl Loader {
    pub(super) fn session(&self) -> Result<&Session, &str> {
        match self {
            Self::Session(numbered) => Ok(&numbered.session),
            Self::None(why) => Err(why),
        }
    }

    pub(super) fn lost(self) -> Option<Numbered> {
        match self {
            Self::Session(numbered) => Some(*numbered),
            Self::None(_) => None,
        }
    }
}

impl Run {
    /// A session for the loader, in this snapshot. None: that is gone.
    pub(super) async fn loader(&self, snapshot: u32) -> Result<Option<Loader>, RunError> {
        let numbered = match self.generations.session(false).await {
            Ok(numbered) => numbered,
            Err(gone) if gone.too_many => return Ok(Some(Loader::None(gone.to_string()))),
            Err(gone) => return Err(gone.into()),
        };
        let is_ready = numbered.snapshot == snapshot
            && numbered.session.execute("SAVEPOINT reading").await.is_ok();
        Ok(is_ready.then(|| Loader::Session(Box::new(numbered))))
    }

    /// What is to be said at the end of pages as bytes, and of those that were read
    /// unchecked.
    pub(super) fn warn_of_pages(&self) {
        if let Some(words) = self.source.refused() {
            self.warn(format!("no images of damaged pages could be saved: {words}"));
        }
        if let Some(trouble) = self.source.checking.trouble() {
            self.warn(trouble.to_owned());
        }
        let decoded = self.source.decoded.load(Relaxed);
        if decoded > 0 {
            self.warn(format!(
                "rows of {decoded} page(s) that the server refuses were decoded from their bytes: \
                 they are suspect"
            ));
        }
        let unchecked = self.source.unchecked.load(Relaxed);
        if unchecked > 0 {
            self.warn(format!(
                "{unchecked} bad page(s) were read unchecked: until the server is restarted, all \
                 its sessions may get them without an error"
            ));
        }
    }
}
