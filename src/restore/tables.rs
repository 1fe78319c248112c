//! Tables and sequences, made by several sessions at a time.
//!
//! What the schema has before data is made in order, since not all that an entry
//! needs is among its dependencies. But most of it are tables, which stand
//! together, and whose order hardly ever matters. So these are tried first, each
//! session some of them in one transaction, all or none. What was refused so is
//! made in order, as everything else is.

use super::RestoreError;
use super::schema::{ENTRIES_PER_TRANSACTION, make};
use super::shared::{CommitError, Shared};
use super::workers::all_ended;
use crate::archive::Entry;
use crate::output::restore_dir::Step;
use crate::server::restoring::TargetSession;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// So many stand together at least: sessions are opened for them.
pub(super) const RUN_MIN: usize = 16;

/// What several sessions may make.
pub(super) fn is_one(entry: &Entry) -> bool {
    ["TABLE", "SEQUENCE", "SEQUENCE OWNED BY"].iter().any(|desc| entry.desc == *desc)
}

/// Makes of such entries what can be made so.
pub(super) async fn try_all(shared: &Arc<Shared>, entries: &[Entry]) -> Result<(), RestoreError> {
    let groups = groups(entries, shared.options.jobs);
    let jobs = shared.options.jobs.min(groups.len());
    if jobs < 2 || shared.progress.stopped() {
        return Ok(());
    }
    let queue = Arc::new(Mutex::new(VecDeque::from(groups)));
    let mut workers = JoinSet::new();
    for _ in 0..jobs {
        workers.spawn(work(shared.clone(), queue.clone()));
    }
    all_ended(workers).await
}

/// Entries of which one depends on another are in one group, in order. There is a
/// group for each job at least, if there are entries enough.
fn groups(entries: &[Entry], jobs: usize) -> Vec<Vec<Entry>> {
    let most = ENTRIES_PER_TRANSACTION.min(entries.len().div_ceil(jobs.max(1)));
    let mut family_of: HashMap<i32, usize> = HashMap::new();
    let mut families: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        let mut members = vec![at];
        for family in entry.dependencies.iter().filter_map(|d| family_of.get(d).copied()) {
            members.extend(families.remove(&family).unwrap_or_default());
        }
        members.sort_unstable();
        for member in &members {
            family_of.insert(entries[*member].dump_id, members[0]);
        }
        families.insert(members[0], members);
    }
    let mut groups: Vec<Vec<Entry>> = Vec::new();
    for family in families.into_values() {
        let family = family.into_iter().map(|at| entries[at].clone());
        match groups.last_mut() {
            Some(group) if group.len() + family.len() <= most => group.extend(family),
            _ => groups.push(family.collect()),
        }
    }
    groups.retain(|group| group.len() <= ENTRIES_PER_TRANSACTION);
    groups
}

type Queue = Arc<Mutex<VecDeque<Vec<Entry>>>>;

/// What it leaves in the queue is made in order.
async fn work(shared: Arc<Shared>, queue: Queue) -> Result<(), RestoreError> {
    let Ok(session) = shared.session_again().await else { return Ok(()) };
    while !shared.progress.stopped() && !session.is_closed() {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(group) = next else { break };
        match all_or_none(&shared, &session, &group).await {
            Ok(()) => {}
            Err(CommitError::Refused(refusal)) => {
                tracing::debug!(%refusal, "these entries are made in order");
                session.abandon().await;
            }
            Err(CommitError::Fatal(error)) => return Err(error),
        }
    }
    Ok(())
}

async fn all_or_none(
    shared: &Shared,
    session: &TargetSession,
    group: &[Entry],
) -> Result<(), CommitError> {
    let xid = session.begin().await?;
    let mut not_made = Vec::new();
    for entry in group {
        not_made.extend(make(shared, session, entry).await?);
    }
    let made = group.iter().map(|e| e.dump_id).collect();
    let step = Step::entries(made, not_made);
    shared.commit(session, xid, step, None).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Section;

    fn entries(of: &[(i32, &[i32])]) -> Vec<Entry> {
        let entry = |(id, dependencies): &(i32, &[i32])| {
            let mut entry = Entry::new(*id, "TABLE", "t", Section::PreData);
            entry.dependencies = dependencies.to_vec();
            entry
        };
        of.iter().map(entry).collect()
    }

    fn ids(groups: Vec<Vec<Entry>>) -> Vec<Vec<i32>> {
        groups.iter().map(|g| g.iter().map(|e| e.dump_id).collect()).collect()
    }

    #[test]
    fn what_depends_on_each_other_stays_together_and_in_order() {
        let all = entries(&[(1, &[]), (2, &[99]), (3, &[2]), (4, &[]), (5, &[1, 3])]);
        assert_eq!(ids(groups(&all, 1)), [[1, 2, 3, 5, 4]]);
        assert_eq!(ids(groups(&all, 2)), [vec![1, 2, 3, 5], vec![4]]);
    }

    #[test]
    fn a_group_has_no_more_than_goes_into_a_transaction() {
        let most = i32::try_from(ENTRIES_PER_TRANSACTION).unwrap();
        let alone: Vec<(i32, &[i32])> = (0..most + 1).map(|id| (id, &[][..])).collect();
        let of = groups(&entries(&alone), 1);
        assert_eq!(of.iter().map(Vec::len).collect::<Vec<_>>(), [ENTRIES_PER_TRANSACTION, 1]);
        // A family that is larger is made in order.
        let root = [0];
        let family: Vec<(i32, &[i32])> =
            (0..most + 1).map(|id| (id, if id == 0 { &[][..] } else { &root[..] })).collect();
        assert!(groups(&entries(&family), 1).is_empty());
    }
}
