//! The end of a run: checks that need the whole, and the manifest.

use super::entry::described;
use super::sequences::Missing;
use super::{Run, RunError, locked};
use crate::advice::{advice, advice_of_dump};
use crate::dump::{Cause, Finding, Lost};
use crate::heap::Loss;
use crate::output::manifest::{self, Manifest, RelationStatus, RunStatus};
use crate::server::inventory::{CatalogDamage, CatalogLoss};
use crate::server::session::ServerFacts;
use std::collections::BTreeSet;
use std::sync::Arc;

const INDEXES_DAMAGED: &str = "what could not be had by the indexes of the system catalogs, or of \
                               TOAST tables, was read with ignore_system_indexes; if only they \
                               are damaged, REINDEX SYSTEM, and REINDEX of the tables, on a copy \
                               mends them";

/// What to do next, for psql.
const ADVICE: &str = "advice.sql";

/// The run could not be done.
const EXIT_TROUBLE: u8 = 1;

impl Run {
    pub(super) async fn finish(self: Arc<Self>, missing: &Missing) -> Result<Manifest, RunError> {
        let manifest = self.write_manifest(missing, exit_code).await?;
        let status = manifest.status.word();
        let exit_code = manifest.exit_code;
        tracing::info!(event = "run_finished", status, exit_code, "the run has ended: {status}");
        Ok(manifest)
    }

    /// When the first run into the directory began, and those that went on.
    fn began(&self) -> (jiff::Timestamp, Vec<jiff::Timestamp>) {
        let runs = &locked(&self.earlier).runs;
        let mut times = runs.iter().map(|run| run.started);
        (times.next().unwrap_or(self.started), times.collect())
    }

    /// `seen`: in how many snapshots that see different rows relations were read.
    fn warn_of_the_whole(&self, server: &ServerFacts, crashes: u32, seen: usize) {
        for setting in &server.hiding {
            self.warn(format!("{setting} is on and could not be turned off: damage may be hidden"));
        }
        if crashes > 0 {
            self.warn(format!("the server went down {crashes} time(s) during the run"));
        }
        if seen > 1 {
            self.warn(format!(
                "relations were read in {seen} snapshots between which the database was written \
                 to: what refers to another relation may be missing there (\"snapshots\" of each \
                 says which it is of)"
            ));
        }
    }

    async fn write_manifest(
        self: Arc<Self>,
        missing: &Missing,
        exit_code: fn(RunStatus) -> u8,
    ) -> Result<Manifest, RunError> {
        self.derive_sequences(missing);
        let (snapshots, crashes) = self.generations.history().await;
        let server = self.generations.server().await;
        let wal = self.generations.wal_meanwhile().await;
        let mut relations = std::mem::take(&mut *locked(&self.entries));
        relations.sort_by(|a, b| (&a.schema, &a.name, a.oid).cmp(&(&b.schema, &b.name, b.oid)));
        for relation in &mut relations {
            relation.advice.extend(advice(relation));
            // What was found at the end is missing in it.
            relation.content_hash.take_if(|_| relation.status != RelationStatus::Clean);
        }
        self.warn_of_the_whole(&server, crashes, data_of(&relations, &snapshots));
        self.warn_of_pages();
        let (started, resumed) = self.began();
        let catalogs = catalogs(&locked(&self.catalogs));
        let system_indexes_ignored = self.generations.are_indexes_damaged();
        if system_indexes_ignored {
            self.warn(INDEXES_DAMAGED.to_owned());
        }
        let (schema, end) = self.write_archive(&relations).await?;
        let damaged = system_indexes_ignored || !catalogs.is_empty() || end.is_damaged;
        let stopped = self.progress.stopped() || end.is_failed;
        let status = status_of(&relations, stopped, damaged);
        let manifest = Manifest {
            format_version: manifest::FORMAT_VERSION,
            tool: manifest::Tool {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            started,
            resumed,
            finished: Some(jiff::Timestamp::now()),
            status,
            exit_code: exit_code(status),
            server: manifest::Server {
                version_num: server.version,
                version: server.version_text.clone(),
                host: self.generations.host(),
                port: None,
                in_recovery: server.in_recovery,
                data_checksums: Some(server.data_checksums),
                block_size: server.block_size,
                encoding: server.encoding.clone(),
                system_identifier: server.system_identifier.clone(),
                wal,
                system_indexes_ignored,
            },
            database: manifest::Database {
                name: server.database.clone(),
                name_hex: None,
                oid: server.database_oid,
                encoding: server.encoding.clone(),
            },
            snapshots,
            options: self.options.asked.clone(),
            warnings: locked(&self.warnings).clone(),
            catalogs,
            schema,
            totals: manifest::Totals::of(&relations),
            relations,
        };
        if let Some(dir) = &self.dir {
            // What the manifest names is there, whatever happens.
            dir.sync_names().await?;
            match advice_of_dump(&manifest) {
                Some(script) => dir.write_atomic(ADVICE, script.into_bytes()).await?,
                // Of an earlier run that found something, perhaps.
                None => dir.remove(ADVICE)?,
            }
            dir.write_atomic("manifest.json", manifest.to_json().into_bytes()).await?;
        }
        Ok(manifest)
    }
}

impl Run {
    /// The run could not be done to its end: the manifest of what is finished
    /// is worth a try all the same. Where we stopped before the disk was full,
    /// it is a run that can be gone on with; else (the disk is full, say) it is
    /// an error.
    pub(super) async fn finish_after(
        self: Arc<Self>,
        error: RunError,
        missing: &Missing,
    ) -> Result<Manifest, RunError> {
        self.progress.stop();
        self.warn(format!("the run ended: {error}"));
        let read = locked(&self.read).clone();
        let done: BTreeSet<u32> = locked(&self.entries).iter().map(|e| e.oid).collect();
        let left = read.values().filter(|r| !done.contains(&r.oid)).map(|r| manifest::Relation {
            status: RelationStatus::Failed,
            reason: Some(format!("not read to its end: {error}")),
            ..described(r, false)
        });
        locked(&self.entries).extend(left);
        if matches!(&error, RunError::Output(e) if e.is_space_low()) {
            tracing::error!("{error}");
            return self.finish(missing).await;
        }
        if let Err(e) = self.write_manifest(missing, |_| EXIT_TROUBLE).await {
            tracing::debug!("{e}");
        }
        Err(error)
    }
}

/// In how many snapshots that see different rows the relations were read.
fn data_of(relations: &[manifest::Relation], snapshots: &[manifest::Snapshot]) -> usize {
    let numbers: BTreeSet<u32> = relations.iter().flat_map(|r| &r.snapshots).copied().collect();
    let read = snapshots.iter().filter(|s| numbers.contains(&s.number));
    read.map(|s| s.same_as).collect::<BTreeSet<_>>().len()
}

/// What could not be read of the catalogs.
fn catalogs(damaged: &[CatalogDamage]) -> Vec<manifest::Catalog> {
    let lost = |l: &CatalogLoss| {
        let cause = l.at.map_or(Cause::Catalog, |at| match at {
            Loss::Block(_) | Loss::Tuples(..) => Cause::Page,
            Loss::Tuple(_) => Cause::Tuple,
        });
        let (sqlstate, message) = (l.words.sqlstate.clone(), l.words.one_line());
        let at = l.at.map(Lost::of);
        Finding { at, column: None, cause, sqlstate, message }.manifest()
    };
    let catalog = |d: &CatalogDamage| manifest::Catalog {
        name: d.catalog.to_owned(),
        to_its_end: d.to_its_end,
        lost: d.lost.iter().map(lost).collect(),
    };
    damaged.iter().map(catalog).collect()
}

/// `damaged`: so are the system's catalogs, or their indexes.
fn status_of(relations: &[manifest::Relation], stopped: bool, damaged: bool) -> RunStatus {
    let incomplete = |r: &manifest::Relation| r.status == RelationStatus::Failed;
    let is_damaged = |r: &manifest::Relation| {
        matches!(r.status, RelationStatus::Salvaged | RelationStatus::Lost)
    };
    if stopped || relations.iter().any(incomplete) {
        RunStatus::Incomplete
    } else if damaged || relations.iter().any(is_damaged) {
        RunStatus::Damaged
    } else {
        RunStatus::Clean
    }
}

/// 0 all clean, 2 damage was found, 3 incomplete.
pub(super) fn exit_code(status: RunStatus) -> u8 {
    match status {
        RunStatus::Clean => 0,
        RunStatus::Damaged => 2,
        RunStatus::Incomplete => 3,
    }
}
