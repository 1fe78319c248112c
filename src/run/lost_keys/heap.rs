//! What the files of the heap itself still tell of its lost places, page by
//! page as bytes: which blocks were all-visible, and where the chains of
//! updates begin that lead to lost tuples.

use super::places::Places;
use crate::heap::Ctid;
use crate::page::{LineState, Page};
use crate::server::pages::Fork;
use crate::server::session::ReadError;
use std::collections::{BTreeMap, BTreeSet};

/// `HEAPBLOCKS_PER_BYTE` of the visibility map: two bits for each block.
const BLOCKS_PER_BYTE: u32 = 4;
/// `VISIBILITYMAP_ALL_VISIBLE`.
const ALL_VISIBLE: u8 = 1;
/// `MAXALIGN(SizeOfPageHeaderData)`.
const PAGE_HEADER: u32 = 24;

/// Pages of a map of 1 TB are 4,096; each is kept in memory.
const MAP_PAGES_MAX: usize = 4096;

/// So many blocks with lost tuples are looked at for chains, one read for each.
const CHAIN_BLOCKS_MAX: usize = 4096;

/// `HEAP_HOT_UPDATED` of t_infomask2: the next version is on the same page, and
/// no index points to it.
const HOT_UPDATED: u16 = 0x4000;

/// The pages of a visibility map that speak of lost blocks.
#[derive(Default)]
pub(super) struct Visibility {
    pages: BTreeMap<u32, Vec<u8>>,
    blocks_per_page: u32,
}

impl Visibility {
    /// Reads what there is of it. What cannot be had says nothing.
    pub(super) async fn read(
        map: &Fork<'_>,
        block_size: u32,
        places: &Places,
    ) -> Result<Self, ReadError> {
        let blocks_per_page = block_size.saturating_sub(PAGE_HEADER).max(1) * BLOCKS_PER_BYTE;
        let mut wanted = BTreeSet::new();
        for range in places.ranges() {
            let last = range.end.saturating_sub(1) / blocks_per_page;
            wanted.extend((range.start / blocks_per_page..=last).take(MAP_PAGES_MAX));
        }
        wanted.extend(places.tuples_by_block().keys().map(|block| block / blocks_per_page));
        let mut pages = BTreeMap::new();
        for number in wanted.into_iter().take(MAP_PAGES_MAX) {
            let bytes = map.read(number, 1).await?;
            if bytes.is_empty() {
                // The end of the file: no page follows.
                break;
            }
            let page = Page::new(&bytes);
            if !page.is_new() && page.insane().is_none() {
                pages.insert(number, bytes);
            }
        }
        Ok(Self { pages, blocks_per_page })
    }

    /// Whether all rows of the block were there for everybody to see, and no
    /// others, when its page was last written.
    pub(super) fn is_all_visible(&self, block: u32) -> bool {
        let per_page = self.blocks_per_page.max(1);
        let within = block % per_page;
        let bits = self.pages.get(&(block / per_page)).and_then(|page| {
            page.get(usize::try_from(PAGE_HEADER + within / BLOCKS_PER_BYTE).ok()?)
        });
        bits.is_some_and(|bits| bits >> (2 * (within % BLOCKS_PER_BYTE)) & ALL_VISIBLE != 0)
    }
}

/// Finds where the chains begin that lead to lost tuples: only there do indexes
/// point. Returns how many blocks were not looked at.
pub(super) async fn follow_chains(
    heap: &Fork<'_>,
    places: &mut Places,
) -> Result<usize, ReadError> {
    let all = places.tuples_by_block();
    let left = all.len().saturating_sub(CHAIN_BLOCKS_MAX);
    for (block, lost) in all.into_iter().take(CHAIN_BLOCKS_MAX) {
        let bytes = heap.read(block, 1).await?;
        let page = Page::new(&bytes);
        if page.is_new() || page.insane().is_some() {
            continue;
        }
        let before = before(page, block);
        for offset in lost {
            let mut root = offset;
            // A chain is no longer than there are line pointers: damage may make
            // a circle of it.
            for _ in 0..page.line_pointer_count() {
                match before.get(&root) {
                    Some(&earlier) => root = earlier,
                    None => break,
                }
            }
            places.leads_to(Ctid::new(block, root), Ctid::new(block, offset));
        }
    }
    Ok(left)
}

/// For each tuple the version before it on its page, or the line pointer that
/// is redirected to it.
fn before(page: Page<'_>, block: u32) -> BTreeMap<u16, u16> {
    let mut before = BTreeMap::new();
    for (number, pointer) in page.line_pointers() {
        let next = match pointer.flags {
            LineState::Redirect => Some(pointer.offset),
            LineState::Normal => page
                .tuple(number)
                .filter(|t| t.infomask2() & HOT_UPDATED != 0 && t.t_ctid().0 == block)
                .map(|t| t.t_ctid().1),
            _ => None,
        };
        if let Some(next) = next.filter(|next| *next != number) {
            before.insert(next, number);
        }
    }
    before
}
