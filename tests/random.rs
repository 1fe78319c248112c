//! Bits turned over at random in everything that a table has, and in sequences.
//!
//! With checksums each row's fate is foretold: a row is touched if its block was
//! harmed, or one of the TOAST table with a chunk of its value; all others are
//! in the clean file, as they were, whatever was done to indexes. Without
//! checksums no more can be promised than that a row that was not touched
//! itself comes out; what is silently wrong is counted, and shown.
//!
//! `PG_SALVAGE_FLIPS_SEEDS=N` does so many rounds for each version and kind of
//! cluster, from the seed `PG_SALVAGE_FLIPS_SEED` on, of 25 flips each.

// Modules of a test have no other users.
#![allow(unreachable_pub, clippy::print_stderr, clippy::unwrap_used)]

mod base;
mod checked;
mod unchecked;

use crate::kit::Version;
use base::Base;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const FLIPS: usize = 25;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |n| n.parse().expect("a number"))
}

/// The seeds of the rounds.
fn seeds(default: u64) -> std::ops::Range<u64> {
    let first = number("PG_SALVAGE_FLIPS_SEED", 1);
    first..first + number("PG_SALVAGE_FLIPS_SEEDS", default)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_checksums_no_row_is_lost_or_altered_that_no_flip_has_touched() {
    for version in Version::one_or_two() {
        let base = Base::new(&version, true).await;
        let mut sum = checked::Sum::default();
        for seed in seeds(3) {
            checked::round(&base, seed, &mut sum).await;
        }
        eprintln!("PostgreSQL {} with checksums: {sum:#?}", version.major);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_checksums_every_row_comes_out_that_no_flip_has_touched() {
    for version in Version::one_or_two() {
        let base = Base::new(&version, false).await;
        let mut sum = unchecked::Sum::default();
        for seed in seeds(2) {
            unchecked::round(&base, seed, &mut sum).await;
        }
        eprintln!("PostgreSQL {} without checksums: {sum:#?}", version.major);
    }
}
