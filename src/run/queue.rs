//! The queue of stretches. Unlogged tables come first, and nothing else is
//! begun before they are read: a crash of the server empties them.

use super::job::Job;
use super::locked;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::sync::watch;

#[derive(Default)]
pub(super) struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    /// How many stretches of unlogged tables are being read.
    perishable: watch::Sender<usize>,
}

/// A stretch of an unlogged table is being read for as long as this lives.
pub(super) struct Perishable<'a>(&'a watch::Sender<usize>);

impl Drop for Perishable<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        locked(&self.jobs).is_empty()
    }

    /// Behind all others: the plan comes in the order in which it is to be read,
    /// and what is put back is tried again after it. Nobody waits for that, were
    /// it unlogged: it may be locked for ever.
    pub(super) fn put_back(&self, job: Job) {
        locked(&self.jobs).push_back(job);
    }

    /// Waits until no unlogged table is left to be read, but for one that was put
    /// back.
    pub(super) async fn no_perishables(&self) {
        let mut perishable = self.perishable.subscribe();
        loop {
            {
                let jobs = locked(&self.jobs);
                let is_next = jobs.front().is_some_and(|job| job.relation.relation.unlogged);
                if *perishable.borrow_and_update() == 0 && !is_next {
                    return;
                }
            }
            // The sender is ours: it is there as long as we are.
            if perishable.changed().await.is_err() {
                return;
            }
        }
    }

    /// The next one, as soon as it may be read.
    pub(super) async fn next(&self) -> Option<(Job, Option<Perishable<'_>>)> {
        let mut perishable = self.perishable.subscribe();
        loop {
            {
                let mut jobs = locked(&self.jobs);
                if jobs.front()?.relation.relation.unlogged {
                    self.perishable.send_modify(|n| *n += 1);
                    return Some((jobs.pop_front()?, Some(Perishable(&self.perishable))));
                }
                if *perishable.borrow_and_update() == 0 {
                    return Some((jobs.pop_front()?, None));
                }
            }
            // The sender is ours: it is there as long as we are.
            perishable.changed().await.ok()?;
        }
    }
}
