//! The chunks of one value by the TOAST relation's index, for values of tuples that
//! the server does not see: to scan all of it for a few would cost as much as there
//! is. Where the index is not used, or does not give all of a value, a scan follows.

use super::super::Reading;
use super::super::columns::{NotRead, not_read};
use super::scan::{Interrupted, ToastRelation, chunk};
use crate::server::copy_text::rows_in;
use crate::server::fault::Phase;
use crate::server::session::ReadError;
use crate::server::toast::{BY_INDEX, chunks_of_value};

/// Whether the planner takes the index: else each value would cost a scan.
pub(super) async fn is_planned(
    at: &Reading<'_>,
    toast: &ToastRelation,
) -> Result<bool, Interrupted> {
    let (select, _) = chunks_of_value(&toast.readable, 0);
    let plan = at.session.rows(&format!("{BY_INDEX}; EXPLAIN {select}")).await;
    let has_index = |rows: Vec<Vec<Option<String>>>| {
        rows.iter().flatten().flatten().any(|line| line.contains("Index Scan"))
    };
    Ok(undone(at, toast, plan.map(has_index)).await?.unwrap_or(false))
}

/// The chunks of a value, in order. None: they could not be read.
pub(super) async fn chunks(
    at: &Reading<'_>,
    toast: &ToastRelation,
    value_id: u32,
) -> Result<Option<Vec<(u32, Vec<u8>)>>, Interrupted> {
    let (_, copy) = chunks_of_value(&toast.readable, value_id);
    let read = async {
        at.session.execute(BY_INDEX).await?;
        let (mut copy, mut chunks, mut rows) = (at.session.copy(&copy).await?, Vec::new(), 0);
        while let Some(bytes) = copy.next().await? {
            for row in rows_in(&bytes) {
                rows += 1;
                chunks.extend(chunk(row));
            }
        }
        copy.check(rows)?;
        Ok(chunks)
    };
    let chunks: Result<Vec<(u32, Vec<u8>)>, ReadError> = read.await;
    undone(at, toast, chunks).await
}

/// Takes the setting back. None: what was asked for could not be read.
async fn undone<T>(
    at: &Reading<'_>,
    toast: &ToastRelation,
    came: Result<T, ReadError>,
) -> Result<Option<T>, Interrupted> {
    match came {
        Ok(came) => {
            at.session.undo_reading().await.map_err(|e| (e, Phase::Rows))?;
            Ok(Some(came))
        }
        Err(error) => {
            match not_read(&Reading { path: &toast.path, ..*at }, error, Phase::Rows).await {
                NotRead::Interrupted(error, phase) => Err((error, phase)),
                NotRead::Damage { .. } => Ok(None),
            }
        }
    }
}
