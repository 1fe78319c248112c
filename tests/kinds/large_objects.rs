//! Large objects: their pages, what is known of them, and their index.

use crate::kinds::{DB, PROGRAM, stopped};
use crate::kit::dumped::{Dumped, dump};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Version};
use crate::kit::{harm, oracle};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use std::collections::BTreeMap;

const PAGES: &str = "pg_catalog.pg_largeobject";
const METADATA: &str = "pg_catalog.pg_largeobject_metadata";

type Truth = BTreeMap<&'static str, (Places, Vec<oracle::Row>)>;

/// Twenty of 48 pages each, and enough others, empty, for some pages of metadata.
async fn with_large_objects(version: &Version) -> (Server, Truth) {
    let server = Server::start(version, ServerOptions::checksums(true));
    let sql = "SELECT lo_from_bytea(1000 + i, decode(repeat(md5(i::text), 3000), 'hex')) FROM generate_series(1, 20) i;
        SELECT lo_create(100000 + i) FROM generate_series(1, 600) i; VACUUM; CHECKPOINT";
    for statement in sql.split(';') {
        server.execute(DB, statement).await;
    }
    let client = oracle::session(&server, DB).await;
    let mut truth = Truth::new();
    for (name, columns) in [(PAGES, "loid, pageno, data"), (METADATA, "oid, lomowner, lomacl")] {
        let columns: Vec<String> = columns.split(", ").map(str::to_owned).collect();
        let places = Places::of(&client, name).await;
        truth.insert(name, (places, oracle::rows(&client, name, &columns).await));
    }
    drop(client);
    stopped(&server);
    (server, truth)
}

async fn check(dumped: &Dumped, truth: &Truth, lost: &str, block: u32, at: &str) {
    for (name, (_, rows)) in truth {
        let (schema, relation) = name.split_once('.').expect("a schema");
        let entry = dumped.relation_of(schema, relation);
        let status = if *name == lost { RelationStatus::Salvaged } else { RelationStatus::Clean };
        assert_eq!(entry.status, status, "{at}: {name}");
        let left = rows.iter().filter(|r| *name != lost || r.block != block);
        let lines = dumped.lines(entry, RowClass::Clean).await;
        assert!(lines.iter().eq(left.map(|r| &r.line)), "{at}: rows of {name}");
    }
    assert_eq!(dumped.manifest.exit_code, if lost.is_empty() { 0 } else { 2 }, "{at}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_metadata_leaves_the_large_objects_themselves_clean() {
    for version in Version::one_or_two() {
        let (server, truth) = with_large_objects(&version).await;
        let (places, _) = &truth[METADATA];
        assert!(places.blocks > 1, "{}", version.major);
        let middle = Place::middle(places.blocks);
        harm(&server, places, Harm::BadPageHeader, middle, ChecksumAfter::Stale);
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
        let at = format!("{}: {}", version.major, dumped.said);
        check(&dumped, &truth, METADATA, middle.block, &at).await;
    }
}

/// Rows are never looked up by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_of_large_objects_is_no_loss() {
    for version in Version::one_or_two() {
        let (server, truth) = with_large_objects(&version).await;
        let index = truth[PAGES].0.index.clone().expect("a primary key");
        let index = Places { main: index, ..truth[PAGES].0.clone() };
        for block in [0, 1] {
            let at = Place { block, offset: 1 };
            harm(&server, &index, Harm::BadPageHeader, at, ChecksumAfter::Stale);
        }
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
        let at = format!("{}: {}", version.major, dumped.said);
        check(&dumped, &truth, "", 0, &at).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_whose_file_is_gone_are_lost_and_that_is_said() {
    for version in Version::one_or_two() {
        let (server, truth) = with_large_objects(&version).await;
        let (places, _) = &truth[PAGES];
        harm(&server, places, Harm::RemoveFile, Place::first(), ChecksumAfter::Stale);
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
        let at = format!("{}: {}", version.major, dumped.said);
        let entry = dumped.relation_of("pg_catalog", "pg_largeobject");
        assert_eq!(entry.status, RelationStatus::Lost, "{at}");
        assert_eq!(entry.lost[0].cause, "missing_file", "{at}");
        assert_eq!(dumped.manifest.exit_code, 2, "{at}");
        let metadata = dumped.relation_of("pg_catalog", "pg_largeobject_metadata");
        assert_eq!(metadata.status, RelationStatus::Clean, "{at}");
        assert_eq!(metadata.rows.clean, 620, "{at}");
    }
}
