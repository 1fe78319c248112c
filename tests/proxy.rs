//! The way to the server breaks while a dump runs: connections are cut in the
//! middle of a COPY, one by one or all at once, while the server is well. No
//! row is lost or repeated, and none of it is taken for damage or a crash.
//!
//! Not tested here: a connection that is silent for ever (half-open). From the
//! outside it is a read that hangs.

use crate::binary::{Dump, Ran, begin, dump, run, truth};
use crate::kit::proxy::Plan;
use crate::kit::version::is_wide;
use crate::kit::{Cut, Proxy, Server, ServerOptions, Version, sample};
use pg_salvage::output::manifest::RelationStatus;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DB: &str = "shop";
const PATIENCE: Duration = Duration::from_secs(60);

/// A table of some 50 MB, and small ones.
async fn server(version: &Version) -> Server {
    let server = Server::start(version, ServerOptions::checksums(true));
    server.create_database(DB).await;
    let sql = "CREATE TABLE large AS SELECT i, repeat(md5(i::text), 2) AS t FROM generate_series(1, 500000) i;
        CREATE UNLOGGED TABLE unlogged AS SELECT i, md5(i::text) AS t FROM generate_series(1, 100000) i;
        CREATE TABLE small AS SELECT i, md5(i::text) AS t FROM generate_series(1, 1000) i;";
    server.execute(DB, sql).await;
    server
}

/// The words of a dump by way of the proxy.
fn words(proxy: &Proxy, user: &str, options: &[&str]) -> (TempDir, PathBuf, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("dump");
    let conninfo = proxy.conninfo(user, DB);
    let mut words = vec![
        "dump",
        "--no-schema",
        "-w",
        "--no-sync",
        "-d",
        &conninfo,
        "-f",
        dir.to_str().expect("UTF-8"),
    ];
    words.extend(options);
    let words = words.into_iter().map(str::to_owned).collect();
    (folder, dir, words)
}

async fn dump_by(server: &Server, proxy: &Proxy, options: &[&str]) -> Dump {
    let (folder, dir, words) = words(proxy, "postgres", options);
    let ran = tokio::task::spawn_blocking(move || run(words)).await.expect("no panic");
    let case = dump::case(server, &format!("{:?}, {}", proxy, options.join(" ")));
    Dump::read(case, ran, dir, Some(folder))
}

fn assert_no_crash(dump: &Dump) {
    let down = dump.manifest.warnings.iter().any(|w| w.contains("went down"));
    assert!(!down, "{}: {:?}", dump.case, dump.manifest.warnings);
}

/// Far more cuts than tries: what came counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_every_few_megabytes_costs_no_row() {
    for version in Version::one_or_two() {
        let server = server(&version).await;
        let truth = truth::of(&server, DB).await;
        for options in [&["-j1"][..], &["-j3", "--split-size=16MB"]] {
            let plan = Plan { cut: Cut::Close, after: Some((3_000_000, 3_000_000)), seed: 1 };
            let proxy = Proxy::start(&server, plan).await;
            let dump = dump_by(&server, &proxy, options).await;
            assert!(proxy.cuts() > 10, "{}: {} cuts", dump.case, proxy.cuts());
            dump.assert_equals(&truth).await;
            assert_eq!(dump.ran.code, 0, "{}: {}", dump.case, dump.ran.stderr);
            assert_no_crash(&dump);
            dump.assert_tidy();
        }
    }
}

/// Of everything, and by resets, which throw away what was on its way.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_reset_at_random_cost_no_row() {
    let version = Version::newest();
    let server = Server::start(&version, ServerOptions::checksums(true));
    sample::create(&server, DB, 4).await;
    let large =
        "CREATE TABLE large AS SELECT i, md5(i::text) AS t FROM generate_series(1, 100000) i";
    server.execute(DB, large).await;
    let truth = truth::of(&server, DB).await;
    for seed in 1..=if is_wide() { 9 } else { 2 } {
        let plan = Plan { cut: Cut::Reset, after: Some((1_000_000, 2_000_000)), seed };
        let proxy = Proxy::start(&server, plan).await;
        let split = if seed % 2 == 0 { "--split-size=256kB" } else { "--split-size=1GB" };
        let dump = dump_by(&server, &proxy, &["-j2", split]).await;
        assert!(proxy.cuts() > 2, "{}: {} cuts", dump.case, proxy.cuts());
        dump.assert_equals(&truth).await;
        assert_eq!(dump.ran.code, 0, "{}: {}", dump.case, dump.ran.stderr);
        assert_no_crash(&dump);
    }
}

/// All that was read for it, up to one row that does not come through.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_never_comes_through_is_lost_alone_and_is_no_damage() {
    let server = server(&Version::newest()).await;
    let wide =
        "INSERT INTO small SELECT 0, string_agg(md5(i::text), '') FROM generate_series(1, 60000) i;
        INSERT INTO small SELECT i, md5(i::text) AS t FROM generate_series(1001, 2000) i;";
    server.execute(DB, wide).await;
    let truth = truth::of(&server, DB).await;
    let plan = Plan { cut: Cut::Close, after: Some((1_500_000, 1_500_000)), seed: 1 };
    let proxy = Proxy::start(&server, plan).await;
    let dump = dump_by(&server, &proxy, &["-t", "small", "--max-crashes", "0"]).await;
    let entry = dump.relation("small");
    let all = truth[&entry.oid].rows.clone().unwrap();
    let expected: Vec<u8> = all
        .split_inclusive(|&b| b == b'\n')
        .filter(|l| !l.starts_with(b"0\t"))
        .flatten()
        .copied()
        .collect();
    assert!(dump.clean_rows(entry).await == expected, "{}: {entry:#?}", dump.case);
    let causes: Vec<(&str, bool)> =
        entry.lost.iter().map(|l| (l.cause.as_str(), l.ctid.is_some())).collect();
    assert_eq!(causes, [("connection_lost", true)], "{}", dump.case);
    assert_eq!((entry.status, dump.ran.code), (RelationStatus::Failed, 3), "{}", dump.case);
    let reason = "the connection was lost each time that some of it was read";
    assert_eq!(entry.reason.as_deref(), Some(reason), "{}", dump.case);
    assert_no_crash(&dump);
}

fn wait_for_part(path: &Path, child: &mut std::process::Child) {
    let begun = Instant::now();
    while !std::fs::metadata(path).is_ok_and(|m| m.len() > 100_000) {
        assert!(
            child.try_wait().expect("it is ours").is_none(),
            "it was over before anything could happen"
        );
        assert!(begun.elapsed() < PATIENCE, "the table was not begun");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All sessions at once, the one that holds the snapshot too, and nobody is let
/// in for a while: as if the server had gone down, but it has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_goes_away_is_no_crash() {
    for (version, user) in [(Version::newest(), "postgres"), (Version::major(15), "reader")] {
        let server = server(&version).await;
        let sql = "CREATE ROLE reader LOGIN IN ROLE pg_read_all_data";
        server.execute(DB, sql).await;
        let truth = truth::of(&server, DB).await;
        let plan = Plan { cut: Cut::Close, after: None, seed: 1 };
        let proxy = Proxy::start(&server, plan).await;
        let options = ["-j2", "-Z", "zstd:12", "--split-size=8MB", "--max-crashes", "0"];
        let (folder, dir, words) = words(&proxy, user, &options);
        let mut child = begin(words);
        wait_for_part(&dir.join("data/public.large.copy.zst.part"), &mut child);
        for _ in 0..2 {
            proxy.go_away_for(Duration::from_millis(700)).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let ran = tokio::task::spawn_blocking(|| Ran::wait(child)).await.expect("no panic");
        let dump = Dump::read(dump::case(&server, user), ran, dir, Some(folder));
        dump.assert_equals(&truth).await;
        assert_eq!(dump.ran.code, 0, "{}: {}", dump.case, dump.ran.stderr);
        assert!(dump.manifest.snapshots.len() > 1, "{}: nothing was cut", dump.case);
        assert_no_crash(&dump);
    }
}

/// A little more than what lets the catalogs through: the cut comes where sequences and sizes are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_before_the_first_row_is_begun_again() {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    server.create_database(DB).await;
    let sql = "CREATE TABLE t (id serial, t text);
        INSERT INTO t (t) SELECT md5(i::text) FROM generate_series(1, 500) i; CHECKPOINT";
    server.execute(DB, sql).await;
    let truth = truth::of(&server, DB).await;
    let dump_at = async |limit: u64| {
        let plan = Plan { cut: Cut::Close, after: Some((limit, limit)), seed: 1 };
        let proxy = Proxy::start(&server, plan).await;
        let (folder, dir, words) = words(&proxy, "postgres", &["-v", "--max-crashes", "0"]);
        let ran = tokio::task::spawn_blocking(move || run(words)).await.expect("no panic");
        (folder, dir, ran)
    };
    let (mut too_little, mut enough) = (1_000_u64, 4_000_000);
    while enough - too_little > 1 {
        let limit = too_little.midpoint(enough);
        match dump_at(limit).await.2.code {
            0 => enough = limit,
            _ => too_little = limit,
        }
    }
    // Numbers are not of one length in every run.
    let mut begun_again = 0;
    for limit in (enough - 40..enough + 400).step_by(40) {
        let (folder, dir, ran) = dump_at(limit).await;
        if ran.code == 1 {
            continue;
        }
        begun_again += usize::from(ran.stderr.contains("beginning again"));
        let dump = Dump::read(format!("{limit} bytes"), ran, dir, Some(folder));
        dump.assert_equals(&truth).await;
        assert_eq!(dump.ran.code, 0, "{}: {}", dump.case, dump.ran.stderr);
    }
    assert!(begun_again > 0, "around {enough} bytes");
}

fn swallowing() -> Plan {
    Plan { cut: Cut::Close, after: None, seed: 1 }
}

/// Read again, whole or in ranges, and then it has come.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_swallowed_on_its_way_is_missed_and_read_again() {
    for version in Version::one_or_two() {
        let server = server(&version).await;
        let truth = truth::of(&server, DB).await;
        for options in [&["-j1"][..], &["-j2", "--split-size=16MB"]] {
            for times in [1, 2] {
                let proxy = Proxy::start(&server, swallowing()).await;
                proxy.swallow("333333\t", times);
                let dump = dump_by(&server, &proxy, options).await;
                assert_eq!(proxy.swallowed(), times, "{}", dump.case);
                dump.assert_equals(&truth).await;
                assert_eq!(dump.ran.code, 0, "{}: {}", dump.case, dump.ran.stderr);
                let missed = dump.ran.stderr.matches("the server has sent").count() as u64;
                assert_eq!(missed, times, "{}: {}", dump.case, dump.ran.stderr);
                dump.assert_tidy();
            }
        }
    }
}

/// By the count alone: no error tells of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_always_swallowed_is_lost_alone_and_the_table_is_incomplete() {
    for version in Version::one_or_two() {
        let server = server(&version).await;
        let truth = truth::of(&server, DB).await;
        for (table, row) in [("small", "777\t"), ("large", "333333\t")] {
            let proxy = Proxy::start(&server, swallowing()).await;
            proxy.swallow(row, u64::MAX);
            let dump = dump_by(&server, &proxy, &["-t", table]).await;
            let entry = dump.relation(table);
            let all = truth[&entry.oid].rows.clone().unwrap();
            let is_swallowed = |l: &[u8]| l.windows(row.len()).any(|w| w == row.as_bytes());
            let lines = all.split_inclusive(|&b| b == b'\n');
            let expected: Vec<u8> = lines.filter(|l| !is_swallowed(l)).flatten().copied().collect();
            assert!(dump.clean_rows(entry).await == expected, "{}: {entry:#?}", dump.case);
            let causes: Vec<(&str, bool)> =
                entry.lost.iter().map(|l| (l.cause.as_str(), l.ctid.is_some())).collect();
            assert_eq!(causes, [("silent_loss", true)], "{}", dump.case);
            assert_eq!((entry.status, dump.ran.code), (RelationStatus::Failed, 3), "{}", dump.case);
            let reason = entry.reason.as_deref().unwrap_or_default();
            assert!(reason.contains("something on the way loses them"), "{}: {reason}", dump.case);
            assert_no_crash(&dump);
        }
    }
}
