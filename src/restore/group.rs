//! Small relations, several of them in one transaction.
//!
//! A transaction is written down before it is committed, and both are made durable:
//! of a small relation that takes longer than its rows. So small relations go
//! together, on the likely terms that every row of them is taken, and with no
//! savepoint. If anything is otherwise, nothing of the transaction is kept, and
//! each relation is loaded in one of its own, as all others are.

use super::load::{self, NO_TRIGGERS, Stop};
use super::plan::{Table, untouched_file};
use super::shared::Shared;
use super::{RestoreError, count};
use crate::output::manifest::{FileEntry, RowClass};
use crate::output::restore_dir::Step;
use crate::output::restored::{self, Relation, RelationStatus};
use crate::output::{RowReader, Rows};
use crate::server::restoring::{CopyIn, Refusal, TargetSession, sql};
use std::collections::VecDeque;

/// So many relations go together: each holds locks to the end.
const RELATIONS_MAX: usize = 32;

/// So much of files, compressed, goes together: it is loaded twice where a row is
/// refused.
const BYTES_MAX: u64 = 4 << 20;

/// A group is at most this part of what is left for each worker, so that they end
/// together.
const OF_WHAT_IS_LEFT: usize = 2;

/// Takes the next relation, and with it those that go into the same transaction.
pub(super) fn take(shared: &Shared, queue: &mut VecDeque<Table>) -> VecDeque<Table> {
    let jobs = shared.options.jobs.max(1);
    let most = (queue.len() / (OF_WHAT_IS_LEFT * jobs)).clamp(1, RELATIONS_MAX);
    let mut group: VecDeque<Table> = queue.pop_front().into_iter().collect();
    let mut bytes: u64 = group.iter().map(|t| t.bytes).sum();
    if !group.iter().all(|t| is_plain(shared, t)) {
        return group;
    }
    while group.len() < most
        && queue.front().is_some_and(|t| bytes + t.bytes <= BYTES_MAX && is_plain(shared, t))
        && let Some(next) = queue.pop_front()
    {
        bytes += next.bytes;
        group.push_back(next);
    }
    group
}

/// Whether its rows go into the table as they are, and nothing speaks against
/// their being taken. Tables that were there before may have triggers, and users:
/// none of them is locked longer than its own rows take.
fn is_plain(shared: &Shared, table: &Table) -> bool {
    let include = shared.options.include;
    let (rejects_len, _) = shared.rejects_of(table.relation.oid);
    shared.options.sections.pre_data
        && !shared.options.skip_conflicts
        && !table.with_oids
        && rejects_len == 0
        && table.included(include).all(|f| f.class == RowClass::Clean)
}

/// What loading a relation comes to where every row of the dump is taken.
pub(super) fn all_taken(shared: &Shared, table: &Table) -> Relation {
    let include = shared.options.include;
    let loaded = |file: &FileEntry| restored::File {
        included: true,
        read: file.rows,
        loaded: file.rows,
        ..untouched_file(file)
    };
    let files = table.included(include).map(loaded).chain(table.left_out(include)).collect();
    Relation { status: RelationStatus::Loaded, files, ..table.report() }
}

/// Loads all of them, or none. False: none, and the session is fit for another
/// transaction or closed.
pub(super) async fn load(
    shared: &Shared,
    session: &mut TargetSession,
    group: &[Table],
) -> Result<bool, RestoreError> {
    match try_all(shared, session, group).await {
        Ok((rows, bytes)) => {
            count(&shared.progress, rows, bytes);
            Ok(true)
        }
        Err(Stop::Fatal(error)) => Err(error),
        Err(stop) => {
            tracing::debug!(?stop, "these relations are loaded one by one");
            session.abandon().await;
            if session.is_out_of_step() || session.is_closed() {
                *session = shared.session_again().await?;
            }
            Ok(false)
        }
    }
}

/// Returns how many rows were loaded, and how long they are as text.
async fn try_all(
    shared: &Shared,
    session: &TargetSession,
    group: &[Table],
) -> Result<(u64, u64), Stop> {
    let xid = session.begin().await.map_err(load::stop)?;
    let relations = group.iter().map(|t| all_taken(shared, t)).collect();
    let step = Step::Relations { relations };
    let expected = shared.expect(&xid, step.clone()).map_err(load::fatal)?;
    if shared.options.disable_triggers {
        session.execute(NO_TRIGGERS).await.map_err(load::stop)?;
    }
    let mut files = VecDeque::new();
    for table in group {
        files.extend(table.included(shared.options.include).map(|file| (table, file)));
    }
    let (mut rows, mut bytes) = (0, 0);
    let mut next = begin(shared, session, &mut files).await?;
    while let Some(mut sending) = next {
        bytes += sending.send_all(shared).await?;
        rows += sending.file.rows;
        // While the server is still busy with the last rows.
        let Sending { copy, file, reader, .. } = sending;
        let (taken, begun) = tokio::join!(copy.finish(), begin(shared, session, &mut files));
        is_whole(&reader, file, taken.map_err(load::stop)?)?;
        next = begun?;
    }
    for table in group {
        // What a run has left that was not committed is of no table now.
        load::take_up(shared, table)?;
    }
    load::commit(shared, session, xid, step, Some(expected)).await?;
    Ok((rows, bytes))
}

/// A file that is being sent.
struct Sending<'a> {
    copy: CopyIn,
    file: &'a FileEntry,
    reader: RowReader,
    first: Option<Rows>,
}

/// Begins with the next file that has rows.
async fn begin<'a>(
    shared: &Shared,
    session: &TargetSession,
    files: &mut VecDeque<(&'a Table, &'a FileEntry)>,
) -> Result<Option<Sending<'a>>, Stop> {
    while let Some((table, file)) = files.pop_front() {
        let path = shared.options.dir.join(&file.path);
        let mut reader = RowReader::open(&path).await.map_err(|e| refused(e.to_string()))?;
        let first = reader.next().await;
        if first.is_none() {
            is_whole(&reader, file, 0)?;
            continue;
        }
        let copy = sql::copy_in(&table.qualified, &table.columns, shared.plan.encoding());
        let copy = session.copy_in(&copy).await.map_err(load::stop)?;
        return Ok(Some(Sending { copy, file, reader, first }));
    }
    Ok(None)
}

impl Sending<'_> {
    /// Returns how long the rows are.
    async fn send_all(&mut self, shared: &Shared) -> Result<u64, Stop> {
        let mut bytes = 0;
        let mut next = self.first.take();
        while let Some(rows) = next {
            if shared.progress.stopped() {
                return Err(Stop::Interrupted);
            }
            bytes += rows.text.len() as u64;
            self.copy.send(rows.text).await.map_err(load::stop)?;
            next = self.reader.next().await;
        }
        Ok(bytes)
    }
}

/// What is not as the manifest says is a refusal here.
fn is_whole(reader: &RowReader, file: &FileEntry, taken: u64) -> Result<(), Stop> {
    match reader.complaint(file) {
        Some(why) => Err(refused(why)),
        None if taken != file.rows || reader.torn().is_some() => {
            Err(refused("the server did not take every row".to_owned()))
        }
        None => Ok(()),
    }
}

fn refused(why: String) -> Stop {
    load::stop(Refusal::ours(why))
}
