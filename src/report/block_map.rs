//! What became of a heap's blocks: made of the map of a dump and of the places
//! that are lost, and cut into cells that can be drawn.
//!
//! The map of a dump speaks of tuples: a block has the worst status of its
//! parts, and one of which only a part is lost is lost in part.

use super::model::{BlockStatus, EXTENTS_MAX, Extent};
use crate::heap::map::{Status, TidMap};

/// Some blocks, half-open. Spans may overlap; then the worse one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u64,
    pub end: u64,
    pub status: BlockStatus,
}

impl Span {
    pub(super) fn new(start: u64, end: u64, status: BlockStatus) -> Self {
        // Block numbers end where InvalidBlockNumber is.
        let [start, end] = [start, end].map(|block| block.min(u64::from(u32::MAX)));
        Self { start, end, status }
    }
}

pub(super) fn of_tids(map: &TidMap) -> Vec<Span> {
    let mut spans = Vec::new();
    for e in map.extents() {
        let (whole, part) = match e.status {
            Status::Untried | Status::Failed | Status::Broken => {
                (BlockStatus::Untried, BlockStatus::Untried)
            }
            Status::Fenced => (BlockStatus::Fenced, BlockStatus::Fenced),
            Status::Lost => (BlockStatus::Lost, BlockStatus::Partial),
            Status::Partial => (BlockStatus::Partial, BlockStatus::Partial),
            Status::Suspect => (BlockStatus::Suspect, BlockStatus::Suspect),
            Status::Done => (BlockStatus::Clean, BlockStatus::Clean),
        };
        let (start, end) = (u64::from(e.start.block), u64::from(e.end.block));
        let whole_from = start + u64::from(e.start.offset > 0);
        spans.push(Span::new(start, whole_from, part));
        spans.push(Span::new(whole_from, end, whole));
        spans.push(Span::new(end, end + u64::from(e.end.offset > 0), part));
    }
    spans.retain(|span| span.start < span.end);
    spans
}

/// One status for every block up to the last that is named: that of `base`, but
/// of `named` where there is none or all seems well. What nobody speaks of was
/// not looked at. Empty where all is clean.
pub(super) fn flatten(base: &[Span], named: &[Span]) -> Vec<Extent> {
    // Where a span begins or ends: its layer, its status, and one more or less.
    let mut edges: Vec<(u64, usize, usize, i64)> = Vec::new();
    for (layer, spans) in [base, named].into_iter().enumerate() {
        for span in spans.iter().filter(|span| span.start < span.end) {
            edges.push((span.start, layer, span.status as usize, 1));
            edges.push((span.end, layer, span.status as usize, -1));
        }
    }
    edges.sort_unstable();
    let mut open = [[0i64; BlockStatus::ALL.len()]; 2];
    let mut out = Vec::new();
    let mut at = 0;
    for (edge, layer, status, change) in edges {
        if at < edge {
            let worst = |layer: usize| {
                let is_open = |s: &&BlockStatus| open[layer][**s as usize] > 0;
                BlockStatus::ALL.iter().rev().find(is_open).copied()
            };
            let status = match (worst(0), worst(1)) {
                (Some(base), None) => base,
                (Some(base), Some(_)) if base > BlockStatus::Untried => base,
                (base, Some(named)) => base.map_or(named, |base| base.max(named)),
                (None, None) => BlockStatus::Untried,
            };
            push(&mut out, at, edge, status);
            at = edge;
        }
        open[layer][status] += change;
    }
    if out.iter().all(|extent: &Extent| extent.status == BlockStatus::Clean) {
        return Vec::new();
    }
    if out.len() <= EXTENTS_MAX { out } else { coarse(&out) }
}

/// Adds blocks at the end, to what is alike if need be.
fn push(out: &mut Vec<Extent>, start: u64, end: u64, status: BlockStatus) {
    let block = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let blocks = block(end - start);
    match out.last_mut() {
        Some(last) if last.status == status => last.blocks = last.blocks.saturating_add(blocks),
        _ => out.push(Extent { first_block: block(start), blocks, status }),
    }
}

/// The same with neighbours put together, lest it be too long.
fn coarse(map: &[Extent]) -> Vec<Extent> {
    let cells = cells(map, EXTENTS_MAX);
    let mut out = Vec::new();
    for (n, status) in cells.cells.iter().enumerate() {
        let start = n as u64 * cells.blocks_per_cell;
        let end = (start + cells.blocks_per_cell).min(cells.blocks);
        push(&mut out, start, end, *status);
    }
    out
}

/// Whether it is in order and without gaps, from block 0 on.
pub(super) fn is_sound(map: &[Extent]) -> bool {
    let mut next = 0;
    map.iter().all(|extent| {
        let follows = u64::from(extent.first_block) == next && extent.blocks > 0;
        next += u64::from(extent.blocks);
        follows && next <= u64::from(u32::MAX)
    })
}

/// A map as squares, each of which stands for some blocks and has the worst
/// status of them.
pub(super) struct Cells {
    pub blocks: u64,
    pub blocks_per_cell: u64,
    pub cells: Vec<BlockStatus>,
}

/// As many as there are blocks, but at most `cells_max`.
pub(super) fn cells(map: &[Extent], cells_max: usize) -> Cells {
    let end = |e: &Extent| u64::from(e.first_block) + u64::from(e.blocks);
    let blocks = map.last().map_or(0, end);
    let blocks_per_cell = blocks.div_ceil(cells_max.max(1) as u64).max(1);
    let mut cells = Vec::new();
    for extent in map.iter().filter(|extent| extent.blocks > 0) {
        let first = usize::try_from(u64::from(extent.first_block) / blocks_per_cell);
        let last = usize::try_from((end(extent) - 1) / blocks_per_cell);
        let (Ok(first), Ok(last)) = (first, last.map(|last| last.min(cells_max))) else { break };
        // Of the last cell so far the beginning may be another extent's.
        if let Some(shared) = cells.get_mut(first) {
            *shared = extent.status.max(*shared);
        }
        cells.resize(cells.len().max(last + 1), extent.status);
    }
    Cells { blocks, blocks_per_cell, cells }
}

/// How many blocks of each status, in the order of [`BlockStatus::ALL`].
pub(super) fn counts(map: &[Extent]) -> [u64; BlockStatus::ALL.len()] {
    let mut counts = [0; BlockStatus::ALL.len()];
    for extent in map {
        counts[extent.status as usize] += u64::from(extent.blocks);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extent((first_block, blocks, status): (u32, u32, BlockStatus)) -> Extent {
        Extent { first_block, blocks, status }
    }

    #[test]
    fn a_block_has_the_worst_status_of_its_parts() {
        use BlockStatus::{Clean, Fenced, Lost, Partial, Suspect, Untried};
        let text = "# pg_salvage map, version 1\n(0,0) (2,3) +\n(2,3) (2,4) -\n(2,4) (3,0) ~\n\
                    (3,0) (5,0) -\n(5,0) (6,7) ~\n(6,7) (6,9) !\n(6,9) (8,0) +\n(8,0) (9,0) ?\n";
        let map = TidMap::from_text(text).unwrap();
        let expected = [
            (0, 2, Clean),
            (2, 1, Partial),
            (3, 2, Lost),
            (5, 1, Suspect),
            (6, 1, Fenced),
            (7, 1, Clean),
            (8, 1, Untried),
        ];
        assert_eq!(flatten(&of_tids(&map), &[]), expected.map(extent));
    }

    #[test]
    fn loss_that_no_read_told_of_is_on_the_map_and_what_was_read_stays() {
        use BlockStatus::{Clean, Lost, Suspect, Untried};
        let base = [Span::new(0, 10, Clean), Span::new(3, 4, Suspect)];
        let named = [Span::new(3, 5, Lost), Span::new(12, 13, Lost)];
        let expected = [
            (0, 3, Clean),
            (3, 1, Suspect),
            (4, 1, Lost),
            (5, 5, Clean),
            (10, 2, Untried),
            (12, 1, Lost),
        ];
        assert_eq!(flatten(&base, &named), expected.map(extent));
        assert_eq!(flatten(&base[..1], &[]), [], "all is clean");
    }

    #[test]
    fn cells_have_the_worst_status_of_their_blocks() {
        use BlockStatus::{Clean, Lost, Suspect};
        let map = [(0, 7, Clean), (7, 1, Lost), (8, 1, Clean), (9, 2, Suspect)].map(extent);
        let drawn = cells(&map, 4);
        assert_eq!((drawn.blocks, drawn.blocks_per_cell), (11, 3));
        assert_eq!(drawn.cells, [Clean, Clean, Lost, Suspect]);
        assert_eq!(cells(&map, 100).cells.len(), 11);
        assert_eq!(cells(&[], 4).cells, []);
        let huge = [extent((0, u32::MAX, Lost))];
        assert_eq!(cells(&huge, 4).cells, [Lost; 4]);
    }

    proptest! {
        #[test]
        fn every_map_is_sound_and_short_and_makes_nothing_better(
            spans in prop::collection::vec((0u64..60, 0u64..9, 0usize..7, any::<bool>()), 0..20),
            many in 1usize..30,
        ) {
            let spans = spans.into_iter();
            let (base, named): (Vec<_>, Vec<_>) = spans.partition(|(_, _, _, base)| *base);
            let span = |(at, len, s, _): &(u64, u64, usize, bool)| {
                Span::new(*at, at + len, BlockStatus::ALL[*s])
            };
            let [base, named] = [base, named].map(|spans| spans.iter().map(span).collect::<Vec<_>>());
            let map = flatten(&base, &named);
            prop_assert!(is_sound(&map));
            let status = |block: u64| {
                map.iter().rev().find(|e| u64::from(e.first_block) <= block).map(|e| e.status)
            };
            for span in base.iter().chain(&named) {
                for block in span.start..span.end {
                    let found = status(block).unwrap_or(BlockStatus::Clean);
                    let of_base = base.iter().any(|b| b.start <= block && block < b.end
                        && b.status > BlockStatus::Untried);
                    prop_assert!(found >= span.status || (of_base && named.contains(span)));
                }
            }
            let drawn = cells(&map, many);
            prop_assert!(drawn.cells.len() <= many);
            for (n, cell) in drawn.cells.iter().enumerate() {
                let first = n as u64 * drawn.blocks_per_cell;
                let last = (first + drawn.blocks_per_cell).min(drawn.blocks);
                prop_assert_eq!((first..last).filter_map(status).max(), Some(*cell));
            }
            prop_assert!(is_sound(&coarse(&map)));
        }
    }

    #[test]
    fn a_map_of_countless_parts_is_put_together() {
        let spans: Vec<Span> = (0..EXTENTS_MAX as u64 * 2)
            .map(|block| {
                let status = if block % 2 == 0 { BlockStatus::Clean } else { BlockStatus::Lost };
                Span::new(block, block + 1, status)
            })
            .collect();
        let map = flatten(&spans, &[]);
        assert!(is_sound(&map) && map.len() <= EXTENTS_MAX);
        assert_eq!(counts(&map).iter().sum::<u64>(), spans.len() as u64);
    }
}
