//! Reports of one damaged dump in all forms: each names the same damage, and is
//! what those who read it take.

use crate::binary::run;
use crate::kit::dumped::dump;
use crate::kit::json_schema::assert_keeps_to;
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version};
use crate::kit::{harm, oracle};
use pg_salvage::output::manifest::{Lost, Manifest, RelationStatus};
use pg_salvage::report::Format;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

/// Names that mean something to one form or another, and what becomes of their
/// tables: a page that is refused, and one of zeros, of which no read tells.
const TABLES: [(&str, Harm); 2] =
    [("a \"b\" <c> &amp; 'd',\ne | 🦀", Harm::BadPageHeader), ("=zeros\\n", Harm::ZeroBlock)];

/// A place that is lost: relation, block, cause.
type Named = BTreeSet<(String, u64, String)>;

/// A report of the dump, which ended with damage.
fn report(from: &Path, form: &str) -> String {
    let from = from.to_str().expect("UTF-8");
    let ran = run(["report", from, "--format", form]);
    assert_eq!((ran.code, ran.stderr.as_str()), (2, ""), "{form}");
    ran.stdout
}

async fn harmed_server() -> Server {
    let server = Server::start(&Version::one_or_two()[0], ServerOptions::checksums(true));
    let mut all = Vec::new();
    for (name, harm) in TABLES {
        let quoted = oracle::quote(name);
        let create = format!(
            "CREATE TABLE {quoted} WITH (autovacuum_enabled = off) AS
             SELECT i AS id, repeat(md5(i::text), 4) AS note FROM generate_series(1, 600) i"
        );
        server.execute(DB, &create).await;
        // Zeros are told from rows by the visibility map.
        server.execute(DB, &format!("VACUUM {quoted}")).await;
        all.push((format!("public.{quoted}"), harm));
    }
    server.execute(DB, "CREATE TABLE healthy AS SELECT 1 AS id").await;
    server.execute(DB, "CHECKPOINT").await;
    let client = oracle::session(&server, DB).await;
    let mut places = Vec::new();
    for (quoted, _) in &all {
        places.push(Places::of(&client, quoted).await);
    }
    drop(client);
    assert_eq!(server.stop(), Stop::Clean);
    for ((_, what), places) in all.iter().zip(&places) {
        harm(&server, places, *what, Place::middle(places.blocks), ChecksumAfter::Stale);
    }
    server.start_again();
    server
}

fn named_by_manifest(manifest: &Manifest) -> Named {
    let block = |lost: &Lost| u64::from(lost.block().expect("all of this damage has a place"));
    let relations = manifest.relations.iter();
    let lost = relations.flat_map(|r| r.lost.iter().map(|lost| (r.name.clone(), lost)));
    lost.map(|(name, lost)| (name, block(lost), lost.cause.clone())).collect()
}

fn named_by_json(text: &str) -> Named {
    let report: Value = serde_json::from_str(text).expect("JSON");
    assert_keeps_to(include_str!("../docs/report.schema.json"), &report, "the report");
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let mut named = Named::new();
    for relation in list(&report["relations"]) {
        let name = relation["name"].as_str().expect("a name").to_owned();
        for problem in list(&relation["problems"]) {
            let block = problem["first_block"].as_u64().expect("a block");
            named.insert((name.clone(), block, problem["cause"].as_str().expect("one").to_owned()));
            // The map has it, too, whether or not a read told of it.
            let lost = list(&relation["map"]).into_iter().find(|extent| {
                let first = extent["first_block"].as_u64().expect("a number");
                (first..first + extent["blocks"].as_u64().expect("a number")).contains(&block)
            });
            let status = lost.map(|extent| extent["status"].clone());
            assert!(status.is_some_and(|status| status != "clean"), "{name}, {block}");
        }
    }
    named
}

fn named_by_csv(text: &str) -> Named {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().expect("a head").clone();
    let at = |name: &str| head.iter().position(|h| h == name).expect("a column");
    let (name, block, cause) = (at("relation"), at("first_block"), at("cause"));
    let lines: Vec<csv::StringRecord> = reader.records().map(|r| r.expect("CSV")).collect();
    assert!(lines.iter().any(|line| &line[name] == "healthy" && line[cause].is_empty()));
    let lines = lines.iter().filter(|line| !line[cause].is_empty());
    let name_of = |cell: &str| cell.strip_prefix("'=").map_or(cell.to_owned(), |n| format!("={n}"));
    lines
        .map(|l| (name_of(&l[name]), l[block].parse().expect("a number"), l[cause].to_owned()))
        .collect()
}

/// Of prose: a relation and a block are named in one place.
fn assert_said(said: &str, block: u64, about: &str) {
    assert!(said.contains(&format!("block {block}")), "{about}: {said}");
}

fn check_junit(text: &str, named: &Named) {
    let document = roxmltree::Document::parse(text).expect("XML");
    for (name, block, cause) in named {
        let name = name.replace('\n', "\\n");
        let case = document.descendants().find(|n| n.attribute("name") == Some(&name));
        let failure = case.and_then(|case| case.first_element_child()).expect("a failure");
        assert_eq!(
            (failure.tag_name().name(), failure.attribute("type")),
            ("failure", Some(cause.as_str()))
        );
        assert_said(failure.text().expect("text"), *block, &name);
    }
    let healthy = document.descendants().find(|n| n.attribute("name") == Some("healthy"));
    assert!(healthy.is_some_and(|case| !case.has_children()));
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("it is written");
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reports/junit.xsd");
    let mut lint = Command::new("xmllint");
    let lint = lint.args(["--noout", "--schema", schema]).arg(file.path()).output();
    let lint = lint.unwrap_or_else(|e| panic!("xmllint (see tests/all) cannot be run: {e}"));
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stderr));
}

fn check_metrics(text: &str, named: &Named) {
    let quoted = |name: &str| name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let series = text.lines().filter(|line| line.starts_with("pg_salvage_relation_problems{"));
    let series: Vec<&str> = series.collect();
    let names: BTreeSet<&String> = named.iter().map(|(name, _, _)| name).collect();
    assert_eq!(series.len(), names.len(), "{text}");
    for name in names {
        let label = format!(",relation=\"{}\",", quoted(name));
        let problems = named.iter().filter(|(other, _, _)| other == name).count();
        let is_it = |line: &&&str| line.contains(&label) && line.ends_with(&format!(" {problems}"));
        assert!(series.iter().any(|line| is_it(&line)), "{label} in {series:?}");
    }
    assert!(text.contains("pg_salvage_exit_code{") && text.ends_with("# EOF\n"), "{text}");
}

fn check_html(text: &str, named: &Named) {
    let sections: Vec<&str> = text.split("<section class=\"relation").skip(1).collect();
    for (name, block, _) in named {
        let shown = name.replace('\n', "\\n").replace('&', "&amp;").replace('<', "&lt;");
        let shown = shown.replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;");
        let section = sections.iter().find(|section| section.contains(&shown)).expect("a section");
        assert_said(section, *block, name);
        assert!(section.contains("class=\"lost\""), "the map has it: {section}");
    }
    assert_eq!(sections.len(), TABLES.len(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_damage_is_named_in_every_form() {
    let server = harmed_server().await;
    let dumped = dump(PROGRAM, &server, DB, &[]);
    let dir = dumped.dir.path();
    let named = named_by_manifest(&dumped.manifest);
    for (name, _) in TABLES {
        assert_eq!(dumped.relation(name).status, RelationStatus::Salvaged, "{}", dumped.said);
        assert!(named.iter().any(|(other, _, _)| other == name), "{named:?}");
    }
    assert!(named.iter().any(|(_, _, cause)| cause == "silent_loss"), "{named:?}");

    let json = report(dir, "json");
    assert_eq!(named_by_json(&json), named);
    assert_eq!(named_by_csv(&report(dir, "csv")), named);
    check_junit(&report(dir, "junit"), &named);
    check_metrics(&report(dir, "openmetrics"), &named);
    check_html(&report(dir, "html"), &named);
    let text = report(dir, "text");
    for (_, block, _) in &named {
        assert_said(&text, *block, "text");
    }

    // The report as JSON gives all the others, without the dump.
    let files = tempfile::tempdir().expect("a folder");
    let kept = files.path().join("report.json");
    fs::write(&kept, &json).expect("it is written");
    for form in Format::ALL.iter().filter(|form| **form != Format::Text) {
        assert_eq!(report(&kept, form.name()), report(dir, form.name()), "{form:?}");
    }
    let text = report(&kept, "text");
    for (_, block, _) in &named {
        assert_said(&text, *block, "text of the report");
    }

    // Into a file, and a second time over the first.
    let file = files.path().join("shop.html");
    for _ in 0..2 {
        let [dir, file] = [dir, &file].map(|path| path.to_str().expect("UTF-8"));
        let ran = run(["report", dir, "--format", "html", "-o", file]);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (2, "", ""));
    }
    assert_eq!(fs::read_to_string(&file).expect("a page"), report(dir, "html"));
    assert_eq!(fs::read_dir(files.path()).expect("a folder").count(), 2);
}
