use super::super::model::Level;
use super::super::samples::{NASTY, full, nasty};
use super::*;

fn parsed(text: &str) -> roxmltree::Document<'_> {
    roxmltree::Document::parse(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn cases<'a>(document: &'a roxmltree::Document<'a>) -> Vec<roxmltree::Node<'a, 'a>> {
    document.descendants().filter(|n| n.has_tag_name("testcase")).collect()
}

/// The element that says how it went, and its message.
fn outcome<'a>(case: roxmltree::Node<'a, 'a>) -> Option<(&'a str, &'a str)> {
    let child = case.first_element_child()?;
    Some((child.tag_name().name(), child.attribute("message").unwrap_or_default()))
}

#[test]
fn a_relation_is_a_case_and_goes_as_it_was_found() {
    let report = full();
    let text = text(&report);
    let document = parsed(&text);
    let case = |name: &str| {
        let cases = cases(&document);
        *cases
            .iter()
            .find(|c| c.attribute("name") == Some(name))
            .unwrap_or_else(|| panic!("{name}"))
    };
    let orders = case("orders");
    assert_eq!(orders.attribute("classname"), Some("shop.public"));
    assert_eq!(outcome(orders).unwrap().0, "failure");
    let said = orders.first_element_child().unwrap().text().unwrap();
    for part in ["block 511: ERROR: invalid page", "and 9 more", "HINT: fetch the rows", "SELECT *"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(outcome(case("invoices")).unwrap().0, "error");
    assert_eq!(outcome(case("orders_2019")), Some(("skipped", "not reached in time")));
    assert_eq!(outcome(case("customers")), None);
    // The rows themselves were fine.
    let fell = ("failure", "from 31,204 rows to 30,000: 3.9 % fewer");
    assert_eq!(outcome(case("tags")), Some(fell));
    assert_eq!(outcome(case("tmp_import")).unwrap().0, "failure", "it is gone");
    assert_eq!(outcome(case("stock")), None, "it has healed");
    assert_eq!(outcome(case("pg_salvage verify")).unwrap().0, "error");
    assert_eq!(case("pg_authid").attribute("classname"), Some("shared.pg_catalog"));
    let root = document.root_element();
    let count = |name| {
        cases(&document).iter().filter(|c| outcome(**c).is_some_and(|o| o.0 == name)).count()
    };
    for (attribute, tag) in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")] {
        assert_eq!(root.attribute(attribute), Some(count(tag).to_string().as_str()), "{attribute}");
        let suites = root.children().filter(|n| n.has_tag_name("testsuite"));
        let sum: usize =
            suites.map(|s| s.attribute(attribute).unwrap().parse::<usize>().unwrap()).sum();
        assert_eq!(sum, count(tag));
    }
}

#[test]
fn no_name_breaks_the_xml() {
    let report = nasty();
    let text = text(&report);
    let document = parsed(&text);
    for name in NASTY {
        let found = cases(&document).iter().any(|c| c.attribute("name") == Some(&visible(name)));
        assert!(found, "{name:?}");
    }
    assert!(text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()), "{text:?}");
}

/// Whoever reads the number of failures and errors must not take a run for
/// well that was not.
#[test]
fn a_run_that_is_not_well_fails_whatever_its_relations_say() {
    for (status, exit_code) in
        [(RunStatus::Damaged, 2), (RunStatus::Incomplete, 3), (RunStatus::Clean, 1)]
    {
        let mut report = Report { status, exit_code, baseline: None, ..full() };
        report.relations.clear();
        let text = text(&report);
        let document = parsed(&text);
        let root = document.root_element();
        let bad = (root.attribute("failures"), root.attribute("errors"));
        assert_ne!(bad, (Some("0"), Some("0")), "{status:?}");
    }
    let mut report = Report { status: RunStatus::Clean, exit_code: 0, baseline: None, ..full() };
    report.relations.retain(|r| r.status == Status::Clean);
    report.levels = vec![Level::Rows];
    let text = text(&report);
    let document = parsed(&text);
    let root = document.root_element();
    assert_eq!((root.attribute("failures"), root.attribute("errors")), (Some("0"), Some("0")));
}
