//! What the failure of a read asks for: to narrow, to wait, to stop, to give the
//! relation up.

use super::columns::{Had, read_columns};
use super::lanes::HeldMarks;
use super::oversize::{Oversize, read_oversize};
use super::pages::save_damaged;
use super::raw::read_raw;
use super::rows::{pass_on, settle};
use super::unplannable::{Plannable, plannable, read_unplannable};
use super::{
    Came, End, LaneMark, Reading, Stretch, cut_short, hindered, miscounted, place, untagged,
};
use crate::heap::{Ctid, Outcome, Place, Read};
use crate::output::OutputError;
use crate::server::fault::{
    Fault, Phase, Words, is_bad_compression, is_out_of_memory, names_a_catalog, wait_after,
};
use crate::server::session::ReadError;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// A value of more bytes than this cannot be inside a heap tuple that was
/// toasted: `TOAST_TUPLE_THRESHOLD` at 8 kB pages (`heaptoast.h`).
pub(super) const INLINE_BYTES_MAX: u64 = 2032;

/// A read that did not come to its end.
pub(super) struct Failed {
    pub(super) read: Read,
    /// The last row that came.
    pub(super) last: Option<Ctid>,
    pub(super) error: ReadError,
    pub(super) phase: Phase,
    /// What a read of more than one block is undone to, if none of it counts.
    pub(super) start: Option<LaneMark>,
    /// What was held back before it.
    pub(super) held: HeldMarks,
    /// Clean rows before the read.
    pub(super) before: u64,
    /// The last rows of an untagged read, which are not in the file yet.
    pub(super) tail: Vec<u8>,
}

impl Failed {
    /// What an untagged read is undone to.
    pub(super) fn mark(&self) -> Option<&LaneMark> {
        untagged(&self.read, self.start.as_ref())
    }
}

/// How often something was waited for, or read again: for memory in the whole
/// stretch, for anything else since the last read that came to its end.
#[derive(Default)]
pub(super) struct Waits {
    memory: u32,
    others: u32,
    pub(super) miscounted: u32,
}

impl Waits {
    /// A read has come to its end.
    pub(super) fn go_on(&mut self) {
        (self.others, self.miscounted) = (0, 0);
    }
}

/// Does what the failure of a read asks for. None: go on reading.
pub(super) async fn react(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    mut failed: Failed,
    waits: &mut Waits,
) -> Result<Option<End>, OutputError> {
    let (words, last) = (failed.error.words().clone(), failed.last);
    let mut fault = failed.error.fault(failed.phase, Some(at.path));
    let of_memory = is_out_of_memory(&words.sqlstate);
    if fault == Fault::Environment && of_memory && wait_after(waits.memory).is_none() {
        // It is not the server that is short of memory, but a value that is long.
        fault = Fault::TooLarge;
    }
    if !matches!(fault, Fault::Damage(Place::Elsewhere | Place::Unknown)) {
        pass_on(at, stretch, &std::mem::take(&mut failed.tail)).await?;
    }
    match fault {
        Fault::SessionLost if at.perishable && failed.mark().is_some() => {
            stretch.came = failed.start;
        }
        Fault::SessionLost => {
            let rows = stretch.lanes.clean().rows() - failed.before;
            cut_short(at, stretch, last, failed.mark()).await?;
            stretch.came_before = failed.mark().map(|_| Came { rows, data: at.data });
        }
        Fault::Miscounted => {
            miscounted::again_or_narrower(at, stretch, failed, waits).await?;
            return Ok(None);
        }
        Fault::Hung => {
            hindered::hung(at, stretch, &failed).await?;
            let back = back_to_the_relation(at, &failed.error).await;
            // From here on a later run tries it again.
            stretch.save().await?;
            return Ok(back.is_err().then_some(End::Hung));
        }
        Fault::Environment => {
            cut_short(at, stretch, last, failed.mark()).await?;
            let so_far = if of_memory { &mut waits.memory } else { &mut waits.others };
            let back = back_to_the_relation(at, &failed.error).await;
            let (Ok(()), Some(pause)) = (back, wait_after(*so_far)) else {
                return Ok(Some(End::Environment(words)));
            };
            tracing::info!("waiting: {}", words.one_line());
            tokio::time::sleep(pause).await;
            *so_far += 1;
            return Ok(None);
        }
        Fault::Pointless => {
            cut_short(at, stretch, None, failed.mark()).await?;
            return Ok(Some(End::Refused(words)));
        }
        Fault::Damage(_) | Fault::TooLarge
            if back_to_the_relation(at, &failed.error).await.is_err() =>
        {
            cut_short(at, stretch, last, failed.mark()).await?;
        }
        Fault::TooLarge => return too_large(at, stretch, failed, waits).await,
        Fault::Damage(place) => return damage(at, stretch, failed, place, waits).await,
    }
    Ok(Some(End::SessionLost(words)))
}

/// A read failed for a row that is too long, or for want of memory, and the
/// session is ready for the next.
async fn too_large(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    failed: Failed,
    waits: &mut Waits,
) -> Result<Option<End>, OutputError> {
    let mut words = failed.error.words().clone();
    if let Read::Tuples { block, first, last } = failed.read
        && first == last
    {
        match read_oversize(at, stretch, Ctid::new(block, first), &words).await? {
            Ok(Oversize::Had) => {
                stretch.findings.in_binary(&failed.read, &words);
                let recorded = stretch.salvage.record(Outcome::Complete);
                settle(at, stretch, recorded, None).await?;
                return Ok(None);
            }
            Ok(Oversize::TooLarge(why)) => words = why,
            Ok(Oversize::No) if is_out_of_memory(&words.sqlstate) => {}
            Ok(Oversize::No | Oversize::Damaged) => {
                return damage(at, stretch, failed, Place::Unknown, waits).await;
            }
            Err((error, phase)) => {
                let failed = Failed { last: None, error, phase, ..failed };
                return Box::pin(react(at, stretch, failed, waits)).await;
            }
        }
    }
    hindered::too_large(at, stretch, &failed, &words).await?;
    stretch.save().await?;
    Ok(None)
}

/// A read failed for damage, and the session is ready for the next.
async fn damage(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    failed: Failed,
    place: Place,
    waits: &mut Waits,
) -> Result<Option<End>, OutputError> {
    stretch.plans |= failed.last.is_some();
    let plannable = match place {
        Place::Page(_) => Plannable::Yes,
        _ => plannable(at, stretch).await,
    };
    match plannable {
        Plannable::Yes => {}
        Plannable::Otherwise => {
            cut_short(at, stretch, failed.last, failed.mark()).await?;
            stretch.salvage.tag_all();
            return Ok(None);
        }
        Plannable::No(words) => {
            cut_short(at, stretch, None, failed.mark()).await?;
            if at.other_way {
                return Ok(Some(End::OtherWay(words)));
            }
            return read_unplannable(at, stretch, words).await.map(Some);
        }
    }
    if place == Place::Elsewhere
        && let Some(words) = other_way_wanted(at, failed.error.words()).await
    {
        cut_short(at, stretch, failed.last, failed.mark()).await?;
        return Ok(Some(End::OtherWay(words)));
    }
    if let Some(block) = stretch.salvage.refused(&failed.read, place) {
        match read_raw(at, stretch, &failed, block).await? {
            Ok(true) => return Ok(None),
            Ok(false) => {}
            Err((error, phase)) => {
                let failed = Failed { last: None, error, phase, ..failed };
                return Box::pin(react(at, stretch, failed, waits)).await;
            }
        }
    }
    let Read::Tuples { block, first, last } = failed.read else {
        if let Some(block) = place::failing_block(at, stretch, &failed, place).await? {
            // To the salvage it is the same whether the server names it.
            let outcome = Outcome::Failed { last: None, place: Place::Page(block) };
            return take_in(at, stretch, &failed, outcome, place).await.map(|()| None);
        }
        return note(at, stretch, &failed, place).await.map(|()| None);
    };
    if first != last {
        return note(at, stretch, &failed, place).await.map(|()| None);
    }
    let (ctid, all) = (Ctid::new(block, first), 0..at.readable.columns.len());
    let place = refined(at, ctid, all, place, failed.error.words()).await;
    let (outcome, place) = match read_columns(at, stretch, ctid).await? {
        Ok(Had::Nothing { in_tuple }) => {
            // One of its columns is stored elsewhere, but that is not what failed.
            let is_tuple = in_tuple && place == Place::Elsewhere;
            let place = if is_tuple { Place::Unknown } else { place };
            return note(at, stretch, &failed, place).await.map(|()| None);
        }
        Ok(Had::Partial(place)) => (Outcome::Partial { place }, place),
        Ok(Had::Complete) => (Outcome::Complete, place),
        Err((error, phase)) => {
            let failed = Failed { last: None, error, phase, ..failed };
            return Box::pin(react(at, stretch, failed, waits)).await;
        }
    };
    take_in(at, stretch, &failed, outcome, place).await.map(|()| None)
}

/// Why what failed elsewhere should be tried by the other way to the catalogs, if
/// there is one: it is a catalog that failed, or, for what is to be read of a
/// TOAST relation, its index.
async fn other_way_wanted(at: &Reading<'_>, words: &Words) -> Option<Words> {
    if !at.other_way {
        return None;
    }
    if names_a_catalog(words) {
        return Some(words.clone());
    }
    at.doctor.why_not_planned(at).await
}

/// A session in an aborted transaction is of no use until it is rolled back.
pub(super) async fn back_to_the_relation(
    at: &Reading<'_>,
    error: &ReadError,
) -> Result<(), ReadError> {
    tracing::debug!("{}", error.words().one_line());
    at.session.undo_reading().await
}

/// A value that cannot be unpacked may have been in the tuple or in TOAST: its
/// stored size tells, where only one tuple was read.
pub(super) async fn refined(
    at: &Reading<'_>,
    ctid: Ctid,
    columns: Range<usize>,
    place: Place,
    words: &Words,
) -> Place {
    if place != Place::Unknown || !is_bad_compression(words) {
        return place;
    }
    let sql = at.readable.stored_size_max(ctid, columns);
    match at.session.value(&sql).await {
        Ok(size) => match size.and_then(|s| s.parse::<u64>().ok()) {
            Some(size) if size > INLINE_BYTES_MAX => Place::Elsewhere,
            _ => place,
        },
        Err(_) => {
            // Whatever it is, the next read will say so.
            let _ = at.session.undo_reading().await;
            place
        }
    }
}

/// Takes damage into the map, the findings and the files.
async fn note(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    failed: &Failed,
    place: Place,
) -> Result<(), OutputError> {
    let outcome = Outcome::Failed { last: failed.last, place };
    take_in(at, stretch, failed, outcome, place).await
}

async fn take_in(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    failed: &Failed,
    outcome: Outcome,
    place: Place,
) -> Result<(), OutputError> {
    if place != Place::Elsewhere && !matches!(outcome, Outcome::Complete) {
        save_damaged(at, stretch, &failed.read).await?;
    }
    let recorded = stretch.salvage.record(outcome);
    let place = (place, stretch.salvage.unchecked().is_some());
    stretch.findings.error(&failed.read, place, failed.error.words(), &recorded);
    if recorded.loss.is_some() || matches!(outcome, Outcome::Partial { .. }) {
        at.progress.damaged.fetch_add(1, Relaxed);
    }
    settle(at, stretch, recorded, failed.mark()).await
}
