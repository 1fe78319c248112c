//! The schema: had beside the rows, which never wait for it, and put together
//! with them at the end.
//!
//! pg_dump is asked first: in our snapshot, as soon as no unlogged table is left
//! to be read (it may crash the server as any reader may). Where it cannot be
//! had of it, the catalogs are described by our own statements. What fails with
//! the server is tried once more when all is read.

mod objects;
mod own;
mod pg_dump;

use super::{Run, RunError, locked};
use crate::archive::Archive;
use crate::output::manifest::{self, LostObject, SchemaSource};
use crate::output::{codec, links, schema, toc};
use crate::server::inventory::RelationKind;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// PostgreSQL from this major version on has a pg_restore that knows all codecs.
const ALL_CODECS: u32 = 16;

/// So long the run waits for the schema when all rows are read.
const PATIENCE_AFTER_ROWS: Duration = Duration::from_secs(10 * 60);

/// What is wanted of the schema.
#[derive(Clone, Debug, Default)]
pub struct SchemaOptions {
    pub left_out: bool,
    /// The program to ask; none: the newest that is found.
    pub pg_dump: Option<PathBuf>,
}

/// The schema, as far as it was had.
#[derive(Default)]
pub(super) struct Had {
    archive: Option<Archive>,
    source: SchemaSource,
    client: Option<String>,
    /// Why pg_dump did not give it.
    reason: Option<String>,
    files: Vec<String>,
    lost: Vec<LostObject>,
    notes: Vec<String>,
    /// As in [`End`].
    is_damaged: bool,
    is_failed: bool,
    /// The snapshot in which it was tried.
    number: u32,
}

/// What the schema says of how the run ends.
#[derive(Clone, Copy, Default)]
pub(super) struct End {
    /// Something of the catalogs is damaged.
    pub is_damaged: bool,
    /// Something could not be looked at.
    pub is_failed: bool,
}

/// The schema that is being read.
pub(super) type Reading = Option<JoinHandle<Result<Had, RunError>>>;

impl Run {
    /// Begins to read the schema, where one is wanted.
    pub(super) fn begin_schema(self: &Arc<Self>) -> Reading {
        let wanted = self.dir.is_some() && !self.options.schema.left_out;
        wanted.then(|| tokio::spawn(Arc::clone(self).read_schema()))
    }

    /// All rows are read: waits for the schema, and tries again if the server
    /// went down meanwhile.
    pub(super) async fn end_schema(self: &Arc<Self>, reading: Reading) -> Result<(), RunError> {
        let Some(mut reading) = reading else { return Ok(()) };
        if self.progress.stopped() {
            // What it has by now is kept.
            reading.abort();
        }
        let ended = match timeout(PATIENCE_AFTER_ROWS, &mut reading).await {
            Ok(ended) => ended,
            Err(_) => {
                reading.abort();
                reading.await
            }
        };
        let mut had = match ended {
            Ok(had) => had?,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => {
                self.dir.as_ref().map_or(Ok(()), |dir| dir.remove_folder(pg_dump::WORK))?;
                let reason = match self.progress.stopped() {
                    true => "the run was stopped".to_owned(),
                    false => {
                        format!("it did not come within {PATIENCE_AFTER_ROWS:?} after the rows")
                    }
                };
                Had { reason: Some(reason), ..Had::default() }
            }
        };
        if had.source == SchemaSource::None
            && !self.progress.stopped()
            && !self.generations.is_current(had.number).await
            && self.crashes_left().await > 0
            && self.generations.session(true).await.is_ok()
        {
            tracing::info!("trying again to read the schema");
            had = Arc::clone(self).read_schema().await?;
        }
        if had.source == SchemaSource::None {
            self.take_earlier_schema(&mut had);
        }
        if let Some(reason) = &had.reason {
            let whose = match had.source {
                SchemaSource::PgDump => "an earlier run's schema is used",
                SchemaSource::Own => "the schema is described by pg_salvage",
                SchemaSource::None => "there is no schema",
            };
            let warning = format!("{whose}: {reason}");
            tracing::warn!("{warning}");
            self.warn(warning);
        }
        *locked(&self.schema) = Some(had);
        Ok(())
    }

    async fn read_schema(self: Arc<Self>) -> Result<Had, RunError> {
        self.queue.no_perishables().await;
        let mut had = match self.ask_pg_dump().await? {
            Ok(had) => had,
            Err((reason, number)) => {
                let own = match self.progress.stopped() {
                    true => Had::default(),
                    false => self.describe_schema().await,
                };
                Had { reason: Some(reason), number, ..own }
            }
        };
        if let Some(archive) = &mut had.archive {
            toc::add_refreshes(archive, &self.filled_views());
            if let Some(dir) = &self.dir {
                had.files = schema::write(dir, archive).await?;
            }
        }
        Ok(had)
    }

    /// Materialised views that hold something.
    fn filled_views(&self) -> HashSet<u32> {
        let read = locked(&self.read).clone();
        let views = read.values().filter(|r| r.kind == RelationKind::Matview && r.populated);
        views.map(|r| r.oid).collect()
    }

    /// What an earlier run has had is better than nothing.
    fn take_earlier_schema(&self, had: &mut Had) {
        let Some(archive) = self.dir.as_ref().and_then(|dir| schema::left(dir)) else { return };
        let client = archive.dump_version.as_ref().map(ToString::to_string).unwrap_or_default();
        had.source = match client.strip_prefix(own::MADE_BY) {
            Some(_) => SchemaSource::Own,
            None => SchemaSource::PgDump,
        };
        had.client = (had.source == SchemaSource::PgDump).then_some(client);
        had.files = schema::FILES.map(str::to_owned).to_vec();
        had.archive = Some(archive);
    }

    /// At the end: the archive of all that is clean, and what the manifest says
    /// of it.
    pub(super) async fn write_archive(
        &self,
        relations: &[manifest::Relation],
    ) -> Result<(Option<manifest::Schema>, End), RunError> {
        let Some(dir) = self.dir.clone() else { return Ok((None, End::default())) };
        let Some(had) = locked(&self.schema).take() else {
            let reason = match self.options.schema.left_out {
                true => "not wanted (--no-schema)",
                false => "the run ended before",
            };
            let reason = Some(reason.to_owned());
            return Ok((Some(manifest::Schema { reason, ..Default::default() }), End::default()));
        };
        let Had { archive, source, client, reason, mut files, lost, mut notes, .. } = had;
        let is_failed = had.is_failed || source == SchemaSource::None;
        let end = End { is_damaged: had.is_damaged, is_failed };
        let mut large_objects = None;
        if let Some(archive) = archive {
            links::clear(&dir)?;
            let objects = self.write_large_objects(&dir, relations).await?;
            let server = self.generations.server().await;
            let (mut archive, more) = toc::archive(toc::Contents {
                schema: archive,
                relations,
                large_objects: &objects.list,
                codec: self.options.codec,
                encoding: &server.encoding,
            });
            let linked = toc::link_files(&mut archive, &dir, self.options.codec);
            dir.write_atomic(toc::TOC, archive.write()).await?;
            files.push(toc::TOC.to_owned());
            files.extend((!objects.list.is_empty()).then(|| toc::BLOBS.to_owned()));
            let note = linked.err().map(|error| links::note(&error));
            notes.extend(note.filter(|note| !objects.notes.contains(note)));
            notes.extend(objects.notes);
            notes.extend(more);
            notes.extend(self.note_of_codec(server.version / 10_000));
            large_objects = objects.archived;
        }
        let schema = manifest::Schema { source, client, reason, files, lost, notes, large_objects };
        Ok((Some(schema), end))
    }

    fn note_of_codec(&self, major: u32) -> Option<String> {
        let is_known =
            matches!(self.options.codec.method, codec::Method::Gzip | codec::Method::None);
        let note = || {
            format!(
                "pg_restore of PostgreSQL {major} cannot read this archive, that of \
                 {ALL_CODECS} and later can: with -Z gzip both can"
            )
        };
        (major < ALL_CODECS && !is_known).then(note)
    }
}
