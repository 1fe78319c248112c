//! Nothing is written to the server that is read: no statement of a dump or a
//! verify could, whatever is damaged; on a copy in standby mode no byte of any
//! file changes; and what a primary wrote meanwhile is told.

mod files;
pub(crate) mod statements;

use crate::kit::dumped::{Dumped, dump, dump_as, dump_with};
use crate::kit::version::is_wide;
use crate::kit::{
    ChecksumAfter, Harm, Place, Places, Plan, Server, ServerOptions, Stop, Version, Ward,
};
use crate::kit::{harm, oracle, sample};
use files::{by_the_server, changed, files};
use pg_salvage::output::manifest::Wal;
use regex::Regex;
use statements::{complaint, statements, without_names};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

/// Has every statement logged from now on.
fn log_statements(server: &Server) {
    let conf = server.data_dir().join("postgresql.conf");
    let mut conf = OpenOptions::new().append(true).open(conf).expect("postgresql.conf");
    conf.write_all(b"log_statement = 'all'\n").expect("a setting");
}

fn stopped(server: &Server) {
    assert_eq!(server.stop(), Stop::Clean);
}

fn verify(server: &Server, options: &[&str]) -> Option<i32> {
    let out = Command::new(PROGRAM)
        .args(["verify", "-d"])
        .arg(server.conninfo(DB))
        .args(options)
        .output()
        .expect("the program starts");
    out.status.code()
}

/// Reads the database in every way, and looks at all that was sent.
fn check_statements(server: &Server, at: &str) -> BTreeSet<String> {
    log_statements(server);
    server.start_again();
    let from = server.log().len();
    let slow = ["-j2", "--max-crashes", "100", "--check-counts", "always"];
    let dumped = dump(PROGRAM, server, DB, &slow);
    assert_eq!(dumped.manifest.exit_code, 2, "{at}: {}", dumped.said);
    let split = ["-j2", "--max-crashes", "100", "--split-size", "64kB"];
    let split = [&split[..], &["--check-pages", "always", "--raw-rows=auto"]].concat();
    let dumped = dump(PROGRAM, server, DB, &split);
    assert_eq!(dumped.manifest.exit_code, 2, "{at}: {}", dumped.said);
    // No such program: the schema is described by our own statements.
    let described = ["-j2", "--max-crashes", "100", "--pg-dump", "/nowhere/pg_dump"];
    let dumped = dump(PROGRAM, server, DB, &described);
    assert_eq!(dumped.manifest.exit_code, 2, "{at}: {}", dumped.said);
    assert_eq!(verify(server, &["--max-crashes", "100"]), Some(2), "{at}");
    assert_eq!(verify(server, &["--pages", "--no-pgdata"]), Some(2), "{at}");
    // Last, since bad pages are good ones for everybody from then on.
    let unchecked = [&split[..], &["--ignore-checksum-failure", "--allow-on-primary"]].concat();
    let dumped = dump(PROGRAM, server, DB, &unchecked);
    assert_eq!(dumped.manifest.exit_code, 2, "{at}: {}", dumped.said);
    let log = server.log();
    let sent = statements(&log[from..]);
    assert!(sent.len() > 500, "{at}: {} statements", sent.len());
    for sql in &sent {
        if let Some(complaint) = complaint(sql) {
            panic!("{at}: {complaint}");
        }
    }
    sent.into_iter().collect()
}

/// Of each way to read, one statement: else not every way was gone.
fn assert_every_way(sent: &BTreeSet<String>, tid_ranges: bool, at: &str) {
    let ways = [
        ("plain COPY", r"^COPY I\.I"),
        ("tagged blocks", r"^COPY \(SELECT ctid, I.* WHERE ctid (>=|= ANY \(ARRAY)"),
        ("tuples", r"^COPY \(SELECT ctid, I.* WHERE ctid = ANY \(S\)"),
        ("the first rows", r" LIMIT \d+\) TO STDOUT"),
        ("can it be planned", r"WHERE ctid = S\) TO STDOUT"),
        ("how large is the value", r"GREATEST\(0"),
        ("a sequence", r"^SELECT 0, last_value"),
        ("rows by an index", r"^EXPLAIN SELECT pg_catalog.count"),
        ("the length of a file", r"^SELECT relpages"),
    ];
    let sent: Vec<String> = sent.iter().map(|sql| without_names(sql)).collect();
    for (way, pattern) in ways {
        let pattern = Regex::new(pattern).expect("a pattern");
        let gone = sent.iter().any(|sql| pattern.is_match(sql));
        // Without ranges nothing is known of the first rows.
        assert!(gone || way == "the first rows" && !tid_ranges, "{at}: {way} was not tried");
    }
}

/// Damages a server in every way, reads it, and looks at all that was sent.
async fn check_damaged(version: &Version, plan: Plan) {
    let at = format!("{}, {plan:?}", version.major);
    let ward = Ward::open(version, plan).await;
    let server = &ward.server;
    let sql = "CREATE TABLE fed (id serial, x text); INSERT INTO fed (x) SELECT 'x' FROM generate_series(1, 100);
        CREATE TABLE cut (id int PRIMARY KEY, x text);
        INSERT INTO cut SELECT i, repeat('x', 100) FROM generate_series(1, 5000) i;
        CREATE TABLE well AS SELECT * FROM cut; ALTER TABLE well ADD PRIMARY KEY (id);
        CREATE MATERIALIZED VIEW seen AS SELECT * FROM fed;
        SELECT lo_from_bytea(0, convert_to(repeat('large', 10000), 'UTF8'))";
    server.execute(DB, sql).await;
    server.execute(DB, "VACUUM (ANALYZE) cut").await;
    server.execute(DB, "VACUUM (ANALYZE) well").await;
    server.execute(DB, "CHECKPOINT").await;
    let client = oracle::session(server, DB).await;
    let sequence = Places::of(&client, "public.fed_id_seq").await;
    let cut = Places::of(&client, "public.cut").await;
    drop(client);
    stopped(server);
    let header = Harm::SequenceBadPageHeader;
    harm(server, &sequence, header, Place::first(), ChecksumAfter::Stale);
    harm(server, &cut, Harm::TruncateAt, Place::middle(cut.blocks), ChecksumAfter::Stale);
    let sent = check_statements(server, &at);
    if !plan.checksums {
        assert_every_way(&sent, version.major >= 14, &at);
    }
}

/// Without checksums every way is tried.
const EVERY_WAY: Plan = Plan { fresh: true, ..Plan::new(false) };

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_damaged_no_statement_writes() {
    let plans = [EVERY_WAY, Plan::new(true)];
    for version in &Version::one_or_two() {
        let plans = if is_wide() { &plans[..] } else { &plans[..1] };
        for &plan in plans {
            check_damaged(version, plan).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_damaged_no_statement_writes_to_an_old_server() {
    for version in Version::between(10, if is_wide() { 13 } else { 10 }) {
        check_damaged(&version, EVERY_WAY).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_planned_no_statement_writes() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::victims(&server, DB, &["one", "two"]).await;
        server.execute(DB, "ANALYZE").await;
        server.execute(DB, "CHECKPOINT").await;
        let client = oracle::session(&server, DB).await;
        let statistics = Places::of(&client, "pg_catalog.pg_statistic").await;
        let one = Places::of(&client, "public.one").await;
        drop(client);
        stopped(&server);
        for block in 0..statistics.blocks {
            let at = Place { block, offset: 1 };
            harm(&server, &statistics, Harm::BadPageHeader, at, ChecksumAfter::Stale);
        }
        let middle = Place::middle(one.blocks);
        harm(&server, &one, Harm::BadPageHeader, middle, ChecksumAfter::Stale);
        log_statements(&server);
        server.start_again();
        let from = server.log().len();
        dump(PROGRAM, &server, DB, &["-j2"]);
        let sent = statements(&server.log()[from..]);
        assert!(sent.len() > 50, "{} statements", sent.len());
        let complaints: Vec<String> = sent.iter().filter_map(|sql| complaint(sql)).collect();
        assert_eq!(complaints, Vec::<String>::new(), "{}", version.major);
    }
}

/// It asks the server for the keys of lost rows.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_files_sends_no_statement_that_writes_either() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let sql = "CREATE TABLE t (id int PRIMARY KEY, x text);
            INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 5000) i;
            CREATE ROLE reader LOGIN; GRANT SELECT ON t TO reader";
        server.execute(DB, sql).await;
        server.execute(DB, "VACUUM (ANALYZE) t").await;
        server.execute(DB, "CHECKPOINT").await;
        let places = Places::of(&oracle::session(&server, DB).await, "public.t").await;
        stopped(&server);
        let at = Place::middle(places.blocks);
        harm(&server, &places, Harm::BadPageHeader, at, ChecksumAfter::Stale);
        log_statements(&server);
        server.start_again();
        let from = server.log().len();
        let dumped = dump_as(PROGRAM, &server, ("reader", DB), &["-t", "t"]);
        let keys = dumped.relation("t").lost_keys.as_ref();
        assert!(keys.is_some_and(|keys| keys.rows > 10), "{keys:#?}");
        let sent = statements(&server.log()[from..]);
        let complaints: Vec<String> = sent.iter().filter_map(|sql| complaint(sql)).collect();
        assert_eq!(complaints, Vec::<String>::new(), "{}", version.major);
        for way in ["EXPLAIN SELECT", "COPY (SELECT"] {
            let is_sent = |sql: &&String| sql.starts_with(way) && sql.contains("EXCEPT ALL");
            assert_eq!(sent.iter().filter(is_sent).count(), 1, "{way}: {sent:#?}");
        }
    }
}

/// Rows without hint bits among them: on a primary, reading sets those.
async fn fresh(version: &Version, checksums: bool) -> Ward {
    let ward = Ward::open(version, Plan { fresh: true, ..Plan::new(checksums) }).await;
    stopped(&ward.server);
    ward
}

/// With checksums, or `wal_log_hints` on, a server in recovery sets no hint bit.
/// It cleans up no page in any case.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_a_copy_in_standby_mode_changes_no_byte_of_it() {
    for version in Version::one_or_two() {
        for checksums in [true, false] {
            let at = format!("{}, checksums {checksums}", version.major);
            let ward = fresh(&version, checksums).await;
            // Its primary is not there.
            let standby = ward.server.copy_as_standby();
            let conf = standby.data_dir().join("postgresql.conf");
            let mut conf = OpenOptions::new().append(true).open(conf).expect("postgresql.conf");
            conf.write_all(b"wal_log_hints = on\n").expect("a setting");
            // What the first start does is not of the dump.
            standby.start_again();
            stopped(&standby);
            let before = files(&standby);
            standby.start_again();
            let dumped = dump(PROGRAM, &standby, DB, &["-j2", "--max-crashes", "100"]);
            assert_eq!(dumped.manifest.exit_code, 2, "{at}: {}", dumped.said);
            assert!(dumped.manifest.server.in_recovery, "{at}");
            assert!(dumped.manifest.totals.rows.clean > 10_000, "{at}: {}", dumped.said);
            let wal = dumped.manifest.server.wal.expect("a standby may be asked");
            assert_eq!((wal.bytes, wal.transactions), (0, Some(0)), "{at}");
            stopped(&standby);
            let mut changed = changed(&before, &files(&standby));
            changed.retain(|name| !by_the_server(name));
            assert_eq!(changed, BTreeSet::new(), "{at}");

            // The same on a primary: there is something that would be written.
            let primary = &ward.server;
            primary.start_again();
            stopped(primary);
            let before = files(primary);
            primary.start_again();
            dump(PROGRAM, primary, DB, &["-j2", "--max-crashes", "100"]);
            stopped(primary);
            let changed = self::changed(&before, &files(primary));
            assert!(changed.iter().any(|name| name.starts_with("base/")), "{at}: {changed:?}");
        }
    }
}

async fn wal_of(server: &Server) -> String {
    let client = server.connect(DB).await;
    let row = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await;
    row.expect("a place").get(0)
}

fn wal(dumped: &Dumped) -> &Wal {
    dumped.manifest.server.wal.as_ref().expect("everyone may ask for it")
}

/// `minimal`: the server then writes nothing by itself while nobody does.
fn quiet() -> ServerOptions {
    let options =
        ServerOptions { wal_level: Some("minimal".to_owned()), ..ServerOptions::checksums(true) };
    options.set("full_page_writes", "on")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_wrote_meanwhile_is_told() {
    let mut versions = Version::one_or_two();
    versions.extend(Version::between(10, 13));
    for version in versions {
        let server = Server::start(&version, quiet());
        // The second one is not read to make another of it.
        sample::victims(&server, DB, &["fresh", "fresher"]).await;
        server.execute(DB, "CHECKPOINT").await;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let before = wal_of(&server).await;
            let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
            let at = format!("{}: {}", version.major, dumped.said);
            let told = wal(&dumped);
            assert_eq!((&told.before, &told.after), (&before, &wal_of(&server).await), "{at}");
            assert_eq!(told.transactions, Some(0), "{at}");
            assert_eq!(dumped.said.contains("NOTE: the server wrote"), told.bytes > 0, "{at}");
            assert_eq!(dumped.manifest.exit_code, 0, "{at}");
            seen.push(told.bytes);
        }
        // Hint bits, each page once; then there is nothing left to be written.
        assert!(seen[0] > 8192 && seen[2] == 0, "{}: {seen:?}", version.major);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_of_others_are_told() {
    let server = Server::start(&Version::newest(), quiet());
    let sql = "CREATE TABLE slow AS SELECT i, md5(i::text) m FROM generate_series(1, 600000) i";
    server.execute(DB, sql).await;
    let runtime = tokio::runtime::Handle::current();
    let dumped = dump_with(PROGRAM, &server, DB, &["-j1"], || {
        tokio::task::block_in_place(|| {
            runtime.block_on(server.execute(DB, "CREATE TABLE meanwhile (i int)"));
        });
    });
    assert_eq!(wal(&dumped).transactions, Some(1));
    assert_eq!(dumped.manifest.exit_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_wal_may_not_be_asked_for_nothing_is_told_of_it() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, quiet());
        let sql = "CREATE TABLE t AS SELECT 1 AS i; CREATE ROLE reader LOGIN; GRANT SELECT ON t TO reader;
            REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC";
        server.execute(DB, sql).await;
        for (role, told) in [("postgres", true), ("reader", false)] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let out = Command::new(PROGRAM)
                .args([
                    "dump",
                    "--no-schema",
                    "-U",
                    role,
                    "-p",
                    &server.port().to_string(),
                    "-t",
                    "t",
                    "-h",
                ])
                .arg(server.socket_dir())
                .arg("-f")
                .arg(dir.path())
                .arg(DB)
                .output()
                .expect("the program starts");
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            let dumped = Dumped::read(dir, said);
            assert_eq!(dumped.manifest.server.wal.is_some(), told, "{role} on {}", version.major);
            assert_eq!(out.status.code(), Some(0), "{}", dumped.said);
            assert_eq!(dumped.manifest.warnings, Vec::<String>::new());
        }
    }
}

/// The position before the crash is one of the same log.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_the_server_is_asked_all_the_same() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(false));
        sample::victims(&server, DB, &["freshkiller"]).await;
        let client = oracle::session(&server, DB).await;
        let places = Places::of(&client, "public.freshkiller").await;
        drop(client);
        stopped(&server);
        let middle = Place::middle(places.blocks);
        harm(&server, &places, Harm::VarlenaLength, middle, ChecksumAfter::Stale);
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j1", "--max-crashes", "50"]);
        assert!(server.crashes() > 0, "{}", dumped.said);
        assert_eq!(dumped.manifest.exit_code, 2, "{}", dumped.said);
        // The recovery ends with a checkpoint.
        assert!(wal(&dumped).bytes > 0, "{}", version.major);
    }
}
