//! A report for a person at a terminal, at three in the morning: the verdict,
//! one table, what is wrong and what to do about it, and at the very end, where
//! the eye is, what to do first.

use super::layout::table;
use super::model::{Relation, Report, Status, Step};
use super::words::{
    change, command, exit_meaning, facts, moment, next_steps, problem, relations, sentence, totals,
    unshown, verdict, visible, visible_code, window, word, worst_first,
};
use super::{grouped, sized};
use std::fmt::Write as _;

/// Up to so many relations all are shown; above, those that are not clean.
const SHOW_ALL_MAX: usize = 40;

/// So many relations are told of in detail, and so many problems of each;
/// verbose: all.
const DETAILED_MAX: usize = 40;
const PROBLEMS_SHOWN_MAX: usize = 5;

/// So many notes, and so many changes; verbose: all.
const NOTES_MAX: usize = 40;

/// What was looked at, and when.
const FACTS_PER_LINE: usize = 3;

pub(super) fn text(report: &Report, verbose: bool) -> String {
    let many = |most: usize| if verbose { usize::MAX } else { most };
    let mut out = format!("{}: {}\n", command(report), verdict(report));
    let facts: Vec<String> = facts(report).iter().map(|(n, v)| format!("{n} {v}")).collect();
    for facts in facts.chunks(FACTS_PER_LINE) {
        let _ = writeln!(out, "{}", facts.join("; "));
    }
    out.push('\n');
    put_table(&mut out, report, many(SHOW_ALL_MAX));
    let mut sums = totals(report);
    if report.totals.bytes > 0 {
        sums.push(sized(report.totals.bytes));
    }
    let _ = writeln!(out, "\n{}", sums.join("; "));
    put_notes(&mut out, report, many(NOTES_MAX));
    let wrong = |r: &&Relation| matches!(r.status, Status::Damaged | Status::Incomplete);
    let wrong: Vec<&Relation> = worst_first(report).into_iter().filter(wrong).collect();
    for relation in wrong.iter().take(many(DETAILED_MAX)) {
        detail(&mut out, relation, many(PROBLEMS_SHOWN_MAX));
    }
    if let more @ 1.. = wrong.len().saturating_sub(many(DETAILED_MAX)) {
        let _ = writeln!(out, "\nand {} with something wrong (-v: all)", relations(more as u64));
    }
    put_changes(&mut out, report, many(NOTES_MAX));
    for (n, line) in window(report).iter().enumerate() {
        let _ = writeln!(out, "{}NOTE: {line}", if n == 0 { "\n" } else { "" });
    }
    let code = report.exit_code;
    let _ = writeln!(out, "\n{}", sentence(&format!("exit code {code}: {}", exit_meaning(report))));
    let steps = next_steps(report);
    if !steps.is_empty() {
        out.push_str("What to do next:\n");
    }
    for (number, step) in steps.iter().enumerate() {
        let _ = writeln!(out, "  {}. {step}", number + 1);
    }
    out
}

fn put_table(out: &mut String, report: &Report, all_max: usize) {
    let sorted = worst_first(report);
    let is_looked_at = |r: &&Relation| !matches!(r.status, Status::Skipped | Status::NotReached);
    let looked_at: Vec<&Relation> = sorted.into_iter().filter(is_looked_at).collect();
    let show_all = looked_at.len() <= all_max;
    let is_shown = |r: &&Relation| show_all || r.status != Status::Clean;
    let shown: Vec<&Relation> =
        looked_at.iter().copied().filter(is_shown).take(all_max.max(DETAILED_MAX)).collect();
    let head = ["relation", "kind", "levels", "rows", "blocks", "damaged", "status"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(shown.iter().map(|r| {
        [
            r.title(),
            visible(&r.kind),
            r.levels.iter().map(word).collect::<Vec<_>>().join(" "),
            r.rows.map_or_else(String::new, |of| grouped(of.total())),
            grouped(r.blocks.total),
            if r.blocks.damaged > 0 { grouped(r.blocks.damaged) } else { String::new() },
            word(&r.status),
        ]
    }));
    if lines.len() > 1 {
        out.push_str(&table(&lines, &[0, 1, 2, 6]));
    }
    let hidden = |clean: bool| {
        let of = |list: &[&Relation]| {
            list.iter().filter(|r| (r.status == Status::Clean) == clean).count() as u64
        };
        of(&looked_at) - of(&shown)
    };
    for (count, what) in [(hidden(false), "not clean"), (hidden(true), "clean")] {
        if count > 0 {
            let _ = writeln!(out, "and {} {what}", relations(count));
        }
    }
    for (count, what) in
        [(report.totals.not_reached, "not reached"), (report.totals.skipped, "skipped")]
    {
        if count > 0 {
            let _ = writeln!(out, "{} {what}", relations(count));
        }
    }
}

fn put_notes(out: &mut String, report: &Report, most: usize) {
    let of_databases = report.databases.iter().flat_map(|d| {
        d.notes.iter().map(|note| visible(&format!("database \"{}\": {note}", d.name)))
    });
    let notes: Vec<String> =
        report.notes.iter().map(|note| visible(note)).chain(of_databases).collect();
    for note in notes.iter().take(most) {
        let _ = writeln!(out, "NOTE: {note}");
    }
    put_more(out, notes.len(), most);
}

fn put_more(out: &mut String, all: usize, shown: usize) {
    if let more @ 1.. = all.saturating_sub(shown) {
        let _ = writeln!(out, "and {} more (-v: all)", grouped(more as u64));
    }
}

fn detail(out: &mut String, r: &Relation, problems_max: usize) {
    let owner = r.owner.iter().map(|owner| format!(" of {}", visible(owner)));
    let owner: String = owner.collect();
    let _ = writeln!(out, "\n{} {}{owner}: {}", visible(&r.kind), r.title(), word(&r.status));
    if let Some(reason) = &r.reason {
        let _ = writeln!(out, "  {}", visible(reason));
    }
    for each in r.problems.iter().take(problems_max) {
        let _ = writeln!(out, "  {}", problem(each));
    }
    if let more @ 1.. = unshown(r, problems_max) {
        let _ = writeln!(out, "  and {} more", grouped(more));
    }
    r.advice.iter().for_each(|step| advise(out, step));
}

fn advise(out: &mut String, step: &Step) {
    let _ = writeln!(out, "  HINT: {}", visible(&step.text));
    for (mark, lines) in [("", &step.sql), ("$ ", &step.shell)] {
        for line in lines {
            let _ = writeln!(out, "    {mark}{}", visible_code(line).replace('\n', "\n    "));
        }
    }
}

fn put_changes(out: &mut String, report: &Report, most: usize) {
    let Some(baseline) = &report.baseline else { return };
    let since = moment(baseline.started);
    if baseline.changes.is_empty() {
        let _ = writeln!(out, "\nNothing has changed since the report of {since}.");
        return;
    }
    let _ = writeln!(out, "\nWhat has changed since the report of {since}:");
    for each in baseline.changes.iter().take(most) {
        let parts = each.database.iter().chain([&each.schema, &each.name]);
        let parts: Vec<&str> = parts.map(String::as_str).filter(|part| !part.is_empty()).collect();
        let (title, message) = (visible(&parts.join(".")), visible(&each.message));
        let _ = writeln!(out, "  {}: {title}: {message}", change(each.kind));
    }
    put_more(out, baseline.changes.len(), most);
}

#[cfg(test)]
mod tests;
