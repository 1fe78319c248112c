//! One of two runs that are compared: what it knows of the contents of relations,
//! whether it wrote a `manifest.json` or a `verify.json`.

use super::command::{CommandError, Source, read};
use super::model::{Command, Report, Status};
use crate::output::ContentHash;
use crate::output::manifest::{Manifest, Relation, RelationKind, RelationStatus, Rows, RunStatus};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A run, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// Where it was read from.
    pub path: String,
    pub command: Command,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    pub status: RunStatus,
    /// Of the server, as in `server_version`.
    pub version: String,
    pub host: String,
    pub system_identifier: Option<String>,
    pub databases: Vec<String>,
    /// None: it is not known.
    pub encoding: Option<String>,
    #[serde(skip)]
    pub relations: BTreeMap<Key, Contents>,
}

/// What tells relations apart: database, schema, name. The database is empty where
/// a run has only one, so that a copy of another name can be compared.
pub type Key = (String, String, String);

/// What a relation with rows has.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    pub kind: String,
    pub read: Read,
    pub rows: u64,
    pub hash: Option<ContentHash>,
    /// Names and types, in order; none: not known.
    pub columns: Option<Vec<(String, String)>>,
}

/// Whether a relation was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// To its end, and it is clean.
    Clean,
    /// It was not asked for.
    NotAsked,
    /// Why it is not known what it has.
    No(String),
}

impl Side {
    /// Of a directory of a dump, or a file.
    pub fn read(path: &Path) -> Result<Self, CommandError> {
        let shown = path.display().to_string();
        Ok(match read(path)? {
            Source::Dump(manifest, _) => Self::of_manifest(&manifest, &shown),
            Source::Report(report) => Self::of_report(&report, &shown),
        })
    }

    pub fn of_manifest(manifest: &Manifest, path: &str) -> Self {
        let relations = manifest.relations.iter().filter_map(|r| {
            let key = (String::new(), r.schema.clone(), r.name.clone());
            Some((key, contents(r)?))
        });
        Self {
            path: path.to_owned(),
            command: Command::Dump,
            started: manifest.started,
            finished: manifest.finished,
            status: manifest.status,
            version: manifest.server.version.clone(),
            host: manifest.server.host.clone(),
            system_identifier: manifest.server.system_identifier.clone(),
            databases: vec![manifest.database.name.clone()],
            encoding: Some(manifest.database.encoding.clone()),
            relations: relations.collect(),
        }
    }

    pub fn of_report(report: &Report, path: &str) -> Self {
        let is_one = report.databases.len() < 2;
        let relations = report.relations.iter().filter_map(|r| {
            let has_rows = matches!(r.kind.as_str(), "table" | "materialised view" | "matview")
                || r.kind.replace('_', " ") == "large objects"
                || r.content_hash.is_some();
            // Catalogs are never the same: they have OIDs in them.
            let is_system = matches!(r.schema.as_str(), "pg_catalog" | "information_schema");
            if is_system && r.kind.replace('_', " ") != "large objects" {
                return None;
            }
            let database = r.database.clone().filter(|_| !is_one).unwrap_or_default();
            let said = |word: &str| r.reason.clone().unwrap_or_else(|| word.to_owned());
            let read = match (r.status, r.rows) {
                // Other levels say nothing of its rows.
                (_, Some(_)) if r.content_hash.is_some() => Read::Clean,
                (Status::Clean, Some(_)) => Read::Clean,
                (Status::Clean, None) => Read::No("its rows were not read".to_owned()),
                (Status::Skipped, _) => Read::NotAsked,
                (Status::Damaged, _) => Read::No(said("damaged")),
                (Status::NotReached, _) => Read::No(said("not reached in time")),
                (Status::Incomplete, _) => Read::No(said("not read to its end")),
            };
            let contents = Contents {
                kind: r.kind.clone(),
                read,
                rows: r.rows.map_or(0, Rows::total),
                hash: r.content_hash.as_ref().and_then(|hash| hash.parse().ok()),
                columns: None,
            };
            has_rows.then(|| ((database, r.schema.clone(), r.name.clone()), contents))
        });
        Self {
            path: path.to_owned(),
            command: report.command,
            started: report.started,
            finished: report.finished,
            status: report.status,
            version: report.server.version.clone(),
            host: report.server.host.clone(),
            system_identifier: report.server.system_identifier.clone(),
            databases: report.databases.iter().map(|d| d.name.clone()).collect(),
            encoding: None,
            relations: relations.collect(),
        }
    }

    /// The number in front of a version's first dot.
    pub(super) fn major(&self) -> Option<u32> {
        self.version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }
}

/// None: it has no rows of its own.
fn contents(relation: &Relation) -> Option<Contents> {
    let kind = match relation.kind {
        RelationKind::Table => "table",
        RelationKind::Matview => "materialised view",
        RelationKind::LargeObjects => "large objects",
        _ => return None,
    };
    let said = |word: &str| relation.reason.clone().unwrap_or_else(|| word.to_owned());
    let read = match relation.status {
        RelationStatus::Clean => Read::Clean,
        RelationStatus::Skipped => Read::NotAsked,
        RelationStatus::Salvaged | RelationStatus::Lost => Read::No(said("damaged")),
        RelationStatus::Failed => Read::No(said("not read to its end")),
    };
    let columns = relation.columns.iter().map(|c| (c.name.clone(), c.type_name.clone()));
    Some(Contents {
        kind: kind.to_owned(),
        read,
        rows: relation.rows.total(),
        hash: relation.content_hash,
        columns: Some(columns.collect()),
    })
}
