//! Rows that take the server down although nothing of their pages looks insane: what
//! is left of them is had from the bytes.

use super::{PROGRAM, RAW};
use crate::kit::dumped::{Dumped, dump, go_on};
use crate::kit::oracle::{self, Row};
use crate::kit::places::{Places, read_page, write_page};
use crate::kit::{Server, ServerOptions, Stop, Version};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use std::time::Duration;

const DB: &str = "postgres";

/// `JB_FARRAY`, and more elements than any array has: its strings are a gigabyte away.
const ARRAY_OF_TOO_MANY: u32 = 0x4FFF_FFFF;

/// A table of some pages; the last row of its second page takes the server down, and,
/// if there are two, one in the middle of its first.
async fn served(version: &Version, two: bool) -> (Server, Vec<Row>, Vec<usize>) {
    let server = Server::start(version, ServerOptions::default());
    let sql = "CREATE TABLE t (id int, list jsonb, note text);
        INSERT INTO t SELECT i, jsonb_build_array('marker-' || i || '-'), 'row ' || i
            FROM generate_series(1, 400) i";
    server.execute(DB, sql).await;
    let client = oracle::session(&server, DB).await;
    let columns = oracle::columns(&client, "public.t").await;
    let rows = oracle::rows(&client, "public.t", &columns).await;
    let places = Places::of(&client, "public.t").await;
    drop(client);
    assert_eq!(server.stop(), Stop::Clean);
    let last = rows.iter().rposition(|row| row.block == 1).expect("a row");
    let bad: Vec<usize> = if two { vec![40, last] } else { vec![last] };
    for &row in &bad {
        let mut page = read_page(&server, &places.main, rows[row].block);
        let marker = format!("marker-{}-", row + 1).into_bytes();
        let at = page.bytes.windows(marker.len()).position(|bytes| bytes == marker);
        page.put(at.expect("its place") - 8, &ARRAY_OF_TOO_MANY.to_le_bytes());
        write_page(&server, &places.main, &page);
    }
    server.start_again();
    (server, rows, bad)
}

/// All rows are there once, those that take the server down without their lists.
async fn assert_had(dumped: &Dumped, rows: &[Row], bad: &[usize]) {
    let entry = dumped.relation("t");
    let mut lines = dumped.lines(entry, RowClass::Clean).await;
    lines.extend(dumped.lines(entry, RowClass::Suspect).await);
    lines.sort_unstable();
    let healthy = rows.iter().enumerate().filter(|(i, _)| !bad.contains(i));
    let mut wanted: Vec<Vec<u8>> = healthy.map(|(_, row)| row.line.clone()).collect();
    wanted.sort_unstable();
    assert!(lines == wanted, "{} rows of {}: {entry:#?}", lines.len(), wanted.len());
    let partial = dumped.lines(entry, RowClass::Partial).await;
    let wanted = bad.iter().map(|row| format!("{0}\t\\N\trow {0}", row + 1).into_bytes());
    assert_eq!(partial, wanted.collect::<Vec<_>>(), "{entry:#?}");
    assert_eq!(entry.status, RelationStatus::Salvaged, "{entry:#?}");
    // Each is named, by the column that is lost.
    let lost: Vec<_> = entry.lost.iter().map(|l| (l.ctid.clone(), l.column.clone())).collect();
    let named = bad.iter().map(|&row| {
        let Row { block, offset, .. } = rows[row];
        (Some(format!("({block},{offset})")), Some("list".to_owned()))
    });
    assert_eq!(lost, named.collect::<Vec<_>>(), "{:#?}", entry.lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_a_row_that_takes_the_server_down_are_had_from_its_bytes() {
    for version in Version::one_or_two() {
        let (server, rows, bad) = served(&version, true).await;
        for options in [&["-j1"][..], &["-j2", "--split-size", "16kB"]] {
            let options = [options, &[RAW, "--max-crashes", "20"]].concat();
            let dumped = dump(PROGRAM, &server, DB, &options);
            assert_eq!(dumped.manifest.exit_code, 2, "{}: {}", version.major, dumped.said);
            assert_had(&dumped, &rows, &bad).await;
        }
        let dumped = dump(PROGRAM, &server, DB, &["--max-crashes", "20"]);
        let lost: Vec<&str> = dumped.relation("t").lost.iter().map(|l| l.cause.as_str()).collect();
        assert_eq!(lost, ["server_crash", "server_crash"], "without --raw-rows it takes it down");
    }
}

/// What was known of it when the run ended is known to the next, which decodes it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_gone_on_with_has_them_too() {
    let (server, rows, bad) = served(&Version::newest(), false).await;
    let mut dumped = dump(PROGRAM, &server, DB, &["-j1", RAW, "--max-crashes", "3"]);
    assert_eq!(dumped.manifest.exit_code, 3, "{}", dumped.said);
    let partial = dumped.lines(dumped.relation("t"), RowClass::Partial).await;
    assert_eq!(partial.len(), bad.len(), "had although nothing may be risked any more");
    dumped = go_on(PROGRAM, &server, DB, dumped, &["-j1", RAW, "--max-crashes", "20"]);
    assert_eq!(dumped.manifest.exit_code, 2, "{}", dumped.said);
    assert_had(&dumped, &rows, &bad).await;
}

/// When somebody has written, the relation is read from its beginning; one that takes
/// the server down is known by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_relation_that_is_begun_again_has_them_too() {
    let (server, rows, bad) = served(&Version::newest(), true).await;
    server.execute(DB, "CREATE TABLE w (n int)").await;
    let dumped = written_to_meanwhile(&server, "20");
    assert!(dumped.said.contains("is read from its beginning"), "{}", dumped.said);
    assert_eq!(dumped.manifest.exit_code, 2, "{}", dumped.said);
    assert_had(&dumped, &rows, &bad).await;
}

/// What was read before is kept where nothing may be risked any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_the_last_crash_is_kept_though_somebody_has_written() {
    let (server, rows, _) = served(&Version::newest(), false).await;
    server.execute(DB, "CREATE TABLE w (n int)").await;
    let dumped = written_to_meanwhile(&server, "3");
    assert_eq!(dumped.manifest.exit_code, 3, "{}", dumped.said);
    let entry = dumped.relation("t");
    let before = rows.iter().filter(|row| row.block == 0).count() as u64;
    assert!(entry.rows.clean >= before, "{entry:#?}");
}

/// Somebody writes after the third crash: so many it costs until the first is known.
fn written_to_meanwhile(server: &Server, max_crashes: &str) -> Dumped {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            while server.crashes() < 3 || !runtime.block_on(has_written(server)) {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let options = ["-j1", "-t", "t", RAW, "--max-crashes", max_crashes];
        dump(PROGRAM, server, DB, &options)
    })
}

async fn has_written(server: &Server) -> bool {
    let Ok(client) = server.try_connect(DB).await else { return false };
    client.batch_execute("INSERT INTO w VALUES (1)").await.is_ok()
}
