//! The workers: each has a session, takes the largest relation that is left, or
//! some small ones, and loads it.
//!
//! Into tables that have their foreign keys already, rows that are referred to go
//! first: relations come in levels, and a level is done before the next begins.

use super::RestoreError;
use super::group;
use super::load::{Stop, relation};
use super::order;
use super::plan::{Table, include_files};
use super::shared::Shared;
use crate::output::restore_dir::Step;
use crate::output::restored::RelationStatus;
use crate::server::restoring::{Meaning, Refusal, TargetSession};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// So often a relation is begun, when the target goes away while it is loaded.
const TRIES_MAX: u32 = 3;

pub(super) async fn load_all(shared: &Arc<Shared>) -> Result<(), RestoreError> {
    let mut todo: Vec<Table> = shared.plan.tables.clone();
    todo.retain(|t| !is_done(shared, t));
    let levels = order::levels(shared, todo).await?;
    for level in levels {
        let jobs = shared.options.jobs.min(level.len());
        let queue = Arc::new(Mutex::new(VecDeque::from(level)));
        let mut workers = JoinSet::new();
        for _ in 0..jobs {
            workers.spawn(work(shared.clone(), queue.clone()));
        }
        let mut failed = None;
        while let Some(worker) = workers.join_next().await {
            match worker {
                Ok(Ok(())) => {}
                // The others do its work, if they can.
                Ok(Err(RestoreError::Open(error))) => failed = Some(error),
                Ok(Err(error)) => return Err(error),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
        let is_left = !queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        match failed {
            Some(error) if is_left => return Err(error.into()),
            Some(error) => shared.warn(format!("fewer connections than asked for: {error}")),
            None => {}
        }
    }
    Ok(())
}

/// Waits for workers of which each one's error is that of all.
pub(super) async fn all_ended(
    mut workers: JoinSet<Result<(), RestoreError>>,
) -> Result<(), RestoreError> {
    while let Some(worker) = workers.join_next().await {
        match worker {
            Ok(ended) => ended?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
    Ok(())
}

pub(super) fn is_done(shared: &Shared, table: &Table) -> bool {
    let results = shared.results();
    let loaded = results.relations.get(&table.relation.oid);
    loaded.is_some_and(|l| l.relation.status != RelationStatus::NotLoaded)
}

async fn work(shared: Arc<Shared>, queue: Arc<Mutex<VecDeque<Table>>>) -> Result<(), RestoreError> {
    let mut session = shared.session_again().await?;
    loop {
        let locked = || queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = group::take(&shared, &mut locked());
        if next.is_empty() || shared.progress.stopped() {
            return Ok(());
        }
        let loaded = load(&shared, &mut session, &mut next).await;
        // What this worker has no session for is for the others.
        next.into_iter().rev().for_each(|table| locked().push_front(table));
        loaded?;
    }
}

/// Loads some relations together, or else one by one. What is dealt with is taken
/// away from them.
async fn load(
    shared: &Shared,
    session: &mut TargetSession,
    next: &mut VecDeque<Table>,
) -> Result<(), RestoreError> {
    if next.len() > 1 && group::load(shared, session, next.make_contiguous()).await? {
        shared.progress.relations_done.fetch_add(next.len() as u64, Relaxed);
        next.clear();
    }
    while let Some(table) = next.front()
        && !shared.progress.stopped()
    {
        one(shared, session, table).await?;
        shared.progress.relations_done.fetch_add(1, Relaxed);
        next.pop_front();
    }
    Ok(())
}

/// Loads one relation, again if the target goes away meanwhile.
async fn one(
    shared: &Shared,
    session: &mut TargetSession,
    table: &Table,
) -> Result<(), RestoreError> {
    let mut tries = 1;
    loop {
        match relation(shared, session, table).await {
            Ok(()) | Err(Stop::Interrupted) => return Ok(()),
            Err(Stop::Fatal(error)) => return Err(error),
            Err(Stop::Refused(refusal, meaning)) => {
                if session.is_out_of_step() {
                    *session = shared.session_again().await?;
                }
                return not_loaded(shared, table, &refusal, meaning);
            }
            Err(Stop::Lost(refusal)) => {
                tracing::warn!("the connection to the target was lost: {refusal}");
                *session = shared.session_again().await?;
                if tries == TRIES_MAX {
                    return not_loaded(shared, table, &refusal, Meaning::SessionLost);
                }
                tries += 1;
            }
        }
    }
}

/// A relation of which nothing was loaded. What may be better later is not
/// written down as done.
pub(super) fn not_loaded(
    shared: &Shared,
    table: &Table,
    refusal: &Refusal,
    meaning: Meaning,
) -> Result<(), RestoreError> {
    let mut relation = table.report();
    include_files(&mut relation, shared.options.include);
    tracing::warn!("table {} was not loaded: {}", table.qualified, refusal.words.one_line());
    relation.status = RelationStatus::NotLoaded;
    relation.reason = Some(refusal.words.one_line());
    let step = Step::Relation { relation: Box::new(relation), rejects_len: 0, rejects: 0 };
    match meaning {
        Meaning::Environment | Meaning::SessionLost => {
            shared.take(step);
            shared.results().incomplete = true;
        }
        Meaning::Row | Meaning::Relation => shared.done(step)?,
    }
    Ok(())
}
