//! The places of one relation that were lost, to be asked of each place that an
//! index points to. A tuple of which only some columns were had is among them:
//! the whole row is to be had elsewhere.

use crate::heap::{BlockRange, Ctid, Extent, Status, TidMap};
use crate::output::manifest;
use std::collections::{BTreeMap, BTreeSet};

/// Behind the last block that there can be.
const END: u32 = u32::MAX;

/// So many stretches between lost places are named in one statement at most, and
/// so many blocks tuple by tuple.
const PARTS_MAX: usize = 500;
const BY_TUPLE_MAX: usize = 100;

/// A part of the heap that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Blocks(BlockRange),
    /// A block of which tuples were read one by one.
    Tuples(u32),
}

/// How a place was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// With its whole block.
    Block {
        /// The server reads an empty page there, or none, and says nothing: so
        /// whoever went there by an index has marked its entry as dead.
        silent: bool,
    },
    /// The tuple here was lost: for one that was updated in place (HOT), an
    /// index points to where the chain of its versions begins.
    Tuple(Ctid),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// In order, without overlap.
    blocks: Vec<(BlockRange, bool)>,
    /// Lost tuples of other blocks.
    tuples: BTreeSet<Ctid>,
    /// Where an index points to, and the lost tuple that it leads to.
    roots: BTreeMap<Ctid, Ctid>,
    /// Blocks of which rows are suspect.
    suspect: Vec<BlockRange>,
    /// The length of the heap when it was read.
    end: u32,
    /// Some tuples with lost columns are in no list.
    pub has_unlisted: bool,
}

impl Places {
    /// Of a relation's entry, and of its map: the list in the entry has an end.
    pub(super) fn of(entry: &manifest::Relation, map: Option<&TidMap>) -> Self {
        let mut blocks = Vec::new();
        let mut tuples = Vec::new();
        // Of a block that was not tried to its end the map knows which part was.
        let is_in_map =
            |l: &&manifest::Lost| map.is_some() && l.cause == crate::dump::Cause::NotTried.name();
        for lost in entry.lost.iter().filter(|l| !is_in_map(l)) {
            let silent = lost.cause == crate::dump::Cause::SilentLoss.name();
            match (lost.first_block, lost.last_block, &lost.ctid) {
                (Some(first), Some(last), _) => {
                    blocks.push((BlockRange::new(first, last.saturating_add(1)), silent));
                }
                (_, _, Some(ctid)) => tuples.extend(ctid.parse::<Ctid>()),
                _ if lost.cause == crate::dump::Cause::MissingFile.name() => {
                    blocks.push((BlockRange::new(0, END), false));
                }
                _ => {}
            }
        }
        let is_lost =
            |e: &&Extent| matches!(e.status, Status::Lost | Status::Fenced | Status::Partial);
        let mut in_part = false;
        for e in map.iter().flat_map(|m| m.extents()).filter(is_lost) {
            let whole_from = e.start.block + u32::from(e.start.offset > 0);
            let whole = BlockRange::new(whole_from, e.end.block);
            tuples.extend(single(e));
            if e.status == Status::Partial {
                // Which rows of them is in the entry alone: the others were read.
                in_part |= !whole.is_empty();
            } else {
                blocks.push((whole, false));
            }
        }
        let suspect = map.iter().flat_map(|m| m.extents()).filter(|e| e.status == Status::Suspect);
        let touched =
            |e: &Extent| BlockRange::new(e.start.block, e.end.block + u32::from(e.end.offset > 0));
        Self {
            suspect: suspect.map(touched).collect(),
            end: u32::try_from(entry.blocks.total).unwrap_or(END),
            has_unlisted: in_part && entry.lost_omitted > 0,
            ..Self::new(blocks, &tuples)
        }
    }

    fn new(mut blocks: Vec<(BlockRange, bool)>, tuples: &[Ctid]) -> Self {
        blocks.retain(|(range, _)| !range.is_empty());
        blocks.sort_by_key(|(range, silent)| (range.start, *silent));
        let mut places = Self::default();
        for (range, silent) in blocks {
            let end = places.blocks.last().map_or(0, |(last, _)| last.end);
            let range = BlockRange::new(range.start.max(end), range.end);
            if !range.is_empty() {
                places.blocks.push((range, silent));
            }
        }
        let single = tuples.iter().filter(|t| places.block(t.block).is_none());
        places.tuples = single.copied().collect();
        places
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.tuples.is_empty()
    }

    /// Whether what an index means by this place was lost.
    pub(super) fn loss(&self, at: Ctid) -> Option<Loss> {
        let block = self.block(at.block).map(|silent| Loss::Block { silent });
        let own = || self.tuples.get(&at);
        block.or_else(|| self.roots.get(&at).or_else(own).copied().map(Loss::Tuple))
    }

    /// Whether what is at this place itself could be read, if anything is.
    pub(super) fn is_readable(&self, at: Ctid) -> bool {
        self.block(at.block).is_none() && !self.tuples.contains(&at)
    }

    fn block(&self, block: u32) -> Option<bool> {
        let next = self.blocks.partition_point(|(range, _)| range.start <= block);
        let (range, silent) = self.blocks.get(next.checked_sub(1)?)?;
        range.contains(block).then_some(*silent)
    }

    /// What was read between lost places, in order. None: there is too much of it.
    pub(super) fn parts_read(&self) -> Option<Vec<Part>> {
        let lost = self.tuples_by_block().into_keys().map(|b| BlockRange::new(b, b + 1));
        let by_tuple = lost.chain(self.suspect.iter().copied()).map(|range| (range, true));
        let mut apart: Vec<(BlockRange, bool)> =
            self.ranges().map(|range| (range, false)).chain(by_tuple).collect();
        apart.sort_by_key(|(range, by_tuple)| (range.start, *by_tuple));
        let (mut parts, mut tuples, mut at) = (Vec::new(), 0, 0);
        for (range, by_tuple) in apart {
            let range = BlockRange::new(range.start.max(at), range.end.min(self.end));
            if range.is_empty() {
                continue;
            }
            let before = BlockRange::new(at, range.start);
            parts.extend(Some(Part::Blocks(before)).filter(|_| !before.is_empty()));
            if by_tuple {
                tuples += range.len() as usize;
                if tuples > BY_TUPLE_MAX {
                    return None;
                }
                parts.extend((range.start..range.end).map(Part::Tuples));
            }
            at = range.end;
        }
        let rest = BlockRange::new(at, self.end);
        parts.extend(Some(Part::Blocks(rest)).filter(|_| at < self.end));
        (parts.len() <= PARTS_MAX).then_some(parts)
    }

    /// The lost ranges of blocks.
    pub(super) fn ranges(&self) -> impl Iterator<Item = BlockRange> {
        self.blocks.iter().map(|(range, _)| *range)
    }

    /// The lost tuples of blocks that were not lost, by block.
    pub(super) fn tuples_by_block(&self) -> BTreeMap<u32, Vec<u16>> {
        let mut by_block: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
        for lost in &self.tuples {
            by_block.entry(lost.block).or_default().push(lost.offset);
        }
        by_block
    }

    /// Says that an index points to `root` where it means this lost tuple, or an
    /// earlier version of it.
    pub(super) fn leads_to(&mut self, root: Ctid, lost: Ctid) {
        self.roots.insert(root, lost);
    }
}

/// The tuples of an extent that lie in blocks of which it has only a part.
fn single(e: &Extent) -> Vec<Ctid> {
    let mut tuples = Vec::new();
    // A block's last line pointer is not known: as many as fit into the largest.
    const OFFSETS_MAX: u16 = 1169;
    if e.start.block == e.end.block {
        tuples.extend((e.start.offset.max(1)..e.end.offset).map(|o| Ctid::new(e.end.block, o)));
        return tuples;
    }
    if e.start.offset > 0 {
        tuples.extend((e.start.offset..=OFFSETS_MAX).map(|o| Ctid::new(e.start.block, o)));
    }
    tuples.extend((1..e.end.offset).map(|o| Ctid::new(e.end.block, o)));
    tuples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_lost_with_its_block_or_by_itself() {
        let ranges = [(5, 7, true), (6, 9, false), (20, END, false), (3, 3, false)];
        let blocks = ranges.map(|(a, b, silent)| (BlockRange::new(a, b), silent)).to_vec();
        let at = Ctid::new;
        let mut places = Places::new(blocks, &[at(2, 3), at(6, 1)]);
        let block = |silent| Some(Loss::Block { silent });
        assert_eq!(places.loss(at(4, 1)), None);
        assert_eq!(
            [5, 6, 7, 8].map(|b| places.loss(at(b, 1))),
            [true, true, false, false].map(block)
        );
        assert_eq!((places.loss(at(9, 1)), places.loss(at(19, 1))), (None, None));
        assert_eq!(places.loss(at(END - 1, 1)), block(false));
        assert_eq!(places.loss(at(2, 3)), Some(Loss::Tuple(at(2, 3))));
        assert_eq!(places.loss(at(2, 1)), None);
        places.leads_to(at(2, 1), at(2, 3));
        assert_eq!(places.loss(at(2, 1)), Some(Loss::Tuple(at(2, 3))));
        assert_eq!(places.tuples_by_block(), BTreeMap::from([(2, vec![3])]));
        let readable = [at(2, 1), at(2, 3), at(5, 1), at(9, 1)].map(|at| places.is_readable(at));
        assert_eq!(readable, [true, false, false, true]);
        assert_eq!(places.ranges().count(), 3);
    }

    #[test]
    fn what_was_read_is_what_lies_between() {
        let blocks = [(5, 7), (12, 13), (20, END)];
        let blocks = blocks.map(|(a, b)| (BlockRange::new(a, b), false)).to_vec();
        let lost = Places::new(blocks, &[Ctid::new(2, 3)]);
        let read = |places: Places| {
            let parts = places.parts_read().unwrap().into_iter();
            parts
                .map(|part| match part {
                    Part::Blocks(range) => format!("{}-{}", range.start, range.end),
                    Part::Tuples(block) => block.to_string(),
                })
                .collect::<Vec<_>>()
        };
        let suspect = vec![BlockRange::new(2, 3), BlockRange::new(9, 11), BlockRange::new(12, 13)];
        let places = Places { suspect, end: 15, ..lost.clone() };
        assert_eq!(read(places), ["0-2", "2", "3-5", "7-9", "9", "10", "11-12", "13-15"]);
        assert_eq!(read(Places { end: 30, ..lost.clone() }), ["0-2", "2", "3-5", "7-12", "13-20"]);
        assert_eq!(read(lost.clone()), Vec::<String>::new());
        let suspect = vec![BlockRange::new(0, 101)];
        assert_eq!(Places { suspect, end: 200, ..lost }.parts_read(), None);
    }

    #[test]
    fn a_map_tells_of_parts_of_blocks() {
        let mut map = TidMap::new(BlockRange::new(0, 10));
        map.mark(Ctid::new(2, 3), Ctid::new(2, 5), Status::Lost);
        map.mark(Ctid::new(4, 0), Ctid::new(6, 2), Status::Fenced);
        let extents = map.extents().iter().filter(|e| e.status != Status::Untried);
        let tuples: Vec<Ctid> = extents.flat_map(single).collect();
        assert_eq!(tuples, [Ctid::new(2, 3), Ctid::new(2, 4), Ctid::new(6, 1)]);
    }
}
