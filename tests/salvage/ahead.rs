//! Somebody looks at pages before they are read: what would take the server down
//! is lost without a read, and all else is had as ever.

use super::*;

proptest! {
    #[test]
    fn what_is_seen_before_it_is_read_takes_no_server_down_and_costs_nothing_else(
        blocks in prop_oneof![1u32..4, 1u32..200],
        live_every in 1u32..3,
        bad in prop_oneof![
            prop::collection::btree_map(0u32..4, bad_block(), 0..4),
            prop::collection::btree_map(0u32..200, bad_block(), 0..12),
        ],
        limits in limits(),
        from in prop_oneof![Just(0u64), 0u64..12],
        at_a_time in prop_oneof![1u32..8, 1u32..300],
        cuts in prop::collection::vec((any::<bool>(), 0usize..60), 0..30),
    ) {
        let heap = FakeHeap { bad, tuples: 8, live_every };
        let mut cuts = cuts.into_iter();
        let mut result = Result { looks: Some((from, at_a_time)), ..Result::default() };
        let salvage = Salvage::new(BlockRange::new(0, blocks), limits);
        let done = heap.salvage_with(salvage, &mut result, |_| match cuts.next() {
            Some((true, rows)) => Some(rows),
            _ => None,
        });
        if from == 0 {
            prop_assert_eq!(result.crashes, 0);
        }
        assert_had(&heap, blocks, &result, &done)?;
    }
}

/// A block in which something is seen costs a read for each run of tuples between
/// what must not be read.
#[test]
fn a_killer_that_was_seen_costs_no_crash_and_few_reads() {
    let heap =
        FakeHeap { bad: BTreeMap::from([(700, Bad::Killers(vec![5]))]), tuples: 60, live_every: 1 };
    let mut result = Result { looks: Some((0, 4096)), ..Result::default() };
    let done =
        heap.salvage_with(Salvage::new(BlockRange::new(0, 4096), 291), &mut result, |_| None);
    assert_eq!((result.crashes, result.reads, result.lost.len()), (0, 4, 0));
    assert_eq!(done.map().status(Ctid::new(700, 5)), Some(Status::Lost));
    assert_eq!((result.clean.len(), result.suspect.len()), (4095 * 60, 59));
}
