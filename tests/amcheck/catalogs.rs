//! What a damaged catalog costs: what it says, and no relation is called damaged
//! for it.

use super::base::{DB, check, checked, damaged, served};
use super::{change, flip, make_future};
use crate::kit::{Places, Stop, Version, oracle};
use pg_salvage::verify::amcheck::Outcome;

/// So many that some table has its own row in another block of `pg_class` than
/// its TOAST table has.
fn objects() -> String {
    (0..60).map(|i| format!("CREATE TABLE t{i} (id int, big text);")).collect()
}

/// Such a table, and the block of its TOAST table's row.
const APART: &str = "SELECT c.relname::text, (t.ctid::text::point)[0]::int
    FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid
    WHERE c.relname ~ '^t[0-9]+$' AND (c.ctid::text::point)[0] <> (t.ctid::text::point)[0]
    ORDER BY 2 DESC LIMIT 1";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_catalogs_do_not_say_is_incomplete_and_no_damage() {
    let server = served(&Version::newest(), &objects()).await;
    let client = oracle::session(&server, DB).await;
    let row = client.query_one(APART, &[]).await.expect("a table");
    let (name, block): (String, i32) = (row.get(0), row.get(1));
    let block = block.unsigned_abs();
    assert_ne!(block, 0, "no session can be had without what is there");
    let sql =
        format!("INSERT INTO {name} SELECT i, repeat('x', 90) FROM generate_series(1, 500) i");
    server.execute(DB, &sql).await;
    server.execute(DB, "CHECKPOINT").await;
    let places = Places::of(&client, &format!("public.{name}")).await;
    let catalog = Places::of(&client, "pg_catalog.pg_class").await;
    drop(client);
    assert_eq!(server.stop(), Stop::Clean);
    flip(&server, &catalog.main, block);
    change(&server, &places.main, 5, |page| make_future(page, 1));
    server.start_again();
    let found = check(&server, |o| o.heapallindexed = true).await;
    let apart = checked(&found, &name);
    assert_eq!(apart.outcome, Outcome::Damaged, "{apart:#?}");
    assert_eq!(apart.problems.len(), 1, "{apart:#?}");
    assert_eq!(apart.problems[0].ctid.as_deref(), Some("(5,1)"), "{apart:#?}");
    assert!(apart.reason.as_ref().is_some_and(|r| r.contains("elsewhere")), "{apart:#?}");
    assert_eq!(damaged(&found), ["pg_class", &name]);
    assert_eq!(checked(&found, "pg_class").problems[0].first_block, Some(block));
    assert!(found.notes.iter().any(|n| n.contains("catalog \"pg_class\"")), "{:?}", found.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_of_a_catalog_is_passed_by_and_named() {
    let server = served(&Version::major(15), "CREATE TABLE t (id int PRIMARY KEY)").await;
    server.execute(DB, "CHECKPOINT").await;
    let client = oracle::session(&server, DB).await;
    let index = Places::of(&client, "pg_catalog.pg_proc_oid_index").await;
    drop(client);
    assert_eq!(server.stop(), Stop::Clean);
    (1..index.blocks).for_each(|block| flip(&server, &index.main, block));
    server.start_again();
    let found = check(&server, |_| {}).await;
    assert_eq!(damaged(&found), ["pg_proc_oid_index"]);
    assert_eq!(checked(&found, "t_pkey").outcome, Outcome::Clean);
    assert!(found.notes[0].contains("indexes of system catalogs"), "{:?}", found.notes);
}
