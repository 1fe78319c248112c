//! Tables that are damaged themselves, where nothing can be planned as ever.

use super::base::{DB, PROGRAM};
use crate::kit::dumped::{Dumped, dump};
use crate::kit::oracle::{self, Row};
use crate::kit::{
    ChecksumAfter, Harm, Harmed, Place, Places, Server, ServerOptions, Stop, Version, harm, sample,
};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use std::collections::BTreeSet;

struct Victims {
    server: Server,
    rows: Vec<Row>,
    one: Places,
    two: Places,
    index: Places,
    statistics: Places,
}

async fn victims(version: &Version) -> Victims {
    let server = Server::start(version, ServerOptions::default());
    sample::victims(&server, DB, &["one", "two"]).await;
    server.execute(DB, "ANALYZE").await;
    server.execute(DB, "CHECKPOINT").await;
    let client = oracle::session(&server, DB).await;
    let columns = oracle::columns(&client, "public.one").await;
    let rows = oracle::rows(&client, "public.one", &columns).await;
    let places = async |name: &str| Places::of(&client, name).await;
    let (one, two) = (places("public.one").await, places("public.two").await);
    let index = places("public.one_pkey").await;
    let statistics = places("pg_catalog.pg_statistic").await;
    drop(client);
    assert_eq!(server.stop(), Stop::Clean);
    Victims { server, rows, one, two, index, statistics }
}

impl Victims {
    fn harm(&self, places: &Places, how: Harm, place: Place) -> Harmed {
        harm(&self.server, places, how, place, ChecksumAfter::Stale)
    }

    fn harm_statistics(&self) {
        for block in 0..self.statistics.blocks {
            self.harm(&self.statistics, Harm::BadPageHeader, Place { block, offset: 1 });
        }
    }
}

async fn set(dumped: &Dumped, name: &str, class: RowClass) -> BTreeSet<Vec<u8>> {
    let lines = dumped.lines(dumped.relation(name), class).await;
    let count = lines.len();
    let set: BTreeSet<Vec<u8>> = lines.into_iter().collect();
    assert_eq!(set.len(), count, "{name}: a row twice");
    set
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_table_whose_statistics_are_damaged_too_is_read_around_its_damage() {
    for version in Version::one_or_two() {
        let victims = victims(&version).await;
        victims.harm_statistics();
        let page =
            victims.harm(&victims.one, Harm::BadPageHeader, Place::middle(victims.one.blocks));
        let tuple =
            victims.harm(&victims.two, Harm::CompressedGarbage, Place::middle(victims.two.blocks));
        victims.server.start_again();
        for split in ["1GB", "64kB"] {
            let dumped = dump(PROGRAM, &victims.server, DB, &["-j2", "--split-size", split]);
            let at = format!("{}, split {split}: {}", version.major, dumped.said);
            assert_eq!(dumped.manifest.exit_code, 2, "{at}");
            let wanted = |harmed: &Harmed, alone: bool| -> BTreeSet<Vec<u8>> {
                let is = |r: &&Row| harmed.leaves_alone(r.block, r.offset) == alone;
                victims.rows.iter().filter(is).map(|r| r.line.clone()).collect()
            };
            let entry = dumped.relation("one");
            assert_eq!((entry.status, entry.blocks.lost), (RelationStatus::Salvaged, 1), "{at}");
            assert!(set(&dumped, "one", RowClass::Clean).await == wanted(&page, true), "{at}");
            let clean = set(&dumped, "two", RowClass::Clean).await;
            assert!(clean == wanted(&tuple, true), "{at}");
            let mut beside = wanted(&tuple, false);
            beside.retain(|line| {
                let row = victims.rows.iter().find(|r| r.line == *line).expect("a row");
                tuple.leaves_tuple_alone(row.block, row.offset)
            });
            assert!(set(&dumped, "two", RowClass::Suspect).await == beside, "{at}");
            assert_eq!(dumped.relation("two").rows.partial, 1, "{at}");
            dumped.check_files(&at);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_costs_its_table_nothing_as_long_as_that_is_sound() {
    for version in Version::one_or_two() {
        let victims = victims(&version).await;
        victims.harm(&victims.index, Harm::BadPageHeader, Place { block: 0, offset: 1 });
        victims.server.start_again();
        for split in ["1GB", "64kB"] {
            let dumped = dump(PROGRAM, &victims.server, DB, &["-j2", "--split-size", split]);
            let all: BTreeSet<Vec<u8>> = victims.rows.iter().map(|r| r.line.clone()).collect();
            assert!(set(&dumped, "one", RowClass::Clean).await == all, "{}", dumped.said);
            assert_eq!(dumped.manifest.exit_code, 0, "{}", dumped.said);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_but_plain_copy_is_left_what_comes_before_the_damage_is_kept() {
    for version in Version::one_or_two() {
        let victims = victims(&version).await;
        victims.harm(&victims.index, Harm::BadPageHeader, Place { block: 0, offset: 1 });
        let place = Place::middle(victims.one.blocks);
        victims.harm(&victims.one, Harm::BadPageHeader, place);
        victims.server.start_again();
        let dumped = dump(PROGRAM, &victims.server, DB, &["-j2"]);
        let entry = dumped.relation("one");
        assert_eq!(entry.status, RelationStatus::Failed, "{entry:#?}");
        let reason = entry.reason.clone().unwrap_or_default();
        assert!(reason.contains("plain COPY"), "{reason}");
        let before: BTreeSet<Vec<u8>> =
            victims.rows.iter().filter(|r| r.block < place.block).map(|r| r.line.clone()).collect();
        // The server has named the block, so those before it are complete.
        assert!(set(&dumped, "one", RowClass::Clean).await == before, "{}", dumped.said);
        assert_eq!(entry.rows.suspect, 0);
        assert_eq!(dumped.relation("two").status, RelationStatus::Clean, "{}", dumped.said);
        assert!(!dumped.manifest.server.system_indexes_ignored);
    }
}
