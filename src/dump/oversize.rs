//! Rows that are too long to be sent as text: a bytea of more than 512 MB is
//! twice as long there, and nothing that the server makes may have a gigabyte.
//! They are no damage. Each is had in binary form, column by column, and put
//! together as a row of COPY's binary format.
//!
//! A damaged length asks for as much memory as such a value does, and where the
//! server believes it, it reads behind the page and goes down. So that is tried
//! only where it is known that each value which is larger than a page lies in
//! TOAST.

use super::columns::{NotRead, fields, line, not_read};
use super::toast::TELLS_OF_TOAST;
use super::{Reading, Stretch};
use crate::heap::Ctid;
use crate::output::OutputError;
use crate::server::fault::{Phase, Words, is_out_of_memory};
use crate::server::session::ReadError;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

type Interrupted = (ReadError, Phase);

/// What a tuple is for which the server cannot make the text.
pub(super) enum Oversize {
    /// It was had in binary form, and is held back.
    Had,
    /// It is well, or may be, and could not be had: what the server said, and
    /// why.
    TooLarge(Words),
    /// It is not long, but damaged.
    No,
    /// It is long, and a value of it is damaged.
    Damaged,
}

/// What is known of how long the columns of a tuple are.
pub(super) enum Weight {
    /// Their sizes as stored; those larger than a page lie in TOAST.
    Known(Vec<u64>),
    /// That may be so.
    Possible,
    /// None is longer than a page, or one claims to be and cannot.
    Not,
}

/// Reads a tuple in binary form, if that is safe. `words`: what the server said
/// when it was asked for the text. `Err` inside: something came in between.
pub(super) async fn read_oversize(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    ctid: Ctid,
    words: &Words,
) -> Result<Result<Oversize, Interrupted>, OutputError> {
    let too_large = |why: &str| {
        let message = format!("{}; {why}", words.message);
        Oversize::TooLarge(Words { message, ..words.clone() })
    };
    let sizes = match weigh(at, ctid, 0..at.readable.columns.len()).await {
        Ok(Weight::Known(sizes)) => sizes,
        Ok(Weight::Possible) => {
            return Ok(Ok(too_large(
                "it was not read in binary form, since it is not known to be stored in TOAST: \
                 that takes a role which may read the TOAST table, or files of the server",
            )));
        }
        Ok(Weight::Not) => return Ok(Ok(Oversize::No)),
        Err(interrupted) => return Ok(Err(interrupted)),
    };
    let mark = stretch.lanes.mark_held();
    let had = match hold(at, stretch, ctid).await? {
        Ok(()) => note(at, stretch, ctid, &sizes).await,
        Err(failed) => Err(failed),
    };
    let Err((error, phase)) = had else { return Ok(Ok(Oversize::Had)) };
    stretch.lanes.rollback_held(&mark)?;
    Ok(match not_read(at, error, phase).await {
        NotRead::Damage { place: Some(_), .. } => Ok(Oversize::Damaged),
        NotRead::Damage { words: said, .. } => {
            Ok(too_large(&format!("in binary form: {}", said.one_line())))
        }
        NotRead::Interrupted(error, phase) => {
            let of_memory = is_out_of_memory(&error.words().sqlstate);
            match of_memory && at.session.undo_reading().await.is_ok() {
                true => Ok(too_large(&format!("in binary form: {}", error.words().one_line()))),
                false => Err((error, phase)),
            }
        }
    })
}

/// Finds out whether columns of a tuple can be as long as the server says.
pub(super) async fn weigh(
    at: &Reading<'_>,
    ctid: Ctid,
    columns: Range<usize>,
) -> Result<Weight, Interrupted> {
    let server = at.session.server();
    let tells = server.version >= TELLS_OF_TOAST;
    let first = columns.start;
    let row = match at.session.row(&at.readable.stored_sizes(ctid, columns, tells)).await {
        Ok(row) => row,
        Err(e) => match not_read(at, e, Phase::Rows).await {
            NotRead::Damage { .. } => return Ok(Weight::Not),
            NotRead::Interrupted(error, phase) => return Err((error, phase)),
        },
    };
    // Negative: it is known to lie in TOAST.
    let size = |field: &Option<String>| field.as_ref().and_then(|f| f.parse::<i64>().ok());
    let sizes: Vec<i64> = row.iter().map(|field| size(field).unwrap_or(0)).collect();
    let page = u64::from(server.block_size);
    let (mut is_long, mut is_sure) = (false, true);
    for (i, &size) in sizes.iter().enumerate().filter(|(_, s)| s.unsigned_abs() > page) {
        let in_toast = match tells {
            true => Some(size < 0),
            false => at.doctor.lies_in_toast(at, ctid, first + i, size.unsigned_abs()).await?,
        };
        is_long = true;
        match in_toast {
            Some(true) => {}
            None if size.unsigned_abs() <= at.doctor.toast_bytes(at).await? => is_sure = false,
            _ => return Ok(Weight::Not),
        }
    }
    Ok(match (is_long, is_sure) {
        (false, _) => Weight::Not,
        (true, false) => Weight::Possible,
        (true, true) => Weight::Known(sizes.iter().map(|s| s.unsigned_abs()).collect()),
    })
}

/// Holds a row back, value by value: no more than one is in memory, which has
/// less than a gigabyte.
async fn hold(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    ctid: Ctid,
) -> Result<Result<(), Interrupted>, OutputError> {
    // A table has at most 1,600 columns (MaxHeapAttributeNumber).
    let count = i16::try_from(at.readable.columns.len()).unwrap_or(i16::MAX);
    stretch.lanes.hold_oversize(ctid.block, (true, &count.to_be_bytes()))?;
    for column in 0..at.readable.columns.len() {
        let field = match at.session.binary_field(&at.readable.binary_column(ctid, column)).await {
            Ok(field) => field,
            Err(error) => return Ok(Err((error, Phase::Rows))),
        };
        let bytes = field.as_deref().unwrap_or_default();
        let len = if field.is_some() { i32::try_from(bytes.len()).unwrap_or(0) } else { -1 };
        stretch.lanes.hold_oversize(ctid.block, (false, &len.to_be_bytes()))?;
        stretch.lanes.hold_oversize(ctid.block, (false, bytes))?;
        at.progress.bytes.fetch_add(bytes.len() as u64, Relaxed);
    }
    at.progress.rows.fetch_add(1, Relaxed);
    Ok(Ok(()))
}

/// What is learnt from rows on their way is learnt from the short columns.
async fn note(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    ctid: Ctid,
    sizes: &[u64],
) -> Result<(), Interrupted> {
    if stretch.watch.is_idle() {
        return Ok(());
    }
    let page = u64::from(at.session.server().block_size);
    let mut row = Vec::with_capacity(sizes.len());
    for (i, &size) in sizes.iter().enumerate() {
        let came = match size <= page {
            true => fields(at, &at.readable.columns_of(ctid, i..i + 1)).await,
            false => Ok(None),
        };
        row.push(match came {
            Ok(field) => field.and_then(|f| f.into_iter().next()),
            Err(NotRead::Damage { .. }) => None,
            Err(NotRead::Interrupted(error, phase)) => return Err((error, phase)),
        });
    }
    stretch.watch.row(&line(&row));
    Ok(())
}
