//! The salvage on heaps that are only simulated: what is read, what is lost,
//! and what it costs.

mod ahead;
mod cost;
#[path = "../examples/simulate/fake_heap.rs"]
mod fake_heap;

use fake_heap::{Bad, FakeHeap, Result};
use pg_salvage::heap::{BlockRange, Ctid, Known, Limits, Loss, Read, Salvage, Status, TidMap};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const TUPLES_MAX: u16 = 20;

/// With and without TID range scans.
fn limits() -> impl Strategy<Value = Limits> {
    let bounded = prop::option::of(prop_oneof![1u32..5, 1u32..100]);
    bounded.prop_map(|blocks_per_read| Limits { tuples_max: TUPLES_MAX, blocks_per_read })
}

/// After the first read, none is wider than the limit, and each is tagged.
fn assert_within(limits: Limits, before: u64, read: &Read) {
    if let (Some(max), Read::Blocks { range, tagged }) = (limits.blocks_per_read, read) {
        assert!(before == 0 || (range.len() <= max && *tagged), "read {before}: {read:?}");
    }
}

fn offsets() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::btree_set(1u16..=8, 1..4).prop_map(|s| s.into_iter().collect())
}

fn bad_block() -> impl Strategy<Value = Bad> {
    prop_oneof![
        Just(Bad::Page),
        offsets().prop_map(Bad::Tuples),
        offsets().prop_map(Bad::Toast),
        offsets().prop_map(Bad::Columns),
        offsets().prop_map(Bad::Visibility),
        offsets().prop_map(Bad::Killers),
    ]
}

/// Whether some columns of a tuple are lost, and nothing else.
fn is_partial(heap: &FakeHeap, at: Ctid) -> bool {
    matches!(heap.bad.get(&at.block), Some(Bad::Columns(t)) if t.contains(&at.offset))
}

/// A page that can be read unchecked, whatever else is wrong with it.
fn any_block() -> impl Strategy<Value = Bad> {
    let whole = || bad_block().prop_filter("rows", |b| !matches!(b, Bad::Columns(_)));
    let unchecked = prop_oneof![Just(Bad::Tuples(Vec::new())), whole()]
        .prop_map(|bad| Bad::Unchecked(Box::new(bad)));
    prop_oneof![whole(), unchecked]
}

/// The tuples that fail, of those of a page.
fn tuples(bad: &Bad) -> Vec<u16> {
    match bad {
        Bad::Page => (1..=8).collect(),
        Bad::Tuples(t) | Bad::Toast(t) | Bad::Visibility(t) | Bad::Killers(t) => t.clone(),
        Bad::Columns(_) => Vec::new(),
        Bad::Unchecked(bad) => tuples(bad),
    }
}

/// Each good tuple was had once, in its class and in order, and each bad one is
/// lost; nothing is left untried.
fn assert_had(
    heap: &FakeHeap,
    blocks: u32,
    result: &Result,
    done: &Salvage,
) -> std::result::Result<(), TestCaseError> {
    let (bad_tuples, bad_blocks) = truth(heap, blocks);
    let good = (0..blocks)
        .filter(|&b| heap.live(b))
        .flat_map(|b| (1..=8).map(move |o| Ctid::new(b, o)))
        .filter(|c| !bad_tuples.contains(c) && !is_partial(heap, *c));
    let (suspect, clean): (Vec<_>, Vec<_>) = good.partition(|c| bad_blocks.contains(&c.block));
    prop_assert_eq!(&result.clean, &clean);
    prop_assert_eq!(&result.suspect, &suspect);
    for tuple in bad_tuples {
        prop_assert_eq!(done.map().status(tuple), Some(Status::Lost));
    }
    prop_assert!(done.map().extents().iter().all(|e| e.status.is_final()));
    Ok(())
}

/// The tuples that fail, and the blocks in which damage is.
fn truth(heap: &FakeHeap, blocks: u32) -> (BTreeSet<Ctid>, BTreeSet<u32>) {
    let (mut bad_tuples, mut bad_blocks) = (BTreeSet::new(), BTreeSet::new());
    for (&block, bad) in heap.bad.range(..blocks) {
        let tuples: Vec<u16> = match bad {
            Bad::Page => (1..=heap.tuples).collect(),
            // Had in part, and counted by themselves.
            Bad::Columns(_) => continue,
            bad => tuples(bad),
        };
        if heap.live(block) {
            bad_tuples.extend(tuples.into_iter().map(|o| Ctid::new(block, o)));
        }
        if matches!(bad, Bad::Page | Bad::Unchecked(_))
            || (heap.live(block) && !matches!(bad, Bad::Toast(_)))
        {
            bad_blocks.insert(block);
        }
    }
    (bad_tuples, bad_blocks)
}

proptest! {
    #[test]
    fn every_good_tuple_comes_once_and_every_bad_one_is_lost(
        blocks in prop_oneof![1u32..4, 1u32..400],
        live_every in 1u32..4,
        limits in limits(),
        bad in prop_oneof![
            prop::collection::btree_map(0u32..4, bad_block(), 0..3),
            prop::collection::btree_map(0u32..400, bad_block(), 0..12),
        ],
    ) {
        let heap = FakeHeap { bad, tuples: 8, live_every };
        let mut result = Result::default();
        let mut before = 0;
        let done = heap.salvage_with(Salvage::new(BlockRange::new(0, blocks), limits), &mut result, |read| {
            assert_within(limits, before, read);
            before += 1;
            None
        });
        assert_had(&heap, blocks, &result, &done)?;
        let page_losses = result.lost.iter().filter(|l| matches!(l, Loss::Block(_))).count();
        let pages = heap.bad.range(..blocks).filter(|(_, b)| matches!(b, Bad::Page)).count();
        prop_assert_eq!(page_losses, pages);
    }

    #[test]
    fn a_salvage_that_is_gone_on_with_gives_the_same_and_kills_no_server_twice(
        blocks in 1u32..200,
        bad in prop::collection::btree_map(0u32..200, bad_block(), 0..8),
        stops in prop::collection::vec(0u64..20, 1..6),
        limits in limits(),
    ) {
        let heap = FakeHeap { bad, tuples: 8, live_every: 1 };
        let range = BlockRange::new(0, blocks);
        let (mut result, mut salvage) = (Result::default(), Salvage::new(range, limits));
        let mut killers: BTreeSet<Ctid> = BTreeSet::new();
        for stop in stops {
            result.stop_at = Some(result.reads + stop);
            salvage = heap.salvage_with(salvage, &mut result, |_| None);
            killers.extend(result.lost.iter().filter_map(|l| match l {
                // The block as a whole did it, too: that may be known or not.
                Loss::Tuple(at) if matches!(heap.bad.get(&at.block), Some(Bad::Killers(_))) => Some(*at),
                _ => None,
            }));
            // Whoever goes on has what is settled, and the killers.
            let to = salvage.map().settled_to();
            result.clean.retain(|c| c.block < to);
            result.suspect.retain(|c| c.block < to);
            let before = salvage.map().part(BlockRange::new(0, to));
            salvage = Salvage::resumed(before, BlockRange::new(to, blocks), limits, Known { killers: killers.iter().copied().collect(), ..Known::default() });
        }
        let crashes = result.crashes;
        result.stop_at = None;
        let known = killers.len();
        let done = heap.salvage_with(salvage, &mut result, |_| None);
        assert_had(&heap, blocks, &result, &done)?;
        let all: usize = heap.bad.range(..blocks).map(|(_, b)| match b { Bad::Killers(t) => t.len(), _ => 0 }).sum();
        // A killer that is not known costs three at most, one that is costs none.
        prop_assert!(result.crashes - crashes <= 3 * (all - known) as u64);
    }

    /// From any read on, some columns are read apart.
    #[test]
    fn rows_of_which_columns_are_lost_are_had_once_and_marked(
        blocks in 1u32..200,
        live_every in 1u32..3,
        bad in prop::collection::btree_map(0u32..200, bad_block(), 0..12),
        apart_at in prop::option::of(1u64..40),
    ) {
        let heap = FakeHeap { bad, tuples: 8, live_every };
        let mut result = Result { apart_at, ..Result::default() };
        let done = heap.salvage(Salvage::new(BlockRange::new(0, blocks), TUPLES_MAX), true, &mut result);
        let columns = |b: u32| match heap.bad.get(&b) {
            Some(Bad::Columns(t)) if heap.live(b) => t.clone(),
            _ => Vec::new(),
        };
        let partial: Vec<_> = (0..blocks).flat_map(|b| columns(b).into_iter().map(move |o| Ctid::new(b, o))).collect();
        prop_assert_eq!(&result.partial, &partial);
        let all: usize = (0..blocks).filter(|&b| heap.live(b)).count() * 8;
        let (bad_tuples, _) = truth(&heap, blocks);
        prop_assert_eq!(result.clean.len() + result.suspect.len() + partial.len() + bad_tuples.len(), all);
        for tuple in partial {
            prop_assert_eq!(done.map().status(tuple), Some(Status::Partial));
        }
        prop_assert!(done.map().extents().iter().all(|e| e.status.is_final()));
    }

    #[test]
    fn a_page_that_is_read_unchecked_gives_suspect_rows_and_is_never_trusted(
        blocks in 1u32..60,
        bad in prop::collection::btree_map(0u32..60, any_block(), 0..8),
        evict_every in prop_oneof![Just(0u64), 2u64..9],
        stops in prop::collection::vec(0u64..20, 0..4),
        cuts in prop::collection::vec((any::<bool>(), 0usize..60), 0..20),
    ) {
        let heap = FakeHeap { bad, tuples: 8, live_every: 1 };
        let known = |killers: &BTreeSet<Ctid>, pages: &BTreeSet<u32>| Known {
            killers: killers.iter().copied().collect(),
            unchecked: Some(pages.clone()),
        };
        let (mut result, mut killers) = (Result { evict_every, ..Result::default() }, BTreeSet::new());
        let mut from = TidMap::default();
        let mut cuts = cuts.into_iter();
        let mut done = None;
        for stop in stops.into_iter().map(Some).chain([None]) {
            result.stop_at = stop.map(|s| result.reads + s);
            let to = from.settled_to();
            let known = known(&killers, &result.unchecked);
            let salvage = Salvage::resumed(from, BlockRange::new(to, blocks), TUPLES_MAX, known);
            let salvage = heap.salvage_with(salvage, &mut result, |_| match cuts.next() {
                Some((true, rows)) => Some(rows),
                _ => None,
            });
            killers.extend(result.lost.iter().filter_map(|l| match l {
                Loss::Tuple(at) if matches!(heap.bad.get(&at.block), Some(Bad::Killers(_))) => Some(*at),
                _ => None,
            }));
            let to = salvage.map().settled_to();
            result.clean.retain(|c| c.block < to);
            result.suspect.retain(|c| c.block < to);
            from = salvage.map().part(BlockRange::new(0, to));
            done = Some(salvage);
        }
        let (bad_tuples, bad_blocks) = truth(&heap, blocks);
        let good = (0..blocks).flat_map(|b| (1..=8).map(move |o| Ctid::new(b, o))).filter(|c| !bad_tuples.contains(c));
        let (suspect, clean): (Vec<_>, Vec<_>) = good.partition(|c| bad_blocks.contains(&c.block));
        prop_assert_eq!(result.clean, clean);
        prop_assert_eq!(result.suspect, suspect);
        prop_assert_eq!(result.trusted, BTreeSet::new());
        let map = done.expect("the last is not stopped");
        for tuple in bad_tuples {
            prop_assert_eq!(map.map().status(tuple), Some(Status::Lost));
        }
        let unchecked = heap.bad.range(..blocks).filter(|(_, b)| matches!(b, Bad::Unchecked(_) | Bad::Page));
        prop_assert_eq!(result.unchecked.into_iter().collect::<Vec<_>>(), unchecked.map(|(&b, _)| b).collect::<Vec<_>>());
    }

    #[test]
    fn a_fenced_salvage_keeps_what_it_has_and_names_the_rest(
        bad in prop::collection::btree_map(0u32..200, bad_block(), 1..12),
        reads in 0usize..30,
    ) {
        let heap = FakeHeap { bad, tuples: 8, live_every: 1 };
        let mut salvage = Salvage::new(BlockRange::new(0, 200), TUPLES_MAX);
        // Whatever comes of the reads, in any order.
        for i in 0..reads {
            salvage.record(match i % 3 {
                0 => pg_salvage::heap::Outcome::Crashed { last: None },
                1 => pg_salvage::heap::Outcome::Complete,
                _ => pg_salvage::heap::Outcome::Failed { last: None, place: pg_salvage::heap::Place::Unknown },
            });
        }
        let _ = &heap;
        let fenced: BTreeSet<u32> = salvage.fence().into_iter().flat_map(|r| r.start..r.end).collect();
        prop_assert_eq!(salvage.next_read(), None);
        // Of the first, some tuples may have been read.
        let open = fenced.first().copied();
        for block in 0..200 {
            let of = |offset| salvage.map().status(Ctid::new(block, offset));
            let is_fenced = |offset| of(offset) == Some(Status::Fenced);
            let any = (1..=TUPLES_MAX).any(is_fenced);
            prop_assert_eq!(any, fenced.contains(&block));
            prop_assert!(!any || Some(block) == open || (1..=TUPLES_MAX).all(is_fenced));
            prop_assert!((1..=TUPLES_MAX).all(|offset| of(offset).is_some_and(Status::is_final)));
        }
    }
}

#[test]
fn a_whole_salvage_told() {
    let bad = BTreeMap::from([(5, Bad::Page), (9, Bad::Tuples(vec![3]))]);
    let heap = FakeHeap { bad, tuples: 4, live_every: 1 };
    let mut salvage = Salvage::new(BlockRange::new(0, 20), 4);
    let mut told = Vec::new();
    while let Some(read) = salvage.next_read() {
        told.push(match &read {
            Read::Blocks { range, tagged: false } => range.to_string(),
            Read::Blocks { range, tagged: true } => format!("{range}, tagged"),
            Read::Tuples { block, first, last } => {
                format!("tuples {first}..{last} of block {block}")
            }
        });
        salvage = heap.step(salvage);
    }
    assert_eq!(
        told,
        [
            "blocks 0..19",
            "block 5, tagged",
            "blocks 6..19",
            "blocks 6..19, tagged", // nobody said where
            "block 9, tagged",
            "tuples 3..4 of block 9",
            "tuples 3..3 of block 9",
            "tuples 4..4 of block 9",
            "blocks 10..19, tagged",
        ]
    );
    assert_eq!(
        salvage.map().to_text(),
        "# pg_salvage map, version 1\n(0,0) (5,0) +\n(5,0) (6,0) -\n(6,0) (9,0) +\n\
         (9,0) (9,3) ~\n(9,3) (9,4) -\n(9,4) (10,0) ~\n(10,0) (20,0) +\n"
    );
}

#[test]
fn a_killer_costs_three_crashes() {
    let heap =
        FakeHeap { bad: BTreeMap::from([(700, Bad::Killers(vec![5]))]), tuples: 60, live_every: 1 };
    let mut result = Result::default();
    heap.salvage(Salvage::new(BlockRange::new(0, 4096), 291), true, &mut result);
    assert_eq!(result.crashes, 3);
    assert_eq!(result.lost, [Loss::Tuple(Ctid::new(700, 5))]);
    assert_eq!((result.clean.len(), result.suspect.len()), (4095 * 60, 59));
}

#[test]
fn what_came_of_a_read_that_was_wider_than_the_next_is_not_read_again() {
    let limits = Limits { tuples_max: 291, blocks_per_read: Some(64) };
    let mut salvage = Salvage::new(BlockRange::new(0, 1000), limits);
    salvage.tag_all();
    salvage.cut_short(Some(Ctid::new(500, 3)));
    let next = Read::Blocks { range: BlockRange::new(500, 564), tagged: true };
    assert_eq!(salvage.next_read(), Some(next));
    assert_eq!(salvage.map().status(Ctid::new(499, 1)), Some(Status::Done));
}

proptest! {
    /// Cut short anywhere, any number of times, and read on: as if nothing had
    /// been.
    #[test]
    fn a_read_that_is_cut_short_is_read_on(
        bad in prop::collection::btree_map(0u32..60, bad_block(), 0..8),
        tuples_max in 8u16..12,
        limits in limits(),
        cuts in prop::collection::vec((any::<bool>(), 0usize..60), 0..60),
    ) {
        let heap = FakeHeap { bad, tuples: 8, live_every: 1 };
        let mut cuts = cuts.into_iter();
        let mut result = Result::default();
        let salvage = Salvage::new(BlockRange::new(0, 60), Limits { tuples_max, ..limits });
        heap.salvage_with(salvage, &mut result, |_| match cuts.next() {
            Some((true, rows)) => Some(rows),
            _ => None,
        });
        let (bad_tuples, bad_blocks) = truth(&heap, 60);
        let good = (0..60).flat_map(|b| (1..=8).map(move |o| Ctid::new(b, o)))
            .filter(|c| !bad_tuples.contains(c) && !is_partial(&heap, *c));
        let (suspect, clean): (Vec<_>, Vec<_>) = good.partition(|c| bad_blocks.contains(&c.block));
        prop_assert_eq!(result.clean, clean);
        prop_assert_eq!(result.suspect, suspect);
    }
}
