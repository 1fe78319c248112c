//! Reports for the tests of all forms.

use super::block_map::{Span, flatten};
use super::model::{BlockStatus, Blocks, Level, Problem, Relation, Report, Status, Step, Totals};

/// A report with every field there is.
pub(super) fn full() -> Report {
    let json = include_str!("../../tests/reports/sample.json");
    Report::from_json(json.as_bytes()).expect("a report")
}

/// Names that mean something to one form or another.
pub(super) const NASTY: [&str; 12] = [
    "a\"b'c",
    "</pre></td><script>alert(1)</script>",
    "R&D &amp; ]]> <!-- ",
    "two\nlines\r\tand \\ back\\nslash",
    "\u{0}\u{7}\u{1b}[31mred\u{ffff}",
    "🦀 crab | pipe",
    "שלום عالم",
    "gpj.\u{202e}exe",
    "comma, semi; colon: {} %s",
    "=1+1",
    "#EOF",
    "",
];

/// A damaged relation of each nasty name, and that name wherever one can stand.
pub(super) fn nasty() -> Report {
    let mut report = full();
    report.relations = NASTY.iter().map(|name| of_name(name)).collect();
    let nasty = || NASTY.join(" ");
    report.databases[0].name = nasty();
    report.databases[0].notes = vec![nasty()];
    report.notes = NASTY.map(str::to_owned).to_vec();
    report.server.host = nasty();
    report.server.version = nasty();
    report.tool.version = nasty();
    let baseline = report.baseline.as_mut().expect("the sample has one");
    for (change, name) in baseline.changes.iter_mut().zip(NASTY) {
        (change.name, change.message) = (name.to_owned(), nasty());
    }
    let oldest = report.window.as_mut().and_then(|w| w.oldest.as_mut());
    oldest.expect("the sample has one").name = nasty();
    report.totals = Totals::of(&report.relations);
    report
}

fn of_name(name: &str) -> Relation {
    let problem = Problem {
        level: Level::Rows,
        fork: Some(name.to_owned()),
        first_block: Some(1),
        last_block: Some(2),
        ctid: None,
        column: Some(name.to_owned()),
        file: Some(name.to_owned()),
        offset: Some(8192),
        cause: name.to_owned(),
        sqlstate: Some(name.to_owned()),
        message: name.to_owned(),
    };
    let step = Step {
        text: name.to_owned(),
        sql: vec![name.to_owned()],
        shell: vec![name.to_owned(), name.to_owned()],
    };
    Relation {
        database: Some(NASTY.join(" ")),
        schema: name.to_owned(),
        name: name.to_owned(),
        oid: 1,
        kind: name.to_owned(),
        owner: Some(name.to_owned()),
        status: Status::Damaged,
        reason: Some(name.to_owned()),
        levels: vec![Level::Pages],
        rows: None,
        blocks: Blocks { total: 10, damaged: 2, lost: 2 },
        bytes: 81_920,
        content_hash: None,
        written: None,
        last_ok: None,
        problems: vec![problem.clone(), problem],
        problems_omitted: 7,
        map: flatten(
            &[Span::new(0, 10, BlockStatus::Clean)],
            &[Span::new(1, 3, BlockStatus::Lost)],
        ),
        advice: vec![step],
    }
}
