//! What a worker does with one stretch: enter the relation, read, and decide
//! what an end that is no end means.
//!
//! What a lost session means is in `blame.rs`.

use super::begin::Begun;
use super::generation::{Numbered, ServerGone, Way};
use super::reasons::{GONE, NOT_ALL_READ, NOT_READ, why_refused};
use super::relation::{Finished, RelationRun};
use super::unchecked::Loader;
use super::{Run, RunError, locked};
use crate::dump::{Cause, End, Reading, Stretch, read_alone, read_stretch};
use crate::heap::{BlockRange, Read};
use crate::server::blocking::why_locked;
use crate::server::fault::{Fault, Words, is_lock_timeout};
use crate::server::inventory::Relation;
use crate::server::relation::{Refused, enter};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How often a lock or a lost session may keep a stretch from being read.
pub(super) const TRIES_MAX: u32 = 3;

/// Of an unlogged table, after a crash.
pub(super) const EMPTIED: &str =
    "a server crash has emptied this unlogged table; rows received before are kept";

/// One stretch of one relation, to be read.
pub(super) struct Job {
    pub relation: Arc<RelationRun>,
    pub index: usize,
    /// None: all of the relation, however long it is when it is read.
    pub range: Option<BlockRange>,
    /// How far it was read before something came in between.
    pub stretch: Option<Box<Stretch>>,
    pub tries: u32,
    /// What was to be read next when a session was last lost under it.
    pub lost_at: Option<Read>,
    /// Blocks that it counts for in the progress.
    pub blocks: u64,
}

/// How a job is done.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// A connection is waited for as long as a server that went down.
    pub patient: bool,
    /// Nobody else reads: this may have taken the server down.
    pub alone: bool,
    /// The server may go down once more.
    pub risky: bool,
    /// By which way the system catalogs are looked at.
    pub way: Way,
}

/// What became of a job.
pub(super) enum After {
    Done,
    /// To be done later, when others are.
    Later,
    /// The server went down, and this may be why.
    Accused,
    /// Whoever begins the relation again will see to it.
    LetGo,
    /// A system catalog does not say how it is to be read; by another way it
    /// may.
    OtherWay,
}

impl Run {
    /// Works until the queue is empty. A worker for whom the server has no
    /// connection leaves its work to the others, but for the one that was given
    /// a session.
    pub(super) async fn work(
        self: Arc<Self>,
        mut session: Option<Numbered>,
    ) -> Result<(), RunError> {
        // Whoever was given a session is there to the end.
        let patient = session.is_some();
        let how = How { patient, alone: false, risky: true, way: Way::Usual };
        if let Err(gone) = self.ready(&mut session, how).await {
            self.warn(format!("one worker less: {gone}"));
            return Ok(());
        }
        while let Some((mut job, _perishable)) = self.queue.next().await {
            match self.do_job(&mut session, &mut job, how).await {
                Ok(After::Done) => self.finish_job(job).await?,
                Ok(After::Later) => self.queue.put_back(job),
                Ok(After::Accused) => self.accuse(job).await?,
                Ok(After::LetGo) => {}
                Ok(After::OtherWay) => locked(&self.by_other_way).push(job),
                Err(RunError::ServerGone(gone)) if !patient && gone.too_many => {
                    self.warn(format!("one worker less: {gone}"));
                    self.queue.put_back(job);
                    return Ok(());
                }
                Err(RunError::ServerGone(gone)) => self.gone(job, &gone).await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The server will not have us back: this is not read, and nothing else.
    pub(super) async fn gone(&self, job: Job, gone: &ServerGone) -> Result<(), RunError> {
        self.stop_for(&gone.to_string());
        job.relation.fail(format!("not read: {gone}")).await;
        self.finish_job(job).await
    }

    /// The server will not have us back, and nobody works on the queue.
    pub(super) async fn all_gone(&self, gone: &ServerGone) -> Result<(), RunError> {
        while let Some((job, _perishable)) = self.queue.next().await {
            self.gone(job, gone).await?;
        }
        Ok(())
    }

    /// A session to work with: the one at hand, or a new one.
    async fn ready<'s>(
        &self,
        session: &'s mut Option<Numbered>,
        how: How,
    ) -> Result<&'s Numbered, ServerGone> {
        if session.as_ref().is_some_and(|s| s.session.is_closed()) {
            *session = None;
        }
        match session {
            Some(ready) => Ok(ready),
            none => Ok(none.insert(self.generations.session_by(how.way, how.patient).await?)),
        }
    }

    pub(super) async fn do_job(
        &self,
        session: &mut Option<Numbered>,
        job: &mut Job,
        how: How,
    ) -> Result<After, RunError> {
        let mut loader = None;
        loop {
            if self.progress.stopped() || job.relation.has_failed().await {
                return Ok(After::Done);
            }
            let ready = self.ready(session, how).await?;
            let relation = job.relation.clone();
            let on_disk = match enter(&ready.session, &relation.relation, &relation.readable).await
            {
                Ok(on_disk) => on_disk,
                Err(refused) => match self.refused(ready, job, refused, how).await? {
                    Some(after) => return Ok(after),
                    None => {
                        *session = None;
                        continue;
                    }
                },
            };
            let begun = self.begin(ready, job, &on_disk, how).await?;
            if begun != Begun::Ready {
                leave(session).await;
                return Ok(if begun == Begun::LetGo { After::LetGo } else { After::Done });
            }
            if how.alone || self.generations.crashes().await > 0 {
                self.source.checking.after_crash();
            }
            let Some(stretch) = &mut job.stretch else { return Ok(After::Done) };
            let reading = Reading {
                session: &ready.session,
                readable: &relation.readable,
                column_names: &relation.column_names,
                path: &on_disk.path,
                progress: &self.progress,
                perishable: relation.relation.unlogged,
                hangs: &relation.hangs,
                data: ready.data_of(&relation.relation),
                doctor: &relation.doctor,
                other_way: how.way != Way::Last,
                pages: &relation.pages,
                source: &self.source,
                loader: loader.as_ref().map(Loader::session),
            };
            let end = match how {
                How { alone: true, risky, .. } => read_alone(&reading, stretch, risky).await?,
                _ => read_stretch(&reading, stretch).await?,
            };
            relation.took_in(stretch, ready.snapshot, ready.data_of(&relation.relation)).await;
            match end {
                End::Settled | End::Stopped => {
                    leave(session).await;
                    return Ok(After::Done);
                }
                End::OtherWay(words) => {
                    tracing::info!("{}: {}", relation.readable.qualified, words.one_line());
                    leave(session).await;
                    return Ok(After::OtherWay);
                }
                End::Refused(words) => {
                    relation.fail(why_refused(&words)).await;
                    leave(session).await;
                    return Ok(After::Done);
                }
                End::Environment(words) => {
                    leave(session).await;
                    let words = in_the_way(session.as_ref(), job, words).await;
                    return Ok(self.later(job, &words, how.alone).await);
                }
                // With another session; how often is limited.
                End::Hung => *session = None,
                End::NoLoader => {
                    loader = self.loader(ready.snapshot).await?;
                    if loader.is_none() {
                        *session = None;
                    }
                }
                End::LoaderLost(words) => {
                    let lost = loader.take().and_then(Loader::lost);
                    let lost = lost.map(|gone| self.generations.lost(&gone, &words));
                    *session = None;
                    if let Some(lost) = lost
                        && let Some(after) = self.lost(job, &lost, how.alone).await?
                    {
                        return Ok(after);
                    }
                }
                End::SessionLost(words) => {
                    let lost = self.generations.lost(ready, &words);
                    (*session, loader) = (None, None);
                    if let Some(after) = self.lost(job, &lost, how.alone).await? {
                        return Ok(after);
                    }
                }
            }
        }
    }

    /// The relation could not be entered. None: try again with a new session.
    async fn refused(
        &self,
        ready: &Numbered,
        job: &mut Job,
        refused: Refused,
        how: How,
    ) -> Result<Option<After>, RunError> {
        let (fault, error) = match refused {
            Refused::Gone => {
                job.relation.fail(GONE.to_owned()).await;
                let left = ready.session.leave_relation().await;
                return Ok(left.is_ok().then_some(After::Done));
            }
            Refused::Fault(fault, error) => (fault, error),
        };
        let words = error.words().clone();
        if fault == Fault::SessionLost {
            let lost = self.generations.lost(ready, &words);
            return self.lost(job, &lost, how.alone).await;
        }
        let left = ready.session.leave_relation().await;
        if fault == Fault::Hung {
            // A session that was given up is not used again, and that is known.
            return Ok(Some(self.later(job, &words, how.alone).await));
        }
        if left.is_err() {
            return Ok(None);
        }
        Ok(Some(match fault {
            Fault::Environment => {
                let words = in_the_way(Some(ready), job, words).await;
                self.later(job, &words, how.alone).await
            }
            Fault::Damage(_) if how.way != Way::Last => After::OtherWay,
            Fault::Damage(_) => {
                // It cannot be opened: no part of it can be read (any more).
                let mut stretch = match job.stretch.take() {
                    Some(stretch) => stretch,
                    None => {
                        let range = job.range.unwrap_or(BlockRange::new(0, 0));
                        Box::new(job.relation.stretch(job.index, range).await?)
                    }
                };
                stretch.undo_what_came().await?;
                stretch.findings.whole(Cause::Catalog, &words);
                stretch.give_up().await?;
                job.stretch = Some(stretch);
                After::Done
            }
            _ => {
                job.relation.fail(why_refused(&words)).await;
                After::Done
            }
        }))
    }

    /// Something is in the way: others first, and not for ever.
    async fn later(&self, job: &mut Job, words: &Words, alone: bool) -> After {
        job.tries += 1;
        if job.tries < TRIES_MAX && !alone {
            tracing::info!(
                "relation \"{}\" is tried again later: {}",
                job.relation.relation.display_name(),
                words.one_line()
            );
            return After::Later;
        }
        job.relation.fail(words.one_line()).await;
        After::Done
    }

    pub(super) async fn finish_job(&self, mut job: Job) -> Result<(), RunError> {
        if let Some(stretch) = &mut job.stretch {
            stretch.settle_convicted().await?;
        }
        let settled = |s: &Stretch| s.salvage.next_read().is_none();
        if self.broken.load(Relaxed) && !job.stretch.as_deref().is_some_and(settled) {
            // Its files stay as they are, without their final names.
            return Ok(());
        }
        let stretch = match job.stretch {
            Some(stretch) => {
                if stretch.salvage.next_read().is_some() {
                    job.relation.fail(NOT_ALL_READ.to_owned()).await;
                }
                *stretch
            }
            None => {
                job.relation.fail(NOT_READ.to_owned()).await;
                job.relation.stretch(job.index, job.range.unwrap_or(BlockRange::new(0, 0))).await?
            }
        };
        self.count_done(job.blocks);
        match job.relation.finish_stretch(stretch).await? {
            Finished::Stretch => Ok(()),
            Finished::Relation(entry) => Ok(self.finished(&job.relation, *entry).await?),
            Finished::Again(stretches) => {
                self.queue_up(&job.relation, stretches, job.blocks).await;
                Ok(())
            }
        }
    }
}

impl Job {
    /// `blocks`: of the relation, where it is not cut.
    pub(super) fn new(relation: &Arc<RelationRun>, index: usize, blocks: u64) -> Self {
        let range = relation.range(index);
        Self {
            relation: relation.clone(),
            index,
            range,
            stretch: None,
            tries: 0,
            lost_at: None,
            blocks: range.map_or(blocks, |r| u64::from(r.len())),
        }
    }

    /// A session was lost under it. Where something came before that, it is not
    /// the same once more.
    pub(super) fn count_loss(&mut self) {
        let next = self.stretch.as_ref().and_then(|s| s.salvage.next_read());
        if next != self.lost_at {
            self.tries = 0;
        }
        self.tries += 1;
        self.lost_at = next;
    }
}

/// What keeps a relation from being read; of a lock, who holds it.
async fn in_the_way(ready: Option<&Numbered>, job: &Job, words: Words) -> Words {
    let (Some(ready), true) = (ready, is_lock_timeout(&words.sqlstate)) else { return words };
    let relation = &job.relation.relation;
    match why_locked(&ready.session, relation.oid, &relation.display_name()).await {
        Some(message) => Words { message, severity: String::new(), ..words },
        None => words,
    }
}

/// Gives the relation's lock back; a session that cannot is of no use.
async fn leave(session: &mut Option<Numbered>) {
    if let Some(ready) = session
        && ready.session.leave_relation().await.is_err()
    {
        *session = None;
    }
}

impl Numbered {
    /// The number of what it sees of a relation. A crash empties unlogged
    /// tables, whatever the snapshots say.
    pub(super) fn data_of(&self, relation: &Relation) -> u32 {
        if relation.unlogged { self.snapshot } else { self.data }
    }
}
