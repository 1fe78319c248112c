//! Dumps of which the schema is not what it was: functions are lost, or a table
//! had what a newer server has not. Every row is loaded all the same.

use super::damaged::change;
use super::way_back::{dump, restore};
use crate::kit::places::{read_page, write_page};
use crate::kit::{Places, Server, ServerOptions, Stop, Version, oracle};
use pg_salvage::output::manifest::{RowClass, SchemaSource};

/// A function too long to lie in `pg_proc` itself, and what calls it.
const LONG: &str = "CREATE FUNCTION short(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
    DO $$ BEGIN EXECUTE format('CREATE FUNCTION long(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS %L',
        '/* ' || (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1000) n) || ' */ BEGIN RETURN i; END'); END $$;
    CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT long(1) CHECK (long(n) > 0), m int CHECK (short(m) > 0),
        g int GENERATED ALWAYS AS (long(id)) STORED, s int GENERATED ALWAYS AS (short(id)) STORED);
    CREATE INDEX by_long ON t (long(n)); CREATE INDEX by_short ON t (short(n));
    CREATE VIEW v AS SELECT short(id) FROM t;
    CREATE VIEW w AS SELECT long(id) FROM t;
    CREATE TABLE u (t int REFERENCES t);
    INSERT INTO t (id, n, m) SELECT i, i, i FROM generate_series(1, 500) i;
    INSERT INTO u SELECT i FROM generate_series(1, 500) i";

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_lost_costs_what_calls_it_and_no_row() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        server.create_database("was").await;
        server.execute("was", LONG).await;
        let session = oracle::session(&server, "was").await;
        let places = Places::of(&session, "pg_catalog.pg_proc").await;
        drop(session);
        assert_eq!(server.stop(), Stop::Clean);
        let toast = places.toast.as_ref().expect("pg_proc has TOAST");
        let mut page = read_page(&server, toast, places.toast_blocks - 1);
        page.flip(page.upper().into(), 0xff);
        write_page(&server, toast, &page);
        server.start_again();
        let dumped = dump(&server, "was", &[]);
        let schema = dumped.manifest.schema.as_ref().expect("a schema");
        assert_eq!(schema.source, SchemaSource::Own, "{schema:?}");
        let lost: Vec<(&str, &str)> =
            schema.lost.iter().map(|l| (l.kind.as_str(), l.name.as_str())).collect();
        // What calls it cannot be put into words without it.
        let calls = [
            ("FUNCTION", "long"),
            ("DEFAULT", "public.t.n"),
            ("GENERATED COLUMN", "public.t.g"),
            ("CHECK CONSTRAINT", "t_n_check"),
            ("VIEW", "w"),
            ("INDEX", "by_long"),
        ];
        assert_eq!(lost, calls, "{schema:?}");
        let back = restore(&server, "is", &dumped.dir, &["--create", "-j2", "--check"]);
        let said = format!("{}: {}\n{}", version.major, back.ran.stdout, back.ran.stderr);
        assert_eq!((back.ran.code, back.report().not_made.as_slice()), (0, &[][..]), "{said}");
        back.assert_counts(&said);
        let loud = "WARNING: the dump's schema is not whole: 6 objects could not be described: FUNCTION \"long\"";
        assert!(back.ran.stdout.contains(loud), "{said}");
        for table in ["t", "u"] {
            assert_eq!(back.relation(table).files[0].loaded, 500, "{said}");
            assert!(back.relation(table).check.as_ref().is_some_and(|c| c.equal), "{said}");
        }
        let there =
            "SELECT count(*) FROM t JOIN v ON v.short = t.s WHERE t.s = t.id AND t.g IS NULL";
        let client = server.connect("is").await;
        assert_eq!(client.query_one(there, &[]).await.expect("rows").get::<_, i64>(0), 500);
        let keys = "SELECT count(*) FROM pg_constraint WHERE contype IN ('p', 'f', 'c') AND conrelid >= 16384";
        assert_eq!(client.query_one(keys, &[]).await.expect("keys").get::<_, i64>(0), 3, "{said}");
    }
}

/// Before PostgreSQL 12 rows could have OIDs of their own, which come before their
/// columns.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_had_oids_are_loaded_without_them_and_it_is_said() {
    let old = Server::start(&Version::between(10, 11)[0], ServerOptions::checksums(true));
    old.create_database("was").await;
    let sql = "CREATE TABLE with_oids (id int PRIMARY KEY, t text CHECK (t <> '')) WITH OIDS;
        INSERT INTO with_oids SELECT i, 't' || i FROM generate_series(1, 100) i";
    old.execute("was", sql).await;
    let dumped = dump(&old, "was", &["-Z", "none"]);
    change(&dumped, "with_oids", RowClass::Clean, |lines| {
        let more: [&[u8]; 2] = [b"70001\t7\tan old version\n", b"70002\t101\t\n"];
        lines.extend(more.map(<[u8]>::to_vec));
    });
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    let back = restore(&server, "is", &dumped.dir, &["--create", "--check"]);
    let said = format!("{}\n{}", back.ran.stdout, back.ran.stderr);
    assert_eq!(back.ran.code, 2, "{said}");
    back.assert_counts(&said);
    let table = back.relation("with_oids");
    let file = &table.files[0];
    assert_eq!((file.loaded, file.rejected, table.duplicates), (101, 1, 1), "{said}");
    assert!(table.check.as_ref().is_some_and(|c| c.equal && c.found == 100), "{said}");
    assert!(back.ran.stdout.contains("loaded without the OIDs"), "{said}");
    let rejects = back.rejects("public.with_oids.csv");
    let rows: Vec<&[u8]> = rejects.iter().map(|l| l.row.as_slice()).collect();
    assert_eq!(rows, [&b"70002\t101\t"[..], b"7\tan old version"], "{said}");
    assert_eq!(rejects[0].constraint, "with_oids_t_check", "{said}");
    let count = "SELECT count(*) FROM with_oids WHERE t = 't' || id";
    let client = server.connect("is").await;
    assert_eq!(client.query_one(count, &[]).await.expect("rows").get::<_, i64>(0), 100);
}
