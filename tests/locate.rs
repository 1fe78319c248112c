//! `pg_salvage locate`: real servers meet real damage, and what their logs say of
//! it is held against what was harmed, in each form that a log has.

mod arithmetic;
mod base;

use crate::binary::{Ran, command, run, words};
use crate::kit::Version;
use crate::kit::version::client_program;
use base::{Base, DB};
use serde_json::Value;
use std::process::Stdio;

fn json(ran: &Ran) -> Value {
    assert_eq!((ran.code, ran.stderr.as_str()), (2, ""), "{}", ran.stdout);
    serde_json::from_str(&ran.stdout).expect("JSON")
}

/// The object of this relation, or of the TOAST relation of this table.
fn of<'a>(all: &'a Value, name: &str) -> &'a Value {
    let objects = all["objects"].as_array().expect("objects");
    let is_toast =
        |o: &Value| o["subject"]["kind"] == "toast" && o["relation"]["table"]["name"] == name;
    let is = |o: &&Value| o["relation"]["name"] == name || is_toast(o);
    let found: Vec<&Value> = objects.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{name}: {objects:#?}");
    found[0]
}

fn blocks(object: &Value) -> Vec<(u64, u64)> {
    let ranges = object["blocks"].as_array().expect("blocks");
    let number = |value: &Value| value.as_u64().expect("a block");
    ranges.iter().map(|b| (number(&b["first"]), number(&b["last"]))).collect()
}

fn advice(object: &Value) -> String {
    object["advice"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_log_says_is_what_was_harmed_in_each_form_of_the_log() {
    for version in Version::one_or_two() {
        let base = Base::new(&version).await;
        let server = &base.server;
        let at = format!("on {}", version.major);
        let asked = [&words("locate", server, DB)[..], &["--json".to_owned()]].concat();
        let [stderr, csv, jsonlog] = ["x.log", "x.csv", "x.json"].map(|name| {
            let log = server.data_dir().join("log").join(name);
            json(&run(asked.iter().map(AsRef::as_ref).chain([log.as_os_str()])))
        });
        assert_eq!(stderr["objects"], csv["objects"], "{at}");
        assert_eq!(csv["objects"], jsonlog["objects"], "{at}");
        base.check(&stderr, &at);
        check_advice(&stderr, &at);
        // The same without a connection: no names, but the same places.
        let log = server.data_dir().join("log/x.log");
        let alone = json(&run(["locate".as_ref(), "--json".as_ref(), log.as_os_str()]));
        let paths = |all: &Value| -> Vec<Value> {
            let objects = all["objects"].as_array().expect("objects");
            objects.iter().map(|o| o["subject"].clone()).collect()
        };
        assert_eq!(paths(&alone), paths(&stderr), "{at}");
        assert!(
            alone["objects"].as_array().expect("objects").iter().all(|o| o["relation"].is_null())
        );
    }
}

fn check_advice(all: &Value, at: &str) {
    for (name, says, not) in [
        ("orders", "fetch the lost rows from a standby", "REINDEX"),
        ("orders_pkey", "REINDEX INDEX CONCURRENTLY \\\"public\\\".\\\"orders_pkey\\\";", "setval"),
        ("Spaced Out", "pg_salvage dump -d base -t '\\\"public\\\".\\\"Spaced Out\\\"'", "REINDEX"),
    ] {
        let advice = advice(of(all, name));
        assert!(advice.contains(says) && !advice.contains(not), "{at}: {name}: {advice}");
    }
    let first = all["first_steps"].to_string();
    assert!(first.contains("suspect the storage"), "{at}: {first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_names_relations_and_the_script_is_written_and_not_run() {
    let version = Version::newest();
    let base = Base::new(&version).await;
    let server = &base.server;
    let log = server.data_dir().join("log/x.csv").display().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("advice.sql").display().to_string();
    let all =
        [&words("locate", server, DB)[..], &[log, "--script".to_owned(), script.clone()]].concat();
    let ran = run(&all);
    assert_eq!((ran.code, ran.stderr.as_str()), (2, ""), "{}", ran.stdout);
    for line in [
        "table \"public.orders\" of database \"base\"",
        "index \"public.orders_pkey\" of table \"public.orders\" of database \"base\"",
        "  $ pg_salvage verify -d base -t",
        "Before anything else, in this order:",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    let text = std::fs::read_to_string(&script).expect("the script");
    assert!(text.contains("\nREINDEX INDEX CONCURRENTLY \"public\".\"orders_pkey\";\n"), "{text}");
    assert!(text.find("\\quit") < text.find("\nREINDEX"), "{text}");
    // It is not written over.
    let again = run(&all);
    assert_eq!(again.code, 1, "{}", again.stdout);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(&script).expect("the script"), text);
    // psql leaves it at the guard, and with the copy made it does what it says.
    let psql = |more: &[&str]| {
        let out = std::process::Command::new(client_program("psql", 15))
            .args(["-X", "-d", &server.conninfo(DB), "-f", &script])
            .args(more)
            .output()
            .expect("psql runs");
        (
            String::from_utf8_lossy(&out.stdout).into_owned(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    let filenode = async || -> String {
        let client = server.connect(DB).await;
        let sql = "SELECT pg_relation_filepath('orders_pkey')";
        client.query_one(sql, &[]).await.expect("a path").get(0)
    };
    let before = filenode().await;
    let (said, _) = psql(&[]);
    assert!(said.contains("copy the data directory first"), "{said}");
    assert_eq!(filenode().await, before);
    // Behind the guard it does as it says: which fails here, since the table is damaged, too.
    let (_, said) = psql(&["-v", "files_are_copied=1"]);
    assert!(said.contains("ERROR:") && said.contains("invalid page"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_pg_dump_is_enough() {
    let version = Version::major(15);
    let base = Base::new(&version).await;
    let server = &base.server;
    let dumped = std::process::Command::new(client_program("pg_dump", 15))
        .args(["-t", "orders", "-f", "/dev/null", "-d", &server.conninfo(DB)])
        .output()
        .expect("pg_dump runs");
    let said = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(said.path(), &dumped.stderr).expect("it is written");
    let mut locate = command([&words("locate", server, DB)[..], &["--json".to_owned()]].concat());
    locate.stdin(Stdio::from(std::fs::File::open(said.path()).expect("it is there")));
    let all = json(&Ran::of(locate.output().expect("the binary runs")));
    let object = of(&all, "orders");
    assert_eq!(blocks(object), [(7, 7)], "{object:#}");
}
