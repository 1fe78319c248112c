//! What is wrong with one relation, and what to do about it.

use super::super::grouped;
use super::super::layout::escaped;
use super::super::model::{Relation, Report, Step};
use super::super::words::{problem, unshown, visible_code, word};
use super::{block_map, esc};
use crate::output::manifest::Rows;
use std::fmt::Write as _;

/// So many problems are listed, and so many steps.
const PROBLEMS_SHOWN_MAX: usize = 20;
const STEPS_MAX: usize = 20;

/// Of one step, so many statements or lines.
const LINES_MAX: usize = 50;

pub(super) fn put(out: &mut String, number: usize, r: &Relation, report: &Report) {
    let status = word(&r.status);
    let _ = writeln!(
        out,
        "<section class=\"relation {status}\" id=\"relation-{number}\">\n<h2><bdi>{}</bdi> \
         <span class=\"status\">{status}</span></h2>",
        escaped(&r.title())
    );
    let _ = writeln!(out, "<p class=\"soft\"><bdi>{}</bdi></p>", escaped(&about(r)));
    if let Some(reason) = &r.reason {
        let _ = writeln!(out, "<p><bdi>{}</bdi></p>", esc(reason));
    }
    if !r.map.is_empty() {
        block_map::put(out, r, report.server.block_size);
    }
    problems(out, r);
    advice(out, r);
    out.push_str("</section>\n");
}

/// Kind, owner, and the numbers in words.
fn about(r: &Relation) -> String {
    let owner: String = r.owner.iter().map(|owner| format!(" of {owner}")).collect();
    let mut parts = vec![super::visible(&format!("{}{owner}", r.kind))];
    if let Some(all @ Rows { suspect, partial, .. }) = r.rows {
        parts.push(format!("{} rows read", grouped(all.total())));
        let doubtful = [(suspect, "suspect"), (partial, "partial")].into_iter();
        parts.extend(
            doubtful.filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", grouped(n))),
        );
    }
    parts.push(format!("{} blocks", grouped(r.blocks.total)));
    let bad = [(r.blocks.damaged, "damaged"), (r.blocks.lost, "lost")].into_iter();
    parts.extend(bad.filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", grouped(n))));
    parts.join(", ")
}

fn problems(out: &mut String, r: &Relation) {
    let more = unshown(r, PROBLEMS_SHOWN_MAX);
    if r.problems.is_empty() && more == 0 {
        return;
    }
    out.push_str("<h3>What is wrong</h3>\n<ul>\n");
    for each in r.problems.iter().take(PROBLEMS_SHOWN_MAX) {
        let _ = writeln!(out, "<li><bdi>{}</bdi></li>", escaped(&problem(each)));
    }
    if more > 0 {
        let _ = writeln!(out, "<li class=\"soft\">and {} more</li>", grouped(more));
    }
    out.push_str("</ul>\n");
}

fn advice(out: &mut String, r: &Relation) {
    if r.advice.is_empty() {
        return;
    }
    out.push_str("<h3>What to do</h3>\n<ol>\n");
    for Step { text, sql, shell } in r.advice.iter().take(STEPS_MAX) {
        let _ = write!(out, "<li>{}", esc(text));
        for (mark, lines) in [("", sql), ("$ ", shell)] {
            let line = |line: &String| format!("{mark}{}", escaped(&visible_code(line)));
            let shown: Vec<String> = lines.iter().take(LINES_MAX).map(line).collect();
            if !shown.is_empty() {
                let _ = write!(out, "<pre>{}</pre>", shown.join("\n"));
            }
        }
        out.push_str("</li>\n");
    }
    out.push_str("</ol>\n");
    if let more @ 1.. = r.advice.len().saturating_sub(STEPS_MAX) {
        let _ = writeln!(out, "<p class=\"soft\">and {more} more</p>");
    }
}
