//! What a person sees at the end of a restore: one table, what is missing, and
//! what to do next.

use super::plan::Plan;
use super::{Checking, RestoreOptions};
use crate::output::manifest::RelationKind;
use crate::output::restored::{NotMade, Relation, RelationStatus, Restored, Status};
use crate::report::grouped;
use crate::server::words::one_line;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Up to so many relations all are shown; above, those of which something is
/// missing.
const SHOW_ALL_MAX: usize = 40;

/// So many keys are shown of each thing that could not be made; `restore.json` has
/// more.
const KEYS_SHOWN_MAX: usize = 3;

/// So many things are named of those whose owner could not be set.
const OWNED_SHOWN_MAX: usize = 5;

const COLUMNS: usize = 7;

/// The whole report. `folder`: where the rejects are.
pub fn text(restored: &Restored, folder: &str, verbose: bool) -> String {
    let has_rows =
        |r: &&Relation| matches!(r.kind, RelationKind::Table | RelationKind::LargeObjects);
    let all: Vec<&Relation> = restored.relations.iter().filter(has_rows).collect();
    let show_all = verbose || all.len() <= SHOW_ALL_MAX;
    let shown: Vec<&Relation> = all.iter().copied().filter(|r| show_all || !is_whole(r)).collect();
    let mut out = String::new();
    if !shown.is_empty() {
        out.push_str(&table(&shown));
    }
    if all.len() > shown.len() {
        let whole = grouped((all.len() - shown.len()) as u64);
        let _ = writeln!(out, "and {whole} relations of which every row is there");
    }
    let t = &restored.totals;
    let _ = writeln!(
        out,
        "\n{} rows in the files: {} loaded, {} rejected, {} left out (there already); \
         {} duplicates taken out",
        grouped(t.rows),
        grouped(t.loaded),
        grouped(t.rejected),
        grouped(t.skipped),
        grouped(t.duplicates)
    );
    let _ = writeln!(
        out,
        "{} entries of the schema made, {} could not be; {} foreign keys do not hold",
        grouped(restored.made),
        grouped(restored.not_made.iter().filter(|thing| !thing.is_owner()).count() as u64),
        grouped(restored.not_valid.len() as u64)
    );
    checked(&mut out, &all);
    for warning in &restored.warnings {
        let _ = writeln!(out, "WARNING: {warning}");
    }
    for relation in all.iter().filter(|r| !is_whole(r)) {
        details(&mut out, relation);
    }
    let (owners, others): (Vec<_>, Vec<_>) =
        restored.not_made.iter().partition(|thing| thing.is_owner());
    things(&mut out, "could not be made", others);
    not_owned(&mut out, &owners);
    things(&mut out, "was made NOT VALID", &restored.not_valid);
    next(&mut out, restored, folder);
    out
}

fn is_whole(relation: &Relation) -> bool {
    let is_there = matches!(relation.status, RelationStatus::Loaded | RelationStatus::Skipped);
    is_there && relation.duplicates == 0 && relation.check.as_ref().is_none_or(|c| c.equal)
}

fn table(relations: &[&Relation]) -> String {
    let head =
        ["relation", "in files", "loaded", "rejected", "there already", "duplicates", "status"];
    let mut rows: Vec<[String; COLUMNS]> = vec![head.map(str::to_owned)];
    rows.extend(relations.iter().map(|r| {
        let sum = |of: fn(&crate::output::restored::File) -> u64| {
            grouped(r.files.iter().filter(|f| f.included).map(of).sum())
        };
        [
            one_line(&format!("{}.{}", r.schema, r.name)),
            sum(|f| f.rows),
            sum(|f| f.loaded),
            sum(|f| f.rejected),
            sum(|f| f.skipped),
            grouped(r.duplicates),
            status(r),
        ]
    }));
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut out = String::new();
    for (n, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            let gap = " ".repeat(width - cell.chars().count());
            match i == 0 || i == COLUMNS - 1 {
                true => line.push_str(&format!("{cell}{gap}  ")),
                false => line.push_str(&format!("{gap}{cell}  ")),
            }
        }
        let _ = writeln!(out, "{}", line.trim_end());
        if n == 0 {
            let rule: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
            let _ = writeln!(out, "{}", rule.join("  "));
        }
    }
    out
}

fn status(relation: &Relation) -> String {
    let said = match relation.status {
        RelationStatus::Loaded => "loaded",
        RelationStatus::WithRejects => "with rejects",
        RelationStatus::NotLoaded => "NOT LOADED",
        RelationStatus::Skipped => "nothing to load",
    };
    match &relation.check {
        Some(check) if check.equal => format!("{said}, equal"),
        Some(_) => format!("{said}, NOT EQUAL"),
        None => said.to_owned(),
    }
}

fn checked(out: &mut String, relations: &[&Relation]) {
    let checks: Vec<_> = relations.iter().filter_map(|r| r.check.as_ref()).collect();
    if checks.is_empty() {
        return;
    }
    let equal = checks.iter().filter(|c| c.equal).count();
    let _ = writeln!(
        out,
        "compared, row for row: {} of {} relations are equal",
        grouped(equal as u64),
        grouped(checks.len() as u64)
    );
}

fn details(out: &mut String, relation: &Relation) {
    let _ = writeln!(out, "\ntable \"{}.{}\":", relation.schema, relation.name);
    if let Some(reason) = &relation.reason {
        let _ = writeln!(out, "  {reason}");
    }
    for complaint in relation.files.iter().filter_map(|f| f.complaint.as_ref()) {
        let _ = writeln!(out, "  {complaint}");
    }
    if let Some(rejects) = &relation.rejects {
        let _ = writeln!(out, "  the rows, with the reasons: {rejects}");
    }
    match &relation.check {
        Some(check) if !check.equal => {
            let _ = match &check.failed {
                Some(why) => writeln!(out, "  could not be compared: {why}"),
                None => writeln!(
                    out,
                    "  compared: {} {} expected, {} found{}",
                    grouped(check.expected),
                    match relation.kind {
                        RelationKind::LargeObjects => "objects",
                        _ => "rows",
                    },
                    grouped(check.found),
                    if check.expected == check.found { ", with other contents" } else { "" }
                ),
            };
        }
        _ => {}
    }
}

/// Owners that could not be set: by the reason, of which there are few.
fn not_owned(out: &mut String, list: &[&NotMade]) {
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for thing in list {
        let name = one_line(&format!("{} \"{}\"", thing.desc.to_lowercase(), thing.tag));
        let name = name.trim_start_matches("owner of ").to_owned();
        reasons.entry(&thing.message).or_default().push(name);
    }
    for (reason, names) in reasons {
        let count = grouped(names.len() as u64);
        let _ = writeln!(out, "\n{count} owners could not be set: {}", one_line(reason));
        let more = if names.len() > OWNED_SHOWN_MAX { ", and more: restore.json" } else { "" };
        let shown = &names[..names.len().min(OWNED_SHOWN_MAX)];
        let _ = writeln!(out, "  of {}{more}", shown.join(", "));
    }
}

fn things<'a>(out: &mut String, what: &str, list: impl IntoIterator<Item = &'a NotMade>) {
    for thing in list {
        let name = match thing.schema.is_empty() {
            true => thing.tag.clone(),
            false => format!("{}.{}", thing.schema, thing.tag),
        };
        let name = one_line(&name);
        let _ = writeln!(
            out,
            "\n{} \"{name}\" {what}: {}",
            thing.desc.to_lowercase(),
            one_line(&thing.message)
        );
        if let Some(rows) = thing.rows {
            let _ = writeln!(out, "  {} rows are in the way", grouped(rows));
        }
        for key in thing.keys.iter().take(KEYS_SHOWN_MAX) {
            let _ = writeln!(out, "  {}", one_line(key));
        }
        if thing.keys.len() > KEYS_SHOWN_MAX {
            let _ = writeln!(out, "  and more: restore.json");
        }
    }
}

fn next(out: &mut String, restored: &Restored, folder: &str) {
    let mut steps = Vec::new();
    if restored.status == Status::Incomplete {
        steps.push(
            "Give the same command with --resume (and without --create): it goes on where this \
             run ended."
                .to_owned(),
        );
    }
    if restored.totals.rejected + restored.totals.duplicates > 0 {
        steps.push(format!(
            "Look through the rejected rows in {folder}: mend them, or decide that they are lost."
        ));
    }
    if restored.not_made.iter().any(NotMade::is_owner) {
        steps.push(
            "Set the owners as a superuser, or leave them as they are (--no-owner does not try)."
                .to_owned(),
        );
    }
    if restored.not_made.iter().any(|thing| !thing.is_owner()) {
        steps.push(
            "Make by hand what could not be made (schema/ in the dump has the statements); begin \
             with the first: others may have failed for it."
                .to_owned(),
        );
    }
    if !restored.not_valid.is_empty() {
        steps.push(
            "Bring back the rows that foreign keys miss, or delete those that miss them; then \
             ALTER TABLE ... VALIDATE CONSTRAINT."
                .to_owned(),
        );
    }
    let not_loaded =
        |r: &Relation| r.status == RelationStatus::NotLoaded && r.kind != RelationKind::Sequence;
    let not_loaded = restored.relations.iter().any(not_loaded);
    if not_loaded && restored.status != Status::Incomplete {
        steps.push(
            "Mend what kept tables from being loaded (above), and load them with --data-only -t."
                .to_owned(),
        );
    }
    if restored.status == Status::Complete {
        steps.push("Run ANALYZE, so that queries are planned well.".to_owned());
    }
    if steps.is_empty() {
        return;
    }
    out.push_str("\nWhat to do next:\n");
    for (n, step) in steps.iter().enumerate() {
        let _ = writeln!(out, "  {}. {step}", n + 1);
    }
}

/// What would be done.
pub(super) fn dry_run(
    database: &str,
    options: &RestoreOptions,
    plan: &Plan,
    rows_there: &BTreeMap<u32, Option<bool>>,
    warnings: &[String],
) -> String {
    let mut out = String::new();
    let sections = options.sections;
    if options.create {
        let _ = writeln!(out, "would create database \"{database}\" ({})", plan.encoding());
    }
    let entries = plan.entries().count();
    if plan.archive.is_some() {
        let parts = [(sections.pre_data, "before data"), (sections.post_data, "after data")];
        let parts: Vec<&str> = parts.iter().filter(|p| p.0).map(|p| p.1).collect();
        let _ = writeln!(
            out,
            "would restore the schema: {} entries, {}",
            grouped(entries as u64),
            parts.join(" and ")
        );
    }
    if sections.data {
        let how = match options.skip_conflicts {
            true => ", but for those whose key is there",
            false => "",
        };
        for table in &plan.tables {
            let rows: u64 = table.included(options.include).map(|f| f.rows).sum();
            let there = match rows_there.get(&table.relation.oid) {
                Some(Some(true)) => " (has rows)",
                Some(Some(false)) => " (is empty)",
                Some(None) => " (IS NOT THERE)",
                None => "",
            };
            let name = &table.qualified;
            let _ = writeln!(out, "would load {} rows into {name}{there}{how}", grouped(rows));
        }
        if let Some(objects) = &plan.large_objects {
            let pages: u64 = objects.included(options.include).map(|f| f.rows).sum();
            let _ = writeln!(out, "would load {} pages of large objects", grouped(pages));
        }
        let is_sequence = |r: &&crate::output::manifest::Relation| {
            r.kind == RelationKind::Sequence && plan.is_chosen(r)
        };
        let sequences = plan.manifest.relations.iter().filter(is_sequence).count();
        let _ = writeln!(out, "would set {} sequences", grouped(sequences as u64));
    }
    if options.checking != Checking::Never {
        out.push_str("would compare the rows then\n");
    }
    for warning in warnings {
        let _ = writeln!(out, "WARNING: {warning}");
    }
    out.push_str("nothing was changed\n");
    out
}
