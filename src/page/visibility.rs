//! One page of a visibility map: two bits for each block of the heap, the lower
//! of which says that everybody sees all rows of that block.
//!
//! As in `visibilitymap.c`, since PostgreSQL 9.6.

use super::HEADER_LEN;

const BLOCKS_PER_BYTE: usize = 4;
const BITS_PER_BLOCK: usize = 2;
const ALL_VISIBLE: u8 = 1;

/// How many blocks of the heap one page of the map is about.
pub fn blocks_per_page(page_size: usize) -> usize {
    page_size.saturating_sub(HEADER_LEN) * BLOCKS_PER_BYTE
}

/// Whether all rows are visible in a block, counted from the first that this
/// page of the map is about. What is not on the page says nothing of the kind.
pub fn is_all_visible(page: &[u8], block: usize) -> bool {
    let byte = page.get(HEADER_LEN + block / BLOCKS_PER_BYTE);
    byte.is_some_and(|b| b >> (block % BLOCKS_PER_BYTE * BITS_PER_BLOCK) & ALL_VISIBLE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_server_puts_them() {
        let mut page = vec![0; 8192];
        (page[HEADER_LEN], page[HEADER_LEN + 1], page[8191]) = (0b1100_0110, 1, 0b0100_0000);
        let seen: Vec<usize> = (0..33_000).filter(|&b| is_all_visible(&page, b)).collect();
        assert_eq!(seen, [1, 3, 4, 32_671]);
        assert_eq!(blocks_per_page(8192), 32_672);
        assert!(!is_all_visible(&[], 0));
    }
}
