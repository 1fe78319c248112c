//! `pg_restore` on a dump directory.

use super::{DB, assert_same_contents, client, command, dump, pg_dump_schema, schema_of, succeeds};
use crate::kit::tidy_dir::assert_tidy;
use crate::kit::version::client_program;
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version};
use crate::kit::{harm, sample};
use pg_salvage::archive::Archive;
use pg_salvage::output::manifest::{Manifest, SchemaSource};
use std::path::{Path, PathBuf};

/// A server with the sample database, and objects that it has not.
async fn shop(version: &Version) -> Server {
    let server = Server::start(version, ServerOptions::default());
    sample::create(&server, DB, 1).await;
    let more = "CREATE ROLE \"o w\";
        ALTER LARGE OBJECT 900001 OWNER TO \"o w\";
        GRANT SELECT ON LARGE OBJECT 900002 TO \"o w\";
        CREATE MATERIALIZED VIEW mv_b AS SELECT id FROM all_types ORDER BY id;
        CREATE VIEW between AS SELECT count(*) AS n FROM mv_b;
        CREATE MATERIALIZED VIEW mv_a AS SELECT n FROM between;
        CREATE UNIQUE INDEX ON mv_a (n);
        -- The pages of this one are not in their order.
        SELECT lo_from_bytea(900010, decode(repeat('c0ffee', 20000), 'hex'));
        SELECT lo_put(900010, 3, 'xyz');";
    server.execute(DB, more).await;
    server.execute(DB, "VACUUM pg_largeobject").await;
    server.execute(DB, "SELECT lo_put(900010, 5000, 'abc')").await;
    server
}

fn restore(server: &Server, client_major: u32, dir: &Path, dbname: &str, options: &[&str]) {
    let mut command = client("pg_restore", client_major, server, dbname);
    command.args(options).arg(dir);
    succeeds(command);
}

#[tokio::test]
async fn what_pg_restore_makes_of_a_dump_is_the_database_that_was_read() {
    for version in Version::some(14, 18) {
        let server = shop(&version).await;
        let major = version.major;
        // Of 14 and 17 there are no clients here: the next newer ones.
        let newest = if major <= 15 { 16 } else { 18 };
        let dumped = dump(&server, major, &["-Z", "gzip"]);
        let schema = schema_of(&dumped.manifest);
        assert_eq!(schema.source, SchemaSource::PgDump, "{schema:?}");
        assert_eq!(
            (schema.notes.as_slice(), dumped.manifest.exit_code),
            (&[][..], 0),
            "{schema:?}"
        );
        assert_eq!(schema.large_objects.as_ref().map(|o| (o.count, o.left_out)), Some((5, 0)));
        for (dbname, client_major) in [("same", major), ("newer", newest)] {
            if dbname == "newer" && !matches!(major, 15 | 18) {
                continue;
            }
            server.create_database(dbname).await;
            restore(&server, client_major, dumped.dir.path(), dbname, &["-j2"]);
            let at = format!("{major}, {dbname}");
            assert_same_contents(&server, dbname, &at).await;
            let (was, is) =
                (pg_dump_schema(&server, major, DB), pg_dump_schema(&server, major, dbname));
            assert_eq!(is, was, "{at}");
        }
    }
}

#[tokio::test]
async fn pg_restore_chooses_of_a_dump_as_of_any_archive() {
    for version in Version::one_or_two() {
        let server = shop(&version).await;
        let major = version.major;
        let dumped = dump(&server, major, &["-Z", "none"]);
        let dir = dumped.dir.path();
        // By sections, and serially.
        server.create_database("sections").await;
        for section in ["pre-data", "data", "post-data"] {
            restore(&server, major, dir, "sections", &["--section", section]);
        }
        assert_same_contents(&server, "sections", &format!("{major}, sections")).await;
        // By a list, of which one table is taken out.
        let mut list = std::process::Command::new(client_program("pg_restore", major));
        list.arg("-l").arg(dir);
        let list = succeeds(list);
        assert!(list.contains("TABLE DATA public all_types"), "{list}");
        let without: String = list
            .lines()
            .filter(|line| !line.contains("TABLE DATA public all_types"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let file = dir.join("list");
        std::fs::write(&file, without).expect("a file");
        server.create_database("listed").await;
        restore(&server, major, dir, "listed", &["-L", file.to_str().expect("UTF-8")]);
        let there = super::rows(&server, "listed").await;
        assert_eq!(there["\"public\".\"all_types\""].len(), 0, "it was left out");
        // One table.
        server.create_database("one").await;
        restore(&server, major, dir, "one", &["-t", "in_tablespace"]);
        let there = super::rows(&server, "one").await;
        assert_eq!(there.keys().collect::<Vec<_>>(), ["\"public\".\"in_tablespace\""]);
        assert_eq!(there["\"public\".\"in_tablespace\""].len(), 100);
        // The schema by itself, in psql.
        server.create_database("scripts").await;
        for script in ["schema/pre-data.sql", "schema/post-data.sql"] {
            let mut psql = client("psql", major, &server, "scripts");
            psql.args(["-v", "ON_ERROR_STOP=1", "-q", "-f"]).arg(dir.join(script));
            succeeds(psql);
        }
        let schemas = ["scripts", DB].map(|dbname| pg_dump_schema(&server, major, dbname));
        assert_eq!(schemas[0], schemas[1], "{major}: by the scripts");
    }
}

#[tokio::test]
async fn without_a_schema_there_is_no_archive_and_a_codec_that_a_client_cannot_read_is_named() {
    let server = Server::start(&Version::major(15), ServerOptions::default());
    server.execute("postgres", "CREATE DATABASE shop").await;
    server.execute(DB, "CREATE TABLE t AS SELECT 1 AS id").await;
    let dumped = dump(&server, 15, &[]);
    let notes = &schema_of(&dumped.manifest).notes;
    assert!(notes.len() == 1 && notes[0].contains("-Z gzip"), "{notes:?}");
    // An older pg_restore refuses it, rather than load what it cannot unpack.
    let mut list = std::process::Command::new(client_program("pg_restore", 15));
    let out = list.arg("-l").arg(dumped.dir.path()).output().expect("it starts");
    assert!(String::from_utf8_lossy(&out.stderr).contains("unsupported version (1.15)"));
    let (dir, out) = command(&server, &["--no-schema"], &[]);
    assert_eq!(out.status.code(), Some(0));
    assert!(!dir.path().join("toc.dat").exists() && !dir.path().join("schema").exists());
}

/// A block of their pages is lost: what is in the archive is whole.
#[tokio::test]
async fn of_large_objects_with_lost_pages_none_is_in_the_archive() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        server.create_database(DB).await;
        let sql = "SELECT lo_from_bytea(1000 + i, decode(repeat(md5(i::text), 3000), 'hex'))
            FROM generate_series(1, 20) i; SELECT lo_create(5000)";
        server.execute(DB, sql).await;
        server.execute(DB, "CHECKPOINT").await;
        let truth = super::others(&server, DB).await;
        let session = crate::kit::oracle::session(&server, DB).await;
        let places = Places::of(&session, "pg_catalog.pg_largeobject").await;
        let middle = Place::middle(places.blocks);
        let sql = "SELECT count(DISTINCT loid) FROM pg_largeobject
            WHERE (ctid::text::point)[0]::int = $1::text::int";
        let hurt = session.query_one(sql, &[&middle.block.to_string()]).await.expect("a count");
        let hurt = u64::try_from(hurt.get::<_, i64>(0)).expect("a count");
        drop(session);
        assert_eq!(server.stop(), Stop::Clean);
        harm(&server, &places, Harm::BadPageHeader, middle, ChecksumAfter::Stale);
        server.start_again();
        let dumped = dump(&server, version.major, &["-Z", "gzip"]);
        let schema = schema_of(&dumped.manifest);
        let objects = schema.large_objects.as_ref().expect("large objects");
        assert_eq!((objects.count, objects.left_out), (21 - hurt, hurt), "{schema:?}");
        server.create_database("again").await;
        restore(&server, version.major, dumped.dir.path(), "again", &["-j2"]);
        let there = super::others(&server, "again").await;
        assert_eq!(there.len() as u64, objects.count);
        assert!(there.iter().all(|object| truth.contains(object)), "{there:?}\n{truth:?}");
    }
}

#[tokio::test]
async fn a_run_that_goes_on_writes_the_archive_again() {
    let server = Server::start(&Version::major(15), ServerOptions::default());
    server.create_database(DB).await;
    server.execute(DB, "CREATE TABLE t AS SELECT 1 AS id; CREATE TABLE u AS SELECT 2 AS id").await;
    let dumped = dump(&server, 15, &["-Z", "gzip"]);
    let toc = |dir: &Path| std::fs::read(dir.join("toc.dat")).expect("a table of contents");
    let first = Archive::read(&toc(dumped.dir.path())).expect("an archive");
    for (pg_dump, source) in [
        (client_program("pg_dump", 15), SchemaSource::PgDump),
        (PathBuf::from("/nowhere/pg_dump"), SchemaSource::Own),
    ] {
        std::fs::remove_file(dumped.dir.path().join("toc.dat")).expect("it was there");
        let mut again = std::process::Command::new(super::PROGRAM);
        again.args(["dump", "--no-sync", "--resume", "-Z", "gzip", "-d"]);
        again.arg(server.conninfo(DB)).arg("-f").arg(dumped.dir.path());
        again.arg("--pg-dump").arg(&pg_dump);
        succeeds(again);
        let manifest = std::fs::read(dumped.dir.path().join("manifest.json")).expect("a manifest");
        let manifest = Manifest::from_json(&manifest).expect("a manifest");
        assert_eq!(schema_of(&manifest).source, source);
        let archive = Archive::read(&toc(dumped.dir.path())).expect("an archive");
        let data = |archive: &Archive| {
            let data = archive.entries.iter().filter(|entry| entry.desc == "TABLE DATA");
            data.map(|entry| (entry.tag.clone(), entry.file.clone())).collect::<Vec<_>>()
        };
        assert_eq!(data(&archive), data(&first), "{source:?}");
        assert_tidy(dumped.dir.path(), &manifest, "gone on with");
    }
}
