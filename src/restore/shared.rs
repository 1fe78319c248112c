//! What all workers of a restore share, and what they have come to.

use super::earlier::Earlier;
use super::plan::Plan;
use super::{RestoreError, RestoreOptions};
use crate::output::restore_dir::{Record, Step};
use crate::output::restored::{Check, NotMade, Relation};
use crate::output::{OutputError, RestoreDir};
use crate::progress::Progress;
use crate::server::connect::Target;
use crate::server::restoring::{Refusal, TargetSession};
use crate::server::session::OpenError;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// So often a target that has gone away is tried, and so long is waited between.
const CONNECTS_MAX: u32 = 30;
const CONNECT_AGAIN: Duration = Duration::from_secs(2);

pub(super) struct Shared {
    pub target: Target,
    pub options: RestoreOptions,
    pub plan: Plan,
    pub dir: RestoreDir,
    pub progress: Arc<Progress>,
    pub started: Timestamp,
    pub resumed: Vec<Timestamp>,
    /// The target's tablespaces, as far as we may use them.
    pub tablespaces: BTreeSet<String>,
    pub results: Mutex<Results>,
}

/// What was done, by earlier runs too.
#[derive(Default)]
pub(super) struct Results {
    pub relations: BTreeMap<u32, Loaded>,
    pub moved: BTreeMap<u32, MovedRows>,
    pub checks: BTreeMap<u32, Check>,
    /// Entries that are dealt with.
    pub entries: HashSet<i32>,
    pub made: u64,
    pub not_made: Vec<NotMade>,
    pub not_valid: Vec<NotMade>,
    pub warnings: Vec<String>,
    /// Why owners could not be set, as far as it has been logged.
    pub owners_refused: HashSet<String>,
    /// Something was not tried to its end.
    pub incomplete: bool,
}

#[derive(Clone)]
pub(super) struct Loaded {
    pub relation: Relation,
    pub rejects_len: u64,
    pub rejects: u64,
}

/// Duplicates of a relation that were taken out.
#[derive(Clone)]
pub(super) struct MovedRows {
    pub rows: u64,
    pub file: String,
    pub rejects_len: u64,
    pub rejects: u64,
}

impl Shared {
    pub(super) fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn warn(&self, warning: String) {
        let mut results = self.results();
        // What is tried twice is said once.
        if !results.warnings.contains(&warning) {
            tracing::warn!("{warning}");
            results.warnings.push(warning);
        }
    }

    pub(super) async fn session(&self) -> Result<TargetSession, OpenError> {
        TargetSession::open(&self.target).await
    }

    /// A session, as soon as the target gives one again.
    pub(super) async fn session_again(&self) -> Result<TargetSession, OpenError> {
        let mut tries = 1;
        loop {
            match self.session().await {
                Err(e) if e.is_transient() && tries < CONNECTS_MAX && !self.progress.stopped() => {
                    tracing::warn!("{e}; trying again");
                    tries += 1;
                    tokio::time::sleep(CONNECT_AGAIN).await;
                }
                other => return other,
            }
        }
    }

    /// Writes down what a transaction is expected to come to, beside its work: that
    /// is durable by the time when it is committed.
    pub(super) fn expect(&self, xid: &str, step: Step) -> Result<Expected, OutputError> {
        let record = Record::Commit { xid: xid.to_owned(), step: Box::new(step.clone()) };
        let sync = self.dir.append_ahead(&record)?;
        Ok(Expected { step, synced: tokio::task::spawn_blocking(sync) })
    }

    /// Commits a transaction that this step is, and takes it into account. If the
    /// connection is lost on the way, the target is asked what became of it.
    pub(super) async fn commit(
        &self,
        session: &TargetSession,
        xid: String,
        step: Step,
        expected: Option<Expected>,
    ) -> Result<(), CommitError> {
        let durable = matches!(step, Step::Relation { .. } | Step::Relations { .. });
        match expected {
            // A panic of a sync is no sync.
            Some(Expected { step: before, synced }) if before == step => match synced.await {
                Ok(synced) => synced?,
                Err(e) => std::panic::resume_unwind(e.into_panic()),
            },
            _ => {
                let record = Record::Commit { xid: xid.clone(), step: Box::new(step.clone()) };
                self.dir.append(&record, durable)?;
            }
        }
        let step = Box::new(step);
        match session.commit().await {
            Ok(()) => {}
            Err(refusal) if refusal.is_lost() => {
                let again = self.session_again().await?;
                match super::earlier::what_became_of(&again, &xid).await? {
                    true => {}
                    false => return Err(refusal.into()),
                }
            }
            Err(refusal) => return Err(refusal.into()),
        }
        self.dir.append(&Record::Done { step: step.clone() }, false)?;
        self.take(*step);
        Ok(())
    }

    /// Notes a step that left nothing to commit.
    pub(super) fn done(&self, step: Step) -> Result<(), OutputError> {
        self.dir.append(&Record::Done { step: Box::new(step.clone()) }, false)?;
        self.take(step);
        Ok(())
    }

    /// Takes a step into account, of this run or of an earlier one.
    pub(super) fn take(&self, step: Step) {
        self.results().take(step);
    }

    /// How much of a relation's file of rejected rows counts: length, and rows.
    pub(super) fn rejects_of(&self, oid: u32) -> (u64, u64) {
        let results = self.results();
        let loaded = results.relations.get(&oid).map(|l| (l.rejects_len, l.rejects));
        let moved = results.moved.get(&oid).map(|m| (m.rejects_len, m.rejects));
        moved.or(loaded).unwrap_or_default()
    }
}

impl Results {
    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Entries { made, not_made, not_valid, moved } => {
                self.made += made.len() as u64;
                self.entries.extend(made);
                self.entries.extend(not_made.iter().map(|n| n.dump_id));
                self.not_made.extend(not_made);
                self.not_valid.extend(not_valid);
                if let Some(moved) = moved {
                    let before = self.moved.get(&moved.oid).map_or(0, |m| m.rows);
                    let rows = MovedRows {
                        rows: before + moved.rows,
                        file: moved.file,
                        rejects_len: moved.rejects_len,
                        rejects: moved.rejects,
                    };
                    self.moved.insert(moved.oid, rows);
                }
            }
            Step::Relation { relation, rejects_len, rejects } => {
                let oid = relation.oid;
                self.relations.insert(oid, Loaded { relation: *relation, rejects_len, rejects });
            }
            Step::Relations { relations } => {
                for relation in relations {
                    let loaded = Loaded { relation, rejects_len: 0, rejects: 0 };
                    self.relations.insert(loaded.relation.oid, loaded);
                }
            }
        }
    }

    pub(super) fn of(earlier: Earlier) -> Self {
        let mut results = Self::default();
        earlier.steps.into_iter().for_each(|step| results.take(step));
        results
    }
}

/// What a transaction is expected to come to; it is being written down.
pub(super) struct Expected {
    step: Step,
    synced: JoinHandle<Result<(), OutputError>>,
}

/// Why a step is not committed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Fatal(#[from] RestoreError),
}

impl From<OutputError> for CommitError {
    fn from(error: OutputError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<OpenError> for CommitError {
    fn from(error: OpenError) -> Self {
        Self::Fatal(error.into())
    }
}

/// Why something about one relation did not work: the server would not, or a
/// file.
pub(super) enum Problem {
    Refused(Refusal),
    Output(OutputError),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<OutputError> for Problem {
    fn from(error: OutputError) -> Self {
        Self::Output(error)
    }
}
