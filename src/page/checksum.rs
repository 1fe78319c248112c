//! PostgreSQL's page checksum (`storage/checksum_impl.h`): 32 sums, each like
//! FNV-1a, side by side over the page's words, folded, and mixed with the
//! block's number.

use pulp::{Arch, Simd, WithSimd};

/// `FNV_PRIME`.
pub(super) const PRIME: u32 = 16_777_619;

/// `N_SUMS`: so many words make a row.
pub(super) const SUMS: usize = 32;

/// The bytes of a row.
const ROW: usize = 4 * SUMS;

/// `checksumBaseOffsets`: where each sum begins.
#[rustfmt::skip]
pub(super) const BASES: [u32; SUMS] = [
    0x5B1F_36E9, 0xB852_5960, 0x02AB_50AA, 0x1DE6_6D2A, 0x79FF_467A, 0x9BB9_F8A3, 0x217E_7CD2, 0x83E1_3D2C,
    0xF8D4_474F, 0xE39E_B970, 0x42C6_AE16, 0x9932_16FA, 0x7B09_3B5D, 0x98DA_FF3C, 0xF718_902A, 0x0B1C_9CDB,
    0xE58F_764B, 0x1876_36BC, 0x5D7B_3BB1, 0xE73D_E7DE, 0x92BE_C979, 0xCCA6_C0B2, 0x304A_0979, 0x85AA_43D4,
    0x7831_25BB, 0x6CA8_EAA2, 0xE407_EAC6, 0x4B5C_FC3E, 0x9FBF_8C76, 0x15CA_20BE, 0xF2CA_9FD3, 0x959B_D756,
];

/// The checksum that this page should carry as this block of its fork, counted
/// through all segments. Never 0. A page of zeros carries none.
pub fn checksum(page: &[u8], block: u32) -> u16 {
    // Built for each kind of processor, which is asked for at run time: without
    // multiplication of vectors (before AVX2) this takes three times as long.
    Arch::new().dispatch(Checksum { page, block })
}

struct Checksum<'a> {
    page: &'a [u8],
    block: u32,
}

impl WithSimd for Checksum<'_> {
    type Output = u16;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> u16 {
        let mut sums = BASES;
        let (rows, _) = self.page.as_chunks::<ROW>();
        if let Some((first, rows)) = rows.split_first() {
            // pd_checksum itself counts as zero.
            let mut first = *first;
            first[8..10].fill(0);
            add(&mut sums, &first);
            for row in rows {
                add(&mut sums, row);
            }
        }
        // Twice zero, so that the last words reach every bit.
        add(&mut sums, &[0; ROW]);
        add(&mut sums, &[0; ROW]);
        let folded = sums.into_iter().fold(self.block, |all, sum| all ^ sum);
        u16::try_from(folded % 65_535 + 1).unwrap_or(u16::MAX)
    }
}

/// One row: no sum depends on another, so that the compiler takes several at a
/// time.
#[inline(always)]
fn add(sums: &mut [u32; SUMS], row: &[u8; ROW]) {
    let (words, _) = row.as_chunks::<4>();
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ u32::from_le_bytes(*word);
        *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_itself_does_not_count_and_the_block_does() {
        let mut page: Vec<u8> = (0..8192_u32).map(|i| i.to_le_bytes()[0]).collect();
        let sum = checksum(&page, 5);
        page[8] ^= 0xFF;
        assert_eq!(checksum(&page, 5), sum);
        assert_ne!(checksum(&page, 6), sum);
        page[8191] ^= 1;
        assert_ne!(checksum(&page, 5), sum);
    }
}
