//! What must be on a cluster without checksums: whatever no flip has touched
//! comes out. What is silently wrong is counted.

use super::base::{Base, Round, Table};
use crate::kit::page_edit::Page;
use pg_salvage::output::manifest::{Lost, RowClass};
use std::collections::{BTreeMap, BTreeSet};

/// What all rounds came to.
#[derive(Debug, Default)]
pub struct Sum {
    rounds: u64,
    flips: usize,
    rows: usize,
    touched: usize,
    clean: usize,
    suspect: usize,
    partial: usize,
    /// Neither in the clean nor in the suspect file.
    not_as_they_were: usize,
    /// Rows in clean files that are not as they were, and rows missing of which
    /// nothing is said.
    silently_altered: usize,
    silently_missing: usize,
    crashes: usize,
    /// Relations of which an index has said wrongly that rows are missing.
    made_up_losses: usize,
}

pub async fn round(base: &Base, seed: u64, sum: &mut Sum) {
    let round = base.round(seed);
    sum.rounds += 1;
    sum.flips += round.flips.len();
    sum.crashes += round.dumped.manifest.snapshots.len() - 1;
    for table in &base.tables {
        check_table(table, &round, sum).await;
    }
}

type Places = BTreeSet<(u32, u16)>;

/// The tuples of a page that flips at these offsets touch.
fn touched(page: &Page, offsets: &[usize]) -> Places {
    let hit = |number: u16| {
        let pointer = page.line_pointer(number);
        let tuple = usize::from(pointer.offset)..usize::from(pointer.offset + pointer.length);
        let at = Page::line_pointer_at(number);
        // The header is everybody's.
        offsets.iter().any(|o| *o < 24 || tuple.contains(o) || (at..at + 4).contains(o))
    };
    page.tuples().into_iter().filter(|n| hit(*n)).map(|n| (page.block, n)).collect()
}

fn touched_in(round: &Round, path: &str, pages: &[Page]) -> Places {
    let mut offsets: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (block, offset) in round.within(path) {
        offsets.entry(block).or_default().push(offset);
    }
    let pages = pages.iter().filter_map(|page| Some(touched(page, offsets.get(&page.block)?)));
    pages.flatten().collect()
}

async fn check_table(table: &Table, round: &Round, sum: &mut Sum) {
    let Round { dumped, at, .. } = round;
    let places = &table.places;
    let entry = dumped.relation(table.name);
    let about = format!("{}: {at}\n{entry:#?}\n{}", table.name, dumped.said);
    let mut hit = touched_in(round, &places.main, &table.pages);
    if let Some(toast) = places.toast.as_ref().filter(|_| !table.toast_pages.is_empty()) {
        let chunks = touched_in(round, toast, &table.toast_pages);
        hit.extend(table.users_of(|page, number| chunks.contains(&(page.block, number))));
    }
    // An entry of the TOAST index may lead to the chunk of another value, and
    // the server does not look whose it is.
    let misled: Places = match round.blocks(places.toast_index.as_ref()).is_empty() {
        true => Places::new(),
        false => table.users.values().copied().filter(|at| !hit.contains(at)).collect(),
    };
    let clean = dumped.lines(entry, RowClass::Clean).await;
    let suspect = dumped.lines(entry, RowClass::Suspect).await;
    let partial = dumped.lines(entry, RowClass::Partial).await;
    let had: BTreeSet<&[u8]> = clean.iter().chain(&suspect).map(Vec::as_slice).collect();
    let ids: BTreeSet<&[u8]> =
        clean.iter().chain(&suspect).chain(&partial).map(|line| id(line)).collect();
    let mut left = 0;
    for row in &table.rows {
        let place = (row.block, row.offset);
        if had.contains(row.line.as_slice()) {
            continue;
        }
        left += 1;
        let is_named = || entry.lost.iter().any(|lost| names(lost, place));
        sum.silently_missing += usize::from(!ids.contains(id(&row.line)) && !is_named());
        let foretold =
            hit.contains(&place) || misled.contains(&place) && ids.contains(id(&row.line));
        assert!(foretold, "{about}\nnot touched, but not had: {place:?}");
    }
    let truth: BTreeSet<&[u8]> = table.rows.iter().map(|r| r.line.as_slice()).collect();
    let mut seen = BTreeSet::new();
    // A line pointer may lead to the tuple of another, which then comes twice.
    let wrong =
        clean.iter().filter(|l| !truth.contains(l.as_slice()) || !seen.insert(l.as_slice()));
    let wrong = wrong.count();
    assert!(wrong <= hit.len() + misled.len(), "{about}\n{wrong} clean rows are altered");
    sum.rows += table.rows.len();
    sum.touched += hit.len();
    sum.clean += clean.len() - wrong;
    sum.suspect += suspect.len();
    sum.partial += partial.len();
    sum.not_as_they_were += left;
    sum.silently_altered += wrong;
    let said = entry.lost.iter().find(|l| l.cause == "silent_loss");
    if let Some(lost) = said.filter(|_| wrong == 0 && left == 0) {
        let seed = at.split(':').next().unwrap_or_default();
        eprintln!("{seed}: nothing is missing of {}, but: {}", table.name, lost.message);
        sum.made_up_losses += 1;
    }
}

/// Whether this loss is of the tuple.
fn names(lost: &Lost, (block, offset): (u32, u16)) -> bool {
    match (lost.first_block, lost.last_block, &lost.ctid) {
        (Some(first), Some(last), _) => (first..=last).contains(&block),
        (_, _, Some(ctid)) => *ctid == format!("({block},{offset})"),
        _ => true,
    }
}

/// The first field.
fn id(line: &[u8]) -> &[u8] {
    line.split(|&b| b == b'\t').next().unwrap_or_default()
}
