use super::*;
use crate::output::manifest::RunStatus;
use crate::report::model::Command;
use std::collections::BTreeMap;

fn hash(of: &str) -> Option<ContentHash> {
    Some(ContentHash::of_row(of.as_bytes()))
}

fn clean(rows: u64, of: &str) -> Contents {
    let columns = Some(vec![("id".to_owned(), "integer".to_owned())]);
    Contents { kind: "table".to_owned(), read: Read::Clean, rows, hash: hash(of), columns }
}

fn side(relations: &[(&str, Contents)]) -> Side {
    let key = |name: &str| (String::new(), "public".to_owned(), name.to_owned());
    Side {
        path: "/backup/shop".to_owned(),
        command: Command::Dump,
        started: "2026-03-01T10:00:00Z".parse().unwrap(),
        finished: Some("2026-03-01T10:05:00Z".parse().unwrap()),
        status: RunStatus::Clean,
        version: "15.18 (Debian 15.18-0)".to_owned(),
        host: "db1".to_owned(),
        system_identifier: Some("7".to_owned()),
        databases: vec!["shop".to_owned()],
        encoding: Some("UTF8".to_owned()),
        relations: relations.iter().map(|(n, c)| (key(n), c.clone())).collect::<BTreeMap<_, _>>(),
    }
}

fn found(a: &[(&str, Contents)], b: &[(&str, Contents)]) -> (Vec<(String, What, String)>, Diff) {
    let diff = diff(side(a), side(b));
    let all = diff.relations.iter();
    (all.map(|d| (d.name.clone(), d.what, d.message.clone())).collect(), diff)
}

#[test]
fn each_relation_is_the_same_or_is_named_with_what_is_different() {
    let damaged = Contents { read: Read::No("damaged".to_owned()), hash: None, ..clean(7, "x") };
    let left_out = Contents { read: Read::NotAsked, ..clean(0, "") };
    let other = Contents { columns: Some(Vec::new()), ..clean(7, "x") };
    let unknown = Contents { hash: None, ..clean(7, "x") };
    let a = [
        ("changed", clean(7, "x")),
        ("columns", other),
        ("damaged", damaged.clone()),
        ("left_out", left_out.clone()),
        ("more", clean(1234, "x")),
        ("mine", clean(1, "x")),
        ("same", clean(7, "x")),
        ("unknown", unknown),
        ("half", left_out.clone()),
        ("nowhere", left_out.clone()),
    ];
    let b = [
        ("changed", clean(7, "y")),
        ("columns", clean(7, "x")),
        ("damaged", clean(7, "x")),
        ("left_out", left_out.clone()),
        ("more", clean(1235, "y")),
        ("same", clean(7, "x")),
        ("unknown", clean(7, "x")),
        ("half", clean(7, "x")),
        ("yours", damaged),
    ];
    let (names, diff) = found(&a, &b);
    let said = |name: &str, what, words: &str| (name.to_owned(), what, words.to_owned());
    assert_eq!(
        names,
        [
            said("changed", What::Differs, "7 rows in both, and their contents are others"),
            said("columns", What::NotCompared, "its columns are others, or in another order"),
            said("damaged", What::NotCompared, "in A: damaged"),
            said("half", What::NotCompared, "A was not asked for it"),
            said("mine", What::OnlyInA, "1 rows"),
            said("more", What::Differs, "1,234 rows in A, 1,235 in B"),
            said("unknown", What::NotCompared, "A has no hash of it"),
            said("yours", What::OnlyInB, "damaged"),
        ]
    );
    assert_eq!((diff.same, diff.not_asked, diff.exit_code), (1, 2, 3));
    let text = text(&diff);
    assert!(text.contains("not compared  public.damaged"), "{text}");
    let end =
        "1 relations are the same, 2 differ, 1 are only in A, 1 only in B, 4 could not be compared";
    assert!(text.contains(end), "{text}");
}

#[test]
fn the_exit_code_tells_differences_from_what_could_not_be_compared() {
    let one = [("t", clean(7, "x"))];
    assert_eq!(found(&one, &one).1.exit_code, 0);
    assert_eq!(found(&one, &[("t", clean(7, "y"))]).1.exit_code, 2);
    assert_eq!(found(&one, &[]).1.exit_code, 2);
    let mut latin = side(&one);
    latin.encoding = Some("LATIN1".to_owned());
    assert_eq!(diff(side(&one), latin).exit_code, 3);
    let mut unknown = side(&one);
    unknown.encoding = None;
    assert_eq!(diff(side(&one), unknown).exit_code, 0);
}

#[test]
fn what_lets_differences_be_expected_is_said() {
    assert_eq!(diff(side(&[]), side(&[])).warnings, [] as [&str; 0]);
    let mut other = side(&[]);
    other.system_identifier = Some("8".to_owned());
    other.databases = vec!["shop_new".to_owned()];
    other.version = "11.22".to_owned();
    other.started = "2026-03-01T11:00:00Z".parse().unwrap();
    let said = diff(side(&[]), other).warnings;
    for (words, warning) in
        ["another cluster", "other names", "floating-point", "had ended"].iter().zip(&said)
    {
        assert!(warning.contains(words), "{warning}");
    }
    assert_eq!(said.len(), 4);
    let strange = Side { host: "\u{1b}[2J".to_owned(), ..side(&[]) };
    let text = text(&diff(strange, side(&[])));
    assert!(text.starts_with("A: /backup/shop: shop on \u{fffd}[2J (PostgreSQL 15.18"), "{text}");
}
