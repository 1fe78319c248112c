//! Damage to other things than one small table: sequences, large objects,
//! materialised views, relations read in ranges, statistics; among healthy
//! neighbours, none of which may be named.

mod large_objects;
mod parts;
mod sequences;

use crate::kit::dumped::{Dumped, dump};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version};
use crate::kit::{harm, oracle, sample};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use std::collections::{BTreeMap, BTreeSet};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

fn stopped(server: &Server) {
    assert_eq!(server.stop(), Stop::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_whole_sample_only_the_damaged_relation_is_named() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::create(&server, "sample", 1).await;
        sample::victims(&server, "sample", &["victim"]).await;
        let truth = oracle::database(&server, "sample").await;
        let client = oracle::session(&server, "sample").await;
        let places = Places::of(&client, "public.victim").await;
        drop(client);
        stopped(&server);
        let done = harm(
            &server,
            &places,
            Harm::BadPageHeader,
            Place::middle(places.blocks),
            ChecksumAfter::Stale,
        );
        server.start_again();
        let dumped = dump(PROGRAM, &server, "sample", &["-j2"]);
        assert_eq!(dumped.manifest.exit_code, 2, "{}", dumped.said);
        for (relation, rows) in truth {
            let entry = dumped.relation_of(&relation.schema, &relation.name);
            let at = format!("{}.{} on {}", relation.schema, relation.name, version.major);
            let lines = dumped.lines(entry, RowClass::Clean).await;
            let is_victim = relation.name == "victim";
            let status = if is_victim { RelationStatus::Salvaged } else { RelationStatus::Clean };
            assert_eq!(entry.status, status, "{at}");
            let expected: Vec<&[u8]> = rows
                .iter()
                .filter(|r| !is_victim || done.leaves_alone(r.block, r.offset))
                .map(|r| r.line.as_slice())
                .collect();
            assert!(lines == expected, "{at}: {} rows, not {}", lines.len(), expected.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_sequence_is_derived_from_the_column_it_feeds() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let sql = "CREATE TABLE fed (x text, id serial); INSERT INTO fed(x) SELECT 'a' FROM generate_series(1, 777);
            CREATE TABLE falls (id bigint GENERATED ALWAYS AS IDENTITY (INCREMENT -2 START -5 MAXVALUE -1), y int);
            INSERT INTO falls (y) SELECT 1 FROM generate_series(1, 10);
            CREATE SEQUENCE alone START 42; SELECT nextval('alone'); CREATE SEQUENCE well; CHECKPOINT";
        server.execute(DB, sql).await;
        let client = oracle::session(&server, DB).await;
        let mut places = Vec::new();
        for name in ["fed_id_seq", "falls_id_seq", "alone"] {
            places.push(Places::of(&client, &format!("public.{name}")).await);
        }
        drop(client);
        stopped(&server);
        for places in &places {
            harm(
                &server,
                places,
                Harm::SequenceBadPageHeader,
                Place::first(),
                ChecksumAfter::Stale,
            );
        }
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
        let value = |name| {
            dumped.relation(name).sequence.as_ref().map(|s| (s.last_value, s.is_called, s.derived))
        };
        assert_eq!(value("fed_id_seq"), Some((777, true, true)), "{}", dumped.said);
        assert_eq!(value("falls_id_seq"), Some((-23, true, true)));
        assert_eq!(value("alone"), None);
        assert_eq!(value("well"), Some((1, false, false)));
        assert_eq!(dumped.relation("alone").status, RelationStatus::Lost);
        assert_eq!(dumped.relation("fed_id_seq").status, RelationStatus::Salvaged);
        assert_eq!(dumped.relation("fed").status, RelationStatus::Clean);
        assert_eq!(dumped.manifest.exit_code, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_pages_of_large_objects_are_listed_and_matviews_are_salvaged() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let sql = "SELECT lo_from_bytea(1000 + i, decode(repeat(md5(i::text), 3000), 'hex')) FROM generate_series(1, 20) i;
            CREATE TABLE t AS SELECT i, md5(i::text) m FROM generate_series(1, 5000) i;
            CREATE MATERIALIZED VIEW mv AS SELECT * FROM t; VACUUM; CHECKPOINT";
        for statement in sql.split(';') {
            server.execute(DB, statement).await;
        }
        let client = oracle::session(&server, DB).await;
        let mut truth = BTreeMap::new();
        for (name, columns) in
            [("pg_catalog.pg_largeobject", "loid, pageno, data"), ("public.mv", "i, m")]
        {
            let columns: Vec<String> = columns.split(", ").map(str::to_owned).collect();
            truth.insert(
                name,
                (Places::of(&client, name).await, oracle::rows(&client, name, &columns).await),
            );
        }
        drop(client);
        stopped(&server);
        for (places, _) in truth.values() {
            harm(
                &server,
                places,
                Harm::BadPageHeader,
                Place::middle(places.blocks),
                ChecksumAfter::Stale,
            );
        }
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
        for (name, (places, rows)) in &truth {
            let (schema, relation) = name.split_once('.').unwrap();
            let entry = dumped.relation_of(schema, relation);
            let lines = dumped.lines(entry, RowClass::Clean).await;
            let left: Vec<&[u8]> = rows
                .iter()
                .filter(|r| r.block != places.blocks / 2)
                .map(|r| r.line.as_slice())
                .collect();
            assert!(lines == left, "{name} on {}: {entry:#?}", version.major);
            assert_eq!((entry.status, entry.blocks.lost), (RelationStatus::Salvaged, 1));
        }
        // The lost pages, but for those at the end of an object, of which no
        // row is left to tell.
        let (places, rows) = &truth["pg_catalog.pg_largeobject"];
        let page = |line: &[u8]| {
            let text = String::from_utf8_lossy(line).into_owned();
            let mut fields = text.split('\t').map(str::parse::<u32>);
            (fields.next().unwrap().unwrap(), fields.next().unwrap().unwrap())
        };
        let kept: BTreeSet<(u32, u32)> =
            rows.iter().filter(|r| r.block != places.blocks / 2).map(|r| page(&r.line)).collect();
        let lost: BTreeSet<(u32, u32)> =
            rows.iter().map(|r| page(&r.line)).filter(|p| !kept.contains(p)).collect();
        let told: BTreeSet<(u32, u32)> = lost
            .iter()
            .copied()
            .filter(|(lo, p)| kept.range((*lo, *p)..(*lo + 1, 0)).next().is_some())
            .collect();
        let entry =
            dumped.relation_of("pg_catalog", "pg_largeobject").large_objects.as_ref().unwrap();
        let missing: BTreeSet<(u32, u32)> = entry
            .missing
            .iter()
            .flat_map(|m| (m.first_page..=m.last_page).map(|p| (m.loid, p)))
            .collect();
        assert_eq!(missing, told);
        assert!(!missing.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_relation_read_in_ranges_gives_the_same_bytes_whatever_the_jobs() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(false));
        let sql = "CREATE TABLE large AS SELECT i, repeat(md5(i::text), 4) m FROM generate_series(1, 1000000) i;
            CHECKPOINT";
        server.execute(DB, sql).await;
        let client = oracle::session(&server, DB).await;
        let columns = ["i".to_owned(), "m".to_owned()];
        let rows = oracle::rows(&client, "public.large", &columns).await;
        let places = Places::of(&client, "public.large").await;
        drop(client);
        stopped(&server);
        let mut bad = BTreeSet::new();
        let last = rows.iter().map(|r| r.block).max().unwrap();
        for block in [0, 17, 4095, 4096, 4097, 9000, 9001, 9002, last] {
            harm(
                &server,
                &places,
                Harm::BadPageHeader,
                Place { block, offset: 1 },
                ChecksumAfter::Stale,
            );
            bad.insert(block);
        }
        server.start_again();
        let mut bytes: Vec<Vec<u8>> = Vec::new();
        for jobs in ["-j1", "-j2", "-j4"] {
            let dumped = dump(PROGRAM, &server, DB, &[jobs, "--split-size", "64MB"]);
            let entry = dumped.relation("large");
            assert_eq!(entry.blocks.lost, bad.len() as u64);
            bytes.push(std::fs::read(dumped.dir.path().join(&entry.files[0].path)).unwrap());
            let lines = dumped.lines(entry, RowClass::Clean).await;
            let left: Vec<&[u8]> = rows
                .iter()
                .filter(|r| !bad.contains(&r.block))
                .map(|r| r.line.as_slice())
                .collect();
            assert!(lines == left, "{jobs} on {}", version.major);
            assert_eq!(dumped.leftovers(), Vec::<String>::new());
        }
        assert!(bytes.windows(2).all(|w| w[0] == w[1]), "other bytes with other jobs");
        // Whole at first, and then in parts: the same rows.
        let dumped = dump(PROGRAM, &server, DB, &[]);
        assert_eq!(
            dumped.relation("large").rows.clean,
            rows.iter().filter(|r| !bad.contains(&r.block)).count() as u64
        );
    }
}

async fn check_well(dumped: &Dumped, well: &[&str], rows: &[oracle::Row], at: &str) {
    for name in well {
        let entry = dumped.relation(name);
        let lines = dumped.lines(entry, RowClass::Clean).await;
        assert!(
            lines.iter().map(Vec::as_slice).eq(rows.iter().map(|r| r.line.as_slice())),
            "{at}: {name}"
        );
        assert_eq!(entry.status, RelationStatus::Clean, "{at}: {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_statistics_do_not_keep_tables_from_being_read() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::victims(&server, DB, &["one", "two"]).await;
        server.execute(DB, "ANALYZE").await;
        server.execute(DB, "CHECKPOINT").await;
        let client = oracle::session(&server, DB).await;
        let columns = oracle::columns(&client, "public.one").await;
        let rows = oracle::rows(&client, "public.one", &columns).await;
        let statistics = Places::of(&client, "pg_catalog.pg_statistic").await;
        drop(client);
        stopped(&server);
        for block in 0..statistics.blocks {
            harm(
                &server,
                &statistics,
                Harm::BadPageHeader,
                Place { block, offset: 1 },
                ChecksumAfter::Stale,
            );
        }
        server.start_again();
        for split in ["1GB", "64kB"] {
            let dumped = dump(PROGRAM, &server, DB, &["-j2", "--split-size", split]);
            check_well(
                &dumped,
                &["one", "two"],
                &rows,
                &format!("{}, split {split}", version.major),
            )
            .await;
            assert_eq!(dumped.manifest.exit_code, 0, "{}", dumped.said);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_catalog_that_only_decorates_keeps_nothing_from_being_read() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::victims(&server, DB, &["one", "two"]).await;
        let client = oracle::session(&server, DB).await;
        let columns = oracle::columns(&client, "public.one").await;
        let rows = oracle::rows(&client, "public.one", &columns).await;
        let depend = Places::of(&client, "pg_catalog.pg_depend").await;
        drop(client);
        stopped(&server);
        harm(
            &server,
            &depend,
            Harm::BadPageHeader,
            Place::middle(depend.blocks),
            ChecksumAfter::Stale,
        );
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
        check_well(&dumped, &["one", "two"], &rows, &version.major.to_string()).await;
        let warned = dumped.manifest.warnings.iter().any(|w| w.contains("pg_depend"));
        assert!(warned, "{:?}", dumped.manifest.warnings);
    }
}
