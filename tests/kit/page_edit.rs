//! One page of a heap, looked at and changed byte by byte.
//!
//! Offsets as in `bufpage.h` and `htup_details.h`, little-endian.

use super::checksum::page_checksum;

pub const BLOCK_SIZE: usize = 8192;
const HEADER: usize = 24;
const NORMAL: u8 = 1;

pub const XMIN_HINTS: u16 = 0x0300;
pub const XMAX_COMMITTED: u16 = 0x0400;
pub const XMAX_INVALID: u16 = 0x0800;
pub const XMAX_IS_MULTI: u16 = 0x1000;
pub const HAS_NULL: u16 = 0x0001;

#[derive(Clone, PartialEq, Eq)]
pub struct Page {
    pub bytes: Vec<u8>,
    pub block: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinePointer {
    pub offset: u16,
    pub flags: u8,
    pub length: u16,
}

impl Page {
    pub fn u16_at(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    pub fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    pub fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn flip(&mut self, at: usize, bits: u8) {
        self.bytes[at] ^= bits;
    }

    pub fn checksum(&self) -> u16 {
        self.u16_at(8)
    }

    pub fn correct_checksum(&self) -> u16 {
        page_checksum(&self.bytes, self.block)
    }

    pub fn recompute_checksum(&mut self) {
        let correct = self.correct_checksum();
        self.put(8, &correct.to_le_bytes());
    }

    pub fn is_zero(&self) -> bool {
        self.bytes.iter().all(|byte| *byte == 0)
    }

    pub fn lower(&self) -> u16 {
        self.u16_at(12)
    }

    pub fn upper(&self) -> u16 {
        self.u16_at(14)
    }

    pub fn special(&self) -> u16 {
        self.u16_at(16)
    }

    /// PD_ALL_VISIBLE: range scans then look at no xmin and no xmax.
    pub fn is_all_visible(&self) -> bool {
        self.u16_at(10) & 0x0004 != 0
    }

    /// The header as PostgreSQL writes it: what a harm expects to find.
    pub fn assert_sound(&self) {
        let (lower, upper, special) = (self.lower(), self.upper(), self.special());
        assert!(
            usize::from(lower) >= HEADER
                && lower <= upper
                && upper <= special
                && usize::from(special) <= BLOCK_SIZE
                && self.u16_at(18) & 0xFF00 == 0x2000,
            "block {} does not look like a page: lower {lower}, upper {upper}, special {special}",
            self.block
        );
    }

    /// How many line pointers the header claims.
    pub fn line_pointers(&self) -> u16 {
        (self.lower().saturating_sub(24)) / 4
    }

    pub fn line_pointer_at(number: u16) -> usize {
        HEADER + 4 * (usize::from(number) - 1)
    }

    pub fn line_pointer(&self, number: u16) -> LinePointer {
        let word = self.u32_at(Page::line_pointer_at(number));
        let low15 = |bits: u32| u16::try_from(bits & 0x7FFF).expect("15 bits");
        let flags = u8::try_from((word >> 15) & 3).expect("two bits");
        LinePointer { offset: low15(word), flags, length: low15(word >> 17) }
    }

    pub fn put_line_pointer(&mut self, number: u16, pointer: LinePointer) {
        let word = u32::from(pointer.offset)
            | u32::from(pointer.flags) << 15
            | u32::from(pointer.length) << 17;
        self.put(Page::line_pointer_at(number), &word.to_le_bytes());
    }

    /// The tuple at this line pointer, which must be a normal one.
    pub fn tuple(&self, number: u16) -> Tuple {
        assert!(
            (1..=self.line_pointers()).contains(&number),
            "block {} has {} line pointers, not {number}",
            self.block,
            self.line_pointers()
        );
        let pointer = self.line_pointer(number);
        assert_eq!(pointer.flags, NORMAL, "({},{number}) is {pointer:?}", self.block);
        let at = usize::from(pointer.offset);
        Tuple { at, data: at + usize::from(self.bytes[at + 22]) }
    }

    /// The numbers of all normal line pointers.
    pub fn tuples(&self) -> Vec<u16> {
        (1..=self.line_pointers()).filter(|n| self.line_pointer(*n).flags == NORMAL).collect()
    }

    /// Sets and clears bits of t_infomask.
    pub fn change_infomask(&mut self, tuple: Tuple, clear: u16, set: u16) {
        let mask = self.u16_at(tuple.infomask()) & !clear | set;
        self.put(tuple.infomask(), &mask.to_le_bytes());
    }
}

/// Where a tuple's parts lie on its page.
#[derive(Clone, Copy, Debug)]
pub struct Tuple {
    pub at: usize,
    /// The first column.
    pub data: usize,
}

impl Tuple {
    pub fn xmin(self) -> usize {
        self.at
    }
    pub fn xmax(self) -> usize {
        self.at + 4
    }
    /// The number of columns in its low 11 bits.
    pub fn infomask2(self) -> usize {
        self.at + 18
    }
    pub fn infomask(self) -> usize {
        self.at + 20
    }
    pub fn hoff(self) -> usize {
        self.at + 22
    }
    pub fn null_bits(self) -> usize {
        self.at + 23
    }
}
