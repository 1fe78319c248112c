//! Tables that take the server down when they are read, among others that do
//! not: how often the server goes down, and what is had all the same.

#[path = "kit/mod.rs"]
mod kit;

use kit::dumped::{Dumped, dump};
use kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version};
use kit::{harm, oracle, sample};
use pg_salvage::output::manifest::{RelationStatus, RowClass};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

/// The newest server and Debian's.
fn two() -> Vec<Version> {
    let mut versions = Version::between(14, 18);
    let newest = versions.first().expect("run tests/kit/fetch-servers first").major;
    versions.retain(|v| v.major == newest || v.major == 15);
    versions
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_down_no_more_often_than_allowed() {
    let well = ["well1", "well2", "well3"];
    for version in two() {
        let (server, rows) = with_killers(&version, &["killer1", "killer2"], &well).await;
        let mut before = server.crashes();
        for (limit, may) in [("0", 1), ("1", 2), ("3", 3), ("20", 20)] {
            let at = format!("--max-crashes {limit} on {}", version.major);
            let dumped = dump(PROGRAM, &server, DB, &["-j2", "--max-crashes", limit]);
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
