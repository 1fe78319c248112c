//! The snapshot of now, and the session that holds it.

use super::ServerGone;
use crate::output::journal::{self, Journal, Record};
use crate::output::{OutputError, manifest};
use crate::server::connect::Target;
use crate::server::fault::Words;
use crate::server::life::Life;
use crate::server::session::{OpenError, ReadError, Session, Timeouts};
use crate::server::written::Written;
use std::time::Duration;
use tokio::time::sleep;

/// Before it is asked whether the server is still there: a crash that took our
/// session may be a moment away from taking the others. So often it is asked of
/// a session that ended without a word.
const AFTER_LOSS: Duration = Duration::from_millis(100);
pub(super) const ASKED_OF_SILENT: u32 = 5;

pub(super) struct Current {
    pub(super) holder: Session,
    pub(super) snapshot: String,
    /// What the snapshot can see, as the server writes it.
    pub(super) sees: String,
    pub(super) life: Life,
    /// The number of the first snapshot that sees the same.
    pub(super) data: u32,
    pub(super) taken: Vec<manifest::Snapshot>,
    /// Of each snapshot that has ended: whether the server said why.
    pub(super) told: Vec<bool>,
    pub(super) crashes: u32,
    /// What the server said when it last ended all sessions.
    pub(super) last_words: Words,
    /// The server was waited for in vain: nobody waits again.
    pub(super) gone: Option<ServerGone>,
}

impl Current {
    pub(super) fn number(&self) -> u32 {
        u32::try_from(self.taken.len()).unwrap_or(u32::MAX)
    }

    /// Whether the server still answers, asked so often.
    pub(super) async fn is_there(&self, times: u32) -> bool {
        for _ in 0..times {
            sleep(AFTER_LOSS).await;
            if self.holder.execute("SELECT 1").await.is_err() {
                return false;
            }
        }
        true
    }

    /// What the server has written by now; ends the snapshot.
    pub(super) async fn written_now(&self) -> Result<Written, ReadError> {
        self.holder.renew_snapshot().await?;
        Written::so_far(&self.holder, &self.holder.snapshot_sees().await?).await
    }

    /// With a new holder, in a new snapshot. `told`: the server has said why it
    /// ended the sessions before.
    pub(super) fn go_on(&mut self, (holder, snapshot, sees, life): Held, told: bool) {
        if !told && self.life.is_same(&life) {
            self.crashes -= 1;
            self.told.pop();
            self.told.push(true);
            tracing::warn!("the server is well: only the connections were lost");
        }
        let number = self.number() + 1;
        if !same_data(&self.sees, &sees) {
            self.data = number;
        }
        self.taken.push(described(&holder, &snapshot, number, self.data));
        (self.holder, self.snapshot, self.sees, self.life) = (holder, snapshot, sees, life);
        tracing::warn!(event = "server_back", number, "connected again, with a new snapshot");
    }
}

/// Whether two snapshots see the same rows. With a transaction under way in the
/// first, what became of it may be seen in the second. A standby does not list
/// those: there is one if the oldest is not the one to come.
pub(super) fn same_data(before: &str, after: &str) -> bool {
    let parts: Vec<&str> = after.split(':').collect();
    before == after && matches!(parts.as_slice(), [oldest, next, ""] if oldest == next)
}

pub(super) fn write_down(journal: &Journal, current: &Current) -> Result<(), OutputError> {
    let Some(snapshot) = current.taken.last().cloned() else { return Ok(()) };
    journal.append(&Record::Snapshot(journal::Snapshot { snapshot, sees: current.sees.clone() }))
}

/// A session that holds a snapshot, the snapshot, what it sees, and the life of
/// the server that it is of.
pub(super) type Held = (Session, String, String, Life);

pub(super) async fn hold(target: &Target, timeouts: Timeouts) -> Result<Held, OpenError> {
    let holder = Session::open(target, timeouts, None).await?;
    let sees = holder.snapshot_sees().await?;
    let life = Life::of(&holder).await?;
    let snapshot = holder.export_snapshot().await?;
    Ok((holder, snapshot, sees, life))
}

pub(super) fn described(
    holder: &Session,
    id: &str,
    number: u32,
    same_as: u32,
) -> manifest::Snapshot {
    manifest::Snapshot {
        number,
        id: id.to_owned(),
        taken_at: jiff::Timestamp::now(),
        in_recovery: holder.server().in_recovery,
        same_as,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_with_nothing_under_way_are_two_snapshots_of_the_same_data() {
        for (before, after, same) in [
            ("760:760:", "760:760:", true),
            ("760:760:", "761:761:", false),
            ("760:762:760", "760:762:760", false),
            // On a standby, where one of 760 and 761 may have ended in between.
            ("760:763:", "760:763:", false),
            ("", "", false),
        ] {
            assert_eq!(same_data(before, after), same, "{before} {after}");
        }
    }
}
