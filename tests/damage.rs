//! The matrix: every harm of the test kit, on every major version, with a stale
//! checksum, a fitting one and none; each dump is compared with the rows as
//! they were before the harm.
//!
//! The victims are equal tables of 1,500 rows, each harmed in one way, in one
//! database that is dumped once. What must come out of each is derived from
//! what the harm touched, and from what the server says about it.

#[path = "kit/mod.rs"]
mod kit;

use kit::dumped::{Dumped, dump};
use kit::{ChecksumAfter, Expect, Harm, Harmed, Plan, Version, Ward};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use std::collections::BTreeSet;

/// Whether the damage of this harm is of the block itself, so that the rows
/// beside it are suspect.
fn spoils_its_block(harm: Harm, plan: Plan) -> bool {
    match harm {
        // The value is missed in the TOAST table; that the pointer is at fault
        // cannot be known.
        Harm::ToastPointer => plan.is_checked(),
        harm => !Harm::TOAST.contains(&harm),
    }
}

/// Whether a silent harm may go unseen: nothing that a server says tells of it.
fn may_be_silent(harmed: &Harmed) -> bool {
    matches!(harmed.expect, Expect::Silent | Expect::Nothing)
}

async fn check(ward: &Ward, plan: Plan, dumped: &Dumped, harm: Harm, harmed: &Harmed) {
    let table = plan.table(harm);
    let at = format!(
        "{table} on {} (checksums {}, {:?}, fresh {})",
        ward.server.version.major, plan.checksums, plan.sum, plan.fresh
    );
    let relation = dumped.relation(&table);
    let clean = dumped.lines(relation, RowClass::Clean).await;
    let suspect = dumped.lines(relation, RowClass::Suspect).await;
    let clean_set: BTreeSet<&[u8]> = clean.iter().map(Vec::as_slice).collect();
    let suspect_set: BTreeSet<&[u8]> = suspect.iter().map(Vec::as_slice).collect();
    // Rows of the truth are all different. Others are not: the zeroed tuples of
    // a torn page come out as rows of NULLs.
    let truth: BTreeSet<&[u8]> = ward.before.iter().map(|r| r.line.as_slice()).collect();
    let mut seen = BTreeSet::new();
    for line in clean.iter().chain(&suspect).filter(|l| truth.contains(l.as_slice())) {
        assert!(seen.insert(line), "{at}: a row twice: {}", String::from_utf8_lossy(line));
    }

    // No row that was not touched is missing, or anywhere but in the clean file.
    for row in &ward.before {
        let place = format!("{at}: ({},{})", row.block, row.offset);
        if harmed.leaves_alone(row.block, row.offset) {
            assert!(
                clean_set.contains(row.line.as_slice()),
                "{place} was not touched, but is not clean: {relation:#?}"
            );
        } else if harmed.leaves_tuple_alone(row.block, row.offset) && !plan.is_checked() {
            // On a touched block, but not touched itself: it must be had.
            let silent = may_be_silent(harmed);
            let had = suspect_set.contains(row.line.as_slice())
                || clean_set.contains(row.line.as_slice());
            assert!(had, "{place} can be had, but was not: {relation:#?}");
            if spoils_its_block(harm, plan) && !silent && relation.blocks.damaged > 0 {
                assert!(
                    suspect_set.contains(row.line.as_slice()),
                    "{place} is beside damage, but not suspect"
                );
            }
        }
    }

    // No clean row differs from the truth, but for silent harms.
    let altered = clean.iter().filter(|line| !truth.contains(line.as_slice())).count();
    if may_be_silent(harmed) {
        assert!(altered <= harmed.tuples.len(), "{at}: {altered} clean rows are altered");
    } else {
        assert_eq!(altered, 0, "{at}: clean rows are altered");
    }

    // Silent loss is found where the catalogs or an index can tell of it, and
    // what nobody can tell of is not made up.
    if may_be_silent(harmed) {
        let found = relation.lost.iter().any(|l| l.cause == "silent_loss");
        let can_be = matches!(harm, Harm::TruncateAt | Harm::ZeroBlock);
        assert_eq!(found, can_be, "{at}: {relation:#?}");
        let status = if can_be { RelationStatus::Salvaged } else { RelationStatus::Clean };
        assert_eq!(relation.status, status, "{at}");
    }

    // Damage that a read can tell is named.
    if !may_be_silent(harmed) && !(harm_is_hidden(harm, plan)) {
        let named = matches!(relation.status, RelationStatus::Salvaged | RelationStatus::Lost);
        assert!(named, "{at}: damaged, but {:?}", relation.status);
        // Values are put together without the TOAST index.
        let nothing_lost =
            matches!(harm, Harm::ToastIndexZeroBlock | Harm::ToastIndexBadPageHeader);
        assert_eq!(relation.reason.is_some(), nothing_lost, "{at}: {relation:#?}");
        assert_eq!(relation.lost.is_empty(), nothing_lost, "{at}: {relation:#?}");
        assert!(relation.errors.is_some(), "{at}: no errors are logged");
    }
}

/// On an all-visible page a range scan does not look at xmin and xmax, and the
/// row comes out as it was.
fn harm_is_hidden(harm: Harm, plan: Plan) -> bool {
    use Harm::{LinePointerOffset, XmaxMissingClog, XminMissingClog};
    !plan.fresh
        && !plan.is_checked()
        && matches!(harm, XminMissingClog | XmaxMissingClog | LinePointerOffset)
}

fn matrix(plan: Plan) {
    let versions = Version::between(10, 18);
    assert!(!versions.is_empty(), "run tests/kit/fetch-servers first");
    std::thread::scope(|scope| {
        for version in &versions {
            scope.spawn(move || {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                let ward = runtime.block_on(Ward::open(version, plan));
                let options = ["-j2", "--max-crashes", "100"];
                let program = env!("CARGO_BIN_EXE_pg_salvage");
                let dumped = dump(program, &ward.server, ward.dbname, &options);
                assert_eq!(dumped.manifest.exit_code, 2, "{}", dumped.said);
                for (&harm, harmed) in &ward.harmed {
                    runtime.block_on(check(&ward, plan, &dumped, harm, harmed));
                }
                assert_eq!(dumped.leftovers(), Vec::<String>::new());
            });
        }
    });
}

#[test]
fn damage_with_a_stale_checksum() {
    matrix(Plan { fresh: true, ..Plan::new(true) });
}

#[test]
fn damage_with_a_fitting_checksum() {
    matrix(Plan { sum: ChecksumAfter::Recomputed, fresh: true, ..Plan::new(true) });
}

#[test]
fn damage_without_checksums() {
    matrix(Plan { fresh: true, ..Plan::new(false) });
}

#[test]
fn damage_without_checksums_on_all_visible_pages() {
    matrix(Plan::new(false));
}
