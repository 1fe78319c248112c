//! Where an untagged read of many blocks has failed, if the server does not say.
//!
//! As many rows as came are counted off once more, without their columns: what
//! fails is the row behind them. So what came of the blocks before it counts, and
//! nothing is read twice but the block. The last rows of a read wait until it is
//! known how it ends; of those, the ones of the failing block are left out.

use super::react::Failed;
use super::rows::pass_on;
use super::{Reading, Stretch};
use crate::heap::{BlockNumber, Ctid, Place, Read};
use crate::output::OutputError;

/// The block of the row that failed; all that came of the blocks before it is
/// then in the file. None: not known, and the rows of the read are to be undone.
pub(super) async fn failing_block(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    failed: &Failed,
    place: Place,
) -> Result<Option<BlockNumber>, OutputError> {
    let Read::Blocks { range, tagged: false } = failed.read else { return Ok(None) };
    if matches!(place, Place::Page(_)) || range.len() == 1 {
        return Ok(None);
    }
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', &failed.tail).collect();
    let came = stretch.lanes.clean().rows() - failed.before + ends.len() as u64;
    let Some(sql) = at.readable.place_after(range, came) else { return Ok(None) };
    let Some(culprit) = asked::<Ctid>(at, &sql).await.filter(|c| range.contains(c.block)) else {
        return Ok(None);
    };
    let Some(beside) = asked::<usize>(at, &at.readable.rows_before(culprit)).await else {
        return Ok(None);
    };
    // Some of the block are in the file already.
    let Some(kept) = ends.len().checked_sub(beside) else { return Ok(None) };
    let end = kept.checked_sub(1).map_or(0, |last| ends[last] + 1);
    pass_on(at, stretch, &failed.tail[..end]).await?;
    Ok(Some(culprit.block))
}

/// A value, if it is to be had: an error is met again by the next read.
async fn asked<T: std::str::FromStr>(at: &Reading<'_>, sql: &str) -> Option<T> {
    match at.session.value(sql).await {
        Ok(value) => value?.parse().ok(),
        Err(_) => {
            let _ = at.session.undo_reading().await;
            None
        }
    }
}
