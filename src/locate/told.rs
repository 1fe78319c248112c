//! What was found, for programs: docs/locate.md describes it.

use super::group::{Group, Subject};
use super::path::{Geometry, RelationFile};
use super::{Finding, Located, on_disk};
use crate::server::whose_file::{Name, Owner};
use serde_json::{Map, Value, json};

const FORMAT_VERSION: u32 = 1;

/// A range is told segment by segment; of one that has more, only the first.
const SEGMENTS_MAX: usize = 1000;

pub(super) fn json(located: &Located) -> String {
    let status = match (located.is_damage(), located.findings.is_empty()) {
        (true, _) => "damaged",
        (false, true) => "nothing_found",
        (false, false) => "asked",
    };
    let objects: Vec<Value> = located.findings.iter().map(|f| object(located, f)).collect();
    let all = json!({
        "format_version": FORMAT_VERSION,
        "status": status,
        "bytes_read": located.bytes,
        "connected": located.is_connected,
        "block_size": located.geometry.block_size,
        "segment_blocks": located.geometry.segment_blocks,
        "objects": objects,
        "messages_omitted": located.omitted,
        "first_steps": located.first_steps,
        "warnings": located.warnings,
    });
    format!("{all:#}\n")
}

fn object(located: &Located, finding: &Finding) -> Value {
    let (group, resolved) = (&finding.group, &finding.resolved);
    let kinds: Map<String, Value> =
        group.kinds.iter().map(|(kind, count)| (kind.name().to_owned(), json!(count))).collect();
    let advice: Vec<Value> = finding
        .steps
        .iter()
        .map(|step| json!({ "text": step.text, "sql": step.sql, "shell": step.shell }))
        .collect();
    let checksums: Vec<Value> = group
        .checksums
        .iter()
        .map(|(block, (computed, stored))| json!({ "block": block, "computed": computed, "stored": stored }))
        .collect();
    let among: Vec<Value> = group
        .among
        .iter()
        .map(|(first, last, count)| json!({ "first": first, "last": last, "count": count }))
        .collect();
    json!({
        "subject": subject(&group.subject),
        "database": resolved.database.as_ref().or_else(|| group.databases.first()),
        "relation": resolved.owners.first().map(owner),
        "also": resolved.owners.iter().skip(1).map(owner).collect::<Vec<_>>(),
        "note": resolved.note,
        "kinds": kinds,
        "messages": group.count(),
        "first_seen": group.first,
        "last_seen": group.last,
        "sample": group.sample,
        "blocks": blocks(located, group),
        "blocks_omitted": group.blocks.omitted,
        "among": among,
        "checksums": checksums,
        "values": group.values,
        "transactions": group.xids,
        "files": group.files,
        "reasons": group.whys,
        "largest_request": group.size,
        "advice": advice,
    })
}

fn subject(subject: &Subject) -> Value {
    match subject {
        Subject::File(file) => json!({
            "kind": "file",
            "path": file.path(),
            "fork": file.fork.name(),
            "tablespace_oid": file.tablespace,
            "database_oid": file.database,
            "filenode": file.filenode,
            "backend": file.backend,
        }),
        Subject::Toast { table, .. } => json!({ "kind": "toast", "table_oid": table }),
        Subject::Named { name, .. } => json!({ "kind": "named", "name": name }),
        Subject::Slru(folder) => json!({ "kind": "transaction_status", "folder": folder }),
        Subject::Wal => json!({ "kind": "wal" }),
        Subject::Process(signal) => json!({ "kind": "process", "signal": signal }),
        Subject::Unnamed(_) => json!({ "kind": "unnamed" }),
    }
}

fn owner(owner: &Owner) -> Value {
    let name = |n: &Name| json!({ "oid": n.oid, "schema": n.schema, "name": n.name });
    json!({
        "oid": owner.relation.oid,
        "schema": owner.relation.schema,
        "name": owner.relation.name,
        "relkind": owner.kind.to_string(),
        "persistence": owner.persistence.to_string(),
        "access_method": owner.access_method,
        "table": owner.table.as_ref().map(name),
    })
}

fn blocks(located: &Located, group: &Group) -> Vec<Value> {
    let file = match &group.subject {
        Subject::File(file) => Some(file),
        _ => None,
    };
    let ranges = group.blocks.ranges();
    ranges
        .flat_map(|(first, last)| match file {
            Some(file) => in_segments(located, file, first, last),
            None => vec![json!({ "first": first, "last": last })],
        })
        .collect()
}

fn in_segments(located: &Located, file: &RelationFile, first: u32, last: u32) -> Vec<Value> {
    let Geometry { segment_blocks, .. } = located.geometry;
    let (mut next, mut pieces) = (Some(first), Vec::new());
    while let Some(begin) = next.filter(|_| pieces.len() < SEGMENTS_MAX) {
        let place = located.geometry.place(file, begin);
        let end = begin.saturating_add(segment_blocks - 1 - place.page).min(last);
        let pgdata = located.pgdata.as_deref();
        pieces.push(json!({
            "first": begin,
            "last": end,
            "segment": place.segment,
            "page": place.page,
            "byte": place.byte,
            "file": place.file,
            "not_there": pgdata.and_then(|dir| on_disk::missing(dir, &place, located.geometry)),
        }));
        next = end.checked_add(1).filter(|next| *next <= last);
    }
    pieces
}
