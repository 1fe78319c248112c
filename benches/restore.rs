//! `pg_salvage restore -j2` beside `pg_restore -j2`, of the same dump directory
//! (gzip, which every `pg_restore` reads), in turn, into new databases of a
//! healthy server: many tables, and one large one.
//!
//! `cargo bench --bench restore` prints a table; `-- --rows N` sets the rows of the
//! large table (default 5 million), `--runs N` the pairs of runs. Nothing is
//! asserted: a speed is a ratio against the other in the same run.

#![allow(clippy::print_stdout)] // It is what a benchmark is for.

#[path = "../tests/kit/mod.rs"]
mod kit;
#[path = "timing.rs"]
mod timing;

use kit::{Server, ServerOptions, Version, sample, version};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use timing::{median, option};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const TABLES: u32 = 200;
const ROWS_EACH: u64 = 10_000;

/// Wall time of one command, its output thrown away.
fn run(command: &mut Command) -> f64 {
    let begun = Instant::now();
    let status = command.stdout(Stdio::null()).status().expect("the program starts");
    assert!(status.success(), "{command:?}: {status}");
    begun.elapsed().as_secs_f64()
}

/// Restores into a new database, which is dropped again.
async fn into_new(server: &Server, restore: impl FnOnce(&str) -> f64) -> f64 {
    server.create_database("new").await;
    let took = restore("new");
    server.execute("postgres", "DROP DATABASE new").await;
    server.execute("postgres", "CHECKPOINT").await;
    took
}

async fn compare(server: &Server, dbname: &str, what: &str, runs: u64, folder: &Path) {
    let pg_restore = version::client_program("pg_restore", server.version.major);
    let dir = folder.join(dbname);
    run(Command::new(PROGRAM)
        .args(["dump", "-j2", "-Z", "gzip", "-d"])
        .arg(server.conninfo(dbname))
        .arg("-f")
        .arg(&dir));
    let rejects = dir.join("rejects");
    let (mut ours, mut theirs, mut ratios) = (vec![], vec![], vec![]);
    for pair in 0..=runs {
        let a = into_new(server, |new| {
            let mut command = Command::new(PROGRAM);
            run(command.args(["restore", "-j2", "-d"]).arg(server.conninfo(new)).arg(&dir))
        })
        .await;
        std::fs::remove_dir_all(&rejects).expect("its folder");
        let b = into_new(server, |new| {
            run(Command::new(&pg_restore).args(["-j2", "-d"]).arg(server.conninfo(new)).arg(&dir))
        })
        .await;
        // The first pair warms up.
        if pair > 0 {
            ours.push(a);
            theirs.push(b);
            ratios.push(a / b);
        }
    }
    println!("| {what} | {:.2} | {:.2} | {:.2} |", median(ours), median(theirs), median(ratios));
}

fn main() {
    let (rows, runs) = (option("--rows", 5_000_000), option("--runs", 3));
    let version = Version::major(15);
    let options = ServerOptions { on_disk: true, ..ServerOptions::checksums(true) };
    let server = Server::start(&version, options.set("shared_buffers", "256MB"));
    let folder = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    println!("PostgreSQL 15; seconds are medians of {runs} runs, the ratio that of pairs\n");
    println!("| database | pg_salvage restore -j2, s | pg_restore -j2, s | ratio |");
    println!("|---|---|---|---|");
    runtime.block_on(async {
        sample::bulk(&server, "many", TABLES, ROWS_EACH, 1).await;
        sample::bulk(&server, "mixed", 1, rows, 1).await;
        let keys = "ALTER TABLE bulk_0 ADD PRIMARY KEY (id); CREATE INDEX ON bulk_0 (at)";
        server.execute("mixed", keys).await;
        let what = format!("{TABLES} tables of {ROWS_EACH} rows");
        compare(&server, "many", &what, runs, folder.path()).await;
        let what = format!("one table of {rows} rows, 5 columns, 2 indexes");
        compare(&server, "mixed", &what, runs, folder.path()).await;
    });
}
