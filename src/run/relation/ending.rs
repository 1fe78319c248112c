//! How a relation ends: stretches come back, their pieces are joined, and what
//! they came to is the manifest's entry.

use super::super::entry::{described, large_objects};
use super::{Done, Finished, RelationRun, State};
use crate::dump::{Cause, Stretch, Watch};
use crate::heap::{Status, TidMap};
use crate::output::journal::{Extent, Record};
use crate::output::manifest::RowClass;
use crate::output::{ContentHash, OutputError, manifest};
use crate::run::reasons::REPLACED;
use std::sync::PoisonError;

/// Whether all that a relation has are its clean rows. What has the metadata of
/// large objects has the OIDs of roles, too, which say nothing elsewhere.
fn has_content(entry: &manifest::Relation) -> bool {
    let manifest::Rows { clean: _, suspect, partial, oversize } = entry.rows;
    entry.status == manifest::RelationStatus::Clean
        && entry.kind != manifest::RelationKind::LargeObjectMetadata
        && (suspect, partial, oversize) == (0, 0, 0)
}

impl RelationRun {
    /// Takes a stretch back, read or given up.
    pub(in super::super) async fn finish_stretch(
        &self,
        stretch: Stretch,
    ) -> Result<Finished, OutputError> {
        let Stretch { index, salvage, lanes, findings, watch, .. } = stretch;
        let done = Done { map: salvage.into_map(), findings, watch };
        let mut state = self.state.lock().await;
        state.out.remove(&index);
        if state.again {
            state.let_go.insert(index);
            drop(lanes);
            let again = self.begin_again(&mut state).await?;
            return Ok(again.map_or(Finished::Stretch, Finished::Again));
        }
        let mut files = [Extent::default(); RowClass::COUNT];
        for ((lane, writer), file) in state.lanes.iter_mut().zip(lanes.writers()).zip(&mut files) {
            *file = lane.give_back(writer).await?;
        }
        state.done.insert(index, done);
        if let Some(journal) = self.files.journal.as_ref().filter(|_| !self.cut.is_empty()) {
            journal.append(&Record::Ended { oid: self.relation.oid, stretch: index, files })?;
        }
        self.join(&mut state).await?;
        if state.done.len() < self.stretches() {
            return Ok(Finished::Stretch);
        }
        Ok(Finished::Relation(Box::new(self.finish(&mut state).await?)))
    }

    /// Ends the relation if all of it was done by earlier runs.
    pub(in super::super) async fn finish_if_done(
        &self,
    ) -> Result<Option<manifest::Relation>, OutputError> {
        let mut state = self.state.lock().await;
        if state.done.len() < self.stretches() {
            return Ok(None);
        }
        self.join(&mut state).await?;
        self.finish(&mut state).await.map(Some)
    }

    /// Puts pieces whose turn it is into the relation's files. Their own files
    /// are removed when the journal says that nobody needs them.
    async fn join(&self, state: &mut State) -> Result<(), OutputError> {
        let mut joined = Vec::new();
        for lane in &mut state.lanes {
            joined.extend(lane.join().await?);
        }
        if let Some(journal) = self.files.journal.as_ref().filter(|_| !self.cut.is_empty()) {
            if !joined.is_empty() {
                for lane in &mut state.lanes {
                    lane.sync().await?;
                }
            }
            let (oid, next) = (self.relation.oid, state.lanes[0].next());
            journal.append(&Record::Joined { oid, next })?;
            if !joined.is_empty() {
                journal.sync().await?;
            }
        }
        for piece in joined {
            piece.discard().await?;
        }
        Ok(())
    }

    async fn finish(&self, state: &mut State) -> Result<manifest::Relation, OutputError> {
        let mut map = TidMap::default();
        let (mut list, mut omitted) = (Vec::new(), 0);
        let mut watch = self.watch.clone();
        for done in std::mem::take(&mut state.done).into_values() {
            map.join(done.map);
            list.extend(done.findings.list);
            omitted += done.findings.omitted;
            watch.join(done.watch);
        }
        let counts = map.blocks();
        let (rows, hash, files) = self.finish_lanes(state).await?;
        let (errors, harms) = self.finish_log().await?;
        let rewritten_away = state.rewritten && rows == manifest::Rows::default();
        if rewritten_away {
            state.failed.get_or_insert(REPLACED.to_owned());
        }
        if let Some(reason) = Cause::why_incomplete(&list) {
            state.failed.get_or_insert(reason.to_owned());
        }
        // An error that came only once was one all the same.
        let unharmed = list.is_empty() && counts.damaged == 0 && harms == 0;
        let status = match (&state.failed, unharmed) {
            (Some(_), _) => manifest::RelationStatus::Failed,
            (None, true) => manifest::RelationStatus::Clean,
            (None, false) if rows == manifest::Rows::default() && counts.clean == 0 => {
                manifest::RelationStatus::Lost
            }
            (None, false) => manifest::RelationStatus::Salvaged,
        };
        let map_path = self.write_map(&map).await?;
        let mut entry = described(&self.relation, false);
        entry.relfilenode = state.on_disk.as_ref().map(|d| d.path.clone());
        entry.status = status;
        entry.reason = state.failed.clone().or_else(|| self.doctor.reason().map(str::to_owned));
        entry.snapshots = state.snapshots.iter().copied().collect();
        entry.rows = rows;
        entry.content_hash = hash.filter(|_| has_content(&entry) && self.begins_at() == 0);
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
        entry.pages = match &self.pages.files {
            Some(files) => files.finish().await?,
            None => None,
        };
        entry.large_objects = large_objects(&watch);
        entry.read = self.read(&map);
        self.note_furthest(&watch);
        Ok(entry)
    }

    /// What it was read of without a gap and without damage.
    fn read(&self, map: &TidMap) -> Option<manifest::ReadBlocks> {
        let filenode = self.relation.filenode.filter(|_| self.can_be_narrowed())?;
        Some(manifest::ReadBlocks { filenode, from: self.begins_at(), to: map.clean_to() })
    }

    async fn finish_lanes(
        &self,
        state: &mut State,
    ) -> Result<(manifest::Rows, Option<ContentHash>, Vec<manifest::FileEntry>), OutputError> {
        let lanes = std::mem::take(&mut state.lanes);
        let (mut counts, mut files) = ([0; RowClass::COUNT], Vec::new());
        let mut hash_of_clean = None;
        for (class, lane) in RowClass::ALL.into_iter().zip(lanes) {
            // Of what was not read there is no file, not an empty one.
            let even_if_empty = class == RowClass::Clean && state.failed.is_none();
            let (rows, hash, file) = lane.finish(even_if_empty).await?;
            if class == RowClass::Clean {
                hash_of_clean = hash;
            }
            counts[class as usize] = rows;
            files.extend(file);
        }
        let [clean, suspect, partial, _, oversize] = counts;
        Ok((manifest::Rows { clean, suspect, partial, oversize }, hash_of_clean, files))
    }

    /// The errors, and how many of them tell of damage.
    async fn finish_log(&self) -> Result<(manifest::Errors, u64), OutputError> {
        let (count, log) = {
            let mut file = self.log.file.lock().unwrap_or_else(PoisonError::into_inner);
            (file.0, file.1.take())
        };
        match log {
            Some(log) => {
                let harms = log.harms();
                Ok((log.finish().await?, harms))
            }
            None => Ok((manifest::Errors { path: None, count }, count)),
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

    fn note_furthest(&self, watch: &Watch) {
        let mut furthest = self.furthest.lock().unwrap_or_else(PoisonError::into_inner);
        furthest.extend(watch.furthest());
    }
}
