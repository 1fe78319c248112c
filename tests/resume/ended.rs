//! Runs that end in the ways a person or a server ends them.

use super::*;
use pg_salvage::output::manifest::{RelationStatus, RunStatus};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

const KILLERS: [(&str, Harm); 2] = [("killer1", Harm::THoff), ("killer2", Harm::THoff)];

fn finished(dir: tempfile::TempDir, out: &Output, code: i32) -> Dumped {
    assert_eq!(out.status.code(), Some(code), "{}", said(out));
    Dumped::read(dir, said(out))
}

/// The causes of what was lost of a relation.
fn causes(dumped: &Dumped, name: &str) -> Vec<String> {
    dumped.relation(name).lost.iter().map(|l| l.cause.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_tried_for_fear_of_a_crash_is_tried_by_a_later_run() {
    let server = damaged(&Version::newest(), &KILLERS).await;
    // A crash empties it, whatever is done about it.
    server.connect(DB).await.batch_execute("DROP TABLE unlogged").await.expect("it works");
    let whole = tempfile::tempdir().expect("a directory");
    let out = run(&server, whole.path(), &["-j2", "--max-crashes", "20", NEVER], &[]);
    let whole = finished(whole, &out, 2);
    server.wait_ready();

    let dir = tempfile::tempdir().expect("a directory");
    let out = run(&server, dir.path(), &["-j2", "--max-crashes", "1", NEVER], &[]);
    server.wait_ready();
    let first = finished(dir, &out, 3);
    let not_tried = |d: &Dumped| {
        KILLERS.iter().filter(|(n, _)| causes(d, n).contains(&"not_tried".to_owned())).count()
    };
    assert!(not_tried(&first) > 0, "{}", first.said);
    let mut dir = first.dir;
    // A run may risk one crash more each time; none is spent on what is known.
    let mut crashes = Vec::new();
    for _ in 0..20 {
        let before = server.crashes();
        let out = run(&server, dir.path(), &["-j2", "--max-crashes", "1", NEVER, "--resume"], &[]);
        server.wait_ready();
        crashes.push(server.crashes() - before);
        if out.status.code() == Some(2) {
            let last = Dumped::read(dir, said(&out));
            check_same(&last, &whole, "after the last resume").await;
            for (name, _) in KILLERS {
                assert_eq!(causes(&last, name), ["server_crash"]);
            }
            let before = server.crashes();
            let out = run(&server, last.dir.path(), &["--resume"], &[]);
            assert_eq!(out.status.code(), Some(2), "{}", said(&out));
            assert_eq!(server.crashes(), before, "nothing is left to be read");
            assert_eq!(server.stop(), Stop::Clean);
            return;
        }
        assert_eq!(out.status.code(), Some(3), "{}", said(&out));
        let run = Dumped::read(dir, said(&out));
        run.check_files("in between");
        dir = run.dir;
    }
    panic!("it did not come to its end: {crashes:?} crashes");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_took_the_server_down_is_not_forgotten_when_the_database_is_written_to() {
    let server = damaged(&Version::newest(), &KILLERS[..1]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut crashes = Vec::new();
    for _ in 0..4 {
        let before = server.crashes();
        let out = run(&server, dir.path(), &["--max-crashes", "0", NEVER, "--resume"], &[]);
        server.wait_ready();
        assert_eq!(out.status.code(), Some(3), "{}", said(&out));
        crashes.push(server.crashes() - before);
        // From now on snapshots see something else: nothing that was read is kept.
        server.execute(DB, "SELECT txid_current()").await;
    }
    assert_eq!(crashes, [1, 0, 0, 0]);
    assert_eq!(server.stop(), Stop::Clean);
}

/// A run that comes to a table which is locked, and waits there.
async fn at_the_gate(server: &Server, dir: &Path, options: &[&str]) -> Child {
    let child = Command::new(PROGRAM)
        .args([
            "dump",
            "--raw-rows=never",
            "--no-schema",
            "--split-size",
            "64kB",
            "-j1",
            "--lock-timeout",
            "0",
            "-d",
        ])
        .arg(server.conninfo(DB))
        .arg("-f")
        .arg(dir)
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let watcher = server.connect(DB).await;
    let begun = Instant::now();
    // Lengths are asked of locked tables, too, before the first is read.
    let before = dir.join("data/public.page.copy.zst");
    let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tuple'::regclass";
    while !before.exists()
        || watcher.query_one(sql, &[]).await.expect("pg_locks").get::<_, i64>(0) == 0
    {
        assert!(begun.elapsed() < PATIENCE, "nobody came to the gate");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("a signal");
}

const HARMS: [(&str, Harm); 2] =
    [("page", Harm::BadPageHeader), ("tuple", Harm::CompressedGarbage)];

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_it_with_a_manifest_and_a_second_one_at_once() {
    use rustix::process::Signal;
    let server = damaged(&Version::newest(), &HARMS).await;
    let whole = tempfile::tempdir().expect("a directory");
    let out = run(&server, whole.path(), &["-j2"], &[]);
    let whole = finished(whole, &out, 2);
    for times in [1, 2] {
        let holder = server.connect(DB).await;
        holder.batch_execute("BEGIN; LOCK TABLE tuple").await.expect("a lock");
        let dir = tempfile::tempdir().expect("a directory");
        let child = at_the_gate(&server, dir.path(), &[]).await;
        signal(&child, Signal::INT);
        if times == 1 {
            // What is under way comes to its end.
            tokio::time::sleep(Duration::from_millis(200)).await;
            holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
        } else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            signal(&child, Signal::INT);
        }
        let out = child.wait_with_output().expect("it ends");
        assert_eq!(out.status.code(), Some(3), "{}", said(&out));
        if times == 1 {
            let stopped = Dumped::read(dir, said(&out));
            assert_eq!(stopped.manifest.status, RunStatus::Incomplete);
            stopped.check_files("stopped");
            assert!(stopped.said.contains("--resume"), "{}", stopped.said);
            let out = run(&server, stopped.dir.path(), &["-j2", "--resume"], &[]);
            check_same(&finished(stopped.dir, &out, 2), &whole, "stopped").await;
        } else {
            assert!(!dir.path().join("manifest.json").exists());
            holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
            let out = run(&server, dir.path(), &["-j2", "--resume"], &[]);
            check_same(&finished(dir, &out, 2), &whole, "ended at once").await;
        }
    }
    assert_eq!(server.stop(), Stop::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_somebody_wrote_each_relation_is_of_one_snapshot() {
    let server = damaged(&Version::newest(), &HARMS).await;
    let holder = server.connect(DB).await;
    holder.batch_execute("BEGIN; LOCK TABLE tuple").await.expect("a lock");
    let dir = tempfile::tempdir().expect("a directory");
    let child = at_the_gate(&server, dir.path(), &[]).await;
    signal(&child, rustix::process::Signal::KILL);
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), None, "{}", said(&out));
    // Read already; not read yet; new; and one of another with the same name.
    holder
        .batch_execute(
            "ROLLBACK; DELETE FROM page WHERE id = 1; DELETE FROM tuple WHERE id = 1;
             DELETE FROM small1; CREATE TABLE fresh AS SELECT 1 AS i;
             DROP TABLE well; CREATE TABLE well AS SELECT 7 AS other",
        )
        .await
        .expect("it works");
    drop(holder);
    let now = tempfile::tempdir().expect("a directory");
    let out = run(&server, now.path(), &["-j2"], &[]);
    let now = finished(now, &out, 2);
    let out = run(&server, dir.path(), &["-j2", "--resume"], &[]);
    let dumped = finished(dir, &out, 2);
    dumped.check_files("after writes");
    let snapshots = |name: &str, oid: Option<u32>| {
        let all = dumped.manifest.relations.iter();
        let mut found = all.filter(|r| r.name == name && oid.is_none_or(|o| o == r.oid));
        found.next().unwrap_or_else(|| panic!("{name}")).snapshots.clone()
    };
    assert_eq!(dumped.manifest.snapshots.len(), 2);
    let new = now.relation("well").oid;
    let old = dumped.manifest.relations.iter().find(|r| r.name == "well" && r.oid != new);
    let old = old.expect("what was dropped since stays in the dump");
    assert_eq!((old.snapshots.clone(), old.rows.clean), (vec![1], 1500));
    assert_eq!(snapshots("well", Some(new)), [2]);
    assert_eq!(snapshots("fresh", None), [2]);
    assert_eq!(snapshots("tuple", None), [2]);
    for relation in &now.manifest.relations {
        let again = dumped.manifest.relations.iter().find(|r| r.oid == relation.oid);
        let again = again.unwrap_or_else(|| panic!("{} is missing", relation.name));
        if again.snapshots == [2] {
            for class in [RowClass::Clean, RowClass::Suspect] {
                let (a, b) = (dumped.lines(again, class).await, now.lines(relation, class).await);
                assert!(a == b, "{}: rows as they are now", relation.name);
            }
        }
    }
    // The damaged one had been read: it is as it was.
    let page = dumped.relation("page");
    assert_eq!((page.snapshots.as_slice(), page.status), (&[1][..], RelationStatus::Salvaged));
    assert_eq!(page.rows.clean, now.relation("page").rows.clean + 1);
    assert_eq!(server.stop(), Stop::Clean);
}

fn refused(out: &Output, parts: &[&str]) {
    assert_eq!(out.status.code(), Some(1), "{}", said(out));
    let text = said(out);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(parts.iter().all(|p| text.contains(p)), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_gone_on_with_is_refused_and_left_alone() {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    let client = server.connect(DB).await;
    client.batch_execute("CREATE TABLE t AS SELECT 1 AS i").await.expect("it works");
    server.create_database("another").await;
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path().join("out");
    // Where nothing is, a run begins.
    let out = run(&server, &dir, &["--resume"], &[]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let before = std::fs::read(dir.join("manifest.json")).expect("a manifest");
    let journal = std::fs::read(dir.join("journal")).expect("a journal");

    refused(&run(&server, &dir, &[], &[]), &["has what an earlier run has written", "--resume"]);
    refused(
        &run(&server, &dir, &["--resume", "-Z", "gzip"], &[]),
        &["it was begun with -Z zstd, and now it is gzip; give the same options"],
    );
    refused(
        &run(&server, &dir, &["--resume", "-t", "t"], &[]),
        &["it was begun with -t not given, and now it is t"],
    );
    let another = Command::new(PROGRAM)
        .args(["dump", "--raw-rows=never", "--no-schema", "--split-size", "64kB", "--resume", "-d"])
        .arg(server.conninfo("another"))
        .arg("-f")
        .arg(&dir)
        .output()
        .expect("the program starts");
    refused(&another, &["it is of database \"postgres\", and this is \"another\""]);
    let foreign = folder.path().join("foreign");
    std::fs::create_dir(&foreign).expect("a folder");
    std::fs::write(foreign.join("precious"), "1").expect("a file");
    refused(&run(&server, &foreign, &["--resume"], &[]), &["is not empty (it has \"precious\")"]);
    assert_eq!(std::fs::read_dir(&foreign).expect("a folder").count(), 1);
    assert!(std::fs::read(dir.join("manifest.json")).expect("a manifest") == before);
    assert!(std::fs::read(dir.join("journal")).expect("a journal") == journal);

    let out = run(&server, &dir, &["--resume"], &[]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!(server.stop(), Stop::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_harmed_meanwhile_are_written_again() {
    let server = damaged(&Version::newest(), &HARMS).await;
    let whole = tempfile::tempdir().expect("a directory");
    let out = run(&server, whole.path(), &["-j2"], &[]);
    let whole = finished(whole, &out, 2);
    // Late, but before the end.
    let died = [150, 130, 110, 90].into_iter().find_map(|n| {
        let dir = tempfile::tempdir().expect("a directory");
        let die = [("PG_SALVAGE_DIE_AT", n.to_string())];
        let out = run(&server, dir.path(), &["-j2"], &die);
        out.status.code().is_none().then_some(dir)
    });
    let dir = died.expect("a run that was ended");
    // Some are gone, some are shorter, whether they were finished or not.
    let mut harmed = 0;
    for (i, file) in std::fs::read_dir(dir.path().join("data")).expect("data").flatten().enumerate()
    {
        let file = file.path();
        match i % 3 {
            0 => std::fs::remove_file(&file).expect("it goes"),
            1 => std::fs::OpenOptions::new()
                .write(true)
                .open(&file)
                .and_then(|f| f.set_len(f.metadata()?.len() / 2))
                .expect("it is cut"),
            _ => continue,
        }
        harmed += 1;
    }
    assert!(harmed > 2);
    let out = run(&server, dir.path(), &["-j2", "--resume"], &[]);
    check_same(&finished(dir, &out, 2), &whole, "with files harmed").await;
    assert_eq!(server.stop(), Stop::Clean);
}
