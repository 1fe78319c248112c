//! Rows of which some columns cannot be read: what can be trusted of them is
//! had, and nothing else is.

use crate::kit::dumped::{Dumped, dump};
use crate::kit::places::{read_page, write_page};
use crate::kit::sample::VICTIM_COLUMNS;
use crate::kit::{
    ChecksumAfter, Harm, Places, Plan, Server, ServerOptions, Stop, Version, Ward, oracle,
};
use pg_salvage::output::manifest::{Relation, RelationStatus, RowClass};
use std::collections::BTreeMap;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");

/// Which columns of a victim's row are lost by a harm, and why.
fn lost_columns(harm: Harm) -> Option<BTreeMap<&'static str, &'static str>> {
    let toast: &[_] = &[("big", "stored_elsewhere")];
    let all: &[_] = match harm {
        Harm::CompressedGarbage => &[("squeezed", "tuple"), ("big", "untrusted")],
        Harm::ToastPointer
        | Harm::ToastZeroBlock
        | Harm::ToastBadPageHeader
        | Harm::ToastChunkSequence
        | Harm::RemoveToastFile => toast,
        _ => return None,
    };
    Some(all.iter().copied().collect())
}

fn without(line: &[u8], columns: &BTreeMap<&str, &str>) -> Vec<u8> {
    let fields = line.split(|&b| b == b'\t').zip(VICTIM_COLUMNS);
    let fields: Vec<&[u8]> =
        fields.map(|(f, c)| if columns.contains_key(c) { &b"\\N"[..] } else { f }).collect();
    fields.join(&b'\t')
}

/// Each lost column of each tuple is named.
fn assert_named(relation: &Relation, tuples: &[(u32, u16)], columns: &BTreeMap<&str, &str>) {
    let named: Vec<_> =
        relation.lost.iter().map(|l| (l.ctid.clone(), l.column.clone(), l.cause.clone())).collect();
    let mut expected = Vec::new();
    for (block, offset) in tuples {
        for (column, cause) in VICTIM_COLUMNS.iter().filter_map(|c| columns.get_key_value(c)) {
            let ctid = format!("({block},{offset})");
            expected.push((Some(ctid), Some((*column).to_owned()), (*cause).to_owned()));
        }
    }
    assert_eq!(named, expected);
}

/// Where only the TOAST index is damaged, all values are put together: nothing is
/// lost, but the relation is named.
async fn check_reassembled(ward: &Ward, plan: Plan, dumped: &Dumped) {
    for harm in [Harm::ToastIndexZeroBlock, Harm::ToastIndexBadPageHeader] {
        let relation = dumped.relation(&plan.table(harm));
        let at = format!("{harm:?} on {}: {relation:#?}", ward.server.version.major);
        let clean = dumped.lines(relation, RowClass::Clean).await;
        assert!(clean.iter().eq(ward.before.iter().map(|r| &r.line)), "{at}");
        assert_eq!((relation.rows.suspect, relation.rows.partial), (0, 0), "{at}");
        assert_eq!(relation.status, RelationStatus::Salvaged, "{at}");
        assert!(relation.lost.is_empty(), "{at}");
        let errors = relation.errors.as_ref().map_or(0, |e| e.count);
        assert!(errors > 0 && errors < 40, "{at}");
    }
}

async fn check(ward: &Ward, plan: Plan, dumped: &Dumped) {
    check_reassembled(ward, plan, dumped).await;
    for (&harm, harmed) in &ward.harmed {
        let Some(columns) = lost_columns(harm) else { continue };
        let relation = dumped.relation(&plan.table(harm));
        let at = format!("{harm:?} on {}", ward.server.version.major);
        let spoilt = |r: &&crate::kit::oracle::Row| harmed.tuples.contains(&(r.block, r.offset));
        let rows: Vec<_> = ward.before.iter().filter(spoilt).collect();
        assert!(!rows.is_empty(), "{at}");
        let expected: Vec<Vec<u8>> = rows.iter().map(|r| without(&r.line, &columns)).collect();
        let partial = dumped.lines(relation, RowClass::Partial).await;
        assert!(partial == expected, "{at}: {} partial, not {}", partial.len(), expected.len());
        let rest: Vec<&[u8]> =
            ward.before.iter().filter(|r| !spoilt(r)).map(|r| r.line.as_slice()).collect();
        let mut others = dumped.lines(relation, RowClass::Clean).await;
        others.extend(dumped.lines(relation, RowClass::Suspect).await);
        others.sort();
        let mut sorted = rest;
        sorted.sort_unstable();
        assert!(others == sorted, "{at}: the other rows are not what they were");
        let in_tuple = columns.values().any(|&cause| cause == "tuple");
        assert_eq!(relation.rows.suspect > 0, in_tuple, "{at}: {relation:#?}");
        assert_eq!(relation.status, RelationStatus::Salvaged, "{at}");
        let mut tuples: Vec<_> = rows.iter().map(|r| (r.block, r.offset)).collect();
        tuples.sort_unstable();
        assert_named(relation, &tuples, &columns);
        // Not a search for each row: one failed read, one line for the loss, and
        // what it costs to find out.
        let errors = relation.errors.as_ref().map_or(0, |e| e.count);
        assert!(errors <= 3 * tuples.len() as u64 + 60, "{at}: {errors} errors");
    }
}

fn columns_are_had(plan: Plan) {
    let versions = Version::one_or_two();
    std::thread::scope(|scope| {
        for version in &versions {
            scope.spawn(move || {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(async {
                    let ward = Ward::open(version, plan).await;
                    for jobs in ["-j1", "-j3"] {
                        let options = [jobs, "--max-crashes", "100", "--split-size", "128kB"];
                        let dumped = dump(PROGRAM, &ward.server, ward.dbname, &options);
                        check(&ward, plan, &dumped).await;
                        dumped.check_files(jobs);
                    }
                });
            });
        }
    });
}

#[test]
fn columns_beside_a_value_that_is_lost_are_had() {
    columns_are_had(Plan { fresh: true, ..Plan::new(false) });
}

#[test]
fn columns_are_had_where_checksums_fit() {
    columns_are_had(Plan { sum: ChecksumAfter::Recomputed, ..Plan::new(true) });
}

/// A row of which no column can be trusted, beside a value of it in TOAST that
/// is whole: it is its page that is damaged.
#[tokio::test(flavor = "multi_thread")]
async fn rows_beside_one_without_a_column_left_are_suspect() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(false));
        let create = "CREATE TABLE v (payload text, raw bytea);
            ALTER TABLE v ALTER raw SET STORAGE EXTERNAL;
            INSERT INTO v SELECT repeat(md5(i::text), 200), decode(repeat(md5(i::text), 150), 'hex')
            FROM generate_series(1, 200) i";
        server.execute("postgres", create).await;
        let client = oracle::session(&server, "postgres").await;
        let columns = oracle::columns(&client, "public.v").await;
        let rows = oracle::rows(&client, "public.v", &columns).await;
        let places = Places::of(&client, "public.v").await;
        drop(client);
        assert!(places.blocks > 2, "{places:?}");
        assert_eq!(server.stop(), Stop::Clean);
        let mut page = read_page(&server, &places.main, 1);
        let tuple = page.tuple(3);
        // Compressed in the tuple itself: behind both of its headers.
        page.bytes[tuple.data + 8..tuple.data + 60].fill(0xFF);
        write_page(&server, &places.main, &page);
        server.start_again();
        let dumped = dump(PROGRAM, &server, "postgres", &["-j1"]);
        let relation = dumped.relation("v");
        let (suspect, clean): (Vec<_>, Vec<_>) = rows.iter().partition(|r| r.block == 1);
        let suspect = suspect.iter().filter(|r| r.offset != 3).map(|r| &r.line);
        let at = format!("{}: {relation:#?}", version.major);
        assert!(dumped.lines(relation, RowClass::Suspect).await.iter().eq(suspect), "{at}");
        let clean = clean.iter().map(|r| &r.line);
        assert!(dumped.lines(relation, RowClass::Clean).await.iter().eq(clean), "{at}");
        assert_eq!((relation.lost.len(), relation.lost[0].cause.as_str()), (1, "tuple"), "{at}");
        let images = std::fs::read_dir(dumped.dir.path().join("pages")).expect("images").count();
        assert_eq!(images, 1, "{at}");
    }
}
