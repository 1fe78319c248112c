//! What a worker does with one stretch: enter the relation, read, and decide
//! what an end that is no end means.
//!
//! When the server goes down, every session dies the same death, so a read
//! cannot be blamed by its error. What was in flight is accused, waits until
//! all the innocent is read, and is then read again by one worker alone.

use super::generation::{Lost, Numbered, ServerGone};
use super::relation::RelationRun;
use super::{Run, RunError, locked};
use crate::dump::{Cause, End, Reading, Stretch, convict, read_stretch};
use crate::heap::BlockRange;
use crate::server::fault::{Fault, Words, is_ended_by_crash_of_another, is_ended_by_hand};
use crate::server::relation::{Refused, enter};
use std::collections::HashMap;
use std::sync::Arc;

/// How often a lock or a lost session may keep a stretch from being read.
const TRIES_MAX: u32 = 3;

/// One stretch of one relation, to be read.
pub(super) struct Job {
    pub relation: Arc<RelationRun>,
    pub index: usize,
    /// None: all of the relation, however long it is when it is read.
    pub range: Option<BlockRange>,
    /// How far it was read before something came in between.
    pub stretch: Option<Box<Stretch>>,
    pub tries: u32,
    /// The snapshot that was lost under it, if the server went down.
    pub accused_in: Option<u32>,
    /// Blocks that it counts for in the progress.
    pub blocks: u64,
}

/// What became of a job.
enum After {
    Done,
    /// To be done later, when others are.
    Later,
    /// The server went down, and this may be why.
    Accused,
}

impl Run {
    /// Works until the queue is empty. A worker for whom the server has no
    /// connection leaves its work to the others, but for the first, who is
    /// always there.
    pub(super) async fn work(self: Arc<Self>, number: usize) -> Result<(), RunError> {
        let mut session = None;
        if number > 0
            && let Err(gone) = self.ready(&mut session).await
        {
            // Whoever has a session will find out the same, or not.
            self.warn(format!("one worker less: {gone}"));
            return Ok(());
        }
        while let Some(mut job) = self.next_job() {
            match self.do_job(&mut session, &mut job, false).await {
                Ok(After::Done) => self.finish_job(job).await?,
                Ok(After::Later) => self.put_back(job),
                Ok(After::Accused) => self.accuse(job),
                Err(RunError::ServerGone(gone)) if number > 0 && gone.0.is_too_many() => {
                    self.warn(format!("one worker less: {gone}"));
                    self.put_back(job);
                    return Ok(());
                }
                Err(RunError::ServerGone(gone)) => self.gone(job, &gone).await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The server will not have us back: this is not read, and nothing else.
    async fn gone(&self, job: Job, gone: &ServerGone) -> Result<(), RunError> {
        self.stop_for(&gone.to_string());
        job.relation.fail(format!("not read: {gone}")).await;
        self.finish_job(job).await
    }

    /// Reads what was in flight when the server went down, alone, as long as
    /// it may go down once more.
    pub(super) async fn work_on_accused(&self) -> Result<(), RunError> {
        let mut session = None;
        self.sort_accused();
        while let Some(mut job) = self.next_accused() {
            if self.crashes_left().await == 0 {
                self.fence(&mut job);
                self.finish_job(job).await?;
                continue;
            }
            if let Some(stretch) = &mut job.stretch {
                stretch.salvage.accuse();
            }
            job.tries = 0;
            match self.do_job(&mut session, &mut job, true).await {
                // Guilty: the others first, as long as the server may go down.
                Ok(After::Accused) => locked(&self.accused).push_back(job),
                Ok(_) => self.finish_job(job).await?,
                Err(RunError::ServerGone(gone)) => self.gone(job, &gone).await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Those first that were in flight with many others: most of them are
    /// innocent. Who was alone is guilty.
    fn sort_accused(&self) {
        let mut accused = locked(&self.accused);
        let mut company: HashMap<Option<u32>, usize> = HashMap::new();
        for job in accused.iter() {
            *company.entry(job.accused_in).or_default() += 1;
        }
        let mut jobs: Vec<Job> = std::mem::take(&mut *accused).into();
        jobs.sort_by_key(|j| std::cmp::Reverse(company.get(&j.accused_in).copied()));
        *accused = jobs.into();
    }

    /// A session to work with: the one at hand, or a new one.
    async fn ready<'s>(
        &self,
        session: &'s mut Option<Numbered>,
    ) -> Result<&'s Numbered, ServerGone> {
        if session.as_ref().is_some_and(|s| s.session.is_closed()) {
            *session = None;
        }
        match session {
            Some(ready) => Ok(ready),
            none => Ok(none.insert(self.generations.session().await?)),
        }
    }

    async fn do_job(
        &self,
        session: &mut Option<Numbered>,
        job: &mut Job,
        alone: bool,
    ) -> Result<After, RunError> {
        loop {
            if self.progress.stopped() || job.relation.has_failed().await {
                return Ok(After::Done);
            }
            let ready = self.ready(session).await?;
            let snapshot = ready.snapshot;
            let relation = &job.relation;
            let on_disk = match enter(&ready.session, &relation.relation, &relation.readable).await
            {
                Ok(on_disk) => on_disk,
                Err(refused) => match self.refused(ready, job, refused).await? {
                    Some(after) => return Ok(after),
                    None => {
                        *session = None;
                        continue;
                    }
                },
            };
            relation.entered(&on_disk, snapshot).await;
            let stretch = match &mut job.stretch {
                Some(stretch) => stretch,
                none => {
                    let mut range = job.range.unwrap_or(BlockRange::new(0, on_disk.blocks));
                    // It was cut in the first snapshot; a later one may see rows behind that.
                    if snapshot > 1 && relation.is_last(job.index) {
                        range.end = range.end.max(on_disk.blocks);
                    }
                    none.insert(Box::new(relation.stretch(job.index, range).await?))
                }
            };
            let reading = Reading {
                session: &ready.session,
                readable: &relation.readable,
                path: &on_disk.path,
                progress: &self.progress,
            };
            match read_stretch(&reading, stretch).await? {
                End::Settled | End::Stopped => {
                    if ready.session.leave_relation().await.is_err() {
                        *session = None;
                    }
                    return Ok(After::Done);
                }
                End::Refused(words) => {
                    relation.fail(words.one_line()).await;
                    if ready.session.leave_relation().await.is_err() {
                        *session = None;
                    }
                    return Ok(After::Done);
                }
                End::Environment(words) => {
                    let left = ready.session.leave_relation().await;
                    if left.is_err() {
                        *session = None;
                    }
                    return Ok(self.later(job, &words, alone).await);
                }
                End::SessionLost(words) => {
                    let innocent = is_innocent(ready, &words);
                    *session = None;
                    if let Some(after) = self.lost(job, snapshot, &words, innocent, alone).await? {
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
    ) -> Result<Option<After>, RunError> {
        let (fault, error) = match refused {
            Refused::Gone => {
                let reason = "the relation was dropped, or another has its name now";
                job.relation.fail(reason.to_owned()).await;
                let left = ready.session.leave_relation().await;
                return Ok(left.is_ok().then_some(After::Done));
            }
            Refused::Fault(fault, error) => (fault, error),
        };
        let words = error.words().clone();
        if fault == Fault::SessionLost {
            self.generations.after_loss(ready.snapshot, &words).await?;
            self.stop_over_the_limit().await;
            return Ok(None);
        }
        let left = ready.session.leave_relation().await;
        if left.is_err() {
            return Ok(None);
        }
        Ok(Some(match fault {
            Fault::Environment => self.later(job, &words, false).await,
            Fault::Damage(_) => {
                // It cannot be opened: no part of it can be read.
                let mut stretch = job.relation.stretch(job.index, BlockRange::new(0, 0)).await?;
                stretch.findings.whole(Cause::Catalog, &words);
                job.stretch = Some(Box::new(stretch));
                After::Done
            }
            _ => {
                job.relation.fail(words.one_line()).await;
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

    /// The session was lost under a read. None: read on with a new one.
    async fn lost(
        &self,
        job: &mut Job,
        snapshot: u32,
        words: &Words,
        innocent: bool,
        alone: bool,
    ) -> Result<Option<After>, RunError> {
        let lost = self.generations.after_loss(snapshot, words).await?;
        self.stop_over_the_limit().await;
        job.tries += 1;
        let guilty = match lost {
            Lost::Server if innocent => false,
            Lost::Server => true,
            // A session that is lost again and again, with the server well.
            Lost::Session => job.tries > TRIES_MAX,
        };
        if !guilty {
            return Ok(None);
        }
        job.accused_in = Some(snapshot);
        if alone && let Some(stretch) = &mut job.stretch {
            convict(&self.progress, stretch, words).await?;
        }
        Ok(Some(After::Accused))
    }

    /// When the server has gone down once more than it may, nothing at all is
    /// risked any more.
    async fn stop_over_the_limit(&self) {
        let crashes = self.generations.crashes().await;
        if crashes > self.options.max_crashes {
            self.stop_for(&format!(
                "the server went down {crashes} time(s), more than --max-crashes {} allows",
                self.options.max_crashes
            ));
        }
    }

    /// Nothing more of it is read, lest the server goes down once more.
    fn fence(&self, job: &mut Job) {
        let Some(stretch) = &mut job.stretch else { return };
        let words = Words {
            message: format!(
                "the server went down while this was read, and --max-crashes {} allows no other try",
                self.options.max_crashes
            ),
            ..Words::default()
        };
        stretch.held.clear();
        stretch.watch.forget();
        for blocks in stretch.salvage.fence() {
            stretch.findings.not_tried(blocks, &words);
        }
    }

    async fn finish_job(&self, job: Job) -> Result<(), RunError> {
        let stretch = match job.stretch {
            Some(stretch) => {
                if stretch.salvage.next_read().is_some() {
                    job.relation
                        .fail("not all of it was read: the run was stopped".to_owned())
                        .await;
                }
                *stretch
            }
            None => {
                job.relation.fail("not read: the run was stopped".to_owned()).await;
                job.relation.stretch(job.index, job.range.unwrap_or(BlockRange::new(0, 0))).await?
            }
        };
        self.count_done(job.blocks);
        if let Some(entry) = job.relation.finish_stretch(stretch).await? {
            self.finished(&job.relation, entry);
        }
        Ok(())
    }
}

/// Whether the server itself has said that somebody else is to blame: 57P02 is
/// sent to all sessions but the one that crashed, 57P01 when an administrator
/// ended them.
fn is_innocent(ready: &Numbered, words: &Words) -> bool {
    is_ended_by_hand(&words.sqlstate)
        || is_ended_by_crash_of_another(&words.sqlstate)
        || ready.session.notices().iter().any(|n| is_ended_by_crash_of_another(&n.sqlstate))
}
