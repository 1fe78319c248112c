//! Two databases are compared: by the reports of two runs, and then row by row,
//! by primary keys, in servers of different versions.

use crate::binary::run;
use crate::kit::dumped::dump;
use crate::kit::{Server, ServerOptions, Version};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz, n numeric);
    INSERT INTO t SELECT i, md5(i::text), '2026-01-01'::timestamptz + i * interval '1s', i * 0.5
        FROM generate_series(1, 2000) i;
    CREATE TABLE pair (\"a'\" text, b int, v float8, PRIMARY KEY (b, \"a'\"));
    INSERT INTO pair SELECT chr(9) || E'\\\\ \"' || i % 7, i / 7, i / 3.0 FROM generate_series(0, 999) i;
    CREATE TABLE same AS SELECT i FROM generate_series(1, 100) i;
    CREATE TABLE keyless AS SELECT i FROM generate_series(1, 100) i;
    CREATE TABLE other (i int PRIMARY KEY, x int); INSERT INTO other VALUES (1, 2)";

/// One row changed, one taken away, and more put in at the end than are
/// compared at once.
const CHANGES: &str = "UPDATE t SET v = v || ' ' WHERE id = 777; DELETE FROM t WHERE id = 1234;
    INSERT INTO t SELECT i, 'new', NULL, i FROM generate_series(5001, 5700) i;
    UPDATE pair SET v = v + 1 WHERE b = 100 AND \"a'\" LIKE '%3';
    INSERT INTO keyless VALUES (NULL); DROP TABLE other; CREATE TABLE more (i int);
    INSERT INTO more VALUES (1)";

/// Keys that two collations order in different ways: one among many, and half of
/// them. What is looked for is in the last row.
fn collated(collation: &str, last: &str) -> String {
    format!(
        "CREATE TABLE folded (k text COLLATE \"{collation}\" PRIMARY KEY, v text);
        INSERT INTO folded SELECT 'k' || i, 'x' FROM generate_series(1000, 1499) i;
        INSERT INTO folded VALUES ('K1250', 'x'); UPDATE folded SET v = '{last}' WHERE k = 'k1499';
        CREATE TABLE mixed (k text COLLATE \"{collation}\" PRIMARY KEY, v text);
        INSERT INTO mixed SELECT CASE i / 100 % 2 WHEN 0 THEN 'k' ELSE 'K' END || i, '{last}'
            FROM generate_series(1000, 1499) i"
    )
}

async fn server(version: &Version) -> Server {
    let server = Server::start(version, ServerOptions::default().set("log_statement", "all"));
    server.execute(DB, TABLES).await;
    server
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut all = list.as_array().expect("a list").iter();
    all.find(|r| r["name"] == name).unwrap_or_else(|| panic!("{name} in {list:#}"))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_differ_are_found_by_their_keys_and_equal_ranges_are_not_fetched() {
    let (a, b) = (server(&Version::major(15)).await, server(&Version::newest()).await);
    let (of_a, same) = (dump(PROGRAM, &a, DB, &[]), dump(PROGRAM, &b, DB, &[]));
    let path = |dumped: &crate::kit::dumped::Dumped| dumped.dir.path().display().to_string();
    let ran = run(["report", "--diff", &path(&of_a), &path(&same)]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("WARNING: A is of another cluster"), "{}", ran.stdout);

    b.execute(DB, &format!("{CHANGES}; {}", collated("C", "y"))).await;
    a.execute(DB, &collated("und-x-icu", "x")).await;
    let of_a = dump(PROGRAM, &a, DB, &[]);
    let of_b = dump(PROGRAM, &b, DB, &[]);
    let words = ["report", "--diff", &path(&of_a), &path(&of_b)].map(str::to_owned);
    let ran = run(&words);
    assert_eq!(ran.code, 2, "{}{}", ran.stdout, ran.stderr);
    for line in [
        "differs       public.t        2,000 rows in A, 2,699 in B",
        "differs       public.pair     1,000 rows in both, and their contents are others",
        "only in A     public.other    1 rows",
        "only in B     public.more     1 rows",
        "1 relations are the same, 5 differ, 1 are only in A, 1 only in B, 0 could not be compared",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }

    let before = b.log().len();
    let connect = ["--keys", "--source", &a.conninfo(DB), "--target", &b.conninfo(DB)];
    let all: Vec<&str> = words.iter().map(String::as_str).chain(connect).collect();
    let ran = run(all.iter().copied().chain(["--range-rows", "100", "--json"]));
    // One of the tables has no key: its rows could not be compared.
    assert_eq!(ran.code, 3, "{}{}", ran.stdout, ran.stderr);
    let rows = &json(&ran.stdout)["rows"];
    let t = named(rows, "t");
    let counts = |r: &Value| ["different", "only_in_a", "only_in_b"].map(|k| r[k].as_u64());
    assert_eq!(counts(t), [Some(1), Some(1), Some(700)], "{t:#}");
    let listed = t["listed"].as_array().expect("a list");
    assert_eq!(listed.len(), 702);
    for (what, id) in [("different", "777"), ("only_in_a", "1234"), ("only_in_b", "5001")] {
        assert!(listed.iter().any(|r| r["what"] == what && r["key"][0] == id), "{t:#}");
    }
    let fetched = t["ranges_fetched"].as_u64().expect("a number");
    assert!(t["ranges"].as_u64() >= Some(28) && (9..=11).contains(&fetched), "{t:#}");
    // As the server saw it: the ranges that differ, and one question for the row
    // that is only in A.
    let log = b.log()[before..].to_owned();
    let of_t = log.matches(": COPY (SELECT t.\"id\", pg_catalog.md5(").count();
    assert_eq!(of_t as u64, fetched + 1, "{log}");
    assert!(log.contains("READ ONLY"), "{log}");

    let pair = named(rows, "pair");
    assert_eq!(counts(pair), [Some(1), Some(0), Some(0)], "{pair:#}");
    assert_eq!(pair["key"], json("[\"b\", \"a'\"]"));
    assert_eq!(pair["listed"][0]["key"], json("[\"100\", \"\\t\\\\ \\\"3\"]"));
    assert_eq!(pair["ranges_fetched"], 1);
    // A row that is in another range there is asked for, and is the same.
    let folded = named(rows, "folded");
    assert_eq!(counts(folded), [Some(1), Some(0), Some(0)], "{folded:#}");
    assert_eq!((&folded["ranges"], &folded["ranges_fetched"]), (&json("6"), &json("3")));
    let mixed = named(rows, "mixed");
    assert_eq!(mixed["not_compared"], "A and B order its keys in different ways");
    let keyless = named(rows, "keyless");
    assert_eq!(keyless["not_compared"], "it has no primary key");

    let folder = tempfile::tempdir().expect("a directory");
    let keys = folder.path().join("keys");
    let keys_to = ["--keys-to", keys.to_str().expect("a path")];
    let ran = run(all.iter().copied().chain(keys_to));
    assert_eq!(ran.code, 3, "{}{}", ran.stdout, ran.stderr);
    let read = |name: &str| std::fs::read_to_string(keys.join(name)).expect("a file");
    let of_t = read("public.t.csv");
    assert_eq!(of_t.lines().count(), 703, "{of_t}");
    for line in ["what,id", "different,777", "only_in_a,1234", "only_in_b,5001"] {
        assert!(of_t.lines().any(|l| l == line), "{line}: {of_t}");
    }
    assert_eq!(read("public.pair.csv"), "what,b,a'\ndifferent,100,\"\t\\ \"\"3\"\n");
    // As COPY reads it.
    let copied = b.data_dir().join("keys.csv");
    std::fs::write(&copied, &of_t).expect("a file");
    let copied = copied.display();
    b.execute(
        DB,
        &format!("CREATE TABLE d (what text, id int); COPY d FROM '{copied}' (FORMAT csv, HEADER)"),
    )
    .await;
    let joined = "SELECT count(*) FROM t JOIN d USING (id) WHERE what <> 'only_in_a'";
    let joined = b.connect(DB).await.query_one(joined, &[]).await.expect("a count");
    assert_eq!(joined.get::<_, i64>(0), 701);
    let ran = run(all.iter().copied().chain(keys_to));
    assert!(ran.code == 1 && ran.stderr.contains("is not empty"), "{}", ran.stderr);
    b.execute(DB, "DROP TABLE d").await;

    let ran = run(all.iter().copied().chain(["-t", "pair"]));
    assert_eq!(ran.code, 2, "{}{}", ran.stdout, ran.stderr);
    let said = "public.pair: 1 rows different, 0 only in A, 0 only in B";
    assert!(ran.stdout.contains(said) && !ran.stdout.contains("public.t: "), "{}", ran.stdout);
    assert!(ran.stdout.contains("different  (b, a\\') = (100, \\t\\\\ \\\"3)"), "{}", ran.stdout);
}
