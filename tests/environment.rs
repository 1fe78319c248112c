//! Trouble around the reading, on healthy data: too few connections, a
//! standby. None of it is damage, and none of it loses a row that could be
//! had.

#[path = "kit/mod.rs"]
mod kit;

use kit::dumped::{dump, dump_with};
use kit::{Server, ServerOptions, Stop, Version, oracle, sample};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

fn two() -> Vec<Version> {
    let mut versions = Version::between(14, 18);
    let newest = versions.first().expect("run tests/kit/fetch-servers first").major;
    versions.retain(|v| v.major == newest || v.major == 15);
    versions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_two_connections_reads_everything_with_less_workers() {
    for version in two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let names = ["a", "b", "c", "d", "e", "f"];
        sample::victims(&server, DB, &names).await;
        let sql = "CREATE ROLE narrow LOGIN CONNECTION LIMIT 2; GRANT pg_read_all_data TO narrow";
        server.execute(DB, sql).await;
        let options = ["-j4", "-U", "narrow"];
        let dir = tempfile::tempdir().unwrap();
        let out = Command::new(PROGRAM)
            .args(["dump", "--no-sync", "-h"])
            .arg(server.socket_dir())
            .args(["-p", &server.port().to_string(), DB, "-f"])
            .arg(dir.path())
            .args(options)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{}: {said}", version.major);
        let manifest = std::fs::read_to_string(dir.path().join("manifest.json")).unwrap();
        assert!(manifest.contains("\"clean\": 9000"), "all rows of all: {manifest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_read_like_a_primary_but_for_unlogged_tables() {
    for version in two() {
        let options = ServerOptions {
            wal_level: Some("replica".to_owned()),
            ..ServerOptions::checksums(true)
        };
        // The sample has a tablespace without a link of its own.
        let options = options.set("allow_in_place_tablespaces", "on");
        let primary = Server::start(&version, options);
        sample::create(&primary, "sample", 1).await;
        let truth = oracle::database(&primary, "sample").await;
        assert_eq!(primary.stop(), Stop::Clean);
        let standby = primary.copy_as_standby();
        primary.start_again();
        standby.start_again();
        standby.wait_ready();
        let dumped = dump(PROGRAM, &standby, "sample", &["-j2"]);
        assert!(dumped.manifest.server.in_recovery, "{}", dumped.said);
        assert_eq!(dumped.manifest.exit_code, 0, "{}", dumped.said);
        for (relation, rows) in truth {
            let entry = dumped.relation_of(&relation.schema, &relation.name);
            let at = format!("{}.{} on {}", relation.schema, relation.name, version.major);
            if format!("{:?}", entry.persistence) == "Unlogged" {
                assert_eq!(entry.status, RelationStatus::Skipped, "{at}: {entry:#?}");
                assert!(entry.reason.is_some(), "{at}");
                continue;
            }
            assert_eq!(entry.status, RelationStatus::Clean, "{at}: {entry:#?}");
            let lines = dumped.lines(entry, RowClass::Clean).await;
            assert!(lines.iter().eq(rows.iter().map(|r| &r.line)), "{at}");
        }
    }
}

/// Cleaning up on the primary ends the sessions on the standby that could still
/// see what is cleaned up: "conflict with recovery", with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_with_recovery_is_no_crash_and_no_damage() {
    let options =
        ServerOptions { wal_level: Some("replica".to_owned()), ..ServerOptions::checksums(true) };
    let options = options.set("max_standby_streaming_delay", "0");
    let primary = Server::start(&Version::newest(), options);
    let sql = "CREATE TABLE slow AS SELECT i, md5(i::text) m FROM generate_series(1, 600000) i";
    primary.execute(DB, sql).await;
    assert_eq!(primary.stop(), Stop::Clean);
    let standby = primary.copy_as_standby();
    primary.start_again();
    standby.start_again();
    standby.wait_ready();
    let runtime = tokio::runtime::Handle::current();
    let options = ["-j1", "--max-crashes", "0"];
    let dumped = dump_with(PROGRAM, &standby, DB, &options, || {
        tokio::task::block_in_place(|| {
            runtime.block_on(async {
                primary.execute(DB, "DELETE FROM slow WHERE i % 7 = 0").await;
                primary.execute(DB, "VACUUM slow").await;
            });
        });
    });
    let entry = dumped.relation("slow");
    assert!(dumped.manifest.snapshots.len() > 1, "there was no conflict: {entry:#?}");
    assert_eq!(entry.lost, [], "{:?}", dumped.manifest.warnings);
    assert_eq!((entry.status, dumped.manifest.exit_code), (RelationStatus::Clean, 0), "{entry:#?}");
    assert_eq!(entry.rows.clean, 600_000 - 600_000 / 7);
    let down = dumped.manifest.warnings.iter().any(|w| w.contains("went down"));
    assert!(!down, "{:?}", dumped.manifest.warnings);
}
