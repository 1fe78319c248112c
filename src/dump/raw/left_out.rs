//! Tuples that are left out of all reads, since they would lead the server astray:
//! what is had of them from the bytes of their page.
//!
//! Of most of them one length is wrong, and the columns before it are as they were.

use super::row::RawRow;
use super::{Had, Interrupted, decode, image, wanted};
use crate::dump::{Reading, Stretch};
use crate::heap::{BlockNumber, OffsetNumber, Status};
use crate::output::OutputError;
use crate::page::raw::look;
use std::sync::atomic::Ordering::Relaxed;

/// What the bytes of tuples gave that are left out.
#[derive(Default)]
pub(in crate::dump) struct LeftOut {
    rows: Vec<RawRow>,
    /// By their places in the rows.
    names: Vec<String>,
    /// Nobody sees them: they are no loss.
    not_seen: Vec<OffsetNumber>,
}

impl LeftOut {
    /// What a tuple is that is left out.
    pub(in crate::dump) fn status(&self, number: OffsetNumber) -> Status {
        match self.rows.iter().find(|row| row.at.offset == number) {
            Some(row) if row.lost.is_empty() => Status::Suspect,
            Some(_) => Status::Partial,
            None if self.not_seen.contains(&number) => Status::Suspect,
            None => Status::Lost,
        }
    }

    /// Of no other tuples than these.
    pub(in crate::dump) fn keep(&mut self, numbers: &[OffsetNumber]) {
        self.rows.retain(|row| numbers.contains(&row.at.offset));
    }

    /// How much memory the rows take, in bytes.
    pub(in crate::dump) fn len(&self) -> usize {
        let fields = self.rows.iter().flat_map(|row| row.fields.iter().flatten());
        let chunks = self.rows.iter().flat_map(|row| row.lost.iter().flat_map(|l| &l.chunks));
        fields.map(Vec::len).sum::<usize>() + chunks.map(Vec::len).sum::<usize>()
    }
}

/// Decodes these tuples of a block, where that is wanted and can be done.
pub(in crate::dump) async fn left_out(
    at: &Reading<'_>,
    block: BlockNumber,
    numbers: &[OffsetNumber],
) -> Result<LeftOut, Interrupted> {
    let Some(layout) = wanted(at) else { return Ok(LeftOut::default()) };
    let Some(image) = image(at, block).await? else { return Ok(LeftOut::default()) };
    let mut looked = look(&image, block, &layout.attributes, at.readable.tuples_max);
    looked.tuples.retain(|(number, _)| numbers.contains(number));
    looked.broken.clear();
    let Had { rows, not_seen, .. } = decode(at, layout, &image, block, &looked).await?;
    at.progress.rows.fetch_add(rows.len() as u64, Relaxed);
    Ok(LeftOut { rows, not_seen, names: at.column_names.to_vec() })
}

impl Stretch {
    /// Holds back the rows of a block whose turn has come.
    pub(in crate::dump) fn hold_left_out(&mut self, left_out: &LeftOut) -> Result<(), OutputError> {
        self.hold_decoded(&left_out.rows, &left_out.names)
    }
}
