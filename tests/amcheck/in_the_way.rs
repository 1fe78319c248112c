//! What is no damage, and is not taken for any: a lock, a function of an index
//! that fails, an index that was not made to its end, a server that goes down.

use super::base::{DB, check, checked, damaged, only, served};
use crate::kit::{Server, Version};
use pg_salvage::verify::amcheck::Outcome;
use std::cell::Cell;
use std::time::Duration;

/// A table whose index can be made to fail, and to hang.
const MOODY: &str = "CREATE FUNCTION mood(i int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
    CREATE TABLE moody (id int PRIMARY KEY); INSERT INTO moody VALUES (1);
    CREATE INDEX moody_mood ON moody (mood(id));
    CREATE TABLE well (id int PRIMARY KEY); INSERT INTO well SELECT generate_series(1, 500);";

fn mood(body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION mood(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql
            AS 'BEGIN {body}; RETURN 1; END'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_no_damage() {
    // One is enough: a lock is waited for for seconds.
    let version = Version::newest();
    let server = served(&version, MOODY).await;
    server.execute(DB, &mood("PERFORM 1 / 0")).await;
    server.execute(DB, "INSERT INTO well VALUES (0)").await;
    let client = server.connect(DB).await;
    let twice = "CREATE UNIQUE INDEX CONCURRENTLY half ON well ((id / 2))";
    client.batch_execute(twice).await.expect_err("0 and 1 have the same key");
    client.batch_execute("BEGIN; LOCK TABLE well").await.expect("a lock");
    let found = check(&server, |o| {
        o.heapallindexed = true;
        o.timeouts.lock_ms = 50;
        o.selection = only("public.*");
    })
    .await;
    assert_eq!(damaged(&found), Vec::<&str>::new());
    for (name, outcome, why) in [
        ("well", Outcome::Incomplete, "holds AccessExclusiveLock"),
        ("half", Outcome::NotChecked, "not valid"),
        ("moody_mood", Outcome::Incomplete, "division by zero"),
    ] {
        let checked = checked(&found, name);
        assert_eq!(checked.outcome, outcome, "{}: {checked:#?}", version.major);
        assert!(checked.reason.as_ref().is_some_and(|r| r.contains(why)), "{checked:#?}");
    }
    assert_eq!(checked(&found, "moody").outcome, Outcome::Clean);
    // A session that somebody ends.
    server.execute(DB, &mood("PERFORM pg_catalog.pg_sleep(1)")).await;
    let found = tokio::select! {
        found = check(&server, |o| {
            o.heapallindexed = true;
            o.selection = only("public.moody");
        }) => found,
        () = terminate_one(&server) => panic!("it never ends"),
    };
    assert_eq!(checked(&found, "moody_mood").outcome, Outcome::Clean);
    assert_eq!(server.log().matches("terminating connection due to administrator").count(), 1);
}

/// Ends one session that is in the check. Never ends itself.
async fn terminate_one(server: &Server) {
    let client = server.connect(DB).await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while client.query(sql, &[]).await.expect("a list").is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    std::future::pending::<()>().await;
}

/// Ends each backend that hangs in the check as a crash would. Never ends itself.
async fn crash(server: &Server, killed: &Cell<usize>) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let Ok(client) = server.try_connect(DB).await else { continue };
        let sql = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        let Ok(rows) = client.query(sql, &[]).await else { continue };
        for row in rows {
            let pid = rustix::process::Pid::from_raw(row.get(0)).expect("a process id");
            let signal = rustix::process::Signal::SEGV;
            rustix::process::kill_process(pid, signal).expect("it is there");
            killed.set(killed.get() + 1);
            server.wait_crashes(killed.get());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_goes_down_at_twice_is_named_and_all_else_is_checked() {
    let server = served(&Version::major(15), MOODY).await;
    server.execute(DB, &mood("PERFORM pg_catalog.pg_sleep(100)")).await;
    let killed = Cell::new(0);
    let found = tokio::select! {
        found = check(&server, |o| o.heapallindexed = true) => found,
        () = crash(&server, &killed) => panic!("it never ends"),
    };
    assert_eq!(killed.get(), 2);
    assert_eq!(damaged(&found), ["moody_mood"]);
    let index = checked(&found, "moody_mood");
    assert_eq!(index.problems[0].cause, "server_crash", "{index:#?}");
    for r in found.relations.iter().filter(|r| r.outcome != Outcome::NotChecked) {
        assert!(r.name == "moody_mood" || r.outcome == Outcome::Clean, "{r:#?}");
    }
}
