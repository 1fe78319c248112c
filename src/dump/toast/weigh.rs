//! Whether a value lies in TOAST: what is known without asking for it.

use super::{Doctor, Interrupted, State, pointer};
use crate::dump::Reading;
use crate::dump::columns::{NotRead, not_read};
use crate::heap::Ctid;
use crate::page::Found;
use crate::server::fault::Phase;
use crate::server::session::ReadError;

impl Doctor {
    /// How much there is in the TOAST relation.
    pub(in crate::dump) async fn toast_bytes(&self, at: &Reading<'_>) -> Result<u64, Interrupted> {
        let Some(oid) = self.toast else { return Ok(0) };
        let sql = format!("SELECT pg_catalog.pg_relation_size({oid}, 'main')");
        let bytes = at.session.value(&sql).await.map_err(|e| (e, Phase::Rows))?;
        Ok(bytes.and_then(|b| b.parse().ok()).unwrap_or(0))
    }

    /// Whether a value is a pointer into TOAST to so many bytes. None: nobody
    /// knows.
    pub(in crate::dump) async fn lies_in_toast(
        &self,
        at: &Reading<'_>,
        ctid: Ctid,
        column: usize,
        bytes: u64,
    ) -> Result<Option<bool>, Interrupted> {
        let mut state = self.state.lock().await;
        let by_its_page = self.is_pointer(at, &mut state, ctid, column, bytes).await;
        if let Some(known) = unless_damaged(at, by_its_page).await? {
            return Ok(Some(known));
        }
        let by_its_chunks = self.has_value_of(at, &mut state, bytes).await;
        Ok(unless_damaged(at, by_its_chunks).await?.filter(|found| *found))
    }

    /// By the bytes of its page.
    async fn is_pointer(
        &self,
        at: &Reading<'_>,
        state: &mut State,
        ctid: Ctid,
        column: usize,
        bytes: u64,
    ) -> Result<Option<bool>, ReadError> {
        let (Some(oid), Some(&(place, _))) = (self.toast, self.columns.get(column)) else {
            return Ok(None);
        };
        Ok(match self.found(at, state, ctid, place).await? {
            Some((_, Found::Broken)) => Some(false),
            found => {
                let pointer = found.and_then(|(_, found)| pointer(found));
                let is_it = pointer
                    .is_some_and(|p| p.toast_relid == oid && u64::from(p.stored_size) == bytes);
                // Else the page in memory may be newer than that in the file.
                is_it.then_some(true)
            }
        })
    }

    /// Whether there are chunks in TOAST that make up just so many bytes. Reads
    /// all of it. (A damaged length that is one by chance is none of millions of
    /// bytes.)
    async fn has_value_of(
        &self,
        at: &Reading<'_>,
        state: &mut State,
        bytes: u64,
    ) -> Result<Option<bool>, ReadError> {
        let Some(oid) = self.toast else { return Ok(None) };
        state.know_toast(at, oid).await?;
        let Some(toast) = &state.toast else { return Ok(None) };
        let sql = format!(
            "SELECT pg_catalog.count(*) > 0 FROM (SELECT chunk_id FROM {} GROUP BY chunk_id \
             HAVING pg_catalog.sum(pg_catalog.octet_length(chunk_data)) = {bytes}) found",
            toast.readable.qualified
        );
        Ok(at.session.value_of_all(&sql).await?.map(|found| found == "t"))
    }
}

/// What cannot be read, or may not, is not known.
async fn unless_damaged(
    at: &Reading<'_>,
    known: Result<Option<bool>, ReadError>,
) -> Result<Option<bool>, Interrupted> {
    let Err(error) = known else { return known.map_err(|e| (e, Phase::Rows)) };
    match not_read(at, error, Phase::Rows).await {
        NotRead::Interrupted(error, phase) => Err((error, phase)),
        NotRead::Damage { .. } => Ok(None),
    }
}
