//! A block whose page the server refuses, and rows of which were decoded from the
//! page's bytes all the same.

use super::ctid::{BlockNumber, BlockRange, OffsetNumber};
use super::map::Status;
use super::narrow::Narrow;
use super::open::OpenBlock;
use super::outcome::{Place, Read, Recorded, Rows};
use super::salvage::Salvage;
use std::ops::Range;

/// What came of the bytes of a page.
#[derive(Clone, Debug, Default)]
pub struct RawBlock {
    /// Line pointers whose tuples were not had, or not in all columns.
    pub spoilt: Vec<(OffsetNumber, Status)>,
    /// Line pointers that are to be read unchecked, in order.
    pub left: Vec<OffsetNumber>,
}

impl Salvage {
    /// Of a read of this that failed at this place: the block whose page the server
    /// refuses, if nothing else of it is to be tried before its bytes are.
    pub fn refused(&self, read: &Read, place: Place) -> Option<BlockNumber> {
        match (read, place) {
            (Read::Blocks { range, .. }, Place::Page(block))
                if range.len() == 1 && range.start == block && self.open.is_none() =>
            {
                Some(block)
            }
            _ => None,
        }
    }

    /// Whether what the bytes do not give may be read unchecked.
    pub fn allows_unchecked(&self) -> bool {
        self.allowed
    }

    /// The read of [`Self::next_read`] failed for the page of its only block, and rows
    /// were had from its bytes, and are held back. They are suspect.
    pub fn record_raw(&mut self, block: BlockNumber, raw: RawBlock) -> Recorded {
        if self.open.is_some() || self.blocks.next_read().is_none_or(|r| r.start != block) {
            return Recorded::rows(Rows::Undo);
        }
        self.blocks.failed_at(block);
        self.map.mark_blocks(BlockRange::new(block, block + 1), Status::Broken);
        let mut open = OpenBlock::new(block, Narrow::of(&runs(&raw.left), false));
        open.spoilt = raw.spoilt;
        open.damaged = true;
        open.unchecked = !raw.left.is_empty();
        open.in_parts = true;
        self.open = Some(open);
        let recorded = self.settle_if_read(None);
        self.go_on();
        recorded
    }
}

/// Numbers in order, as ranges of those that follow each other.
fn runs(offsets: &[OffsetNumber]) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for offset in offsets.iter().map(|&o| u32::from(o)) {
        match runs.last_mut().filter(|run| run.end == offset) {
            Some(run) => run.end += 1,
            None => runs.push(offset..offset + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::{Ctid, Known, Loss, Outcome, RowClass, TidMap};

    const MAX: u16 = 10;

    fn at_block_2(known: Known) -> Salvage {
        let range = BlockRange::new(0, 4);
        let mut salvage = Salvage::resumed(TidMap::default(), range, MAX, known);
        salvage.record(Outcome::Failed { last: None, place: Place::Page(2) });
        salvage
    }

    #[test]
    fn what_was_not_had_is_lost_and_the_rest_of_the_block_suspect() {
        let mut salvage = at_block_2(Known::default());
        let read = salvage.next_read().unwrap();
        assert_eq!(salvage.refused(&read, Place::Page(2)), Some(2));
        assert_eq!(salvage.refused(&read, Place::Page(1)), None);
        assert_eq!(salvage.refused(&read, Place::Unknown), None);
        let spoilt = vec![(7, Status::Lost), (3, Status::Partial)];
        let recorded = salvage.record_raw(2, RawBlock { spoilt, left: Vec::new() });
        assert_eq!(recorded, Recorded::rows(Rows::Settled(RowClass::Suspect)));
        let status = |offset| salvage.map().status(Ctid::new(2, offset)).unwrap();
        let suspect = [0, 1, 2, 4, 5, 6, 8, MAX].map(status);
        assert_eq!(suspect, [Status::Suspect; 8]);
        assert_eq!((status(3), status(7)), (Status::Partial, Status::Lost));
        let rest = Read::Blocks { range: BlockRange::new(3, 4), tagged: true };
        assert_eq!(salvage.next_read(), Some(rest));
    }

    #[test]
    fn where_the_page_cannot_be_had_unchecked_only_what_is_left_is_lost() {
        let known =
            Known { unchecked: Some(std::collections::BTreeSet::new()), ..Known::default() };
        let mut salvage = at_block_2(known);
        salvage.record_raw(2, RawBlock { spoilt: Vec::new(), left: vec![4, 5, 9] });
        let lost = [salvage.lose_page(), salvage.lose_page()].map(|r| r.loss);
        assert_eq!(lost, [(4, 5), (9, 9)].map(|(a, b)| Some(Loss::Tuples(2, a, b))));
        assert_eq!(salvage.unchecked(), None);
        let status = (1..=MAX).map(|offset| salvage.map().status(Ctid::new(2, offset)).unwrap());
        let lost = |s: Status| s == Status::Lost;
        let lost: Vec<usize> =
            status.enumerate().filter(|(_, s)| lost(*s)).map(|(i, _)| i + 1).collect();
        assert_eq!(lost, [4, 5, 9]);
    }

    #[test]
    fn only_what_the_bytes_do_not_give_is_read_unchecked() {
        let known =
            Known { unchecked: Some(std::collections::BTreeSet::new()), ..Known::default() };
        let mut salvage = at_block_2(known);
        let recorded = salvage.record_raw(2, RawBlock { spoilt: Vec::new(), left: vec![4, 5, 9] });
        assert_eq!(recorded, Recorded::rows(Rows::Hold));
        assert!(salvage.has_rows_of_a_part());
        let mut reads = Vec::new();
        while salvage.unchecked() == Some(2) {
            reads.push(salvage.next_read().unwrap());
            salvage.record(Outcome::Complete);
        }
        let tuples = |first, last| Read::Tuples { block: 2, first, last };
        assert_eq!(reads, [tuples(4, 5), tuples(9, 9)]);
        assert_eq!(salvage.map().status(Ctid::new(2, 9)), Some(Status::Suspect));
        assert_eq!(salvage.fence(), [BlockRange::new(3, 4)]);
    }
}
