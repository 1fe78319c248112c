//! What is chosen of a dump: what `pg_dump` with the same options would have
//! dumped, and no more.

use super::again::{number, shop};
use super::way_back::{client, dump, restore};
use crate::kit::{Server, ServerOptions, Version};
use pg_salvage::output::restored::RelationStatus;

/// The schema as `pg_dump` gives it, without what differs from run to run.
fn described(server: &Server, dbname: &str, options: &[&str]) -> String {
    let out = client(server, "pg_dump", dbname).arg("-s").args(options).output();
    let text = String::from_utf8(out.expect("pg_dump").stdout).expect("UTF-8");
    text.lines().filter(|l| !l.contains("restrict ")).collect::<Vec<_>>().join("\n")
}

/// A table alone, with its indexes and the sequences of its columns.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_chosen_comes_with_what_is_its_own() {
    let server = shop(&Version::newest()).await;
    server.execute("shop", "CREATE INDEX ON goods (name); COMMENT ON TABLE goods IS 'alone'").await;
    server.execute("shop", "DROP TABLE sold; CREATE TABLE sold (id serial PRIMARY KEY)").await;
    let dumped = dump(&server, "shop", &[]);
    for table in ["goods", "sold"] {
        let dbname = format!("only_{table}");
        let back = restore(&server, &dbname, &dumped.dir, &["--create", "-t", table]);
        assert_eq!(back.ran.code, 0, "{}\n{}", back.ran.stdout, back.ran.stderr);
        let of = |dbname: &str| described(&server, dbname, &["-t", table]);
        assert!(of("shop").contains("CREATE TABLE"));
        assert_eq!(of("shop"), of(&dbname));
        // And nothing else.
        let tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
        assert_eq!(number(&server, &dbname, tables).await, 1);
        std::fs::remove_dir_all(&back.folder).expect("the folder");
    }
    let value = "SELECT last_value FROM goods_id_seq";
    assert_eq!(number(&server, "only_goods", value).await, 500);
    // Large objects that a dump was not asked for are not missed in it.
    let dumped = dump(&server, "shop", &["-t", "keyless"]);
    let back = restore(&server, "shop", &dumped.dir, &["--check-only"]);
    assert_eq!(back.ran.code, 0, "{}\n{}", back.ran.stdout, back.ran.stderr);
    assert!(back.relation("keyless").check.as_ref().is_some_and(|c| c.equal));
}

/// Schemas with all that may hang on others in them.
const SCHEMAS: &str = "CREATE SCHEMA a; CREATE SCHEMA b;
    CREATE FUNCTION a.f(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
    CREATE TABLE a.w (id int PRIMARY KEY);
    CREATE TABLE a.x (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int DEFAULT a.f(1));
    CREATE TABLE a.y (id serial PRIMARY KEY, w int REFERENCES a.w);
    CREATE INDEX ON a.y (a.f(w));
    COMMENT ON INDEX a.x_pkey IS 'of x'; COMMENT ON TABLE a.x IS 'x';
    CREATE TABLE b.z (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE b.z_1 PARTITION OF b.z FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    CREATE TABLE b.z_2 PARTITION OF b.z DEFAULT;
    CREATE INDEX ON b.z (at);
    CREATE VIEW b.v AS SELECT id FROM b.z;
    CREATE PUBLICATION p FOR TABLE b.z;
    INSERT INTO a.w SELECT generate_series(1, 10);
    INSERT INTO a.x (n) SELECT generate_series(1, 20);
    INSERT INTO a.y (w) SELECT 1 + i % 10 FROM generate_series(1, 30) i;
    INSERT INTO b.z SELECT i, '2020-12-01'::date + i FROM generate_series(1, 40) i";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_chosen_is_what_pg_dump_would_have_chosen() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        server.create_database("was").await;
        server.execute("was", SCHEMAS).await;
        let dumped = dump(&server, "was", &["-Z", "none"]);
        let rows = [("w", 10), ("x", 20), ("y", 30), ("z_1", 30), ("z_2", 10)];
        let cases: [(&[&str], &[&str]); 4] = [
            (&["-n", "a"], &["w", "x", "y"]),
            (&["-N", "a"], &["z_1", "z_2"]),
            (&["-T", "a.x"], &["w", "y", "z_1", "z_2"]),
            (&["-t", "b.z*"], &["z_1", "z_2"]),
        ];
        for (n, (options, tables)) in cases.into_iter().enumerate() {
            let at = format!("PostgreSQL {}: {options:?}", version.major);
            let dbname = format!("is_{n}");
            server.create_database(&dbname).await;
            // Who chooses tables has not chosen their schema.
            let only_tables = options[0] == "-t";
            if only_tables {
                server.execute(&dbname, "CREATE SCHEMA b").await;
            }
            let back = restore(&server, &dbname, &dumped.dir, &[options, &["--check"]].concat());
            let said = format!("{at}: {}\n{}", back.ran.stdout, back.ran.stderr);
            assert_eq!((back.ran.code, back.report().not_made.as_slice()), (0, &[][..]), "{said}");
            let is = described(&server, &dbname, if only_tables { options } else { &[] });
            assert_eq!(is, described(&server, "was", options), "{said}");
            let mut loaded: Vec<(&str, u64)> = back
                .report()
                .relations
                .iter()
                .filter(|r| r.status == RelationStatus::Loaded && !r.files.is_empty())
                .filter(|r| r.name != "pg_largeobject")
                .map(|r| (r.name.as_str(), r.files.iter().map(|f| f.loaded).sum()))
                .collect();
            loaded.sort_unstable();
            let expected: Vec<(&str, u64)> =
                rows.into_iter().filter(|(name, _)| tables.contains(name)).collect();
            assert_eq!(loaded, expected, "{said}");
            std::fs::remove_dir_all(&back.folder).expect("the folder");
        }
    }
}
