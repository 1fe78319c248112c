//! Where a run that goes on meets what crashes and hanging disks have left.

use super::*;
use crate::kit::Disk;
use crate::kit::disk::Healing;
use pg_salvage::output::manifest::RelationStatus;

/// An unlogged table, two of whose blocks are harmed: one cannot be read, and
/// one behind it takes the server down.
async fn brief(options: ServerOptions) -> (Server, Vec<oracle::Row>, u32) {
    let server = Server::start(&Version::newest(), options);
    sample::victims(&server, DB, &["brief"]).await;
    server.execute(DB, "ALTER TABLE brief SET UNLOGGED").await;
    let client = oracle::session(&server, DB).await;
    let columns = oracle::columns(&client, "public.brief").await;
    let rows = oracle::rows(&client, "public.brief", &columns).await;
    let places = Places::of(&client, "public.brief").await;
    drop(client);
    assert_eq!(server.stop(), Stop::Clean);
    let killer = Place::middle(places.blocks);
    harm(&server, &places, Harm::VarlenaLength, killer, ChecksumAfter::Stale);
    let bad = Place { block: 3, ..killer };
    assert!(bad.block + 1 < killer.block);
    harm(&server, &places, Harm::BadPageHeader, bad, ChecksumAfter::Stale);
    server.start_again();
    (server, rows, bad.block)
}

fn emptied(dumped: &Dumped) -> bool {
    dumped.relation("brief").lost.iter().any(|l| l.cause == "emptied_by_crash")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_an_unlogged_table_before_a_crash_is_not_given_away() {
    let (server, rows, bad) = brief(ServerOptions::checksums(false)).await;
    let dir = tempfile::tempdir().expect("a directory");
    let out = Command::new(PROGRAM)
        .args([
            "dump",
            "--raw-rows=never",
            "--no-schema",
            "-j2",
            "--max-crashes",
            "20",
            NEVER,
            "-d",
        ])
        .arg(server.conninfo(DB))
        .arg("-f")
        .arg(dir.path())
        .output()
        .expect("the program starts");
    server.wait_ready();
    let dumped = Dumped::read(dir, said(&out));
    let entry = dumped.relation("brief");
    assert!(emptied(&dumped), "{entry:#?}");
    let lines = dumped.lines(entry, RowClass::Clean).await;
    let left: Vec<_> = rows.iter().filter(|r| r.block != bad).map(|r| &r.line).collect();
    assert!(lines.len() > rows.iter().filter(|r| r.block < bad).count(), "{entry:#?}");
    assert!(lines.iter().eq(left.into_iter().take(lines.len())), "{entry:#?}");
    assert_eq!((entry.status, out.status.code()), (RelationStatus::Salvaged, Some(2)));
    assert_eq!(server.stop(), Stop::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_an_unlogged_table_outlives_a_resume() {
    let options = ServerOptions::checksums(false).set("restart_after_crash", "off");
    let (server, rows, bad) = brief(options).await;
    let dir = tempfile::tempdir().expect("a directory");
    let run = |options: &[&str]| {
        Command::new(PROGRAM)
            .args([
                "dump",
                "--raw-rows=never",
                "--no-schema",
                "-j2",
                "--crash-wait",
                "1s",
                NEVER,
                "-d",
            ])
            .arg(server.conninfo(DB))
            .arg("-f")
            .arg(dir.path())
            .args(options)
            .output()
            .expect("the program starts")
    };
    let out = run(&[]);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    server.start_again();
    let out = run(&["--resume"]);
    let text = said(&out);
    let dumped = Dumped::read(dir, text);
    dumped.check_files("resumed");
    let entry = dumped.relation("brief");
    let lines = dumped.lines(entry, RowClass::Clean).await;
    let left: Vec<_> = rows.iter().filter(|r| r.block != bad).map(|r| &r.line).collect();
    assert!(lines.len() > rows.iter().filter(|r| r.block < bad).count(), "{entry:#?}");
    assert!(lines.iter().eq(left.into_iter().take(lines.len())), "{entry:#?}");
    assert!(emptied(&dumped), "{entry:#?}");
    assert_eq!((entry.status, out.status.code()), (RelationStatus::Salvaged, Some(2)));
    let again = run_again(&server, &dumped);
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    assert_eq!(server.stop(), Stop::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_took_the_server_down_is_read_when_its_file_is_another_one() {
    let server = damaged(&Version::newest(), &[("killer", Harm::THoff)]).await;
    server.connect(DB).await.batch_execute("DROP TABLE unlogged").await.expect("it works");
    let dir = tempfile::tempdir().expect("a directory");
    let out = run(&server, dir.path(), &["-j1", "--max-crashes", "3", NEVER], &[]);
    server.wait_ready();
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    let journal = std::fs::read_to_string(dir.path().join("journal")).expect("a journal");
    assert!(journal.contains(r#""record":"killer""#), "{}", said(&out));
    let mend = "TRUNCATE killer; INSERT INTO killer SELECT * FROM well";
    server.connect(DB).await.batch_execute(mend).await.expect("it works");
    let out = run(&server, dir.path(), &["-j1", "--max-crashes", "3", NEVER, "--resume"], &[]);
    let dumped = Dumped::read(dir, said(&out));
    let entry = dumped.relation("killer");
    assert_eq!((entry.rows.clean, entry.lost.len()), (1500, 0), "{entry:#?}");
    assert_eq!(server.stop(), Stop::Clean);
}

fn run_again(server: &Server, dumped: &Dumped) -> Output {
    Command::new(PROGRAM)
        .args(["dump", "--raw-rows=never", "--no-schema", "--resume", "-d"])
        .arg(server.conninfo(DB))
        .arg("-f")
        .arg(dumped.dir.path())
        .output()
        .expect("the program starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hung_and_is_read_by_a_later_run_is_not_called_damaged() {
    let disk = Disk::new();
    let server = Server::start(&Version::major(15), disk.under(ServerOptions::checksums(true)));
    server
        .execute(DB, "CREATE TABLE stuck AS SELECT i, md5(i::text) FROM generate_series(1, 9000) i")
        .await;
    server.execute(DB, "VACUUM stuck").await;
    let sql = "SELECT pg_relation_filepath('stuck')";
    let file: String = server.connect(DB).await.query_one(sql, &[]).await.expect("a path").get(0);
    assert_eq!(server.stop(), Stop::Clean);
    server.start_again();
    let healing = Healing(&disk);
    disk.does(&[(&file, 20..21, "stick")]);
    let dir = tempfile::tempdir().expect("a directory");
    let out = run(&server, dir.path(), &["--read-timeout", "500ms"], &[]);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    drop(healing);
    let out = run(&server, dir.path(), &["--resume"], &[]);
    let dumped = Dumped::read(dir, said(&out));
    let entry = dumped.relation("stuck");
    assert_eq!((entry.status, entry.rows.clean), (RelationStatus::Clean, 9000), "{entry:#?}");
    assert_eq!(out.status.code(), Some(0), "{}", dumped.said);
}
