//! Garbage in what the executor believes: line pointers, tuple headers, the
//! lengths of values.

use crate::kit::flips::Random;
use crate::kit::page_edit::Page;
use crate::kit::victim;

/// Writes some into a page of a victim. Returns the tuples that it is in.
pub(super) fn garbage(page: &mut Page, random: &mut Random) -> Vec<u16> {
    let tuples = page.tuples();
    let first = random.below(tuples.len().saturating_sub(3).max(1));
    let number = tuples[first];
    let row = victim::row(page, number);
    let start = row.tuple.at;
    let line = Page::line_pointer_at(number);
    let (at, length, count) = match random.below(9) {
        0 => (line, 4, 1),
        1 => (line, 12, 3),
        // Only its flags and its length.
        2 => (line + 2, 2, 1),
        // Only t_hoff; with the masks; all of the header.
        3 => (start + 22, 1, 1),
        4 => (start + 18, 5, 1),
        5 => (start, 23, 1),
        6 => (row.note, 4, 1),
        7 => (row.squeezed, 4, 1),
        _ => (row.big.map_or(row.squeezed, |big| big + 1), 1, 1),
    };
    let bytes: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[3]).collect();
    page.put(at, &bytes);
    (number..number + count).collect()
}
