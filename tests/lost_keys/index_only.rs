//! Lost rows by name for a role that may not read files: by an index-only scan,
//! or with one note that says why not.

use super::{DB, PROGRAM, Pair, csv, in_block, keys, named, spoil};
use crate::kit::dumped::{Dumped, dump_as};
use crate::kit::page_edit::XMIN_HINTS;
use crate::kit::places::{read_page, write_page};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Version, harm};
use pg_salvage::output::manifest::RelationStatus;
use std::collections::BTreeSet;

const REFUSED: &str = "ERROR: permission denied for function pg_read_binary_file";
const READER: &str =
    "CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader";

/// A table with two unique keys, one of them of text that wants escapes.
fn table(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (id int, code text, n int UNIQUE, note text, PRIMARY KEY (id, code));
         INSERT INTO {name} SELECT i, E'it''s \\t' || i || E'\\\\\\n', CASE WHEN i % 3 > 0 THEN i END, md5(i::text)
         FROM generate_series(1, 6000) i"
    )
}

fn dumped(pair: &Pair) -> Dumped {
    pair.server.start_again();
    let dumped = dump_as(PROGRAM, &pair.server, ("reader", DB), &["-n", "public"]);
    dumped.check_files("without rights");
    assert_eq!(dumped.manifest.exit_code, 2, "{}", dumped.said);
    dumped
}

/// Has a tuple fail by itself. Ranges of blocks look at it, for the page does not
/// say any more that it is all-visible; the visibility map does.
fn spoil_tuple(pair: &Pair, places: &Places, block: u32, number: u16) {
    let mut page = read_page(&pair.server, &places.main, block);
    let flags = page.u16_at(10) & !4;
    page.put(10, &flags.to_le_bytes());
    let tuple = page.tuple(number);
    page.put(tuple.xmin(), &0xC000_0000_u32.to_le_bytes());
    page.change_infomask(tuple, XMIN_HINTS, 0);
    write_page(&pair.server, &places.main, &page);
}

/// Every lost row is named and fetched, and nothing else; nothing is certain.
async fn assert_named(pair: &Pair, dumped: &Dumped, table: &str, lost: &str, index: &str) {
    let keys = keys(dumped, table);
    let rows = pair.rows(table, lost).await;
    let id = |row: &String| -> i32 {
        let first = row.split('\t').next().unwrap_or_default();
        first.parse().expect("a number")
    };
    assert_eq!((keys.rows, keys.certain, keys.omitted), (rows.len() as u64, 0, 0), "{keys:#?}");
    let list = csv(dumped, keys);
    if index.ends_with("pkey") {
        let truth: BTreeSet<i32> = rows.iter().map(id).collect();
        assert_eq!(named(&list), [truth, BTreeSet::new()], "{list}");
    }
    let mut records = csv::Reader::from_reader(list.as_bytes());
    assert!(records.records().all(|r| r.is_ok_and(|r| (&r[0], &r[1]) == ("", ""))), "{list}");
    assert_eq!(pair.fetched(dumped, keys), rows, "{table}");
    let note = format!("by an index-only scan of index \"{index}\", without places: {REFUSED}");
    assert_eq!(keys.notes[0], note);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_files_gets_the_keys_of_lost_rows_from_the_server() {
    for version in Version::one_or_two() {
        let [t, cut, halved] = ["t", "cut", "halved"].map(table);
        let statements = [t.as_str(), cut.as_str(), halved.as_str(), READER, "VACUUM (ANALYZE)"];
        let pair = Pair::new(&version, false, &statements).await;
        let (t, cut) = (pair.places("t").await, pair.places("cut").await);
        let (halved, index) = (pair.places("halved").await, pair.places("halved_pkey").await);
        spoil(&pair, &t, 0);
        spoil(&pair, &t, 9);
        spoil_tuple(&pair, &t, 20, 5);
        let at = Place { block: cut.blocks - 3, offset: 1 };
        harm(&pair.server, &cut, Harm::TruncateAt, at, ChecksumAfter::Stale);
        spoil(&pair, &halved, 9);
        spoil(&pair, &index, 3);
        let dumped = dumped(&pair);
        assert!(!dumped.said.contains("lost rows are not named"), "{}", dumped.said);
        let lost = format!("{} OR {} OR ctid = '(20,5)'", in_block(0), in_block(9));
        assert_named(&pair, &dumped, "t", &lost, "t_pkey").await;
        let suspect = dumped.relation("t").rows.suspect;
        assert!(suspect > 10, "{suspect} rows beside a lost tuple");
        let behind = format!("(ctid::text::point)[0] >= {}", at.block);
        assert_named(&pair, &dumped, "cut", &behind, "cut_pkey").await;
        // The other unique index cannot tell rows apart whose key is NULL.
        let keys = keys(&dumped, "halved");
        let rows = pair.rows("halved", &in_block(9)).await;
        assert_eq!(keys.rows, rows.len() as u64, "{keys:#?}");
        assert!(keys.notes[0].contains("halved_n_key") && keys.notes.len() == 2, "{keys:#?}");
        assert!(keys.notes[1].starts_with("index \"halved_pkey\": ERROR: invalid page in block 3"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_heap_would_be_visited_one_note_says_so() {
    for version in Version::one_or_two() {
        let [fresh, touched, keyless] = [
            table("fresh"),
            table("touched"),
            "CREATE TABLE keyless AS SELECT i FROM generate_series(1, 6000) i;
             CREATE INDEX ON keyless (i)"
                .to_owned(),
        ];
        let statements = [
            touched.as_str(),
            keyless.as_str(),
            "VACUUM (ANALYZE)",
            "DELETE FROM touched WHERE ctid = '(9,3)'",
            fresh.as_str(),
            READER,
        ];
        let pair = Pair::new(&version, true, &statements).await;
        for name in ["fresh", "touched", "keyless"] {
            spoil(&pair, &pair.places(name).await, 9);
        }
        let dumped = dumped(&pair);
        let visits = "an index-only scan would visit the heap: 0 of 0 pages are all-visible";
        for (name, why) in [
            ("fresh", visits),
            ("touched", "index \"touched_pkey\": ERROR: invalid page in block 9"),
            ("keyless", "it has no unique index of columns alone"),
        ] {
            let keys = keys(&dumped, name);
            assert_eq!((keys.rows, &keys.path, &keys.sql), (0, &None, &None), "{name}");
            let [note] = keys.notes.as_slice() else { panic!("{name}: {keys:#?}") };
            assert!(note.starts_with(&format!("{REFUSED}; {why}")), "{name}: {note}");
            let warning = format!("lost rows are not named: {note}");
            assert!(dumped.manifest.warnings.contains(&warning), "{}", dumped.said);
            let entry = dumped.relation(name);
            assert_eq!(entry.status, RelationStatus::Salvaged, "{name}");
            assert_eq!(entry.lost.len(), 1, "{name}: {entry:#?}");
        }
        let right = "GRANT pg_read_server_files TO reader;
            GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint, boolean) TO reader";
        pair.server.execute(DB, right).await;
        let dumped = dump_as(PROGRAM, &pair.server, ("reader", DB), &["-t", "fresh"]);
        assert!(keys(&dumped, "fresh").rows > 10, "{}", dumped.said);
    }
}
