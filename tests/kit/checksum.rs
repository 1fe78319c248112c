//! PostgreSQL's page checksum (`storage/checksum_impl.h`): 32 FNV-1a-like sums
//! side by side over the page's words, folded, and mixed with the block number.

const PRIME: u32 = 16_777_619;
const SUMS: usize = 32;
const BASES: [u32; SUMS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// The checksum that this page should carry as this block of its relation
/// (counted through all segments).
pub fn page_checksum(page: &[u8], block: u32) -> u16 {
    let mut sums = BASES;
    for (at, row) in page.chunks_exact(4 * SUMS).enumerate() {
        for (i, word) in row.chunks_exact(4).enumerate() {
            let mut word = u32::from_le_bytes(word.try_into().expect("four bytes"));
            if at == 0 && i == 2 {
                // pd_checksum itself counts as zero.
                word &= 0xFFFF_0000;
            }
            sums[i] = mix(sums[i], word);
        }
    }
    // Twice zero, so that the last words reach every bit.
    let folded = sums.into_iter().fold(0, |all, sum| all ^ mix(mix(sum, 0), 0));
    u16::try_from((folded ^ block) % 65_535 + 1).expect("below 65536")
}

fn mix(sum: u32, word: u32) -> u32 {
    let mixed = sum ^ word;
    mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
}
