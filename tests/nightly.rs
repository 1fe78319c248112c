//! `verify` as a job of every night: all databases and levels, a time that ends
//! before the work, what was found the night before, and reports for programs.

use crate::kit::json_schema::assert_keeps_to;
use crate::kit::{Server, ServerOptions, Stop, Version};
use crate::verify_pages::{flip, paths};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

mod load;
mod ward;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "shop";

/// Verifies, prints JSON, and exits with the code that it has in it.
fn verify(server: &Server, options: &[&str]) -> Value {
    let out = Command::new(PROGRAM)
        .args(["verify", "-j2", "--format", "json", "-d", &server.conninfo(DB)])
        .args(options)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    let report: Value =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{options:?}: {e}: {said}"));
    assert_eq!(report["exit_code"].as_i64(), out.status.code().map(i64::from), "{report:#}");
    assert_keeps_to(include_str!("../docs/report.schema.json"), &report, "the report");
    report
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The names of relations with a status, as `database.name`.
fn with(report: &Value, status: &str) -> BTreeSet<String> {
    let all = list(&report["relations"]).iter().filter(|r| r["status"] == status);
    all.map(|r| format!("{}.{}", text(&r["database"]), text(&r["name"]))).collect()
}

fn of<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut relations = list(&report["relations"]).iter();
    let found = relations.find(|r| r["name"] == name && r["database"] == DB);
    found.unwrap_or_else(|| panic!("no {name}: {report:#}"))
}

/// At which levels something is wrong with it.
fn levels(report: &Value, name: &str) -> BTreeSet<String> {
    list(&of(report, name)["problems"]).iter().map(|p| text(&p["level"])).collect()
}

fn changes(report: &Value) -> BTreeSet<(String, String)> {
    let changes = list(&report["baseline"]["changes"]).iter();
    changes.map(|c| (text(&c["kind"]), text(&c["name"]))).collect()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeSet<(String, String)> {
    pairs.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

async fn served(version: &Version) -> Server {
    let server = Server::start(version, ServerOptions::checksums(true));
    for database in [DB, "other"] {
        server.create_database(database).await;
    }
    let sql = "CREATE TABLE t (id int PRIMARY KEY, words text);
        INSERT INTO t SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 2000) i;
        CREATE TABLE u AS SELECT * FROM t; CREATE TABLE v AS SELECT * FROM t;
        CREATE VIEW w AS SELECT * FROM t; CREATE SEQUENCE s;";
    server.execute(DB, sql).await;
    server.execute("other", "CREATE TABLE t AS SELECT i FROM generate_series(1, 100) i").await;
    for database in [DB, "other"] {
        server.execute(database, "VACUUM ANALYZE").await;
    }
    server.execute(DB, "CHECKPOINT").await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn from_night_to_night_all_that_is_wrong_is_named_and_what_is_new() {
    for version in Version::one_or_two() {
        let server = served(&version).await;
        let folder = tempfile::tempdir().expect("a directory");
        let last = folder.path().join("last.json");
        let last = last.to_str().expect("a path");
        // Nothing is wrong in any database, at any level, nor with the catalogs.
        let all = ["-a", "--baseline", last, "-o", last];
        let first = verify(&server, &all);
        assert_eq!(first["exit_code"], 0, "{}: {first:#}", version.major);
        let databases: BTreeSet<String> =
            list(&first["databases"]).iter().map(|d| text(&d["name"])).collect();
        assert_eq!(databases, names(["other", "postgres", DB, "template0", "template1"]));
        for status in ["damaged", "incomplete", "not_reached"] {
            assert_eq!(with(&first, status), names([]), "{first:#}");
        }
        assert_eq!(of(&first, "t")["rows"]["clean"], 2000);
        assert_eq!(of(&first, "pg_class")["levels"], serde_json::json!(["pages", "rows"]));
        assert_eq!(of(&first, "t_pkey")["levels"], serde_json::json!(["pages"]));
        assert_eq!(of(&first, "w")["status"], "skipped");
        // Damage of a table, of an index, of catalogs of one database and of all;
        // rows that went, and a table.
        server.execute(DB, "DROP TABLE u; DELETE FROM t WHERE id > 1000; CHECKPOINT").await;
        let relations = [
            "SELECT 'v'::regclass",
            "SELECT 't_pkey'::regclass",
            "SELECT 'pg_catalog.pg_description'::regclass",
            "SELECT 'pg_catalog.pg_shdescription'::regclass",
        ];
        let files = paths(&server, DB, &relations).await;
        assert_eq!(server.stop(), Stop::Clean);
        for (path, blocks) in &files {
            flip(&server, path, blocks / 2, 5000);
        }
        server.start_again();
        let second = verify(&server, &all);
        assert_eq!(second["exit_code"], 2, "{}: {second:#}", version.major);
        let damaged = ["shop.v", "shop.t_pkey", "shop.pg_description", ".pg_shdescription"];
        assert_eq!(with(&second, "damaged"), names(damaged), "{second:#}");
        assert_eq!(levels(&second, "v"), names(["pages", "rows"]));
        assert_eq!(levels(&second, "t_pkey"), names(["pages"]));
        assert_eq!(levels(&second, "pg_description"), names(["pages", "rows"]));
        let known = [
            ("new_damage", "v"),
            ("new_damage", "t_pkey"),
            ("new_damage", "pg_description"),
            ("new_damage", "pg_shdescription"),
            ("gone", "u"),
            ("rows_fell", "t"),
        ];
        assert_eq!(changes(&second), pairs(known));
        // It is known the next night, also to one who looks at less.
        let only_new = [&all[..], &["--only-new"]].concat();
        let third = verify(&server, &[&only_new[..], &["--no-pages"]].concat());
        assert_eq!(third["exit_code"], 0, "{third:#}");
        assert_eq!(with(&third, "damaged"), names(damaged), "{third:#}");
        assert_eq!((third["status"].as_str(), changes(&third)), (Some("damaged"), pairs([])));
        // What is mended is healed, and the rest stays.
        server.execute(DB, "TRUNCATE v; REINDEX INDEX t_pkey").await;
        let fourth = verify(&server, &only_new);
        assert_eq!(fourth["exit_code"], 0, "{fourth:#}");
        assert_eq!(
            with(&fourth, "damaged"),
            names(["shop.pg_description", ".pg_shdescription"]),
            "{fourth:#}"
        );
        let healed = [("healed", "v"), ("healed", "t_pkey"), ("rows_fell", "v")];
        assert_eq!(changes(&fourth), pairs(healed));
    }
}

/// Without checksums nothing else tells of a changed byte; and rows that somebody
/// has written since are no news.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_changed_although_nobody_wrote_are_named() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(false));
        server.create_database(DB).await;
        for table in ["same", "written", "changed"] {
            let sql = format!(
                "CREATE TABLE {table} AS SELECT i, md5(i::text) m FROM generate_series(1, 1000) i"
            );
            server.execute(DB, &sql).await;
        }
        // Nobody else writes, nor counts, from here on.
        server.execute(DB, "VACUUM ANALYZE").await;
        let folder = tempfile::tempdir().expect("a directory");
        let last = folder.path().join("last.json");
        let last = last.to_str().expect("a path");
        let compared = ["--baseline", last, "-o", last];
        assert_eq!(verify(&server, &compared)["exit_code"], 0);
        let second = verify(&server, &compared);
        assert_eq!(changes(&second), pairs([]), "{}: {second:#}", version.major);
        server.execute(DB, "UPDATE written SET m = 'x' WHERE i = 500; CHECKPOINT").await;
        let files = paths(&server, DB, &["SELECT 'changed'::regclass"]).await;
        assert_eq!(server.stop(), Stop::Clean);
        let path = server.data_dir().join(&files[0].0);
        let mut bytes = std::fs::read(&path).expect("the file");
        // md5('1').
        let value = b"c4ca4238a0b923820dcc509a6f75849b";
        let at = bytes.windows(value.len()).position(|w| w == value).expect("the value");
        bytes[at] = b'd';
        std::fs::write(&path, bytes).expect("written");
        server.start_again();
        let third = verify(&server, &compared);
        let changed = pairs([("content_changed", "changed")]);
        assert_eq!(changes(&third), changed, "{}: {third:#}", version.major);
        assert_eq!(with(&third, "damaged"), names([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_time_was_too_short_for_is_said_and_comes_first_the_next_night() {
    let server = served(&Version::newest()).await;
    let folder = tempfile::tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name).to_str().expect("a path").to_owned();
    let state = path("state.json");
    let short = ["--no-pages", "--max-duration", "1500ms", "--max-rate", "1MB"];
    let kept = [&short[..], &["--since-last-ok", &state]].concat();
    let begun = Instant::now();
    let first = verify(&server, &kept);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!((&first["exit_code"], &first["status"]), (&0.into(), &"incomplete".into()));
    assert_eq!(first["window"]["ended"], true);
    assert_eq!(first["window"]["oldest"]["never"], true, "{:#}", first["window"]);
    let clean = with(&first, "clean");
    let left = with(&first, "not_reached");
    assert!(!clean.is_empty() && !left.is_empty(), "{first:#}");
    // Without a memory of it, that is a run that has not come to its end.
    assert_eq!(verify(&server, &short)["exit_code"], 3);
    // The next night begins with what was left.
    let second = verify(&server, &kept);
    // Sequences are always read at once.
    let again =
        clean.intersection(&with(&second, "clean")).filter(|name| *name != "shop.s").count();
    let new: Vec<_> = left.intersection(&with(&second, "clean")).cloned().collect();
    assert!(!new.is_empty(), "{second:#}");
    assert!(again == 0 || with(&second, "not_reached").is_disjoint(&left), "{second:#}");
    // And with time enough all is found clean, and the oldest has an age.
    let whole = ["--no-pages", "--since-last-ok", &state, "--max-age", "1h"];
    let third = verify(&server, &[&whole[..], &["--max-duration", "1h"]].concat());
    assert_eq!(third["window"]["ended"], false);
    assert_eq!((&third["exit_code"], &third["status"]), (&0.into(), &"clean".into()));
    assert_eq!(third["window"]["oldest"]["never"], false, "{:#}", third["window"]);
    std::thread::sleep(Duration::from_secs(2));
    let old = verify(&server, &[&kept[..], &["--max-age", "1s"]].concat());
    assert_eq!(old["exit_code"], 3, "{:#}", old["window"]);
    // A state of another cluster, or what is none, is refused at once.
    for wrong in [r#"{"format_version": 1, "system_identifier": "7", "relations": {}}"#, "x"] {
        std::fs::write(&state, wrong).expect("it is written");
        let out = Command::new(PROGRAM)
            .args(["verify", "--since-last-ok", &state, "-d", &server.conninfo(DB)])
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!((out.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains("state.json"), "{said}");
        assert_eq!(std::fs::read_to_string(&state).expect("a file"), wrong);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_longer_than_a_night_is_gone_on_with_the_next() {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    let sql = "CREATE TABLE big AS SELECT i, repeat('x', 200) AS words
        FROM generate_series(1, 1000000) i; VACUUM ANALYZE; CHECKPOINT";
    server.create_database(DB).await;
    for statement in sql.split(';') {
        server.execute(DB, statement).await;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let state = folder.path().join("state.json");
    let state = state.to_str().expect("a path");
    let all = ["--no-pages", "-t", "big", "--since-last-ok", state];
    let short = [&all[..], &["--max-duration", "1s", "--max-rate", "50MB"]].concat();
    let first = verify(&server, &short);
    assert_eq!(with(&first, "not_reached"), names(["shop.big"]), "{first:#}");
    assert_eq!(of(&first, "big")["last_ok"], Value::Null);
    // What was read is not read again before all is, and counts from then on.
    let (path, _) = paths(&server, DB, &["SELECT 'big'::regclass"]).await.remove(0);
    let harm = |block| {
        assert_eq!(server.stop(), Stop::Clean);
        flip(&server, &path, block, 5000);
        server.start_again();
    };
    harm(10);
    let mut night = first.clone();
    for _ in 0..20 {
        night = verify(&server, &short);
        let notes = night["databases"][0]["notes"].to_string();
        assert!(notes.contains("\"shop.public.big\\\" was read from block "), "{notes}");
        if with(&night, "not_reached").is_empty() {
            break;
        }
    }
    assert_eq!(with(&night, "clean"), names(["shop.big"]), "{night:#}");
    let big = of(&night, "big");
    assert_eq!((&big["rows"], &big["content_hash"]), (&Value::Null, &Value::Null));
    assert!(text(&big["last_ok"]) < text(&night["started"]), "{night:#}");
    let now = verify(&server, &all);
    assert_eq!(with(&now, "damaged"), names(["shop.big"]), "{now:#}");
    // Damage in what is reached is enough to know; the time is over nevertheless.
    let short = verify(&server, &short);
    assert_eq!((&short["exit_code"], with(&short, "damaged").len()), (&2.into(), 1), "{short:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_looked_at_by_itself() {
    let primary = served(&Version::major(15)).await;
    primary.execute(DB, "CREATE EXTENSION amcheck").await;
    let standby = primary.streaming_standby(&[]).await.expect("15 has its clients");
    let all = ["-a", "--amcheck", "--heapallindexed"];
    let found = verify(&standby, &all);
    assert_eq!((&found["exit_code"], &found["status"]), (&0.into(), &"clean".into()), "{found:#}");
    assert_eq!(found["server"]["in_recovery"], true);
    assert_eq!(of(&found, "t_pkey")["levels"], serde_json::json!(["pages", "amcheck"]));
    // What is damaged on one is not on the other.
    let files = paths(&primary, DB, &["SELECT 't_pkey'::regclass", "SELECT 'v'::regclass"]).await;
    assert_eq!(standby.stop(), Stop::Clean);
    for (path, blocks) in &files {
        flip(&standby, path, blocks / 2, 5000);
    }
    standby.start_again();
    let found = verify(&standby, &all);
    assert_eq!(with(&found, "damaged"), names(["shop.v", "shop.t_pkey"]), "{found:#}");
    assert_eq!(levels(&found, "t_pkey"), names(["pages", "amcheck"]));
    assert_eq!(verify(&primary, &all)["exit_code"], 0);
    assert_eq!(standby.stop(), Stop::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rights_is_told_what_it_cannot_see_and_has_the_rest() {
    let server = served(&Version::newest()).await;
    server.execute(DB, "CREATE ROLE watch LOGIN; GRANT pg_read_all_data TO watch").await;
    let conninfo = server.conninfo(DB).replace("user=postgres", "user=watch");
    let folder = tempfile::tempdir().expect("a directory");
    let outputs = ["last.json", "last.prom", "last.html", "last.xml", "last.csv", "last.txt"];
    let outputs = outputs.map(|name| folder.path().join(name));
    let mut command = Command::new(PROGRAM);
    command.args(["verify", "-d", &conninfo]);
    outputs.iter().for_each(|path| _ = command.arg("-o").arg(path));
    let out = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(0), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("GRANT EXECUTE ON FUNCTION"), "{said}");
    for path in &outputs {
        let written = std::fs::read_to_string(path).expect("a file");
        assert!(is_whole(path, &written), "{}: {written}", path.display());
    }
}

/// Whether a file ends as one of its form does.
fn is_whole(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|e| e.to_str()) {
        Some("html") => text.trim_end().ends_with("</html>"),
        Some("xml") => text.trim_end().ends_with("</testsuites>"),
        Some("json") => text.ends_with("}\n"),
        _ => text.len() > 100,
    }
}
