//! JUnit XML, as Jenkins and GitLab read it: a suite for each database, a case
//! for each relation, and one for the run as a whole, lest a run that ended
//! early looks like one that is well.
//!
//! Elements and attributes are those that `tests/reports/junit.xsd` has.

use super::layout::escaped;
use super::model::{Change, ChangeKind, Report, Status, Step};
use super::words::{
    address, change, command, duration_seconds, exit_meaning, problem, unshown, verdict, visible,
    visible_code, word,
};
use crate::output::manifest::RunStatus;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// So many problems of a relation are written out.
const PROBLEMS_SHOWN_MAX: usize = 50;

struct Case {
    class: String,
    name: String,
    outcome: Outcome,
}

/// What is wrong: its kind, in one line, and all of it.
enum Outcome {
    Passed,
    Failure(String, String, String),
    Error(String, String),
    Skipped(String),
}

pub(super) fn text(report: &Report) -> String {
    // Suites in the order of their names; that of the run comes first.
    let mut suites: BTreeMap<String, Vec<Case>> =
        report.databases.iter().map(|d| (visible(&d.name), Vec::new())).collect();
    for (suite, case) in relations(report).into_iter().chain(gone(report)) {
        suites.entry(suite).or_default().push(case);
    }
    let time = duration_seconds(report).map(|seconds| format!(" time=\"{seconds:.3}\""));
    let time = time.unwrap_or_default();
    let run = (command(report), vec![of_run(report)]);
    let all: Vec<(String, Vec<Case>)> = [run].into_iter().chain(suites).collect();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let cases: Vec<&Case> = all.iter().flat_map(|(_, cases)| cases).collect();
    let name = escaped(&command(report));
    let _ = writeln!(out, "<testsuites name=\"{name}\"{}{time}>", counts(&cases));
    let (host, at) = (escaped(&address(report)), report.started.strftime("%Y-%m-%dT%H:%M:%S"));
    for (name, cases) in &all {
        let counts = counts(&cases.iter().collect::<Vec<_>>());
        let name = escaped(name);
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\"{counts} hostname=\"{host}\" timestamp=\"{at}\">"
        );
        cases.iter().for_each(|case| put(&mut out, case));
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn counts(cases: &[&Case]) -> String {
    let count = |is: fn(&Outcome) -> bool| cases.iter().filter(|c| is(&c.outcome)).count();
    format!(
        " tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\"",
        cases.len(),
        count(|o| matches!(o, Outcome::Failure(..))),
        count(|o| matches!(o, Outcome::Error(..))),
        count(|o| matches!(o, Outcome::Skipped(_))),
    )
}

fn put(out: &mut String, case: &Case) {
    let (class, name) = (escaped(&case.class), escaped(&case.name));
    let _ = write!(out, "    <testcase classname=\"{class}\" name=\"{name}\"");
    let _ = match &case.outcome {
        Outcome::Passed => writeln!(out, "/>"),
        Outcome::Failure(kind, message, text) => writeln!(
            out,
            ">\n      <failure type=\"{}\" message=\"{}\">{}</failure>\n    </testcase>",
            escaped(kind),
            escaped(message),
            escaped(text)
        ),
        Outcome::Error(message, text) => writeln!(
            out,
            ">\n      <error type=\"incomplete\" message=\"{}\">{}</error>\n    </testcase>",
            escaped(message),
            escaped(text)
        ),
        Outcome::Skipped(message) => {
            writeln!(out, ">\n      <skipped message=\"{}\"/>\n    </testcase>", escaped(message))
        }
    };
}

/// The run itself: what it came to, and what belongs to no relation.
fn of_run(report: &Report) -> Case {
    let mut text: Vec<String> = report.notes.iter().map(|note| visible(note)).collect();
    for database in &report.databases {
        let name = visible(&database.name);
        text.extend(
            database.notes.iter().map(|note| format!("database {name}: {}", visible(note))),
        );
    }
    let message = format!("{} (exit code {})", verdict(report), report.exit_code);
    text.insert(0, exit_meaning(report).to_owned());
    let (status, text) = (report.status, text.join("\n"));
    let outcome = match (status, report.exit_code) {
        (RunStatus::Clean, 0) => Outcome::Passed,
        (RunStatus::Clean | RunStatus::Damaged, _) => {
            Outcome::Failure(word(&status), message, text)
        }
        (RunStatus::Incomplete, _) => Outcome::Error(message, text),
    };
    Case { class: "pg_salvage".to_owned(), name: command(report), outcome }
}

fn relations(report: &Report) -> Vec<(String, Case)> {
    let changes: BTreeMap<_, Vec<&Change>> =
        alarming(report).fold(BTreeMap::new(), |mut changes, change| {
            let key = (change.database.as_deref(), change.schema.as_str(), change.name.as_str());
            changes.entry(key).or_default().push(change);
            changes
        });
    let case = |r: &super::model::Relation| {
        let mut lines: Vec<String> = r.reason.iter().map(|reason| visible(reason)).collect();
        let changes = changes.get(&r.key()).into_iter().flatten();
        let changes: Vec<String> = changes.map(|c| visible(&c.message)).collect();
        lines.extend(changes.iter().cloned());
        lines.extend(r.problems.iter().take(PROBLEMS_SHOWN_MAX).map(problem));
        if let more @ 1.. = unshown(r, PROBLEMS_SHOWN_MAX) {
            lines.push(format!("and {more} more"));
        }
        let message = lines.first().cloned().unwrap_or_else(|| word(&r.status));
        r.advice.iter().for_each(|step| advise(&mut lines, step));
        let outcome = match r.status {
            Status::Incomplete => Outcome::Error(message, lines.join("\n")),
            Status::Clean | Status::Skipped | Status::NotReached if !changes.is_empty() => {
                Outcome::Failure("changed".to_owned(), message, lines.join("\n"))
            }
            Status::Clean => Outcome::Passed,
            Status::Skipped | Status::NotReached => Outcome::Skipped(message),
            Status::Damaged => {
                let cause = r.problems.first().map(|p| visible(&p.cause));
                Outcome::Failure(
                    cause.unwrap_or_else(|| word(&r.status)),
                    message,
                    lines.join("\n"),
                )
            }
        };
        (suite(r.database.as_deref()), class_of(r.database.as_deref(), &r.schema, &r.name, outcome))
    };
    report.relations.iter().map(case).collect()
}

/// What is not there any more has no relation to be a case of.
fn gone(report: &Report) -> Vec<(String, Case)> {
    let there: BTreeSet<_> = report.relations.iter().map(super::model::Relation::key).collect();
    let is_there =
        |c: &&Change| there.contains(&(c.database.as_deref(), c.schema.as_str(), c.name.as_str()));
    let case = |c: &Change| {
        let message = visible(&c.message);
        let outcome = Outcome::Failure(change(c.kind).to_owned(), message.clone(), message);
        (suite(c.database.as_deref()), class_of(c.database.as_deref(), &c.schema, &c.name, outcome))
    };
    alarming(report).filter(|c| !is_there(c)).map(case).collect()
}

fn alarming(report: &Report) -> impl Iterator<Item = &Change> {
    let changes = report.baseline.iter().flat_map(|baseline| &baseline.changes);
    changes.filter(|change| change.kind != ChangeKind::Healed)
}

fn suite(database: Option<&str>) -> String {
    database.map_or_else(|| "all databases".to_owned(), visible)
}

fn class_of(database: Option<&str>, schema: &str, name: &str, outcome: Outcome) -> Case {
    let parts = [database.unwrap_or("shared"), schema];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Case { class: visible(&parts.join(".")), name: visible(name), outcome }
}

fn advise(lines: &mut Vec<String>, step: &Step) {
    lines.push(format!("HINT: {}", visible(&step.text)));
    lines.extend(step.sql.iter().map(|sql| format!("  {}", visible_code(sql))));
    lines.extend(step.shell.iter().map(|line| format!("  $ {}", visible_code(line))));
}

#[cfg(test)]
mod tests;
