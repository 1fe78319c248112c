//! Where a large relation is cut, so that several workers read it.

use super::generation::Numbered;
use super::{Run, RunError};
use crate::heap::{BlockRange, stretches};
use crate::server::inventory::Relation;
use crate::server::sql::Readable;

/// Without `--split-size`: a relation of so many bytes is cut in any case, so
/// that a read that fails without a place is short, and a run that is ended can
/// be gone on with.
const SPLIT_BYTES: u64 = 1 << 30;

/// And none of so few bytes: they are read in a second.
const SPLIT_BYTES_MIN: u64 = 64 << 20;

/// The longest relation that is read as one stretch, in bytes, where nobody said.
/// `bytes` are read in all. What is more than half of a worker's share would keep
/// one worker busy when the others are done, the more so if it is damaged.
pub(super) fn whole_max(bytes: u64, jobs: usize) -> u64 {
    match u64::try_from(jobs).unwrap_or(u64::MAX) {
        0 | 1 => SPLIT_BYTES,
        jobs => (bytes / 2 / jobs).clamp(SPLIT_BYTES_MIN, SPLIT_BYTES),
    }
}

impl Run {
    /// Where a large relation is cut; not at all, if it is not large. `blocks`
    /// are read in all.
    pub(super) async fn cut(
        &self,
        first: &mut Numbered,
        relation: &Relation,
        readable: &Readable,
        (length, blocks): (Option<u32>, u64),
    ) -> Result<Vec<BlockRange>, RunError> {
        let block_size = u64::from(first.session.server().block_size.max(1));
        let bytes = blocks.saturating_mul(block_size);
        let whole_max = self.options.split_bytes.unwrap_or(whole_max(bytes, self.options.jobs));
        let whole_max = u32::try_from(whole_max / block_size).unwrap_or(u32::MAX);
        let Some(length) = length.filter(|_| relation.heap && readable.tid_ranges) else {
            return Ok(Vec::new());
        };
        let begun = self.begun(relation, length);
        if begun == 0 && length <= whole_max {
            return Ok(Vec::new());
        }
        let can = self.can_plan(first, &readable.probe()).await?;
        Ok(if can { behind(begun, stretches(length - begun, whole_max)) } else { Vec::new() })
    }

    /// How many blocks of it an earlier run has read. One that has another file, or
    /// became shorter, is read from its beginning.
    fn begun(&self, relation: &Relation, length: u32) -> u32 {
        let begun = self.options.begun.get(&relation.oid).filter(|_| self.dir.is_none());
        let begun = begun.filter(|b| relation.filenode == Some(b.filenode) && b.to <= length);
        begun.map_or(0, |b| b.to)
    }

    /// Whether a read of a part can be planned at all: not where pg_statistic
    /// is damaged, and then plain COPY of everything is all there is.
    async fn can_plan(&self, first: &mut Numbered, probe: &str) -> Result<bool, RunError> {
        match first.session.probe(probe).await {
            Ok(()) => Ok(true),
            Err(e) => {
                self.after_failure(first, e).await?;
                Ok(false)
            }
        }
    }
}

/// The same stretches, so many blocks further on.
fn behind(blocks: u32, mut stretches: Vec<BlockRange>) -> Vec<BlockRange> {
    for range in &mut stretches {
        range.start = range.start.saturating_add(blocks);
        range.end = range.end.saturating_add(blocks);
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_much_of_all_is_cut_for_many_and_never_for_one() {
        let gb = 1 << 30;
        assert_eq!(whole_max(gb, 1), gb);
        assert_eq!(whole_max(gb, 2), gb / 4);
        assert_eq!(whole_max(100 * gb, 8), gb);
        assert_eq!(whole_max(gb, 256), 64 << 20);
        assert_eq!(whole_max(0, 4), 64 << 20);
        assert_eq!(whole_max(u64::MAX, usize::MAX), 64 << 20);
    }
}
