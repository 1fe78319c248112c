//! Damaged indexes of the system's catalogs.

use super::base::{Base, DB, Touched, blocks_of, can_connect, refuses};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Version, harm, oracle};

const INDEXES: [&str; 14] = [
    "pg_class_oid_index",
    "pg_class_relname_nsp_index",
    "pg_class_tblspc_relfilenode_index",
    "pg_attribute_relid_attnum_index",
    "pg_attribute_relid_attnam_index",
    "pg_type_oid_index",
    "pg_type_typname_nsp_index",
    "pg_namespace_nspname_index",
    "pg_namespace_oid_index",
    "pg_index_indrelid_index",
    "pg_index_indexrelid_index",
    "pg_proc_oid_index",
    "pg_statistic_relid_att_inh_index",
    "pg_largeobject_metadata_oid_index",
];

#[test]
fn an_index_of_a_catalog_costs_nothing_as_long_as_a_session_can_be_had() {
    std::thread::scope(|scope| {
        for version in Version::one_or_two() {
            scope.spawn(move || {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(each_index(&version));
            });
        }
    });
}

async fn each_index(version: &Version) {
    let base = Base::new(version).await;
    base.server.start_again();
    let client = oracle::session(&base.server, DB).await;
    let mut places = Vec::new();
    for index in INDEXES {
        places.push(Places::of(&client, &format!("pg_catalog.{index}")).await);
    }
    drop(client);
    base.server.stop();
    let mut ignored = 0;
    for place in places.iter().filter(|p| p.blocks > 0) {
        for block in blocks_of(place) {
            let at = format!("{}, block {block} on {}", place.relation, version.major);
            let copy = base.server.copy();
            let first = Place { block, offset: 1 };
            harm(&copy, place, Harm::BadPageHeader, first, ChecksumAfter::Stale);
            copy.start_again();
            if !can_connect(&copy).await {
                refuses(&copy, &at);
                continue;
            }
            let dumped = base.dump(&copy);
            base.check_dump(&dumped, &Touched::default(), &at).await;
            let past = dumped.manifest.server.system_indexes_ignored;
            assert_eq!(
                dumped.manifest.exit_code,
                if past { 2 } else { 0 },
                "{at}: {}",
                dumped.said
            );
            ignored += usize::from(past);
        }
    }
    assert!(ignored > 5, "only {ignored} runs went past the indexes");
}
