//! A set of blocks as ranges, of bounded size.

use std::collections::BTreeMap;

/// So many ranges are kept; what would make more is only counted.
const RANGES_MAX: usize = 10_000;

/// Blocks in their order. Ranges neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Blocks {
    /// First and last block, both of them in it.
    ranges: BTreeMap<u32, u32>,
    /// So often something was left out, as there were too many.
    pub(super) omitted: u64,
}

impl Blocks {
    /// Adds the blocks from the first to the last.
    pub(super) fn add(&mut self, first: u32, last: u32) {
        let (mut first, mut last) = (first.min(last), first.max(last));
        let touching: Vec<u32> = self
            .ranges
            .range(..=last.saturating_add(1))
            .rev()
            .take_while(|(_, end)| end.saturating_add(1) >= first)
            .map(|(start, _)| *start)
            .collect();
        if touching.is_empty() && self.ranges.len() >= RANGES_MAX {
            self.omitted += 1;
            return;
        }
        for start in touching {
            if let Some(end) = self.ranges.remove(&start) {
                first = first.min(start);
                last = last.max(end);
            }
        }
        self.ranges.insert(first, last);
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }

    /// How many blocks they are.
    pub(super) fn count(&self) -> u64 {
        self.ranges().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// How many of them are between these two, which count too.
    pub(super) fn count_within(&self, first: u32, last: u32) -> u64 {
        let both = self.ranges().map(|(a, b)| (a.max(first), b.min(last)));
        both.filter(|(a, b)| a <= b).map(|(a, b)| u64::from(b - a) + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut blocks = Blocks::default();
        for (first, last) in
            [(5, 5), (7, 7), (100, 110), (6, 6), (0, 1), (105, 120), (u32::MAX, u32::MAX)]
        {
            blocks.add(first, last);
        }
        let ranges: Vec<_> = blocks.ranges().collect();
        assert_eq!(ranges, [(0, 1), (5, 7), (100, 120), (u32::MAX, u32::MAX)]);
        assert_eq!((blocks.count(), blocks.count_within(7, 101)), (27, 3));
        blocks.add(u32::MAX, 0);
        assert_eq!(blocks.ranges().collect::<Vec<_>>(), [(0, u32::MAX)]);
    }

    #[test]
    fn their_number_is_bounded() {
        let mut blocks = Blocks::default();
        (0..30_000).for_each(|i| blocks.add(i * 2, i * 2));
        assert_eq!((blocks.ranges().count(), blocks.omitted), (RANGES_MAX, 20_000));
        blocks.add(1, 1);
        assert_eq!(blocks.ranges().next(), Some((0, 2)));
    }
}
