//! Into a database that is there, and into one where an earlier restore was ended.

use super::way_back::{WayBack, contents, die_at, dump, restore, schema_of, words};
use crate::binary::{Ran, begin, run};
use crate::kit::{Server, ServerOptions, Version};
use pg_salvage::output::restored::{RelationStatus, Status};

/// Tables of which one refers to the other (and comes before it by its size), with
/// columns that take no values by hand.
const SHOP: &str = "CREATE TABLE goods (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, twice text GENERATED ALWAYS AS (name || name) STORED);
    CREATE TABLE sold (id serial PRIMARY KEY, goods int NOT NULL REFERENCES goods, note text);
    CREATE TABLE keyless (n int); INSERT INTO keyless VALUES (1), (1);
    CREATE SEQUENCE apart; SELECT setval('apart', 100);
    INSERT INTO goods (name) SELECT 'goods ' || i FROM generate_series(1, 500) i;
    INSERT INTO sold (goods, note) SELECT 1 + i % 500, repeat('note ', 20) FROM generate_series(1, 4000) i;
    SELECT lo_from_bytea(900001, 'a large object'), lo_from_bytea(900002, 'another')";

pub(super) async fn shop(version: &Version) -> Server {
    let server = Server::start(version, ServerOptions::checksums(true));
    server.create_database("shop").await;
    server.execute("shop", SHOP).await;
    server
}

pub(super) async fn number(server: &Server, dbname: &str, sql: &str) -> i64 {
    server.connect(dbname).await.query_one(sql, &[]).await.expect("a number").get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_rows_are_brought_back_beside_those_that_are_there() {
    for version in Version::one_or_two() {
        let at = format!("PostgreSQL {}", version.major);
        let server = shop(&version).await;
        let dumped = dump(&server, "shop", &[]);
        // Production went on: rows are lost, others changed and new.
        let since = "DELETE FROM sold WHERE goods < 50; DELETE FROM goods WHERE id < 50;
            UPDATE goods SET name = 'dearer' WHERE id = 60; INSERT INTO goods (name) VALUES ('new');
            SELECT setval('apart', 200); SELECT lo_unlink(900001), lo_put(900002, 0, 'changed')";
        server.execute("shop", since).await;
        let (before, schema) = (contents(&server, "shop").await, schema_of(&server, "shop"));
        let options = ["--data-only", "--on-conflict", "skip"];
        let dry = restore(&server, "shop", &dumped.dir, &[&options[..], &["--dry-run"]].concat());
        assert_eq!(dry.ran.code, 0, "{at}: {}", dry.ran.stderr);
        assert!(dry.ran.stdout.contains("would load 500 rows"), "{at}: {}", dry.ran.stdout);
        assert!(contents(&server, "shop").await == before, "{at}: it was dry");
        assert!(!dry.folder.exists(), "{at}: it was dry");

        let back = restore(&server, "shop", &dumped.dir, &[&options[..], &["-j2"]].concat());
        let said = format!("{at}: {}\n{}", back.ran.stdout, back.ran.stderr);
        assert_eq!(back.ran.code, 2, "{said}");
        back.assert_counts(&at);
        // Nothing tells whether its rows are there.
        assert_eq!(back.relation("keyless").status, RelationStatus::NotLoaded, "{said}");
        assert_eq!(number(&server, "shop", "SELECT count(*) FROM keyless").await, 2, "{at}");
        let counts = |name: &str| {
            let file = &back.relation(name).files[0];
            (file.loaded, file.skipped, file.rejected)
        };
        assert_eq!(counts("goods"), (49, 451, 0), "{said}");
        assert_eq!(counts("sold"), (392, 3608, 0), "{said}");
        assert_eq!(number(&server, "shop", "SELECT count(*) FROM goods").await, 501, "{at}");
        assert_eq!(number(&server, "shop", "SELECT count(*) FROM sold").await, 4000, "{at}");
        let dearer = "SELECT count(*) FROM goods WHERE name = 'dearer' AND twice = 'dearerdearer'";
        assert_eq!(number(&server, "shop", dearer).await, 1, "{at}");
        assert_eq!(number(&server, "shop", "SELECT last_value FROM apart").await, 200, "{at}");
        let objects = "SELECT count(*) FROM pg_largeobject WHERE
            (loid, encode(data, 'escape')) IN ((900001, 'a large object'), (900002, 'changed'))";
        assert_eq!(number(&server, "shop", objects).await, 2, "{at}");
        assert_eq!(schema_of(&server, "shop"), schema, "{at}");
    }
}

/// Rows whose keys are there are rejected where nobody asked to leave them out.
#[tokio::test(flavor = "multi_thread")]
async fn rows_whose_keys_are_there_are_rejected() {
    let server = shop(&Version::newest()).await;
    let dumped = dump(&server, "shop", &[]);
    let lost = "DELETE FROM sold WHERE id <= 3; SELECT setval('sold_id_seq', 7)";
    server.execute("shop", lost).await;
    let back = restore(&server, "shop", &dumped.dir, &["--data-only", "-t", "sold"]);
    assert_eq!(back.ran.code, 2, "{}", back.ran.stderr);
    back.assert_counts("rejected");
    let file = &back.relation("sold").files[0];
    assert_eq!((file.loaded, file.rejected), (3, 3997));
    let mut chosen: Vec<&str> = back.report().relations.iter().map(|r| r.name.as_str()).collect();
    chosen.sort_unstable();
    assert_eq!(chosen, ["sold", "sold_id_seq"], "its sequence goes with it");
    let lines = back.rejects("public.sold.csv");
    assert!(lines.iter().all(|l| l.constraint == "sold_pkey" && l.sqlstate == "23505"));
    assert_eq!(number(&server, "shop", "SELECT last_value FROM sold_id_seq").await, 4000);
    assert_eq!(lines[0].line, Some(4));
}

/// Ended by kill -9 at writes all over the run.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_killed_is_gone_on_with_and_loads_every_row_once() {
    /// Of the writes at which it can be ended, each so many-th.
    const EVERY: usize = 4;
    let server = shop(&Version::newest()).await;
    let dumped = dump(&server, "shop", &["-Z", "none"]);
    super::damaged::change(
        &dumped,
        "sold",
        pg_salvage::output::manifest::RowClass::Clean,
        |lines| {
            lines.push(b"9\t9\tan old version\n".to_vec());
            lines.push(b"9999\t\\N\tnothing\n".to_vec());
        },
    );
    let whole = restore(&server, "whole", &dumped.dir, &["--create"]);
    assert_eq!(whole.ran.code, 2, "{}", whole.ran.stderr);
    let expected = (contents(&server, "whole").await, schema_of(&server, "whole"));
    let mut ended = 0;
    for at in (1..).step_by(EVERY) {
        std::fs::remove_dir_all(&whole.folder).expect("the folder of the restore before");
        let dbname = format!("killed_{at}");
        server.create_database(&dbname).await;
        if !die_at(&server, &dbname, &dumped.dir, &["-j2"], at) {
            break;
        }
        ended += 1;
        let back = restore(&server, &dbname, &dumped.dir, &["-j2", "--resume", "--check"]);
        let said = format!("ended at {at}: {}\n{}", back.ran.stdout, back.ran.stderr);
        assert_eq!(back.ran.code, 2, "{said}");
        back.assert_counts(&said);
        let sold = back.relation("sold");
        let file = &sold.files[0];
        assert_eq!((file.loaded, file.rejected, sold.duplicates), (4001, 1, 1), "{said}");
        assert_eq!(back.report().not_made, [], "{said}");
        assert!(sold.check.as_ref().is_some_and(|c| c.equal), "{said}");
        assert!(contents(&server, &dbname).await == expected.0, "{said}");
        assert_eq!(schema_of(&server, &dbname), expected.1, "{said}");
        server.execute("postgres", &format!("DROP DATABASE {dbname}")).await;
    }
    assert!(ended > 5, "{ended}");
}

/// Ctrl-C: what is under way is ended, nothing of it is kept, and the rest is for
/// the run that goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_interrupted_is_gone_on_with_and_loads_every_row_once() {
    let server = shop(&Version::newest()).await;
    let slow =
        "CREATE FUNCTION is_id(id int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
        ALTER TABLE goods ADD CHECK (is_id(id));
        CREATE OR REPLACE FUNCTION is_id(id int) RETURNS bool LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.002); RETURN true; END $$";
    server.execute("shop", slow).await;
    let dumped = dump(&server, "shop", &[]);
    let child = begin(words(&server, "stopped", &dumped.dir, &["--create"]));
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'stopped' AND query LIKE 'COPY %\"goods\" (%'";
    while number(&server, "postgres", busy).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let stopped = WayBack::of(Ran::wait(child), dumped.dir.join("rejects"));
    let said = format!("{}\n{}", stopped.ran.stdout, stopped.ran.stderr);
    assert_eq!(stopped.ran.code, 3, "{said}");
    assert_eq!(stopped.report().status, Status::Incomplete, "{said}");
    assert!(stopped.ran.stdout.contains("--resume"), "{said}");
    // The largest came first; of the next all rows were sent; the last was not begun.
    assert_eq!(stopped.relation("sold").status, RelationStatus::Loaded, "{said}");
    assert_eq!(stopped.relation("goods").status, RelationStatus::Loaded, "{said}");
    assert_eq!(stopped.relation("keyless").status, RelationStatus::NotLoaded, "{said}");
    assert_eq!(number(&server, "stopped", "SELECT count(*) FROM keyless").await, 0, "{said}");
    let keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'";
    assert_eq!(number(&server, "stopped", keys).await, 0, "{said}");
    let back = restore(&server, "stopped", &dumped.dir, &["--resume", "--check"]);
    let said = format!("{}\n{}", back.ran.stdout, back.ran.stderr);
    assert_eq!(back.ran.code, 0, "{said}");
    back.assert_counts(&said);
    assert_eq!(back.report().resumed.len(), 1, "{said}");
    assert_eq!(
        (back.report().not_made.as_slice(), back.relation("goods").files[0].loaded),
        (&[][..], 500)
    );
    assert!(contents(&server, "stopped").await == contents(&server, "shop").await, "{said}");
    assert_eq!(schema_of(&server, "stopped"), schema_of(&server, "shop"), "{said}");
}

/// A target that goes down meanwhile is waited for, and its relation begun again.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_goes_down_is_waited_for() {
    let server = shop(&Version::newest()).await;
    let dumped = dump(&server, "shop", &[]);
    let first = restore(&server, "down", &dumped.dir, &["--create", "--schema-only"]);
    assert_eq!(first.ran.code, 0, "{}", first.ran.stderr);
    std::fs::remove_dir_all(&first.folder).expect("the folder");
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON goods FOR EACH ROW EXECUTE FUNCTION slow()";
    server.execute("down", slow).await;
    let child = begin(words(&server, "down", &dumped.dir, &["--data-only", "--check"]));
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'down' AND query LIKE 'COPY %goods%'";
    while number(&server, "postgres", busy).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    server.stop_now();
    server.start_again();
    let back = WayBack::of(Ran::wait(child), dumped.dir.join("rejects"));
    let said = format!("{}\n{}", back.ran.stdout, back.ran.stderr);
    assert_eq!(back.ran.code, 0, "{said}");
    assert!(back.ran.stderr.contains("was lost"), "{said}");
    back.assert_counts(&said);
    assert_eq!(number(&server, "down", "SELECT count(*) FROM goods").await, 500, "{said}");
}

/// What stands in the way for a while leaves a restore to go on with.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_room_leaves_a_restore_to_go_on_with() {
    let server = shop(&Version::newest()).await;
    let dumped = dump(&server, "shop", &[]);
    let first = restore(&server, "later", &dumped.dir, &["--create", "--section", "pre-data"]);
    assert_eq!(first.ran.code, 0, "{}", first.ran.stderr);
    std::fs::remove_dir_all(&first.folder).expect("the folder");
    let trigger = "CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER busy BEFORE INSERT ON goods FOR EACH ROW EXECUTE FUNCTION busy()";
    server.execute("later", trigger).await;
    let options = ["--section", "data", "--section", "post-data"];
    let short = restore(&server, "later", &dumped.dir, &options);
    assert_eq!(short.ran.code, 3, "{}", short.ran.stdout);
    assert_eq!(short.report().status, Status::Incomplete);
    assert_eq!(short.relation("goods").status, RelationStatus::NotLoaded);
    assert!(short.ran.stdout.contains("--resume"), "{}", short.ran.stdout);
    server.execute("later", "DROP FUNCTION busy() CASCADE").await;
    let back = restore(&server, "later", &dumped.dir, &[&options[..], &["--resume"]].concat());
    let said = format!("{}\n{}", back.ran.stdout, back.ran.stderr);
    assert_eq!(back.relation("goods").files[0].loaded, 500, "{said}");
    assert_eq!(number(&server, "later", "SELECT count(*) FROM goods").await, 500, "{said}");
}

/// One clear line, exit code 1, and nothing written.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_is_said_in_one_line() {
    let server = shop(&Version::newest()).await;
    let dumped = dump(&server, "shop", &[]);
    server.create_database("empty").await;
    let refused = |dbname: &str, dir: &std::path::Path, options: &[&str], expected: &str| {
        let ran = run(words(&server, dbname, dir, options));
        assert_eq!(ran.code, 1, "{options:?}: {}", ran.stdout);
        assert!(ran.stderr.contains(expected), "{options:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{options:?}: {}", ran.stderr);
    };
    let folder = tempfile::tempdir().unwrap();
    refused("empty", folder.path(), &[], "is no dump of pg_salvage");
    refused("empty", &folder.path().join("x"), &[], "there is no directory");
    std::fs::write(folder.path().join("manifest.json"), "{").unwrap();
    refused("empty", folder.path(), &[], "manifest");
    let dir = dumped.dir.as_path();
    refused("nowhere", dir, &[], "database \"nowhere\" does not exist");
    refused("shop", dir, &[], "has \"public.apart\", \"public.goods\", ");
    refused("shop", dir, &["--resume"], "has \"public.apart\", \"public.goods\", ");
    refused("shop", dir, &["--create"], "exists already");
    refused("empty", dir, &["--data-only"], "has no table of the dump");
    refused("empty", dir, &["-t", "nothing"], "no relation of the dump matches");
    refused("empty", dir, &["--rejects", "/nonexistent/x"], "\"/nonexistent\"");
    // A manifest that names what is not in the dump.
    let manifest = std::fs::read_to_string(dir.join("manifest.json")).unwrap();
    for path in ["/etc/passwd", "data/../../secret"] {
        let other = manifest.replacen("data/public.goods.copy.zst", path, 1);
        assert_ne!(other, manifest);
        std::fs::write(dir.join("manifest.json"), other).unwrap();
        refused(
            "new",
            dir,
            &["--create"],
            &format!("it names \"{path}\", which is no path inside"),
        );
    }
    std::fs::write(dir.join("manifest.json"), manifest).unwrap();
    refused("new", dir, &[], "database \"new\" does not exist");
    assert!(!dir.join("rejects").exists(), "nothing was begun");
    let toc = std::fs::read(dir.join("toc.dat")).unwrap();
    std::fs::write(dir.join("toc.dat"), &toc[..toc.len() / 2]).unwrap();
    refused("empty", dir, &[], "--data-only does without");
    std::fs::remove_file(dir.join("toc.dat")).unwrap();
    refused("empty", dir, &["--schema-only"], "there is no schema");
    std::fs::write(dir.join("toc.dat"), &toc).unwrap();
    let back = restore(&server, "empty", dir, &[]);
    assert_eq!(back.ran.code, 0, "{}", back.ran.stderr);
    refused("other", dir, &["--create"], "give --resume");
    let other = WayBack::of(run(words(&server, "other", dir, &["--resume"])), back.folder.clone());
    assert_eq!(other.ran.code, 1, "{}", other.ran.stderr);
    assert!(
        other.ran.stderr.contains("is of a restore into database \"empty\""),
        "{}",
        other.ran.stderr
    );
}

/// Without a schema the rows go into tables that are there, and it is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_without_a_schema_is_loaded_into_tables_that_are_there() {
    let server = shop(&Version::newest()).await;
    let dumped = dump(&server, "shop", &[]);
    let first = restore(&server, "bare", &dumped.dir, &["--create", "--schema-only"]);
    assert_eq!(first.ran.code, 0, "{}", first.ran.stderr);
    assert_eq!(number(&server, "bare", "SELECT count(*) FROM sold").await, 0);
    std::fs::remove_dir_all(&first.folder).unwrap();
    std::fs::remove_file(dumped.dir.join("toc.dat")).unwrap();
    let back = restore(&server, "bare", &dumped.dir, &["--check", "-j2"]);
    let said = format!("{}\n{}", back.ran.stdout, back.ran.stderr);
    assert_eq!(back.ran.code, 0, "{said}");
    assert!(back.ran.stdout.contains("WARNING: the dump has no schema"), "{said}");
    assert_eq!(number(&server, "bare", "SELECT count(*) FROM sold").await, 4000);
    // What another has changed since is seen.
    let source = format!("--source={}", server.conninfo("shop"));
    let equal = restore(&server, "bare", &dumped.dir, &["--check-only", &source]);
    assert_eq!(equal.ran.code, 0, "{}", equal.ran.stdout);
    server.execute("bare", "UPDATE goods SET name = 'other' WHERE id = 7").await;
    let other = restore(&server, "bare", &dumped.dir, &["--check-only"]);
    assert_eq!(other.ran.code, 2, "{}", other.ran.stdout);
    assert!(
        other.ran.stdout.contains("500 rows expected, 500 found, with other contents"),
        "{}",
        other.ran.stdout
    );
    let checked = |back: &WayBack| {
        let check = back.relation("pg_largeobject").check.clone().expect("a check");
        (check.equal, check.expected, check.found)
    };
    assert_eq!((checked(&equal), checked(&other)), ((true, 2, 2), (true, 2, 2)));
    server.execute("bare", "SELECT lo_put(900002, 3, 'X')").await;
    let other = restore(&server, "bare", &dumped.dir, &["--check-only"]);
    let said = "2 objects expected, 2 found, with other contents";
    assert!(other.ran.stdout.contains(said), "{}", other.ran.stdout);
    assert_eq!(checked(&other), (false, 2, 2));
    server.execute("bare", "SELECT lo_unlink(900002)").await;
    let other = restore(&server, "bare", &dumped.dir, &["--check-only", &source]);
    assert_eq!(checked(&other), (false, 2, 1), "{}", other.ran.stdout);
}
