//! The level of rows: every row of every relation is read, with its TOAST values,
//! and nothing is kept.

use super::NightlyError;
use super::databases::{Found, gone_on_with};
use super::merge;
use crate::output::manifest::{self, Manifest, ReadBlocks, RelationStatus, RunStatus};
use crate::progress::Progress;
use crate::report::from_manifest;
use crate::report::model::{Level, Relation, Status, Written};
use crate::run::{
    ALTERED, GONE, NOT_ALL_READ, NOT_READ, REPLACED, REPLACED_MEANWHILE, RunOptions, run,
};
use crate::server::connect::Target;
use crate::server::counters::{Counters, counters};
use crate::server::session::{Session, Timeouts};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So often what others have rewritten is read again.
const AGAIN_MAX: u32 = 3;

pub(super) async fn read(
    target: Target,
    options: RunOptions,
    progress: Arc<Progress>,
) -> Result<Found, NightlyError> {
    let timeouts = options.timeouts;
    let before = counted(&target, timeouts).await;
    let (manifest, status) = read_again(&target, options, &progress).await?;
    let after = counted(&target, timeouts).await;
    let report = from_manifest(&manifest, &|_| None);
    let (server, mut notes, relations) = (report.server, report.notes, report.relations);
    let read = manifest.relations.iter().filter_map(|r| Some((r.oid, r.read?)));
    let read: BTreeMap<u32, ReadBlocks> = read.collect();
    let mut relations = with_catalogs(relations);
    for relation in &mut relations {
        if read.get(&relation.oid).is_some_and(|read| read.from > 0) {
            // These are of a part.
            relation.rows = None;
        }
        relation.status = of_level(relation);
        let is_read = matches!(relation.status, Status::Clean | Status::Damaged);
        relation.levels = if is_read { vec![Level::Rows] } else { Vec::new() };
        relation.written = written(relation, before.as_ref(), after.as_ref());
    }
    notes.extend(gone_on_with(&relations, &read));
    Ok(Found { server, pages: None, relations, notes, read, status })
}

/// Reads once more, in a new snapshot, what others have rewritten meanwhile: a
/// check need not see all relations at one moment, as a dump has to. With what is
/// known of the whole beside the relations.
async fn read_again(
    target: &Target,
    options: RunOptions,
    progress: &Arc<Progress>,
) -> Result<(Manifest, RunStatus), NightlyError> {
    let mut manifest = run(target.clone(), options.clone(), progress.clone()).await?;
    let is_failed = |r: &manifest::Relation| r.status == RelationStatus::Failed;
    // Of relations their own entries tell.
    let status = match manifest.status {
        RunStatus::Incomplete if manifest.relations.iter().any(is_failed) => RunStatus::Clean,
        status => status,
    };
    let mut gone = BTreeSet::new();
    for _ in 0..AGAIN_MAX {
        let is_of_others = |r: &&manifest::Relation| {
            let reasons = [ALTERED, GONE, REPLACED, REPLACED_MEANWHILE];
            r.reason.as_ref().is_some_and(|why| reasons.iter().any(|one| why.starts_with(one)))
        };
        let failed = manifest.relations.iter().filter(is_of_others).map(|r| r.oid);
        let only: BTreeSet<u32> = failed.filter(|oid| !gone.contains(oid)).collect();
        if only.is_empty() || progress.stopped() {
            break;
        }
        progress.begin_again();
        let options = RunOptions { only: only.clone(), ..options.clone() };
        let again = run(target.clone(), options, progress.clone()).await?;
        let mut again: BTreeMap<u32, manifest::Relation> =
            again.relations.into_iter().map(|r| (r.oid, r)).collect();
        for relation in manifest.relations.iter_mut().filter(|r| only.contains(&r.oid)) {
            match again.remove(&relation.oid) {
                Some(read) => *relation = read,
                None => {
                    relation.reason = Some(GONE.to_owned());
                    gone.insert(relation.oid);
                }
            }
        }
    }
    Ok((manifest, status))
}

/// A dump fails for what it has not read; here some of that is no failure.
fn of_level(relation: &Relation) -> Status {
    match (relation.status, relation.reason.as_deref()) {
        // What was reached of it is enough to know.
        (Status::Incomplete, Some(NOT_READ | NOT_ALL_READ)) => match relation.problems_count() {
            0 => Status::NotReached,
            _ => Status::Damaged,
        },
        // Of what is checked it is none any more.
        (Status::Incomplete, Some(GONE)) => Status::Skipped,
        (status, _) => status,
    }
}

/// What could not be read of a catalog when relations were looked for is damage of
/// the catalog that was then read as any other table.
fn with_catalogs(relations: Vec<Relation>) -> Vec<Relation> {
    let (nameless, mut named): (Vec<_>, Vec<_>) =
        relations.into_iter().partition(|r| r.oid == 0 && r.schema == "pg_catalog");
    for catalog in nameless {
        match named.iter_mut().find(|r| r.key() == catalog.key()) {
            Some(known) => merge::add(known, catalog),
            None => named.push(catalog),
        }
    }
    named
}

/// What the statistics say now. Who cannot know goes without.
async fn counted(target: &Target, timeouts: Timeouts) -> Option<Counters> {
    let session = Session::open(target, timeouts, None).await.ok()?;
    counters(&session).await.ok()
}

fn written(
    relation: &Relation,
    before: Option<&Counters>,
    after: Option<&Counters>,
) -> Option<Written> {
    let [first, last] = [before?, after?].map(|counters| counters.relations.get(&relation.oid));
    let (first, last) = (first?, last?);
    let is_same = before?.reset == after?.reset && first.relfilenode == last.relfilenode;
    is_same.then(|| Written {
        before: first.rows,
        after: last.rows,
        reset: after.and_then(|counters| counters.reset.clone()),
        relfilenode: last.relfilenode,
    })
}
