//! Reads of which not as many rows came as the server says that it has sent:
//! something on the way (a proxy, or a mistake of ours) loses rows, or sends
//! them twice. None of what came counts. The same is read again; where that
//! does not help, less at a time, so that it costs what does not come through
//! and nothing else. It is no damage of the relation, but a loss that no error
//! tells of.

use super::hindered::stop;
use super::react::{Failed, Waits};
use super::rows::settle;
use super::{Cause, Reading, Stretch};
use crate::heap::{Outcome, Place};
use crate::output::OutputError;
use std::sync::atomic::Ordering::Relaxed;

/// So often the same is read again before less is read at a time.
const AGAIN_MAX: u32 = 2;

/// So many places of a stretch may be lost. Where nothing comes through as it
/// was sent, not every tuple is asked for.
const LOST_MAX: usize = 20;

pub(super) async fn again_or_narrower(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    failed: Failed,
    waits: &mut Waits,
) -> Result<(), OutputError> {
    let (read, words) = (&failed.read, failed.error.words());
    tracing::warn!("{}, {read}: {}", at.readable.qualified, words.one_line());
    let rows = |stretch: &mut Stretch| stretch.lanes.rows() + stretch.lanes.held_rows();
    let before = rows(stretch);
    stretch.watch.forget();
    stretch.lanes.rollback_held(&failed.held)?;
    if let Some(start) = &failed.start {
        // Of a tagged read, blocks that looked complete are in the file.
        stretch.lanes.clean().rollback(start).await?;
    }
    at.progress.rows.fetch_sub(before - rows(stretch), Relaxed);
    if waits.miscounted < AGAIN_MAX {
        waits.miscounted += 1;
        return Ok(());
    }
    let outcome = Outcome::Failed { last: None, place: Place::Elsewhere };
    let recorded = stretch.salvage.record(outcome);
    stretch.findings.hindered(Cause::SilentLoss, read, words, &recorded);
    settle(at, stretch, recorded, failed.mark()).await?;
    if stretch.findings.list.iter().filter(|f| f.cause == Cause::SilentLoss).count() >= LOST_MAX {
        stop(stretch, format!("not tried, since too often: {}", words.one_line())).await?;
    }
    stretch.save().await
}
