//! What an earlier run has done, by its journal and by what the target says.

use super::{RestoreError, RestoreOptions};
use crate::output::restore_dir::{Record, Run, Step};
use crate::server::restoring::{Refusal, TargetSession};
use jiff::Timestamp;
use std::time::Duration;

/// A session that an earlier run has left may be at its work still; so often it
/// is asked after.
const ASK_EVERY: Duration = Duration::from_millis(200);
const ASKS_MAX: u32 = 3000;

#[derive(Default)]
pub(super) struct Earlier {
    pub runs: Vec<Run>,
    pub steps: Vec<Step>,
}

impl Earlier {
    /// When it began, and when it was gone on with, now included.
    pub(super) fn times(&self, now: Timestamp) -> (Timestamp, Vec<Timestamp>) {
        match self.runs.split_first() {
            None => (now, Vec::new()),
            Some((first, later)) => {
                (first.started, later.iter().map(|r| r.started).chain([now]).collect())
            }
        }
    }

    /// Fails if it was another restore.
    pub(super) fn check(&self, run: &Run, options: &RestoreOptions) -> Result<(), RestoreError> {
        let Some(first) = self.runs.first() else { return Ok(()) };
        let folder = options.folder();
        let folder = folder.display();
        if first.dump != run.dump {
            return Err(RestoreError::Usage(format!(
                "\"{folder}\" is of a restore of another dump: give another --rejects"
            )));
        }
        let is_same = first.database == run.database
            && first.database_oid == run.database_oid
            && first.system_identifier == run.system_identifier;
        if !is_same {
            return Err(RestoreError::Usage(format!(
                "\"{folder}\" is of a restore into database \"{}\" on another server, or one that \
                 was made anew: give another --rejects",
                first.database
            )));
        }
        if first.asked != run.asked {
            return Err(RestoreError::Usage(
                "the restore to go on with was begun with other options: give the same".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Sorts out what the journal says. What was about to be committed is asked of
/// the target.
pub(super) async fn earlier(
    records: Vec<Record>,
    session: &TargetSession,
) -> Result<Earlier, RestoreError> {
    let mut earlier = Earlier::default();
    let mut undecided: Vec<(String, Step)> = Vec::new();
    for record in records {
        match record {
            Record::Run(run) => earlier.runs.push(run),
            Record::Commit { xid, step } => {
                undecided.retain(|(before, _)| *before != xid);
                undecided.push((xid, *step));
            }
            Record::Done { step } => {
                undecided.retain(|(_, s)| *s != *step);
                earlier.steps.push(*step);
            }
        }
    }
    for (xid, step) in undecided {
        if what_became_of(session, &xid).await? {
            earlier.steps.push(step);
        }
    }
    Ok(earlier)
}

/// Whether a transaction was committed; waits for one that is under way.
pub(super) async fn what_became_of(
    session: &TargetSession,
    xid: &str,
) -> Result<bool, RestoreError> {
    for _ in 0..ASKS_MAX {
        match session.is_committed(xid).await? {
            Some(is_committed) => return Ok(is_committed),
            None => tokio::time::sleep(ASK_EVERY).await,
        }
    }
    Err(RestoreError::Refused(Refusal::ours(format!(
        "transaction {xid} of the run before is still under way: wait for its session to end, or \
         end it"
    ))))
}
