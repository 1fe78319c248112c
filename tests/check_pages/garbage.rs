//! Garbage in what the executor believes: line pointers, tuple headers, the
//! lengths of values; of a table, and of its TOAST table.

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
    put(page, random, at, length);
    (number..number + count).collect()
}

/// Writes some into a page of a victim's TOAST table. Returns the values that it
/// is in.
pub(super) fn garbage_in_toast(page: &mut Page, random: &mut Random) -> Vec<u32> {
    let tuples = page.tuples();
    let number = tuples[random.below(tuples.len())];
    let chunk = victim::chunk(page, number);
    let (start, line) = (page.tuple(number).at, Page::line_pointer_at(number));
    // The length of its data is before them.
    let length_at = chunk.sequence_at + 4;
    match random.below(6) {
        0 => put(page, random, line, 4),
        1 => put(page, random, start + 22, 1),
        2 => put(page, random, start + 18, 5),
        3 => put(page, random, start, 23),
        4 => put(page, random, length_at, 4),
        _ => page.put(length_at, &0x8000_0000_u32.to_le_bytes()),
    }
    vec![chunk.value_id]
}

fn put(page: &mut Page, random: &mut Random, at: usize, length: usize) {
    let bytes: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[3]).collect();
    page.put(at, &bytes);
}
