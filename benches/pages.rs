//! `pg_salvage verify --pages -j1`, online, over the connection (`--no-pgdata`) and here,
//! beside `pg_checksums --check` with the server down, on the same files in the
//! cache of the operating system.
//!
//! And the checksum by itself, of pages in memory, beside CRC-32 of the same bytes.
//!
//! `cargo bench --bench pages` prints two tables. `PG_SALVAGE_BENCH_MB` sets the
//! size (default 1000), `-- --runs N` the pairs of runs, `--major N` the
//! PostgreSQL. Nothing is asserted of speed; that both find nothing wrong, is.

#![allow(clippy::print_stdout)] // It is what a benchmark is for.

#[path = "../tests/kit/mod.rs"]
mod kit;
#[path = "timing.rs"]
mod timing;

use kit::{Server, ServerOptions, Stop, Version, sample};
use pg_salvage::page::checksum::checksum;
use std::process::{Command, Stdio};
use std::time::Instant;
use timing::{median, option};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "bench";
/// Rows of the table in a megabyte.
const ROWS_PER_MB: u64 = 8_600;
/// Of pages in memory so many bytes are summed up.
const IN_MEMORY_BYTES: usize = 4 << 30;

/// Seconds that a command took, which finds nothing wrong.
fn timed(command: &mut Command) -> f64 {
    let begun = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it starts");
    assert!(status.success(), "{command:?}");
    begun.elapsed().as_secs_f64()
}

/// Gigabytes of pages a second, in pieces of so many bytes, each seen time and again.
fn speed(bytes: &[u8], each: impl Fn(&[u8]) -> u32) -> f64 {
    let rounds = IN_MEMORY_BYTES / bytes.len();
    let begun = Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(each(std::hint::black_box(bytes)));
    }
    (rounds * bytes.len()) as f64 / 1e9 / begun.elapsed().as_secs_f64()
}

/// The checksum, beside a sum that is known to be fast.
fn by_itself() {
    println!("| pages | checksum, GB/s | CRC-32, GB/s | ratio |");
    println!("|---|---|---|---|");
    for (name, size) in [("in the cache, 32 kB", 32 << 10), ("in memory, 256 MB", 256 << 20)] {
        let bytes: Vec<u8> =
            (0_u32..size / 4).flat_map(|n| n.wrapping_mul(2_654_435_769).to_le_bytes()).collect();
        let ours = speed(&bytes, |bytes| {
            bytes.chunks_exact(8192).map(|page| u32::from(checksum(page, 7))).sum()
        });
        let crc = speed(&bytes, crc32fast::hash);
        println!("| {name} | {ours:.1} | {crc:.1} | {:.2} |", ours / crc);
    }
    println!();
}

fn main() {
    by_itself();
    let version = Version::major(u32::try_from(option("--major", 15)).expect("a major version"));
    let megabytes = std::env::var("PG_SALVAGE_BENCH_MB").ok().and_then(|v| v.parse().ok());
    let megabytes: u64 = megabytes.unwrap_or(1000);
    let options = ServerOptions { on_disk: true, ..ServerOptions::checksums(true) };
    let server = Server::start(&version, options);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        sample::bulk(&server, DB, 1, megabytes * ROWS_PER_MB, 1).await;
        server.execute(DB, "ALTER TABLE bulk_0 ADD PRIMARY KEY (id)").await;
        server.execute(DB, "VACUUM ANALYZE bulk_0; ").await;
        server.execute(DB, "CHECKPOINT").await;
    });
    println!("| pair | over the connection, s | here, s | pg_checksums, s | speed here |");
    println!("|---|---|---|---|---|");
    let mut ratios = Vec::new();
    // The first pair warms up and does not count.
    for pair in 0..=option("--runs", 3) {
        let ours = |options: &[&str]| {
            let mut command = Command::new(PROGRAM);
            command.args(["verify", "--pages", "-j1", "-d"]).arg(server.conninfo(DB));
            command.args(options);
            timed(&mut command)
        };
        let (sent, local) = (ours(&["--no-pgdata"]), ours(&[]));
        assert_eq!(server.stop(), Stop::Clean);
        let checksums = version.program("pg_checksums");
        let theirs = timed(as_owner(&server, &checksums).arg("--check").arg(server.data_dir()));
        server.start_again();
        if pair > 0 {
            ratios.push(theirs / local);
            println!("| {pair} | {sent:.2} | {local:.2} | {theirs:.2} | {:.2} |", theirs / local);
        }
    }
    println!("\nmedian: {:.2} of the speed of pg_checksums", median(ratios));
}

/// A program that wants to be run by the owner of the data directory.
fn as_owner(server: &Server, program: &std::path::Path) -> Command {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(server.data_dir()).expect("a directory").uid();
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={owner}")).arg("--clear-groups").arg(program);
    command
}
