//! What the schema has after data: indexes and constraints, several tables at a
//! time, and everything else in order, each in a transaction of its own.
//!
//! An entry is begun when all that it depends on is dealt with. Indexes and keys
//! hold a lock on their table, so of one table only one is made at a time; what
//! is neither (foreign keys and triggers lock two) is made while nothing else is.

use super::schema::{self, When, entries, fatal, is_for_now, is_made_already, refused};
use super::shared::{CommitError, Shared};
use super::{RestoreError, foreign_keys, keys};
use crate::archive::Entry;
use crate::output::restore_dir::Step;
use crate::output::restored::NotMade;
use crate::server::fault;
use crate::server::restoring::{Refusal, TargetSession};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::task::JoinSet;

/// So often an entry is made, when the target goes away meanwhile.
const TRIES_MAX: u32 = 3;

/// What is left to be made, and what is being made.
struct Schedule {
    /// In the order of the table of contents.
    todo: Vec<Entry>,
    /// Dump ids of what is left, being made included.
    open: HashSet<i32>,
    /// Tables of what is being made.
    tables: HashSet<i32>,
    running: usize,
    /// Whether what is being made must be alone.
    alone: bool,
    relations: HashSet<i32>,
}

impl Schedule {
    fn new(todo: Vec<Entry>, relations: HashSet<i32>) -> Self {
        let open = todo.iter().map(|e| e.dump_id).collect();
        Self { todo, open, tables: HashSet::new(), running: 0, alone: false, relations }
    }

    /// The tables, by their dump ids, that an entry locks. None: it is made alone.
    fn locks(&self, entry: &Entry) -> Option<Vec<i32>> {
        let goes_along = entry.desc == "INDEX" || entry.desc == "CONSTRAINT";
        let tables: Vec<i32> =
            entry.dependencies.iter().copied().filter(|d| self.relations.contains(d)).collect();
        (goes_along && !tables.is_empty()).then_some(tables)
    }

    /// The next entry that can be begun.
    fn next(&mut self) -> Option<Entry> {
        if self.alone {
            return None;
        }
        let is_ready = |entry: &Entry| {
            let waits = entry.dependencies.iter().any(|d| self.open.contains(d));
            let is_free = match self.locks(entry) {
                Some(tables) => tables.iter().all(|t| !self.tables.contains(t)),
                None => self.running == 0,
            };
            !waits && is_free
        };
        // Where entries wait for each other in a circle, the first goes first.
        let at = self.todo.iter().position(is_ready);
        let at = at.or((self.running == 0 && !self.todo.is_empty()).then_some(0))?;
        let entry = self.todo.remove(at);
        match self.locks(&entry) {
            Some(tables) => self.tables.extend(tables),
            None => self.alone = true,
        }
        self.running += 1;
        Some(entry)
    }

    fn ended(&mut self, entry: &Entry) {
        self.open.remove(&entry.dump_id);
        for table in self.locks(entry).unwrap_or_default() {
            self.tables.remove(&table);
        }
        self.alone = false;
        self.running -= 1;
    }
}

pub(super) async fn post_data(shared: &Arc<Shared>) -> Result<(), RestoreError> {
    let mut todo = entries(shared, When::PostData);
    todo.retain(|e| !shared.results().entries.contains(&e.dump_id));
    if todo.is_empty() {
        return Ok(());
    }
    let is_relation = |e: &&Entry| e.desc == "TABLE" || e.desc == "MATERIALIZED VIEW";
    let relations = shared.plan.entries().filter(is_relation).map(|e| e.dump_id).collect();
    let mut schedule = Schedule::new(todo, relations);
    let mut idle: Vec<TargetSession> = Vec::new();
    let mut running = JoinSet::new();
    loop {
        while running.len() < shared.options.jobs
            && !shared.progress.stopped()
            && let Some(entry) = schedule.next()
        {
            let session = match idle.pop() {
                Some(session) => session,
                None => shared.session_again().await?,
            };
            let shared = shared.clone();
            running.spawn(async move {
                let (session, made) = one(&shared, session, &entry).await;
                (session, entry, made)
            });
        }
        let Some(ended) = running.join_next().await else { return Ok(()) };
        match ended {
            Ok((session, entry, made)) => {
                made?;
                schedule.ended(&entry);
                idle.extend(session);
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Ok(()),
        }
    }
}

/// Makes one entry, again if the target goes away meanwhile.
async fn one(
    shared: &Shared,
    mut session: TargetSession,
    entry: &Entry,
) -> (Option<TargetSession>, Result<(), RestoreError>) {
    let mut tries = 1;
    loop {
        match make(shared, &session, entry).await {
            Ok(()) => return (Some(session), Ok(())),
            Err(CommitError::Refused(refusal)) if refusal.is_lost() && tries < TRIES_MAX => {
                tracing::warn!("the connection to the target was lost: {refusal}");
                tries += 1;
                session = match shared.session_again().await {
                    Ok(session) => session,
                    Err(error) => return (None, Err(error.into())),
                };
            }
            Err(CommitError::Refused(refusal)) => {
                let ended = give_up(shared, &session, entry, &refusal).await;
                return ((!refusal.is_lost()).then_some(session), ended);
            }
            Err(error) => return (None, Err(fatal(error))),
        }
    }
}

/// What could not be made for now is tried again by a later run.
async fn give_up(
    shared: &Shared,
    session: &TargetSession,
    entry: &Entry,
    refusal: &Refusal,
) -> Result<(), RestoreError> {
    if !refusal.is_lost() {
        session.rollback().await?;
    }
    if is_for_now(refusal) {
        let not_made = refused(entry, refusal);
        let mut results = shared.results();
        results.not_made.push(not_made);
        results.incomplete = true;
        return Ok(());
    }
    Ok(shared.done(not_made(entry, refusal))?)
}

/// In one transaction: the entry, or, if rows are in its way, what can be had of
/// it.
async fn make(shared: &Shared, session: &TargetSession, entry: &Entry) -> Result<(), CommitError> {
    let xid = session.begin().await?;
    session.save().await?;
    let step = match schema::make(shared, session, entry).await {
        Ok(owner) => made(entry, owner),
        Err(refusal) if is_for_now(&refusal) => return Err(refusal.into()),
        Err(refusal) => {
            session.undo().await?;
            go_around(shared, session, entry, refusal).await?
        }
    };
    shared.commit(session, xid, step, None).await
}

/// It was made, perhaps without its owner.
pub(super) fn made(entry: &Entry, owner: Option<NotMade>) -> Step {
    let made = vec![entry.dump_id];
    let not_made = owner.into_iter().collect();
    Step::entries(made, not_made)
}

pub(super) fn not_made(entry: &Entry, refusal: &Refusal) -> Step {
    let not_made = vec![refused(entry, refusal)];
    Step::entries(Vec::new(), not_made)
}

async fn go_around(
    shared: &Shared,
    session: &TargetSession,
    entry: &Entry,
    refusal: Refusal,
) -> Result<Step, CommitError> {
    let code = refusal.words.sqlstate.as_str();
    if is_made_already(shared, entry, &refusal) {
        Ok(made(entry, None))
    } else if fault::is_duplicate_key(code) {
        keys::make_unique(shared, session, entry, refusal).await
    } else if fault::is_orphan(code) {
        foreign_keys::make_not_valid(shared, session, entry, refusal).await
    } else {
        Ok(not_made(entry, &refusal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Section;

    fn entry(id: i32, desc: &str, dependencies: &[i32]) -> Entry {
        let mut entry = Entry::new(id, desc, "x", Section::PostData);
        entry.dependencies = dependencies.to_vec();
        entry
    }

    #[test]
    fn of_a_table_one_index_is_made_at_a_time_and_a_foreign_key_alone() {
        let todo = vec![
            entry(11, "CONSTRAINT", &[1]),
            entry(12, "INDEX", &[1]),
            entry(13, "INDEX", &[2]),
            entry(14, "FK CONSTRAINT", &[1, 2, 11]),
            entry(15, "INDEX ATTACH", &[12]),
        ];
        let mut schedule = Schedule::new(todo.clone(), HashSet::from([1, 2]));
        let mut next = || schedule.next().map(|e| e.dump_id);
        assert_eq!((next(), next(), next()), (Some(11), Some(13), None));
        schedule.ended(&todo[0]);
        assert_eq!(schedule.next().map(|e| e.dump_id), Some(12));
        schedule.ended(&todo[2]);
        assert_eq!(schedule.next(), None, "the others are made alone");
        schedule.ended(&todo[1]);
        assert_eq!(schedule.next().map(|e| e.dump_id), Some(14));
        assert_eq!(schedule.next(), None);
        schedule.ended(&todo[3]);
        assert_eq!(schedule.next().map(|e| e.dump_id), Some(15));
    }

    #[test]
    fn a_circle_ends() {
        let todo = vec![entry(1, "RULE", &[2]), entry(2, "RULE", &[1])];
        let mut schedule = Schedule::new(todo.clone(), HashSet::new());
        assert_eq!(schedule.next().map(|e| e.dump_id), Some(1));
        schedule.ended(&todo[0]);
        assert_eq!(schedule.next().map(|e| e.dump_id), Some(2));
    }
}
