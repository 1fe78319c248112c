//! Who took the server down.
//!
//! When the server goes down, most sessions die the same silent death, so a
//! read cannot be blamed by its error. But whoever was told of the crash of
//! another, or hung up after another, is innocent, and goes on at once. Only
//! the read whose session hung up first is accused: it waits until all the
//! innocent is read, and is then read again by one worker alone.

use super::generation::{Lost, LostSession, Way};
use super::job::{After, How, Job, TRIES_MAX};
use super::{Run, RunError, locked};
use crate::dump::{Stretch, convict, cut_off};
use crate::server::fault::{Ended, Words};

impl Run {
    /// Reads what is accused, alone, as long as the server may go down once
    /// more; then only what came of it before.
    pub(super) async fn work_on_accused(&self) -> Result<(), RunError> {
        let mut session = None;
        while let Some(mut job) = self.next_accused() {
            let risky = self.crashes_left().await > 0;
            job.tries = 0;
            if !risky && self.fence_unchecked(&mut job).await? {
                self.queue.put_back(job);
                continue;
            }
            let more = |s: &Stretch| s.came_before() || s.wants_image() || s.has_killers();
            let after = if risky || job.stretch.as_deref().is_some_and(more) {
                let how = How { patient: true, alone: true, risky, way: Way::Last };
                self.do_job(&mut session, &mut job, how).await
            } else {
                Ok(After::Done)
            };
            match after {
                // Guilty: the others first, as long as the server may go down.
                Ok(After::Accused) if risky => locked(&self.accused).push_back(job),
                Ok(After::LetGo) => {}
                Ok(After::OtherWay) => locked(&self.by_other_way).push(job),
                Ok(_) => {
                    if !risky {
                        self.fence(&mut job).await?;
                    }
                    self.finish_job(job).await?;
                }
                Err(RunError::ServerGone(gone)) => self.gone(job, &gone).await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The session was lost. None: go on with a new one.
    pub(super) async fn lost(
        &self,
        job: &mut Job,
        session: &LostSession,
        alone: bool,
    ) -> Result<Option<After>, RunError> {
        let LostSession { words, why, .. } = session;
        let lost = self.generations.after_loss(session).await?;
        self.stop_over_the_limit().await;
        if lost != Lost::Server {
            job.count_loss();
        }
        if lost != Lost::Server || *why != Ended::Silently {
            return self.lost_without_crash(job, lost, words, *why).await;
        }
        match &mut job.stretch {
            Some(stretch) if alone => {
                stretch.undo_what_came().await?;
                if let Some(killer) = convict(&self.progress, stretch, words).await? {
                    job.relation.killer(killer, words).await?;
                }
            }
            // It is lost when it is entered, and nothing can be narrowed.
            None if alone => {
                job.relation.fail(format!("it cannot be entered: {}", words.one_line())).await;
                return Ok(Some(After::Done));
            }
            _ => {}
        }
        Ok(Some(After::Accused))
    }

    /// The server is well, or has ended its sessions and said why: that is no
    /// damage, and it is read on, unless it happens again and again in one place.
    async fn lost_without_crash(
        &self,
        job: &mut Job,
        lost: Lost,
        words: &Words,
        why: Ended,
    ) -> Result<Option<After>, RunError> {
        // What is decoded is given up by itself.
        let decoding = job.stretch.as_ref().is_some_and(|s| s.is_decoding());
        if job.tries <= TRIES_MAX || lost == Lost::Server || decoding {
            return Ok(None);
        }
        match &mut job.stretch {
            Some(stretch)
                if lost == Lost::Session
                    && why == Ended::Silently
                    && job.relation.can_be_narrowed() =>
            {
                cut_off(stretch, words).await?;
                Ok(None)
            }
            _ => {
                let told = self.generations.last_words().await;
                let all = lost == Lost::ServerTold && !told.message.is_empty();
                job.relation.fail(if all { told.one_line() } else { words.one_line() }).await;
                Ok(Some(After::Done))
            }
        }
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

    /// Where a page was being read unchecked, that is to blame, and nothing else of
    /// the stretch: it is read on behind that.
    async fn fence_unchecked(&self, job: &mut Job) -> Result<bool, RunError> {
        let words = Words { message: self.no_other_try(), ..Words::default() };
        let Some(stretch) = &mut job.stretch else { return Ok(false) };
        let Some(block) = stretch.fence_unchecked().await? else { return Ok(false) };
        stretch.findings.not_tried(block, &words);
        Ok(true)
    }

    fn no_other_try(&self) -> String {
        format!(
            "the server went down while this was read, and --max-crashes {} allows no other try",
            self.options.max_crashes
        )
    }

    /// Nothing more of it is read, lest the server goes down once more.
    async fn fence(&self, job: &mut Job) -> Result<(), RunError> {
        let message = self.no_other_try();
        let Some(stretch) = &mut job.stretch else {
            job.relation.fail(message).await;
            return Ok(());
        };
        let words = Words { message, ..Words::default() };
        for blocks in stretch.keep_what_came().await? {
            stretch.findings.not_tried(blocks, &words);
        }
        Ok(())
    }
}
