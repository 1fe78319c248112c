//! What is chosen by patterns, and what `list` says before.

use crate::binary::{Dump, dump, run, words};
use crate::kit::{Server, ServerOptions, Version};
use expect_test::expect;

async fn shop(version: &Version) -> Server {
    let server = Server::start(version, ServerOptions::checksums(true));
    server.create_database("shop").await;
    let sql = r#"CREATE TABLE orders (id serial PRIMARY KEY, t text);
        INSERT INTO orders (t) SELECT repeat('x', 100) FROM generate_series(1, 1000);
        CREATE TABLE order_lines (id int); INSERT INTO order_lines SELECT generate_series(1, 10);
        CREATE TABLE "Orders" (id int); CREATE UNLOGGED TABLE cache (id int);
        CREATE SCHEMA sales; CREATE TABLE sales.orders (id int); CREATE TABLE sales.tmp_1 (id int);
        CREATE VIEW sales.recent AS SELECT 1 AS one; CREATE SCHEMA "tmp%"; CREATE TABLE "tmp%".t (id int);
        CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS one WITH NO DATA;
        ALTER TABLE order_lines ENABLE ROW LEVEL SECURITY;
        SELECT lo_from_bytea(7, 'x'); ANALYZE orders"#;
    server.execute("shop", sql).await;
    server
}

/// `schema.name` of all entries, sorted, on one line.
fn names(dump: &Dump) -> String {
    let names = dump.manifest.relations.iter().map(|r| format!("{}.{}", r.schema, r.name));
    names.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn patterns_choose_as_in_pg_dump() {
    for version in crate::kit::Version::one_or_two() {
        let server = shop(&version).await;
        let cases: &[(&[&str], &str)] = &[
            (&["-t", "orders"], "public.orders sales.orders"),
            (&["-t", "public.orders"], "public.orders"),
            (&["-t", "public.order*"], "public.order_lines public.orders public.orders_id_seq"),
            (&["-t", r#""Orders""#], "public.Orders"),
            (&["-t", "ORDERS", "-n", "nothing_like_this"], "public.orders sales.orders"),
            (&["-t", "*.o*", "-T", "*_seq"], "public.order_lines public.orders sales.orders"),
            (&["-n", "sales"], "sales.orders sales.recent sales.tmp_1"),
            (&["-n", "sales", "-T", "*tmp*"], "sales.orders sales.recent"),
            (&["-n", "s*", "-N", "sales", "-n", "tmp%"], "tmp%.t"),
            (
                &["-n", "tmp%", "-b"],
                "pg_catalog.pg_largeobject pg_catalog.pg_largeobject_metadata tmp%.t",
            ),
            (&["-t", "order(s|_lines)"], "public.order_lines public.orders sales.orders"),
            (&["-t", "shop.sales.tmp_?"], "sales.tmp_1"),
        ];
        for (options, expected) in cases {
            let dump = Dump::of(&server, "shop", options);
            assert_eq!((names(&dump).as_str(), dump.ran.code), (*expected, 0), "{}", dump.case);
        }
        let without_large_objects = Dump::of(&server, "shop", &["-N", "public", "-N", "tmp*"]);
        let expected = "pg_catalog.pg_largeobject pg_catalog.pg_largeobject_metadata \
                        sales.orders sales.recent sales.tmp_1";
        assert_eq!(names(&without_large_objects), expected, "{}", without_large_objects.case);
    }
}

#[tokio::test]
async fn a_pattern_without_a_match_is_an_error_where_it_matters() {
    let server = shop(&Version::newest()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("dump");
    let refused: &[(&[&str], &str)] = &[
        (&["-t", "nothing"], "no matching tables were found for pattern \"nothing\""),
        (&["-n", "nothing"], "no matching schemas were found for pattern \"nothing\""),
        (
            &["--strict-names", "-t", "orders", "-t", "none"],
            "no matching tables were found for pattern \"none\"",
        ),
        (
            &["--strict-names", "-n", "sales", "-n", "none"],
            "no matching schemas were found for pattern \"none\"",
        ),
        (
            &["-t", "other.public.orders"],
            "cross-database references are not implemented: other.public.orders",
        ),
    ];
    for (options, expected) in refused {
        let mut args = words("dump", &server, "shop");
        args.extend(["-f".to_owned(), dir.display().to_string()]);
        args.extend(options.iter().map(|word| (*word).to_owned()));
        let ran = run(args);
        let case = dump::case(&server, &options.join(" "));
        assert_eq!(ran.stderr, format!("pg_salvage: error: {expected}\n"), "{case}");
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{case}");
        assert!(!dir.exists(), "{case}: a directory is left behind");
    }
    let dump = Dump::of(&server, "shop", &["-t", "orders", "-t", "nothing"]);
    assert_eq!(names(&dump), "public.orders sales.orders", "{}", dump.case);
    let dump = Dump::of(&server, "shop", &["--strict-names", "-T", "nothing", "-N", "nothing"]);
    assert_eq!(dump.ran.code, 0, "{}: {}", dump.case, dump.ran.stderr);
}

#[tokio::test]
async fn list_says_what_a_dump_would_read() {
    let mut seen = Vec::new();
    for version in crate::kit::Version::one_or_two() {
        let server = shop(&version).await;
        let all = run(words("list", &server, "shop"));
        let mut args = words("list", &server, "shop");
        args.extend(["-n".to_owned(), "sales".to_owned()]);
        let sales = run(args);
        for ran in [&all, &sales] {
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", dump::case(&server, "list"));
        }
        seen.push((all.stdout, sales.stdout));
    }
    // The same on every version; each text stands here once, to be updated.
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:#?}");
    expect![[r#"
        relation                            kind                         size    rows (about)  remarks
        public.cache                        table                     0 bytes                  unlogged: a server crash empties it
        public.orders                       table                      144 kB           1,000
        pg_catalog.pg_largeobject           large_objects          8192 bytes
        pg_catalog.pg_largeobject_metadata  large_object_metadata  8192 bytes
        public.orders_id_seq                sequence               8192 bytes               1
        public.order_lines                  table                  8192 bytes                  row security: needs a role that bypasses it
        public.Orders                       table                     0 bytes
        sales.orders                        table                     0 bytes
        sales.tmp_1                         table                     0 bytes
        sales.recent                        view                      0 bytes                  not read: has no rows of its own
        tmp%.t                              table                     0 bytes
        public.unfilled                     matview                   0 bytes                  not read: has not been populated
    "#]].assert_eq(&seen[0].0);
    expect![[r#"
        relation      kind                         size    rows (about)  remarks
        sales.orders  table                     0 bytes
        sales.tmp_1   table                     0 bytes
        sales.recent  view                      0 bytes                  not read: has no rows of its own
    "#]].assert_eq(&seen[0].1);
}
