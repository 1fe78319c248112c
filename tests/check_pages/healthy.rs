//! Where nothing is wrong, looking at pages changes nothing; and who may not look
//! is told what allows it.

use super::*;
use crate::kit::dumped::dump_as;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// Of all kinds of tables, with columns dropped and added and NULLs.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_on_pages_of_an_undamaged_server() {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(false));
    sample::create(&server, "sample", 1).await;
    server.restart();
    let ever = dump(PROGRAM, &server, "sample", &["-j2", NEVER]);
    let looked = dump(PROGRAM, &server, "sample", &["-j2", ALWAYS]);
    check_same(&looked, &ever, "always").await;
    assert!(looked.manifest.warnings.iter().all(|w| !w.contains("pages")), "{}", looked.said);
}

const ACCOUNTS: usize = 20_000;

/// Money is moved between accounts, pages are pruned, written and extended.
async fn write(server: &Server, worker: usize, stop: &AtomicBool) {
    let client = server.connect(DB).await;
    let mut round = worker;
    while !stop.load(Relaxed) {
        round += 7;
        let (one, other) = (1 + round * 31 % ACCOUNTS, 1 + round * 57 % ACCOUNTS);
        let sql = match round % 97 {
            0 => "CHECKPOINT".to_owned(),
            1 => "VACUUM accounts".to_owned(),
            _ => format!(
                "UPDATE accounts SET balance = balance
                     + CASE WHEN id BETWEEN {one} AND {one} + 49 THEN 1 ELSE -1 END
                 WHERE (id BETWEEN {one} AND {one} + 49 OR id BETWEEN {other} AND {other} + 49)
                     AND {one} + 49 < {other} AND {other} + 49 <= {ACCOUNTS}"
            ),
        };
        // Two that wait for each other are no matter.
        let _ = client.batch_execute(&sql).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_written_to_is_clean_and_of_one_moment() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(false));
        let sql = format!(
            "CREATE TABLE accounts (id int PRIMARY KEY, balance int, filler text);
             INSERT INTO accounts SELECT i, 0, repeat('x', i % 90) FROM generate_series(1, {ACCOUNTS}) i"
        );
        server.execute(DB, &sql).await;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                    runtime.block_on(write(server, worker, stop));
                });
            }
            let dumps: Vec<Dumped> = (0..3)
                .map(|_| dump(PROGRAM, &server, DB, &["-j2", ALWAYS, "--split-size", "256kB"]))
                .collect();
            stop.store(true, Relaxed);
            let runtime = tokio::runtime::Handle::current();
            for dumped in dumps {
                assert_eq!(dumped.manifest.exit_code, 0, "{}: {}", version.major, dumped.said);
                let lines = dumped.lines(dumped.relation("accounts"), RowClass::Clean);
                let lines = tokio::task::block_in_place(|| runtime.block_on(lines));
                let field = |line: &[u8], i: usize| {
                    let field = line.split(|&b| b == b'\t').nth(i).expect("a field");
                    std::str::from_utf8(field).expect("digits").parse::<i64>().expect("a number")
                };
                let ids: BTreeSet<i64> = lines.iter().map(|line| field(line, 0)).collect();
                assert_eq!((lines.len(), ids.len()), (ACCOUNTS, ACCOUNTS));
                assert_eq!(lines.iter().map(|line| field(line, 1)).sum::<i64>(), 0);
            }
        });
        let moved = "SELECT count(*) FROM accounts WHERE balance <> 0";
        let client = server.connect(DB).await;
        let moved: i64 = client.query_one(moved, &[]).await.expect("a count").get(0);
        assert!(moved > 1000, "{moved} accounts were written to");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_files_is_told_what_allows_it_and_reads_all_the_same() {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(false));
    server
        .execute(
            DB,
            "CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i;
             CREATE ROLE \"night watch\" LOGIN; GRANT pg_read_all_data TO \"night watch\"",
        )
        .await;
    let dumped = |options: &[&str]| {
        let dumped = dump_as(PROGRAM, &server, ("'night watch'", DB), options);
        assert_eq!(dumped.manifest.exit_code, 0, "{}", dumped.said);
        assert_eq!(dumped.relation("t").rows.clean, 1000, "{}", dumped.said);
        dumped
    };
    let grant = |dumped: &Dumped| {
        let of = dumped.manifest.warnings.iter().filter(|w| w.contains("pages are not checked"));
        let of: Vec<String> = of.cloned().collect();
        assert!(of.len() <= 1, "it is said once: {of:?}");
        of.first().map(|w| w.split_once("in this database: ").expect("a GRANT").1.to_owned())
    };
    for silent in [&[][..], &[NEVER]] {
        assert_eq!(grant(&dumped(silent)), None);
    }
    let told = grant(&dumped(&[ALWAYS])).expect("a warning");
    assert!(told.starts_with("GRANT EXECUTE ON FUNCTION") && told.contains("\"night watch\""));
    server.execute(DB, &told).await;
    assert_eq!(grant(&dumped(&[ALWAYS])), None);
}
