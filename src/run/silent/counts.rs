//! Does an index-only scan count more rows than were read? On all-visible pages
//! it does not look at the heap. In the snapshot of the rows, so a healthy
//! relation gives the same number.

use super::asking::Asked;
use super::{Found, Looked, Missing, Run, path_now};
use crate::heap::Place;
use crate::run::generation::Numbered;
use crate::server::fault::{Fault, Phase};
use crate::server::relation::readable;
use crate::server::session::{ReadError, Session};
use crate::server::sql::literal;

/// An index-only scan is worth it where so many of ten pages are all-visible.
const ALL_VISIBLE_TENTHS: u64 = 9;

/// What an index knows of a relation.
pub(super) struct Counted {
    index: String,
    known: u64,
    read: u64,
}

impl Counted {
    /// What is missing, if something is.
    pub(super) fn loss(&self) -> Option<String> {
        let Self { index, known, read } = self;
        (known > read)
            .then(|| format!("index \"{index}\" knows {known} rows, and {read} can be read"))
    }
}

impl Run {
    /// Relations of which an index knows more rows than were read.
    pub(super) async fn counts_that_differ(&self, clean: &[Looked]) -> Vec<Found> {
        let worth_it = |r: &&Looked| {
            let visible = u64::from(r.relation.all_visible_estimated);
            r.blocks > 0 && visible * 10 >= r.blocks * ALL_VISIBLE_TENTHS
        };
        let ask =
            async |numbered: &Numbered, relation: &Looked| match count(
                &numbered.session,
                relation,
                numbered.snapshot,
            )
            .await
            {
                Ok(counted) => Asked::Answered(counted.and_then(|c| c.loss()).map(|told_by| {
                    Found { oid: relation.oid, missing: Missing::Rows, what: None, told_by }
                })),
                Err(error) => {
                    let what = format!("rows of relation {} could not be counted", relation.oid);
                    Asked::Failed { what, error, all: false }
                }
            };
        let relations = clean.iter().filter(worth_it).collect();
        let found = self.ask_of_all(relations, "rows were not counted by indexes", ask).await;
        found.into_iter().flatten().collect()
    }
}

/// The rows that an index-only scan counts; none where none would be used. What
/// was read in another snapshot is counted again in this one, since its rows may
/// be others.
pub(super) async fn count(
    session: &Session,
    relation: &Looked,
    snapshot: u32,
) -> Result<Option<Counted>, ReadError> {
    let path = Some(relation.path.as_str());
    if path_now(session, relation.oid).await?.as_deref() != path {
        return Ok(None);
    }
    let Ok(readable) = readable(session, &relation.relation) else { return Ok(None) };
    let count = format!("SELECT pg_catalog.count(*) FROM ONLY {}", readable.qualified);
    let number = |v: Option<String>| v.and_then(|v| v.parse::<u64>().ok());
    // The one allows such paths, the other makes them cheap.
    let index = "SET LOCAL enable_indexonlyscan TO on; SET LOCAL enable_indexscan TO on";
    session.execute(index).await?;
    let plan = session.rows(&format!("EXPLAIN {count}")).await?;
    let mut lines = plan.into_iter().filter_map(|row| row.into_iter().next().flatten());
    let index = lines.find_map(|line| {
        let (_, rest) = line.split_once("Index Only Scan using ")?;
        Some(unquoted(rest.split(" on ").next()?))
    });
    let known = match index {
        Some(index) if is_complete(session, relation.oid, &index).await? => {
            number(session.value_of_all(&count).await?).map(|known| (index, known))
        }
        _ => None,
    };
    session.leave_relation().await?;
    let Some((index, known)) = known else { return Ok(None) };
    let read = if relation.snapshots == [snapshot] {
        Some(relation.rows)
    } else {
        session.execute("SET LOCAL enable_seqscan TO on").await?;
        let read = number(session.value_of_all(&count).await?);
        session.leave_relation().await?;
        read
    };
    if path_now(session, relation.oid).await?.as_deref() != path {
        return Ok(None);
    }
    Ok(read.map(|read| Counted { index, known, read }))
}

/// Whether an index has an item for every row: of the relation itself, valid,
/// not partial, and a b-tree. (The planner takes the smallest that serves.)
async fn is_complete(session: &Session, oid: u32, index: &str) -> Result<bool, ReadError> {
    let sql = format!(
        "SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         WHERE i.indrelid = {oid} AND c.relname = {} AND {IS_COMPLETE}",
        literal(index)
    );
    Ok(session.value(&sql).await?.is_some())
}

/// Of `pg_index i` and `pg_class c`; 403 is the access method btree (`pg_am.dat`).
pub(super) const IS_COMPLETE: &str = "i.indisvalid AND i.indisready AND i.indislive \
    AND i.indpred IS NULL AND c.relam = 403";

/// A name as EXPLAIN writes it.
fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

/// The block behind the end of the file at which a scan failed, if it did: an
/// index has led it there.
pub(super) fn beyond(error: &ReadError, relation: &Looked, blocks: u64) -> Option<u32> {
    match error.fault(Phase::Rows, Some(&relation.path)) {
        Fault::Damage(Place::Page(block)) if u64::from(block) >= blocks => Some(block),
        _ => None,
    }
}
