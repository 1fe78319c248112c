//! Rows that are loaded together, and how they are divided when they are refused.
//! Pure.

use crate::output::Rows;
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// A batch is kept until it is loaded, so it is bounded: in bytes for our memory,
/// in rows for the work of dividing it. Larger ones were no faster.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_ROWS: u64 = 100_000;

/// Rows that were sent together, and may be sent again.
#[derive(Default)]
pub(super) struct Batch {
    parts: Vec<Bytes>,
    pub(super) rows: u64,
    pub(super) bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, rows: Rows) {
        self.rows += rows.count;
        self.bytes += rows.text.len();
        self.parts.push(rows.text);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.rows >= BATCH_ROWS
    }

    /// All of it, and where each row begins, and the last ends.
    pub(super) fn into_rows(self) -> (Bytes, Vec<usize>) {
        let mut whole = BytesMut::with_capacity(self.bytes);
        self.parts.iter().for_each(|part| whole.extend_from_slice(part));
        let whole = whole.freeze();
        let ends = memchr::memchr_iter(b'\n', &whole).map(|at| at + 1);
        let begins = std::iter::once(0).chain(ends).collect();
        (whole, begins)
    }
}

/// Puts the parts of what was refused on the pile, the first on top. `line` is
/// the row that the server named, from 1 on. Each part has fewer rows than the
/// whole, so this ends, however wrong the line is; and what follows the line is
/// halved, so that not all of it is sent again for each bad row in it.
pub(super) fn push_parts(todo: &mut Vec<Range<usize>>, whole: Range<usize>, line: Option<u64>) {
    let named = line.and_then(|line| usize::try_from(line).ok()).and_then(|l| l.checked_sub(1));
    let mut parts = Vec::new();
    let rest = match named.filter(|row| *row < whole.len()) {
        Some(row) => {
            let at = whole.start + row;
            parts.extend([whole.start..at, at..at + 1]);
            at + 1..whole.end
        }
        None => whole,
    };
    let middle = rest.start + rest.len() / 2;
    parts.extend([rest.start..middle, middle..rest.end]);
    todo.extend(parts.into_iter().rev().filter(|part| !part.is_empty()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the server says of the line, each row is tried alone or with
        /// others exactly until it is loaded or rejected.
        #[test]
        fn every_good_row_is_loaded_and_every_bad_one_rejected(
            bad in proptest::collection::vec(any::<bool>(), 1..60),
            lines in proptest::collection::vec(proptest::option::of(0u64..70), 1..50),
        ) {
            let (mut loaded, mut rejected) = (Vec::new(), Vec::new());
            let mut todo: Vec<Range<usize>> = std::iter::once(0..bad.len()).collect();
            let mut says = lines.iter().cycle();
            let mut tries = 0;
            while let Some(part) = todo.pop() {
                tries += 1;
                prop_assert!(tries <= 4 * bad.len());
                if !bad[part.clone()].contains(&true) {
                    loaded.extend(part);
                } else if part.len() == 1 {
                    rejected.extend(part);
                } else {
                    push_parts(&mut todo, part, *says.next().unwrap());
                }
            }
            prop_assert!(loaded.iter().all(|row| !bad[*row]) && rejected.iter().all(|row| bad[*row]));
            prop_assert_eq!(loaded.len() + rejected.len(), bad.len());
            prop_assert!(loaded.is_sorted() && rejected.is_sorted());
        }
    }

    #[test]
    fn a_bad_row_that_is_named_costs_few_tries() {
        let mut todo = Vec::new();
        push_parts(&mut todo, 0..1000, Some(500));
        todo.reverse();
        assert_eq!(todo, [0..499, 499..500, 500..750, 750..1000]);
    }
}
