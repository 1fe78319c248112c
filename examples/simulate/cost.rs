//! What damage costs, on the largest heap that PostgreSQL allows.

use super::fake_heap::{Bad, FakeHeap, Result};
use super::{KINDS, bad, contiguous, scattered};
use pg_salvage::heap::{Salvage, stretches};
use pg_salvage::report::grouped;
use std::collections::BTreeMap;

/// Blocks 0 to 0xFFFFFFFD: 32 TB.
const LARGEST: u32 = u32::MAX - 1;

/// Relations up to so many blocks (1 GB, `--split-size`) are read whole.
pub const WHOLE_MAX: u32 = 131_072;

/// Rows of a page, and line pointers that a page of 8 kB may have.
pub const TUPLES: u16 = 100;
pub const TUPLES_MAX: u16 = 291;

/// Reads of a heap of so many blocks with this damage.
fn reads(blocks: u32, bad: BTreeMap<u32, Bad>) -> Result {
    let heap = FakeHeap { bad, tuples: TUPLES, live_every: 1 };
    let mut result = Result::default();
    for range in stretches(blocks, WHOLE_MAX) {
        heap.salvage(Salvage::new(range, TUPLES_MAX), false, &mut result);
    }
    result
}

pub fn table() {
    let healthy = reads(LARGEST, BTreeMap::new()).reads;
    println!("A heap of {} blocks (32 TB): {healthy} reads undamaged.", grouped(LARGEST.into()));
    println!("Reads beyond that, and for each bad block:\n");
    println!("{:11} {:>22} {:>12} {:>9}", "kind", "bad blocks", "reads", "per block");
    for (kind, _) in KINDS {
        let Some(bad) = bad(kind) else { continue };
        // More killers would take the server down more often than any
        // --max-crashes allows.
        let numbers: &[u32] = if kind == "killer" { &[1] } else { &[1, 1000, 100_000] };
        for &n in numbers {
            line(kind, &format!("{} scattered", grouped(n.into())), n, healthy, {
                scattered(n, LARGEST, &bad)
            });
        }
        if kind != "killer" {
            let n = 1_000_000;
            line(kind, &format!("{} in a row", grouped(n.into())), n, healthy, {
                contiguous(n, LARGEST, &bad)
            });
        }
    }
    println!();
    for (kind, meaning) in KINDS {
        println!("{kind:11} {meaning}");
    }
    println!(
        "\nOf a bad block one tuple is bad, of {TUPLES}. After a killer the rest of its stretch is read \
         block\nby block, so that a second one costs one crash: of this heap a stretch has {} blocks, of \
         one up to\n1 GB it is all of it, and in between 4,096.",
        grouped(
            stretches(LARGEST, WHOLE_MAX)
                .first()
                .map_or(0, pg_salvage::heap::BlockRange::len)
                .into()
        )
    );
}

fn line(kind: &str, what: &str, n: u32, healthy: u64, bad: BTreeMap<u32, Bad>) {
    let more = reads(LARGEST, bad).reads.saturating_sub(healthy);
    let hundredths = more * 100 / u64::from(n);
    let per_block = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    println!("{kind:11} {what:>22} {:>12} {per_block:>9}", grouped(more));
}
