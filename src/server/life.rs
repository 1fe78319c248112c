//! Whether a server has gone down between two sessions, or only the way to it.
//!
//! When all connections are lost at once, a crash and a network that was away
//! look the same from here. The server knows better: a restart after a crash
//! ends the checkpointer, and recovery ends with a checkpoint.

use super::session::{ReadError, Session};

/// A server between two starts, or restarts after a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// When the postmaster began.
    postmaster: Option<String>,
    /// When the checkpointer began; hidden from most roles.
    checkpointer: Option<String>,
    /// Where the last checkpoint is; everyone may know.
    checkpoint: Option<String>,
}

const POSTMASTER: &str = "SELECT pg_catalog.pg_postmaster_start_time()";
/// The function itself, for the view needs two catalogs more.
const CHECKPOINTER: &str = "SELECT backend_start FROM pg_catalog.pg_stat_get_activity(NULL) \
                            WHERE backend_type = 'checkpointer'";
const CHECKPOINT: &str = "SELECT checkpoint_lsn FROM pg_catalog.pg_control_checkpoint()";

impl Life {
    /// Asks for it. What may not be known is left out; an error is one of the
    /// connection.
    pub async fn of(session: &Session) -> Result<Self, ReadError> {
        Ok(Self {
            postmaster: session.wish(POSTMASTER).await?,
            checkpointer: session.wish(CHECKPOINTER).await?,
            checkpoint: session.wish(CHECKPOINT).await?,
        })
    }

    /// Whether it is certain that the server did not go down between the two.
    pub fn is_same(&self, later: &Life) -> bool {
        let known = |a: &Option<String>, b: &Option<String>| Some(a.as_ref()? == b.as_ref()?);
        if known(&self.postmaster, &later.postmaster) == Some(false) {
            return false;
        }
        // Without a crash there may be a checkpoint; without one there was no
        // crash.
        known(&self.checkpointer, &later.checkpointer)
            .or_else(|| known(&self.checkpoint, &later.checkpoint))
            .unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certain_is_no_crash() {
        let life = |p: &str, r: &str, c: &str| {
            let some = |s: &str| Some(s.to_owned()).filter(|s| !s.is_empty());
            Life { postmaster: some(p), checkpointer: some(r), checkpoint: some(c) }
        };
        for (before, after, same) in [
            (life("1", "1", "A"), life("1", "1", "A"), true),
            (life("1", "1", "A"), life("1", "1", "B"), true),
            (life("1", "1", "A"), life("1", "2", "A"), false),
            (life("1", "1", "A"), life("2", "1", "A"), false),
            (life("1", "", "A"), life("1", "", "A"), true),
            (life("1", "", "A"), life("1", "", "B"), false),
            (life("1", "1", "A"), life("1", "", "A"), true),
            (life("1", "", ""), life("1", "", ""), false),
            (life("", "", ""), life("", "", ""), false),
        ] {
            assert_eq!(before.is_same(&after), same, "{before:?} {after:?}");
        }
    }
}
