//! The matrix: every harm of the test kit, on every major version, with a stale
//! checksum, a fitting one and none, on pages that are all-visible or not; each
//! dump must be, row for row, what is foretold (`damage/predict.rs`).
//!
//! The victims are equal tables of 1,500 rows, each harmed in one way, in one
//! database that is dumped once.
//!
//! With `PG_SALVAGE_MATRIX=FILE` what was found is written there as a Markdown
//! table: docs/damage-matrix.md is made so.

// Modules of a test have no other users.
#![allow(unreachable_pub)]

mod pages;
mod predict;
mod table;

use crate::kit::dumped::{Dumped, dump};
use crate::kit::sample::VICTIM_COLUMNS;
use crate::kit::version::is_wide;
use crate::kit::ward::SEQUENCE_VALUE;
use crate::kit::{At, ChecksumAfter, Harm, Harmed, Plan, Version, Ward, oracle};
use pg_salvage::output::manifest::{Lost, RelationStatus, RowClass};
use predict::{Fate, Named, predict};

/// The oldest version that is tried.
const OLDEST: u32 = 13;

/// The rows of the truth that a class of the dump must have, as they must be.
fn expected(rows: &[oracle::Row], fate: impl Fn(&oracle::Row) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
    rows.iter().filter_map(fate).collect()
}

fn without(line: &[u8], columns: &[(&str, &str)]) -> Vec<u8> {
    let is_lost = |column: &str| columns.iter().any(|(lost, _)| *lost == column);
    let fields = line.split(|&b| b == b'\t').zip(VICTIM_COLUMNS);
    let fields: Vec<&[u8]> =
        fields.map(|(f, c)| if is_lost(c) { &b"\\N"[..] } else { f }).collect();
    fields.join(&b'\t')
}

/// Fails with the first row that differs.
fn assert_rows(found: &[Vec<u8>], expected: &[Vec<u8>], at: &str) {
    let short = |row: Option<&Vec<u8>>| {
        row.map(|row| String::from_utf8_lossy(&row[..row.len().min(100)]).into_owned())
    };
    let differs = (0..found.len().max(expected.len())).find(|&i| found.get(i) != expected.get(i));
    if let Some(i) = differs {
        panic!(
            "{at}: {} rows, {} are foretold; the first that differs is row {i}:\n{:?}, not\n{:?}",
            found.len(),
            expected.len(),
            short(found.get(i)),
            short(expected.get(i))
        );
    }
}

fn is_named(lost: &Lost, named: &Named) -> bool {
    let ctid = named.ctid.map(|(block, offset)| format!("({block},{offset})"));
    (lost.first_block.zip(lost.last_block), &lost.ctid) == (named.blocks, &ctid)
        && (lost.column.as_deref(), lost.cause.as_str()) == (named.column, named.cause)
}

async fn check(ward: &Ward, plan: Plan, dumped: &Dumped, harm: Harm, harmed: &Harmed) {
    let major = ward.server.version.major;
    let table = plan.table(harm);
    let relation = dumped.relation(&table);
    let at = format!("{harm:?} on {major}, {plan:?}");
    let foretold = predict((harm, harmed), plan, major, &ward.before);
    let about = format!("{at}: {relation:#?}\n{}", dumped.said);

    let clean = expected(&ward.before, |row| match foretold.fate(row) {
        Fate::Clean => Some(row.line.clone()),
        Fate::Altered(line) => Some(line.clone()),
        _ => None,
    });
    let suspect = expected(&ward.before, |row| match foretold.fate(row) {
        Fate::Suspect => Some(row.line.clone()),
        Fate::SuspectAltered(line) => Some(line.clone()),
        _ => None,
    });
    let partial = expected(&ward.before, |row| match foretold.fate(row) {
        Fate::Partial(columns) => Some(without(&row.line, columns)),
        _ => None,
    });
    for (class, rows) in
        [(RowClass::Clean, &clean), (RowClass::Suspect, &suspect), (RowClass::Partial, &partial)]
    {
        let found = dumped.lines(relation, class).await;
        assert_rows(&found, rows, &format!("{about}\n{class:?} rows of {at}"));
    }

    let named = relation.lost.len() == foretold.lost.len()
        && relation.lost.iter().zip(&foretold.lost).all(|(lost, named)| is_named(lost, named));
    assert!(named, "{about}\nforetold are {:#?}", foretold.lost);
    assert_eq!(relation.status, foretold.status, "{about}");
    assert_eq!(relation.reason.is_some(), foretold.reason, "{about}");
    // What a read has told is in the log.
    let told = foretold.reason || foretold.lost.iter().any(|named| named.cause != "silent_loss");
    assert_eq!(relation.errors.is_some(), told, "{about}");
    if plan.at == At::Middle {
        table::note(major, harm, plan, &foretold, &ward.before);
    }
}

/// Of a sequence whose page can be read the value is had, but not trusted where
/// the magic number is wrong.
fn check_sequence(ward: &Ward, plan: Plan, dumped: &Dumped, harm: Harm) {
    let relation = dumped.relation(&format!("{harm:?}"));
    let about = format!("{plan:?} on {}: {relation:#?}", ward.server.version.major);
    let value = relation.sequence.as_ref().map(|s| (s.last_value, s.is_called, s.derived));
    let expected = match harm {
        Harm::SequenceMagic if !plan.is_checked() => {
            (Some((SEQUENCE_VALUE, true, false)), RelationStatus::Salvaged)
        }
        // No column is fed by it, so there is nothing to derive it from.
        _ => (None, RelationStatus::Lost),
    };
    assert_eq!((value, relation.status), expected, "{about}");
    let named = Named { blocks: Some((0, 0)), ctid: None, column: None, cause: "sequence" };
    assert!(relation.lost.len() == 1 && is_named(&relation.lost[0], &named), "{about}");
}

fn check_version(version: &Version, plan: Plan) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ward = runtime.block_on(Ward::open(version, plan));
    let options = ["-j2", "--max-crashes", "100", "--check-pages=never"];
    let program = env!("CARGO_BIN_EXE_pg_salvage");
    let dumped = dump(program, &ward.server, ward.dbname, &options);
    assert_eq!(dumped.manifest.exit_code, 2, "{}", dumped.said);
    for (&harm, harmed) in &ward.harmed {
        // In the middle only it is known what lies beside.
        if plan.at != At::Middle && harm.depends_on_neighbours() {
            continue;
        }
        runtime.block_on(check(&ward, plan, &dumped, harm, harmed));
    }
    for &harm in ward.sequences.keys() {
        check_sequence(&ward, plan, &dumped, harm);
    }
    dumped.check_files(&format!("{plan:?} on {}", version.major));
    if version.major == Version::newest().major && plan.at == At::Middle {
        pages::check(&ward, plan, &dumped);
    }
}

fn matrix(plan: Plan) {
    let mut versions = Version::some(OLDEST, 18);
    // What all-visible pages add differs less between versions.
    if !is_wide() && versions.len() > 1 {
        versions.retain(|v| (v.major == 15) != plan.fresh);
    }
    assert!(!versions.is_empty(), "run tests/kit/fetch-servers first");
    std::thread::scope(|scope| {
        for version in &versions {
            scope.spawn(move || check_version(version, plan));
        }
    });
    table::write();
}

fn with_a_fitting_checksum() -> Plan {
    Plan { sum: ChecksumAfter::Recomputed, ..Plan::new(true) }
}

#[test]
fn damage_with_a_stale_checksum() {
    matrix(Plan { fresh: true, ..Plan::new(true) });
}

#[test]
fn damage_with_a_stale_checksum_on_all_visible_pages() {
    matrix(Plan::new(true));
}

#[test]
fn damage_with_a_fitting_checksum() {
    matrix(Plan { fresh: true, ..with_a_fitting_checksum() });
}

#[test]
fn damage_with_a_fitting_checksum_on_all_visible_pages() {
    matrix(with_a_fitting_checksum());
}

#[test]
fn damage_without_checksums() {
    matrix(Plan { fresh: true, ..Plan::new(false) });
}

#[test]
fn damage_without_checksums_on_all_visible_pages() {
    matrix(Plan::new(false));
}

#[test]
fn damage_to_the_first_block() {
    let first = |plan| Plan { at: At::First, ..plan };
    check_version(&Version::newest(), first(Plan { fresh: true, ..Plan::new(true) }));
    if is_wide() {
        check_version(&Version::newest(), first(Plan::new(false)));
    }
}

#[test]
fn damage_to_the_last_block() {
    let last = |plan| Plan { at: At::Last, ..plan };
    if is_wide() {
        check_version(&Version::newest(), last(Plan::new(true)));
    }
    check_version(&Version::newest(), last(Plan { fresh: true, ..Plan::new(false) }));
}
