//! CSV for a spreadsheet: one line for each problem of a relation, and one for
//! a relation without any.

use super::model::{Problem, Relation, Report};
use super::words::{unshown, word};
use crate::output::manifest::Rows;

const HEAD: [&str; 26] = [
    "database",
    "schema",
    "relation",
    "kind",
    "belongs_to",
    "status",
    "reason",
    "levels",
    "rows_clean",
    "rows_suspect",
    "rows_partial",
    "rows_oversize",
    "blocks",
    "blocks_damaged",
    "blocks_lost",
    "level",
    "fork",
    "first_block",
    "last_block",
    "ctid",
    "column",
    "file",
    "offset",
    "cause",
    "sqlstate",
    "message",
];

pub(super) fn text(report: &Report) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |record: &[String]| {
        writer.write_record(record.iter().map(|cell| cell_of(cell))).expect("memory takes it");
    };
    write(&HEAD.map(str::to_owned));
    for relation in &report.relations {
        let of_relation = of_relation(relation);
        let mut line = |problem: [String; 11]| {
            write(&[of_relation.as_slice(), problem.as_slice()].concat());
        };
        relation.problems.iter().for_each(|problem| line(of_problem(problem)));
        match unshown(relation, relation.problems.len()) {
            0 if relation.problems.is_empty() => line(Default::default()),
            0 => {}
            more => line(message(format!("and {more} more"))),
        }
    }
    let bytes = writer.into_inner().expect("memory takes it");
    String::from_utf8(bytes).expect("it was made of strings")
}

/// A spreadsheet takes what begins so for a formula, which runs when the file
/// is opened: it gets an apostrophe, as typed text does.
fn cell_of(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula { format!("'{cell}") } else { cell.to_owned() }
}

fn of_relation(r: &Relation) -> [String; 15] {
    let rows = |of: fn(&Rows) -> u64| number(r.rows.as_ref().map(of));
    let levels: Vec<String> = r.levels.iter().map(word).collect();
    [
        text_of(r.database.as_ref()),
        r.schema.clone(),
        r.name.clone(),
        r.kind.clone(),
        text_of(r.owner.as_ref()),
        word(&r.status),
        text_of(r.reason.as_ref()),
        levels.join(" "),
        rows(|rows| rows.clean),
        rows(|rows| rows.suspect),
        rows(|rows| rows.partial),
        rows(|rows| rows.oversize),
        r.blocks.total.to_string(),
        r.blocks.damaged.to_string(),
        r.blocks.lost.to_string(),
    ]
}

fn of_problem(p: &Problem) -> [String; 11] {
    [
        word(&p.level),
        text_of(p.fork.as_ref()),
        number(p.first_block),
        number(p.last_block),
        text_of(p.ctid.as_ref()),
        text_of(p.column.as_ref()),
        text_of(p.file.as_ref()),
        number(p.offset),
        p.cause.clone(),
        text_of(p.sqlstate.as_ref()),
        p.message.clone(),
    ]
}

fn message(text: String) -> [String; 11] {
    let mut cells: [String; 11] = Default::default();
    cells[10] = text;
    cells
}

fn text_of(text: Option<&String>) -> String {
    text.cloned().unwrap_or_default()
}

fn number(number: Option<impl ToString>) -> String {
    number.map(|n| n.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn read(text: &str) -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        reader.records().map(|r| r.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn every_problem_has_a_line_with_the_name_as_it_is() {
        let report = samples::nasty();
        let lines = read(&text(&report));
        let names: Vec<&str> = lines[1..].iter().map(|line| line[2].as_str()).collect();
        let mut expected = Vec::new();
        for r in &report.relations {
            let lines = r.problems.len().max(1) + usize::from(r.problems_omitted > 0);
            expected.extend(std::iter::repeat_n(cell_of(&r.name), lines));
        }
        assert_eq!(names, expected);
        assert!(lines.iter().any(|line| line[25] == "and 7 more"));
        assert!(lines.iter().all(|line| line.len() == HEAD.len()));
    }

    #[test]
    fn no_cell_is_a_formula() {
        let mut report = samples::nasty();
        report.relations[0].name = "=HYPERLINK(\"http://x\")".to_owned();
        report.relations[0].problems.clear();
        let lines = read(&text(&report));
        assert_eq!(lines[1][2], "'=HYPERLINK(\"http://x\")");
    }
}
