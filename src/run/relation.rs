//! One relation of a run: its stretches, read by any worker in any order, end
//! as one entry of the manifest.

use super::entry::{described, large_objects};
use crate::dump::{Cause, Findings, Held, Lane, LaneWriter, Log, Stretch, Watch};
use crate::heap::{BlockRange, Salvage, Status, TidMap};
use crate::output::error_log::{ErrorLine, ErrorLog};
use crate::output::{Codec, DumpDir, OutputError, manifest, names};
use crate::server::inventory::Relation;
use crate::server::relation::OnDisk;
use crate::server::sql::Readable;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use tokio::sync::Mutex;

/// What a relation's files are made with.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) dir: Option<Arc<DumpDir>>,
    pub(super) codec: Codec,
}

pub(super) struct RelationRun {
    pub(super) relation: Relation,
    pub(super) readable: Readable,
    stem: String,
    files: Files,
    log: Log,
    /// What each stretch begins to watch with.
    watch: Watch,
    stretches: usize,
    /// How often a read of it has hung.
    pub(super) hangs: AtomicU32,
    /// How far its rows say that sequences are, when it is done.
    furthest: StdMutex<Vec<(u32, i64)>>,
    state: Mutex<State>,
}

struct State {
    lanes: [Lane; 2],
    done: BTreeMap<usize, Done>,
    snapshots: BTreeSet<u32>,
    /// The data that something was taken in of, by the first snapshot of each.
    data: BTreeSet<u32>,
    mixed: bool,
    on_disk: Option<OnDisk>,
    /// The file is another one than in the snapshot.
    rewritten: bool,
    failed: Option<String>,
}

/// What is left of a stretch that was read.
struct Done {
    map: TidMap,
    findings: Findings,
    watch: Watch,
}

impl RelationRun {
    pub(super) fn new(
        relation: Relation,
        readable: Readable,
        stem: String,
        files: Files,
        watch: Watch,
        stretches: usize,
    ) -> Result<Self, OutputError> {
        let lanes = lanes(&files, &stem);
        let file = match &files.dir {
            Some(dir) => Some(ErrorLog::new(dir, &stem)?),
            None => None,
        };
        let log = Log {
            relation: ErrorLine {
                oid: Some(relation.oid),
                schema: Some(relation.schema.to_string()),
                relation: Some(relation.name.to_string()),
                ..ErrorLine::default()
            },
            file: Arc::new(StdMutex::new((0, file))),
        };
        let state = State {
            lanes,
            done: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            data: BTreeSet::new(),
            mixed: false,
            on_disk: None,
            rewritten: false,
            failed: None,
        };
        let state = Mutex::new(state);
        let furthest = StdMutex::default();
        let hangs = AtomicU32::new(0);
        Ok(Self { relation, readable, stem, files, log, watch, stretches, hangs, furthest, state })
    }

    /// Whether no stretch follows this one.
    pub(super) fn is_last(&self, index: usize) -> bool {
        index + 1 == self.stretches
    }

    /// Whether it was given up: what is left of it need not be read.
    pub(super) async fn has_failed(&self) -> bool {
        self.state.lock().await.failed.is_some()
    }

    /// Something that is no damage keeps it from being read.
    pub(super) async fn fail(&self, reason: String) {
        let mut state = self.state.lock().await;
        if state.failed.is_none() {
            tracing::warn!("relation \"{}\": {reason}", self.relation.display_name());
            state.failed = Some(reason);
        }
    }

    /// Notes how the relation lies on disk.
    /// Its file may not change between two stretches.
    pub(super) async fn entered(&self, on_disk: &OnDisk) {
        let mut state = self.state.lock().await;
        state.rewritten |= self.relation.filenode.is_some_and(|f| f != on_disk.filenode);
        match &state.on_disk {
            Some(before) if before.filenode != on_disk.filenode => {
                let reason = "its file was replaced while it was read (TRUNCATE, VACUUM FULL, \
                              CLUSTER or ALTER TABLE): places read before and after do not fit together";
                state.failed.get_or_insert(reason.to_owned());
            }
            Some(_) => {}
            None => state.on_disk = Some(on_disk.clone()),
        }
    }

    /// Begins a stretch.
    pub(super) async fn stretch(
        &self,
        index: usize,
        range: BlockRange,
    ) -> Result<Stretch, OutputError> {
        let folder = self.files.dir.as_ref().map(|d| d.path().join("data"));
        let mut state = self.state.lock().await;
        let [clean, suspect] = &mut state.lanes;
        Ok(Stretch::new(
            (index, self.stretches == 1),
            self.salvage(range),
            [clean.take(index).await?, suspect.take(index).await?],
            Held::new(folder.as_deref()),
            Findings::new(self.log.clone()),
            self.watch.clone(),
        ))
    }

    /// Notes what a read of a stretch took in, and of which data.
    pub(super) async fn took_in(&self, stretch: &Stretch, snapshot: u32, data: u32) {
        let mut state = self.state.lock().await;
        let settled = stretch.salvage.next_read().is_none();
        if settled || stretch.has_rows() {
            state.snapshots.insert(snapshot);
        }
        if !stretch.salvage.is_untouched() {
            state.data.insert(data);
        }
    }

    /// A stretch of which nothing was read yet, for another range.
    pub(super) fn salvage(&self, range: BlockRange) -> Salvage {
        Salvage::new(range, self.readable.tuples_max)
    }

    /// Whether something was taken in that other snapshots saw differently.
    pub(super) async fn is_of_other_data(&self, data: u32) -> bool {
        self.state.lock().await.data.iter().any(|&d| d != data)
    }

    /// Its rows are of snapshots that do not fit together.
    pub(super) async fn is_mixed(&self) {
        self.state.lock().await.mixed = true;
    }

    /// Forgets what was read of it: its only stretch is read again, all of it.
    pub(super) async fn discard(&self, stretch: Stretch) -> Result<(), OutputError> {
        let mut state = self.state.lock().await;
        stretch.clean.discard().await?;
        stretch.suspect.discard().await?;
        state.lanes = self.lanes();
        state.snapshots.clear();
        state.data.clear();
        state.on_disk = None;
        Ok(())
    }

    fn lanes(&self) -> [Lane; 2] {
        lanes(&self.files, &self.stem)
    }

    /// Takes a stretch back, read or given up. The entry of the manifest, when
    /// it was the last.
    pub(super) async fn finish_stretch(
        &self,
        stretch: Stretch,
    ) -> Result<Option<manifest::Relation>, OutputError> {
        let Stretch { index, salvage, clean, suspect, findings, watch, .. } = stretch;
        let done = Done { map: salvage.into_map(), findings, watch };
        let mut state = self.state.lock().await;
        give_back(&mut state.lanes, clean, suspect).await?;
        state.done.insert(index, done);
        if state.done.len() < self.stretches {
            return Ok(None);
        }
        self.finish(&mut state).await.map(Some)
    }

    async fn finish(&self, state: &mut State) -> Result<manifest::Relation, OutputError> {
        let mut map = TidMap::new(BlockRange::new(0, 0));
        let (mut list, mut omitted) = (Vec::new(), 0);
        let mut watch = self.watch.clone();
        for done in std::mem::take(&mut state.done).into_values() {
            map.join(done.map);
            list.extend(done.findings.list);
            omitted += done.findings.omitted;
            watch.join(done.watch);
        }
        let counts = map.blocks();
        if state.mixed {
            let reason = "it was read in several snapshots, between which the database was \
                          written to: rows may be there twice, or missing";
            state.failed.get_or_insert(reason.to_owned());
        }
        let (rows, files) = self.finish_lanes(state).await?;
        let errors = self.finish_log().await?;
        let rewritten_away = state.rewritten && rows.clean + rows.suspect == 0;
        if rewritten_away {
            let reason = "its file was replaced since the snapshot was taken (TRUNCATE, VACUUM \
                          FULL, CLUSTER or ALTER TABLE): what it held then cannot be read";
            state.failed.get_or_insert(reason.to_owned());
        }
        if let Some(reason) = Cause::why_incomplete(&list) {
            state.failed.get_or_insert(reason.to_owned());
        }
        // An error that came only once was one all the same.
        let unharmed = list.is_empty() && counts.damaged == 0 && errors.count == 0;
        let status = match (&state.failed, unharmed) {
            (Some(_), _) => manifest::RelationStatus::Failed,
            (None, true) => manifest::RelationStatus::Clean,
            (None, false) if rows.clean + rows.suspect == 0 && counts.clean == 0 => {
                manifest::RelationStatus::Lost
            }
            (None, false) => manifest::RelationStatus::Salvaged,
        };
        let map_path = self.write_map(&map).await?;
        let mut entry = described(&self.relation, false);
        entry.relfilenode = state.on_disk.as_ref().map(|d| d.path.clone());
        entry.status = status;
        entry.reason = state.failed.clone();
        entry.snapshots = state.snapshots.iter().copied().collect();
        entry.rows = rows;
        entry.blocks = manifest::Blocks {
            total: map.extents().last().map_or(0, |e| u64::from(e.end.block)),
            clean: counts.clean,
            damaged: counts.damaged - counts.lost,
            lost: counts.lost,
        };
        entry.files = files;
        entry.lost = list.iter().map(crate::dump::Finding::manifest).collect();
        entry.lost_omitted = omitted;
        entry.errors = Some(errors).filter(|e| e.count > 0);
        entry.map = map_path;
        entry.large_objects = large_objects(&watch);
        self.note_furthest(&watch);
        Ok(entry)
    }

    async fn finish_lanes(
        &self,
        state: &mut State,
    ) -> Result<(manifest::Rows, Vec<manifest::FileEntry>), OutputError> {
        let empty = |class| Lane::new(None, String::new(), class, self.files.codec);
        let lanes = std::mem::replace(
            &mut state.lanes,
            [empty(manifest::RowClass::Clean), empty(manifest::RowClass::Suspect)],
        );
        let [clean, suspect] = lanes;
        let (clean, clean_file) = clean.finish(true).await?;
        let (suspect, suspect_file) = suspect.finish(false).await?;
        let rows = manifest::Rows { clean, suspect, partial: 0 };
        Ok((rows, clean_file.into_iter().chain(suspect_file).collect()))
    }

    async fn finish_log(&self) -> Result<manifest::Errors, OutputError> {
        let (count, log) = {
            let mut file = self.log.file.lock().unwrap_or_else(PoisonError::into_inner);
            (file.0, file.1.take())
        };
        match log {
            Some(log) => log.finish().await,
            None => Ok(manifest::Errors { path: None, count }),
        }
    }

    /// The map of a relation that is not clean throughout.
    async fn write_map(&self, map: &TidMap) -> Result<Option<String>, OutputError> {
        let clean = map.extents().iter().all(|e| e.status == Status::Done);
        let Some(dir) = self.files.dir.as_ref().filter(|_| !clean) else { return Ok(None) };
        let path = format!("maps/{}.map", self.stem);
        dir.write_atomic(&path, map.to_text().into_bytes()).await?;
        Ok(Some(path))
    }

    /// How far sequences are, by the clean rows.
    pub(super) fn furthest(&self) -> Vec<(u32, i64)> {
        self.furthest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_furthest(&self, watch: &Watch) {
        let mut furthest = self.furthest.lock().unwrap_or_else(PoisonError::into_inner);
        furthest.extend(watch.furthest());
    }
}

/// The files of a relation, one for each class.
fn lanes(files: &Files, stem: &str) -> [Lane; 2] {
    [manifest::RowClass::Clean, manifest::RowClass::Suspect].map(|class| {
        let path = names::data_path(stem, class, files.codec);
        Lane::new(files.dir.clone(), path, class, files.codec)
    })
}

async fn give_back(
    lanes: &mut [Lane; 2],
    clean: LaneWriter,
    suspect: LaneWriter,
) -> Result<(), OutputError> {
    lanes[0].give_back(clean).await?;
    lanes[1].give_back(suspect).await
}
