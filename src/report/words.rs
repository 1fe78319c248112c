//! Words that all forms of a report have in common: the verdict, what to do
//! next, a place, and text of others made safe to show.

use super::grouped;
use super::model::{BlockStatus, ChangeKind, Command, Level, Oldest, Problem, Relation, Report};
use crate::output::manifest::RunStatus;
use std::cmp::Reverse;
use std::fmt::Write as _;

/// Of a text that is shown, so many characters: a server's message has less.
const SHOWN_CHARS_MAX: usize = 1000;

/// A word as serde writes it, for people.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.replace('_', " "),
        _ => String::new(),
    }
}

/// One line that shows what is in it: control characters, and those that turn
/// the direction of text or have no shape, are written as `\n`, `\u{202e}`. What
/// is too long is cut.
pub(super) fn visible(text: &str) -> String {
    shown(text, is_hidden)
}

/// The same for statements and lines for a shell, which keep their line ends.
pub(super) fn visible_code(text: &str) -> String {
    shown(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t'))
}

fn shown(text: &str, is_hidden: fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (n, c) in text.chars().enumerate() {
        match c {
            _ if n == SHOWN_CHARS_MAX => {
                out.push_str(" ...");
                break;
            }
            c if is_hidden(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        // No characters at all, which XML forbids.
        || u32::from(c) & 0xfffe == 0xfffe
}

/// The whole run in one sentence.
pub(super) fn verdict(report: &Report) -> String {
    let t = &report.totals;
    let looked_at = t.clean.saturating_add(t.damaged).saturating_add(t.incomplete);
    let damage = match (t.damaged, looked_at) {
        (0, _) => None,
        (n, all) => Some(format!("damage was found in {} of {}", grouped(n), relations(all))),
    };
    match (report.status, damage) {
        (RunStatus::Clean, None) => {
            format!("no damage was found in {}", relations(looked_at))
        }
        // A report that contradicts itself is not made better than it is.
        (RunStatus::Clean | RunStatus::Damaged, Some(damage)) => damage,
        (RunStatus::Damaged, None) => "something is wrong, though in no single relation".to_owned(),
        (RunStatus::Incomplete, None) => {
            "the run is not complete; no damage was found so far".to_owned()
        }
        (RunStatus::Incomplete, Some(damage)) => {
            format!("the run is not complete; {damage} so far")
        }
    }
}

pub(super) fn relations(count: u64) -> String {
    format!("{} relation{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// As a sentence begins.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).chain(['.']).collect())
}

pub(super) fn command(report: &Report) -> String {
    format!("pg_salvage {}", word(&report.command))
}

/// What the exit code says.
pub(super) fn exit_meaning(report: &Report) -> &'static str {
    match (report.exit_code, report.status) {
        (0, RunStatus::Clean) => {
            "everything that was asked for was looked at, and no damage was seen"
        }
        // It was asked for damage that the earlier report does not have.
        (0, _) if report.totals.damaged > 0 => "no damage was seen that is new",
        (0, RunStatus::Incomplete) => {
            "the time ended before the work, no damage was seen, and the next run goes on with the \
             rest"
        }
        (0, RunStatus::Damaged) => "no damage was seen that is new",
        (code, _) => exit_code(code),
    }
}

fn exit_code(code: u8) -> &'static str {
    match code {
        1 => "it could not be done",
        2 => "the run is complete, and found damage",
        3 => {
            "the run is incomplete: it was stopped, or something could not be looked at, or not for \
             too long"
        }
        _ => "no exit code of pg_salvage",
    }
}

/// What to do next, in order; nothing where all is well.
pub(super) fn next_steps(report: &Report) -> Vec<&'static str> {
    let mut steps = Vec::new();
    if report.status == RunStatus::Incomplete && report.exit_code != 0 {
        steps.push(match report.command {
            Command::Dump => {
                "When what was in the way is mended, give the same command with --resume: it goes \
                 on where the run ended."
            }
            Command::Verify => "When what was in the way is mended, run it again.",
        });
    }
    if report.status != RunStatus::Damaged && report.totals.damaged == 0 {
        return steps;
    }
    steps.push("Write nothing more to this server; copy its data directory before any repair.");
    steps.push(match report.command {
        Command::Dump => {
            "Keep the dump directory, all of it, until everything lost is accounted for; look for \
             the lost rows on a standby or in a backup."
        }
        Command::Verify => {
            "Save what can be read (pg_salvage dump), and look for the rest on a standby or in a \
             backup."
        }
    });
    steps.push(match report.command {
        Command::Dump => {
            "Then follow the advice for each relation, the first thing first; advice.sql in the \
             dump directory has the statements, where there are any."
        }
        Command::Verify => "Then follow the advice for each relation, the first thing first.",
    });
    steps
}

/// The server, the time and what was asked for: names and what they are.
pub(super) fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let server = &report.server;
    let mut facts = vec![("server", format!("PostgreSQL {}", visible(&server.version)))];
    if !server.host.is_empty() {
        facts.push(("host", address(report)));
    }
    let names: Vec<String> = report.databases.iter().map(|d| visible(&d.name)).collect();
    if !names.is_empty() {
        let what = if names.len() == 1 { "database" } else { "databases" };
        facts.push((what, visible(&names.join(", "))));
    }
    let levels: Vec<String> = report.levels.iter().map(word).collect();
    facts.push(("looked at", levels.join(", ")));
    facts.push(("began", moment(report.started)));
    match report.finished {
        Some(finished) => {
            let took = took(duration_seconds(report).unwrap_or_default());
            facts.push(("ended", format!("{}, after {took}", moment(finished))));
        }
        None => facts.push(("ended", "not yet, or nobody could say so".to_owned())),
    }
    if server.in_recovery {
        facts.push(("role", "standby".to_owned()));
    }
    if let Some(on) = server.data_checksums {
        facts.push(("data checksums", if on { "on" } else { "off" }.to_owned()));
    }
    facts
}

pub(super) fn address(report: &Report) -> String {
    let port = report.server.port.map(|port| format!(":{port}"));
    visible(&format!("{}{}", report.server.host, port.unwrap_or_default()))
}

pub(super) fn moment(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// None: it has not ended. A clock that was set back makes it no less than 0.
pub(super) fn duration_seconds(report: &Report) -> Option<f64> {
    let ended = report.finished?;
    Some(ended.duration_since(report.started).as_secs_f64().max(0.0))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Of a time, and not negative.
fn took(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) => format!("{seconds:.1} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// Sums over all relations, as phrases.
pub(super) fn totals(report: &Report) -> Vec<String> {
    let t = &report.totals;
    let mut parts = Vec::new();
    for (count, what) in [
        (t.clean, "clean"),
        (t.damaged, "damaged"),
        (t.incomplete, "incomplete"),
        (t.not_reached, "not reached"),
        (t.skipped, "skipped"),
    ] {
        if count > 0 {
            parts.push(format!("{} {what}", relations(count)));
        }
    }
    if t.rows.total() > 0 || report.levels.contains(&Level::Rows) {
        let doubtful = [(t.rows.suspect, "suspect"), (t.rows.partial, "partial")];
        let doubtful: Vec<String> = doubtful
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{} {what}", grouped(*n)))
            .collect();
        let of_them = match doubtful.is_empty() {
            true => String::new(),
            false => format!(" ({})", doubtful.join(", ")),
        };
        parts.push(format!("{} rows{of_them}", grouped(t.rows.total())));
    }
    let blocks = &t.blocks;
    parts.push(format!(
        "{} blocks, {} damaged, {} of them lost",
        grouped(blocks.total),
        grouped(blocks.damaged),
        grouped(blocks.lost)
    ));
    parts
}

/// Where a problem is; empty: nothing is known but the relation.
pub(super) fn place(problem: &Problem) -> String {
    let mut place = String::new();
    match (problem.first_block, problem.last_block) {
        (Some(a), Some(b)) if a != b => place = format!("blocks {a}..{b}"),
        (Some(a), _) | (None, Some(a)) => place = format!("block {a}"),
        (None, None) => {}
    }
    if let Some(ctid) = &problem.ctid {
        place = format!("tuple {}", visible(ctid));
    }
    if let Some(fork) = problem.fork.as_ref().filter(|fork| *fork != "main") {
        let _ = write!(place, "{}fork {}", comma(&place), visible(fork));
    }
    if let Some(column) = &problem.column {
        let _ = write!(place, "{}column \"{}\"", comma(&place), visible(column));
    }
    if let Some(file) = &problem.file {
        let _ = write!(place, "{}file {}", comma(&place), visible(file));
        if let Some(offset) = problem.offset {
            let _ = write!(place, " at byte {offset}");
        }
    }
    place
}

fn comma(before: &str) -> &'static str {
    if before.is_empty() { "" } else { ", " }
}

/// A problem on one line.
pub(super) fn problem(problem: &Problem) -> String {
    let place = place(problem);
    let colon = if place.is_empty() { "" } else { ": " };
    let state = problem.sqlstate.iter().map(|state| format!(", SQLSTATE {}", visible(state)));
    let state: String = state.collect();
    let (message, cause) = (visible(&problem.message), visible(&problem.cause.replace('_', " ")));
    format!("{place}{colon}{message} ({cause}{state})")
}

/// How many problems are not among the first `shown`.
pub(super) fn unshown(relation: &Relation, shown: usize) -> u64 {
    (relation.problems.len().saturating_sub(shown) as u64).saturating_add(relation.problems_omitted)
}

/// The worst first; within a status in the order of the report.
pub(super) fn worst_first(report: &Report) -> Vec<&Relation> {
    let mut relations: Vec<&Relation> = report.relations.iter().collect();
    relations.sort_by_key(|r| Reverse(r.status));
    relations
}

/// What of the time window there is to say.
pub(super) fn window(report: &Report) -> Vec<String> {
    let Some(window) = &report.window else { return Vec::new() };
    let mut lines = Vec::new();
    if window.ended {
        lines.push("the time ended before the work".to_owned());
    }
    if let Some(Oldest { database, schema, name, since, never }) = &window.oldest {
        let parts = database.iter().chain([schema, name]).filter(|part| !part.is_empty());
        let title = visible(&parts.map(String::as_str).collect::<Vec<_>>().join("."));
        let found = if *never { "was never found clean, first seen" } else { "last found clean" };
        lines.push(format!("longest without a look: {title}, {found} {}", moment(*since)));
    }
    lines
}

pub(super) fn change(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::NewDamage => "new damage",
        ChangeKind::Healed => "healed",
        ChangeKind::Gone => "gone",
        ChangeKind::RowsFell => "fewer rows",
        ChangeKind::ContentChanged => "other contents",
    }
}

pub(super) fn block_status(status: BlockStatus) -> &'static str {
    match status {
        BlockStatus::Clean => "clean",
        BlockStatus::Untried => "not looked at",
        BlockStatus::Suspect => "suspect",
        BlockStatus::Partial => "partly lost",
        BlockStatus::Damaged => "damaged",
        BlockStatus::Fenced => "left out",
        BlockStatus::Lost => "lost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_in_a_name_is_shown() {
        for (text, shown) in [
            ("orders", "orders"),
            ("🦀 <&> \"it's\" | שלום", "🦀 <&> \"it's\" | שלום"),
            ("a\nb\t\0\u{1b}[31m", "a\\nb\\t\\u{0}\\u{1b}[31m"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("\u{ffff}\u{1fffe}\u{85}", "\\u{ffff}\\u{1fffe}\\u{85}"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(visible_code("a\n\tb\r"), "a\n\tb\\r");
        assert_eq!(visible(&"é".repeat(1001)), format!("{} ...", "é".repeat(1000)));
        assert_eq!(visible(&"é".repeat(1000)), "é".repeat(1000));
    }
}
