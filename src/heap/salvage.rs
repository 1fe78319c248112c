//! The salvage: what to read next of a heap, and what a read that failed means.
//!
//! A function of the map: [`Salvage::next_read`] says what to read, and
//! [`Salvage::record`] takes in what came of it and says what becomes of the
//! rows that were read. No IO, no SQL, no error: a place that cannot be read is
//! a [`Loss`].
//!
//! 1. All blocks are read in one go, without tags.
//! 2. When the failing block is known from the server's words, the rows of the
//!    blocks before it are complete: they are kept, the block is read alone, and
//!    what follows in one go.
//! 3. When it is not known, the rows of that read are undone and the blocks are
//!    read again with tags (each row with its ctid), so that the last row that
//!    came bounds the place (see [`super::narrow`]).
//! 4. A block that fails by itself is lost as a whole if the server says that it
//!    could not read its page, or, where that is allowed, read unchecked (see
//!    `within`); else its tuples are read by exact TIDs.
//! 5. The rows of such a block are held back until all of it is settled. They
//!    are clean if all that failed was stored elsewhere (TOAST), else suspect.
//! 6. A read that hung is no damage, and each wrong guess costs a timeout: the
//!    places from the last row on are read alone. A block that hangs before its
//!    first row came is lost as a whole, else its tuples are read.
//! 7. A read under which the server went down is read again in single places
//!    (blocks, then tuples), each alone. A tuple that is known to take the server
//!    down is never read again.
//! 8. Nor is one that would lead the server astray, as somebody says who has
//!    looked at its page (see `ahead`).

use super::ahead::Ahead;
use super::ctid::{BlockNumber, BlockRange, Ctid, OffsetNumber};
use super::map::{Status, TidMap};
use super::narrow::{Narrow, around};
use super::open::OpenBlock;
use super::outcome::{Limits, Loss, Outcome, Place, Read, Recorded, Rows};
use super::within::offset;
use std::collections::{BTreeMap, BTreeSet};

/// So many blocks are read at a time while some columns are read apart: their
/// rows wait for those values, all together.
const APART_BLOCKS: u32 = 32;

/// The salvage of one stretch of blocks of one relation.
#[derive(Clone, Debug)]
pub struct Salvage {
    pub(super) map: TidMap,
    pub(super) blocks: Narrow,
    pub(super) open: Option<OpenBlock>,
    pub(super) tagged: bool,
    pub(super) limits: Limits,
    /// Tuples that took the server down when they were read, by their blocks:
    /// they are not read again. 0: the block did, as a whole.
    pub(super) killers: BTreeMap<BlockNumber, Vec<(OffsetNumber, Status)>>,
    /// Whether bad pages are read unchecked.
    pub(super) allowed: bool,
    /// Blocks whose pages were read unchecked before.
    pub(super) bad_pages: BTreeSet<BlockNumber>,
    /// What was seen in pages before they are read.
    pub(super) ahead: Ahead,
    /// Some columns are read apart.
    apart: bool,
    /// Blocks of the read that is to be recorded of which rows were had in
    /// part, in order.
    pub(super) holes: Vec<BlockNumber>,
}

/// What is known of a heap before it is read.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Tuples that took the server down; offset 0: the block, read as a whole.
    pub killers: Vec<Ctid>,
    /// None: no page is read unchecked. Else those that were before.
    pub unchecked: Option<BTreeSet<BlockNumber>>,
}

impl Salvage {
    pub fn new(range: BlockRange, limits: impl Into<Limits>) -> Self {
        Self::resumed(TidMap::default(), range, limits, Known::default())
    }

    /// Goes on with what follows a map in which everything is settled. Tuples
    /// that are known to take the server down are lost without a read; a block
    /// of which nothing else is known (offset 0) is not read as a whole.
    pub fn resumed(
        mut before: TidMap,
        range: BlockRange,
        limits: impl Into<Limits>,
        known: Known,
    ) -> Self {
        before.join(TidMap::new(range));
        let mut by_block: BTreeMap<BlockNumber, Vec<(OffsetNumber, Status)>> = BTreeMap::new();
        for killer in known.killers.into_iter().filter(|k| range.contains(k.block)) {
            let killers = by_block.entry(killer.block).or_default();
            killers.push((killer.offset, Status::Lost));
        }
        let allowed = known.unchecked.is_some();
        let mut bad_pages = known.unchecked.unwrap_or_default();
        bad_pages.retain(|&block| range.contains(block));
        let alone: BTreeSet<BlockNumber> = by_block.keys().chain(&bad_pages).copied().collect();
        let mut salvage = Self {
            map: before,
            tagged: !alone.is_empty(),
            blocks: Narrow::of(&around(range.start..range.end, alone), false),
            open: None,
            limits: limits.into(),
            killers: by_block,
            allowed,
            bad_pages,
            ahead: Ahead::default(),
            apart: false,
            holes: Vec::new(),
        };
        salvage.go_on();
        salvage
    }

    pub fn map(&self) -> &TidMap {
        &self.map
    }

    /// Whether nothing has been recorded yet, and the first read is as ever.
    pub fn is_fresh(&self) -> bool {
        !self.tagged && self.is_untouched()
    }

    /// Whether nothing has been recorded yet.
    pub fn is_untouched(&self) -> bool {
        self.map.extents().iter().all(|e| e.status == Status::Untried)
    }

    pub fn into_map(self) -> TidMap {
        self.map
    }

    /// From now on all reads are tagged.
    pub fn tag_all(&mut self) {
        self.tagged = true;
        self.go_on();
    }

    /// From now on some columns are read apart from the others: all reads are
    /// tagged, and of not too many blocks.
    pub fn read_apart(&mut self) {
        (self.apart, self.tagged) = (true, true);
        self.blocks.limit(APART_BLOCKS);
    }

    /// Of the read that is recorded next, rows of this block were had without
    /// values that are stored elsewhere. Blocks come in order.
    pub fn has_holes(&mut self, block: BlockNumber) {
        if self.holes.last() != Some(&block) {
            self.holes.push(block);
        }
    }

    /// What to read next; `None` when every block is settled.
    pub fn next_read(&self) -> Option<Read> {
        if let Some(open) = &self.open {
            if open.whole {
                let range = BlockRange::new(open.block, open.block + 1);
                return Some(Read::Blocks { range, tagged: true });
            }
            let read = open.tuples.next_read()?;
            let (first, last) = (offset(read.start), offset(read.end - 1));
            return Some(Read::Tuples { block: open.block, first, last });
        }
        let read = self.blocks.next_read()?;
        let range = BlockRange::new(read.start, read.end);
        // A read of one block looks for what is wrong in it; but the first read
        // of a short relation is only the first.
        let tagged = self.tagged || (range.len() == 1 && !self.is_fresh());
        Some(Read::Blocks { range, tagged })
    }

    /// Takes in what came of the read that [`Self::next_read`] gave.
    pub fn record(&mut self, outcome: Outcome) -> Recorded {
        let recorded = match self.next_read() {
            Some(Read::Blocks { .. }) if self.open.is_some() => self.record_whole(outcome),
            Some(Read::Blocks { range, tagged }) => self.record_blocks(range, tagged, outcome),
            Some(Read::Tuples { block, first, .. }) => self.record_tuples(block, first, outcome),
            None => Recorded::rows(Rows::Clean),
        };
        self.go_on();
        recorded
    }

    /// The read of [`Self::next_read`] was cut short by something that is no
    /// damage. Rows that came before the last block of a tagged read, and all
    /// that came of single tuples, count; the rest is to be read again.
    pub fn cut_short(&mut self, last: Option<Ctid>) -> Recorded {
        // A page that could not be had twice was not asked for twice in a row.
        self.open.iter_mut().for_each(|open| open.tries = 0);
        let recorded = match self.next_read() {
            Some(Read::Blocks { mut range, tagged: true }) if range.len() > 1 => {
                // It may have been wider than the next one is.
                range.end = self.blocks.rest().next().map_or(range.end, |part| part.end);
                let bound = self.done_before(range, last);
                self.blocks.advance(bound);
                Recorded::rows(Rows::Undo)
            }
            Some(Read::Tuples { block, first, .. }) => {
                if let (Some(open), Some(last)) = (&mut self.open, last)
                    && last.block == block
                    && last.offset >= first
                {
                    open.tuples.advance(u32::from(last.offset) + 1);
                }
                self.settle_if_read(None)
            }
            _ => Recorded::rows(Rows::Undo),
        };
        self.go_on();
        recorded
    }

    /// To the next read. After the first, those that are bounded are tagged: no
    /// frame of a file ends with each, and none is undone as a whole.
    pub(super) fn go_on(&mut self) {
        if let Some(blocks) = self.limits.blocks_per_read.filter(|_| !self.is_fresh()) {
            self.tagged = true;
            self.blocks.limit(blocks);
        }
        // Holes of a block that is still open count when it is settled.
        if self.open.is_none() {
            self.holes.clear();
        }
        self.open_known();
    }

    /// The session was lost under the read of [`Self::next_read`], and others
    /// read at the same time: if it was this one, a second look costs a second
    /// crash. So what it covers is read again in single places, and only what
    /// then fails alone is to blame.
    pub fn accuse(&mut self) {
        self.tagged = true;
        match &mut self.open {
            Some(open) => open.tuples.take_care(),
            None => self.blocks.take_care(),
        }
    }

    /// Nothing more is read: what is not settled stays as it is, fenced.
    /// Returns the blocks that were not read; of the first, rows may have been:
    /// see [`Self::has_rows_of_a_part`].
    pub fn fence(&mut self) -> Vec<BlockRange> {
        let mut fenced: Vec<BlockRange> = Vec::new();
        let open = self.open.take().map(|open| self.fence_open(open));
        let rest: Vec<_> = self.blocks.rest().map(|r| BlockRange::new(r.start, r.end)).collect();
        for &range in &rest {
            self.map.mark_blocks(range, Status::Fenced);
        }
        for range in open.into_iter().chain(rest) {
            match fenced.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => fenced.push(range),
            }
        }
        self.blocks = Narrow::new(0..0);
        fenced
    }

    fn record_blocks(&mut self, range: BlockRange, tagged: bool, outcome: Outcome) -> Recorded {
        match outcome {
            Outcome::Complete => {
                self.blocks.complete();
                self.mark_done(range);
                Recorded::rows(Rows::Clean)
            }
            Outcome::Failed { last, place }
                if range.len() == 1 && (tagged || place == Place::Page(range.start)) =>
            {
                self.blocks.failed_at(range.start);
                match place {
                    Place::Page(block) if block == range.start && last.is_none() => {
                        self.record_page(block)
                    }
                    place => {
                        let blamed = place != Place::Elsewhere;
                        self.open(range.start, last, blamed, Narrow::new)
                    }
                }
            }
            Outcome::Failed { last, place: Place::Page(block) }
                if range.contains(block) && last.is_none_or(|l| l.block < block) =>
            {
                self.blocks.failed_at(block);
                self.mark_done(BlockRange::new(range.start, block));
                self.map.mark_blocks(BlockRange::new(block, range.end), Status::Failed);
                Recorded::rows(Rows::Clean)
            }
            Outcome::Failed { .. } if !tagged => {
                self.tagged = true;
                self.map.mark_blocks(range, Status::Failed);
                Recorded::rows(Rows::Undo)
            }
            Outcome::Failed { last, .. } => {
                let bound = self.done_before(range, last);
                self.blocks.failed_from(bound);
                Recorded::rows(Rows::Undo)
            }
            Outcome::Hung { last } => self.record_hung(range, tagged, last),
            // Only of single tuples.
            Outcome::Partial { .. } => Recorded::rows(Rows::Undo),
            Outcome::Crashed { .. } if range.len() == 1 && !tagged => {
                self.accuse();
                Recorded::rows(Rows::Undo)
            }
            Outcome::Crashed { last } if range.len() == 1 => {
                self.blocks.crashed(range.start);
                let recorded = self.open(range.start, last, false, Narrow::careful);
                self.open.iter_mut().for_each(|open| open.crashed = true);
                recorded
            }
            Outcome::Crashed { last } => {
                self.tagged = true;
                let bound = self.done_before(range, last.filter(|_| tagged));
                self.blocks.crashed(bound);
                Recorded::rows(Rows::Undo)
            }
        }
    }

    /// A read of blocks hung.
    fn record_hung(&mut self, range: BlockRange, tagged: bool, last: Option<Ctid>) -> Recorded {
        if !tagged {
            self.tagged = true;
            self.map.mark_blocks(range, Status::Failed);
            return Recorded::rows(Rows::Undo);
        }
        if range.len() > 1 {
            let bound = self.done_before(range, last);
            self.blocks.hung(bound);
            return Recorded::rows(Rows::Undo);
        }
        self.blocks.hung(range.start);
        if last.is_some() {
            return self.open(range.start, last, false, Narrow::hanging);
        }
        self.map.mark_blocks(range, Status::Lost);
        Recorded { rows: Rows::Undo, loss: Some(Loss::Block(range.start)) }
    }

    /// The blocks before the one of the last row are done; what follows failed.
    /// Returns the first block that is not done.
    fn done_before(&mut self, range: BlockRange, last: Option<Ctid>) -> BlockNumber {
        let bound = last.map(|l| l.block).filter(|&b| range.contains(b)).unwrap_or(range.start);
        self.mark_done(BlockRange::new(range.start, bound));
        self.map.mark_blocks(BlockRange::new(bound, range.end), Status::Failed);
        bound
    }

    /// These blocks are read, some of them in part.
    fn mark_done(&mut self, range: BlockRange) {
        let mut from = range.start;
        for &block in self.holes.iter().filter(|&&b| range.contains(b)) {
            self.map.mark_blocks(BlockRange::new(from, block), Status::Done);
            self.map.mark_blocks(BlockRange::new(block, block + 1), Status::Partial);
            from = block + 1;
        }
        self.map.mark_blocks(BlockRange::new(from, range.end), Status::Done);
    }
}
