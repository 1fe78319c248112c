//! Which blocks of a heap to ask about next: ranges in order, and around what
//! makes a check fail ever smaller ones, down to the block. Pure.

/// Blocks in one check, unless it fails.
const RANGE_BLOCKS: u32 = 1024;

#[derive(Clone, Debug)]
pub(super) struct Ranges {
    /// All before is cut into ranges.
    next: u32,
    end: u32,
    /// So many at a time.
    step: u32,
    /// Ranges to be asked about before; the next is the last. Half-open.
    todo: Vec<(u32, u32)>,
}

/// What a check that failed leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Narrowed {
    /// Less is to be asked about.
    Smaller,
    /// Just this block fails; none: the relation has no blocks at all.
    Lost(Option<u32>),
}

impl Ranges {
    /// Of a relation without blocks one range is given, which is empty: its file
    /// is to be opened all the same.
    pub(super) fn new(blocks: u32) -> Self {
        let todo = if blocks == 0 { vec![(0, 0)] } else { Vec::new() };
        Self { next: 0, end: blocks, step: RANGE_BLOCKS, todo }
    }

    /// The next range; it stays the next until something became of it.
    pub(super) fn next(&mut self) -> Option<(u32, u32)> {
        if self.todo.is_empty() && self.next < self.end {
            let end = self.end.min(self.next.saturating_add(self.step));
            self.todo.push((self.next, end));
            self.next = end;
        }
        self.todo.last().copied()
    }

    /// The next range was checked.
    pub(super) fn done(&mut self) {
        self.todo.pop();
    }

    /// A check of the next range failed; perhaps it is known at which block.
    pub(super) fn failed(&mut self, at: Option<u32>) -> Narrowed {
        let Some((first, end)) = self.todo.pop() else { return Narrowed::Lost(None) };
        if end.saturating_sub(first) < 2 {
            return Narrowed::Lost((first < end).then_some(first));
        }
        let parts = match at.filter(|at| (first..end).contains(at)) {
            Some(at) => [(at + 1, end), (at, at + 1), (first, at)],
            None => {
                let middle = first + (end - first) / 2;
                [(middle, end), (first, middle), (first, first)]
            }
        };
        self.todo.extend(parts.into_iter().filter(|(first, end)| first < end));
        Narrowed::Smaller
    }

    /// A check took too long: from now on each is of fewer blocks.
    pub(super) fn slower(&mut self) {
        self.step = (self.step / 4).max(1);
    }

    /// The relation has become shorter. Whether that leaves less to do.
    pub(super) fn cut(&mut self, blocks: u32) -> bool {
        if blocks >= self.end {
            return false;
        }
        self.end = blocks;
        self.next = self.next.min(blocks);
        self.todo.retain_mut(|(first, end)| {
            *end = blocks.min(*end);
            *first < *end
        });
        true
    }

    /// The block with which all begins that is left.
    pub(super) fn left(&self) -> u32 {
        self.todo.last().map_or(self.next, |(first, _)| *first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Checks a heap of which some blocks make a check fail. Returns those that
    /// were lost, those that were checked, and the number of checks.
    fn run(blocks: u32, bad: &[u32], tells: bool) -> (Vec<u32>, BTreeSet<u32>, usize) {
        let mut ranges = Ranges::new(blocks);
        let (mut lost, mut checked, mut checks) = (Vec::new(), BTreeSet::new(), 0);
        while let Some((first, end)) = ranges.next() {
            checks += 1;
            let at = bad.iter().copied().find(|at| (first..end).contains(at));
            match at {
                None => {
                    assert!((first..end).all(|block| checked.insert(block)), "twice");
                    ranges.done();
                }
                Some(at) => {
                    if let Narrowed::Lost(block) = ranges.failed(tells.then_some(at)) {
                        lost.extend(block);
                    }
                }
            }
        }
        (lost, checked, checks)
    }

    #[test]
    fn what_fails_is_found_and_all_else_is_checked_once() {
        for bad in [&[][..], &[0], &[5000], &[1023, 1024], &[7, 8, 9, 2500, 9999]] {
            for tells in [true, false] {
                let (lost, checked, checks) = run(10_000, bad, tells);
                assert_eq!(lost, bad);
                assert_eq!(checked.len() + bad.len(), 10_000);
                let each = if tells { 3 } else { 22 };
                assert!(checks <= 10 + bad.len() * each, "{checks} for {bad:?}, {tells}");
            }
        }
    }

    #[test]
    fn a_relation_without_blocks_is_asked_about_once() {
        let mut ranges = Ranges::new(0);
        assert_eq!(ranges.next(), Some((0, 0)));
        assert_eq!(ranges.failed(None), Narrowed::Lost(None));
        assert_eq!(ranges.next(), None);
    }

    #[test]
    fn after_a_check_that_took_too_long_less_is_checked_at_a_time() {
        let mut ranges = Ranges::new(5000);
        assert_eq!(ranges.next(), Some((0, 1024)));
        ranges.slower();
        ranges.done();
        assert_eq!(ranges.next(), Some((1024, 1280)));
        (0..9).for_each(|_| ranges.slower());
        ranges.done();
        assert_eq!(ranges.next(), Some((1280, 1281)));
    }

    #[test]
    fn what_was_cut_off_is_not_asked_about() {
        let mut ranges = Ranges::new(5000);
        assert_eq!(ranges.next(), Some((0, 1024)));
        assert!(!ranges.cut(5000));
        assert!(ranges.cut(1000));
        assert_eq!(ranges.next(), Some((0, 1000)));
        ranges.done();
        assert_eq!((ranges.left(), ranges.next()), (1000, None));
    }
}
