//! The server is stopped and started again while a dump runs.

use crate::binary::{Dump, Ran, begin, dump, truth};
use crate::kit::{Server, ServerOptions, Version};
use crate::meddling::gate::{self, Gate};
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
    assert_two_states(&dump, &before, &after).await;
    // Somebody stopped it, and said so: that is no crash.
    let down = dump.manifest.warnings.iter().filter(|w| w.contains("the server went down")).count();
    assert_eq!(down, 0, "{}: {:?}", dump.case, dump.manifest.warnings);
}

type Truths = BTreeMap<u32, truth::Truth>;

/// Two snapshots, and each relation exactly as in one of them.
async fn assert_two_states(dump: &Dump, before: &Truths, after: &Truths) {
    let case = &dump.case;
    assert_eq!(dump.ran.code, 0, "{case}: {}", dump.ran.stderr);
    assert_eq!(dump.manifest.snapshots.len(), 2, "{case}");
    for entry in &dump.manifest.relations {
        let truth = if entry.snapshots == [2] { after } else { before };
        dump.assert_relation(entry, &truth[&entry.oid]).await;
    }
    let snapshots = |name: &str| dump.relation(name).snapshots.clone();
    assert_eq!(snapshots("unlogged"), [1], "{case}");
    assert_eq!(snapshots("large"), [1], "{case}");
    assert_eq!(snapshots("small"), [2], "{case}");
    assert_eq!(snapshots("gate"), [2], "{case}");
    assert!(!dump.has("new_since"), "{case}");
    let said = dump.manifest.warnings.iter().any(|w| w.contains("in 2 snapshots"));
    assert!(said, "{case}: {:?}", dump.manifest.warnings);
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

/// The gate is read as ranges. Others have written meanwhile, so those that are
/// done do not fit to the rest, and all of it is read again.
#[tokio::test]
async fn a_run_goes_on_after_a_restart_in_the_middle_of_ranges() {
    for version in [Version::newest(), Version::major(15)] {
        for immediate in [false, true] {
            let options = ["-j1", "--lock-timeout=0", "--split-size=256kB"];
            restarted(&version, immediate, &options).await;
        }
    }
}
