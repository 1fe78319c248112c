//! One salvage, told read by read.

use super::cost::{TUPLES, TUPLES_MAX, WHOLE_MAX};
use super::fake_heap::{Bad, FakeHeap, Result as Came};
use super::{KINDS, Options, bad, contiguous, scattered};
use pg_salvage::heap::{BlockRange, Ctid, Read, Salvage, Status, TidMap, stretches};
use pg_salvage::report::grouped;
use std::collections::BTreeMap;

/// All rows are followed: this many blocks are enough for that.
const BLOCKS_MAX: u32 = 100_000;

pub fn one(options: &Options) -> Result<(), String> {
    let (blocks, bad) = damage(options)?;
    if blocks > BLOCKS_MAX {
        return Err(format!(
            "at most {BLOCKS_MAX} blocks; without arguments larger heaps are shown"
        ));
    }
    let heap = FakeHeap { bad, tuples: TUPLES, live_every: 1 };
    let mut came = Came::default();
    let mut map = TidMap::new(BlockRange::new(0, 0));
    for range in stretches(blocks, WHOLE_MAX) {
        let salvage = Salvage::new(range, TUPLES_MAX);
        if options.verbose {
            tell(&heap, salvage.clone());
        }
        map.join(heap.salvage(salvage, true, &mut came).into_map());
    }
    if options.verbose {
        println!("\nThe map at the end:\n\n{}", map.to_text());
    }
    let counts = map.blocks();
    println!(
        "{} blocks, {} of them bad: {} reads, {} crashes",
        grouped(blocks.into()),
        grouped(heap.bad.len() as u64),
        grouped(came.reads),
        grouped(came.crashes)
    );
    println!(
        "{} rows clean, {} suspect; {} places lost; {} blocks damaged, {} of them lost",
        grouped(came.clean.len() as u64),
        grouped(came.suspect.len() as u64),
        grouped(came.lost.len() as u64),
        grouped(counts.damaged),
        grouped(counts.lost)
    );
    Ok(())
}

/// How long the heap is, and what is wrong with it.
fn damage(options: &Options) -> Result<(u32, BTreeMap<u32, Bad>), String> {
    if let Some(path) = &options.map {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|e| format!("could not read \"{path}\": {e}"))?;
        let map = TidMap::from_text(&text).map_err(|e| format!("\"{path}\": {e}"))?;
        return from_map(&map);
    }
    let blocks = options.blocks.unwrap_or(0);
    let kind = options.kind.as_deref().unwrap_or("page");
    let bad = bad(kind).ok_or_else(|| {
        format!("unknown kind \"{kind}\"; there are {}", KINDS.map(|k| k.0).join(", "))
    })?;
    let mut all = scattered(options.scattered, blocks, &bad);
    all.extend(contiguous(options.contiguous, blocks, &bad));
    Ok((blocks, all))
}

/// A map as a plan of damage: see the top of `main.rs`.
fn from_map(map: &TidMap) -> Result<(u32, BTreeMap<u32, Bad>), String> {
    let end = map.extents().last().map_or(Ctid::start_of(0), |e| e.end);
    if map.extents().first().is_some_and(|e| e.start != Ctid::start_of(0)) {
        return Err("the map must begin at (0,0)".to_owned());
    }
    let blocks = end.block + u32::from(end.offset > 0);
    if blocks > BLOCKS_MAX {
        return Ok((blocks, BTreeMap::new()));
    }
    let (mut tuples, mut killers): (BTreeMap<u32, Vec<u16>>, BTreeMap<u32, Vec<u16>>) =
        Default::default();
    let mut pages = BTreeMap::new();
    for block in 0..blocks {
        let status = |offset| map.status(Ctid::new(block, offset));
        let all = |wanted| (0..=TUPLES).all(|offset| status(offset) == Some(wanted));
        if all(Status::Lost) || all(Status::Fenced) {
            pages.insert(block, Bad::Page);
            continue;
        }
        for offset in 1..=TUPLES {
            match status(offset) {
                Some(Status::Lost) => tuples.entry(block).or_default().push(offset),
                Some(Status::Fenced) => killers.entry(block).or_default().push(offset),
                _ => {}
            }
        }
    }
    pages.extend(tuples.into_iter().map(|(block, offsets)| (block, Bad::Tuples(offsets))));
    pages.extend(killers.into_iter().map(|(block, offsets)| (block, Bad::Killers(offsets))));
    Ok((blocks, pages))
}

/// Prints the reads, one line each.
fn tell(heap: &FakeHeap, mut salvage: Salvage) {
    while let Some(read) = salvage.next_read() {
        let words = match &read {
            Read::Blocks { range, tagged: false } => range.to_string(),
            Read::Blocks { range, tagged: true } => format!("{range}, tagged"),
            Read::Tuples { block, first, last } if first == last => {
                format!("tuple {first} of block {block}")
            }
            Read::Tuples { block, first, last } => {
                format!("tuples {first}..{last} of block {block}")
            }
        };
        let came = if heap.fails(&read) { "fails" } else { "is read" };
        println!("{words:40} {came}");
        salvage = heap.step(salvage);
    }
}
