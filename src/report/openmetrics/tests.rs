use super::super::samples::{NASTY, full, nasty};
use super::*;
use std::collections::BTreeMap;

type Labels = Vec<(String, String)>;

/// The values of labels, unescaped, and what follows them.
fn labels(mut text: &str) -> (Labels, &str) {
    let mut labels = Vec::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().expect("a label ends") {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match chars.next().expect("an escape").1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("\\{c} is no escape"),
                }),
                (_, c) => value.push(c),
            }
        };
        labels.push((name.to_owned(), value));
        text = &rest[end..];
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None => break,
        }
    }
    (labels, text.strip_prefix("} ").expect("labels end, and a value follows"))
}

/// Each name with its samples, as the collector would take them, or not.
fn parsed(text: &str) -> BTreeMap<String, Vec<(Labels, f64)>> {
    let mut families: BTreeMap<String, Vec<(Labels, f64)>> = BTreeMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            assert!(lines.peek().is_none(), "it ends there");
            return families;
        }
        let (name, help) = line.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
        assert!(!help.is_empty() && !families.contains_key(name), "{name} comes once");
        assert_eq!(lines.next(), Some(format!("# TYPE {name} gauge").as_str()));
        let samples = families.entry(name.to_owned()).or_default();
        while let Some(rest) = lines.next_if(|line| !line.starts_with('#')) {
            let rest = rest.strip_prefix(name).unwrap().strip_prefix('{').unwrap();
            let (labels, value) = labels(rest);
            assert!(samples.iter().all(|(other, _)| *other != labels), "{line} comes twice");
            samples.push((labels, value.parse().unwrap()));
        }
    }
    panic!("no # EOF");
}

fn value(families: &BTreeMap<String, Vec<(Labels, f64)>>, name: &str, label: (&str, &str)) -> f64 {
    let has = |labels: &Labels| labels.iter().any(|(n, v)| (n.as_str(), v.as_str()) == label);
    let samples = &families[&format!("pg_salvage_{name}")];
    samples.iter().find(|(labels, _)| has(labels)).unwrap_or_else(|| panic!("{name}")).1
}

#[test]
fn what_the_report_says_is_what_is_measured() {
    let report = full();
    let families = parsed(&text(&report));
    let server = ("server", "db1.example:5432");
    assert_eq!(value(&families, "last_run_timestamp_seconds", server), 1_772_330_924.25);
    assert_eq!(value(&families, "last_run_duration_seconds", server), 524.25);
    assert_eq!(value(&families, "exit_code", server), 3.0);
    assert_eq!(value(&families, "relations", ("status", "damaged")), 2.0);
    assert_eq!(value(&families, "rows", ("class", "suspect")), 212.0);
    assert_eq!(value(&families, "relation_problems", ("relation", "orders")), 14.0);
    assert_eq!(value(&families, "relation_damaged_blocks", ("relation", "orders_pkey")), 1.0);
    assert_eq!(value(&families, "relations_omitted", server), 0.0);
    assert_eq!(value(&families, "relations", ("status", "not_reached")), 1.0);
    assert_eq!(value(&families, "baseline_changes", ("kind", "rows_fell")), 1.0);
    let oldest = value(&families, "oldest_verification_timestamp_seconds", server);
    assert_eq!(oldest, 1_771_639_209.0);
    assert_eq!(value(&families, "problems", ("database", "shop")), report.totals.problems as f64);
}

#[test]
fn a_run_that_has_not_ended_has_no_heartbeat() {
    let report = Report { finished: None, window: None, baseline: None, ..full() };
    let families = parsed(&text(&report));
    assert!(!families.contains_key("pg_salvage_last_run_timestamp_seconds"));
    assert!(families.contains_key("pg_salvage_exit_code"));
}

#[test]
fn names_are_labels_as_they_are() {
    let families = parsed(&text(&nasty()));
    let samples = &families["pg_salvage_relation_problems"];
    let names: Vec<&str> = samples
        .iter()
        .map(|(labels, _)| labels.iter().find(|(name, _)| name == "relation").unwrap().1.as_str())
        .collect();
    assert_eq!(names, NASTY);
}

#[test]
fn relations_are_many_or_the_same_and_the_rest_is_counted() {
    let mut report = full();
    let orders = report.relations.iter().find(|r| r.name == "orders").unwrap().clone();
    report.relations = (0..RELATIONS_MAX + 5)
        .map(|n| Relation { name: n.to_string(), ..orders.clone() })
        .chain([orders.clone(), orders.clone()])
        .collect();
    let families = parsed(&text(&report));
    assert_eq!(families["pg_salvage_relation_problems"].len(), RELATIONS_MAX);
    assert_eq!(value(&families, "relations_omitted", ("command", "verify")), 7.0);
}
