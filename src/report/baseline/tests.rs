use super::super::model::{Command, Server, Totals, Written};
use super::*;
use crate::output::manifest::{Rows, RunStatus, Tool};

fn report(relations: Vec<Relation>) -> Report {
    Report {
        format_version: 1,
        tool: Tool { name: "pg_salvage".to_owned(), version: "0".to_owned() },
        command: Command::Verify,
        started: Timestamp::UNIX_EPOCH,
        finished: None,
        status: RunStatus::Clean,
        exit_code: 0,
        server: Server {
            version: "18".to_owned(),
            host: String::new(),
            port: None,
            in_recovery: false,
            data_checksums: None,
            block_size: 8192,
            system_identifier: None,
        },
        levels: vec![Level::Pages, Level::Rows],
        databases: Vec::new(),
        totals: Totals::of(&relations),
        relations,
        notes: Vec::new(),
        window: None,
        baseline: None,
    }
}

fn relation(name: &str) -> Relation {
    Relation {
        oid: 1,
        status: Status::Clean,
        levels: vec![Level::Pages, Level::Rows],
        rows: Some(Rows { clean: 100, ..Rows::default() }),
        content_hash: Some("a".to_owned()),
        written: Some(Written { before: 5, after: 5, reset: None, relfilenode: Some(9) }),
        ..Relation::named(Some("d"), "public", name, "table")
    }
}

fn damaged(name: &str, blocks: &[u32]) -> Relation {
    let problem = |&block: &u32| Problem {
        fork: Some("main".to_owned()),
        first_block: Some(block),
        last_block: Some(block),
        ..Problem::new(Level::Pages, "checksum", format!("found by {block} and other words"))
    };
    let problems = blocks.iter().map(problem).collect();
    Relation { status: Status::Damaged, problems, ..relation(name) }
}

fn changes(now: &Report, then: &Report) -> Vec<(ChangeKind, String)> {
    let how = Compared { rows_fell_percent: 10, lists_all: true };
    compare(now, then, how).changes.into_iter().map(|c| (c.kind, c.name)).collect()
}

fn with(report: &Report, status: Status) -> Vec<&str> {
    report.relations.iter().filter(|r| r.status == status).map(|r| r.name.as_str()).collect()
}

fn named(kind: ChangeKind, name: &str) -> (ChangeKind, String) {
    (kind, name.to_owned())
}

#[test]
fn damage_is_new_known_or_healed() {
    let then =
        report(vec![damaged("a", &[1, 2]), damaged("b", &[1]), relation("c"), relation("d")]);
    let mut known = damaged("a", &[1, 2]);
    known.problems[0].message = "in other words".to_owned();
    let now = report(vec![known, relation("b"), damaged("c", &[7]), relation("d")]);
    assert_eq!(
        changes(&now, &then),
        [named(ChangeKind::NewDamage, "c"), named(ChangeKind::Healed, "b")]
    );
    let now = report(vec![damaged("a", &[1, 3]), damaged("b", &[1]), relation("c"), relation("d")]);
    assert_eq!(changes(&now, &then), [named(ChangeKind::NewDamage, "a")]);
    assert_eq!(changes(&then, &then), []);
}

#[test]
fn damage_is_not_forgotten_before_somebody_has_looked_again() {
    let then = report(vec![damaged("a", &[1])]);
    let not_reached =
        |levels: Vec<Level>| Relation { status: Status::NotReached, levels, ..relation("a") };
    let mut now = report(vec![not_reached(vec![Level::Rows])]);
    carry(&mut now, &then, true);
    assert_eq!((now.relations[0].status, now.relations[0].problems.len()), (Status::Damaged, 1));
    assert_eq!(changes(&now, &then), []);
    // Nor in the next night.
    let mut next = report(vec![not_reached(Vec::new())]);
    carry(&mut next, &now, true);
    assert_eq!(next.relations[0].reason, now.relations[0].reason);
    assert_eq!(changes(&next, &now), []);
    // Nor where it is not even listed, as by a run of another level.
    let rows_only = |name: &str| Relation { levels: vec![Level::Rows], ..relation(name) };
    let index = Relation { levels: vec![Level::Pages], ..damaged("index", &[1]) };
    let mut listed = report(vec![rows_only("b")]);
    carry(&mut listed, &report(vec![index.clone()]), true);
    assert_eq!(with(&listed, Status::Damaged), ["index"]);
    assert_eq!(changes(&listed, &report(vec![index.clone()])), []);
    let mut gone = report(vec![relation("b")]);
    carry(&mut gone, &report(vec![index.clone()]), true);
    assert_eq!(with(&gone, Status::Damaged), [""; 0]);
    assert_eq!(changes(&gone, &report(vec![index])), [named(ChangeKind::Gone, "index")]);
    // Looked at again at that level, it is healed, or damaged as was found.
    let mut healed = report(vec![relation("a")]);
    carry(&mut healed, &next, true);
    assert_eq!(changes(&healed, &next), [named(ChangeKind::Healed, "a")]);
}

#[test]
fn what_is_gone_or_shrunk_or_changed_unseen_is_named() {
    let rows = |name: &str, clean| Relation {
        rows: Some(Rows { clean, ..Rows::default() }),
        ..relation(name)
    };
    let then =
        report(vec![rows("few", 100), rows("some", 100), relation("gone"), relation("same")]);
    let changed = Relation { content_hash: Some("b".to_owned()), ..relation("same") };
    let now = report(vec![rows("few", 89), rows("some", 90), changed.clone()]);
    let all = [
        named(ChangeKind::Gone, "gone"),
        named(ChangeKind::RowsFell, "few"),
        named(ChangeKind::ContentChanged, "same"),
    ];
    assert_eq!(changes(&now, &then), all);
    // Somebody wrote, it has another file, or it is a standby: no wonder.
    for change in [
        |r: &mut Report| r.relations[0].written.as_mut().expect("counted").after = 6,
        |r: &mut Report| r.relations[0].written.as_mut().expect("counted").relfilenode = None,
        |r: &mut Report| r.relations[0].written = None,
        |r: &mut Report| r.server.in_recovery = true,
    ] {
        let mut now = report(vec![changed.clone()]);
        change(&mut now);
        assert_eq!(changes(&now, &report(vec![relation("same")])), []);
    }
    // One that lists a part only does not know what is gone.
    let how = Compared { rows_fell_percent: 100, lists_all: false };
    assert_eq!(compare(&report(vec![rows("few", 1)]), &then, how).changes, []);
}

#[test]
fn numbers_of_any_size_are_compared() {
    let huge = |rows| Relation {
        rows: Some(Rows { clean: rows, suspect: rows, ..Rows::default() }),
        problems_omitted: u64::MAX,
        ..damaged("a", &[1])
    };
    let (then, mut now) = (report(vec![huge(u64::MAX)]), report(vec![huge(1)]));
    now.relations[0].levels.clear();
    carry(&mut now, &then, true);
    assert_eq!(changes(&now, &then), []);
}
