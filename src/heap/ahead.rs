//! Tuples that must not be read, as the bytes of their pages tell before a read
//! meets them.
//!
//! Somebody else looks at pages, ahead of the next read. What he finds is lost
//! without a read, or had without one, and the other tuples of such a block are
//! read by exact TIDs, which look at nothing else on the page; a block in which
//! something is only doubtful has none to lose, and is read likewise. Either way
//! its rows are suspect. Where only what is stored elsewhere must not be read, the
//! page is sound, and its tuples with such values are read by themselves.

use super::ctid::{BlockNumber, BlockRange, OffsetNumber};
use super::map::Status;
use super::outcome::{Read, Recorded};
use super::salvage::Salvage;
use std::collections::BTreeMap;

/// How a block is read in which something was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Tuples that must not be read, and what they are: lost, or had otherwise.
    pub left_out: Vec<(OffsetNumber, Status)>,
    /// Tuples that are read alone, whatever is read of the others.
    pub alone: Vec<OffsetNumber>,
    /// Whether the page itself is sound.
    pub sound: bool,
}

/// What was seen in pages so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Ahead {
    /// Blocks before this one were looked at, if they had to be.
    to: BlockNumber,
    /// By blocks that are not opened yet.
    seen: BTreeMap<BlockNumber, Around>,
    /// Opened since somebody asked.
    pub(super) opened: Vec<Opened>,
}

/// A block that is read around what was seen in it, and the tuples that are left
/// out for that: not those that were dealt with before.
pub type Opened = (BlockNumber, Vec<OffsetNumber>);

impl Ahead {
    /// What was seen in this block, which is being opened.
    pub(super) fn open(&mut self, block: BlockNumber) -> Option<Around> {
        self.seen.remove(&block)
    }
}

impl Salvage {
    /// The blocks of a read that were not looked at.
    pub fn not_looked_at(&self, read: &Read) -> Option<BlockRange> {
        let range = match *read {
            Read::Blocks { range, .. } => range,
            Read::Tuples { block, .. } => BlockRange::new(block, block + 1),
        };
        let rest = BlockRange::new(range.start.max(self.ahead.to), range.end);
        (!rest.is_empty()).then_some(rest)
    }

    /// Where the stretch ends.
    pub fn end(&self) -> BlockNumber {
        self.map.extents().last().map_or(0, |e| e.end.block)
    }

    /// The blocks from the next read up to `to` were looked at: those in which
    /// something is wrong, and how they are to be read. No read goes on behind
    /// `to` where something was wrong.
    pub fn looked_at(&mut self, to: BlockNumber, seen: BTreeMap<BlockNumber, Around>) -> Recorded {
        self.ahead.to = self.ahead.to.max(to);
        if !seen.is_empty() {
            self.tagged = true;
            self.blocks.cut(to);
        }
        for (block, around) in seen {
            match self.open.as_mut().filter(|open| open.block == block) {
                Some(open) => {
                    self.ahead.opened.push((block, open.read_around(&around)));
                }
                None if self.blocks.set_apart(block) => {
                    self.ahead.seen.insert(block, around);
                }
                None => {}
            }
        }
        let recorded = self.settle_if_read(None);
        self.go_on();
        recorded
    }

    /// Blocks that were opened since this was last asked, and are read around
    /// what was seen in them.
    pub fn take_opened(&mut self) -> Vec<Opened> {
        std::mem::take(&mut self.ahead.opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::{Outcome, Place};

    #[test]
    fn of_an_open_block_only_tuples_are_left_out_that_were_not_read() {
        let mut salvage = Salvage::new(BlockRange::new(0, 1), 8);
        while !matches!(salvage.next_read(), Some(Read::Tuples { first: 1, last: 1, .. })) {
            salvage.record(Outcome::Failed { last: None, place: Place::Unknown });
        }
        salvage.record(Outcome::Partial { place: Place::Unknown });
        let left_out = vec![(1, Status::Partial), (3, Status::Partial)];
        let around = Around { left_out, ..Around::default() };
        salvage.looked_at(1, BTreeMap::from([(0, around)]));
        assert_eq!(salvage.take_opened(), [(0, vec![3])]);
    }
}
