//! What a relation's rows are, told by one number: the same however they were
//! read, wherever they lie, and from whichever server; another where one value
//! is.

use crate::kit::dumped::{Dumped, dump, go_on};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version, harm};
use pg_salvage::cli::{Cli, Command as Typed};
use pg_salvage::output::ContentHash;
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use pg_salvage::progress::Progress;
use pg_salvage::run::run;
use std::process::Command;
use std::sync::Arc;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

const TABLES: &str = "CREATE TABLE one (id int PRIMARY KEY, n numeric, t text);
    INSERT INTO one SELECT i, i * 1.5, CASE WHEN i % 7 > 0 THEN repeat(md5(i::text), i % 9) END
        FROM generate_series(1, 20000) i;
    CREATE TABLE backwards AS SELECT * FROM one ORDER BY id DESC;
    CREATE TABLE changed AS SELECT id, n, CASE WHEN id = 778 THEN t || ' ' ELSE t END AS t FROM one;
    CREATE TABLE doubled AS SELECT * FROM one UNION ALL SELECT * FROM one WHERE id = 778;
    CREATE TABLE empty (i int); CREATE TABLE damaged AS SELECT * FROM one;
    CREATE SEQUENCE counter; CREATE VIEW seen AS SELECT * FROM one";

fn hash(dumped: &Dumped, name: &str) -> ContentHash {
    let entry = dumped.relation(name);
    entry.content_hash.unwrap_or_else(|| panic!("{entry:#?}"))
}

/// What `verify` of the rows finds of a table, in this process.
async fn verified(server: &Server, options: &[&str]) -> Option<ContentHash> {
    let conninfo = server.conninfo(DB);
    let words = ["pg_salvage", "verify", "-t", "one", "-d", &conninfo];
    let cli = <Cli as clap::Parser>::try_parse_from(words.iter().chain(options));
    let Typed::Verify(args) = cli.expect("options").command else {
        panic!("another command");
    };
    let (target, options) = args.meant().expect("options");
    let manifest = run(target, options.rows, Arc::new(Progress::default())).await.expect("a run");
    manifest.relations.iter().find(|r| r.name == "one").expect("it is there").content_hash
}

async fn primary() -> (Server, Places) {
    let server = Server::start(&Version::major(15), ServerOptions::checksums(true));
    server.execute(DB, TABLES).await;
    let places = Places::of(&server.connect(DB).await, "damaged").await;
    (server, places)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rows_have_the_same_hash_however_they_are_read_and_others_have_another() {
    let (server, places) = primary().await;
    let first = dump(PROGRAM, &server, DB, &["-j1"]);
    let one = hash(&first, "one");
    assert_eq!(first.lines(first.relation("one"), RowClass::Clean).await.len(), 20_000);
    assert_eq!(hash(&first, "backwards"), one);
    assert_ne!(hash(&first, "changed"), one);
    assert_ne!(hash(&first, "doubled"), one);
    assert_eq!(hash(&first, "empty"), ContentHash::default());
    for name in ["counter", "seen"] {
        assert_eq!(first.relation(name).content_hash, None, "{name}");
    }
    let split = dump(PROGRAM, &server, DB, &["-j4", "--split-size", "64kB", "-t", "one"]);
    assert_eq!(hash(&split, "one"), one);
    assert_eq!(verified(&server, &["-j2", "--split-size", "64kB"]).await, Some(one));

    server.execute(DB, "CREATE INDEX i ON one (n DESC); CLUSTER one USING i").await;
    assert_eq!(verified(&server, &[]).await, Some(one));

    let standby = server.streaming_standby(&[]).await.expect("15 has its clients");
    assert_eq!(verified(&standby, &[]).await, Some(one));
    assert_eq!(standby.stop(), Stop::Clean);

    // Of a run that was ended in the middle, again and again.
    let dir = tempfile::tempdir().expect("a directory");
    for die_at in ["60", "80", "100"] {
        let out = Command::new(PROGRAM)
            .args(["dump", "--no-schema", "--split-size", "64kB", "-t", "one", "--resume", "-d"])
            .arg(server.conninfo(DB))
            .arg("-f")
            .arg(dir.path())
            .env("PG_SALVAGE_DIE_AT", die_at)
            .output()
            .expect("the program starts");
        assert_eq!(out.status.code(), None, "it came to its end");
    }
    let journal = std::fs::read_to_string(dir.path().join("journal")).expect("a journal");
    assert!(journal.contains("\"ended\"") && !journal.contains("\"done\""), "{journal}");
    let last = Command::new(PROGRAM)
        .args(["dump", "--no-schema", "--split-size", "64kB", "-t", "one", "--resume", "-d"])
        .arg(server.conninfo(DB))
        .arg("-f")
        .arg(dir.path())
        .output()
        .expect("the program starts");
    let last = Dumped::read(dir, String::from_utf8_lossy(&last.stderr).into_owned());
    assert_eq!(hash(&last, "one"), one);

    assert_eq!(server.stop(), Stop::Clean);
    let bad = Place::middle(places.blocks);
    harm(&server, &places, Harm::BadPageHeader, bad, ChecksumAfter::Stale);
    server.start_again();
    let damaged = dump(PROGRAM, &server, DB, &["-j2", "-v", "--log-format", "json"]);
    // What the log has for programs.
    for event in [
        "\"event\":\"relation_damaged\",\"relation\":\"public.damaged\"",
        "\"event\":\"run_finished\",\"status\":\"damaged\",\"exit_code\":2",
    ] {
        assert!(damaged.said.contains(event), "{event}: {}", damaged.said);
    }
    assert_eq!(hash(&damaged, "one"), one);
    let entry = damaged.relation("damaged");
    assert_eq!((entry.status, entry.content_hash), (RelationStatus::Salvaged, None));
    // What was done by an earlier run keeps its hash, and what is lost has none.
    let again = go_on(PROGRAM, &server, DB, damaged, &["-j2", "-v"]);
    assert!(again.said.contains("the run has ended: damaged\n"), "{}", again.said);
    assert_eq!(hash(&again, "one"), one);
    assert_eq!(again.relation("damaged").content_hash, None);
}
