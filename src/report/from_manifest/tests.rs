use super::super::model::Extent;
use super::*;
use crate::output::manifest::{Rows, RunStatus};
use serde_json::json;

const MAP: &str = "# pg_salvage map, version 1\n(0,0) (3,0) +\n(3,0) (4,0) -\n(4,0) (5,0) ~\n\
                   (5,0) (20,0) +\n";

/// As a dump writes it, with one relation for each status.
fn manifest() -> Manifest {
    let relation = |name: &str, kind: &str, status: &str| {
        json!({
            "oid": 16385, "schema": "public", "name": name, "kind": kind,
            "persistence": "permanent", "status": status, "snapshots": [1], "columns": [],
            "columns_left_out": [], "rows": {"clean": 5, "suspect": 1, "partial": 0},
            "blocks": {"total": 20, "clean": 18, "damaged": 1, "lost": 1}, "files": [],
            "lost": [], "lost_omitted": 0, "advice": ["look into a backup"]
        })
    };
    let lost = json!([
        {"first_block": 3, "last_block": 3, "cause": "page", "sqlstate": "XX001",
         "message": "ERROR: invalid page"},
        {"first_block": 9, "last_block": 10, "cause": "silent_loss", "message": "zeros"},
        {"ctid": "(4,2)", "column": "note", "cause": "stored_elsewhere", "message": "missing chunk"},
    ]);
    let mut salvaged = relation("salvaged", "table", "salvaged");
    salvaged["lost"] = lost;
    salvaged["lost_omitted"] = json!(4);
    salvaged["map"] = json!("maps/public.salvaged.map");
    let mut failed = relation("failed", "table", "failed");
    failed["reason"] = json!("permission denied");
    let mut sequence = relation("sequence", "sequence", "salvaged");
    sequence["sequence"] = json!({"last_value": 77, "is_called": true, "derived": true});
    let json = json!({
        "format_version": 1, "tool": {"name": "pg_salvage", "version": "0.1.0"},
        "started": "2026-03-01T10:00:00Z", "finished": "2026-03-01T10:05:00Z",
        "status": "incomplete", "exit_code": 3,
        "server": {"version_num": 150018, "version": "15.18", "host": "db1", "port": 5432,
                   "in_recovery": false, "block_size": 8192, "encoding": "UTF8"},
        "database": {"name": "shop", "oid": 16384, "encoding": "UTF8"},
        "snapshots": [], "options": {}, "warnings": ["data checksums are off"],
        "catalogs": [{"name": "pg_statistic", "to_its_end": false, "lost": [
            {"first_block": 3, "last_block": 3, "cause": "page", "message": "invalid page"}]}],
        "schema": {"source": "own", "reason": "no pg_dump was found", "files": [], "notes": [],
                   "lost": [{"kind": "FUNCTION", "name": "public.f()", "message": "gone"}]},
        "relations": [
            relation("clean", "table", "clean"), salvaged, relation("lost", "matview", "lost"),
            failed, relation("view", "view", "skipped"), sequence,
        ],
        "totals": {"relations": {"clean": 0, "salvaged": 0, "lost": 0, "skipped": 0, "failed": 0},
                   "rows": {"clean": 0, "suspect": 0, "partial": 0},
                   "blocks": {"total": 0, "clean": 0, "damaged": 0, "lost": 0}, "bytes": 0}
    });
    Manifest::from_json(json.to_string().as_bytes()).unwrap()
}

fn found<'a>(report: &'a Report, name: &str) -> &'a Relation {
    report.relations.iter().find(|r| r.name == name).unwrap()
}

fn map_of(r: &Relation) -> Vec<(u32, u32, BlockStatus)> {
    r.map
        .iter()
        .map(|Extent { first_block, blocks, status }| (*first_block, *blocks, *status))
        .collect()
}

#[test]
fn what_the_manifest_says_is_in_the_report() {
    let report = from_manifest(&manifest(), &|path| {
        assert_eq!(path, "maps/public.salvaged.map");
        Some(MAP.to_owned())
    });
    assert_eq!((report.status, report.exit_code), (RunStatus::Incomplete, 3));
    let statuses: Vec<_> = report.relations.iter().map(|r| (r.name.as_str(), r.status)).collect();
    let expected = [
        ("pg_statistic", Status::Damaged),
        ("clean", Status::Clean),
        ("failed", Status::Incomplete),
        ("lost", Status::Damaged),
        ("salvaged", Status::Damaged),
        ("sequence", Status::Damaged),
        ("view", Status::Skipped),
    ];
    assert_eq!(statuses, expected);
    let salvaged = found(&report, "salvaged");
    assert_eq!((salvaged.problems.len(), salvaged.problems_omitted), (3, 4));
    let problem = &salvaged.problems[2];
    assert_eq!((problem.ctid.as_deref(), problem.column.as_deref()), (Some("(4,2)"), Some("note")));
    assert_eq!(salvaged.blocks, Blocks { total: 20, damaged: 2, lost: 1 });
    assert_eq!(salvaged.rows, Some(Rows { clean: 5, suspect: 1, ..Rows::default() }));
    assert_eq!(salvaged.advice[0].text, "look into a backup");
    assert_eq!(found(&report, "failed").reason.as_deref(), Some("permission denied"));
    let derived = found(&report, "sequence");
    assert_eq!(
        (derived.reason.as_deref(), derived.rows),
        (Some("its value was derived: 77"), None)
    );
    assert_eq!(found(&report, "pg_statistic").problems[0].first_block, Some(3));
    let notes = [
        "data checksums are off",
        "the schema is not pg_dump's: no pg_dump was found",
        "FUNCTION public.f() could not be described: gone",
    ];
    assert_eq!(report.notes, notes);
    assert_eq!(report.totals, Totals::of(&report.relations));
    assert_eq!(Report::from_json(report.to_json().as_bytes()).unwrap(), report);
}

#[test]
fn the_map_is_that_of_the_dump_with_silent_loss_on_it() {
    use BlockStatus::{Clean, Lost, Suspect, Untried};
    let with = |map: Option<&'static str>| from_manifest(&manifest(), &|_| map.map(str::to_owned));
    let report = with(Some(MAP));
    let expected =
        [(0, 3, Clean), (3, 1, Lost), (4, 1, Suspect), (5, 4, Clean), (9, 2, Lost), (11, 9, Clean)];
    assert_eq!(map_of(found(&report, "salvaged")), expected);
    assert_eq!(map_of(found(&report, "clean")), []);
    assert_eq!(map_of(found(&report, "lost")), [(0, 20, Lost)]);
    assert_eq!(map_of(found(&report, "failed")), [(0, 20, Untried)]);
    // Some that is lost is not in the list.
    let partial = (4, 1, BlockStatus::Partial);
    let expected =
        [(0, 3, Untried), (3, 1, Lost), partial, (5, 4, Untried), (9, 2, Lost), (11, 9, Untried)];
    for none in [None, Some("no map"), Some("")] {
        assert_eq!(map_of(found(&with(none), "salvaged")), expected);
    }
}

/// Manifest and map may come from anybody.
#[test]
fn impossible_numbers_do_no_harm() {
    let mut manifest = manifest();
    for relation in &mut manifest.relations {
        relation.blocks.damaged = u64::MAX;
        relation.blocks.total = u64::MAX;
        relation.rows.clean = u64::MAX;
        relation.lost_omitted = u64::MAX;
        for lost in &mut relation.lost {
            (lost.first_block, lost.last_block) = (Some(u32::MAX), Some(0));
        }
    }
    let map = "# pg_salvage map, version 1\n(4294967295,65535) (4294967295,65535) +\n";
    for map in [map, "# pg_salvage map, version 1\n(7,0) (4294967295,65535) -\n"] {
        let report = from_manifest(&manifest, &|_| Some(map.to_owned()));
        assert!(Report::from_json(report.to_json().as_bytes()).is_ok());
        for format in crate::report::Format::ALL {
            assert!(!crate::report::render(&report, format, true).is_empty());
        }
    }
}
