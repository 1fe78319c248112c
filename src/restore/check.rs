//! The proof: whether the target has the rows that it should have, and no others.
//!
//! The content of a relation ([`Content`]) does not depend on the order of its
//! rows, and two equal rows count twice. What should be there is what the files
//! have that were loaded (or the database that was dumped, with `--source`), less
//! what is in the rejects. Nothing is kept in memory but the sums.

mod objects;
mod oversize;

use super::plan::Table;
use super::shared::{Problem, Shared};
use super::workers::all_ended;
use super::{RestoreError, count};
use crate::output::manifest::{RelationKind, RelationStatus, RowClass};
use crate::output::rejects::read_rejects;
use crate::output::restored::Check;
use crate::output::{Content, OutputError, RowReader};
use crate::server::connect::Target;
use crate::server::restoring::{Refusal, TargetSession, sql};
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

pub(super) async fn check_all(shared: &Arc<Shared>) -> Result<(), RestoreError> {
    shared.progress.blocks.fetch_add(shared.plan.rows(shared.options.include), Relaxed);
    // Large objects that the dump was not asked for are none of its business.
    let is_read = |t: &&Table| t.relation.status != RelationStatus::Skipped;
    let objects = shared.plan.large_objects.iter().filter(is_read);
    let all = shared.plan.tables.iter().chain(objects).cloned();
    let queue = Arc::new(Mutex::new(all.collect::<VecDeque<Table>>()));
    let mut workers = JoinSet::new();
    for _ in 0..shared.options.jobs {
        workers.spawn(work(shared.clone(), queue.clone()));
    }
    all_ended(workers).await
}

async fn work(shared: Arc<Shared>, queue: Arc<Mutex<VecDeque<Table>>>) -> Result<(), RestoreError> {
    let session = shared.session_again().await?;
    read_only(&session).await?;
    let source = match &shared.options.source {
        Some(target) => Some(source(target).await?),
        None => None,
    };
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(table) = next else { return Ok(()) };
        if shared.progress.stopped() {
            shared.results().incomplete = true;
            return Ok(());
        }
        let checked = match check(&shared, &session, source.as_ref(), &table).await {
            Ok(checked) => checked,
            Err(Problem::Refused(refusal)) if refusal.is_lost() => return Err(refusal.into()),
            Err(Problem::Refused(refusal)) => failed(&refusal.words.one_line()),
            Err(Problem::Output(error)) => failed(&error.to_string()),
        };
        shared.results().checks.insert(table.relation.oid, checked);
    }
}

async fn source(target: &Target) -> Result<TargetSession, RestoreError> {
    let session = TargetSession::open(target).await?;
    read_only(&session).await?;
    Ok(session)
}

async fn read_only(session: &TargetSession) -> Result<(), Refusal> {
    session.execute("SET default_transaction_read_only TO on").await
}

fn failed(why: &str) -> Check {
    let nothing = String::new();
    Check {
        equal: false,
        expected: 0,
        found: 0,
        expected_hash: nothing.clone(),
        found_hash: nothing,
        failed: Some(why.to_owned()),
    }
}

fn compared(expected: Content, found: Content) -> Check {
    Check {
        equal: expected == found,
        expected: expected.rows,
        found: found.rows,
        expected_hash: expected.hash.to_string(),
        found_hash: found.hash.to_string(),
        failed: None,
    }
}

async fn check(
    shared: &Shared,
    session: &TargetSession,
    source: Option<&TargetSession>,
    table: &Table,
) -> Result<Check, Problem> {
    if table.relation.kind == RelationKind::LargeObjects {
        return objects::check(shared, session, source, table).await;
    }
    let rejected = match source {
        None => rejected(shared, table)?,
        Some(_) => Rejected::default(),
    };
    let known = oversize::known(shared, table, &rejected.oversize).await?;
    let expected = match source {
        Some(source) => in_database(shared, source, table, known.as_ref()).await?,
        None => {
            let mut sum = in_files(shared, table).await?;
            known.iter().flat_map(oversize::Known::rows).for_each(|row| sum.add(row.as_bytes()));
            sum - rejected.sum
        }
    };
    let found = in_database(shared, session, table, known.as_ref()).await?;
    count(&shared.progress, found.rows, 0);
    Ok(compared(expected, found))
}

/// What is in the rejects of a table.
#[derive(Default)]
struct Rejected {
    sum: Content,
    /// Rows that are too long, by their lines.
    oversize: HashSet<u64>,
}

fn rejected(shared: &Shared, table: &Table) -> Result<Rejected, OutputError> {
    let mut rejected = Rejected::default();
    if shared.rejects_of(table.relation.oid).0 == 0 {
        return Ok(rejected);
    }
    let path = shared.dir.path().join(format!("{}.csv", table.stem));
    read_rejects(&path, |class, line, row| match class {
        // What was cut off was in no file as a whole.
        "torn" => {}
        "oversize" => rejected.oversize.extend(line),
        // These come from the target, where they have no OIDs.
        "duplicate" => rejected.sum.add(row),
        _ => rejected.sum.add(table.without_oid(row)),
    })?;
    Ok(rejected)
}

async fn in_files(shared: &Shared, table: &Table) -> Result<Content, OutputError> {
    let mut sum = Content::default();
    for file in table.included(shared.options.include).filter(|f| f.class != RowClass::Oversize) {
        let mut reader = RowReader::open(&shared.options.dir.join(&file.path)).await?;
        while let Some(rows) = reader.next().await {
            sum.add_all(&rows.text, |row| table.without_oid(row));
        }
    }
    Ok(sum)
}

/// `known`: rows that are too long as text.
async fn in_database(
    shared: &Shared,
    session: &TargetSession,
    table: &Table,
    known: Option<&oversize::Known>,
) -> Result<Content, Refusal> {
    let mut sum = Content::default();
    let apart = match known {
        Some(known) => oversize::find(session, table, known).await?,
        None => oversize::Apart::default(),
    };
    apart.rows.iter().for_each(|row| sum.add(row.as_bytes()));
    let (columns, encoding) = (&table.columns, shared.plan.encoding());
    let copy = sql::copy_out(&table.qualified, columns, encoding, &apart.places);
    session.copy_out(&copy, |rows| sum.add_all(rows, |row| row)).await?;
    Ok(sum)
}
