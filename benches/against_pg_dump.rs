//! `pg_salvage dump -j2` beside `pg_dump -Fd -j2`, with the same codec and level,
//! in turn, on a healthy server: many tables, one large table of mixed columns,
//! one of two integers, and the memory that is needed for each.
//!
//! `cargo bench` prints a table; `-- --rows N` sets the rows of the large table
//! of two integers (default 56 million, some 2 GB; the mixed one has an eighth),
//! `--narrow 0` leaves that out, `--runs N` sets the pairs of runs. Nothing is
//! asserted: a speed is a ratio against the other in the same run.

#![allow(clippy::print_stdout)] // It is what a benchmark is for.

#[path = "../tests/kit/mod.rs"]
mod kit;
#[path = "timing.rs"]
mod timing;

use kit::{Server, ServerOptions, Version, sample, version};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use timing::{median, option};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const TABLES: u32 = 200;
const ROWS_EACH: u64 = 15_000;

/// Wall time and peak memory (kB) of one command, its output thrown away.
fn run(command: &mut Command) -> (Duration, u64) {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().expect("the program starts");
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(status.success(), "{command:?}: {status}");
            return (begun.elapsed(), peak);
        }
        peak = peak.max(peak_kb(&child));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `VmHWM` of the process.
fn peak_kb(child: &Child) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

struct Bench<'a> {
    server: &'a Server,
    pg_dump: &'a Path,
    folder: &'a Path,
    runs: u64,
}

impl Bench<'_> {
    fn ours(&self, dbname: &str, codec: &str) -> (Duration, u64) {
        let dir = self.folder.join("ours");
        let result = run(Command::new(PROGRAM)
            .args(["dump", "-j2", "-Z", codec, "-d"])
            .arg(self.server.conninfo(dbname))
            .arg("-f")
            .arg(&dir));
        std::fs::remove_dir_all(&dir).expect("our own directory");
        result
    }

    fn theirs(&self, dbname: &str, level: &str) -> Duration {
        let dir = self.folder.join("theirs");
        let (wall, _) = run(Command::new(self.pg_dump)
            .args(["-Fd", "-j2", "-Z", level, "-d"])
            .arg(self.server.conninfo(dbname))
            .arg("-f")
            .arg(&dir));
        std::fs::remove_dir_all(&dir).expect("its directory");
        wall
    }

    /// The two in turn; the first pair warms up and does not count.
    fn compare(&self, dbname: &str, what: &str, codec: &str, level: &str) {
        let (mut ours, mut theirs, mut ratios, mut peak) = (vec![], vec![], vec![], 0);
        for pair in 0..=self.runs {
            let (a, kb) = self.ours(dbname, codec);
            let b = self.theirs(dbname, level);
            peak = peak.max(kb);
            if pair > 0 {
                ours.push(a.as_secs_f64());
                theirs.push(b.as_secs_f64());
                ratios.push(a.as_secs_f64() / b.as_secs_f64());
            }
        }
        println!(
            "| {what} | {codec} | {:.2} | {:.2} | {:.2} | {} |",
            median(ours),
            median(theirs),
            median(ratios),
            peak / 1024
        );
    }
}

fn main() {
    let (rows, runs) = (option("--rows", 56_000_000), option("--runs", 3));
    let version = Version::major(15);
    let options = ServerOptions { on_disk: true, ..ServerOptions::checksums(true) };
    let server = Server::start(&version, options.set("shared_buffers", "256MB"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        sample::bulk(&server, "many", TABLES, ROWS_EACH, 1).await;
        sample::bulk(&server, "mixed", 1, rows / 8, 1).await;
        if rows > 0 && option("--narrow", 1) == 1 {
            sample::bulk(&server, "large", 0, 0, rows).await;
        }
    });
    let pg_dump = version::client_program("pg_dump", version.major);
    let folder = tempfile::tempdir().expect("a temporary directory");
    println!(
        "PostgreSQL {}; seconds are medians of {runs} runs, the ratio is the median of pairs\n",
        version.major
    );
    println!(
        "| database | codec | pg_salvage -j2, s | pg_dump -Fd -j2, s | ratio | peak memory, MB |"
    );
    println!("|---|---|---|---|---|---|");
    let bench = Bench { server: &server, pg_dump: &pg_dump, folder: folder.path(), runs };
    for (codec, level) in [("gzip:6", "6"), ("none", "0")] {
        bench.compare("many", &format!("{TABLES} tables of {ROWS_EACH} rows"), codec, level);
        bench.compare("mixed", &format!("one table of {} rows, 5 columns", rows / 8), codec, level);
        if option("--narrow", 1) == 1 {
            bench.compare("large", &format!("one table of {rows} rows, 2 integers"), codec, level);
        }
    }
}
