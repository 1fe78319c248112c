//! docs/damage-matrix.md: what was foretold, and met.

use super::predict::{Fate, Named, Prediction};
use crate::kit::oracle::Row;
use crate::kit::{ChecksumAfter, Harm, Plan};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Lines of the table by their order, and the versions on which each was met.
static MET: Mutex<BTreeMap<(Harm, String), Vec<u32>>> = Mutex::new(BTreeMap::new());

const HEAD: &str = include_str!("head.md");

/// What follows the table is written by hand, and kept.
const TAIL: &str = "\n## Bits";

/// Keeps one line of the table.
pub fn note(major: u32, harm: Harm, plan: Plan, met: &Prediction, rows: &[Row]) {
    let sums = match (plan.checksums, plan.sum) {
        (false, _) => "none",
        (true, ChecksumAfter::Stale) => "stale",
        (true, ChecksumAfter::Recomputed) => "fits",
    };
    let state = if plan.fresh { "fresh" } else { "all-visible" };
    let count = |is: fn(&Fate) -> bool| match rows.iter().filter(|row| is(met.fate(row))).count() {
        0 => "-".to_owned(),
        1500 => "all".to_owned(),
        some => some.to_string(),
    };
    let cells = [
        count(|fate| matches!(fate, Fate::Clean)),
        count(|fate| matches!(fate, Fate::Suspect)),
        count(|fate| matches!(fate, Fate::Partial(_))),
        count(|fate| matches!(fate, Fate::Lost | Fate::Missing)),
        count(|fate| matches!(fate, Fate::Altered(_))),
        count(|fate| matches!(fate, Fate::SuspectAltered(_))),
        named(met),
        format!("{:?}", met.status).to_lowercase(),
    ];
    let line = format!("{sums} | {state} | {}", cells.join(" | "));
    MET.lock().expect("no panic while locked").entry((harm, line)).or_default().push(major);
}

/// How the loss is named, each way with its number.
fn named(met: &Prediction) -> String {
    if met.reason {
        return "a reason: values were put together".to_owned();
    }
    let mut ways: Vec<(String, usize)> = Vec::new();
    for Named { blocks, ctid, column, cause } in &met.lost {
        let what = match (column, ctid, blocks) {
            (Some(column), ..) => format!("{column}: {cause}"),
            (_, Some(_), _) => format!("tuple: {cause}"),
            (_, _, Some((first, last))) if first == last => format!("block: {cause}"),
            (_, _, Some(_)) => format!("blocks: {cause}"),
            _ => format!("relation: {cause}"),
        };
        match ways.iter_mut().find(|(known, _)| *known == what) {
            Some((_, count)) => *count += 1,
            None => ways.push((what, 1)),
        }
    }
    let each = |(what, count): &(String, usize)| match count {
        1 => what.clone(),
        count => format!("{count} x {what}"),
    };
    let ways: Vec<String> = ways.iter().map(each).collect();
    if ways.is_empty() { "not".to_owned() } else { ways.join(", ") }
}

pub fn write() {
    let Some(file) = std::env::var_os("PG_SALVAGE_MATRIX") else { return };
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    let tail = before.find(TAIL).map_or("", |at| &before[at..]);
    let mut table = String::from(HEAD);
    for ((harm, line), majors) in MET.lock().expect("no panic while locked").iter() {
        let mut majors = majors.clone();
        majors.sort_unstable();
        let majors: Vec<String> = majors.iter().map(u32::to_string).collect();
        table.push_str(&format!("| {harm:?} | {line} | {} |\n", majors.join(" ")));
    }
    std::fs::write(file, table + tail).expect("the file for the matrix");
}
