//! `pg_salvage verify --pages -j1`, online, over the connection and with `--pgdata`,
//! beside `pg_checksums --check` with the server down, on the same files in the
//! cache of the operating system.
//!
//! `cargo bench --bench pages` prints a table. `PG_SALVAGE_BENCH_MB` sets the
//! size (default 1000), `-- --runs N` the pairs of runs, `--major N` the
//! PostgreSQL. Nothing is asserted of speed; that both find nothing wrong, is.

#![allow(clippy::print_stdout)] // It is what a benchmark is for.

#[path = "../tests/kit/mod.rs"]
mod kit;
#[path = "timing.rs"]
mod timing;

use kit::{Server, ServerOptions, Stop, Version, sample};
use std::process::{Command, Stdio};
use std::time::Instant;
use timing::{median, option};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "bench";
/// Rows of the table in a megabyte.
const ROWS_PER_MB: u64 = 8_600;

/// Seconds that a command took, which finds nothing wrong.
fn timed(command: &mut Command) -> f64 {
    let begun = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it starts");
    assert!(status.success(), "{command:?}");
    begun.elapsed().as_secs_f64()
}

fn main() {
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
    println!(
        "| pair | over the connection, s | --pgdata, s | pg_checksums, s | speed of --pgdata |"
    );
    println!("|---|---|---|---|---|");
    let mut ratios = Vec::new();
    // The first pair warms up and does not count.
    for pair in 0..=option("--runs", 3) {
        let ours = |pgdata: Option<std::path::PathBuf>| {
            let mut command = Command::new(PROGRAM);
            command.args(["verify", "--pages", "-j1", "-d"]).arg(server.conninfo(DB));
            command.args(pgdata.map(|dir| format!("--pgdata={}", dir.display())));
            timed(&mut command)
        };
        let (sent, local) = (ours(None), ours(Some(server.data_dir())));
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
