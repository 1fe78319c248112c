//! Which of the rows that an index knows in lost places are there all the same:
//! the entry was of an old version, and a newer one was read.
//!
//! Rows are looked for by their key where the same index points to for that
//! key, and beside lost tuples, by the exact places that are not lost.

use super::places::Places;
use super::scan::Keys;
use crate::heap::{Ctid, OffsetNumber};
use crate::output::lost_keys::Value;
use crate::server::copy_text::{fields, rows_in};
use crate::server::session::{ReadError, Session};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

/// So many blocks are read again at most, tuple by tuple.
const BLOCKS_MAX: usize = 4096;

/// At a time: the statement has a place for each line pointer there may be.
const BLOCKS_PER_READ: usize = 16;

/// What is needed to look for rows by their key.
pub(super) struct Key<'a> {
    /// `"schema"."name"`.
    pub qualified: &'a str,
    /// Quoted names.
    pub columns: Vec<String>,
    /// Their places in what is known of a row.
    pub slots: Vec<usize>,
    pub tuples_max: OffsetNumber,
    pub encoding: &'a str,
}

impl Key<'_> {
    /// None if too little is known.
    fn of(&self, values: &[Value]) -> Option<Vec<Vec<u8>>> {
        let text = |slot: &usize| match values.get(*slot) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        };
        self.slots.iter().map(text).collect()
    }

    /// The places in some blocks that are not lost, as elements of an array.
    pub(super) fn readable_of(&self, places: &Places, blocks: &[u32]) -> Option<String> {
        let mut list = String::new();
        for &block in blocks {
            for offset in 1..=self.tuples_max {
                if places.is_readable(Ctid::new(block, offset)) {
                    let comma = if list.is_empty() { "" } else { "," };
                    // Writing to a String cannot fail.
                    let _ = write!(list, "{comma}\"({block},{offset})\"");
                }
            }
        }
        (!list.is_empty()).then_some(list)
    }
}

/// Takes out rows of which another version was read, or was lost for certain.
/// Returns how many blocks were not looked at.
pub(super) async fn take_out(
    session: &Session,
    key: &Key<'_>,
    places: &Places,
    keys: &mut Keys,
) -> Result<usize, ReadError> {
    let mut by_key: HashMap<Vec<Vec<u8>>, Vec<Ctid>> = HashMap::new();
    let mut certain = Vec::new();
    let mut blocks = BTreeSet::new();
    let beside = places.tuples_by_block();
    for (at, known) in &keys.rows {
        let Some(values) = key.of(&known.values) else { continue };
        if known.certain {
            certain.push(values);
            continue;
        }
        let elsewhere = known.others.iter().map(|(block, offset)| Ctid::new(*block, *offset));
        blocks.extend(elsewhere.filter(|at| places.is_readable(*at)).map(|at| at.block));
        blocks.extend(Some(at.block).filter(|block| beside.contains_key(block)));
        by_key.entry(values).or_default().push(*at);
    }
    let mut take_out = |values: Vec<Vec<u8>>, keys: &mut Keys| {
        for at in by_key.remove(&values).unwrap_or_default() {
            keys.rows.remove(&at);
        }
    };
    for values in certain {
        take_out(values, keys);
    }
    let all: Vec<u32> = blocks.into_iter().collect();
    let looked_at = &all[..all.len().min(BLOCKS_MAX)];
    let mut todo: Vec<&[u32]> = looked_at.chunks(BLOCKS_PER_READ).collect();
    let mut refused: BTreeSet<u32> = BTreeSet::new();
    while let Some(some) = todo.pop() {
        match read_keys(session, key, places, some).await {
            Ok(found) => found.into_iter().for_each(|values| take_out(values, keys)),
            Err(e) if e.sqlstate().is_empty() || e.is_hung() => return Err(e),
            Err(_) => {
                session.leave_relation().await?;
                match some.len() {
                    1 => refused.extend(some),
                    n => todo.extend(<[_; 2]>::from(some.split_at(n / 2))),
                }
            }
        }
    }
    // The server gives no row of them, but what is not lost there was had from the
    // bytes of their pages.
    let is_had = |other: &(u32, u16)| {
        refused.contains(&other.0) && places.is_readable(Ctid::new(other.0, other.1))
    };
    let had = keys.rows.values().filter(|k| !k.certain && k.others.iter().any(is_had));
    let had: Vec<_> = had.filter_map(|known| key.of(&known.values)).collect();
    had.into_iter().for_each(|values| take_out(values, keys));
    Ok(all.len() - looked_at.len() + refused.len())
}

/// The keys of what is in some blocks, but for lost places.
async fn read_keys(
    session: &Session,
    key: &Key<'_>,
    places: &Places,
    blocks: &[u32],
) -> Result<Vec<Vec<Vec<u8>>>, ReadError> {
    let mut found = Vec::new();
    let Some(sql) = statement(key, places, blocks) else { return Ok(found) };
    let mut copy = session.copy(&sql).await?;
    while let Some(rows) = copy.next().await? {
        for row in rows_in(&rows) {
            let values = fields(row).map(|field| field.map(Vec::from)).collect::<Option<_>>();
            found.extend(values);
        }
    }
    Ok(found)
}

/// Reads the keys of what is in some blocks, but for lost places.
fn statement(key: &Key<'_>, places: &Places, blocks: &[u32]) -> Option<String> {
    let list = key.readable_of(places, blocks)?;
    Some(format!(
        "COPY (SELECT {} FROM ONLY {} WHERE ctid = ANY ('{{{list}}}')) TO STDOUT (ENCODING {})",
        key.columns.join(", "),
        key.qualified,
        crate::server::sql::literal(key.encoding)
    ))
}
