//! Finding what fails in a row of places, with few reads.
//!
//! The places are numbers: blocks of a relation, or line pointers of a page;
//! the search is the same. `next` says what to read, and one of `complete`,
//! `failed_at`, `failed_from`, `hung` and `crashed` says what came of it.
//!
//! 1. What nobody complained about is read in one go.
//! 2. When a read fails and the place is known, everything before it was read;
//!    the place is read alone, then what follows in one go.
//! 3. When only a bound is known (the last row that came), what is before the
//!    bound was read. The place at the bound is the likeliest, so it is read
//!    alone; after it, the rest that must hold the culprit in eighths, each
//!    treated likewise.
//! 4. After two bad neighbours places are read alone until a good one comes:
//!    damage comes in runs.
//! 5. Where a read hung, each wrong guess costs a timeout, and the server holds
//!    back the last rows before the place: some places from the bound on are read
//!    alone, then two, four, ... at a time until it hangs again.
//! 6. Where a read took the server down, everything is read alone: nothing else
//!    says exactly which place it was, and each wrong guess is one more crash.
//!
//! A place is given up only after a read of it alone has failed.

use std::ops::Range;

/// A failing part is cut into so many pieces.
const PIECES: u32 = 8;

/// So many bad neighbours, and the next place is read alone.
const RUN_MIN: u32 = 2;

/// After a read that hung so many places are read alone: what a backend holds
/// back (8 kB of rows, `PQ_SEND_BUFFER_SIZE`) may be of so many pages.
const LONE_AFTER_HUNG: u32 = 16;

/// What is known of a part that is still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// A read of it would fail, somewhere. Whether its first place was tried
    /// alone already.
    Fails {
        first_tried: bool,
    },
    /// A read hung, in it or right before it, so many good reads ago.
    Hangs {
        reads: u32,
    },
    /// The server went down under it.
    Crashes,
}

#[derive(Clone, Debug)]
struct Part {
    places: Range<u32>,
    known: Known,
}

/// The search: parts still to be read, the next one last.
#[derive(Clone, Debug)]
pub struct Narrow {
    todo: Vec<Part>,
    /// The most places of a read.
    width_max: u32,
    /// How many bad places in a row end at `bad_end`.
    bad_run: u32,
    bad_end: u32,
}

impl Narrow {
    /// Nothing is known of the places.
    pub fn new(places: Range<u32>) -> Self {
        Self::of(&[places], false)
    }

    /// The places are read one by one, since the server went down under them.
    pub fn careful(places: Range<u32>) -> Self {
        Self::of(&[places], true)
    }

    /// Places in parts, given in order: no read reaches over the end of one.
    pub fn of(parts: &[Range<u32>], careful: bool) -> Self {
        Self::with(parts, if careful { Known::Crashes } else { Known::Nothing })
    }

    /// A read of all these places has failed.
    pub fn failing(places: Range<u32>) -> Self {
        Self::with(&[places], Known::Fails { first_tried: false })
    }

    /// A read hung in these places.
    pub fn hanging(places: Range<u32>) -> Self {
        Self::with(&[places], Known::Hangs { reads: 0 })
    }

    fn with(parts: &[Range<u32>], known: Known) -> Self {
        let mut narrow = Self { todo: Vec::new(), width_max: u32::MAX, bad_run: 0, bad_end: 0 };
        for part in parts.iter().rev() {
            narrow.push(part.clone(), known);
        }
        narrow
    }

    fn push(&mut self, places: Range<u32>, known: Known) {
        if !places.is_empty() {
            self.todo.push(Part { places, known });
        }
    }

    /// What to read next; `None` when everything was read or given up.
    pub fn next_read(&self) -> Option<Range<u32>> {
        let Part { places, known } = self.todo.last()?;
        let len = places.end - places.start;
        let width = match known {
            Known::Nothing if self.bad_run >= RUN_MIN && self.bad_end == places.start => 1,
            Known::Nothing => len,
            Known::Fails { first_tried: false } | Known::Crashes => 1,
            Known::Fails { first_tried: true } => len.div_ceil(PIECES),
            Known::Hangs { reads } => {
                let doubled = reads.saturating_sub(LONE_AFTER_HUNG - 1).min(u32::BITS - 1);
                len.min(1 << doubled)
            }
        };
        Some(places.start..places.start + width.min(self.width_max))
    }

    /// No read is of more places than this, from now on.
    pub fn limit(&mut self, places: u32) {
        self.width_max = self.width_max.min(places.max(1));
    }

    /// No read of this place is of any other. Whether it is still to be read.
    pub fn set_apart(&mut self, place: u32) -> bool {
        let of = self.todo.iter().position(|part| part.places.contains(&place));
        let Some(at) = of else { return false };
        let Part { places, known } = self.todo.remove(at);
        let parts = around(places, [place]).into_iter().rev().filter(|part| !part.is_empty());
        self.todo.splice(at..at, parts.map(|places| Part { places, known }));
        true
    }

    /// This place is not read. Whether it would have been.
    pub fn leave_out(&mut self, place: u32) -> bool {
        let is_left = self.set_apart(place);
        self.todo.retain(|part| part.places != (place..place + 1));
        is_left
    }

    /// No read reaches over the end of the places before this one.
    pub fn cut(&mut self, place: u32) {
        let of = self.todo.iter().position(|p| p.places.start < place && place < p.places.end);
        let Some(at) = of else { return };
        let Part { places, known } = self.todo.remove(at);
        let parts = [place..places.end, places.start..place];
        self.todo.splice(at..at, parts.map(|places| Part { places, known }));
    }

    /// All parts that are still to be read, in order.
    pub fn rest(&self) -> impl Iterator<Item = Range<u32>> {
        self.todo.iter().rev().map(|p| p.places.clone())
    }

    /// The read of `next_read` came to its end.
    pub fn complete(&mut self) {
        let Some((read, part)) = self.take() else { return };
        let known = match part.known {
            Known::Fails { .. } => Known::Fails { first_tried: true },
            Known::Hangs { reads } => Known::Hangs { reads: reads.saturating_add(1) },
            other => other,
        };
        self.push(read.end..part.places.end, known);
    }

    /// The read failed at `place`, and everything before it in this read was
    /// read. Returns the place if it was read alone: nothing more will be read
    /// of it.
    pub fn failed_at(&mut self, place: u32) -> Option<u32> {
        self.failed(place, |narrow, read| {
            narrow.push(place + 1..read.end, Known::Nothing);
            narrow.push(place..place + 1, Known::Nothing);
        })
    }

    /// The read failed somewhere from `bound` on, and everything before it in
    /// this read was read. Returns the place if it was read alone.
    pub fn failed_from(&mut self, bound: u32) -> Option<u32> {
        self.failed(bound, |narrow, read| {
            narrow.push(bound.max(read.start)..read.end, Known::Fails { first_tried: false });
        })
    }

    /// The read hung, at `bound` or later, and everything before it in this read
    /// was read. Returns the place if it was read alone.
    pub fn hung(&mut self, bound: u32) -> Option<u32> {
        let (read, part) = self.take()?;
        let known = match part.known {
            Known::Crashes => Known::Crashes,
            _ => Known::Hangs { reads: 0 },
        };
        let alone = read.end - read.start == 1;
        let from = if alone { read.end } else { bound.clamp(read.start, read.end - 1) };
        self.push(from..part.places.end, known);
        alone.then_some(read.start)
    }

    /// The server went down under the read, at `bound` or later. Returns the
    /// place if it was read alone.
    pub fn crashed(&mut self, bound: u32) -> Option<u32> {
        self.failed(bound, |narrow, read| {
            narrow.push(bound.max(read.start)..read.end, Known::Crashes);
        })
    }

    /// Everything before `bound` was read; nothing else is known of the read.
    pub fn advance(&mut self, bound: u32) {
        if let Some(part) = self.todo.last_mut() {
            part.places.start = bound.clamp(part.places.start, part.places.end);
        }
        if self.todo.last().is_some_and(|p| p.places.is_empty()) {
            self.todo.pop();
        }
    }

    /// What is to be read next is read in single places.
    pub fn take_care(&mut self) {
        if let Some(part) = self.todo.last_mut() {
            part.known = Known::Crashes;
        }
    }

    fn failed(&mut self, bound: u32, split: impl FnOnce(&mut Self, Range<u32>)) -> Option<u32> {
        let (read, part) = self.take()?;
        // What failed is in this read, so nothing bad is known of what follows.
        // Where the server crashed, that is no reason for less care.
        let after = match part.known {
            Known::Crashes => Known::Crashes,
            Known::Nothing | Known::Fails { .. } => Known::Nothing,
            Known::Hangs { .. } => Known::Hangs { reads: 0 },
        };
        self.push(read.end..part.places.end, after);
        if read.end - read.start > 1 && bound < read.end {
            split(self, read);
            return None;
        }
        if read.end - read.start > 1 {
            // The bound leaves no place over: believe nothing, try all again.
            self.push(read, Known::Fails { first_tried: false });
            return None;
        }
        self.bad_run = if self.bad_end == read.start { self.bad_run + 1 } else { 1 };
        self.bad_end = read.end;
        Some(read.start)
    }

    /// Takes out the part that `next_read` speaks of.
    fn take(&mut self) -> Option<(Range<u32>, Part)> {
        let read = self.next_read()?;
        Some((read, self.todo.pop()?))
    }
}

/// Places in parts, each of some (given in order) in a part of its own.
pub(super) fn around(places: Range<u32>, alone: impl IntoIterator<Item = u32>) -> Vec<Range<u32>> {
    let (mut parts, mut from) = (Vec::new(), places.start);
    for place in alone {
        parts.extend([from..place, place..place + 1]);
        from = place + 1;
    }
    parts.push(from..places.end);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// How a failing read tells where it failed.
    #[derive(Clone, Copy, Debug)]
    enum Telling {
        Place,
        LastRow,
        Nothing,
    }

    /// Reads all places as a server would; returns the reads, the places read
    /// and the places given up.
    fn search(
        mut narrow: Narrow,
        bad: &BTreeSet<u32>,
        telling: Telling,
    ) -> (Vec<Range<u32>>, Vec<u32>, Vec<u32>) {
        let (mut reads, mut good, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(read) = narrow.next_read() {
            reads.push(read.clone());
            let Some(&at) = bad.range(read.clone()).next() else {
                good.extend(read);
                narrow.complete();
                continue;
            };
            let bound = match telling {
                Telling::Place | Telling::LastRow => at,
                Telling::Nothing => read.start,
            };
            good.extend(read.start..bound);
            lost.extend(match telling {
                Telling::Place => narrow.failed_at(at),
                _ => narrow.failed_from(bound),
            });
        }
        (reads, good, lost)
    }

    proptest! {
        #[test]
        fn every_good_place_is_read_once_and_every_bad_one_is_given_up_once(
            len in 1u32..600,
            bad in prop::collection::btree_set(0u32..600, 0..40),
            telling in prop::sample::select(vec![Telling::Place, Telling::LastRow, Telling::Nothing]),
        ) {
            let bad: BTreeSet<u32> = bad.into_iter().filter(|&b| b < len).collect();
            let (reads, good, lost) = search(Narrow::new(0..len), &bad, telling);
            prop_assert_eq!(&good, &(0..len).filter(|p| !bad.contains(p)).collect::<Vec<_>>());
            prop_assert_eq!(&lost, &bad.iter().copied().collect::<Vec<_>>());
            for place in &lost {
                prop_assert!(reads.contains(&(*place..place + 1)), "{} was never read alone", place);
            }
            let per_bad = match telling {
                Telling::Place | Telling::LastRow => 3,
                Telling::Nothing => 2 + (PIECES as usize + 1) * 4, // 600 places are less than 8^4
            };
            prop_assert!(reads.len() <= 1 + per_bad * bad.len(), "{} reads", reads.len());
        }
    }

    proptest! {
        /// What is known of the place lies up to `held` places before it.
        #[test]
        fn what_hangs_is_found_in_few_reads(
            len in 1u32..200_000,
            bad in prop::collection::btree_set(0u32..200_000, 0..6),
            held in 0u32..8,
        ) {
            let bad: BTreeSet<u32> = bad.into_iter().filter(|&b| b < len).collect();
            let mut narrow = Narrow::new(0..len);
            let (mut good, mut lost, mut hung) = (0, Vec::new(), 0);
            while let Some(read) = narrow.next_read() {
                let Some(&at) = bad.range(read.clone()).next() else {
                    good += read.end - read.start;
                    narrow.complete();
                    continue;
                };
                hung += 1;
                let bound = at.saturating_sub(held).max(read.start);
                good += bound - read.start;
                lost.extend(narrow.hung(bound));
            }
            prop_assert_eq!(good, len - u32::try_from(bad.len()).unwrap());
            prop_assert_eq!(&lost, &bad.iter().copied().collect::<Vec<_>>());
            prop_assert!(hung <= 2 * bad.len(), "{} reads hung", hung);
        }
    }

    #[test]
    fn a_run_of_bad_places_costs_one_read_each() {
        let bad = (1000..2000).collect();
        let (reads, good, lost) = search(Narrow::new(0..10_000), &bad, Telling::Place);
        assert_eq!((good.len(), lost.len()), (9000, 1000));
        // Two finds, two lone reads each, then one each, then what follows.
        assert!(reads.len() <= 1000 + 5, "{} reads", reads.len());
    }

    #[test]
    fn after_a_crash_every_place_is_read_alone() {
        let mut narrow = Narrow::new(0..10);
        assert_eq!(narrow.crashed(4), None);
        let mut reads = Vec::new();
        while let Some(read) = narrow.next_read() {
            reads.push(read.clone());
            if read == (6..7) {
                assert_eq!(narrow.crashed(6), Some(6));
            } else {
                narrow.complete();
            }
        }
        assert_eq!(reads, (4..10).map(|p| p..p + 1).collect::<Vec<_>>());
    }

    #[test]
    fn no_read_reaches_over_the_end_of_a_part() {
        let mut narrow = Narrow::of(&[1..1, 2..4, 4..5, 6..9], false);
        let mut reads = Vec::new();
        while let Some(read) = narrow.next_read() {
            reads.push(read);
            narrow.complete();
        }
        assert_eq!(reads, [2..4, 4..5, 6..9]);
    }

    #[test]
    fn a_bound_behind_the_read_is_not_believed() {
        let mut narrow = Narrow::new(0..4);
        assert_eq!(narrow.failed_from(9), None);
        assert_eq!(narrow.next_read(), Some(0..1));
    }
}
