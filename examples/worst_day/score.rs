//! The dump against the truth.
//!
//! What must hold, whatever was damaged:
//!
//! 1. no row is missing to which, and to whose page, nothing was done;
//! 2. no row in a clean file differs from the truth (on a server without data
//!    checksums nobody can promise this);
//! 3. every damaged relation about which the server complains is named;
//! 4. no healthy relation is named, nor does any fail;
//! 5. the manifest's counts are those of the files;
//! 6. a sequence that was lost is derived rightly, the others are exact;
//! 7. the exit code says: complete, with damage.
//!
//! Damage that the server reads over in silence is shown, not judged.

use super::kit::oracle;
use super::truth::{self, RowHash, Truth};
use super::wounds::Wound;
use pg_salvage::output::manifest::{Manifest, Relation, RelationStatus, RowClass};
use std::collections::HashMap;
use std::path::Path;

/// The exit code of a run that is complete and found damage.
const EXIT_DAMAGED: i32 = 2;

/// One relation: what was in it and what came out.
struct Line {
    relation: String,
    what: Option<&'static str>,
    silent: bool,
    rows: u64,
    clean: u64,
    altered: u64,
    suspect: u64,
    /// Of the suspect rows, those that are not in the truth.
    suspect_altered: u64,
    lost: u64,
    undamaged_missing: u64,
    status: Option<RelationStatus>,
    counted_rightly: bool,
}

impl Line {
    fn is_named(&self) -> bool {
        matches!(self.status, Some(RelationStatus::Salvaged | RelationStatus::Lost))
    }
}

pub struct Score {
    lines: Vec<Line>,
    sequences_wrong: Vec<String>,
    checksums: bool,
    code: i32,
}

pub fn grouped(number: u64) -> String {
    pg_salvage::report::grouped(number)
}

pub async fn of(
    truth: &Truth,
    wounds: &[Wound],
    manifest: &Manifest,
    dir: &Path,
    checksums: bool,
    code: i32,
) -> Score {
    let entries: HashMap<u32, &Relation> = manifest.relations.iter().map(|r| (r.oid, r)).collect();
    let mut lines = Vec::new();
    for relation in &truth.relations {
        let wound = wounds.iter().find(|w| w.oid == relation.oid);
        lines.push(line(relation, wound, entries.get(&relation.oid).copied(), dir).await);
    }
    let mut sequences_wrong = Vec::new();
    for sequence in &truth.sequences {
        let wound = wounds.iter().find(|w| w.oid == sequence.oid);
        let entry = entries.get(&sequence.oid);
        let told = entry.and_then(|e| e.sequence.as_ref());
        let right = told
            .is_some_and(|t| t.last_value == sequence.last_value && t.derived == wound.is_some());
        if !right {
            sequences_wrong.push(sequence.name.clone());
        }
        if let Some(wound) = wound {
            let told = told.map_or("lost".to_owned(), |t| format!("{} (derived)", t.last_value));
            println!("sequence {}: was {}, is {told}", sequence.name, sequence.last_value);
            lines.push(sequence_line(wound, entry.map(|e| e.status)));
        }
    }
    Score { lines, sequences_wrong, checksums, code }
}

/// A sequence has no rows.
fn sequence_line(wound: &Wound, status: Option<RelationStatus>) -> Line {
    Line {
        relation: wound.relation.to_owned(),
        what: Some(wound.what),
        silent: wound.is_silent(),
        rows: 0,
        clean: 0,
        altered: 0,
        suspect: 0,
        suspect_altered: 0,
        lost: 0,
        undamaged_missing: 0,
        status,
        counted_rightly: true,
    }
}

/// Of each row's text: how many there were, and of those how many in places
/// that nothing was done to.
#[derive(Default)]
struct Count {
    all: u64,
    undamaged: u64,
    found: u64,
}

async fn line(
    relation: &truth::Relation,
    wound: Option<&Wound>,
    entry: Option<&Relation>,
    dir: &Path,
) -> Line {
    let mut counts: HashMap<RowHash, Count> = HashMap::with_capacity(relation.rows.len());
    for &(block, offset, hash) in &relation.rows {
        let count = counts.entry(hash).or_default();
        count.all += 1;
        count.undamaged += u64::from(wound.is_none_or(|w| w.harmed.leaves_alone(block, offset)));
    }
    let (clean, clean_altered) = found(&mut counts, entry, RowClass::Clean, dir).await;
    let (suspect, suspect_altered) = found(&mut counts, entry, RowClass::Suspect, dir).await;
    let told = entry.map(|e| (e.rows.clean, e.rows.suspect));
    Line {
        relation: relation.name.clone(),
        what: wound.map(|w| w.what),
        silent: wound.is_some_and(Wound::is_silent),
        rows: relation.rows.len() as u64,
        clean,
        altered: clean_altered,
        suspect,
        suspect_altered,
        lost: counts.values().map(|c| c.all - c.found).sum(),
        undamaged_missing: counts.values().map(|c| c.undamaged.saturating_sub(c.found)).sum(),
        status: entry.map(|e| e.status),
        counted_rightly: told == Some((clean, suspect)),
    }
}

/// Reads the files of one class; returns how many rows are in them, and how
/// many of those were never in the relation, or not so often.
async fn found(
    counts: &mut HashMap<RowHash, Count>,
    entry: Option<&Relation>,
    class: RowClass,
    dir: &Path,
) -> (u64, u64) {
    let (mut rows, mut altered) = (0, 0);
    for file in entry.iter().flat_map(|e| &e.files).filter(|f| f.class == class) {
        let text = oracle::read_file(&dir.join(&file.path)).await;
        for row in oracle::lines(&text) {
            rows += 1;
            match counts.get_mut(&truth::hash(row)).filter(|c| c.found < c.all) {
                Some(count) => count.found += 1,
                None => altered += 1,
            }
        }
    }
    (rows, altered)
}

impl Score {
    fn sum(&self, of: impl Fn(&Line) -> u64) -> u64 {
        self.lines.iter().map(of).sum()
    }

    /// How many relations were wounded so that the server complains (or not),
    /// and how many of them are named.
    fn named(&self, silent: bool) -> (usize, usize) {
        let wounded = self.lines.iter().filter(|l| l.what.is_some() && l.silent == silent);
        let named = wounded.clone().filter(|l| l.is_named()).count();
        (wounded.count(), named)
    }

    /// Healthy relations that are named, or that were not read.
    fn named_wrongly(&self) -> Vec<&str> {
        let wrong = |l: &&Line| l.what.is_none() && l.status != Some(RelationStatus::Clean);
        self.lines.iter().filter(wrong).map(|l| l.relation.as_str()).collect()
    }

    fn counted_wrongly(&self) -> Vec<&str> {
        let wrong = self.lines.iter().filter(|l| !l.counted_rightly);
        wrong.map(|l| l.relation.as_str()).collect()
    }

    pub fn holds(&self) -> bool {
        let (loud, named) = self.named(false);
        self.sum(|l| l.undamaged_missing) == 0
            && (self.sum(|l| l.altered) == 0 || !self.checksums)
            && loud == named
            && self.named_wrongly().is_empty()
            && self.counted_wrongly().is_empty()
            && self.sequences_wrong.is_empty()
            && self.code == EXIT_DAMAGED
    }

    pub fn print(&self) {
        self.print_table();
        let ok = |holds: bool| if holds { "holds " } else { "BROKEN" };
        let altered = self.sum(|l| l.altered);
        let (loud, named) = self.named(false);
        let (silent, silent_named) = self.named(true);
        let (wrongly, miscounted) = (self.named_wrongly(), self.counted_wrongly());
        let missing = self.sum(|l| l.undamaged_missing);
        println!();
        println!("{} undamaged rows missing: {missing}", ok(missing == 0));
        let promise = if self.checksums { ok(altered == 0) } else { "shown " };
        println!("{promise} altered rows in clean files: {altered}");
        println!("{} damaged relations named: {named} of {loud}", ok(named == loud));
        println!(
            "{} healthy relations named wrongly: {} {}",
            ok(wrongly.is_empty()),
            wrongly.len(),
            wrongly.join(", ")
        );
        println!(
            "{} relations counted wrongly: {} {}",
            ok(miscounted.is_empty()),
            miscounted.len(),
            miscounted.join(", ")
        );
        println!(
            "{} sequences told wrongly: {} {}",
            ok(self.sequences_wrong.is_empty()),
            self.sequences_wrong.len(),
            self.sequences_wrong.join(", ")
        );
        println!("{} exit code: {}", ok(self.code == EXIT_DAMAGED), self.code);
        println!(
            "shown  damage that PostgreSQL reads over in silence: {silent_named} of {silent} named"
        );
        for line in self.lines.iter().filter(|l| l.silent && !l.is_named()) {
            println!(
                "       {} lost {} rows, and the manifest calls it {}",
                line.relation,
                grouped(line.lost),
                status(line.status)
            );
        }
        println!();
        println!(
            "SCORE {}: {} of {} rows clean, {} suspect, {} lost; {missing} undamaged missing, {altered} altered; \
             {named} of {loud} damaged relations named, {silent_named} of {silent} silent ones, {} wrongly",
            if self.holds() { "ok" } else { "BROKEN" },
            grouped(self.sum(|l| l.clean - l.altered)),
            grouped(self.sum(|l| l.rows)),
            grouped(self.sum(|l| l.suspect)),
            grouped(self.sum(|l| l.lost)),
            wrongly.len(),
        );
    }

    fn print_table(&self) {
        println!(
            "{:27} {:>9} {:>9} {:>7} {:>7} {:>6} {:>9}  {:8}  what was done to it",
            "relation", "rows", "clean", "altered", "suspect", "lost", "undamaged", "manifest"
        );
        println!("{:27} {:>9} {:>9} {:>7} {:>7} {:>6} {:>9}", "", "", "", "", "", "", "missing");
        let row = |name: &str, l: [u64; 6], status: &str, what: &str| {
            let [rows, clean, altered, suspect, lost, missing] = l.map(grouped);
            println!(
                "{name:27} {rows:>9} {clean:>9} {altered:>7} {suspect:>7} {lost:>6} {missing:>9}  {status:8}  {what}"
            );
        };
        let numbers = |l: &Line| {
            [l.rows, l.clean - l.altered, l.altered, l.suspect, l.lost, l.undamaged_missing]
        };
        for line in self.lines.iter().filter(|l| l.what.is_some()) {
            let what = line.what.unwrap_or_default();
            let note = match line.suspect_altered {
                0 => String::new(),
                n => format!(" ({n} of the suspect rows are altered)"),
            };
            row(&line.relation, numbers(line), status(line.status), &format!("{what}{note}"));
        }
        let healthy: Vec<&Line> = self.lines.iter().filter(|l| l.what.is_none()).collect();
        let mut sums = [0; 6];
        for line in &healthy {
            for (sum, number) in sums.iter_mut().zip(numbers(line)) {
                *sum += number;
            }
        }
        let clean = healthy.iter().all(|l| l.status == Some(RelationStatus::Clean));
        let status = if clean { "clean" } else { "NOT ALL" };
        row(&format!("{} others", healthy.len()), sums, status, "nothing");
    }
}

fn status(status: Option<RelationStatus>) -> &'static str {
    match status {
        Some(RelationStatus::Clean) => "clean",
        Some(RelationStatus::Salvaged) => "salvaged",
        Some(RelationStatus::Lost) => "lost",
        Some(RelationStatus::Skipped) => "skipped",
        Some(RelationStatus::Failed) => "failed",
        None => "absent",
    }
}
