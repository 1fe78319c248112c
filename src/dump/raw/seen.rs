//! What became of the transactions of some tuples: the server is asked.

use super::{Interrupted, no_answer};
use crate::dump::Reading;
use crate::page::Tuple;
use crate::page::seen::{Asked, Fate, Sight, Snapshot, asked, sight};
use crate::server::fault::is_in_the_future;
use crate::server::raw::{fates_of, updater_of};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the transactions of a page.
#[derive(Default)]
pub(super) struct Transactions {
    fates: BTreeMap<Asked, Fate>,
}

impl Transactions {
    pub(super) fn sight(&self, tuple: Tuple<'_>) -> Sight {
        sight(tuple, |asked| self.fates.get(&asked).copied().unwrap_or(Fate::Unknown))
    }
}

/// Asks for all that the tuples need, which is often nothing.
pub(super) async fn ask<'t>(
    at: &Reading<'_>,
    tuples: impl Iterator<Item = Tuple<'t>>,
) -> Result<Transactions, Interrupted> {
    let wanted: BTreeSet<Asked> = tuples.flat_map(asked).collect();
    let mut known = Transactions::default();
    if wanted.is_empty() {
        return Ok(known);
    }
    let sees = match at.session.snapshot_sees().await {
        Ok(sees) => sees,
        Err(error) => no_answer(at, error).await.map(|_| String::new())?,
    };
    let Some(snapshot) = Snapshot::parse(&sees) else { return Ok(known) };
    // A MultiXactId stands for the transaction that has updated the tuple.
    let mut xids: BTreeMap<Asked, (u32, bool)> = BTreeMap::new();
    for asked in wanted {
        match asked {
            Asked::Xid(xid, hinted) => _ = xids.insert(asked, (xid, hinted)),
            Asked::Multi(multi) => match rows(at, &updater_of(multi)).await? {
                Err(_) => _ = known.fates.insert(asked, Fate::Unknown),
                Ok(rows) => match rows.first().map(|row| number(row.first())) {
                    None => _ = known.fates.insert(asked, Fate::Not),
                    Some(xid) => _ = xids.insert(asked, (xid.unwrap_or(0), false)),
                },
            },
        }
    }
    let full = |xid: u32| snapshot.full(xid).filter(|_| xid >= 3);
    // What a hint bit says of one that is past need not be asked for.
    let is_open =
        |&(xid, hinted): &(u32, bool)| full(xid).filter(|f| !hinted || *f >= snapshot.xmax);
    let open: BTreeSet<u64> = xids.values().filter_map(is_open).collect();
    let said = statuses(at, &open).await?;
    for (asked, (xid, hinted)) in xids {
        let fate = match full(xid) {
            None => Fate::Unknown,
            Some(full) => match said.get(&full) {
                Some(Fate::NeverBegun) => Fate::NeverBegun,
                _ if !snapshot.has_ended(full) => Fate::Not,
                _ if hinted => Fate::Committed,
                said => said.copied().unwrap_or(Fate::Unknown),
            },
        };
        known.fates.insert(asked, fate);
    }
    Ok(known)
}

/// All together; one by one, where one of them cannot be told.
async fn statuses(
    at: &Reading<'_>,
    xids: &BTreeSet<u64>,
) -> Result<BTreeMap<u64, Fate>, Interrupted> {
    let mut fates = BTreeMap::new();
    if xids.is_empty() {
        return Ok(fates);
    }
    if let Ok(rows) = rows(at, &fates_of(xids.iter().copied())).await? {
        fates.extend(rows.iter().filter_map(|row| fate(row)));
        return Ok(fates);
    }
    for &xid in xids {
        let fate = match rows(at, &fates_of([xid])).await? {
            Ok(rows) => rows.first().and_then(|row| fate(row)).map_or(Fate::Unknown, |f| f.1),
            Err(sqlstate) if is_in_the_future(&sqlstate) => Fate::NeverBegun,
            Err(_) => Fate::Unknown,
        };
        fates.insert(xid, fate);
    }
    Ok(fates)
}

fn number<N: std::str::FromStr>(field: Option<&Option<String>>) -> Option<N> {
    field?.as_ref()?.parse().ok()
}

/// A transaction, and what `txid_status` says of it: NULL, if it is too old.
fn fate(row: &[Option<String>]) -> Option<(u64, Fate)> {
    let fate = match row.get(1)?.as_deref() {
        Some("committed") => Fate::Committed,
        Some("aborted" | "in progress") => Fate::Not,
        _ => Fate::Unknown,
    };
    Some((number(row.first())?, fate))
}

/// The rows of an answer, or the SQLSTATE of what came in its place.
async fn rows(
    at: &Reading<'_>,
    sql: &str,
) -> Result<Result<Vec<Vec<Option<String>>>, String>, Interrupted> {
    match at.session.rows(sql).await {
        Ok(rows) => Ok(Ok(rows)),
        Err(error) => Ok(Err(no_answer(at, error).await?.sqlstate)),
    }
}
