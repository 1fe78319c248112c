//! Tables that take the server down when they are read, among others that do
//! not: how often the server goes down, and what is had all the same.

// What clippy.toml allows in tests it does not see in their helpers.
#![allow(clippy::unwrap_used)]

mod blame;
mod ten;

use crate::kit::dumped::{Dumped, dump, dump_with, go_on};
use crate::kit::version::is_wide;
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version};
use crate::kit::{harm, oracle, sample};
use pg_salvage::output::manifest::{RelationStatus, RowClass};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";
/// What takes the server down is found by reading it.
const NEVER: &str = "--check-pages=never";

fn stopped(server: &Server) {
    assert_eq!(server.stop(), Stop::Clean);
}

/// A table that takes the server down, among others.
async fn with_killers(
    version: &Version,
    killers: &[&str],
    well: &[&str],
) -> (Server, Vec<oracle::Row>) {
    let server = Server::start(version, ServerOptions::checksums(false));
    sample::victims(&server, DB, &[killers, well].concat()).await;
    let client = oracle::session(&server, DB).await;
    let columns = oracle::columns(&client, &oracle_name(well[0])).await;
    let rows = oracle::rows(&client, &oracle_name(well[0]), &columns).await;
    let mut places = Vec::new();
    for name in killers {
        places.push(Places::of(&client, &oracle_name(name)).await);
    }
    drop(client);
    stopped(&server);
    for places in &places {
        harm(
            &server,
            places,
            Harm::VarlenaLength,
            Place::middle(places.blocks),
            ChecksumAfter::Stale,
        );
    }
    server.start_again();
    (server, rows)
}

fn oracle_name(name: &str) -> String {
    format!("public.{}", oracle::quote(name))
}

async fn check_well(dumped: &Dumped, well: &[&str], rows: &[oracle::Row], at: &str) {
    for name in well {
        let entry = dumped.relation(name);
        let lines = dumped.lines(entry, RowClass::Clean).await;
        assert!(
            lines.iter().map(Vec::as_slice).eq(rows.iter().map(|r| r.line.as_slice())),
            "{at}: {name}"
        );
        assert_eq!(entry.status, RelationStatus::Clean, "{at}: {name}");
    }
}

/// What was read of a block before no other try was allowed is had, and a later
/// run reads the block again.
#[tokio::test(flavor = "multi_thread")]
async fn rows_before_the_tuple_at_which_the_last_crash_happened_are_had() {
    for version in Version::one_or_two() {
        let (server, _) = with_killers(&version, &["killer1"], &["well1"]).await;
        let dumped = dump(PROGRAM, &server, DB, &["-j1", "--max-crashes", "3", NEVER]);
        server.wait_ready();
        let client = oracle::session(&server, DB).await;
        let (name, columns) = (oracle_name("killer1"), ["id".to_owned()]);
        let guilty = Place::middle(Places::of(&client, &name).await.blocks);
        let rows = oracle::rows(&client, &name, &columns).await;
        drop(client);
        let ids = |mut lines: Vec<Vec<u8>>| {
            lines.iter_mut().for_each(|l| l.truncate(l.iter().position(|&b| b == b'\t').unwrap()));
            lines
        };
        let entry = dumped.relation("killer1");
        let at = format!("{}: {entry:#?}", version.major);
        let suspect = ids(dumped.lines(entry, RowClass::Suspect).await);
        let before = rows.iter().filter(|r| r.block == guilty.block && r.offset < guilty.offset);
        let before: Vec<_> = before.map(|r| r.line.clone()).collect();
        assert!(!before.is_empty() && suspect.starts_with(&before), "{at}");
        assert_eq!(dumped.manifest.exit_code, 3, "{at}");
        let whole = go_on(PROGRAM, &server, DB, dumped, &["-j1", "--max-crashes", "20", NEVER]);
        let entry = whole.relation("killer1");
        let mut read = ids(whole.lines(entry, RowClass::Clean).await);
        read.extend(ids(whole.lines(entry, RowClass::Suspect).await));
        read.sort_unstable();
        let is_guilty = |r: &&oracle::Row| (r.block, r.offset) == (guilty.block, guilty.offset);
        let mut others: Vec<_> =
            rows.iter().filter(|r| !is_guilty(r)).map(|r| r.line.clone()).collect();
        others.sort_unstable();
        assert!(read == others, "{}: each once: {} of {}", version.major, read.len(), others.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_down_no_more_often_than_allowed() {
    let well = ["well1", "well2", "well3"];
    for version in Version::one_or_two() {
        let (server, rows) = with_killers(&version, &["killer1", "killer2"], &well).await;
        let mut before = server.crashes();
        for (limit, may) in [("0", 1), ("1", 2), ("3", 3), ("20", 20)] {
            let at = format!("--max-crashes {limit} on {}", version.major);
            let dumped = dump(PROGRAM, &server, DB, &["-j2", "--max-crashes", limit, NEVER]);
            server.wait_ready();
            let crashes = server.crashes() - before;
            before += crashes;
            assert!(crashes >= 1 && crashes <= may, "{at}: {crashes} crashes: {}", dumped.said);
            if may >= 3 {
                check_well(&dumped, &well, &rows, &at).await;
            }
            for name in well {
                let entry = dumped.relation(name);
                let lines = dumped.lines(entry, RowClass::Clean).await;
                let begin = rows.iter().map(|r| r.line.as_slice()).take(lines.len());
                assert!(lines.iter().map(Vec::as_slice).eq(begin), "{at}: {name}");
                assert_eq!(
                    entry.status == RelationStatus::Clean,
                    lines.len() == rows.len(),
                    "{at}: {name}"
                );
            }
            let read =
                |name: &str| dumped.relation(name).rows.clean + dumped.relation(name).rows.suspect;
            if limit == "20" {
                assert_eq!(dumped.manifest.exit_code, 2, "{at}");
                assert_eq!((read("killer1"), read("killer2")), (1499, 1499), "{at}");
                let lost = |name| {
                    dumped.relation(name).lost.iter().map(|l| l.cause.clone()).collect::<Vec<_>>()
                };
                assert_eq!(
                    (lost("killer1"), lost("killer2")),
                    (vec!["server_crash".to_owned()], vec!["server_crash".to_owned()])
                );
            } else {
                assert_eq!(dumped.manifest.exit_code, 3, "{at}: {}", dumped.said);
                let not_tried = dumped
                    .manifest
                    .relations
                    .iter()
                    .any(|r| r.lost.iter().any(|l| l.cause == "not_tried"));
                assert!(not_tried, "{at}");
            }
        }
    }
}

/// A table that takes some seconds to be read, and the server that has it.
async fn with_a_slow_table(kind: &str) -> (Server, Vec<Vec<u8>>) {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    let sql = format!(
        "CREATE {kind} TABLE slow AS SELECT i, md5(i::text) m FROM generate_series(1, 600000) i; CHECKPOINT"
    );
    for statement in sql.split("; ") {
        server.execute(DB, statement).await;
    }
    let client = oracle::session(&server, DB).await;
    let columns = ["i".to_owned(), "m".to_owned()];
    let rows = oracle::rows(&client, "public.slow", &columns).await;
    (server, rows.into_iter().map(|r| r.line).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_writes_ranges_of_two_snapshots_fit_together() {
    let (server, rows) = with_a_slow_table("").await;
    let dumped = dump_with(PROGRAM, &server, DB, &["-j2", "--split-size", "1MB"], || {
        server.stop_now();
        server.start_again();
    });
    let entry = dumped.relation("slow");
    assert_eq!(entry.snapshots, [1, 2], "{:?}", dumped.manifest.warnings);
    assert_eq!(dumped.manifest.exit_code, 0, "{entry:#?}");
    assert!(dumped.lines(entry, RowClass::Clean).await == rows);
    assert_eq!(dumped.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_written_to_between_two_snapshots_is_read_again_from_its_beginning() {
    let (server, _) = with_a_slow_table("").await;
    let runtime = tokio::runtime::Handle::current();
    // Rows that were read already move behind those that were not.
    let moved = "UPDATE slow SET m = m || 'x' WHERE i < 20000";
    let all = [
        &["-j3", "--split-size", "1MB"][..],
        &["-j2"],
        &["-j1", "--split-size", "1MB"],
        &["-j3", "--split-size", "8MB", "--max-crashes", "0"],
    ];
    for options in &all[..if is_wide() { all.len() } else { 2 }] {
        let dumped = dump_with(PROGRAM, &server, DB, options, || {
            tokio::task::block_in_place(|| runtime.block_on(server.execute(DB, moved)));
            server.restart();
        });
        let entry = dumped.relation("slow");
        assert_eq!(
            (entry.status, &entry.snapshots[..], dumped.manifest.exit_code),
            (RelationStatus::Clean, &[2][..], 0),
            "{options:?} {entry:#?}"
        );
        assert!(dumped.leftovers().is_empty(), "{options:?} {:?}", dumped.leftovers());
        let lines = dumped.lines(entry, RowClass::Clean).await;
        let client = oracle::session(&server, DB).await;
        let columns = oracle::columns(&client, "public.slow").await;
        let rows = oracle::rows(&client, "public.slow", &columns).await;
        assert!(
            lines.iter().map(Vec::as_slice).eq(rows.iter().map(|r| r.line.as_slice())),
            "{options:?}: {} rows of {}",
            lines.len(),
            rows.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlogged_table_that_a_crash_empties_is_named_and_what_came_is_kept() {
    for options in [&["-j1"][..], &["-j2", "--split-size", "1MB"]] {
        let (server, rows) = with_a_slow_table("UNLOGGED").await;
        let dumped = dump_with(PROGRAM, &server, DB, options, || {
            server.stop_now();
            server.start_again();
        });
        let entry = dumped.relation("slow");
        assert_eq!(dumped.manifest.exit_code & 2, 2, "{options:?} {entry:#?}");
        assert!(entry.lost.iter().any(|l| l.cause == "emptied_by_crash"), "{options:?} {entry:#?}");
        let lines = dumped.lines(entry, RowClass::Clean).await;
        assert!(!lines.is_empty() && lines.len() < rows.len(), "{options:?}: {}", lines.len());
        let all: std::collections::BTreeSet<&Vec<u8>> = rows.iter().collect();
        assert!(lines.iter().all(|l| all.contains(l)), "{options:?}");
        assert_eq!(lines.iter().collect::<std::collections::BTreeSet<_>>().len(), lines.len());
    }
}
