//! All levels, over and over, while others write: `pgbench`, updates that bloat
//! indexes, VACUUM, REINDEX, rewrites, and DDL.
//!
//! `PG_SALVAGE_LOAD_MINUTES` says for how long: without it some seconds.

use super::{list, text, verify};
use crate::kit::version::client_program;
use crate::kit::{Server, ServerOptions, Version};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const DB: &str = super::DB;

/// Where no minutes are given.
const SECONDS: u64 = 10;

/// What is done in turn; `{n}` is the number of the round.
const CHURN: [&str; 11] = [
    "CREATE TABLE churn_{n} AS SELECT i, repeat(md5(i::text), 70) AS t FROM generate_series(1, 500) i",
    "CREATE INDEX ON churn_{n} (i)",
    "UPDATE pgbench_accounts SET abalance = abalance + 1, filler = 'x' || {n} WHERE aid % 23 = {n} % 23",
    "VACUUM pgbench_accounts",
    "REINDEX INDEX CONCURRENTLY pgbench_accounts_pkey",
    "ALTER TABLE pgbench_tellers ADD COLUMN c{n} text DEFAULT random()::text",
    "ALTER TABLE pgbench_tellers DROP COLUMN c{n}",
    "VACUUM FULL pgbench_branches",
    "TRUNCATE pgbench_history",
    "DROP TABLE churn_{n}",
    "CHECKPOINT",
];

fn pgbench(server: &Server, words: &[&str]) -> Command {
    let mut command = Command::new(client_program("pgbench", 15));
    command.args(words).arg(server.conninfo(DB)).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_is_not_called_damaged_at_any_level_while_others_write() {
    let minutes = std::env::var("PG_SALVAGE_LOAD_MINUTES").ok().and_then(|m| m.parse::<u64>().ok());
    let time = Duration::from_secs(minutes.map_or(SECONDS, |minutes| minutes * 60));
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    server.create_database(DB).await;
    let scale = if minutes.is_some() { "10" } else { "1" };
    assert!(pgbench(&server, &["-i", "-q", "-s", scale]).status().expect("pgbench").success());
    server.execute(DB, "CREATE EXTENSION amcheck").await;
    // As long as --lock-timeout.
    for setting in ["log_lock_waits = on", "deadlock_timeout = '10s'"] {
        server.execute(DB, &format!("ALTER DATABASE {DB} SET {setting}")).await;
    }
    let seconds = time.as_secs().to_string();
    let mut bench = pgbench(&server, &["-n", "-c2", "-R150", "-T", &seconds]).spawn().expect("it");
    let stop = AtomicBool::new(false);
    let (mut rounds, mut churned) = (0, 0);
    std::thread::scope(|scope| {
        let churning = scope.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                let client = server.connect(DB).await;
                let mut round = 0;
                while !stop.load(Relaxed) {
                    round += 1;
                    for sql in CHURN {
                        let sql = sql.replace("{n}", &round.to_string());
                        client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                round
            })
        });
        let begun = Instant::now();
        let mut wrong = None;
        while begun.elapsed() < time && wrong.is_none() && !churning.is_finished() {
            rounds += 1;
            let deep: &[&str] = if rounds % 2 == 0 { &["--heapallindexed"] } else { &[] };
            let report = verify(&server, &[&["--amcheck"], deep].concat());
            let is_wrong = |r: &&serde_json::Value| {
                !matches!(text(&r["status"]).as_str(), "clean" | "skipped")
            };
            let bad: Vec<_> = list(&report["relations"]).iter().filter(is_wrong).collect();
            if report["exit_code"] != 0 {
                wrong = Some(format!("{bad:#?} {:#} {:#}", report["databases"], report["notes"]));
            }
        }
        stop.store(true, Relaxed);
        churned = churning.join().expect("no statement fails");
        assert_eq!(wrong, None, "round {rounds}");
    });
    let _ = bench.kill();
    let _ = bench.wait();
    println!("{rounds} rounds of verify, {churned} of churn");
    assert!(rounds > 1 && churned > 1, "{rounds} rounds of verify, {churned} of churn");
    // Who waits for a lock for longer than we would is in the log.
    let log = server.log();
    let waits: Vec<&str> = log.lines().filter(|line| line.contains("still waiting for")).collect();
    assert!(waits.is_empty(), "{waits:#?}");
}
