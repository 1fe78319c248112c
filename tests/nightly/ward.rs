//! Every harm of the kit at once: each is found at a level that can find it,
//! nothing else is named, and every form of the report says the same.

use super::{list, text};
use crate::kit::json_schema::assert_keeps_to;
use crate::kit::{Harm, Plan, Version, Ward};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What no level can tell from what might be meant, where there are no checksums:
/// a row that was deleted, and bytes within a value. `docs/nightly.md` says so.
const HIDDEN: [Harm; 3] = [Harm::XmaxCommitted, Harm::FlipValueBytes, Harm::ToastChunkData];

/// Whose damage a damaged relation is: that of the table that it belongs to.
fn table_of(relation: &Value) -> String {
    let owner = text(&relation["owner"]);
    match owner.strip_prefix("public.") {
        Some(table) => table.to_owned(),
        None => text(&relation["name"]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_harm_is_found_and_nothing_else_is_named_in_any_form() {
    for plan in [Plan::new(true), Plan { fresh: true, ..Plan::new(false) }] {
        let ward = Ward::open(&Version::newest(), plan).await;
        ward.server.execute(ward.dbname, "CREATE EXTENSION amcheck").await;
        let folder = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(super::PROGRAM);
        let conninfo = ward.server.conninfo(ward.dbname);
        command.args(["verify", "--amcheck", "-j2", "--max-crashes", "100", "-d", &conninfo]);
        command.args(["-v", "--log-format", "json"]);
        let files: BTreeMap<&str, _> = ["json", "csv", "xml", "prom", "html", "txt"]
            .into_iter()
            .map(|form| (form, folder.path().join(format!("report.{form}"))))
            .collect();
        files.values().for_each(|file| _ = command.arg("-o").arg(file));
        let out = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{plan:?}: {said}");
        let read = |form: &str| std::fs::read_to_string(&files[form]).expect("a file");
        let report: Value = serde_json::from_str(&read("json")).expect("JSON");
        assert_keeps_to(include_str!("../../docs/report.schema.json"), &report, "the report");
        let damaged: Vec<&Value> =
            list(&report["relations"]).iter().filter(|r| r["status"] == "damaged").collect();
        let named: BTreeSet<String> = damaged.iter().map(|r| table_of(r)).collect();
        let harms = ward.harmed.keys().map(|&harm| (harm, plan.table(harm)));
        let harms: BTreeMap<Harm, String> =
            harms.chain(ward.sequences.keys().map(|&harm| (harm, format!("{harm:?}")))).collect();
        let innocent: Vec<_> =
            named.iter().filter(|name| !harms.values().any(|harmed| harmed == *name)).collect();
        assert!(innocent.is_empty(), "{plan:?}: {innocent:?}");
        let missed: Vec<Harm> =
            harms.iter().filter(|(_, table)| !named.contains(*table)).map(|(&h, _)| h).collect();
        let hidden = if plan.is_checked() { &[][..] } else { &HIDDEN[..] };
        assert_eq!(missed, hidden, "{plan:?}");
        let ended = r#""event":"verify_finished","status":"damaged","exit_code":2"#;
        assert!(said.contains(ended), "{plan:?}: {said}");
        for relation in &damaged {
            let name = text(&relation["name"]);
            // What the log has for programs.
            let levels = list(&relation["problems"]).iter().map(|p| text(&p["level"]));
            for level in levels.filter(|level| level != "rows").collect::<BTreeSet<_>>() {
                let database = text(&relation["database"]);
                let full = format!("{database}.{}.{name}", text(&relation["schema"]));
                let event =
                    format!(r#""event":"relation_damaged","relation":"{full}","level":"{level}""#);
                assert!(said.contains(&event), "{plan:?}: {event}: {said}");
            }
            for form in ["csv", "xml", "prom", "html", "txt"] {
                assert!(read(form).contains(&name), "{plan:?}: {name} is not in the {form}");
            }
        }
    }
}
