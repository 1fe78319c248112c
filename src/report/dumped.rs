//! What a person sees at the end of a dump: one table, and what to do next.

use super::layout;
use super::words::{visible, word};
use super::{grouped, sized};
use crate::output::manifest::{Manifest, Relation, RelationStatus, RunStatus};
use std::fmt::Write as _;

/// Up to so many relations all are shown; above, those that are not clean.
const SHOW_ALL_MAX: usize = 40;

/// So many lines of places lost are shown for a relation; the manifest has all.
const LOST_SHOWN_MAX: usize = 3;

/// The whole report. `where_to` is the dump directory, if there is one.
pub fn text(manifest: &Manifest, where_to: Option<&str>, verbose: bool) -> String {
    let read: Vec<&Relation> =
        manifest.relations.iter().filter(|r| r.status != RelationStatus::Skipped).collect();
    let show_all = verbose || read.len() <= SHOW_ALL_MAX;
    let shown: Vec<&Relation> =
        read.iter().copied().filter(|r| show_all || r.status != RelationStatus::Clean).collect();
    let mut out = table(&shown);
    let hidden = read.len() - shown.len();
    if hidden > 0 {
        let _ = writeln!(out, "and {} relations that are clean", grouped(hidden as u64));
    }
    let t = &manifest.totals;
    let oversize = match t.rows.oversize {
        0 => String::new(),
        rows => format!(" {} oversize,", grouped(rows)),
    };
    let _ = writeln!(
        out,
        "\n{} rows clean,{oversize} {} suspect, {} partial; {} blocks damaged, {} of them lost; {}",
        grouped(t.rows.clean),
        grouped(t.rows.suspect),
        grouped(t.rows.partial),
        grouped(t.blocks.damaged.saturating_add(t.blocks.lost)),
        grouped(t.blocks.lost),
        sized(t.bytes)
    );
    if let Some(wal) = wal_meanwhile(manifest) {
        let _ = writeln!(out, "{wal}");
    }
    for note in manifest.schema.iter().flat_map(|schema| &schema.notes) {
        let _ = writeln!(out, "NOTE: {}", visible(note));
    }
    for warning in &manifest.warnings {
        let _ = writeln!(out, "WARNING: {}", visible(warning));
    }
    details(&mut out, &shown);
    next(&mut out, manifest, where_to);
    out
}

/// What the server wrote meanwhile, unless that is nothing.
fn wal_meanwhile(manifest: &Manifest) -> Option<String> {
    let wal = manifest.server.wal.as_ref()?;
    let transactions = wal.transactions.unwrap_or(0);
    if wal.bytes == 0 && transactions == 0 {
        return None;
    }
    let bytes = sized(wal.bytes);
    Some(if manifest.server.in_recovery {
        format!("NOTE: the standby replayed {bytes} of WAL meanwhile")
    } else {
        format!(
            "NOTE: the server wrote {bytes} of WAL meanwhile, and gave out {} transaction ids: \
             hint bits that reading sets, or others who write",
            grouped(transactions)
        )
    })
}

fn table(relations: &[&Relation]) -> String {
    let head = ["relation", "kind", "clean", "suspect", "partial", "blocks lost", "status"];
    let mut rows: Vec<[String; 7]> = vec![head.map(str::to_owned)];
    rows.extend(relations.iter().map(|r| {
        [
            format!("{}.{}", r.schema, r.name).escape_debug().to_string(),
            word(&r.kind),
            grouped(r.rows.clean),
            grouped(r.rows.suspect),
            grouped(r.rows.partial),
            grouped(r.blocks.lost),
            word(&r.status),
        ]
    }));
    layout::table(&rows, &[0, 1, 6])
}

/// What was lost of each relation that is not clean, and the advice.
fn details(out: &mut String, relations: &[&Relation]) {
    for r in relations.iter().filter(|r| r.status != RelationStatus::Clean) {
        let name = visible(&format!("{}.{}", r.schema, r.name));
        let _ = writeln!(out, "\n{} \"{name}\": {}", word(&r.kind), word(&r.status));
        if let Some(reason) = &r.reason {
            let _ = writeln!(out, "  {}", visible(reason));
        }
        for lost in r.lost.iter().take(LOST_SHOWN_MAX) {
            let place = match (lost.first_block, lost.last_block, &lost.ctid) {
                (Some(a), Some(b), _) if a == b => format!("block {a}: "),
                (Some(a), Some(b), _) => format!("blocks {a}..{b}: "),
                (_, _, Some(ctid)) => format!("tuple {}: ", visible(ctid)),
                _ => String::new(),
            };
            let column = lost.column.as_ref().map(|c| format!("column \"{}\": ", visible(c)));
            let (column, message) = (column.unwrap_or_default(), visible(&lost.message));
            let _ = writeln!(out, "  lost: {place}{column}{message}");
        }
        let unshown = r.lost.len().saturating_sub(LOST_SHOWN_MAX) as u64;
        let more = unshown.saturating_add(r.lost_omitted);
        if more > 0 {
            let _ = writeln!(out, "  and {} more; see manifest.json", grouped(more));
        }
        if let Some(s) = r.sequence.as_ref().filter(|s| s.derived) {
            let _ = writeln!(out, "  its value was derived: {}", s.last_value);
        }
        for advice in &r.advice {
            let _ = writeln!(out, "  HINT: {}", visible(advice));
        }
    }
}

fn next(out: &mut String, manifest: &Manifest, where_to: Option<&str>) {
    let _ = writeln!(out);
    match manifest.status {
        RunStatus::Clean => {
            let _ = writeln!(out, "Everything was read, and the server reported no damage.");
        }
        status @ (RunStatus::Damaged | RunStatus::Incomplete) => {
            let complete = if status == RunStatus::Damaged {
                "complete. There is damage"
            } else {
                "NOT complete"
            };
            let _ = writeln!(out, "The run is {complete}. What to do next:");
            for (number, step) in steps(status, where_to).iter().enumerate() {
                let _ = writeln!(out, "  {}. {}", number + 1, step.replace('\n', "\n     "));
            }
        }
    }
}

/// What to do next, in order.
fn steps(status: RunStatus, where_to: Option<&str>) -> Vec<String> {
    let mut steps = Vec::new();
    if let (RunStatus::Incomplete, Some(dir)) = (status, where_to) {
        steps.push(format!(
            "When what was in the way (above) is mended, give the same command with --resume:\n\
             it goes on with {dir} where this run ended."
        ));
    }
    steps.push(
        "Write nothing more to this server; copy its data directory before any repair.".to_owned(),
    );
    if let Some(dir) = where_to {
        steps.push(format!(
            "Keep {dir}: data/ has the rows, errors/ every error, maps/ and\n\
             manifest.json every place that was lost."
        ));
    }
    steps.push(
        "Look for the lost rows on a standby or in a backup; then follow the hints above."
            .to_owned(),
    );
    steps
}
