//! Reads that something keeps from coming to their end which is no damage: the
//! server is silent, too slow, or short of memory for one value. They are
//! narrowed as damage is, so that what is in the way costs its own place alone;
//! but each probe is dear, so there are few.

use super::rows::settle;
use super::{Cause, Failed, Reading, Stretch};
use crate::heap::{Outcome, Place};
use crate::output::OutputError;
use crate::server::fault::Words;
use crate::server::session::{Hung, ReadError};
use std::sync::atomic::Ordering::Relaxed;

/// So often a read of one relation may hang: a place that does costs two or
/// three.
const HANGS_MAX: u32 = 12;

/// So many places of a stretch may be lost since the server has no memory for
/// them. One that has none for anything is not asked for every tuple.
const TOO_LARGE_MAX: usize = 100;

/// Takes a read that hung into the map, the findings and the files.
pub(super) async fn hung(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    failed: &Failed,
) -> Result<(), OutputError> {
    let (read, words) = (&failed.read, failed.error.words());
    tracing::warn!("{}, {read}: {}", at.readable.qualified, words.one_line());
    let recorded = stretch.salvage.record(Outcome::Hung { last: failed.last });
    stretch.findings.hindered(Cause::Hung, read, words, &recorded);
    settle(at, stretch, recorded, failed.mark()).await?;
    // A slow read from which rows came is on its way.
    let slow = matches!(failed.error, ReadError::Hung { why: Hung::Slow, .. });
    if !(slow && failed.last.is_some()) {
        at.hangs.fetch_add(1, Relaxed);
    }
    stop_over_the_limit(at, stretch).await
}

/// Reads nothing more of a relation of which reads have hung too often.
pub(super) async fn stop_over_the_limit(
    at: &Reading<'_>,
    stretch: &mut Stretch,
) -> Result<(), OutputError> {
    let hangs = at.hangs.load(Relaxed);
    if hangs < HANGS_MAX {
        return Ok(());
    }
    stop(stretch, format!("not tried, since {hangs} reads of the relation have hung")).await
}

/// Reads nothing more of a stretch.
pub(super) async fn stop(stretch: &mut Stretch, message: String) -> Result<(), OutputError> {
    let words = Words { message, ..Words::default() };
    for blocks in stretch.give_up().await? {
        stretch.findings.not_tried(blocks, &words);
    }
    Ok(())
}

/// Takes a read for which the server has no memory, or of a row that is too long
/// to be sent, into the map, the findings and the files. It fails for what is in the value, not on the page.
pub(super) async fn too_large(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    failed: &Failed,
    words: &Words,
) -> Result<(), OutputError> {
    let outcome = Outcome::Failed { last: failed.last, place: Place::Elsewhere };
    let recorded = stretch.salvage.record(outcome);
    stretch.findings.hindered(Cause::TooLarge, &failed.read, words, &recorded);
    settle(at, stretch, recorded, failed.mark()).await?;
    if stretch.findings.list.iter().filter(|f| f.cause == Cause::TooLarge).count() >= TOO_LARGE_MAX
    {
        stop(stretch, format!("not tried, since too often: {}", words.one_line())).await?;
    }
    Ok(())
}
