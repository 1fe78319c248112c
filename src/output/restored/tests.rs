use super::*;
use crate::output::schema_checks::{assert_kept, assert_refused, validator};
use serde_json::{Value, json};

fn schema() -> jsonschema::Validator {
    validator(include_str!("../../../docs/restore.schema.json"))
}

/// With every field there is, so that the schema knows them all.
fn full() -> Restored {
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let file = File {
        class: RowClass::Partial,
        path: "data/public.t.partial.copy.zst".into(),
        rows: 9,
        included: true,
        read: 8,
        loaded: 5,
        rejected: 2,
        skipped: 1,
        complaint: Some("file has 8 rows, and 9 by the manifest".into()),
    };
    let thing = NotMade {
        dump_id: 0,
        desc: "FK CONSTRAINT".into(),
        schema: "public".into(),
        tag: "t t_fkey".into(),
        sqlstate: "23503".into(),
        message: "a row is missing".into(),
        keys: vec!["7".into()],
        rows: Some(1),
    };
    let relations = vec![Relation {
        oid: u32::MAX,
        schema: "public".into(),
        name: "t".into(),
        kind: RelationKind::Table,
        status: RelationStatus::WithRejects,
        reason: Some("since".into()),
        files: vec![file],
        duplicates: 1,
        rejects: Some("public.t.csv".into()),
        check: Some(Check {
            equal: false,
            expected: 4,
            found: 5,
            expected_hash: "0123456789abcdef".repeat(2),
            found_hash: String::new(),
            failed: Some("no connection".into()),
        }),
    }];
    Restored {
        format_version: FORMAT_VERSION,
        tool: Tool { name: "pg_salvage".into(), version: "0.1.0".into() },
        dump: "/backup/shop".into(),
        started: time("2026-03-01T10:00:00Z"),
        resumed: vec![time("2026-03-01T11:00:00Z")],
        finished: time("2026-03-01T11:00:01.5Z"),
        status: Status::WithRejects,
        exit_code: 2,
        target: TargetServer {
            version_num: 150_018,
            database: "shop".into(),
            encoding: "UTF8".into(),
        },
        options: [("sections".to_owned(), json!(["data"]))].into(),
        warnings: vec!["the dump is incomplete".into()],
        totals: Totals::of(&relations),
        relations,
        made: 70,
        not_made: vec![NotMade { tag: "u".into(), ..thing.clone() }],
        not_valid: vec![thing],
    }
}

#[test]
fn a_report_with_every_field_keeps_to_the_schema() {
    assert_kept(&schema(), &full().to_json());
}

#[test]
fn the_schema_refuses_what_is_not_promised() {
    let breaks = [
        ("/format_version", json!(2)),
        ("/status", json!("clean")),
        ("/exit_code", json!(1)),
        ("/started", json!("yesterday")),
        ("/target/version_num", json!(-1)),
        ("/relations/0/kind", json!("index")),
        ("/relations/0/status", json!("lost")),
        ("/relations/0/files/0/class", json!("torn")),
        ("/relations/0/files/0/loaded", json!(1.5)),
        ("/relations/0/check/found_hash", json!("0x1")),
        ("/not_made/0/keys", json!("7")),
        ("/totals", json!({})),
    ];
    assert_refused(&schema(), &full().to_json(), breaks);
}

/// Every object of the example, with one field more or one of its own less: what
/// can be left out for the schema can be left out for us, and the other way round.
#[test]
fn the_schema_knows_exactly_the_fields_that_are_written() {
    let objects = [
        "",
        "/tool",
        "/target",
        "/relations/0",
        "/relations/0/files/0",
        "/relations/0/check",
        "/not_made/0",
        "/not_valid/0",
        "/totals",
    ];
    let schema = schema();
    let good: Value = serde_json::from_str(&full().to_json()).unwrap();
    for pointer in objects {
        let mut json = good.clone();
        json.pointer_mut(pointer).unwrap()["more"] = json!(1);
        assert!(!schema.is_valid(&json), "{pointer}/more");
        let object = good.pointer(pointer).unwrap().as_object().unwrap();
        assert!(object.values().all(|value| !value.is_null()), "{pointer}");
        for name in object.keys() {
            let mut json = good.clone();
            json.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(name);
            let is_read = Restored::from_json(json.to_string().as_bytes()).is_ok();
            assert_eq!(schema.is_valid(&json), is_read, "{pointer}/{name}");
        }
    }
}

#[test]
fn a_report_is_read_back_as_it_was_written() {
    let report = full();
    assert_eq!(Restored::from_json(report.to_json().as_bytes()).unwrap(), report);
}
