//! What a nightly check costs: `pg_salvage verify` of rows with `-j2`, beside
//! `pg_dump` of the same database, and what it leaves of the throughput of
//! `pgbench`, with and without `--max-rate`.
//!
//! `cargo bench --bench verify` prints two tables. `PG_SALVAGE_BENCH_MB` sets the
//! size (default 1000), `-- --runs N` how often all are timed in turn. Nothing is
//! asserted of speed; that all find nothing wrong, is.

#![allow(clippy::print_stdout)] // It is what a benchmark is for.

#[path = "../tests/kit/mod.rs"]
mod kit;
#[path = "timing.rs"]
mod timing;

use kit::version::client_program;
use kit::{Server, ServerOptions, Version, sample};
use std::process::{Command, Stdio};
use std::time::Instant;
use timing::{median, option};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "bench";
/// Rows of the table in a megabyte.
const ROWS_PER_MB: u64 = 8_600;
/// So many tables the rows are in: two workers have something each.
const TABLES: u32 = 4;
/// So long `pgbench` runs each time, in seconds.
const PGBENCH_SECONDS: &str = "15";

/// Seconds that a command took, which finds nothing wrong.
fn timed(command: &mut Command) -> f64 {
    let begun = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it starts");
    assert!(status.success(), "{command:?}");
    begun.elapsed().as_secs_f64()
}

fn verify(server: &Server, options: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["verify", "-d"]).arg(server.conninfo(DB)).args(options);
    command
}

fn client(server: &Server, name: &str, options: &[&str]) -> Command {
    let mut command = Command::new(client_program(name, 15));
    command.args(options).arg(server.conninfo(DB));
    command
}

fn main() {
    let megabytes = std::env::var("PG_SALVAGE_BENCH_MB").ok().and_then(|v| v.parse().ok());
    let megabytes: u64 = megabytes.unwrap_or(1000);
    let options = ServerOptions { on_disk: true, ..ServerOptions::checksums(true) };
    let server = Server::start(&Version::major(15), options);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        sample::bulk(&server, DB, TABLES, megabytes / u64::from(TABLES) * ROWS_PER_MB, 1).await;
        for table in 0..TABLES {
            server.execute(DB, &format!("ALTER TABLE bulk_{table} ADD PRIMARY KEY (id)")).await;
        }
        server.execute(DB, "CREATE EXTENSION amcheck").await;
        server.execute(DB, "VACUUM ANALYZE").await;
        server.execute(DB, "CHECKPOINT").await;
    });
    beside_others(&server);
    under_load(&server);
}

/// A command, by name, and how it is made.
type Timed<'a> = (&'a str, Box<dyn Fn() -> Command + 'a>);

fn beside_others(server: &Server) {
    let all: [Timed<'_>; 5] = [
        ("verify --no-pages -j2", Box::new(|| verify(server, &["--no-pages", "-j2"]))),
        ("verify --no-pages -j1", Box::new(|| verify(server, &["--no-pages", "-j1"]))),
        ("verify --pages -j2", Box::new(|| verify(server, &["--pages", "-j2"]))),
        ("verify --amcheck -j2", Box::new(|| verify(server, &["--amcheck", "--no-pages", "-j2"]))),
        (
            "pg_dump -f /dev/null",
            Box::new(|| client(server, "pg_dump", &["-f", "/dev/null", "-d"])),
        ),
    ];
    let mut times: Vec<Vec<f64>> = all.iter().map(|_| Vec::new()).collect();
    // The first round warms up and does not count.
    for round in 0..=option("--runs", 3) {
        for ((_, command), times) in all.iter().zip(&mut times) {
            let took = timed(&mut command());
            if round > 0 {
                times.push(took);
            }
        }
    }
    let medians: Vec<f64> = times.into_iter().map(median).collect();
    let pg_dump = medians[medians.len() - 1];
    println!("| command | s | of pg_dump |\n|---|---|---|");
    for ((name, _), took) in all.iter().zip(&medians) {
        println!("| `{name}` | {took:.2} | {:.2} |", took / pg_dump);
    }
}

/// Transactions per second of `pgbench`, while a check runs over and over.
fn under_load(server: &Server) {
    assert!(client(server, "pgbench", &["-i", "-q", "-s", "10"]).status().expect("it").success());
    println!("\n| meanwhile | transactions per second | of those alone |\n|---|---|---|");
    let mut alone = None;
    let whats: [(&str, Option<&[&str]>); 4] = [
        ("nothing", None),
        ("verify --rows -j1", Some(&["--rows", "-j1"])),
        ("verify --rows -j1 --max-rate 20MB", Some(&["--rows", "-j1", "--max-rate", "20MB"])),
        ("pg_dump -f /dev/null", Some(&[])),
    ];
    for (name, meanwhile) in whats {
        let bench = client(server, "pgbench", &["-n", "-c2", "-T", PGBENCH_SECONDS])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbench starts");
        let mut other = meanwhile.map(|options| over_and_over(server, options));
        let out = bench.wait_with_output().expect("it ends");
        if let Some(other) = &mut other {
            other.wait().expect("it ends");
        }
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        let tps = out.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
        let tps: f64 = tps.and_then(|tps| tps.parse().ok()).expect("a number");
        let alone = *alone.get_or_insert(tps);
        println!("| {name} | {tps:.0} | {:.2} |", tps / alone);
    }
}

/// A shell that gives a command again and again.
fn over_and_over(server: &Server, options: &[&str]) -> std::process::Child {
    let command = match options {
        [] => client(server, "pg_dump", &["-f", "/dev/null", "-d"]),
        options => verify(server, options),
    };
    // It ends all that it began.
    let mut shell = Command::new("timeout");
    shell.args([PGBENCH_SECONDS, "bash", "-c", "while :; do \"$@\"; done", "bash"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("bash starts")
}
