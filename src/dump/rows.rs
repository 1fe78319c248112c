//! The rows of a read, on their way: from the server into the clean file, or
//! held back, and from there into the file of the class they turn out to be.

use super::apart::read_apart;
use super::{LaneMark, Reading, Stretch, is_whole};
use crate::heap::{Ctid, Read, Recorded, RowClass, Rows};
use crate::output::{Content, OutputError};
use crate::server::copy_text;
use crate::server::fault::Phase;
use crate::server::session::ReadError;
use std::sync::atomic::Ordering::Relaxed;

/// So many bytes of untagged rows are gathered before some are passed on.
const BATCH_BYTES: usize = 256 * 1024;

/// So many are held back, until it is known that the read has not failed: more
/// than the rows of a block have, unless they have much in TOAST.
const TAIL_BYTES: usize = 128 * 1024;

/// What a read gave.
#[derive(Default)]
pub(super) struct Got {
    pub(super) last: Option<Ctid>,
    pub(super) error: Option<(ReadError, Phase)>,
    /// Of an untagged read that failed: the last rows, which are not passed on.
    pub(super) tail: Vec<u8>,
}

/// Puts the rows of a recorded read where they belong.
pub(super) async fn settle(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    recorded: Recorded,
    mark: Option<&LaneMark>,
) -> Result<(), OutputError> {
    match (recorded.rows, mark) {
        (Rows::Clean, _) => flush(stretch, RowClass::Clean).await,
        (Rows::Settled(class), _) => flush(stretch, class).await,
        (Rows::Hold, _) => Ok(()),
        (Rows::Undo, Some(mark)) => {
            stretch.watch.forget();
            let undone = stretch.lanes.clean().rows();
            stretch.lanes.clean().rollback(mark).await?;
            at.progress.rows.fetch_sub(undone - stretch.lanes.clean().rows(), Relaxed);
            Ok(())
        }
        (Rows::Undo, None) => {
            at.progress.rows.fetch_sub(stretch.lanes.held_rows(), Relaxed);
            stretch.watch.forget();
            stretch.lanes.clear_held();
            Ok(())
        }
    }
}

/// Writes what is held back as rows of this class.
pub(super) async fn flush(stretch: &mut Stretch, class: RowClass) -> Result<(), OutputError> {
    match class {
        RowClass::Clean => stretch.watch.keep(),
        RowClass::Suspect => stretch.watch.forget(),
    }
    stretch.lanes.flush(class).await
}

/// Sends one read and takes its rows in. Rows of an untagged read go to the
/// clean file at once; those of a tagged one when their block is complete.
pub(super) async fn read_once(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    read: &Read,
) -> Result<Got, OutputError> {
    if stretch.apart.is_on() {
        return read_apart(at, stretch, read).await;
    }
    let sql = if is_whole(stretch) { at.readable.whole() } else { at.readable.part(read) };
    let mut got = Got::default();
    let mut copy = match at.session.copy(&sql).await {
        Ok(copy) => copy,
        Err(e) => {
            got.error = Some((e, Phase::Start));
            return Ok(got);
        }
    };
    let tagged = !matches!(read, Read::Blocks { tagged: false, .. });
    let (mut batch, mut rows) = (Vec::with_capacity(BATCH_BYTES), 0);
    loop {
        match copy.next().await {
            Ok(Some(bytes)) if tagged => {
                at.progress.bytes.fetch_add(bytes.len() as u64, Relaxed);
                at.progress.throttle.pay(bytes.len()).await;
                for row in copy_text::rows_in(&bytes) {
                    rows += 1;
                    at.progress.rows.fetch_add(1, Relaxed);
                    take_in(stretch, read, row, &mut got.last).await?;
                }
            }
            Ok(Some(bytes)) => {
                if batch.len() + bytes.len() > BATCH_BYTES {
                    let held = batch.len().saturating_sub(TAIL_BYTES);
                    let all = bytes.len() > BATCH_BYTES;
                    let end = if all { batch.len() } else { end_of_row(&batch, held) };
                    rows += pass_on(at, stretch, &batch[..end]).await?;
                    batch.drain(..end);
                }
                // A value of hundreds of megabytes is not copied once more.
                if bytes.len() > BATCH_BYTES {
                    rows += pass_on(at, stretch, &bytes).await?;
                } else {
                    batch.extend_from_slice(&bytes);
                }
            }
            Ok(None) => {
                rows += pass_on(at, stretch, &batch).await?;
                got.error = copy.check(rows).err().map(|e| (e, Phase::Rows));
                return Ok(got);
            }
            Err(e) => {
                (got.error, got.tail) = (Some((e, Phase::Rows)), batch);
                return Ok(got);
            }
        }
    }
}

/// Where the row ends that begins at a place or before it.
fn end_of_row(rows: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &rows[at..]).map_or(rows.len(), |newline| at + newline + 1)
}

/// Writes untagged rows, some at a time: what is done for each row is done ten
/// million times. Returns how many they are.
pub(super) async fn pass_on(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    batch: &[u8],
) -> Result<u64, OutputError> {
    if batch.is_empty() {
        return Ok(0);
    }
    if !stretch.watch.is_idle() {
        copy_text::rows_in(batch).for_each(|row| stretch.watch.row(row));
    }
    let content = Content::of(batch);
    at.progress.bytes.fetch_add(batch.len() as u64, Relaxed);
    at.progress.rows.fetch_add(content.rows, Relaxed);
    at.progress.throttle.pay(batch.len()).await;
    stretch.lanes.clean().write(batch, content).await?;
    Ok(content.rows)
}

/// Takes in one tagged row.
pub(super) async fn take_in(
    stretch: &mut Stretch,
    read: &Read,
    row: &[u8],
    last: &mut Option<Ctid>,
) -> Result<(), OutputError> {
    let Some((ctid, rest)) =
        copy_text::split_tag(row).and_then(|(tag, rest)| Some((Ctid::parse(tag)?, rest)))
    else {
        // The server writes the tag from two integers of its own.
        tracing::error!("a row came without its ctid; it is left out");
        return Ok(());
    };
    let of_blocks = matches!(read, Read::Blocks { .. });
    if of_blocks && stretch.lanes.held_block().is_some_and(|b| b != ctid.block) {
        flush(stretch, RowClass::Clean).await?;
    }
    stretch.watch.row(rest);
    stretch.lanes.hold(ctid.block, rest)?;
    *last = Some(ctid);
    Ok(())
}
