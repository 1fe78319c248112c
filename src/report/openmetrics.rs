//! OpenMetrics, which is also Prometheus' text format 0.0.4, for the textfile
//! collector of `node_exporter`.
//!
//! All are gauges: a run says how things are, and the next one begins anew.
//! There are no timestamps, which the collector refuses. `docs/reports.md` has
//! the list.

use super::model::{ChangeKind, Relation, Report, Status};
use super::words::{address, duration_seconds, word};
use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};

/// So many damaged relations have series of their own: each one costs memory in
/// Prometheus for as long as it keeps data.
const RELATIONS_MAX: usize = 200;

const KINDS: [ChangeKind; 5] = [
    ChangeKind::NewDamage,
    ChangeKind::Healed,
    ChangeKind::Gone,
    ChangeKind::RowsFell,
    ChangeKind::ContentChanged,
];

pub(super) fn text(report: &Report) -> String {
    let mut metrics = Metrics { out: String::new(), common: common(report) };
    of_run(&mut metrics, report);
    of_totals(&mut metrics, report);
    of_relations(&mut metrics, report);
    if let Some(window) = &report.window {
        let name = "oldest_verification_timestamp_seconds";
        let help = "When the relation that was not found clean for longest was found so last, or, \
                    where it never was, was first seen.";
        if let Some(oldest) = &window.oldest {
            metrics.one(name, help, seconds(oldest.since));
        }
    }
    if let Some(baseline) = &report.baseline {
        let count = |kind| baseline.changes.iter().filter(|change| change.kind == kind).count();
        let samples =
            KINDS.map(|kind| (vec![("kind", word(&kind).replace(' ', "_"))], count(kind)));
        metrics.family("baseline_changes", "What is different from the earlier report.", samples);
    }
    // In the text format it is a comment.
    metrics.out.push_str("# EOF\n");
    metrics.out
}

/// What tells series of different runs apart, where several files lie in the
/// collector's folder.
fn common(report: &Report) -> Vec<(&'static str, String)> {
    let database = match report.databases.as_slice() {
        [one] => one.name.clone(),
        _ => String::new(),
    };
    vec![("command", word(&report.command)), ("server", address(report)), ("database", database)]
}

fn of_run(metrics: &mut Metrics, report: &Report) {
    // The heartbeat: of a run that has not ended there is none.
    if let (Some(finished), Some(duration)) = (report.finished, duration_seconds(report)) {
        let help = "When the last run ended.";
        metrics.one("last_run_timestamp_seconds", help, seconds(finished));
        metrics.one("last_run_duration_seconds", "How long the last run took.", duration);
    }
    let help = "0 clean, 1 could not be done, 2 damaged, 3 incomplete.";
    metrics.one("exit_code", help, report.exit_code);
}

fn of_totals(metrics: &mut Metrics, report: &Report) {
    let t = &report.totals;
    let by = |name, counts: &[(&'static str, u64)]| {
        let sample =
            |(value, count): &(&'static str, u64)| (vec![(name, (*value).to_owned())], *count);
        counts.iter().map(sample).collect::<Vec<_>>()
    };
    let counts = [
        ("clean", t.clean),
        ("damaged", t.damaged),
        ("incomplete", t.incomplete),
        ("not_reached", t.not_reached),
        ("skipped", t.skipped),
    ];
    metrics.family("relations", "Relations, by how they were found.", by("status", &counts));
    metrics.one("blocks", "Blocks that were looked at or were to be.", t.blocks.total);
    metrics.one("damaged_blocks", "Damaged blocks, the lost ones included.", t.blocks.damaged);
    let help = "Damaged blocks of which no row was had.";
    metrics.one("lost_blocks", help, t.blocks.lost);
    let counts = [
        ("clean", t.rows.clean),
        ("suspect", t.rows.suspect),
        ("partial", t.rows.partial),
        ("oversize", t.rows.oversize),
    ];
    metrics.family("rows", "Rows that were had, by class.", by("class", &counts));
    metrics.one("problems", "Places where something is wrong.", t.problems);
}

fn of_relations(metrics: &mut Metrics, report: &Report) {
    let labels = |r: &Relation| {
        vec![
            ("database", r.database.clone().unwrap_or_default()),
            ("schema", r.schema.clone()),
            ("relation", r.name.clone()),
            ("kind", r.kind.clone()),
        ]
    };
    // A series that comes twice would have the whole file refused.
    let mut seen = BTreeSet::new();
    let damaged = || report.relations.iter().filter(|r| r.status == Status::Damaged);
    let unlike: Vec<&Relation> = damaged().filter(|r| seen.insert(labels(r))).collect();
    let shown = &unlike[..unlike.len().min(RELATIONS_MAX)];
    let problems = |r: &Relation| r.problems_omitted.saturating_add(r.problems.len() as u64);
    let samples = |of: fn(&Relation) -> u64| shown.iter().map(move |r| (labels(r), of(r)));
    let help = "Places where something is wrong, of each damaged relation.";
    metrics.family("relation_problems", help, samples(problems));
    let help = "Damaged blocks of each damaged relation; 0: it is known of no block.";
    metrics.family("relation_damaged_blocks", help, samples(|r| r.blocks.damaged));
    let help = "Damaged relations that have no series of their own, since there are too many.";
    metrics.one("relations_omitted", help, damaged().count() - shown.len());
}

#[allow(clippy::cast_precision_loss)] // Of a time in this millennium, by the millisecond.
fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

struct Metrics {
    out: String,
    common: Vec<(&'static str, String)>,
}

impl Metrics {
    fn one(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, help, [(Vec::new(), value)]);
    }

    /// All samples of one name. Their labels go before those of the run that have
    /// the same name.
    fn family(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'static str, String)>, impl Display)>,
    ) {
        let _ = writeln!(self.out, "# HELP pg_salvage_{name} {help}");
        let _ = writeln!(self.out, "# TYPE pg_salvage_{name} gauge");
        for (mut labels, value) in samples {
            let common = self.common.iter();
            let others: Vec<_> =
                common.filter(|(name, _)| labels.iter().all(|(own, _)| own != name)).collect();
            labels.extend(others.into_iter().cloned());
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            let _ = writeln!(self.out, "pg_salvage_{name}{{{}}} {value}", labels.join(","));
        }
    }
}

/// A label's value: nothing else has a meaning there.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
