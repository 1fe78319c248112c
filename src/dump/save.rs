//! What of a stretch is written down in the journal, so that a later run can go
//! on with it.
//!
//! The salvage goes through the heap from front to back: what is settled is a
//! part at the front, its rows are in the files, and nothing else is. So a
//! record says how far that part reaches, what became of it since the record
//! before, and how much of the files belongs to it. Files are synced before.

use super::Stretch;
use crate::heap::{BlockNumber, BlockRange};
use crate::output::OutputError;
use crate::output::journal::{Journal, Record};
use crate::output::{journal, manifest};
use std::sync::Arc;

/// In a stretch with much damage, a record is written after so many reads, or
/// so many bytes of rows. Counted, not timed: each one ends a frame, and the
/// same damage is to give the same file.
const READS_PER_RECORD: u32 = 200;
const BYTES_PER_RECORD: u64 = 128 * 1024 * 1024;

/// Where the records of a stretch go, and what they have said so far.
#[derive(Clone)]
pub struct Saving {
    pub journal: Arc<Journal>,
    pub oid: u32,
    /// The snapshot that it is read in now.
    pub snapshot: u32,
    /// Settled before this block, by the last record.
    to: BlockNumber,
    /// So many lost places were in it.
    lost: usize,
    reads: u32,
    bytes: u64,
}

impl Saving {
    /// A finding is none any more that may have been written down.
    pub(super) fn write_again_from(&mut self, finding: usize) {
        self.lost = self.lost.min(finding);
    }

    /// `to`: up to where it was settled by earlier runs.
    pub fn new(journal: Arc<Journal>, oid: u32, to: BlockNumber) -> Self {
        Self { journal, oid, snapshot: 0, to, lost: 0, reads: 0, bytes: 0 }
    }
}

impl Stretch {
    /// After a read: writes a record, if the last was long ago.
    pub(super) async fn save_sometimes(&mut self) -> Result<(), OutputError> {
        let written = self.lanes.written();
        let Some(saving) = &mut self.saving else { return Ok(()) };
        saving.reads += 1;
        if saving.reads < READS_PER_RECORD && written - saving.bytes < BYTES_PER_RECORD {
            return Ok(());
        }
        self.save().await
    }

    /// Writes a record of what is settled, unless that has not changed.
    pub async fn save(&mut self) -> Result<(), OutputError> {
        let map = self.salvage.map();
        let to = map.settled_to();
        // Rows that may yet be undone are in the file.
        if self.came.is_some() || self.saving.as_ref().is_none_or(|s| to <= s.to) {
            return Ok(());
        }
        let files = self.lanes.save().await?;
        let map = self.salvage.map();
        let end = map.extents().last().map_or(to, |e| e.end.block);
        let Some(saving) = &mut self.saving else { return Ok(()) };
        // The last one may have been joined by its neighbour since.
        let lost_kept = saving.lost.min(self.findings.list.len()).saturating_sub(1);
        let lost = self.findings.list[lost_kept..].iter().map(super::Finding::manifest);
        let record = journal::Stretch {
            oid: saving.oid,
            stretch: self.index,
            in_place: self.lanes.clean().is_in_place(),
            end,
            snapshot: saving.snapshot,
            map: map.part(BlockRange::new(saving.to, to)).to_text(),
            lost_kept,
            lost: lost.collect::<Vec<manifest::Lost>>(),
            lost_omitted: self.findings.omitted,
            files,
        };
        saving.journal.append(&Record::Stretch(record))?;
        (saving.to, saving.lost, saving.reads) = (to, self.findings.list.len(), 0);
        saving.bytes = self.lanes.written();
        saving.journal.sync_sometimes().await
    }
}
