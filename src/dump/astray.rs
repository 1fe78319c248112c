//! Values in TOAST that the server must not be asked for, since a chunk of them
//! lies on a page that would lead it astray.
//!
//! The server finds chunks by the index of the TOAST relation, so that says which
//! values are at risk, as bytes. A tuple with such a value is read column by
//! column, that one left out; it is put together from its chunks, around what must
//! not be read of them, or lost.

use super::check::{look_at_toast, not_had};
use super::columns::{Had, NotRead, fields, read_columns};
use super::rows::{Got, settle};
use super::{Layout, Reading, Stretch};
use crate::heap::{Ctid, Outcome, Place, Read};
use crate::output::OutputError;
use crate::page::btree::leaf_items;
use crate::server::fault::Words;
use crate::server::pages::Fork;
use crate::server::session::ReadError;
use crate::server::toast::{toast_index, toast_relation};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// Looks at the TOAST relation, if nobody has: once for a relation. `Err`: the
/// session is of no use any more.
pub(super) async fn know_astray(at: &Reading<'_>, layout: &Layout) -> Result<(), ReadError> {
    let Some(toast) = layout.toast.filter(|_| at.source.checking.is_thorough()) else {
        return Ok(());
    };
    layout.astray.get_or_try_init(|| values(at, toast)).await.map(|_| ())
}

async fn values(at: &Reading<'_>, toast: u32) -> Result<BTreeSet<u32>, ReadError> {
    match try_values(at, toast).await {
        // Whatever it is, the server meets it, too.
        Err(error) => not_had(at, error).await.map(|_| BTreeSet::new()),
        values => values,
    }
}

async fn try_values(at: &Reading<'_>, toast: u32) -> Result<BTreeSet<u32>, ReadError> {
    let (readable, path, blocks) = toast_relation(at.session, toast, at.readable).await?;
    let of_toast = Reading { path: &path, readable: &readable, ..*at };
    let seen = look_at_toast(&of_toast, blocks).await?;
    let mut values = BTreeSet::new();
    if seen.found.is_empty() {
        return Ok(values);
    }
    let size = at.session.server().block_size.max(1) as usize;
    for (path, blocks) in toast_index(at.session, toast).await? {
        let fork = Fork::new(at.session, path);
        let mut pieces = fork.pieces(0, blocks);
        while let Some((_, bytes)) = pieces.next().await? {
            for item in bytes.chunks_exact(size).filter_map(leaf_items).flatten() {
                let is_bad = item.tids().any(|(block, _)| seen.found.contains_key(&block));
                let value = item.key.first_chunk().map(|key| u32::from_le_bytes(*key));
                values.extend(value.filter(|_| is_bad));
            }
        }
    }
    Ok(values)
}

/// The words for a value that the server is not asked for.
pub(super) fn not_asked_for() -> Words {
    let message = "the value is not asked for: a page that has some of it would lead the server \
                   astray";
    Words { message: message.to_owned(), ..Words::default() }
}

impl Stretch {
    /// Whether one of these columns of a tuple must not be asked for.
    pub(super) fn is_astray(&self, ctid: Ctid, columns: &Range<usize>) -> bool {
        self.astray.get(&ctid).is_some_and(|of| of.iter().any(|column| columns.contains(column)))
    }

    /// The tuple of a read, if it is the only one and must not be read whole.
    pub(super) fn astray_of(&self, read: &Read) -> Option<Ctid> {
        match *read {
            Read::Tuples { block, first, last } if first == last => {
                Some(Ctid::new(block, first)).filter(|ctid| self.astray.contains_key(ctid))
            }
            _ => None,
        }
    }
}

/// Reads a tuple with values that the server must not be asked for, and settles
/// it; else something came in between.
pub(super) async fn read_astray(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    (read, ctid): (&Read, Ctid),
) -> Result<Option<Got>, OutputError> {
    let interrupted =
        |error, phase| Ok(Some(Got { error: Some((error, phase)), ..Got::default() }));
    let mut words = not_asked_for();
    let mut place = Place::Elsewhere;
    let outcome = match fields(at, &at.readable.columns_of(ctid, 0..0)).await {
        // Nobody sees it.
        Ok(None) => Outcome::Complete,
        Ok(Some(_)) => match read_columns(at, stretch, ctid).await? {
            Ok(Had::Complete) => Outcome::Complete,
            Ok(Had::Partial(of)) => {
                place = of;
                Outcome::Partial { place }
            }
            Ok(Had::Nothing { in_tuple }) => {
                place = if in_tuple { Place::Unknown } else { Place::Elsewhere };
                Outcome::Failed { last: None, place }
            }
            Err((error, phase)) => return interrupted(error, phase),
        },
        Err(NotRead::Damage { words: said, .. }) => {
            (words, place) = (said, Place::Unknown);
            Outcome::Failed { last: None, place }
        }
        Err(NotRead::Interrupted(error, phase)) => return interrupted(error, phase),
    };
    let recorded = stretch.salvage.record(outcome);
    if outcome != Outcome::Complete {
        stretch.findings.error(read, (place, false), &words, &recorded);
        at.progress.damaged.fetch_add(1, Relaxed);
    }
    settle(at, stretch, recorded, None).await?;
    stretch.save_sometimes().await?;
    Ok(None)
}
