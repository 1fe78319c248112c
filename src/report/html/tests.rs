use super::super::samples::{full, nasty};
use super::*;
use crate::report::model::{Change, ChangeKind};

/// Elements in order, as an XML parser sees the page: it is written so that one
/// can read it, but for what has no end tag.
fn parsed(page: &str) -> String {
    let page = page.replace("<!DOCTYPE html>\n", "");
    let lines = page.lines().map(|line| match line.starts_with("<meta ") {
        true => line.replace("\">", "\"/>"),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn nothing_from_outside_is_markup() {
    let page = text(&nasty());
    let xml = parsed(&page);
    let document = roxmltree::Document::parse(&xml).unwrap_or_else(|e| panic!("{e}: {xml}"));
    let tags: std::collections::BTreeSet<&str> = document
        .descendants()
        .filter(roxmltree::Node::is_element)
        .map(|n| n.tag_name().name())
        .collect();
    assert!(!tags.contains("script"), "{tags:?}");
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        let own = page.replace(&esc("=HYPERLINK"), "");
        assert!(!own.contains(outside), "{outside}");
    }
    assert!(page.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
    let text: String = document.descendants().filter_map(|n| n.text()).collect();
    for shown in ["</pre></td><script>alert(1)</script>", "🦀 crab | pipe", "gpj.\\u{202e}exe"] {
        assert!(text.contains(shown), "{shown}");
    }
}

#[test]
fn the_page_says_what_the_report_says() {
    let page = text(&full());
    for part in [
        "<h1>The run is not complete; damage was found in 2 of 26 relations so far.</h1>",
        "shop.public.orders",
        "and 9 more",
        "REINDEX INDEX CONCURRENTLY public.orders_pkey;",
        "could not lock it within 10 s",
        "<strong>1</strong> not reached</li>",
        "healed: shop.public.stock",
        "file base/16384/99454 (81 MB) belongs to no relation",
        "each square is 5 blocks",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let at = |part: &str| page.find(part).unwrap_or_else(|| panic!("{part}"));
    assert!(at("What to do next") < at("shop.public.orders"));
    assert!(at("shop.public.orders") < at("shop.public.addresses"), "damage comes first");
}

#[test]
fn a_page_of_countless_relations_can_be_mailed_and_says_what_it_leaves_out() {
    let mut report = full();
    let orders = report.relations.iter().find(|r| r.name == "orders").unwrap().clone();
    report.relations = (0..10_000)
        .map(|n| {
            let mut relation = Relation { name: format!("orders_{n}"), ..orders.clone() };
            relation.problems = vec![orders.problems[0].clone(); 1000];
            relation
        })
        .collect();
    let change = Change {
        kind: ChangeKind::NewDamage,
        database: None,
        schema: "public".to_owned(),
        name: "orders".to_owned(),
        message: "more".to_owned(),
    };
    report.baseline.as_mut().unwrap().changes = vec![change; 10_000];
    let page = text(&report);
    assert!(page.len() < 500_000, "{}", page.len());
    for part in [
        "and 9,700 relations more",
        "9,950 relations more are not told of",
        "and 989 more",
        "and 9,900 more",
    ] {
        assert!(page.contains(part), "{part}");
    }
}
