//! Which chunks of a TOAST relation there are, and where: found by a scan of
//! its heap, without its index.
//!
//! Of a large TOAST relation only a window of values is remembered: those from
//! the one that is wanted on, in the order of their numbers, as many as there is
//! room for. Values are numbered in the order in which they were stored, more or
//! less as the rows that they are of, so few windows are needed.

use crate::heap::Ctid;

/// So many chunks are remembered (16 bytes each), and twice as many while they
/// are sorted.
const CHUNKS_MAX: usize = 2_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Chunk {
    value: u32,
    seq: u32,
    at: Ctid,
}

/// The chunks of the values from `from` on and before `end`.
#[derive(Debug)]
pub(super) struct Window {
    from: u32,
    /// None: there is no value after those remembered.
    end: Option<u32>,
    chunks: Vec<Chunk>,
    chunks_max: usize,
}

impl Window {
    pub(super) fn new(from: u32) -> Self {
        Self { from, end: None, chunks: Vec::new(), chunks_max: CHUNKS_MAX }
    }

    /// Whether what is remembered tells of this value.
    pub(super) fn covers(&self, value: u32) -> bool {
        self.from <= value && self.end.is_none_or(|end| value < end)
    }

    /// A chunk was found. The same one may come twice.
    pub(super) fn add(&mut self, value: u32, seq: u32, at: Ctid) {
        if !self.covers(value) {
            return;
        }
        self.chunks.push(Chunk { value, seq, at });
        if self.chunks.len() >= 2 * self.chunks_max {
            self.shrink();
        }
    }

    /// All was found.
    pub(super) fn finish(&mut self) {
        self.chunks.sort_unstable();
        self.chunks.dedup();
    }

    fn shrink(&mut self) {
        self.finish();
        if self.chunks.len() <= self.chunks_max {
            return;
        }
        // The last value may have more chunks than are remembered of it: it is
        // left out, unless it is the only one, which no memory is spared for.
        let cut = self.chunks[self.chunks_max].value;
        let end = if cut == self.from { cut.saturating_add(1) } else { cut };
        let kept = self.chunks.partition_point(|c| c.value < end);
        self.chunks.truncate(kept);
        self.end = Some(end);
    }

    /// The chunks of a value, in order: number and place. None: two have the same
    /// number, so which of them is right is not known.
    pub(super) fn chunks(&self, value: u32) -> Option<Vec<(u32, Ctid)>> {
        let first = self.chunks.partition_point(|c| c.value < value);
        let of_value = self.chunks[first..].iter().take_while(|c| c.value == value);
        let chunks: Vec<(u32, Ctid)> = of_value.map(|c| (c.seq, c.at)).collect();
        chunks.windows(2).all(|pair| pair[0].0 != pair[1].0).then_some(chunks)
    }
}

/// Numbers from 0 on, before `all`, that are not among these (in order), as
/// runs: first and last.
pub(super) fn missing(chunks: &[(u32, Ctid)], all: u32) -> Vec<(u32, u32)> {
    let (mut runs, mut next) = (Vec::new(), 0);
    for seq in chunks.iter().map(|(seq, _)| *seq).chain([all]) {
        if seq > next {
            runs.push((next, seq.min(all) - 1));
        }
        if seq >= all {
            break;
        }
        next = seq + 1;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(block: u32) -> Ctid {
        Ctid::new(block, 1)
    }

    #[test]
    fn chunks_are_found_in_whatever_order_and_however_often_they_came() {
        let mut window = Window::new(0);
        for (value, seq, block) in [(7, 1, 9), (5, 0, 3), (7, 0, 8), (7, 1, 9), (9, 0, 1)] {
            window.add(value, seq, at(block));
        }
        window.finish();
        assert_eq!(window.chunks(7), Some(vec![(0, at(8)), (1, at(9))]));
        assert_eq!(window.chunks(6), Some(vec![]));
        window.add(7, 1, at(10));
        window.finish();
        assert_eq!(window.chunks(7), None, "two chunks with the same number");
    }

    #[test]
    fn of_many_values_those_from_the_wanted_one_on_are_remembered_whole() {
        let mut window = Window { chunks_max: 10, ..Window::new(100) };
        for i in 0..400u32 {
            // Scattered: 50 values of 8 chunks each.
            let n = i * 177 % 400;
            window.add(80 + n / 8, n % 8, at(n));
        }
        window.finish();
        assert!(window.covers(100) && !window.covers(99) && !window.covers(129));
        let end = window.end.unwrap();
        assert!(end > 100, "at least the one that is wanted is remembered");
        for value in 100..end {
            assert_eq!(window.chunks(value).map(|c| c.len()), Some(8), "{value}");
        }
    }

    #[test]
    fn missing_chunks_are_named() {
        let chunks = |seqs: &[u32]| seqs.iter().map(|&s| (s, at(s))).collect::<Vec<_>>();
        assert_eq!(missing(&chunks(&[0, 1, 2]), 3), []);
        assert_eq!(missing(&chunks(&[]), 3), [(0, 2)]);
        assert_eq!(missing(&chunks(&[1, 77]), 4), [(0, 0), (2, 3)]);
        assert_eq!(missing(&chunks(&[0]), 0), []);
    }
}
