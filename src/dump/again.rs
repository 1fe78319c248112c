//! Reading what may have taken the server down, when nobody else reads.
//!
//! The rows that came of an untagged read are undone when the server goes down
//! under it, since nobody knows of which blocks they were. As many rows are
//! read once more, with tags: that touches nothing that was not read before, so
//! it is no risk, and what is left begins close to the place that is to blame.

use super::pages::save_open;
use super::rows::take_in;
use super::{End, Reading, Stretch, cut_short, decode_killers, look_ahead, read_stretch};
use crate::heap::Read;
use crate::output::OutputError;
use crate::server::copy_text::rows_in;
use crate::server::fault::{Fault, Phase, Words};
use crate::server::session::ReadError;
use std::sync::atomic::Ordering::Relaxed;

/// How many rows came of a read before its session was lost, and of which data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    pub rows: u64,
    pub data: u32,
}

/// Reads a stretch in single places, or, where it may not be risked that the
/// server goes down, only what came of it before.
pub async fn read_alone(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    risky: bool,
) -> Result<End, OutputError> {
    if let Some(words) = read_what_came(at, stretch).await? {
        return Ok(End::SessionLost(words));
    }
    save_open(at, stretch).await?;
    if let Some(end) = decode_killers(at, stretch).await? {
        return Ok(end);
    }
    if !risky {
        return Ok(End::Stopped);
    }
    // What is seen to be to blame is left out, and nothing behind it is suspected.
    if let Some(end) = look_ahead(at, stretch).await? {
        return Ok(end);
    }
    stretch.salvage.accuse();
    read_stretch(at, stretch).await
}

/// The words, if the session was lost.
async fn read_what_came(
    at: &Reading<'_>,
    stretch: &mut Stretch,
) -> Result<Option<Words>, OutputError> {
    // In other data as many rows are not the same rows.
    let Some(came) = stretch.came_before.take().filter(|c| c.data == at.data) else {
        return Ok(None);
    };
    stretch.salvage.tag_all();
    let read = stretch.salvage.next_read();
    let Some(read @ Read::Blocks { range, .. }) = read else { return Ok(None) };
    let Some(sql) = at.readable.first_rows(range, came.rows) else { return Ok(None) };
    let (mark, mut last) = (stretch.lanes.clean().mark().await?, None);
    let failed = async {
        let (mut copy, mut rows) = (at.session.copy(&sql).await?, 0);
        while let Some(bytes) = copy.next().await? {
            at.progress.bytes.fetch_add(bytes.len() as u64, Relaxed);
            for row in rows_in(&bytes) {
                rows += 1;
                at.progress.rows.fetch_add(1, Relaxed);
                if let Err(e) = take_in(stretch, &read, row, &mut last).await {
                    return Ok(Some(e));
                }
            }
        }
        copy.check(rows)?;
        Ok::<_, ReadError>(None)
    };
    let ended = failed.await;
    if let Ok(Some(e)) = ended {
        return Err(e);
    }
    if let Err(ReadError::Miscounted { .. }) = ended {
        stretch.lanes.clear_held();
        stretch.lanes.clean().rollback(&mark).await?;
        last = None;
    }
    cut_short(at, stretch, last, None).await?;
    let Err(error) = ended else { return Ok(None) };
    let words = error.words().clone();
    let lost = error.fault(Phase::Rows, Some(at.path)) == Fault::SessionLost;
    // Any other error is for the reads that follow to meet again.
    Ok((lost || at.session.undo_reading().await.is_err()).then_some(words))
}
