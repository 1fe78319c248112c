//! The salvage inside of one block: its tuples by exact TIDs, and, where that is
//! allowed, a page that the server will not vouch for.
//!
//! Such a page is read as any other is: first the block as a whole, then its
//! tuples; but somebody else has to see to it that the server has it in its
//! cache ([`Salvage::unchecked`]). What comes of it is suspect, whatever comes.
//! Who was read so is not read in any other way again, for as long as the page is
//! in that cache the server gives it to all sessions as if nothing was wrong.

use super::ctid::{BlockNumber, BlockRange, Ctid, OffsetNumber};
use super::map::Status;
use super::narrow::Narrow;
use super::open::OpenBlock;
use super::outcome::{Loss, Outcome, Place, Recorded, Rows};
use super::salvage::Salvage;
use std::ops::Range;

impl Salvage {
    /// The block of the next read, if its page is to be read although it is known
    /// to be bad.
    pub fn unchecked(&self) -> Option<BlockNumber> {
        self.open.as_ref().filter(|o| o.unchecked).map(|o| o.block)
    }

    /// The block whose tuples are being read, if damage was seen in it, and not
    /// only in what is stored elsewhere.
    pub fn damaged_block(&self) -> Option<BlockNumber> {
        self.open.as_ref().filter(|o| o.is_bad()).map(|o| o.block)
    }

    /// The page of [`Self::unchecked`] cannot be had in this way either: what is
    /// left of the block is lost.
    pub fn lose_page(&mut self) -> Recorded {
        let Some(open) = self.open.as_mut() else { return Recorded::rows(Rows::Hold) };
        let block = open.block;
        let recorded = match open.tuples.next_read().filter(|_| !open.whole) {
            Some(read) => self.lose_the_rest(block, offset(read.start)),
            None => {
                self.open = None;
                self.lose_block(block)
            }
        };
        self.go_on();
        recorded
    }

    /// No page is read unchecked any more: the block of the next read is left
    /// alone. Returns it.
    pub fn fence_unchecked(&mut self) -> Option<BlockRange> {
        self.allowed = false;
        let open = self.open.take_if(|o| o.unchecked)?;
        let range = self.fence_open(open);
        self.go_on();
        Some(range)
    }

    /// Whether tuples of the open block were read before it would be fenced:
    /// their rows are held back, and suspect then.
    pub fn has_rows_of_a_part(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.is_begun(self.limits.tuples_max))
    }

    /// Nothing more of the open block is read.
    pub(super) fn fence_open(&mut self, open: OpenBlock) -> BlockRange {
        let range = BlockRange::new(open.block, open.block + 1);
        if open.is_begun(self.limits.tuples_max) {
            open.fence(&mut self.map, self.limits.tuples_max);
        } else {
            self.map.mark_blocks(range, Status::Fenced);
        }
        range
    }

    /// A block with a tuple that is known to take the server down is not read as
    /// a whole: its other tuples are read one by one. One whose page is known to
    /// be bad is read as such, and one in which something was seen around that.
    pub(super) fn open_known(&mut self) {
        while self.open.is_none()
            && let Some(block) = self.blocks.next_read().map(|read| read.start)
            && let (lost, is_bad) = (self.killers.remove(&block), self.bad_pages.remove(&block))
            && let seen = self.ahead.open(block)
            && (lost.is_some() || is_bad || seen.is_some())
        {
            self.blocks.complete();
            self.map.mark_blocks(BlockRange::new(block, block + 1), Status::Broken);
            if lost.is_none() && seen.is_none() {
                self.open_unchecked(block);
                return;
            }
            let all = 1..u32::from(self.limits.tuples_max) + 1;
            let tuples = if lost.is_some() { Narrow::careful(all) } else { Narrow::new(all) };
            let mut open = OpenBlock::new(block, tuples);
            // First: of these somebody else has what was had.
            if let Some(lost) = lost {
                open.leave_out_killers(&lost);
            }
            if let Some(around) = seen {
                self.ahead.opened.push((block, open.read_around(&around)));
            }
            if is_bad {
                open.go_unchecked();
            }
            self.open = Some(open);
            self.settle_if_read(None);
        }
    }

    /// Begins with the tuples of a block that failed by itself. What came before
    /// the failure, up to `last`, is held back already.
    pub(super) fn open(
        &mut self,
        block: BlockNumber,
        last: Option<Ctid>,
        blamed: bool,
        narrow: fn(Range<u32>) -> Narrow,
    ) -> Recorded {
        self.map.mark_blocks(BlockRange::new(block, block + 1), Status::Broken);
        let tuples = narrow(self.offsets_after(block, last));
        self.open = Some(OpenBlock { blamed, ..OpenBlock::new(block, tuples) });
        self.settle_if_read(None)
    }

    /// A block failed by itself, for its page.
    pub(super) fn record_page(&mut self, block: BlockNumber) -> Recorded {
        if !self.allowed {
            return self.lose_block(block);
        }
        self.map.mark_blocks(BlockRange::new(block, block + 1), Status::Broken);
        self.open_unchecked(block);
        Recorded::rows(Rows::Undo)
    }

    fn open_unchecked(&mut self, block: BlockNumber) {
        let tuples = Narrow::new(self.offsets_after(block, None));
        let mut open = OpenBlock { whole: true, ..OpenBlock::new(block, tuples) };
        open.go_unchecked();
        self.open = Some(open);
    }

    fn lose_block(&mut self, block: BlockNumber) -> Recorded {
        self.map.mark_blocks(BlockRange::new(block, block + 1), Status::Lost);
        Recorded { rows: Rows::Undo, loss: Some(Loss::Block(block)) }
    }

    fn offsets_after(&self, block: BlockNumber, last: Option<Ctid>) -> Range<u32> {
        let first = last.filter(|l| l.block == block).map_or(0, |l| u32::from(l.offset)) + 1;
        first..u32::from(self.limits.tuples_max) + 1
    }

    /// What came of a read of the open block as a whole.
    pub(super) fn record_whole(&mut self, outcome: Outcome) -> Recorded {
        let Some(open) = &mut self.open else { return Recorded::rows(Rows::Undo) };
        let block = open.block;
        let narrow: fn(Range<u32>) -> Narrow = match outcome {
            Outcome::Failed { last: None, place: Place::Page(b) } if b == block => {
                if open.may_try_again() {
                    return Recorded::rows(Rows::Undo);
                }
                self.open = None;
                return self.lose_block(block);
            }
            Outcome::Hung { last: None } => {
                self.open = None;
                return self.lose_block(block);
            }
            Outcome::Complete => |_| Narrow::new(0..0),
            Outcome::Failed { .. } | Outcome::Partial { .. } => Narrow::new,
            Outcome::Hung { .. } => Narrow::hanging,
            Outcome::Crashed { .. } => Narrow::careful,
        };
        let last = match outcome {
            Outcome::Failed { last, .. } | Outcome::Hung { last } | Outcome::Crashed { last } => {
                last
            }
            Outcome::Complete | Outcome::Partial { .. } => None,
        };
        let tuples = narrow(self.offsets_after(block, last));
        if let Some(open) = &mut self.open {
            (open.whole, open.tuples, open.tries) = (false, tuples, 0);
        }
        self.settle_if_read(None)
    }

    pub(super) fn record_tuples(
        &mut self,
        block: BlockNumber,
        first: OffsetNumber,
        outcome: Outcome,
    ) -> Recorded {
        let Some(open) = &mut self.open else { return Recorded::rows(Rows::Clean) };
        if let Outcome::Failed { last, place: Place::Page(b) } = outcome
            && b == block
        {
            let came = last.filter(|l| l.block == block && l.offset >= first);
            let from = came.map_or(first, |l| l.offset.saturating_add(1));
            if !self.allowed || !open.may_try_again() {
                return self.lose_the_rest(block, from);
            }
            open.go_unchecked();
            open.tuples.advance(u32::from(from));
            return self.settle_if_read(None);
        }
        open.tries = 0;
        let lost = open.record(first, outcome);
        self.settle_if_read(lost.map(|o| Loss::Tuple(Ctid::new(block, o))))
    }

    /// The page went away: no tuple of it from `from` on can be read now.
    fn lose_the_rest(&mut self, block: BlockNumber, from: OffsetNumber) -> Recorded {
        let tuples_max = self.limits.tuples_max;
        let last = self.open.as_mut().map(|open| open.lose_the_rest(from, tuples_max));
        self.settle_if_read(Some(Loss::Tuples(block, from, last.unwrap_or(tuples_max))))
    }

    /// When nothing of the open block is left to be read, marks what became of
    /// it and gives the class of its rows.
    pub(super) fn settle_if_read(&mut self, loss: Option<Loss>) -> Recorded {
        let is_read = |o: &mut OpenBlock| !o.whole && o.tuples.next_read().is_none();
        let Some(open) = self.open.take_if(is_read) else {
            return Recorded { rows: Rows::Hold, loss };
        };
        let holes = self.holes.contains(&open.block);
        let class = open.settle(&mut self.map, self.limits.tuples_max, holes);
        Recorded { rows: Rows::Settled(class), loss }
    }
}

pub(super) fn offset(of: u32) -> OffsetNumber {
    OffsetNumber::try_from(of).unwrap_or(OffsetNumber::MAX)
}
