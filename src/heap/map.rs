//! The map: what became of every part of a heap.
//!
//! After ddrescue's mapfile. Its text form is one line for each extent, `start
//! end status`, where start and end are ctids, the end is not in the extent,
//! and the status is one character:
//!
//! ```text
//! # pg_salvage map, version 1
//! (0,0) (511,0) +
//! (511,0) (512,0) -
//! (512,0) (4919,0) +
//! ```

use super::ctid::{BlockNumber, BlockRange, Ctid};
use std::fmt::Write as _;

/// What became of an extent, ordered from less to more processed. It only
/// moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// No read has reached it.
    Untried,
    /// A read over it failed at a place that is not known yet.
    Failed,
    /// One block that failed by itself; its tuples are being read.
    Broken,
    /// Not read, lest the server went down.
    Fenced,
    /// Read by itself, and could not be read.
    Lost,
    /// A tuple of which some columns could not be read; of many in a row, whole
    /// blocks in which there are such tuples.
    Partial,
    /// Read, in a block where damage was seen. Its rows are suspect.
    Suspect,
    /// Read without an error. Its rows are clean.
    Done,
}

impl Status {
    pub const ALL: [Self; 8] = [
        Self::Untried,
        Self::Failed,
        Self::Broken,
        Self::Fenced,
        Self::Lost,
        Self::Partial,
        Self::Suspect,
        Self::Done,
    ];

    pub const fn as_char(self) -> char {
        match self {
            Self::Untried => '?',
            Self::Failed => '*',
            Self::Broken => '/',
            Self::Fenced => '!',
            Self::Lost => '-',
            Self::Partial => '%',
            Self::Suspect => '~',
            Self::Done => '+',
        }
    }

    pub fn from_char(c: char) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_char() == c)
    }

    /// Whether nothing more will be read of it.
    pub fn is_final(self) -> bool {
        self >= Self::Fenced
    }
}

/// A part of the heap with one status: `start` is in it, `end` is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub start: Ctid,
    pub end: Ctid,
    pub status: Status,
}

/// Extents in order, without gap or overlap; neighbours differ in status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TidMap {
    extents: Vec<Extent>,
}

const HEADER: &str = "# pg_salvage map, version 1\n";

impl TidMap {
    /// Nothing of these blocks has been read.
    pub fn new(blocks: BlockRange) -> Self {
        Self::of(blocks, Status::Untried)
    }

    fn of(blocks: BlockRange, status: Status) -> Self {
        let (start, end) = (Ctid::start_of(blocks.start), Ctid::start_of(blocks.end));
        let extents = if start < end { vec![Extent { start, end, status }] } else { Vec::new() };
        Self { extents }
    }

    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The first block that is not clean, or the end.
    pub fn clean_to(&self) -> BlockNumber {
        match self.extents.first() {
            Some(first) if first.status == Status::Done => first.end.block,
            Some(first) => first.start.block,
            None => 0,
        }
    }

    /// Sets the status of a part. What is further along already stays as it is:
    /// status only moves forward.
    pub fn mark(&mut self, start: Ctid, end: Ctid, status: Status) {
        if start >= end {
            return;
        }
        let first = self.extents.partition_point(|e| e.end <= start);
        let last = self.extents.partition_point(|e| e.start < end);
        if first >= last {
            return;
        }
        let mut fresh: Vec<Extent> = Vec::with_capacity(4);
        for old in &self.extents[first..last] {
            let (from, to) = (old.start.max(start), old.end.min(end));
            for part in [
                Extent { start: old.start, end: from, status: old.status },
                Extent { start: from, end: to, status: old.status.max(status) },
                Extent { start: to, end: old.end, status: old.status },
            ] {
                push(&mut fresh, part);
            }
        }
        self.replace(first, last, fresh);
    }

    /// Puts `fresh` in the place of `first..last`, and joins what is now alike
    /// at both seams.
    fn replace(&mut self, mut first: usize, mut last: usize, mut fresh: Vec<Extent>) {
        if let (Some(before), Some(head)) =
            (first.checked_sub(1).map(|i| self.extents[i]), fresh.first_mut())
            && before.status == head.status
        {
            head.start = before.start;
            first -= 1;
        }
        if let (Some(&after), Some(tail)) = (self.extents.get(last), fresh.last_mut())
            && after.status == tail.status
        {
            tail.end = after.end;
            last += 1;
        }
        self.extents.splice(first..last, fresh);
    }

    /// Sets the status of whole blocks.
    pub fn mark_blocks(&mut self, blocks: BlockRange, status: Status) {
        self.mark(Ctid::start_of(blocks.start), Ctid::start_of(blocks.end), status);
    }

    /// The status of one place, if the map covers it.
    pub fn status(&self, at: Ctid) -> Option<Status> {
        let i = self.extents.partition_point(|e| e.end <= at);
        self.extents.get(i).filter(|e| e.start <= at).map(|e| e.status)
    }

    /// Joins the map of the blocks that follow.
    pub fn join(&mut self, next: Self) {
        for extent in next.extents {
            push(&mut self.extents, extent);
        }
    }

    /// Up to which block everything is settled, from the first block on: what
    /// lies before it will not be read again.
    pub fn settled_to(&self) -> BlockNumber {
        let settled = |e: &&Extent| e.status > Status::Fenced;
        match self.extents.iter().find(|e| !settled(e)) {
            Some(open) => open.start.block,
            None => self.extents.last().map_or(0, |e| e.end.block),
        }
    }

    /// The map of some of its blocks.
    pub fn part(&self, blocks: BlockRange) -> Self {
        let (from, to) = (Ctid::start_of(blocks.start), Ctid::start_of(blocks.end));
        let first = self.extents.partition_point(|e| e.end <= from);
        let mut part = Self { extents: Vec::new() };
        for e in self.extents[first..].iter().take_while(|e| e.start < to) {
            let (start, end) = (e.start.max(from), e.end.min(to));
            push(&mut part.extents, Extent { start, end, status: e.status });
        }
        part
    }

    /// How many blocks are clean throughout, have damage in them, and are lost
    /// as a whole (these are damaged, too).
    pub fn blocks(&self) -> BlockCounts {
        let mut counts = BlockCounts::default();
        let mut counted_to = 0u64; // blocks before this one are counted
        for e in &self.extents {
            let (start, end) = (u64::from(e.start.block), u64::from(e.end.block));
            let whole_from = start + u64::from(e.start.offset > 0);
            let whole = end.saturating_sub(whole_from);
            match e.status {
                Status::Done => counts.clean += whole,
                Status::Lost | Status::Fenced => counts.lost += whole,
                _ => {}
            }
            if e.status == Status::Done {
                continue;
            }
            // Every block that this extent touches is not clean.
            let touched_to = end + u64::from(e.end.offset > 0);
            counts.damaged += touched_to.saturating_sub(start.max(counted_to));
            counted_to = counted_to.max(touched_to);
        }
        counts
    }

    /// The text form (see the top of this file).
    pub fn to_text(&self) -> String {
        let mut text = String::from(HEADER);
        for e in &self.extents {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} {} {}", e.start, e.end, e.status.as_char());
        }
        text
    }

    /// Reads the text form. The error names the line.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut map = Self { extents: Vec::new() };
        let body = text.strip_prefix(HEADER).ok_or("line 1: not a map of version 1")?;
        for (i, line) in body.lines().enumerate() {
            let extent = parse_line(line).ok_or_else(|| format!("line {}: \"{line}\"", i + 2))?;
            if map.extents.last().is_some_and(|last| last.end != extent.start) {
                return Err(format!("line {}: does not follow the line before", i + 2));
            }
            push(&mut map.extents, extent);
        }
        Ok(map)
    }
}

/// What the blocks of a map came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCounts {
    pub clean: u64,
    /// With damage in them, the lost ones included.
    pub damaged: u64,
    /// Nothing of them could be read.
    pub lost: u64,
}

/// Adds an extent at the end; an empty one is left out, an alike one joined.
fn push(extents: &mut Vec<Extent>, extent: Extent) {
    if extent.start >= extent.end {
        return;
    }
    match extents.last_mut() {
        Some(last) if last.status == extent.status && last.end == extent.start => {
            last.end = extent.end;
        }
        _ => extents.push(extent),
    }
}

fn parse_line(line: &str) -> Option<Extent> {
    let mut words = line.split(' ');
    let (start, end) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let mut status = words.next()?.chars();
    let extent = Extent { start, end, status: Status::from_char(status.next()?)? };
    (status.next().is_none() && words.next().is_none() && start < end).then_some(extent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(block: u32, offset: u16) -> Ctid {
        Ctid::new(block, offset)
    }

    #[test]
    fn a_map_reads_back_as_it_was_written() {
        let mut map = TidMap::new(BlockRange::new(0, 10));
        map.mark_blocks(BlockRange::new(0, 4), Status::Done);
        map.mark(at(4, 3), at(4, 4), Status::Lost);
        map.mark(at(4, 0), at(5, 0), Status::Suspect);
        assert_eq!(
            map.to_text(),
            "# pg_salvage map, version 1\n(0,0) (4,0) +\n(4,0) (5,0) ~\n(5,0) (10,0) ?\n"
        );
        let mut map = TidMap::new(BlockRange::new(0, 10));
        map.mark(at(4, 3), at(4, 4), Status::Lost);
        assert_eq!(TidMap::from_text(&map.to_text()), Ok(map));
    }

    #[test]
    fn a_map_that_is_not_one_is_refused_by_line() {
        let bad = |body: &str| TidMap::from_text(&format!("{HEADER}{body}")).unwrap_err();
        assert_eq!(TidMap::from_text("hello").unwrap_err(), "line 1: not a map of version 1");
        assert_eq!(bad("(0,0) (1,0) x\n"), "line 2: \"(0,0) (1,0) x\"");
        assert_eq!(
            bad("(0,0) (1,0) +\n(2,0) (3,0) +\n"),
            "line 3: does not follow the line before"
        );
        assert_eq!(bad("(1,0) (1,0) +\n"), "line 2: \"(1,0) (1,0) +\"");
    }

    #[test]
    fn blocks_are_counted_once() {
        let mut map = TidMap::new(BlockRange::new(0, 10));
        map.mark_blocks(BlockRange::new(0, 10), Status::Failed);
        map.mark_blocks(BlockRange::new(2, 4), Status::Lost);
        map.mark(at(5, 3), at(5, 4), Status::Lost);
        map.mark(at(5, 7), at(5, 9), Status::Lost);
        map.mark(at(5, 0), at(6, 0), Status::Broken);
        for (a, b) in [(0, 2), (4, 5), (6, 10)] {
            map.mark_blocks(BlockRange::new(a, b), Status::Done);
        }
        map.mark(at(5, 0), at(6, 0), Status::Broken);
        assert_eq!(map.blocks(), BlockCounts { clean: 7, damaged: 3, lost: 2 });
    }

    #[test]
    fn what_is_settled_reaches_to_the_first_block_with_something_open() {
        let mut map = TidMap::new(BlockRange::new(5, 10));
        assert_eq!(map.settled_to(), 5);
        map.mark_blocks(BlockRange::new(5, 7), Status::Done);
        map.mark(at(7, 0), at(7, 3), Status::Suspect);
        assert_eq!(map.settled_to(), 7);
        map.mark(at(7, 3), at(8, 0), Status::Lost);
        assert_eq!(map.settled_to(), 8);
        assert_eq!(map.clean_to(), 7);
        assert_eq!(TidMap::new(BlockRange::new(5, 10)).clean_to(), 5);
        let part = map.part(BlockRange::new(6, 8));
        assert_eq!(part.extents().len(), 3);
        assert_eq!((part.settled_to(), map.part(BlockRange::new(9, 10)).settled_to()), (8, 9));
        let mut again = map.part(BlockRange::new(5, 6));
        again.join(map.part(BlockRange::new(6, 10)));
        assert_eq!(again, map);
        map.mark_blocks(BlockRange::new(8, 10), Status::Done);
        assert_eq!(map.settled_to(), 10);
    }

    proptest! {
        #[test]
        fn the_map_covers_the_heap_and_status_only_moves_forward(
            marks in prop::collection::vec((0u32..20, 0u16..5, 0u32..20, 0u16..5, 0usize..8), 0..40),
        ) {
            let mut map = TidMap::new(BlockRange::new(0, 20));
            let mut model = [[Status::Untried; 5]; 20];
            for (b1, o1, b2, o2, s) in marks {
                map.mark(at(b1, o1), at(b2, o2), Status::ALL[s]);
                for b in 0u32..20 {
                    for o in 0u16..5 {
                        if at(b1, o1) <= at(b, o) && at(b, o) < at(b2, o2) {
                            let cell = &mut model[b as usize][o as usize];
                            *cell = (*cell).max(Status::ALL[s]);
                        }
                    }
                }
            }
            for b in 0u32..20 {
                for o in 0u16..5 {
                    prop_assert_eq!(map.status(at(b, o)), Some(model[b as usize][o as usize]));
                }
            }
            prop_assert!(map.extents.windows(2).all(|w| w[0].end == w[1].start && w[0].status != w[1].status));
            prop_assert_eq!(TidMap::from_text(&map.to_text()), Ok(map));
        }
    }
}
