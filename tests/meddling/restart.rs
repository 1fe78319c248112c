//! The server is stopped and started again while a dump runs.

use crate::binary::{Dump, Ran, begin, dump, truth};
use crate::gate::{self, Gate};
use crate::kit::{Server, ServerOptions, Version};
use pg_salvage::output::manifest::RelationStatus;
use std::collections::BTreeMap;

/// Read in this order: unlogged first, then by size. The gate is in the middle.
const DATABASE: &str = "CREATE UNLOGGED TABLE unlogged (id int, t text);
    INSERT INTO unlogged SELECT i, md5(i::text) FROM generate_series(1, 60000) i;
    CREATE TABLE large (id int, t text);
    INSERT INTO large SELECT i, md5(i::text) FROM generate_series(1, 80000) i;
    CREATE TABLE small (id int, t text);
    INSERT INTO small SELECT i, md5(i::text) FROM generate_series(1, 5000) i;
    CREATE SEQUENCE counter; SELECT nextval('counter');";

/// Committed while the first two are read and the gate is not: what is read
/// before keeps the state of before, what is read later has this.
const MEANWHILE: &str = "DELETE FROM unlogged WHERE id % 2 = 0; DELETE FROM large WHERE id % 3 = 0;
    INSERT INTO small SELECT i, 'later' FROM generate_series(5001, 6000) i;
    CREATE TABLE new_since AS SELECT 1 AS one; CHECKPOINT";

async fn restarted(version: &Version, immediate: bool, options: &[&str]) {
    let server = Server::start(version, ServerOptions::checksums(true));
    server.create_database("shop").await;
    // Logged: an immediate stop empties what is not.
    let gate = gate::CREATE.replace("UNLOGGED ", "");
    server.execute("shop", &format!("{DATABASE} {gate}")).await;
    let before = truth::of(&server, "shop").await;
    let gate = Gate::close(&server, "shop").await;
    let (folder, dir, args) = Dump::words(&server, "postgres", "shop", options);
    let child = begin(args);
    gate.wait_for_one().await;
    server.execute("shop", MEANWHILE).await;
    if immediate {
        server.stop_now();
        server.start_again();
    } else {
        server.restart();
    }
    let ran = tokio::task::spawn_blocking(|| Ran::wait(child)).await.expect("no panic");
    let how = if immediate { "immediate restart" } else { "fast restart" };
    let case = dump::case(&server, &format!("{how}, {}", options.join(" ")));
    let dump = Dump::read(case, ran, dir, Some(folder));
    let after = truth::of(&server, "shop").await;
    let mixed = options.iter().any(|o| o.starts_with("--split-size"));
    assert_two_states(&dump, &before, &after, mixed).await;
    // Somebody stopped it, and said so: that is no crash.
    let down = dump.manifest.warnings.iter().filter(|w| w.contains("the server went down")).count();
    assert_eq!(down, 0, "{}: {:?}", dump.case, dump.manifest.warnings);
}

type Truths = BTreeMap<u32, truth::Truth>;

/// Two snapshots, and each relation exactly as in one of them. With `mixed`, the
/// gate was read in both, and they do not fit together: that is said.
async fn assert_two_states(dump: &Dump, before: &Truths, after: &Truths, mixed: bool) {
    let case = &dump.case;
    assert_eq!(dump.ran.code, if mixed { 3 } else { 0 }, "{case}: {}", dump.ran.stderr);
    assert_eq!(dump.manifest.snapshots.len(), 2, "{case}");
    let failed: &[&str] = if mixed { &["gate"] } else { &[] };
    assert_eq!(dump.with_status(RelationStatus::Failed), failed, "{case}");
    for entry in dump.manifest.relations.iter().filter(|e| !(mixed && e.name == "gate")) {
        let last = entry.snapshots.last();
        let truth = if last == Some(&2) { after } else { before };
        dump.assert_relation(entry, &truth[&entry.oid]).await;
    }
    let snapshots = |name: &str| dump.relation(name).snapshots.clone();
    assert_eq!(snapshots("unlogged"), [1], "{case}");
    assert_eq!(snapshots("large"), [1], "{case}");
    assert_eq!(snapshots("small"), [2], "{case}");
    assert_eq!(snapshots("gate").last(), Some(&2), "{case}");
    assert!(!dump.has("new_since"), "{case}");
    if mixed {
        let reason = dump.relation("gate").reason.clone().unwrap_or_default();
        assert!(reason.starts_with("it was read in several snapshots"), "{case}: {reason}");
        return;
    }
    dump.assert_tidy();
}

#[tokio::test]
async fn a_run_goes_on_after_a_restart() {
    for version in [Version::newest(), Version::major(15)] {
        for immediate in [false, true] {
            let options = ["-j1", "--lock-timeout=0"];
            restarted(&version, immediate, &options).await;
        }
    }
}

/// The gate is read as ranges: those that are done stay. Where others have
/// written meanwhile, the rest does not fit to them, and the gate is no clean
/// relation.
#[tokio::test]
async fn a_run_goes_on_after_a_restart_in_the_middle_of_ranges() {
    for version in [Version::newest(), Version::major(15)] {
        for immediate in [false, true] {
            let options = ["-j1", "--lock-timeout=0", "--split-size=256kB"];
            restarted(&version, immediate, &options).await;
        }
    }
}
