//! Trouble on our own side: a disk that is full, or nearly, or that fails, and
//! files that cannot be written. Whatever happens, a file under its final name
//! is complete, and the run ends with one clear line.

use crate::binary::{Ran, begin, dump::names_in, run};
use crate::kit::{Server, ServerOptions, SmallDisk, Version, oracle, owner, place};
use pg_salvage::output::manifest::{Manifest, RelationStatus, RunStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const DB: &str = "postgres";
const PATIENCE: Duration = Duration::from_secs(60);

/// Read in this order: unlogged first, then by size.
async fn server() -> Server {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    let sql = "CREATE UNLOGGED TABLE first AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i;
        CREATE TABLE slow AS SELECT i, md5(i::text) || md5((-i)::text) AS t FROM generate_series(1, 450000) i;
        CREATE TABLE second AS SELECT i, md5(i::text) FROM generate_series(1, 10000) i;
        CREATE TABLE third AS SELECT i FROM generate_series(1, 1000) i;";
    server.execute(DB, sql).await;
    server
}

/// The words of a dump into `dir`.
fn words(server: &Server, dir: &Path, options: &[&str]) -> Vec<String> {
    let mut words = crate::binary::words("dump", server, DB);
    words.extend(["-f".to_owned(), dir.display().to_string(), "--no-schema".to_owned()]);
    words.extend(options.iter().map(|o| (*o).to_owned()));
    words
}

/// Every file under a final name holds all rows of its relation, or some, where
/// the manifest says that it failed; the manifest, where there is one, is whole.
/// The names of what is finished.
async fn finished(server: &Server, dir: &Path, ran: &Ran) -> BTreeSet<String> {
    let truth: BTreeMap<String, Vec<u8>> = oracle::database(server, DB)
        .await
        .into_iter()
        .map(|(relation, rows)| {
            let lines = rows.iter().flat_map(|row| [row.line.as_slice(), b"\n"].concat());
            (relation.name.clone(), lines.collect())
        })
        .collect();
    let manifest = std::fs::read(dir.join("manifest.json"));
    let manifest = manifest.ok().map(|json| Manifest::from_json(&json).expect("a whole manifest"));
    let of = |status| -> BTreeSet<String> {
        let all = manifest.iter().flat_map(|m| &m.relations).filter(move |r| r.status == status);
        all.map(|r| r.name.clone()).collect()
    };
    let (clean, failed) = (of(RelationStatus::Clean), of(RelationStatus::Failed));
    let mut finished = BTreeSet::new();
    for file in names_in(&dir.join("data")).iter().filter(|name| !name.contains(".part")) {
        let name = file.split('.').nth(1).expect("public.name.copy").to_owned();
        let bytes = oracle::read_file(&dir.join("data").join(file)).await;
        if failed.contains(&name) {
            let mut rows = truth[&name].split(|&b| b == b'\n');
            let in_order = oracle::lines(&bytes).all(|line| rows.any(|row| row == line));
            assert!(in_order && !bytes.is_empty(), "{file}: {}", ran.stderr);
            continue;
        }
        assert!(bytes == truth[&name], "{file} is not complete: {}", ran.stderr);
        finished.insert(name);
    }
    let Some(manifest) = &manifest else { return finished };
    assert_eq!((i32::from(manifest.exit_code), manifest.status), (ran.code, RunStatus::Incomplete));
    assert_eq!(clean, finished, "{}", ran.stderr);
    let others = truth.keys().filter(|name| !finished.contains(*name)).cloned().collect();
    assert_eq!(failed, others, "{}", ran.stderr);
    finished
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn assert_one_line(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, code, "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(parts.iter().all(|part| ran.stderr.contains(part)), "{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_one_clear_line_and_what_is_finished_stays_valid() {
    let server = server().await;
    for options in [&["-j1"][..], &["-j1", "--split-size=8MB"], &["-j3", "--split-size=8MB"]] {
        let Some(disk) = SmallDisk::full_at("8m") else { return };
        let dir = disk.path().join("out");
        let options = [options, &["-Z", "none", "--min-free", "0"]].concat();
        let ran = run(words(&server, &dir, &options));
        if options[0] == "-j1" {
            assert_one_line(&ran, 1, &["could not write file", "No space left on device"]);
        }
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let finished = finished(&server, &dir, &ran).await;
        assert!(finished.contains("first") && !finished.contains("slow"), "{finished:?}");
        assert!(dir.join("manifest.json").exists(), "there is room for the manifest");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_too_little_is_free_nothing_is_begun() {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    let folder = tempfile::tempdir().unwrap();
    for is_there in [false, true] {
        let dir = folder.path().join("out");
        if is_there {
            std::fs::create_dir(&dir).unwrap();
        }
        let ran = run(words(&server, &dir, &["--min-free", "1000000TB"]));
        let free = "are free for directory";
        assert_one_line(&ran, 1, &[free, "--min-free 1000000 TB", "make space"]);
        assert_eq!(dir.exists(), is_there);
        assert!(!is_there || names_in(&dir).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_stops_before_the_disk_is_full() {
    let server = server().await;
    for options in [&["-j1"][..], &["-j1", "--split-size=8MB"], &["-j3", "--split-size=8MB"]] {
        let Some(disk) = SmallDisk::full_at("32m") else { return };
        let dir = disk.path().join("out");
        let options = [options, &["-Z", "none", "--min-free", "16MB"]].concat();
        let ran = run(words(&server, &dir, &options));
        let parts = ["are free in directory", "make space, and run it again with --resume"];
        if options[0] == "-j1" {
            assert_one_line(&ran, 3, &parts);
        }
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        assert!(parts.iter().all(|part| ran.stderr.contains(part)), "{}", ran.stderr);
        // It is looked at once in 8 MB, and each of three may be at a write.
        assert!(disk.free() > 4 << 20, "{} bytes are free", disk.free());
        assert!(dir.join("manifest.json").exists());
        let finished = finished(&server, &dir, &ran).await;
        assert!(finished.contains("first") && !finished.contains("slow"), "{finished:?}");
        let parts = names_in(&dir.join("data")).into_iter().filter(|n| n.contains(".part"));
        assert!(parts.count() > 0, "what was begun stays for another run");
    }
}

/// A device that fails is seen when a file is synced, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_is_one_clear_line() {
    let server = server().await;
    let Some(disk) = SmallDisk::failing_at("8m") else { return };
    let dir = disk.path().join("out");
    let ran = run(words(&server, &dir, &["-j1", "-Z", "none", "--min-free", "0"]));
    assert_one_line(&ran, 1, &["could not sync file", "public.slow.copy"]);
    assert!(!dir.join("data/public.slow.copy").exists(), "what is not synced has no final name");
}

/// Dumps; `meanwhile` happens while the second relation is read.
fn dump_while_slow(
    mut words: Vec<String>,
    dir: &Path,
    as_server: bool,
    meanwhile: impl FnOnce(),
) -> Ran {
    words.extend(["-j1", "-Z", "zstd:6"].map(str::to_owned));
    let program = Path::new(env!("CARGO_BIN_EXE_pg_salvage"));
    let mut folder = None;
    let child = if as_server && owner::server_user().is_some() {
        // Nothing is forbidden to root; and others may not look where it is.
        let folder = folder.insert(place::new_folder(true));
        let copy = folder.path().join("pg_salvage");
        std::fs::copy(program, &copy).expect("a copy of the program");
        let mut command = owner::command(&copy);
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary can be run")
    } else {
        begin(words)
    };
    let part = dir.join("data/public.slow.copy.zst.part");
    let begun = Instant::now();
    while !std::fs::metadata(&part).is_ok_and(|m| m.len() > 100_000) {
        assert!(begun.elapsed() < PATIENCE, "the slow table was not begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    meanwhile();
    Ran::wait(child)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_closed_meanwhile_is_one_clear_line() {
    let server = server().await;
    let folder = place::new_folder(true);
    let dir: PathBuf = folder.path().join("out");
    let data = dir.join("data");
    let close =
        |mode| std::fs::set_permissions(&data, std::fs::Permissions::from_mode(mode)).unwrap();
    let ran = dump_while_slow(words(&server, &dir, &[]), &dir, true, || close(0o500));
    close(0o700);
    assert_one_line(&ran, 1, &["could not ", "public.", "Permission denied"]);
    let finished = finished(&server, &dir, &ran).await;
    assert_eq!(finished, set(&["first"]), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn something_in_the_way_of_a_file_is_one_clear_line() {
    let server = server().await;
    for (in_the_way, said) in [
        ("public.third.copy.zst", "could not rename file"),
        ("public.third.copy.zst.part", "could not create file"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("out");
        let path = dir.join("data").join(in_the_way);
        let words = words(&server, &dir, &[]);
        let ran = dump_while_slow(words, &dir, false, || std::fs::create_dir(&path).unwrap());
        assert_one_line(&ran, 1, &[said, "public.third.copy.zst"]);
        std::fs::remove_dir(&path).unwrap();
        let finished = finished(&server, &dir, &ran).await;
        assert_eq!(finished, set(&["first", "second", "slow"]), "{}", ran.stderr);
    }
}

/// A full disk ends a run; where there is space, it is gone on with.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_on_a_full_disk_is_ended_where_there_is_space() {
    let server = server().await;
    for (size, min_free, code) in [("8m", "0", 1), ("32m", "16MB", 3)] {
        let Some(disk) = SmallDisk::full_at(size) else { return };
        let dir = disk.path().join("out");
        let options = ["-j2", "--split-size=8MB", "-Z", "none", "--min-free", min_free];
        let ran = run(words(&server, &dir, &options));
        assert_eq!(ran.code, code, "{}", ran.stderr);
        let folder = tempfile::tempdir().unwrap();
        let moved = folder.path().join("out");
        let copied = std::process::Command::new("cp").arg("-a").args([&dir, &moved]).status();
        assert!(copied.is_ok_and(|status| status.success()));
        let options = [&options[..4], &["--min-free", "0", "--resume"]].concat();
        let ran = run(words(&server, &moved, &options));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let json = std::fs::read(moved.join("manifest.json")).unwrap();
        let manifest = Manifest::from_json(&json).expect("a whole manifest");
        assert!(manifest.relations.iter().all(|r| r.status == RelationStatus::Clean));
        let truth = oracle::database(&server, DB).await;
        for (relation, rows) in truth {
            let path = moved.join(format!("data/public.{}.copy", relation.name));
            let bytes = oracle::read_file(&path).await;
            let lines: Vec<u8> =
                rows.iter().flat_map(|row| [row.line.as_slice(), b"\n"].concat()).collect();
            assert!(bytes == lines, "{}", relation.name);
        }
        let parts = names_in(&moved.join("data")).into_iter().filter(|n| n.contains(".part"));
        assert_eq!(parts.count(), 0);
    }
}
