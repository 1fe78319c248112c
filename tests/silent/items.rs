//! One item of an index that points behind the end of the table: a changed bit
//! makes such an item, and so does a block that was cut off with one row in it.

use super::{ALL, DB, PROGRAM, assert_found, execute, found, places_of, stopped};
use crate::kit::dumped::{Dumped, dump};
use crate::kit::places::{read_pages, truncate, write_page};
use crate::kit::{Server, ServerOptions, Version};
use pg_salvage::output::manifest::RelationStatus;

/// A row for each block, and a second index where wanted.
fn wide(name: &str, indexes: &[&str]) -> String {
    let mut sql = format!(
        "CREATE TABLE {name} (i int PRIMARY KEY, n int, t text);
         ALTER TABLE {name} ALTER t SET STORAGE PLAIN;
         INSERT INTO {name} SELECT i, -i, repeat('x', 5000) FROM generate_series(1, 60) i"
    );
    for column in indexes {
        sql += &format!("; CREATE INDEX ON {name} ({column})");
    }
    sql
}

/// Has an item of an index point 2^16 blocks further.
fn mislead(server: &Server, index: &str) {
    let pages = read_pages(server, index);
    // The root of a small index is the only leaf.
    let mut page = pages.into_iter().nth(1).expect("a root");
    let item = usize::from(page.line_pointer(7).offset);
    page.flip(item, 1);
    write_page(server, index, &page);
}

fn warnings<'a>(dumped: &'a Dumped, name: &str) -> Vec<&'a String> {
    let name = format!("\"public.{name}\"");
    dumped.manifest.warnings.iter().filter(|w| w.contains(&name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_item_of_an_index_does_not_make_a_table_short() {
    for version in Version::one_or_two() {
        let at = format!("on {}", version.major);
        let server = Server::start(&version, ServerOptions::checksums(false));
        let names = ["one", "of_two", "vacuumed"];
        let sql = [wide("one", &[]), wide("of_two", &["n"]), wide("vacuumed", &[])];
        execute(&server, &sql).await;
        execute(&server, &["VACUUM vacuumed", "CHECKPOINT"].map(str::to_owned)).await;
        let all = places_of(&server, &names).await;
        stopped(&server);
        for places in &all {
            mislead(&server, places.index.as_deref().expect("a primary key"));
        }
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, ALL);
        for name in names {
            let entry = dumped.relation(name);
            assert_eq!(entry.status, RelationStatus::Clean, "{at}: {entry:#?} {}", dumped.said);
            assert_eq!(entry.rows.clean, 60, "{at}: {name}");
        }
        // Of two indexes the server may have taken the one that is well.
        for name in ["one", "vacuumed"] {
            let said = warnings(&dumped, name);
            let words = format!("one item of index \"{name}_pkey\" is for a row in block 655");
            assert!(said.len() == 1 && said[0].contains(&words), "{at}: {name}: {said:?}");
        }
        assert_eq!(dumped.manifest.exit_code, 0, "{at}: {}", dumped.said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_was_cut_off_is_found_by_its_rows_or_by_two_indexes() {
    for version in Version::one_or_two() {
        let at = format!("on {}", version.major);
        let server = Server::start(&version, ServerOptions::checksums(false));
        let small = "CREATE TABLE small (i int PRIMARY KEY, t text);
            INSERT INTO small SELECT i, repeat('x', 1500) FROM generate_series(1, 42) i";
        let names = ["small", "two_blocks", "two_indexes", "alone"];
        let sql = [
            small.to_owned(),
            wide("two_blocks", &[]),
            wide("two_indexes", &["n"]),
            wide("alone", &[]),
            "CHECKPOINT".to_owned(),
        ];
        execute(&server, &sql).await;
        let all = places_of(&server, &names).await;
        stopped(&server);
        for (places, blocks) in all.iter().zip([1, 2, 1, 1]) {
            truncate(&server, &places.main, places.blocks - blocks);
        }
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, ALL);
        let end = |i: usize, blocks: u32| (all[i].blocks - blocks, all[i].blocks - 1);
        assert_found(&dumped, "small", end(0, 1), "index \"small_pkey\" has items", &at);
        assert_found(&dumped, "two_blocks", end(1, 2), "has items for rows in block 59", &at);
        let both = "indexes \"two_indexes_pkey\" and \"two_indexes_n_idx\" have items";
        assert_found(&dumped, "two_indexes", end(2, 1), both, &at);
        // One row, of which one index tells: it may as well be the index.
        assert_eq!(found(dumped.relation("alone")), [], "{at}");
        assert_eq!(warnings(&dumped, "alone").len(), 1, "{at}: {}", dumped.said);
    }
}

/// After a crash in VACUUM, or where statistics were loaded, pg_class may say
/// that a file is longer than it ever was with these rows.
#[tokio::test(flavor = "multi_thread")]
async fn what_pg_class_says_of_a_length_an_index_may_deny() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let bare =
            "CREATE TABLE bare AS SELECT i, repeat('x', 5000) t FROM generate_series(1, 60) i";
        let more = "UPDATE pg_class SET relpages = relpages + 7 WHERE relname IN ('known', 'bare')";
        let statements = [&wide("known", &[]), bare, "VACUUM ANALYZE", more, "CHECKPOINT"];
        execute(&server, &statements.map(str::to_owned)).await;
        let places = places_of(&server, &["known", "bare"]).await;
        let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
        let entry = dumped.relation("known");
        assert_eq!(
            (entry.status, found(entry)),
            (RelationStatus::Clean, vec![]),
            "{}",
            dumped.said
        );
        let said = warnings(&dumped, "known");
        assert!(said.len() == 1 && said[0].contains("no item"), "{said:?}");
        // Nobody denies it here.
        let end = places[1].blocks;
        assert_found(&dumped, "bare", (end, end + 6), "pg_class", &version.major.to_string());
    }
}
