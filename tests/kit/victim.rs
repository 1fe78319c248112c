//! How a row of `sample::victims` and a row of a TOAST table lie on a page.

use super::harm::Changed;
use super::page_edit::{BLOCK_SIZE, HAS_NULL, Page, Tuple};
use super::sample::{VICTIM_COLUMNS, VICTIM_ROWS};
use std::collections::BTreeMap;

/// The columns of one victim's row, as places on its page.
#[derive(Clone, Copy, Debug)]
pub struct VictimRow {
    pub tuple: Tuple,
    pub id: usize,
    pub n: usize,
    pub at: usize,
    /// A short varlena: its header is one byte.
    pub note: usize,
    /// Compressed in place: a header of four bytes, then four more with the
    /// length and the method, then the data up to `squeezed_end`.
    pub squeezed: usize,
    pub squeezed_end: usize,
    /// The TOAST pointer: two bytes, then raw size, size, value, TOAST table.
    pub big: Option<usize>,
}

/// Finds a row's columns and makes sure that they are what `victims` wrote.
pub fn row(page: &Page, number: u16) -> VictimRow {
    let tuple = page.tuple(number);
    let place = format!("({},{number})", page.block);
    assert_eq!(page.bytes[tuple.hoff()], 24, "t_hoff of {place}");
    let columns = usize::from(page.u16_at(tuple.infomask2()) & 0x07FF);
    assert_eq!(columns, VICTIM_COLUMNS.len(), "columns of {place}");
    let (id, n, at, note) = (tuple.data, tuple.data + 8, tuple.data + 16, tuple.data + 24);
    let value = i32::from_le_bytes(page.bytes[id..id + 4].try_into().expect("four bytes"));
    assert!((1..=VICTIM_ROWS).contains(&value), "id of {place}: {value}");
    assert_eq!(page.u64_at(n), u64::from(value.unsigned_abs()) * 1_000_003, "n of {place}");
    let header = page.bytes[note];
    assert!(header & 1 == 1 && header != 1, "note of {place} is not short: {header:#x}");
    let squeezed = (note + usize::from(header >> 1)).next_multiple_of(4);
    let header = page.u32_at(squeezed);
    assert_eq!(header & 3, 2, "squeezed of {place} is not compressed: {header:#x}");
    let length = usize::try_from(header >> 2).expect("a length");
    let big_is_null =
        page.u16_at(tuple.infomask()) & HAS_NULL != 0 && page.bytes[tuple.null_bits()] & 0x20 == 0;
    let big = (!big_is_null).then_some(squeezed + length);
    if let Some(big) = big {
        assert_eq!(page.bytes[big..big + 2], [1, 18], "big of {place} is not out of line");
    }
    VictimRow { tuple, id, n, at, note, squeezed, squeezed_end: squeezed + length, big }
}

impl VictimRow {
    /// Where the TOAST pointer has its value's OID.
    pub fn value_id_at(&self) -> Option<usize> {
        self.big.map(|big| big + 2 + 8)
    }
}

/// What becomes of the tuples of a page of which the second half is zeroed.
pub fn torn(page: &Page) -> BTreeMap<(u32, u16), Changed> {
    const HALF: usize = BLOCK_SIZE / 2;
    let mut torn = BTreeMap::new();
    for number in page.tuples() {
        let at = row(page, number);
        let pointer = page.line_pointer(number);
        let end = usize::from(pointer.offset + pointer.length);
        let ends = [at.n, at.at, at.note, at.squeezed, at.squeezed_end, end];
        let changed = match ends.iter().position(|end| *end > HALF) {
            _ if at.tuple.at >= HALF => Changed::Zeroed,
            Some(column) => Changed::ZeroedFrom(column),
            None => continue,
        };
        torn.insert((page.block, number), changed);
    }
    torn
}

/// Which tuple of the victim uses which TOAST value.
pub fn toast_users(pages: &[Page]) -> BTreeMap<u32, (u32, u16)> {
    let mut users = BTreeMap::new();
    for page in pages {
        for number in page.tuples() {
            if let Some(at) = row(page, number).value_id_at() {
                users.insert(page.u32_at(at), (page.block, number));
            }
        }
    }
    users
}

/// One row of a TOAST table: chunk_id, chunk_seq, chunk_data.
#[derive(Clone, Copy, Debug)]
pub struct ChunkRow {
    pub value_id: u32,
    pub sequence_at: usize,
    /// The first byte after chunk_data's header.
    pub data: usize,
}

pub fn chunk(page: &Page, number: u16) -> ChunkRow {
    let tuple = page.tuple(number);
    assert_eq!(page.u16_at(tuple.infomask2()) & 0x07FF, 3, "columns of a chunk");
    let header = tuple.data + 8;
    let short = page.bytes[header] & 1 == 1;
    ChunkRow {
        value_id: page.u32_at(tuple.data),
        sequence_at: tuple.data + 4,
        data: header + if short { 1 } else { 4 },
    }
}

/// The values that have a chunk on this page.
pub fn values_on(page: &Page) -> Vec<u32> {
    let mut values: Vec<u32> = page.tuples().iter().map(|n| chunk(page, *n).value_id).collect();
    values.sort_unstable();
    values.dedup();
    values
}
