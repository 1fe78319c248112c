//! What a salvage costs in reads.

use super::fake_heap::{Bad, FakeHeap, Result};
use pg_salvage::heap::{BlockRange, Limits, Salvage, stretches};
use std::collections::BTreeMap;

/// Reads needed for a heap of `blocks` blocks with this damage, and how many
/// were needed without it.
fn cost(blocks: u32, bad: BTreeMap<u32, Bad>) -> (u64, u64) {
    let heap = FakeHeap { bad, tuples: 100, live_every: 1 };
    let mut result = Result::default();
    let cut = stretches(blocks, 131_072);
    let healthy = cut.len() as u64;
    for range in cut {
        heap.salvage(Salvage::new(range, 291), false, &mut result);
    }
    (result.reads, healthy)
}

fn scattered(n: u32, blocks: u32, bad: &Bad) -> BTreeMap<u32, Bad> {
    let step = blocks / n;
    (0..n)
        .map(|i| (i * step + (i.wrapping_mul(2_654_435_761)) % step.max(1), bad.clone()))
        .collect()
}

#[test]
fn reads_are_proportional_to_the_damage() {
    let largest = u32::MAX - 1; // 2^32-2 blocks: 0 to 0xFFFFFFFD
    for blocks in [1_000, 131_072, 10_000_000, largest] {
        let (reads, healthy) = cost(blocks, BTreeMap::new());
        assert_eq!(reads, healthy, "an undamaged heap of {blocks} blocks");
        for n in [1u32, 1_000, 100_000].into_iter().filter(|&n| n <= blocks) {
            // A page that cannot be read is found, read alone, and left behind.
            let (reads, healthy) = cost(blocks, scattered(n, blocks, &Bad::Page));
            assert!(reads <= healthy + 2 * u64::from(n), "{blocks} {n} pages: {reads}");
            // A value stored elsewhere: tags, the block, two looks at its
            // tuples, and on.
            let (reads, healthy) = cost(blocks, scattered(n, blocks, &Bad::Toast(vec![50])));
            assert!(reads <= healthy + 8 * u64::from(n), "{blocks} {n} values: {reads}");
            let (reads, healthy) = cost(blocks, scattered(n, blocks, &Bad::Visibility(vec![50])));
            assert!(reads <= healthy + 12 * u64::from(n) + 24, "{blocks} {n} tuples: {reads}");
        }
        if blocks > 2_000_000 {
            let run = (500_000..1_500_000).map(|b| (b, Bad::Page)).collect();
            let (reads, healthy) = cost(blocks, run);
            let stretches_hit = 1_000_000 / 4096 + 2;
            assert!(reads <= healthy + 1_000_000 + 4 * stretches_hit, "{blocks}: {reads}");
        }
    }
}

#[test]
fn where_reads_are_bounded_each_so_many_blocks_cost_one_more() {
    let (blocks, per_read) = (1_000_000, 64);
    let limits = Limits { tuples_max: 291, blocks_per_read: Some(per_read) };
    for (n, bad) in [(1, Bad::Page), (1_000, Bad::Page), (1_000, Bad::Visibility(vec![50]))] {
        let heap = FakeHeap { bad: scattered(n, blocks, &bad), tuples: 100, live_every: 1 };
        let mut result = Result::default();
        heap.salvage(Salvage::new(BlockRange::new(0, blocks), limits), false, &mut result);
        let damage = u64::from(n) * if matches!(bad, Bad::Page) { 3 } else { 12 };
        let all = 2 + u64::from(blocks / per_read) + damage;
        assert!(result.reads <= all, "{n} {bad:?}: {} reads", result.reads);
    }
}
