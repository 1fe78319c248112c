//! The work on all relations: by some sessions, the largest first. What the server
//! went down at is set aside and tried again at the end, alone: if it goes down
//! again, that is why.

use super::STOPPED;
use super::asking::{Asking, Layout, Server, locked};
use super::index::GIN;
use super::task::Task;
use super::{heap, index};
use crate::progress::Progress;
use crate::server::amcheck::{Amcheck, Deep};
use crate::server::connect::Target;
use crate::server::session::{Session, Timeouts};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

pub(super) struct Work {
    pub target: Target,
    pub timeouts: Timeouts,
    pub amcheck: Amcheck,
    /// Of b-trees.
    pub deep: Deep,
    pub layout: Layout,
    pub server: Arc<Server>,
    pub progress: Arc<Progress>,
    pub todo: Mutex<VecDeque<Task>>,
    aside: Mutex<Vec<(Task, String)>>,
    done: Mutex<Vec<Task>>,
}

impl Work {
    pub(super) fn new(
        (target, timeouts): (Target, Timeouts),
        (amcheck, deep): (Amcheck, Deep),
        layout: Layout,
        server: Server,
        progress: Arc<Progress>,
        todo: VecDeque<Task>,
    ) -> Self {
        let server = Arc::new(server);
        let (aside, done) = Default::default();
        let todo = Mutex::new(todo);
        Self { target, timeouts, amcheck, deep, layout, server, progress, todo, aside, done }
    }

    fn asking(&self, session: Option<Session>) -> Asking {
        Asking {
            target: self.target.clone(),
            timeouts: self.timeouts,
            progress: self.progress.clone(),
            server: self.server.clone(),
            layout: self.layout,
            session,
        }
    }

    fn is_over(&self) -> bool {
        self.progress.stopped() || self.server.given_up().is_some()
    }

    fn finished(&self, task: Task) {
        self.progress.relations_done.fetch_add(1, Relaxed);
        locked(&self.done).push(task);
    }
}

/// Checks all of it; what was not reached says so.
pub(super) async fn all(
    work: &Arc<Work>,
    jobs: usize,
    session: Session,
    notes: &mut Vec<String>,
) -> Vec<Task> {
    let mut session = Some(session);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..jobs.max(1).min(locked(&work.todo).len()) {
        workers.spawn(worker(work.clone(), session.take()));
    }
    while let Some(ended) = workers.join_next().await {
        if let Err(panicked) = ended {
            notes.push(format!("a worker ended before its time: {panicked}"));
        }
    }
    let aside = std::mem::take(&mut *locked(&work.aside));
    alone(work, aside).await;
    for mut task in std::mem::take(&mut *locked(&work.todo)) {
        let why = format!("{STOPPED} its turn");
        task.reason = Some(work.server.given_up().unwrap_or(why));
        locked(&work.done).push(task);
    }
    std::mem::take(&mut *locked(&work.done))
}

async fn worker(work: Arc<Work>, session: Option<Session>) {
    let mut asking = work.asking(session);
    // Before it takes something: others may have sessions where this gets none.
    if asking.open().await.is_err() {
        return;
    }
    while !work.is_over() {
        let Some(mut task) = locked(&work.todo).pop_front() else { return };
        match check(&work, &mut asking, &mut task).await {
            Ok(()) => work.finished(task),
            Err(words) => {
                tracing::warn!("{}: the server went down: {words}", task.title);
                locked(&work.aside).push((task, words));
            }
        }
    }
}

/// Tries again what the server went down at.
async fn alone(work: &Work, aside: Vec<(Task, String)>) {
    let mut asking = work.asking(None);
    for (mut task, before) in aside {
        if work.is_over() {
            task.reason = Some(format!(
                "the server went down while it was checked, with others, and it was not tried \
                 again: {before}"
            ));
        } else if let Err(words) = check(work, &mut asking, &mut task).await {
            let (block, behind) = match task.ranges.as_mut().and_then(super::ranges::Ranges::next) {
                Some((first, end)) if !is_index(&task) && first < end => {
                    (format!("blocks {first} to {} of it were", end - 1), "what is behind them")
                }
                _ => ("it was".to_owned(), "it"),
            };
            let message =
                format!("the server went down twice while {block} checked, alone at last: {words}");
            let problem = task.problem("server_crash", None, message, work.layout);
            task.add(problem);
            work.progress.damaged.fetch_add(1, Relaxed);
            task.reason = Some(format!("the server goes down: {behind} was not looked at"));
        }
        work.finished(task);
    }
}

pub(super) fn is_index(task: &Task) -> bool {
    task.object.relkind == 'i'
}

async fn check(work: &Work, asking: &mut Asking, task: &mut Task) -> Result<(), String> {
    if !is_index(task) {
        return heap::check(asking, &work.amcheck, task).await;
    }
    let deep = if task.object.access_method == GIN { Deep::default() } else { work.deep };
    index::check(asking, &work.amcheck, deep, task).await
}
