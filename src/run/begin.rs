//! Making a stretch ready to be read in a session: its first, or another one
//! after the first was lost.

use super::generation::Numbered;
use super::job::{EMPTIED, How, Job};
use super::relation::{Met, RelationRun};
use super::{Run, RunError, locked};
use crate::dump::Cause;
use crate::heap::BlockRange;
use crate::server::fault::Words;
use crate::server::relation::OnDisk;
use std::sync::Arc;

/// Whether a stretch is ready to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    Ready,
    /// There is nothing to be read.
    Nothing,
    LetGo,
}

impl Run {
    /// Makes a stretch ready to be read in this session, begun or not.
    pub(super) async fn begin(
        &self,
        ready: &Numbered,
        job: &mut Job,
        on_disk: &OnDisk,
        how: How,
    ) -> Result<Begun, RunError> {
        let relation = &job.relation;
        let data = ready.data_of(&relation.relation);
        let emptied = relation.relation.unlogged
            && ready.snapshot > 1
            && on_disk.blocks == 0
            && job.blocks > 0;
        if !emptied && relation.is_of_other_data(data).await {
            if how.alone && !how.risky {
                // Nothing would be read in place of what is kept.
                return Ok(Begun::Nothing);
            }
            match relation.let_go(job.index, job.stretch.take()).await? {
                Met::Again(stretches) => {
                    let others = stretches.into_iter().filter(|&i| i != job.index);
                    self.queue_up(relation, others, job.blocks).await;
                }
                Met::Wait => return Ok(Begun::LetGo),
                Met::TooOften(stretch) => {
                    job.stretch = stretch;
                    let words = self.generations.last_words().await.one_line();
                    let reason = "the database was written to and the sessions were ended again \
                                  and again";
                    relation.fail(format!("{reason}: {words}")).await;
                    return Ok(Begun::Nothing);
                }
            }
        }
        relation.entered(on_disk).await;
        if relation.has_failed().await {
            return Ok(Begun::Nothing);
        }
        let mut range = job.range.unwrap_or(BlockRange::new(0, on_disk.blocks));
        // It was cut when the run began; there may be rows behind that now.
        if relation.is_last(job.index) {
            range.end = range.end.max(on_disk.blocks);
        }
        match &mut job.stretch {
            // Nothing was read of it, and it may be longer now.
            Some(stretch) if stretch.salvage.is_untouched() && !emptied => {
                stretch.undo_what_came().await?;
                stretch.begin_with(relation.salvage(range).await);
            }
            Some(_) => {}
            none => *none = Some(Box::new(relation.stretch(job.index, range).await?)),
        }
        let Some(stretch) = &mut job.stretch else { return Ok(Begun::Nothing) };
        if emptied {
            let words = Words { message: EMPTIED.to_owned(), ..Words::default() };
            stretch.findings.whole(Cause::EmptiedByCrash, &words);
            stretch.keep_what_came().await?;
            return Ok(Begun::Nothing);
        }
        stretch.undo_what_came().await?;
        // It may be lost again, and of a tagged read what came is not.
        if job.lost_at.is_some() && relation.can_be_narrowed() {
            stretch.salvage.tag_all();
        }
        if let Some(saving) = &mut stretch.saving {
            saving.snapshot = ready.snapshot;
        }
        Ok(Begun::Ready)
    }

    /// Stretches that are to be read, or read again; how many blocks they have.
    /// `blocks`: of the relation, where it is not cut.
    pub(super) async fn queue_up(
        &self,
        relation: &Arc<RelationRun>,
        stretches: impl IntoIterator<Item = usize>,
        blocks: u64,
    ) -> u64 {
        let mut all = 0;
        for index in stretches {
            let job = Job::new(relation, index, blocks);
            all += job.blocks;
            match relation.is_accused(index).await {
                true => locked(&self.accused).push_back(job),
                false => self.queue.put_back(job),
            }
        }
        all
    }
}
