//! A database whose catalogs have many blocks, the rows of all its relations,
//! and what each block of each catalog describes.

use crate::kit::dumped::{Dumped, dump};
use crate::kit::oracle::{self, Relation, Row};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version, harm};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use tokio_postgres::Client;

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
pub(super) const DB: &str = "postgres";

/// Enough for pg_class to have blocks in which there is nothing of the system.
const TABLES: u32 = 60;

/// Catalogs that a dump reads.
pub(super) fn catalogs() -> [&'static str; 9] {
    [
        "pg_class",
        "pg_attribute",
        "pg_namespace",
        "pg_type",
        "pg_am",
        "pg_depend",
        "pg_sequence",
        "pg_index",
        "pg_inherits",
    ]
}

pub(super) fn blocks_of(places: &Places) -> BTreeSet<u32> {
    let blocks = places.blocks;
    [0, blocks / 2, blocks.saturating_sub(1)].into_iter().filter(|b| *b < blocks).collect()
}

pub(super) struct Base {
    /// Stopped; nothing is done to it.
    pub(super) server: Server,
    pub(super) truth: Vec<(Relation, Vec<Row>)>,
    /// `last_value` of each sequence.
    pub(super) sequences: BTreeMap<u32, i64>,
    places: BTreeMap<String, Places>,
    touched: BTreeMap<(&'static str, u32), Touched>,
}

/// Relations whose definition a place of a catalog holds a part of, or that of
/// their TOAST.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched(pub(super) BTreeSet<u32>);

/// What each catalog says of which relation, as a table of block and OID.
fn touching(catalog: &str) -> Option<&'static str> {
    Some(match catalog {
        "pg_class" => "SELECT (ctid::text::point)[0]::int, oid FROM pg_class",
        "pg_attribute" => "SELECT (ctid::text::point)[0]::int, attrelid FROM pg_attribute",
        "pg_namespace" => {
            "SELECT (n.ctid::text::point)[0]::int, c.oid FROM pg_namespace n
             JOIN pg_class c ON c.relnamespace = n.oid"
        }
        "pg_type" => {
            "SELECT (t.ctid::text::point)[0]::int, a.attrelid FROM pg_type t
             JOIN pg_attribute a ON a.atttypid = t.oid"
        }
        "pg_index" => "SELECT (ctid::text::point)[0]::int, indrelid FROM pg_index",
        "pg_sequence" => return None,
        _ => return None,
    })
}

impl Base {
    pub(super) async fn new(version: &Version) -> Base {
        let server = Server::start(version, ServerOptions::default());
        fill(&server).await;
        let client = oracle::session(&server, DB).await;
        let mut places = BTreeMap::new();
        let mut touched: BTreeMap<_, Touched> = BTreeMap::new();
        let owners = owners(&client).await;
        for catalog in catalogs() {
            let here = Places::of(&client, &format!("pg_catalog.{catalog}")).await;
            places.insert(catalog.to_owned(), here);
            let Some(sql) = touching(catalog) else { continue };
            let sql = format!("SELECT b, oid FROM ({sql}) t (b, oid)");
            for row in client.query(&sql, &[]).await.expect("a catalog") {
                let (block, oid): (i32, u32) = (row.get(0), row.get(1));
                let oid = owners.get(&oid).copied().unwrap_or(oid);
                touched.entry((catalog, block.unsigned_abs())).or_default().0.insert(oid);
            }
        }
        let sequences = sequences(&client).await;
        drop(client);
        let truth = oracle::database(&server, DB).await;
        assert!(truth.len() > TABLES as usize);
        assert_eq!(server.stop(), Stop::Clean);
        Base { server, truth, sequences, places, touched }
    }

    pub(super) fn places(&self, catalog: &str) -> &Places {
        &self.places[catalog]
    }

    pub(super) fn touched(&self, catalog: &'static str, block: u32) -> Touched {
        self.touched.get(&(catalog, block)).cloned().unwrap_or_default()
    }

    pub(super) fn dump(&self, server: &Server) -> Dumped {
        dump(PROGRAM, server, DB, &["-j2"])
    }

    /// Harms one block of a copy, dumps that, and looks at the dump.
    pub(super) async fn check(&self, catalog: &str, block: u32, how: Harm, touched: Touched) {
        let at = format!("{catalog}, block {block}, {how:?} on {}", self.server.version.major);
        let copy = self.server.copy();
        let place = Place { block, offset: 1 };
        harm(&copy, self.places(catalog), how, place, ChecksumAfter::Stale);
        copy.start_again();
        if !can_connect(&copy).await {
            refuses(&copy, &at);
            return;
        }
        let dumped = self.dump(&copy);
        self.check_dump(&dumped, &touched, &at).await;
        let bad = how == Harm::BadPageHeader;
        if bad {
            let named = dumped.manifest.catalogs.iter().find(|c| c.name == catalog);
            let named = named.unwrap_or_else(|| panic!("{at}: not named: {}", dumped.said));
            assert!(named.lost.iter().any(|l| l.first_block == Some(block)), "{at}: {named:?}");
            assert_eq!(dumped.manifest.exit_code, 2, "{at}: {}", dumped.said);
        }
    }

    /// All that was not touched is whole, and all that was is whole, or named as
    /// lost.
    pub(super) async fn check_dump(&self, dumped: &Dumped, touched: &Touched, at: &str) {
        let mut lost = 0;
        for (relation, rows) in &self.truth {
            let entry = dumped.manifest.relations.iter().find(|r| r.oid == relation.oid);
            let entry = entry.unwrap_or_else(|| panic!("{at}: {} is missing", relation.quoted()));
            let is_touched = touched.0.contains(&relation.oid);
            if entry.status != RelationStatus::Clean && is_touched {
                let causes: BTreeSet<&str> = entry.lost.iter().map(|l| l.cause.as_str()).collect();
                let at = format!("{at}: {entry:#?}: {}", dumped.said);
                if entry.status == RelationStatus::Salvaged {
                    // Its TOAST, or the type of a column, is what cannot be had.
                    assert!(causes.is_subset(&["catalog", "stored_elsewhere"].into()), "{at}");
                    assert!(entry.lost.iter().all(|l| l.column.is_some()), "{at}");
                    let all = entry.rows.clean + entry.rows.partial;
                    assert_eq!((all, entry.rows.suspect), (rows.len() as u64, 0), "{at}");
                } else {
                    assert_eq!(entry.status, RelationStatus::Lost, "{at}");
                    assert_eq!(causes, ["catalog"].into(), "{at}");
                    assert_eq!((entry.files.len(), entry.rows.clean), (0, 0), "{at}");
                    lost += 1;
                }
                continue;
            }
            assert_eq!(entry.status, RelationStatus::Clean, "{at}: {entry:#?}: {}", dumped.said);
            let lines = dumped.lines(entry, RowClass::Clean).await;
            let same = lines.iter().map(Vec::as_slice).eq(rows.iter().map(|r| r.line.as_slice()));
            assert!(same, "{at}: rows of {}", relation.quoted());
        }
        for (oid, value) in &self.sequences {
            let entry = dumped.manifest.relations.iter().find(|r| r.oid == *oid);
            let entry = entry.unwrap_or_else(|| panic!("{at}: sequence {oid} is missing"));
            if !touched.0.contains(oid) {
                let last = entry.sequence.as_ref().map(|s| s.last_value);
                assert_eq!(last, Some(*value), "{at}: {entry:#?}");
                assert_eq!(entry.status, RelationStatus::Clean, "{at}: {entry:#?}");
            }
        }
        let counted = dumped.manifest.totals.relations.clone();
        assert!(counted.lost >= lost && counted.failed == 0, "{at}: {counted:?}");
        if lost > 0 {
            assert_eq!(dumped.manifest.exit_code, 2, "{at}: {}", dumped.said);
        }
        dumped.check_files(at);
    }
}

/// Whether any session can be had, with or without the system's indexes.
pub(super) async fn can_connect(server: &Server) -> bool {
    for options in ["", "-c ignore_system_indexes=on"] {
        let conninfo = format!("{} options='{options}'", server.conninfo(DB));
        let connected = tokio_postgres::connect(&conninfo, tokio_postgres::NoTls).await;
        if let Ok((client, connection)) = connected {
            tokio::spawn(connection);
            if client.simple_query("SELECT 1").await.is_ok() {
                return true;
            }
        }
    }
    false
}

/// One line says what is damaged, and what is left to do.
pub(super) fn refuses(server: &Server, at: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(PROGRAM);
    command
        .args(["dump", "--raw-rows=never", "--no-schema", "-d"])
        .arg(server.conninfo(DB))
        .arg("-f")
        .arg(dir.path().join("d"));
    let out = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{at}: {said}");
    assert!(said.contains("ignore_system_indexes") && said.contains("single-user mode"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

async fn fill(server: &Server) {
    let client = server.connect(DB).await;
    let mut sql = String::from(
        "CREATE SCHEMA other; CREATE TYPE mood AS ENUM ('fine', 'bad'); CREATE DOMAIN small AS int;",
    );
    for i in 0..TABLES {
        let schema = if i % 7 == 3 { "other" } else { "public" };
        sql.push_str(&format!(
            "CREATE TABLE {schema}.t{i} (id int PRIMARY KEY, n numeric, t text, m mood, s small);
             INSERT INTO {schema}.t{i} SELECT g, g * 1.5, 'row ' || g, 'fine', g FROM generate_series(1, {}) g;",
            20 + i
        ));
    }
    sql.push_str(
        "CREATE TABLE wide (id int, big text);
         ALTER TABLE wide ALTER big SET STORAGE EXTERNAL;
         INSERT INTO wide SELECT g, repeat('wide ' || g, 900) FROM generate_series(1, 30) g;
         CREATE TABLE parts (id int) PARTITION BY RANGE (id);
         CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (50);
         CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM (50) TO (100);
         INSERT INTO parts SELECT generate_series(0, 99);
         CREATE TABLE parent (id int); CREATE TABLE child (more text) INHERITS (parent);
         INSERT INTO child SELECT g, 'child' FROM generate_series(1, 9) g;
         CREATE VIEW a_view AS SELECT * FROM t1;
         CREATE MATERIALIZED VIEW a_matview AS SELECT id, t FROM t2;
         CREATE TYPE pair AS (a int, b int);
         CREATE TABLE fed (id serial, t text); INSERT INTO fed (t) SELECT 'fed' FROM generate_series(1, 33);
         CREATE SEQUENCE alone; SELECT setval('alone', 77);
         SELECT lo_from_bytea(0, 'a large object');
         ANALYZE",
    );
    client.batch_execute(&sql).await.expect("a database");
    client.batch_execute("CHECKPOINT").await.expect("a checkpoint");
}

/// By the OID of a TOAST table, or of its index, the table that it belongs to.
async fn owners(client: &Client) -> BTreeMap<u32, u32> {
    let sql = "SELECT reltoastrelid, oid FROM pg_class WHERE reltoastrelid <> 0
        UNION ALL SELECT i.indexrelid, c.oid FROM pg_class c JOIN pg_index i ON i.indrelid = c.reltoastrelid";
    let rows = client.query(sql, &[]).await.expect("pg_class");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn sequences(client: &Client) -> BTreeMap<u32, i64> {
    let sql = "SELECT c.oid, s.last_value FROM pg_class c JOIN pg_sequences s ON s.sequencename = c.relname
        WHERE c.relkind = 'S'";
    let rows = client.query(sql, &[]).await.expect("pg_sequences");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
