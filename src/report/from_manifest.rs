//! A dump as a report: what its manifest says, and the maps beside it.

use super::block_map::{self, Span};
use super::model::{
    BlockStatus, Blocks, Command, Database, FORMAT_VERSION, Level, PROBLEMS_MAX, Problem, Relation,
    Report, Server, Status, Step, Totals,
};
use super::words::visible;
use crate::heap::ctid::Ctid;
use crate::heap::map::TidMap;
use crate::output::manifest::{
    self, Catalog, Lost, Manifest, RelationKind, RelationStatus, SchemaSource,
};

/// So many objects that could not be described are named.
const OBJECTS_MAX: usize = 100;

/// `map_of` gives the text of a map by its path in the dump directory, where
/// that is at hand.
pub fn from_manifest(manifest: &Manifest, map_of: &dyn Fn(&str) -> Option<String>) -> Report {
    let catalogs = manifest.catalogs.iter().map(|c| of_catalog(c, manifest));
    let relations = manifest.relations.iter().map(|r| of_relation(r, manifest, map_of));
    let mut relations: Vec<Relation> = catalogs.chain(relations).collect();
    relations.sort_by(|a, b| a.key().cmp(&b.key()));
    let server = &manifest.server;
    Report {
        format_version: FORMAT_VERSION,
        tool: manifest.tool.clone(),
        command: Command::Dump,
        started: manifest.started,
        finished: manifest.finished,
        status: manifest.status,
        exit_code: manifest.exit_code,
        server: Server {
            version: server.version.clone(),
            host: server.host.clone(),
            port: server.port,
            in_recovery: server.in_recovery,
            data_checksums: server.data_checksums,
            block_size: server.block_size,
            system_identifier: server.system_identifier.clone(),
        },
        levels: vec![Level::Rows],
        databases: vec![Database {
            name: manifest.database.name.clone(),
            oid: manifest.database.oid,
            status: manifest.status,
            pages: None,
            notes: Vec::new(),
        }],
        notes: notes(manifest),
        window: None,
        baseline: None,
        totals: Totals::of(&relations),
        relations,
    }
}

/// What concerns the whole run, and what could not be had of the schema.
fn notes(manifest: &Manifest) -> Vec<String> {
    let mut notes = manifest.warnings.clone();
    let Some(schema) = &manifest.schema else { return notes };
    if schema.source != SchemaSource::PgDump {
        notes.extend(schema.reason.iter().map(|why| format!("the schema is not pg_dump's: {why}")));
    }
    notes.extend(schema.notes.iter().cloned());
    notes.extend(schema.lost.iter().take(OBJECTS_MAX).map(|object| {
        let [kind, name, message] =
            [&object.kind, &object.name, &object.message].map(|s| visible(s));
        format!("{kind} {name} could not be described: {message}")
    }));
    if let more @ 1.. = schema.lost.len().saturating_sub(OBJECTS_MAX) {
        notes.push(format!("{more} more objects could not be described; see manifest.json"));
    }
    notes
}

fn of_relation(
    r: &manifest::Relation,
    manifest: &Manifest,
    map_of: &dyn Fn(&str) -> Option<String>,
) -> Relation {
    let status = match r.status {
        RelationStatus::Clean => Status::Clean,
        RelationStatus::Salvaged | RelationStatus::Lost => Status::Damaged,
        RelationStatus::Failed => Status::Incomplete,
        RelationStatus::Skipped => Status::Skipped,
    };
    let derived = r.sequence.as_ref().filter(|s| s.derived);
    let derived = derived.map(|s| format!("its value was derived: {}", s.last_value));
    let (problems, omitted) = problems(&r.lost);
    let map = match status {
        Status::Damaged | Status::Incomplete => map(r, map_of),
        _ => Vec::new(),
    };
    Relation {
        oid: r.oid,
        status,
        reason: r.reason.clone().or(derived),
        levels: levels(matches!(status, Status::Clean | Status::Damaged)),
        rows: (has_rows(r.kind) && status != Status::Skipped).then_some(r.rows),
        blocks: Blocks {
            total: r.blocks.total,
            damaged: r.blocks.damaged.saturating_add(r.blocks.lost),
            lost: r.blocks.lost,
        },
        content_hash: r.content_hash.map(|hash| hash.to_string()),
        last_ok: (status == Status::Clean).then_some(manifest.started),
        problems,
        problems_omitted: omitted.saturating_add(r.lost_omitted),
        map,
        advice: r.advice.iter().map(|text| step(text)).collect(),
        ..Relation::named(Some(&manifest.database.name), &r.schema, &r.name, kind(r.kind))
    }
}

/// A system catalog of which something could not be read.
fn of_catalog(catalog: &Catalog, manifest: &Manifest) -> Relation {
    let (problems, problems_omitted) = problems(&catalog.lost);
    let database = Some(manifest.database.name.as_str());
    let not_to_its_end = (!catalog.to_its_end).then(|| "it was not read to its end".to_owned());
    Relation {
        status: Status::Damaged,
        reason: not_to_its_end,
        levels: levels(catalog.to_its_end),
        problems,
        problems_omitted,
        ..Relation::named(database, "pg_catalog", &catalog.name, "system catalog")
    }
}

fn levels(to_its_end: bool) -> Vec<Level> {
    if to_its_end { vec![Level::Rows] } else { Vec::new() }
}

fn step(text: &str) -> Step {
    Step { text: text.to_owned(), sql: Vec::new(), shell: Vec::new() }
}

fn has_rows(kind: RelationKind) -> bool {
    use RelationKind::{LargeObjectMetadata, LargeObjects, Matview, Table};
    matches!(kind, Table | Matview | LargeObjects | LargeObjectMetadata)
}

fn kind(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Table => "table",
        RelationKind::Matview => "materialised view",
        RelationKind::Sequence => "sequence",
        RelationKind::LargeObjects => "large objects",
        RelationKind::LargeObjectMetadata => "large object metadata",
        RelationKind::PartitionedTable => "partitioned table",
        RelationKind::View => "view",
        RelationKind::ForeignTable => "foreign table",
    }
}

/// The first of them, and how many more there are.
fn problems(lost: &[Lost]) -> (Vec<Problem>, u64) {
    let problem = |l: &Lost| Problem {
        first_block: l.first_block,
        last_block: l.last_block,
        ctid: l.ctid.clone(),
        column: l.column.clone(),
        sqlstate: l.sqlstate.clone(),
        ..Problem::new(Level::Rows, &l.cause, l.message.clone())
    };
    let more = lost.len().saturating_sub(PROBLEMS_MAX) as u64;
    (lost.iter().take(PROBLEMS_MAX).map(problem).collect(), more)
}

/// Of the map beside the manifest and, where it calls clean what is named as
/// lost, or is not there, of the list.
fn map(
    r: &manifest::Relation,
    map_of: &dyn Fn(&str) -> Option<String>,
) -> Vec<super::model::Extent> {
    let named: Vec<Span> = r.lost.iter().filter_map(span).collect();
    let text = r.map.as_deref().and_then(map_of);
    let base = match text.and_then(|text| TidMap::from_text(&text).ok()) {
        Some(map) => block_map::of_tids(&map),
        None => {
            let rest = match r.status {
                RelationStatus::Lost => BlockStatus::Lost,
                RelationStatus::Salvaged if r.lost_omitted == 0 => BlockStatus::Clean,
                _ => BlockStatus::Untried,
            };
            vec![Span::new(0, r.blocks.total, rest)]
        }
    };
    block_map::flatten(&base, &named)
}

/// The blocks of a place that is lost, if it has any.
fn span(lost: &Lost) -> Option<Span> {
    let (first, last, is_whole) = match (lost.first_block, lost.last_block, &lost.ctid) {
        (Some(first), last, _) => (first, last.unwrap_or(first), lost.column.is_none()),
        (None, _, Some(ctid)) => {
            let block = ctid.parse::<Ctid>().ok()?.block;
            (block, block, false)
        }
        _ => return None,
    };
    let status = match lost.cause.as_str() {
        "not_tried" | "structure" => BlockStatus::Fenced,
        "hung" | "connection_lost" | "too_large" => BlockStatus::Untried,
        _ if is_whole => BlockStatus::Lost,
        _ => BlockStatus::Partial,
    };
    Some(Span::new(u64::from(first), u64::from(last) + 1, status))
}

#[cfg(test)]
mod tests;
