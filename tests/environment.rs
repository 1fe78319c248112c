//! Trouble around the reading, on healthy data: too few connections, a standby,
//! locks, too little memory, full disks. None of it is damage, and none of it
//! loses a row that could be
//! had.

use crate::kit::disk::Healing;
use crate::kit::dumped::{dump, dump_with};
use crate::kit::{Disk, Server, ServerOptions, Stop, Version, oracle, sample};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_two_connections_reads_everything_with_less_workers() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let names = ["a", "b", "c", "d", "e", "f"];
        sample::victims(&server, DB, &names).await;
        let sql = "CREATE ROLE narrow LOGIN CONNECTION LIMIT 2; GRANT pg_read_all_data TO narrow";
        server.execute(DB, sql).await;
        let options = ["-j4", "-U", "narrow"];
        let dir = tempfile::tempdir().unwrap();
        let out = Command::new(PROGRAM)
            .args(["dump", "--raw-rows=never", "--no-schema", "--no-sync", "-h"])
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
    for version in Version::one_or_two() {
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

/// A transaction that was prepared and forgotten holds its locks for ever, and
/// no process with them.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_a_prepared_transaction_is_named() {
    for version in Version::one_or_two() {
        let options = ServerOptions::checksums(true).set("max_prepared_transactions", "2");
        let server = Server::start(&version, options);
        server.execute(DB, "CREATE TABLE t AS SELECT 1 AS i; CREATE TABLE u (i int)").await;
        let client = server.connect(DB).await;
        for sql in ["BEGIN", "LOCK TABLE t", "PREPARE TRANSACTION 'it''s mine'"] {
            client.batch_execute(sql).await.unwrap();
        }
        drop(client);
        let dumped = dump(PROGRAM, &server, DB, &["--lock-timeout", "100ms"]);
        let entry = dumped.relation("t");
        let reason = entry.reason.as_deref().unwrap_or_default();
        let begin = "could not lock relation \"public.t\": prepared transaction 'it''s mine' \
                     (role \"postgres\", since ";
        assert!(reason.starts_with(begin), "{reason}");
        let end = "UTC) holds AccessExclusiveLock; COMMIT PREPARED or ROLLBACK PREPARED ends it";
        assert!(reason.ends_with(end), "{reason}");
        assert_eq!((entry.status, entry.lost.len()), (RelationStatus::Failed, 0));
        assert_eq!(dumped.relation("u").status, RelationStatus::Clean);
        assert_eq!(dumped.manifest.exit_code, 3);
    }
}

/// Who waits for somebody is silent, and does not hang.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_lock_is_not_hanging() {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    server.execute(DB, "CREATE TABLE t AS SELECT 1 AS i").await;
    let (locker, watcher) = (server.connect(DB).await, server.connect(DB).await);
    locker.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(PROGRAM)
        .args([
            "dump",
            "--no-schema",
            "--no-sync",
            "--lock-timeout",
            "0",
            "--read-timeout",
            "500ms",
            "-d",
        ])
        .arg(server.conninfo(DB))
        .arg("-f")
        .arg(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It has asked whom it waits for more than once.
    let sql =
        "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE relation = 't'::regclass
        AND NOT granted AND clock_timestamp() - query_start > interval '2 s'";
    let begun = std::time::Instant::now();
    while watcher.query_opt(sql, &[]).await.unwrap().is_none() {
        assert!(begun.elapsed().as_secs() < 60, "nobody waits for the lock");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    locker.batch_execute("ROLLBACK").await.unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.contains("waits for a lock of process"), "{said}");
    assert!(!server.log().contains("due to user request"), "{}", server.log());
}

/// A server that may have little memory, and one long value.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_for_which_the_server_has_no_memory_is_lost_alone_and_is_no_damage() {
    let mut server = Server::start(&Version::major(15), ServerOptions::checksums(true));
    let sql = "CREATE TABLE t (i int, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
        INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 2000) i;
        UPDATE t SET v = repeat('x', 100000000) WHERE i = 777";
    server.execute(DB, sql).await;
    let client = oracle::session(&server, DB).await;
    let columns = ["i".to_owned(), "v".to_owned()];
    let mut rows = oracle::rows(&client, "public.t", &columns).await;
    drop(client);
    assert_eq!(server.stop(), Stop::Clean);
    server.options.memory_kb = Some(300_000);
    server.start_again();
    let dumped = dump(PROGRAM, &server, DB, &[]);
    let entry = dumped.relation("t");
    let [lost] = entry.lost.as_slice() else { panic!("{entry:#?}\n{}", dumped.said) };
    assert_eq!((lost.cause.as_str(), lost.sqlstate.as_deref()), ("too_large", Some("53200")));
    let long = rows.iter().position(|r| r.line.starts_with(b"777\t")).unwrap();
    let long = rows.remove(long);
    assert_eq!(lost.ctid.clone(), Some(format!("({},{})", long.block, long.offset)));
    let lines = dumped.lines(entry, RowClass::Clean).await;
    assert!(lines.iter().eq(rows.iter().map(|r| &r.line)), "all other rows");
    assert_eq!((entry.status, dumped.manifest.exit_code), (RelationStatus::Failed, 3));
}

/// To read a page the server must first write another, which it cannot: as where
/// a file system is full that has to copy what is changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_server_is_waited_for_and_is_no_damage() {
    for (version, heals) in [(Version::newest(), true), (Version::major(15), false)] {
        let disk = Disk::new();
        let options = ServerOptions::checksums(true)
            .set("shared_buffers", "1MB")
            .set("bgwriter_lru_maxpages", "0");
        let server = Server::start(&version, disk.under(options));
        let create = "SELECT i, md5(i::text) m FROM generate_series(1, 20000) i";
        server.execute(DB, &format!("CREATE TABLE t AS {create}")).await;
        let client = server.connect(DB).await;
        client.batch_execute("CHECKPOINT").await.unwrap();
        let columns = ["i".to_owned(), "m".to_owned()];
        let rows = oracle::rows(&client, "public.t", &columns).await;
        let sql = "CREATE TABLE changed AS SELECT i FROM generate_series(1, 20000) i;
            SELECT pg_relation_filepath('changed')";
        let answer = client.simple_query(sql).await.unwrap();
        let file = answer.iter().find_map(|m| match m {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        let healing = Healing(&disk);
        disk.does(&[(&file.unwrap(), 0..1000, "full")]);
        // So that all of the server's memory has been changed.
        client.batch_execute("UPDATE changed SET i = i + 1").await.unwrap_err();
        drop(client);
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(PROGRAM);
        child.args([
            "dump",
            "--raw-rows=never",
            "--no-schema",
            "--no-sync",
            "-v",
            "-t",
            "t",
            "-Z",
            "none",
            "-d",
        ]);
        let child = child.arg(server.conninfo(DB)).arg("-f").arg(dir.path());
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // The server itself may meet it first: it heals when we have met it.
        let mut said = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        while lines.read_line(&mut said).unwrap() > 0 {
            if heals && said.contains("No space left on device") {
                disk.heal();
            }
        }
        let status = child.wait().unwrap();
        drop(healing);
        assert!(said.contains("No space left on device"), "{said}");
        let read = std::fs::read(dir.path().join("data/public.t.copy"));
        if heals {
            assert_eq!(status.code(), Some(0), "{said}");
            let read = read.unwrap();
            assert!(oracle::lines(&read).eq(rows.iter().map(|r| r.line.as_slice())));
        } else {
            // Not even a session can be begun without a page in memory.
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(read.is_err(), "{said}");
        }
    }
}
