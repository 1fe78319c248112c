//! Relations that cannot be opened since a system catalog, or an index of one, is
//! damaged: they are tried by the other way to the catalogs, and if that leads
//! nowhere either, by the usual one once more, which then has the last word.

use super::generation::Way;
use super::job::{After, How};
use super::{Run, RunError, locked};

impl Run {
    /// Reads, after all others, what could not be opened.
    pub(super) async fn work_by_other_way(&self) -> Result<(), RunError> {
        for way in [Way::Other, Way::Last] {
            let mut session = None;
            let jobs = std::mem::take(&mut *locked(&self.by_other_way));
            for mut job in jobs {
                let how = How { patient: true, alone: false, risky: true, way };
                match self.do_job(&mut session, &mut job, how).await {
                    Ok(After::Done) => {
                        if job.stretch.as_ref().is_some_and(|s| s.salvage.next_read().is_none()) {
                            self.generations.has_led(way);
                        }
                        self.finish_job(job).await?;
                    }
                    // Nobody else is there to wait for.
                    Ok(After::Later) => self.queue.put_back(job),
                    Ok(After::Accused) => self.accuse(job).await?,
                    Ok(After::LetGo) => {}
                    Ok(After::OtherWay) => locked(&self.by_other_way).push(job),
                    Err(RunError::ServerGone(gone)) if gone.damage && way == Way::Other => {
                        locked(&self.by_other_way).push(job);
                    }
                    Err(RunError::ServerGone(gone)) => self.gone(job, &gone).await?,
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }
}
