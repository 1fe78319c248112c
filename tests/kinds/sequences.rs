//! Sequences, damaged in every way: their value is read, or derived from all of
//! the columns that they feed.

use crate::kinds::{DB, PROGRAM, stopped};
use crate::kit::dumped::{Dumped, dump};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Version};
use crate::kit::{harm, oracle};
use pg_salvage::output::manifest::{RelationStatus, RowClass};

async fn places(server: &Server, names: &[&str]) -> Vec<Places> {
    let client = oracle::session(server, DB).await;
    let mut places = Vec::new();
    for name in names {
        places.push(Places::of(&client, &format!("public.{name}")).await);
    }
    places
}

/// Harms the sequences of these names, and dumps.
async fn dumped_with_bad_pages(server: &Server, names: &[&str]) -> Dumped {
    server.execute(DB, "CHECKPOINT").await;
    let places = places(server, names).await;
    stopped(server);
    for places in &places {
        let header = Harm::SequenceBadPageHeader;
        harm(server, places, header, Place::first(), ChecksumAfter::Stale);
    }
    server.start_again();
    dump(PROGRAM, server, DB, &["-j2"])
}

/// Value, whether it was called, whether it is derived.
fn value(dumped: &Dumped, name: &str) -> Option<(i64, bool, bool)> {
    dumped.relation(name).sequence.as_ref().map(|s| (s.last_value, s.is_called, s.derived))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_a_sequence_its_value_is_had() {
    let harms = [
        // The row is there, though the server will not use the page.
        (Harm::SequenceMagic, false),
        (Harm::SequenceBadPageHeader, true),
        (Harm::ZeroBlock, true),
        (Harm::TruncateAt, true),
        (Harm::RemoveFile, true),
    ];
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(false));
        for unlogged in ["", "UNLOGGED"] {
            for i in 0..harms.len() {
                // An unlogged table's sequence is, too.
                let sql = format!(
                    "CREATE {unlogged} TABLE fed{unlogged}{i} (x text, id serial);
                     INSERT INTO fed{unlogged}{i} (x) SELECT 'a' FROM generate_series(1, 777)"
                );
                server.execute(DB, &sql).await;
            }
        }
        server.execute(DB, "CREATE SEQUENCE well START 5; CHECKPOINT").await;
        let names: Vec<String> = ["fed", "fedunlogged"]
            .iter()
            .flat_map(|table| (0..harms.len()).map(move |i| format!("{table}{i}_id_seq")))
            .collect();
        let places = places(&server, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        stopped(&server);
        for (places, (each, _)) in places.iter().zip(harms.iter().chain(&harms)) {
            harm(&server, places, *each, Place::first(), ChecksumAfter::Recomputed);
        }
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
        for (name, (each, derived)) in names.iter().zip(harms.iter().chain(&harms)) {
            let at = format!("{name}, {each:?}, on {}: {}", version.major, dumped.said);
            let entry = dumped.relation(name);
            assert_eq!(value(&dumped, name), Some((777, true, *derived)), "{at}");
            assert_eq!(entry.status, RelationStatus::Salvaged, "{at}");
            assert_eq!((entry.lost.len(), entry.lost[0].cause.as_str()), (1, "sequence"), "{at}");
            let table = dumped.relation(name.strip_suffix("_id_seq").expect("a sequence"));
            assert_eq!((table.status, table.rows.clean), (RelationStatus::Clean, 777), "{at}");
        }
        assert_eq!(value(&dumped, "well"), Some((5, false, false)));
        assert_eq!(dumped.relation("well").status, RelationStatus::Clean);
        assert_eq!(dumped.manifest.exit_code, 2);
    }
}

/// Nobody owns it: the defaults of the columns tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_feeds_two_tables_is_as_far_as_the_further_one() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let sql = "CREATE SEQUENCE up; CREATE SEQUENCE down INCREMENT -1;
            CREATE TABLE near (id int DEFAULT nextval('up'), d int DEFAULT nextval('down'), x int);
            CREATE TABLE far (x int, again int DEFAULT nextval('up'), id int DEFAULT nextval('up'), d int DEFAULT nextval('down'));
            CREATE TABLE neither (id int, x int);
            INSERT INTO near (x) SELECT 1 FROM generate_series(1, 50);
            INSERT INTO far (x) SELECT 1 FROM generate_series(1, 50);
            INSERT INTO neither SELECT 9999, 1; INSERT INTO near (id, d, x) VALUES (3, -3, 1)";
        server.execute(DB, sql).await;
        let dumped = dumped_with_bad_pages(&server, &["up", "down"]).await;
        let at = format!("{}: {}", version.major, dumped.said);
        assert_eq!(value(&dumped, "up"), Some((150, true, true)), "{at}");
        assert_eq!(value(&dumped, "down"), Some((-100, true, true)), "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_of_a_partitioned_table_is_as_far_as_the_furthest_clean_row() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let mut sql = "CREATE TABLE parted (k int, id serial, x text) PARTITION BY LIST (k);
            CREATE TABLE named (k int, id int GENERATED BY DEFAULT AS IDENTITY, x text) PARTITION BY LIST (k);
            CREATE TABLE parent (id serial, x text); CREATE TABLE child (y int) INHERITS (parent);
            INSERT INTO parent (x) VALUES ('first'); INSERT INTO child (x, y) SELECT 'x', i FROM generate_series(1, 20) i;"
            .to_owned();
        for table in ["parted", "named"] {
            sql.push_str(&format!(
                "CREATE TABLE {table}0 PARTITION OF {table} FOR VALUES IN (0);
                 CREATE TABLE {table}1 (x text, gone int, id int NOT NULL, k int);
                 ALTER TABLE {table}1 DROP gone; ALTER TABLE {table} ATTACH PARTITION {table}1 FOR VALUES IN (1);
                 CREATE TABLE {table}2 PARTITION OF {table} FOR VALUES IN (2) PARTITION BY LIST (k);
                 CREATE TABLE {table}20 PARTITION OF {table}2 FOR VALUES IN (2);
                 INSERT INTO {table} (k, x) SELECT i % 3, repeat('x', 1000) FROM generate_series(1, 301) i;"
            ));
        }
        server.execute(DB, &sql).await;
        let client = oracle::session(&server, DB).await;
        // The row with the largest number is on a page that is lost.
        let lost = Places::of(&client, "public.parted1").await;
        let columns = oracle::columns(&client, "public.parted1").await;
        let rows = oracle::rows(&client, "public.parted1", &columns).await;
        drop(client);
        server.execute(DB, "CHECKPOINT").await;
        stopped(&server);
        let last = Place::last(lost.blocks);
        harm(&server, &lost, Harm::BadPageHeader, last, ChecksumAfter::Stale);
        server.start_again();
        let names = ["parted_id_seq", "named_id_seq", "parent_id_seq"];
        let dumped = dumped_with_bad_pages(&server, &names).await;
        let at = format!("{}: {}", version.major, dumped.said);
        let clean = dumped.lines(dumped.relation("parted1"), RowClass::Clean).await;
        assert!(clean.len() < rows.len() && rows.last().expect("rows").block == last.block, "{at}");
        // 301 is the last of partition 1; 300 is in partition 0.
        assert_eq!(value(&dumped, "parted_id_seq"), Some((300, true, true)), "{at}");
        assert_eq!(value(&dumped, "named_id_seq"), Some((301, true, true)), "{at}");
        assert_eq!(value(&dumped, "parent_id_seq"), Some((21, true, true)), "{at}");
    }
}
