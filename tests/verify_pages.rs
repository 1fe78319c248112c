//! `verify --pages`: what is damaged in any file is named, with its place, and
//! nothing else is, whatever others write meanwhile.

mod here;

use crate::kit::json_schema::assert_keeps_to;
use crate::kit::places::{read_page, segment_file, write_page};
use crate::kit::{Server, ServerOptions, Stop, Version};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "pages";

fn verify(server: &Server, role: &str, options: &[&str]) -> Output {
    verify_of(server, (role, DB), options)
}

fn verify_of(server: &Server, (role, dbname): (&str, &str), options: &[&str]) -> Output {
    let conninfo = server.conninfo(dbname).replace("user=postgres", &format!("user={role}"));
    let out = Command::new(PROGRAM)
        .args(["verify", "--pages", "-d"])
        .arg(conninfo)
        .args(options)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    out
}

/// The report, which says the same as the exit code.
fn report(server: &Server, options: &[&str]) -> Value {
    report_of(server, DB, options)
}

pub(crate) fn report_of(server: &Server, dbname: &str, options: &[&str]) -> Value {
    let out = verify_of(server, ("postgres", dbname), &[&["--format", "json"], options].concat());
    let report: Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)));
    assert_eq!(report["exit_code"].as_i64(), out.status.code().map(i64::from), "{report:#}");
    assert_keeps_to(include_str!("../docs/report.schema.json"), &report, "the report");
    report
}

/// Which blocks of which files are named.
fn named(report: &Value) -> BTreeMap<String, BTreeSet<u64>> {
    named_by(report, |_, problem| &problem["file"])
}

/// Which blocks of which relations are named.
pub(crate) fn named_relations(report: &Value) -> BTreeMap<String, BTreeSet<u64>> {
    named_by(report, |relation, _| &relation["name"])
}

fn named_by(
    report: &Value,
    key: impl for<'a> Fn(&'a Value, &'a Value) -> &'a Value,
) -> BTreeMap<String, BTreeSet<u64>> {
    let mut named: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for relation in list(&report["relations"]) {
        for problem in list(&relation["problems"]) {
            assert_eq!(relation["status"], "damaged", "{relation:#}");
            assert!(problem["message"].as_str().is_some_and(|what| !what.is_empty()), "{problem}");
            let name = key(relation, problem).as_str().expect("a name").to_owned();
            named.entry(name).or_default().extend(problem["first_block"].as_u64());
        }
    }
    named
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

/// What was found, but for when.
fn timeless(report: &Value) -> Vec<Value> {
    let mut relations = list(&report["relations"]).clone();
    relations.iter_mut().for_each(|r| r["last_ok"] = Value::Null);
    relations
}

/// Sums over the files.
fn pages<'a>(report: &'a Value, what: &str) -> &'a Value {
    &report["databases"][0]["pages"][what]
}

fn of<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut relations = list(&report["relations"]).iter();
    relations.find(|r| r["name"] == name && r["schema"] == "public").expect("a relation")
}

/// Every kind of index, a table with TOAST, a sequence, an unlogged table.
const OBJECTS: &str =
    "CREATE TABLE t (id serial PRIMARY KEY, n int, words text, p point, tags int[], big text);
    ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
    INSERT INTO t (n, words, p, tags, big) SELECT i % 50, 'w' || i, point(i, -i), ARRAY[i, i % 9],
        CASE WHEN i % 20 = 0 THEN repeat(md5(i::text), 90) END FROM generate_series(1, 4000) i;
    CREATE INDEX t_hash ON t USING hash (n);
    CREATE INDEX t_gist ON t USING gist (p);
    CREATE INDEX t_spgist ON t USING spgist (p);
    CREATE INDEX t_gin ON t USING gin (tags);
    CREATE INDEX t_brin ON t USING brin (id);
    CREATE UNLOGGED TABLE u AS SELECT i FROM generate_series(1, 1000) i;
    CREATE MATERIALIZED VIEW m AS SELECT * FROM t WHERE n < 10;
    DELETE FROM t WHERE id % 3 = 0;";

async fn served(version: &Version, checksums: bool) -> Server {
    let server = Server::start(version, ServerOptions::checksums(checksums));
    server.create_database(DB).await;
    server.execute(DB, OBJECTS).await;
    server.execute(DB, "VACUUM ANALYZE").await;
    server
}

/// The files of relations, by name, with the number of blocks of each.
pub(crate) async fn paths(server: &Server, dbname: &str, names: &[&str]) -> Vec<(String, u32)> {
    let client = server.connect(dbname).await;
    let mut paths = Vec::new();
    for name in names {
        let sql = format!(
            "SELECT pg_relation_filepath(c), (pg_relation_size(c) / 8192)::int FROM ({name}) x(c)"
        );
        let row = client.query_one(&sql, &[]).await.expect("a relation");
        paths.push((row.get(0), u32::try_from(row.get::<_, i32>(1)).expect("blocks")));
    }
    paths
}

pub(crate) fn flip(server: &Server, path: &str, block: u32, at: usize) {
    let mut page = read_page(server, path, block);
    page.flip(at, 0x10);
    write_page(server, path, &page);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wrong_with_what_is_whole_while_others_write() {
    for version in Version::some(10, 18) {
        let checksums = version.major != 15;
        let server = served(&version, checksums).await;
        server.execute(DB, "CHECKPOINT").await;
        let quiet = report(&server, &["-j2"]);
        assert_eq!(quiet["exit_code"], 0, "{}: {quiet:#}", version.major);
        assert_eq!(quiet["server"]["data_checksums"], checksums);
        let files = std::fs::read_dir(server.data_dir().join("global")).expect("a folder").count();
        assert!(pages(&quiet, "files").as_u64() > Some(files as u64 / 2 + 200), "{quiet:#}");
        // Pages are written, extended, pruned, truncated, and moved to new files.
        let stop = std::sync::atomic::AtomicBool::new(false);
        let stopped = || stop.load(std::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let (server, stopped) = (&server, &stopped);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                    runtime.block_on(async {
                        let mut round = 0;
                        while !stopped() {
                            round += 1;
                            let sql = match (worker, round % 4) {
                                (0, 0) => "VACUUM t".to_owned(),
                                (0, 1) => "CHECKPOINT".to_owned(),
                                (0, 2) => "REINDEX TABLE t".to_owned(),
                                (0, _) => "VACUUM FULL m".to_owned(),
                                (_, 0) => "DELETE FROM t WHERE id % 7 = 1".to_owned(),
                                _ => format!(
                                    "UPDATE t SET n = n + 1 WHERE id % 5 = {};
                                     INSERT INTO t (n, words, p) SELECT i, 'x', point(i, i) FROM generate_series(1, 300) i",
                                    round % 5
                                ),
                            };
                            server.execute(DB, &sql).await;
                        }
                    });
                });
            }
            for sent in [&[][..], &["--no-pgdata"], &[]] {
                let busy = report(&server, &[&["-j2"], sent].concat());
                if busy["exit_code"] != 0 {
                    stop.store(true, std::sync::atomic::Ordering::Relaxed);
                }
                assert_eq!(busy["exit_code"], 0, "{}: {busy:#}", version.major);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        // The same with the server down, of all databases.
        assert_eq!(server.stop(), Stop::Clean);
        let down = offline(&server);
        assert_eq!(down["exit_code"], 0, "{}: {down:#}", version.major);
        for part in ["data_checksums", "block_size"] {
            assert_eq!(down["server"][part], quiet["server"][part], "{part}");
        }
        assert!(
            pages(&down, "files").as_u64() > pages(&quiet, "files").as_u64().map(|n| n + 200),
            "{down:#}"
        );
    }
}

/// What is said of the files of all databases, with the server down.
fn offline(server: &Server) -> Value {
    let data = server.data_dir();
    let data = data.to_str().expect("a path");
    report(server, &["-j2", "--offline", "--pgdata", data])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_any_file_is_named_with_its_place() {
    for version in Version::one_or_two() {
        let server = served(&version, true).await;
        let relations = [
            "SELECT 't'::regclass",
            "SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 't'",
            "SELECT i.indexrelid::regclass FROM pg_class c JOIN pg_index i ON i.indrelid = c.reltoastrelid WHERE c.relname = 't'",
            "SELECT 't_pkey'::regclass",
            "SELECT 't_hash'::regclass",
            "SELECT 't_gist'::regclass",
            "SELECT 't_spgist'::regclass",
            "SELECT 't_gin'::regclass",
            "SELECT 't_brin'::regclass",
            "SELECT 't_id_seq'::regclass",
            "SELECT 'u'::regclass",
            "SELECT 'm'::regclass",
            "SELECT 'pg_catalog.pg_description'::regclass",
            "SELECT 'pg_catalog.pg_shdescription'::regclass",
        ];
        let files = paths(&server, DB, &relations).await;
        assert_eq!(server.stop(), Stop::Clean);
        let mut harmed: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for (i, (path, blocks)) in files.iter().enumerate() {
            let block = blocks / 2;
            flip(&server, path, block, [9, 13, 700, 8100][i % 4]);
            harmed.insert(path.clone(), [u64::from(block)].into());
        }
        for suffix in ["fsm", "vm"] {
            let path = format!("{}_{suffix}", files[0].0);
            flip(&server, &path, 0, 4000);
            harmed.insert(path, [0].into());
        }
        server.start_again();
        let found = report(&server, &["-j2", "--no-pgdata"]);
        assert_eq!(found["exit_code"], 2);
        assert_eq!(named(&found), harmed, "{}: {found:#}", version.major);
        // The same from the files themselves.
        let data = server.data_dir().to_str().expect("a path").to_owned();
        let local = report(&server, &["-j2", "--pgdata", &data]);
        assert!(timeless(&local) == timeless(&found), "--pgdata finds something else");
        let local = report(&server, &["-j2"]);
        assert!(timeless(&local) == timeless(&found), "what is found here is something else");
        for part in ["blocks", "files", "bytes", "zero_pages"] {
            assert_eq!(pages(&local, part), pages(&found, part), "{part}");
        }
        let of_t = list(&of(&found, "t")["problems"]);
        assert_eq!(of_t.len(), 3, "the table, and two of its maps");
        let main = of_t.iter().find(|p| p["fork"] == "main").expect("one");
        let at = main["first_block"].as_u64().expect("a number") * 8192;
        assert_eq!(
            (main["offset"].as_u64(), &main["file"]),
            (Some(at), &files[0].0.clone().into())
        );
        // Chosen by name, a table comes with its TOAST and its indexes.
        let chosen = named(&report(&server, &["-t", "public.t"]));
        let of_others = [&files[9].0, &files[10].0, &files[11].0, &files[12].0, &files[13].0];
        assert_eq!(chosen.len(), harmed.len() - of_others.len(), "{chosen:#?}");
        assert!(of_others.iter().all(|path| !chosen.contains_key(*path)), "{chosen:#?}");
        let words = verify(&server, "postgres", &[]);
        assert_eq!(server.stop(), Stop::Clean);
        let down = offline(&server);
        assert_eq!((named(&down), &down["exit_code"]), (harmed, &found["exit_code"]), "{down:#}");
        let words = String::from_utf8_lossy(&words.stdout).into_owned();
        for part in [
            "table pages.public.t: damaged",
            "index pages.public.t_gin of public.t: damaged",
            "checksum",
            "REINDEX INDEX",
            "blocks, 16 damaged",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
    }
}

#[test]
fn a_data_directory_of_another_server_is_refused() {
    let version = Version::newest();
    let [own, other] = [(); 2].map(|()| Server::start(&version, ServerOptions::default()));
    let conninfo = own.conninfo("postgres");
    // Servers of the kit may come from one initdb.
    let control = other.data_dir().join("global/pg_control");
    assert_eq!(other.stop(), Stop::Clean);
    let mut bytes = std::fs::read(&control).expect("a file");
    bytes[0] ^= 1;
    std::fs::write(&control, bytes).expect("it is written");
    for (dir, words) in
        [(other.data_dir(), "of another cluster"), ("/nowhere".into(), "pg_control")]
    {
        let out = Command::new(PROGRAM)
            .args(["verify", "--pages", "-d", &conninfo, "--pgdata"])
            .arg(&dir)
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!((out.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_checksums_a_broken_structure_is_named() {
    let server = served(&Version::newest(), false).await;
    let relations = [
        "SELECT 't'::regclass",
        "SELECT 'm'::regclass",
        "SELECT 't_pkey'::regclass",
        "SELECT 't_id_seq'::regclass",
        "SELECT 't_gist'::regclass",
    ];
    let files = paths(&server, DB, &relations).await;
    assert_eq!(server.stop(), Stop::Clean);
    // A line pointer behind the page, a header, zeros and marks where none belong.
    let mut page = read_page(&server, &files[0].0, 1);
    page.put(24, &[0xFF; 4]);
    page.put(24, &(8190_u32 | 1 << 15 | 60 << 17).to_le_bytes());
    write_page(&server, &files[0].0, &page);
    let mut page = read_page(&server, &files[1].0, 1);
    page.put(12, &[0xFF, 0xFF]);
    write_page(&server, &files[1].0, &page);
    let mut page = read_page(&server, &files[2].0, 0);
    page.bytes.fill(0);
    write_page(&server, &files[2].0, &page);
    let mut page = read_page(&server, &files[3].0, 0);
    page.put(usize::from(page.special()), &[7]);
    write_page(&server, &files[3].0, &page);
    let mut page = read_page(&server, &files[4].0, 2);
    page.put(8190, &[1]);
    write_page(&server, &files[4].0, &page);
    // And a file that ends within a page.
    let torn = segment_file(&server, &files[1].0, 0);
    let mut torn = std::fs::OpenOptions::new().append(true).open(torn).expect("a file");
    torn.write_all(&[1; 100]).expect("it is written");
    server.start_again();
    let found = report(&server, &["--no-pgdata"]);
    assert!(timeless(&found) == timeless(&report(&server, &[])), "what is found here");
    let expected = [1, 1, 0, 0, 2].into_iter().zip(&files);
    let expected: BTreeMap<String, BTreeSet<u64>> =
        expected.map(|(block, (path, _))| (path.clone(), [block].into())).collect();
    assert_eq!(named(&found), expected, "{found:#}");
    let lengths = of(&found, "m")["problems"].to_string();
    assert!(lengths.contains("100 bytes too many"), "{lengths}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_is_told_what_allows_it() {
    for version in Version::one_or_two() {
        let server = served(&version, true).await;
        server.execute(DB, "CREATE ROLE \"night watch\" LOGIN").await;
        let refused = verify(&server, "'night watch'", &[]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let grant = &said[said.find("GRANT").expect("a grant")..];
        server.execute(DB, grant).await;
        for options in [&["--no-pgdata"][..], &[]] {
            let allowed = verify(&server, "'night watch'", options);
            let said = String::from_utf8_lossy(&allowed.stdout).into_owned();
            assert_eq!(allowed.status.code(), Some(0), "{said}");
            assert!(said.contains(" blocks, 0 damaged"), "{said}");
        }
    }
}
