//! One damaged tuple of a catalog.

use super::base::{Base, DB, Touched, can_connect, refuses};
use crate::kit::page_edit::{Page, Tuple, XMAX_COMMITTED, XMAX_INVALID, XMAX_IS_MULTI, XMIN_HINTS};
use crate::kit::places::{read_page, write_page};
use crate::kit::{Places, Server, Version, oracle};
use pg_salvage::output::manifest::RelationStatus;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Its xmin is one of which pg_xact knows nothing: reading it fails.
    Forgotten,
    /// It seems to be deleted: it is missing, and no read says so.
    Deleted,
}

fn harm(page: &mut Page, tuple: Tuple, how: How) {
    match how {
        How::Forgotten => {
            page.put(tuple.xmin(), &0xC000_0000_u32.to_le_bytes());
            page.change_infomask(tuple, XMIN_HINTS, 0);
        }
        How::Deleted => {
            let xmin = page.u32_at(tuple.xmin());
            page.put(tuple.xmax(), &xmin.to_le_bytes());
            page.change_infomask(tuple, XMAX_INVALID | XMAX_IS_MULTI, XMAX_COMMITTED);
        }
    }
}

fn edit(server: &Server, places: &Places, (block, offset): (u32, u16), how: How) {
    let mut page = read_page(server, &places.main, block);
    page.assert_sound();
    let tuple = page.tuple(offset);
    harm(&mut page, tuple, how);
    write_page(server, &places.main, &page);
}

/// A tuple of a catalog, and the relations that it describes: as a condition
/// on pg_class.
const TUPLES: [(&str, &str, &str); 6] = [
    ("pg_class", "oid = 'public.t5'::regclass", "oid = 'public.t5'::regclass"),
    (
        "pg_attribute",
        "attrelid = 'public.t5'::regclass AND attname = 'n'",
        "oid = 'public.t5'::regclass",
    ),
    ("pg_namespace", "nspname = 'other'", "relnamespace = 'other'::regnamespace"),
    ("pg_class", "oid = 'public.alone'::regclass", "oid = 'public.alone'::regclass"),
    ("pg_sequence", "seqrelid = 'public.alone'::regclass", "false"),
    (
        "pg_depend",
        "classid = 'pg_class'::regclass AND objid = 'public.fed_id_seq'::regclass",
        "false",
    ),
];

#[test]
fn a_damaged_tuple_of_a_catalog_costs_what_it_describes() {
    std::thread::scope(|scope| {
        for version in Version::one_or_two() {
            scope.spawn(move || {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(each_tuple(&version));
            });
        }
    });
}

async fn each_tuple(version: &Version) {
    let base = Base::new(version).await;
    base.server.start_again();
    let client = oracle::session(&base.server, DB).await;
    let mut found = Vec::new();
    for (catalog, condition, relations) in TUPLES {
        let sql = format!("SELECT ctid::text FROM pg_catalog.{catalog} WHERE {condition}");
        let ctid: String = client.query(&sql, &[]).await.expect("a tuple")[0].get(0);
        let sql = format!("SELECT oid FROM pg_class WHERE {relations}");
        let rows = client.query(&sql, &[]).await.expect("relations");
        let touched = Touched(rows.iter().map(|r| r.get(0)).collect());
        found.push((catalog, oracle::parse_tid(&ctid), touched));
    }
    drop(client);
    base.server.stop();
    let mut refused = 0;
    for (catalog, at, touched) in found {
        for how in [How::Forgotten, How::Deleted] {
            let name = format!("{catalog} {at:?}, {how:?} on {}", version.major);
            let copy = base.server.copy();
            edit(&copy, base.places(catalog), at, how);
            copy.start_again();
            // Some pages are looked at as a whole when a session begins.
            if !can_connect(&copy).await {
                refuses(&copy, &name);
                refused += 1;
                continue;
            }
            let dumped = base.dump(&copy);
            base.check_dump(&dumped, &touched, &name).await;
            if how == How::Forgotten {
                let named = dumped.manifest.catalogs.iter().any(|c| c.name == catalog);
                assert!(named, "{name}: {}", dumped.said);
            }
            // A sequence or a table that is not there at all is known by others.
            for oid in &touched.0 {
                let entry = dumped.manifest.relations.iter().find(|r| r.oid == *oid);
                if let Some(entry) = entry {
                    assert_eq!(entry.status, RelationStatus::Lost, "{name}: {entry:#?}");
                    assert!(entry.lost.iter().any(|l| l.cause == "catalog"), "{name}: {entry:#?}");
                }
            }
        }
    }
    assert!(refused < 6, "no session in {refused} of 12 cases");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_pg_class_that_is_there_twice_is_one_relation() {
    for version in Version::one_or_two() {
        let base = Base::new(&version).await;
        base.server.start_again();
        let client = oracle::session(&base.server, DB).await;
        let sql = "SELECT oid, ctid::text FROM pg_class WHERE relname = 't6'";
        let row = client.query_one(sql, &[]).await.expect("pg_class");
        let (oid, old): (u32, String) = (row.get(0), row.get(1));
        client
            .batch_execute("ALTER TABLE public.t6 RENAME TO renamed; CHECKPOINT")
            .await
            .expect("a new name");
        drop(client);
        base.server.stop();
        let (block, offset) = oracle::parse_tid(&old);
        let path = &base.places("pg_class").main;
        let mut page = read_page(&base.server, path, block);
        let tuple = page.tuple(offset);
        page.put(tuple.xmax(), &[0; 4]);
        page.change_infomask(tuple, XMAX_COMMITTED | XMAX_IS_MULTI, XMAX_INVALID);
        write_page(&base.server, path, &page);
        base.server.start_again();
        let dumped = base.dump(&base.server);
        let entries = dumped.manifest.relations.iter().filter(|r| r.oid == oid).count();
        assert_eq!(entries, 1, "{}", dumped.said);
        let twice = dumped.manifest.warnings.iter().any(|w| w.contains("more than once"));
        assert!(twice, "{:?}", dumped.manifest.warnings);
        assert_eq!(dumped.manifest.exit_code, 2, "{}", dumped.said);
        base.check_dump(&dumped, &Touched::default(), &version.major.to_string()).await;
    }
}
