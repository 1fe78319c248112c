//! Others work on the database, or on the server, while a dump runs.
//!
//! So that nothing here depends on who is faster, the dump is stopped at a known
//! place, in the middle of a COPY, by a [`Gate`]: a table whose last row has a
//! TOASTed value. A session of the test runs REINDEX on the index of that TOAST
//! table in a transaction that it leaves open; its ACCESS EXCLUSIVE lock lets
//! everything of the table be read but that one value. When the server says that
//! somebody waits for the lock, the rows before it have been sent. The gate is
//! opened by the end of the transaction. Nothing is slept away.

mod gate;
mod restart;

use crate::binary::{Dump, Ran, begin, dump, truth};
use crate::kit::{Server, ServerOptions, Version};
use gate::Gate;
use pg_salvage::output::manifest::{RelationStatus, RunStatus};

/// Tables that others will change, with rows in several blocks each.
const TABLES: [&str; 10] = [
    "dropped",
    "forbidden",
    "truncated",
    "vacuumed",
    "retyped",
    "narrowed",
    "widened",
    "swapped",
    "busy",
    "quiet",
];

async fn database(server: &Server) {
    server.create_database("shop").await;
    let mut sql = String::from("CREATE ROLE reader LOGIN; CREATE SEQUENCE counter;");
    for table in TABLES {
        sql.push_str(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, n int, t text);
             INSERT INTO {table} SELECT i, i % 7, md5(i::text) FROM generate_series(1, 3000) i;
             DELETE FROM {table} WHERE id % 10 = 3;"
        ));
    }
    sql.push_str(gate::CREATE);
    sql.push_str(
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
        GRANT SELECT ON counter TO reader;",
    );
    server.execute("shop", &sql).await;
}

/// Each table suffers one thing, all committed before it is read. Nothing waits:
/// the dump holds no lock but that of the table that it reads.
const MEDDLE: &str = "SET lock_timeout = '10s';
    ALTER SEQUENCE counter CACHE 2;
    DROP TABLE dropped;
    REVOKE SELECT ON forbidden FROM reader;
    TRUNCATE truncated;
    ALTER TABLE retyped ALTER n TYPE text;
    ALTER TABLE narrowed DROP n;
    ALTER TABLE widened ADD more text DEFAULT 'new';
    ALTER TABLE swapped RENAME TO swapped_away;
    CREATE TABLE swapped (LIKE swapped_away); GRANT SELECT ON swapped TO reader;
    INSERT INTO swapped SELECT 1, 1, 'another table';
    UPDATE busy SET t = 'changed', n = -1 WHERE id % 2 = 0; DELETE FROM busy WHERE id % 5 = 0;
    INSERT INTO busy SELECT i, 0, 'new' FROM generate_series(10001, 15000) i;
    CREATE TABLE new_since AS SELECT 1 AS one";

#[tokio::test]
async fn what_others_do_meanwhile_is_said_or_makes_no_difference() {
    for version in Version::few(14, 18) {
        for split in ["1GB", "64kB"] {
            let server = Server::start(&version, ServerOptions::checksums(true));
            database(&server).await;
            let truth = truth::of(&server, "shop").await;
            let gate = Gate::close(&server, "shop").await;
            let options = ["-j1", "--lock-timeout=0", "--split-size", split];
            let (folder, dir, args) = Dump::words(&server, "reader", "shop", &options);
            let child = begin(args);
            gate.wait_for_one().await;
            server.execute("shop", MEDDLE).await;
            server.execute("shop", "VACUUM FULL vacuumed").await;
            let writer = tokio::spawn(write_until_it_fails(server.connect("shop").await));
            gate.open().await;
            let ran = tokio::task::spawn_blocking(|| Ran::wait(child)).await.expect("no panic");
            writer.abort();
            let case = dump::case(&server, &options.join(" "));
            let dump = Dump::read(case, ran, dir, Some(folder));
            assert_meddled(&dump, &truth).await;
        }
    }
}

/// Changes rows all the time.
async fn write_until_it_fails(client: tokio_postgres::Client) {
    let sql = "UPDATE busy SET n = n + 1 WHERE id % 3 = 0; DELETE FROM busy WHERE n > 50;
        INSERT INTO busy SELECT coalesce(max(id), 0) + 1, 0, 'more' FROM busy";
    while client.batch_execute(sql).await.is_ok() {}
}

async fn assert_meddled(dump: &Dump, truth: &std::collections::BTreeMap<u32, truth::Truth>) {
    let gone = "the relation was dropped, or another has its name now";
    let replaced = "its file was replaced since the snapshot was taken (TRUNCATE, VACUUM FULL, \
                    CLUSTER or ALTER TABLE): what it held then cannot be read";
    let narrowed = "its columns were altered since the snapshot was taken: ERROR: column \"n\"";
    let failed = [
        ("dropped", gone),
        ("forbidden", "ERROR: permission denied for table forbidden"),
        ("narrowed", narrowed),
        ("retyped", replaced),
        ("swapped", gone),
        ("truncated", replaced),
    ];
    let found: Vec<(&str, &str)> = failed
        .iter()
        .map(|(name, _)| (*name, dump.relation(name).reason.as_deref().unwrap_or("no reason")))
        .collect();
    // COPY says "of relation", a query does not.
    let without_column = |reason: &str| match reason.starts_with(narrowed) {
        true => narrowed.to_owned(),
        false => reason.to_owned(),
    };
    for ((name, expected), (_, reason)) in failed.iter().zip(&found) {
        let case = format!("{}, relation \"{name}\"", dump.case);
        assert_eq!(without_column(reason), *expected, "{case}: {:?}", dump.relation(name));
        assert_eq!(dump.relation(name).rows.clean, 0, "{case}: rows");
    }
    let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
    assert_eq!(dump.with_status(RelationStatus::Failed), names, "{}", dump.case);
    for entry in &dump.manifest.relations {
        if entry.status != RelationStatus::Failed {
            dump.assert_relation(entry, &truth[&entry.oid]).await;
        }
    }
    assert_eq!(dump.manifest.relations.len(), truth.len(), "{}: relations", dump.case);
    assert_eq!((dump.ran.code, dump.manifest.status), (3, RunStatus::Incomplete), "{}", dump.case);
    assert_eq!(dump.manifest.snapshots.len(), 1, "{}", dump.case);
    dump.assert_tidy();
}

/// No gate is needed: the lock is there before, and to the end.
#[tokio::test]
async fn a_locked_table_is_given_up_alone() {
    for version in [Version::newest(), Version::major(15)] {
        let server = Server::start(&version, ServerOptions::checksums(true));
        database(&server).await;
        let truth = truth::of(&server, "shop").await;
        let locker = server.connect("shop").await;
        let sql = "BEGIN; LOCK TABLE dropped IN ACCESS EXCLUSIVE MODE";
        locker.batch_execute(sql).await.expect("a lock");
        let pid = locker.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid");
        let pid: i32 = pid.get(0);
        for options in [
            &["-j1", "--lock-timeout=200ms"][..],
            &["-j3", "--lock-timeout=50ms", "--split-size=64kB"],
        ] {
            let dump = Dump::of(&server, "shop", options);
            assert_eq!(dump.with_status(RelationStatus::Failed), ["dropped"], "{}", dump.case);
            let entry = dump.relation("dropped");
            let reason = entry.reason.as_deref().unwrap_or_default();
            let begin = format!(
                "could not lock relation \"public.dropped\": process {pid} (role \"postgres\", \
                 idle in transaction since "
            );
            assert!(reason.starts_with(&begin), "{}: {reason}", dump.case);
            assert!(reason.ends_with(" UTC) holds AccessExclusiveLock"), "{}: {reason}", dump.case);
            assert_eq!((entry.rows.clean, entry.advice.len()), (0, 1), "{}", dump.case);
            for entry in dump.manifest.relations.iter().filter(|r| r.name != "dropped") {
                dump.assert_relation(entry, &truth[&entry.oid]).await;
            }
            assert_eq!(dump.ran.code, 3, "{}", dump.case);
            dump.assert_tidy();
        }
    }
}

/// Planning has gone on without it: who waits is about to read. All is decided
/// by what the server says of who waits, and for what.
#[tokio::test]
async fn a_lock_is_waited_for_only_where_its_table_is_read() {
    for version in [Version::newest(), Version::major(15)] {
        let server = Server::start(&version, ServerOptions::checksums(true));
        database(&server).await;
        let truth = truth::of(&server, "shop").await;
        let (locker, watcher) = (server.connect("shop").await, server.connect("shop").await);
        let sql = "BEGIN; LOCK TABLE dropped IN ACCESS EXCLUSIVE MODE";
        locker.batch_execute(sql).await.expect("a lock");
        let options = ["-j1", "--lock-timeout=0"];
        let (folder, dir, args) = Dump::words(&server, "postgres", "shop", &options);
        let child = begin(args);
        let sql = "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE relation = 'dropped'::regclass AND NOT granted AND query LIKE 'LOCK TABLE%'";
        let begun = std::time::Instant::now();
        while watcher.query_opt(sql, &[]).await.expect("pg_locks").is_none() {
            assert!(begun.elapsed() < gate::PATIENCE, "nobody waits for the table's lock");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        locker.batch_execute("ROLLBACK").await.expect("the lock is given back");
        let ran = tokio::task::spawn_blocking(|| Ran::wait(child)).await.expect("no panic");
        let case = dump::case(&server, &options.join(" "));
        let dump = Dump::read(case, ran, dir, Some(folder));
        dump.assert_clean();
        dump.assert_equals(&truth).await;
    }
}

/// The worker is ended at the gate, with all rows but the last one sent.
#[tokio::test]
async fn a_terminated_backend_loses_nothing_and_repeats_nothing() {
    for version in [Version::newest(), Version::major(15)] {
        for options in
            [&["-j1", "--lock-timeout=0"][..], &["-j3", "--lock-timeout=0", "--split-size=64kB"]]
        {
            let server = Server::start(&version, ServerOptions::checksums(true));
            database(&server).await;
            let truth = truth::of(&server, "shop").await;
            let gate = Gate::close(&server, "shop").await;
            let (folder, dir, args) = Dump::words(&server, "postgres", "shop", options);
            let child = begin(args);
            let mut ended = Vec::new();
            for _ in 0..2 {
                let pid = gate.wait_for_another(&ended).await;
                gate.terminate(pid).await;
                ended.push(pid);
            }
            gate.wait_for_another(&ended).await;
            gate.open().await;
            let ran = tokio::task::spawn_blocking(|| Ran::wait(child)).await.expect("no panic");
            let case = dump::case(&server, &options.join(" "));
            let dump = Dump::read(case, ran, dir, Some(folder));
            dump.assert_equals(&truth).await;
            assert_eq!((dump.ran.code, dump.manifest.snapshots.len()), (0, 1), "{}", dump.case);
            assert_eq!(dump.manifest.warnings, [""; 0], "{}", dump.case);
            dump.assert_tidy();
        }
    }
}
