//! Partitions, inheritance children and materialised views, each with damage of
//! its own, among healthy ones: only what is damaged is named, and of that only
//! what is damaged is lost.

use crate::kinds::{DB, PROGRAM, stopped};
use crate::kit::dumped::dump;
use crate::kit::{ChecksumAfter, Harm, Harmed, Place, Places, Server, ServerOptions, Version};
use crate::kit::{harm, oracle, sample};
use pg_salvage::output::manifest::{RelationKind, RelationStatus, RowClass};
use std::collections::BTreeMap;

/// Harms relations, dumps, and holds every relation against the truth.
async fn check(server: &Server, harms: &[(&str, Harm)]) {
    let truth = oracle::database(server, DB).await;
    let client = oracle::session(server, DB).await;
    let mut places = Vec::new();
    for (name, _) in harms {
        places.push(Places::of(&client, &format!("public.{name}")).await);
    }
    drop(client);
    server.execute(DB, "CHECKPOINT").await;
    stopped(server);
    let mut harmed: BTreeMap<&str, Harmed> = BTreeMap::new();
    for ((name, each), places) in harms.iter().zip(&places) {
        let is_toast = Harm::TOAST.contains(each);
        let blocks = if is_toast { places.toast_blocks } else { places.blocks };
        let at = Place::middle(blocks);
        harmed.insert(name, harm(server, places, *each, at, ChecksumAfter::Stale));
    }
    server.start_again();
    let dumped = dump(PROGRAM, server, DB, &["-j2"]);
    assert_eq!(dumped.manifest.exit_code, 2, "{}", dumped.said);
    for (relation, rows) in &truth {
        let entry = dumped.relation(&relation.name);
        let at = format!("{} on {}: {entry:#?}", relation.name, server.version.major);
        let harmed = harmed.get(relation.name.as_str());
        let expected: Vec<&[u8]> = rows
            .iter()
            .filter(|r| harmed.is_none_or(|h| h.leaves_alone(r.block, r.offset)))
            .map(|r| r.line.as_slice())
            .collect();
        let status = match harmed {
            None => RelationStatus::Clean,
            Some(_) if expected.is_empty() => RelationStatus::Lost,
            Some(_) => RelationStatus::Salvaged,
        };
        assert_eq!(entry.status, status, "{at}");
        assert_eq!(harmed.is_some(), !entry.lost.is_empty(), "{at}");
        let lines = dumped.lines(entry, RowClass::Clean).await;
        assert!(lines.iter().map(Vec::as_slice).eq(expected.iter().copied()), "{at}");
        assert!(harmed.is_none() || expected.len() < rows.len(), "{at}: nothing was harmed");
    }
    // A parent has no rows of its own, and is never damaged.
    for entry in
        dumped.manifest.relations.iter().filter(|r| r.kind == RelationKind::PartitionedTable)
    {
        assert_eq!(entry.status, RelationStatus::Skipped, "{}", entry.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_partitions_and_children_only_the_damaged_are_named() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let mut sql =
            "CREATE TABLE parted (id int, k int, x text) PARTITION BY LIST (k);".to_owned();
        for k in 0..8 {
            sql.push_str(&format!("CREATE TABLE leaf{k} PARTITION OF parted FOR VALUES IN ({k});"));
        }
        sql.push_str(
            "CREATE TABLE tree PARTITION OF parted FOR VALUES IN (8, 9) PARTITION BY RANGE (id);
             CREATE TABLE tree_low PARTITION OF tree FOR VALUES FROM (0) TO (2000);
             CREATE TABLE tree_high PARTITION OF tree FOR VALUES FROM (2000) TO (9000) PARTITION BY LIST (k);
             CREATE TABLE tree_high8 PARTITION OF tree_high FOR VALUES IN (8);
             CREATE TABLE tree_high9 PARTITION OF tree_high FOR VALUES IN (9);
             INSERT INTO parted SELECT i, i % 10, repeat('x', 100) FROM generate_series(1, 8000) i;
             CREATE TABLE parent (id int, x text); CREATE TABLE child (y int) INHERITS (parent);
             CREATE TABLE grandchild () INHERITS (child);
             INSERT INTO parent SELECT i, repeat('p', 100) FROM generate_series(1, 500) i;
             INSERT INTO child SELECT i, repeat('c', 100), i FROM generate_series(1, 500) i;
             INSERT INTO grandchild SELECT i, repeat('g', 100), i FROM generate_series(1, 500) i",
        );
        server.execute(DB, &sql).await;
        check(
            &server,
            &[
                ("leaf3", Harm::BadPageHeader),
                ("leaf6", Harm::RemoveFile),
                ("tree_high8", Harm::BadPageHeader),
                ("child", Harm::BadPageHeader),
            ],
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_materialised_views_only_the_damaged_are_named() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::victims(&server, DB, &["base"]).await;
        for name in ["well", "page", "gone", "toast_page", "toast_gone"] {
            let sql = format!(
                "CREATE MATERIALIZED VIEW {name} AS SELECT * FROM base WITH NO DATA;
                 ALTER MATERIALIZED VIEW {name} ALTER big SET STORAGE EXTERNAL;
                 REFRESH MATERIALIZED VIEW {name}"
            );
            server.execute(DB, &sql).await;
        }
        check(
            &server,
            &[
                ("page", Harm::BadPageHeader),
                ("gone", Harm::RemoveFile),
                ("toast_page", Harm::ToastBadPageHeader),
                ("toast_gone", Harm::RemoveToastFile),
            ],
        )
        .await;
    }
}
