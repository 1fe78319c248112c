//! One page that stands for itself, to be opened, mailed or printed: no network,
//! no script, light or dark as the reader has it.
//!
//! All that comes from outside goes through [`esc`]; the page's own policy
//! forbids whatever should slip through. It is kept small enough to be mailed:
//! what is left out is counted.

mod block_map;
mod relation;

use super::layout::escaped;
use super::model::{Relation, Report, Status};
use super::words::{
    change, command, exit_meaning, facts, moment, next_steps, relations, sentence, verdict,
    visible, window, word, worst_first,
};
use super::{grouped, sized};
use crate::output::manifest::RunStatus;
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");

/// So many relations are listed of those that are not clean, and of the others.
const LISTED_MAX: usize = 300;

/// So many relations are told of in detail.
const DETAILED_MAX: usize = 50;

/// So many notes and changes are listed.
const NOTES_MAX: usize = 100;

pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    head(&mut out, report);
    out.push_str("<main>\n");
    tiles(&mut out, report);
    next(&mut out, report);
    let sorted = worst_first(report);
    let is_wrong = |r: &&Relation| matches!(r.status, Status::Damaged | Status::Incomplete);
    let (wrong, others): (Vec<&Relation>, Vec<&Relation>) = sorted.into_iter().partition(is_wrong);
    if !wrong.is_empty() {
        out.push_str("<section>\n<h2>Where something is wrong</h2>\n");
        table(&mut out, &wrong, true);
        out.push_str("</section>\n");
    }
    for (number, r) in wrong.iter().take(DETAILED_MAX).enumerate() {
        relation::put(&mut out, number, r, report);
    }
    if let more @ 1.. = wrong.len().saturating_sub(DETAILED_MAX) {
        let more = relations(more as u64);
        let _ = writeln!(out, "<p class=\"soft\">{more} more are not told of in detail here.</p>");
    }
    changes(&mut out, report);
    list(&mut out, "How far it came", &window(report));
    list(&mut out, "Notes", &notes(report));
    if !others.is_empty() {
        let summary = format!("{} in which nothing wrong was seen", relations(others.len() as u64));
        let _ = writeln!(out, "<section>\n<h2>All others</h2>");
        let _ = writeln!(out, "<details>\n<summary>{summary}</summary>");
        table(&mut out, &others, false);
        out.push_str("</details>\n</section>\n");
    }
    out.push_str("</main>\n");
    foot(&mut out, report);
    out
}

/// Whatever comes from outside, as HTML shows it.
fn esc(text: &str) -> String {
    escaped(&visible(text))
}

fn head(out: &mut String, report: &Report) {
    let (command, status) = (command(report), word(&report.status));
    let damaged = match report.totals.damaged {
        0 => String::new(),
        n => format!(", {} damaged", relations(n)),
    };
    let _ = writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{command}: {status}{damaged}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>"
    );
    let class = match (report.status, report.totals.damaged) {
        (RunStatus::Clean, 0) => "clean",
        (RunStatus::Incomplete, 0) => "incomplete",
        _ => "damaged",
    };
    let code = report.exit_code;
    let meaning = sentence(&format!("exit code {code}: {}", exit_meaning(report)));
    let verdict = escaped(&sentence(&verdict(report)));
    let _ = writeln!(
        out,
        "<header>\n<div class=\"verdict {class}\">\n<p class=\"tool\">{command}</p>\n\
         <h1>{verdict}</h1>\n<p class=\"soft\">{meaning}</p>\n</div>\n<dl class=\"facts\">"
    );
    for (name, value) in facts(report) {
        let _ =
            writeln!(out, "<div><dt>{}</dt><dd><bdi>{}</bdi></dd></div>", name, escaped(&value));
    }
    out.push_str("</dl>\n</header>\n");
}

fn tiles(out: &mut String, report: &Report) {
    let t = &report.totals;
    let tiles = [
        ("bad", t.damaged, "damaged"),
        ("open", t.incomplete, "incomplete"),
        ("", t.clean, "clean"),
        ("", t.not_reached, "not reached"),
        ("", t.skipped, "skipped"),
        ("bad", t.blocks.damaged, "blocks damaged"),
        ("bad", t.blocks.lost, "of them lost"),
        ("", t.rows.total(), "rows read"),
        ("open", t.rows.suspect, "of them suspect"),
        ("open", t.rows.partial, "of them partial"),
    ];
    out.push_str("<ul class=\"tiles\">\n");
    // What is always worth knowing is there also where it is 0.
    let always = ["damaged", "clean", "blocks damaged"];
    for (class, count, what) in tiles {
        if count > 0 || always.contains(&what) {
            let class = if count > 0 { class } else { "" };
            let class =
                if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
            let _ = writeln!(out, "<li{class}><strong>{}</strong> {what}</li>", grouped(count));
        }
    }
    if t.bytes > 0 {
        let _ = writeln!(out, "<li><strong>{}</strong> looked at</li>", sized(t.bytes));
    }
    out.push_str("</ul>\n");
}

fn next(out: &mut String, report: &Report) {
    let steps = next_steps(report);
    if steps.is_empty() {
        return;
    }
    out.push_str("<section>\n<h2>What to do next</h2>\n<ol>\n");
    for step in steps {
        let _ = writeln!(out, "<li>{}</li>", escaped(step));
    }
    out.push_str("</ol>\n</section>\n");
}

/// `linked`: those that are told of in detail lead there.
fn table(out: &mut String, all: &[&Relation], linked: bool) {
    out.push_str("<div class=\"wide\">\n<table>\n<thead><tr>");
    for (class, name) in [
        ("", "relation"),
        ("", "kind"),
        ("", "levels"),
        (" class=\"number\"", "rows"),
        (" class=\"number\"", "blocks"),
        (" class=\"number\"", "damaged"),
        ("", "status"),
    ] {
        let _ = write!(out, "<th scope=\"col\"{class}>{name}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for (number, r) in all.iter().take(LISTED_MAX).enumerate() {
        let name = format!("<bdi>{}</bdi>", escaped(&r.title()));
        let name = match linked && number < DETAILED_MAX {
            true => format!("<a href=\"#relation-{number}\">{name}</a>"),
            false => name,
        };
        let levels: Vec<String> = r.levels.iter().map(word).collect();
        let _ = write!(
            out,
            "<tr class=\"{}\"><td>{name}</td><td>{}</td><td>{}</td>",
            word(&r.status),
            esc(&r.kind),
            levels.join(", ")
        );
        let count = r.rows.map_or_else(String::new, |of| grouped(of.total()));
        let damaged = Some(r.blocks.damaged).filter(|n| *n > 0).map(grouped).unwrap_or_default();
        for number in [count, grouped(r.blocks.total), damaged] {
            let _ = write!(out, "<td class=\"number\">{number}</td>");
        }
        let _ = writeln!(out, "<td class=\"status\">{}</td></tr>", word(&r.status));
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    if let more @ 1.. = all.len().saturating_sub(LISTED_MAX) {
        let _ = writeln!(out, "<p class=\"soft\">and {} more</p>", relations(more as u64));
    }
}

fn changes(out: &mut String, report: &Report) {
    let Some(baseline) = &report.baseline else { return };
    let lines = baseline.changes.iter().map(|c| {
        let parts = c.database.iter().chain([&c.schema, &c.name]);
        let parts: Vec<&str> = parts.map(String::as_str).filter(|part| !part.is_empty()).collect();
        format!("{}: {}: {}", change(c.kind), parts.join("."), c.message)
    });
    let mut lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        lines.push("nothing".to_owned());
    }
    let title = format!("What has changed since the report of {}", moment(baseline.started));
    list(out, &title, &lines);
}

fn notes(report: &Report) -> Vec<String> {
    let of_databases = report.databases.iter().flat_map(|database| {
        database.notes.iter().map(|note| format!("database \"{}\": {note}", database.name))
    });
    report.notes.iter().cloned().chain(of_databases).collect()
}

/// A section of lines; nothing where there are none.
fn list(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "<section>\n<h2>{title}</h2>\n<ul>");
    for line in lines.iter().take(NOTES_MAX) {
        let _ = writeln!(out, "<li><bdi>{}</bdi></li>", esc(line));
    }
    if let more @ 1.. = lines.len().saturating_sub(NOTES_MAX) {
        let _ = writeln!(out, "<li class=\"soft\">and {} more</li>", grouped(more as u64));
    }
    out.push_str("</ul>\n</section>\n");
}

fn foot(out: &mut String, report: &Report) {
    let (name, version) = (esc(&report.tool.name), esc(&report.tool.version));
    let _ = writeln!(
        out,
        "<footer>\n<p>{name} {version}. Clean means that nothing wrong was seen at the levels that \
         are named; it is no proof.</p>\n</footer>\n</body>\n</html>"
    );
}

#[cfg(test)]
mod tests;
