//! Which single bit, turned over, makes a page's checksum fit.
//!
//! The 32 sums of the checksum do not depend on each other, so that for each bit
//! only the one that it is in is made anew.

use super::checksum::{BASES, PRIME, SUMS, checksum};
use super::{u16_at, u32_at};

/// `pd_checksum`.
const FIELD: std::ops::Range<usize> = 8..10;

/// A bit of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bit {
    pub byte: usize,
    /// 0 is the lowest.
    pub bit: u8,
}

impl Bit {
    /// Whether it is one of the checksum itself.
    pub fn is_of_checksum(self) -> bool {
        FIELD.contains(&self.byte)
    }
}

/// All such bits, in their order. Nothing, where the checksum fits. Of 65,536
/// bits one fits by chance, on average.
pub fn single_bits(page: &[u8], block: u32) -> Vec<Bit> {
    let stored = u16_at(page, FIELD.start).unwrap_or(0);
    let (rows, _) = page.as_chunks::<{ 4 * SUMS }>();
    let computed = checksum(page, block);
    if stored == computed || rows.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<Bit> = Vec::new();
    let wrong = stored ^ computed;
    if wrong.is_power_of_two() {
        let bit = wrong.trailing_zeros();
        found.extend(bit_at(FIELD.start, bit));
    }
    let sums: Vec<Vec<u32>> = (0..SUMS).map(|column| states(page, rows.len(), column)).collect();
    let ends: Vec<u32> = sums.iter().map(|states| states.last().copied().unwrap_or(0)).collect();
    let all = ends.iter().fold(block, |all, end| all ^ end);
    for (column, states) in sums.iter().enumerate() {
        let others = all ^ ends[column];
        for (row, before) in states.iter().enumerate().take(rows.len()) {
            let at = 4 * (row * SUMS + column);
            let word = word_at(page, at);
            for bit in 0..u32::BITS {
                let mut sum = step(*before, word ^ 1 << bit);
                for later in row + 1..rows.len() {
                    sum = step(sum, word_at(page, 4 * (later * SUMS + column)));
                }
                sum = step(step(sum, 0), 0);
                if fold(others ^ sum) == stored {
                    found.extend(bit_at(at, bit).filter(|bit| !bit.is_of_checksum()));
                }
            }
        }
    }
    found.sort_by_key(|bit| (bit.byte, bit.bit));
    found
}

fn bit_at(byte: usize, bit: u32) -> Option<Bit> {
    let byte = byte + usize::try_from(bit / 8).ok()?;
    Some(Bit { byte, bit: u8::try_from(bit % 8).ok()? })
}

/// One sum before each row, and at its end.
fn states(page: &[u8], rows: usize, column: usize) -> Vec<u32> {
    let mut sum = BASES[column];
    let mut states = Vec::with_capacity(rows + 1);
    for row in 0..rows {
        states.push(sum);
        sum = step(sum, word_at(page, 4 * (row * SUMS + column)));
    }
    states.push(step(step(sum, 0), 0));
    states
}

/// A word; `pd_checksum` counts as zero.
fn word_at(page: &[u8], at: usize) -> u32 {
    let word = u32_at(page, at).unwrap_or(0);
    if at == FIELD.start { word & 0xFFFF_0000 } else { word }
}

fn step(sum: u32, word: u32) -> u32 {
    let mixed = sum ^ word;
    mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
}

fn fold(sum: u32) -> u16 {
    u16::try_from(sum % 65_535 + 1).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Vec<u8> {
        let mut page: Vec<u8> = (0..8192_u32).map(|i| (i * 7 + i / 251).to_le_bytes()[0]).collect();
        let sum = checksum(&page, 9).to_le_bytes();
        page[FIELD].copy_from_slice(&sum);
        page
    }

    #[test]
    fn the_bit_that_was_turned_over_is_among_them_and_each_of_them_fits() {
        assert_eq!(single_bits(&sealed(), 9), []);
        for (byte, bit) in
            [(0, 0), (8, 3), (9, 7), (10, 1), (127, 7), (128, 0), (4000, 5), (8191, 7)]
        {
            let mut page = sealed();
            page[byte] ^= 1 << bit;
            let found = single_bits(&page, 9);
            assert!(found.contains(&Bit { byte, bit }), "{byte} {bit}: {found:?}");
            assert!(found.len() < 12, "{found:?}");
            for found in found {
                let mut mended = page.clone();
                mended[found.byte] ^= 1 << found.bit;
                let stored = u16::from_le_bytes([mended[8], mended[9]]);
                assert_eq!(checksum(&mended, 9), stored, "{found:?}");
            }
        }
        assert_eq!(single_bits(&[], 0), []);
        assert_eq!(single_bits(&[1; 100], 0), []);
    }
}
