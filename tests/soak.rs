//! The soak: rounds of random faults of all kinds against one damaged database.
//! Each round ends runs into one directory in ways chosen by a seed, goes on
//! with them, and holds what comes of it at last against a run that nobody
//! disturbed, which itself was held against the rows as they were before the
//! damage.
//!
//! `PG_SALVAGE_SOAK_ROUNDS` says how many rounds, `PG_SALVAGE_SOAK_SEED` which.
//! What happens when is a matter of time, too, so the same seed gives the same
//! faults, but not to the microsecond.

// Modules of a test have no other users.
#![allow(unreachable_pub)]

mod base;
mod faults;
mod run;
mod tally;

use crate::kit::dumped::Dumped;
use crate::kit::flips::Random;
use crate::kit::{Stop, Version, place};
use base::Base;
use faults::Fault;
use run::{Round, small_disk};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tally::Tally;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";
/// A role that may have few connections.
const NARROW: &str = "narrow";

/// A part that is quick enough for every day.
const ROUNDS: u32 = 2;
const SEED: u64 = 3;
/// Each so manyth round is with tables that take the server down.
const KILLS_EVERY: u32 = 6;
/// From slow to quick.
const CODECS: [&str; 4] = ["zstd:15", "zstd:12", "gzip:9", "lz4"];
const SPLITS: [&str; 3] = ["64kB", "512kB", "1GB"];

fn number<T: std::str::FromStr>(variable: &str, otherwise: T) -> T {
    let Ok(text) = std::env::var(variable) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_and_however_often_the_last_resume_has_it_all() {
    let rounds = number("PG_SALVAGE_SOAK_ROUNDS", ROUNDS);
    let seed = number("PG_SALVAGE_SOAK_SEED", SEED);
    let mut tally = Tally::default();
    let mut bases = Vec::new();
    // The other one is for the rounds that have a use for it.
    for kills in [false, true].into_iter().take(if rounds < KILLS_EVERY { 1 } else { 2 }) {
        let mut base = Base::make(&Version::newest(), kills).await;
        let (whole, _) = undisturbed(&base, CODECS[0], &mut tally).await;
        base.take(&whole).await;
        bases.push(base);
    }
    let mut usual = Vec::new();
    for codec in CODECS {
        let (whole, took) = undisturbed(&bases[0], codec, &mut tally).await;
        whole.assert_same(&bases[0].whole, codec).await;
        usual.push((codec, took));
    }
    for number in 1..=rounds {
        let base = &bases[usize::from(number % KILLS_EVERY == 0)];
        let mut folder = place::new_folder(false);
        // Should it fail, it stays.
        folder.disable_cleanup(true);
        one_round(base, (seed, number), &usual, folder.path(), &mut tally).await;
        folder.disable_cleanup(false);
        tally.rounds += 1;
        if number % 20 == 0 {
            println!("{number} rounds of {rounds} are done");
        }
    }
    println!("PostgreSQL {}, seed {seed}: {tally}", Version::newest().major);
    for base in &bases {
        // Nothing of this has changed the database.
        let (again, _) = undisturbed(base, CODECS[0], &mut tally).await;
        again.assert_same(&base.whole, "undisturbed, at the end").await;
        assert_eq!(base.server.stop(), Stop::Clean);
    }
    // Else this is no test.
    assert!(tally.hits() >= rounds / 2, "{tally}");
}

async fn undisturbed(base: &Base, codec: &'static str, tally: &mut Tally) -> (Dumped, Duration) {
    let folder = place::new_folder(false);
    let dir = tempfile::tempdir().expect("a directory");
    let (at, usual) = ("undisturbed".to_owned(), Duration::ZERO);
    let folder = folder.path();
    let mut round = Round { base, at, folder, split: SPLITS[0], codec, usual, runs: 0 };
    let begun = Instant::now();
    let code = round.run(dir.path(), &[], &mut Random(1), tally).await;
    assert_eq!(code, Some(2), "{}", round.text());
    (Dumped::read(dir, round.text()), begun.elapsed())
}

/// What happens first in a round: each has its turn.
fn turn(number: u32) -> Fault {
    Fault::ALL[usize::try_from(number).expect("a small number") % Fault::ALL.len()]
}

/// What happens to one run: some things, some of which exclude each other.
fn choose(
    base: &Base,
    had: &[Fault],
    (first, number): (bool, u32),
    random: &mut Random,
) -> Vec<Fault> {
    let mut chosen: Vec<Fault> = Vec::new();
    for n in 0..=random.below(4) {
        let any = random.below(Fault::ALL.len());
        let fault = if first && n == 0 { turn(number) } else { Fault::ALL[any] };
        let of_disk = matches!(fault, Fault::FullDisk | Fault::LowDisk);
        let excludes = |f: &Fault| *f == fault || f.is_of_whole_run() && fault.is_of_whole_run();
        // A second crash from outside would be taken for the fault of what is
        // read again because of the first: nobody could tell.
        let crash = fault == Fault::KillBackend && had.contains(&fault);
        if fault.is_of_whole_server() && base.kills
            || of_disk && fault != turn(number)
            || of_disk && !first
            || crash
        {
            continue;
        }
        if !chosen.iter().any(excludes) {
            chosen.push(fault);
        }
    }
    chosen
}

async fn one_round(
    base: &Base,
    (seed, number): (u64, u32),
    usual: &[(&'static str, Duration)],
    folder: &Path,
    tally: &mut Tally,
) {
    let mut random = Random(seed.wrapping_mul(1_000_003) ^ u64::from(number));
    let split = SPLITS[random.below(SPLITS.len())];
    let (mut codec, usual) = usual[random.below(usual.len())];
    if turn(number) == Fault::LowDisk {
        // Else it is not much that is written.
        codec = "none";
    }
    let place = folder.display();
    let at = format!("seed {seed}, round {number}, in {place}: --split-size {split} -Z {codec}");
    let mut round = Round { base, at, folder, split, codec, usual, runs: 0 };
    let mut dir = new_dir(folder);
    let mut had = Vec::new();
    for n in 0..=random.below(4) {
        let faults = choose(base, &had, (n == 0, number), &mut random);
        let of_disk = faults.iter().find(|f| matches!(f, Fault::FullDisk | Fault::LowDisk));
        let disk = of_disk.and_then(|&fault| small_disk(fault, &mut random));
        if of_disk.is_some() && disk.is_none() {
            continue;
        }
        let path = disk.as_ref().map_or(dir.path().to_owned(), |d| d.path().join("out"));
        let code = round.run(&path, &faults, &mut random, tally).await;
        if let Some(disk) = disk {
            move_to(&path, dir.path());
            drop(disk);
        }
        had.extend(faults);
        dir = check_so_far(&round, dir, code).await;
        if code == Some(2) && random.below(4) > 0 {
            break;
        }
    }
    check_at_last(&mut round, dir, &mut random, tally).await;
}

/// What the last run gives is what nobody disturbed; one more changes nothing.
async fn check_at_last(
    round: &mut Round<'_>,
    dir: TempDir,
    random: &mut Random,
    tally: &mut Tally,
) {
    let code = round.run(dir.path(), &[], random, tally).await;
    assert_eq!(code, Some(2), "{}\n{}", round.at, round.text());
    let done = Dumped::read(dir, round.text());
    done.assert_same(&round.base.whole, &round.at).await;
    let before = files(done.dir.path());
    let code = round.run(done.dir.path(), &[], random, tally).await;
    assert_eq!(code, Some(2), "{}\n{}", round.at, round.text());
    assert!(files(done.dir.path()) == before, "{}: files have changed", round.at);
    let mut dir = done.dir;
    dir.disable_cleanup(false);
}

fn new_dir(folder: &Path) -> TempDir {
    let mut dir = tempfile::Builder::new().prefix("out").tempdir_in(folder).expect("a directory");
    dir.disable_cleanup(true);
    dir
}

/// What a run that ended has left, where it has left a manifest.
async fn check_so_far(round: &Round<'_>, dir: TempDir, code: Option<i32>) -> TempDir {
    assert!(code != Some(0), "{}: the damage was not seen", round.at);
    let manifest = dir.path().join("manifest.json");
    if !matches!(code, Some(2 | 3)) || !manifest.exists() {
        return dir;
    }
    let dumped = Dumped::read(dir, round.text());
    assert_eq!(code, Some(i32::from(dumped.manifest.exit_code)), "{}", round.at);
    if code == Some(2) {
        dumped.assert_same(&round.base.whole, &round.at).await;
    }
    round.base.assert_true_so_far(&dumped, &round.at).await;
    dumped.dir
}

/// What was written to a disk that is full is gone on with where there is space.
fn move_to(from: &Path, to: &Path) {
    if !from.exists() {
        return;
    }
    let copied = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} is copied", from.display());
}

/// All files with rows, and their bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(dir.join("data")).expect("data").flatten();
    let mut all: Vec<_> =
        entries.map(|e| (e.path(), std::fs::read(e.path()).expect("a file"))).collect();
    all.sort();
    all
}
