use super::super::model::{Blocks, Extent, Relation, Status, Totals};
use super::super::samples::{full, nasty};
use super::*;
use crate::output::schema_checks::{assert_exact, assert_kept, assert_refused, validator};
use serde_json::json;

fn schema() -> jsonschema::Validator {
    validator(include_str!("../../../docs/report.schema.json"))
}

#[test]
fn a_report_with_every_field_keeps_to_the_schema_and_is_read_back() {
    for report in [full(), nasty()] {
        let json = report.to_json();
        assert_kept(&schema(), &json);
        assert_eq!(Report::from_json(json.as_bytes()).unwrap(), report);
        assert!(json.ends_with("}\n"));
    }
}

/// Of the objects of a kind the ones with the most fields.
fn short() -> Report {
    let mut report = full();
    report
        .relations
        .retain(|r| r.name == "customers" || r.name == "customers_pkey" || r.name == "orders");
    report.relations[2].map.truncate(2);
    let whole = &report.relations[2].problems;
    report.relations[2].problems = vec![whole[0].clone(), whole[2].clone()];
    report
}

#[test]
fn the_schema_knows_exactly_the_fields_that_are_written() {
    let is_read = |json: &[u8]| Report::from_json(json).is_ok();
    assert_exact(&schema(), &short().to_json(), &[], |_, _| false, is_read);
}

/// The example shows every field: nothing is written that the test above has
/// not seen.
#[test]
fn the_example_has_every_field() {
    let json: serde_json::Value = serde_json::from_str(&short().to_json()).unwrap();
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/report.schema.json")).unwrap();
    fn seen(json: &serde_json::Value, names: &mut std::collections::BTreeSet<String>) {
        match json {
            serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                names.insert(name.clone());
                seen(value, names);
            }),
            serde_json::Value::Array(items) => items.iter().for_each(|item| seen(item, names)),
            _ => {}
        }
    }
    fn promised(schema: &serde_json::Value, names: &mut std::collections::BTreeSet<String>) {
        match schema {
            serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                if let ("properties", Some(fields)) = (name.as_str(), value.as_object()) {
                    names.extend(fields.keys().cloned());
                }
                promised(value, names);
            }),
            serde_json::Value::Array(items) => items.iter().for_each(|i| promised(i, names)),
            _ => {}
        }
    }
    let (mut found, mut wanted) = Default::default();
    seen(&json, &mut found);
    promised(&schema, &mut wanted);
    assert_eq!(found, wanted);
}

#[test]
fn the_schema_refuses_what_is_not_promised() {
    let breaks = [
        ("/format_version", json!(2)),
        ("/command", json!("list")),
        ("/status", json!("fine")),
        ("/started", json!("yesterday")),
        ("/levels/0", json!("files")),
        ("/relations/0/status", json!("salvaged")),
        ("/relations/0/content_hash", json!("0123")),
        ("/relations/2/map/0/blocks", json!(0)),
        ("/relations/2/map/0/status", json!("fine")),
        ("/relations/2/problems/0/message", json!(null)),
        ("/baseline/changes/0/kind", json!("other")),
        ("/totals/rows", json!({"clean": 1, "suspect": 2})),
    ];
    assert_refused(&schema(), &short().to_json(), breaks);
}

#[test]
fn a_report_of_another_version_or_with_a_map_that_is_none_is_refused() {
    let error = Report::from_json(br#"{"format_version": 2}"#).unwrap_err().to_string();
    assert_eq!(error, "the report has format version 2, and this program reads version 1");
    for harm in [
        |map: &mut Vec<Extent>| map.swap(0, 1),
        |map: &mut Vec<Extent>| map[0].blocks = 0,
        |map: &mut Vec<Extent>| map[1].blocks = u32::MAX,
        |map: &mut Vec<Extent>| {
            map.remove(0);
        },
    ] {
        let mut report = short();
        harm(&mut report.relations[2].map);
        let error = Report::from_json(report.to_json().as_bytes()).unwrap_err().to_string();
        assert_eq!(error, "the map of shop.public.orders is not in order");
    }
    assert!(Report::from_json(b"[]").is_err());
}

#[test]
fn sums_of_impossible_numbers_have_an_end() {
    let relation = Relation {
        status: Status::Damaged,
        blocks: Blocks { total: u64::MAX, damaged: u64::MAX, lost: u64::MAX },
        bytes: u64::MAX,
        problems_omitted: u64::MAX,
        ..full().relations[0].clone()
    };
    let totals = Totals::of(&[relation.clone(), relation]);
    assert_eq!((totals.blocks.total, totals.problems, totals.damaged), (u64::MAX, u64::MAX, 2));
}

#[test]
fn the_sample_is_consistent() {
    let report = full();
    assert_eq!(report.totals, Totals::of(&report.relations));
    assert!(report.relations.is_sorted_by(|a, b| a.key() < b.key()));
}

/// Every number of a report, one after the other: none of them is trusted.
#[test]
fn no_number_of_a_report_makes_any_form_fail() {
    fn numbers(json: &serde_json::Value, at: &str, found: &mut Vec<String>) {
        match json {
            serde_json::Value::Object(fields) => {
                fields.iter().for_each(|(k, v)| numbers(v, &format!("{at}/{k}"), found));
            }
            serde_json::Value::Array(items) => {
                let items = items.iter().enumerate();
                items.for_each(|(k, v)| numbers(v, &format!("{at}/{k}"), found));
            }
            serde_json::Value::Number(_) => found.push(at.to_owned()),
            _ => {}
        }
    }
    let good: serde_json::Value = serde_json::from_str(&short().to_json()).unwrap();
    let mut found = Vec::new();
    numbers(&good, "", &mut found);
    let mut read = 0;
    for pointer in found {
        for number in [0, u64::from(u32::MAX), u64::MAX] {
            let mut json = good.clone();
            *json.pointer_mut(&pointer).unwrap() = json!(number);
            if let Ok(report) = Report::from_json(json.to_string().as_bytes()) {
                for format in crate::report::Format::ALL {
                    let text = crate::report::render(&report, format, false);
                    assert!(!text.is_empty(), "{pointer}: {number}");
                }
                read += 1;
            }
        }
    }
    assert!(read > 100, "only {read} were tried");
}
