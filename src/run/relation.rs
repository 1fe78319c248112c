//! One relation of a run: its stretches, read by any worker in any order, end
//! as one entry of the manifest.

mod again;
mod ending;

use super::earlier::EarlierStretch;
use super::resume::{Kept, columns};
use crate::dump::{
    Begun, Doctor, Finding, Findings, Lane, Lanes, Layout, Log, Pages, RawLayout, Saving, Stretch,
    Watch,
};
use crate::heap::{BlockNumber, BlockRange, Ctid, Known, Salvage, TidMap};
use crate::output::error_log::{ErrorLine, ErrorLog};
use crate::output::journal::{Journal, Record};
use crate::output::manifest::RowClass;
use crate::output::{Codec, DumpDir, OutputError, PageFiles, journal, names};
use crate::run::reasons::REPLACED_MEANWHILE;
use crate::server::fault::Words;
use crate::server::inventory::Relation;
use crate::server::relation::OnDisk;
use crate::server::sql::Readable;
pub(super) use again::{Finished, Met};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use tokio::sync::Mutex;

/// What a relation's files are made with.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) dir: Option<Arc<DumpDir>>,
    pub(super) journal: Option<Arc<Journal>>,
    pub(super) codec: Codec,
}

pub(super) struct RelationRun {
    pub(super) relation: Relation,
    pub(super) readable: Readable,
    pub(super) column_names: Vec<String>,
    pub(super) doctor: Doctor,
    stem: String,
    files: Files,
    log: Log,
    /// What each stretch begins to watch with.
    watch: Watch,
    /// How it was cut; empty: it is read as one.
    cut: Vec<BlockRange>,
    /// How often a read of it has hung.
    pub(super) hangs: AtomicU32,
    /// Images of its damaged pages, and which were read unchecked.
    pub(super) pages: Pages,
    /// How far its rows say that sequences are, when it is done.
    furthest: StdMutex<Vec<(u32, i64)>>,
    state: Mutex<State>,
}

struct State {
    /// By class.
    lanes: Vec<Lane>,
    /// What earlier runs have read of stretches that are not done.
    begun: BTreeMap<usize, EarlierStretch>,
    /// Tuples that took the server down when they were read (offset 0: blocks,
    /// read as a whole), and its words.
    killers: BTreeMap<Ctid, String>,
    done: BTreeMap<usize, Done>,
    /// Stretches that are begun and not given back.
    out: BTreeSet<usize>,
    /// Stretches that were accused of a crash.
    accused: BTreeSet<usize>,
    /// It is to be begun again, these stretches wait for it, and how often it
    /// was.
    again: bool,
    let_go: BTreeSet<usize>,
    times_again: u32,
    snapshots: BTreeSet<u32>,
    /// The data that something was taken in of, by the first snapshot of each.
    data: BTreeSet<u32>,
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

/// What a relation is read with.
pub(super) struct Plan {
    pub relation: Relation,
    pub readable: Readable,
    pub stem: String,
    pub files: Files,
    pub watch: Watch,
    pub cut: Vec<BlockRange>,
    pub killers: BTreeMap<Ctid, String>,
    /// Stretches that the server went down under when an earlier run read them.
    pub accused: BTreeSet<usize>,
    /// Blocks whose pages were read unchecked before. None: none is to be.
    pub unchecked: Option<BTreeSet<u32>>,
    /// Images that earlier runs have left are of the file that it has now.
    pub same_file: bool,
}

impl RelationRun {
    /// `kept`: what is gone on with, and the numbers of the data that each
    /// snapshot of it saw.
    pub(super) fn new(plan: Plan, kept: Kept, data: Option<u32>) -> Result<Self, OutputError> {
        let Plan { relation, readable, stem, files, watch, cut, killers, accused, .. } = plan;
        let images = files.dir.clone().map(|dir| PageFiles::new(dir, &stem, plan.same_file));
        let pages = Pages {
            files: images.transpose()?,
            journal: files.journal.clone(),
            oid: relation.oid,
            layout: Layout::of(&relation),
            unchecked: plan.unchecked.map(StdMutex::new),
            raw_layout: RawLayout::of(&relation),
        };
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
        let Kept { lanes: begun_lanes, stretches } = kept;
        let snapshots = stretches.values().flat_map(|s| &s.snapshots).copied().collect();
        let (settled, begun): (BTreeMap<_, _>, BTreeMap<_, _>) =
            stretches.into_iter().partition(|(_, s)| s.is_settled());
        let done = settled.into_iter().map(|(index, earlier)| {
            let (map, findings) = taken_up((&log, cut.len()), earlier, []);
            (index, Done { map, findings, watch: watch.clone() })
        });
        let state = State {
            lanes: lanes(&files, &stem, begun_lanes)?,
            done: done.collect(),
            begun,
            killers,
            data: data.into_iter().collect(),
            snapshots,
            out: BTreeSet::new(),
            accused,
            again: false,
            let_go: BTreeSet::new(),
            times_again: 0,
            on_disk: None,
            rewritten: false,
            failed: None,
        };
        let (state, furthest) = (Mutex::new(state), StdMutex::default());
        let doctor = Doctor::new(&relation);
        let column_names = relation.columns.iter().map(|c| c.name.to_string()).collect();
        Ok(Self {
            relation,
            readable,
            column_names,
            doctor,
            stem,
            files,
            log,
            watch,
            cut,
            hangs: AtomicU32::new(0),
            pages,
            furthest,
            state,
        })
    }

    /// How many stretches it has.
    pub(super) fn stretches(&self) -> usize {
        self.cut.len().max(1)
    }

    /// The block that it is read from: later than the first, where that was read by
    /// an earlier run.
    pub(super) fn begins_at(&self) -> BlockNumber {
        self.cut.first().map_or(0, |range| range.start)
    }

    /// The blocks of a stretch; none: all of the relation, however long it is.
    pub(super) fn range(&self, index: usize) -> Option<BlockRange> {
        self.cut.get(index).copied()
    }

    /// Stretches that are not done yet.
    pub(super) async fn to_do(&self) -> Vec<usize> {
        let state = self.state.lock().await;
        (0..self.stretches()).filter(|i| !state.done.contains_key(i)).collect()
    }

    /// Says in the journal that it is read from its beginning.
    pub(super) fn write_plan(&self, blocks: u32) -> Result<(), OutputError> {
        let Some(journal) = &self.files.journal else { return Ok(()) };
        journal.append(&Record::Relation(journal::Relation {
            oid: self.relation.oid,
            stem: self.stem.clone(),
            filenode: self.relation.filenode,
            columns: columns(&self.relation),
            stretches: self.cut.iter().map(|r| (r.start, r.end)).collect(),
            blocks,
        }))
    }

    /// Whether no stretch follows this one.
    pub(super) fn is_last(&self, index: usize) -> bool {
        index + 1 == self.stretches()
    }

    /// Whether a part of it can be read without reading all of it: then it can be
    /// gone on with, too.
    pub(super) fn can_be_narrowed(&self) -> bool {
        self.relation.heap
    }

    /// Whether it was given up: what is left of it need not be read.
    pub(super) async fn has_failed(&self) -> bool {
        self.state.lock().await.failed.is_some()
    }

    /// Something that is no damage keeps it from being read.
    pub(super) async fn fail(&self, reason: String) {
        let mut state = self.state.lock().await;
        if state.failed.is_none() {
            let relation = self.relation.display_name();
            tracing::warn!(
                event = "relation_not_read",
                relation,
                "relation \"{relation}\": {reason}"
            );
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
                state.failed.get_or_insert(REPLACED_MEANWHILE.to_owned());
            }
            Some(_) => {}
            None => state.on_disk = Some(on_disk.clone()),
        }
    }

    /// Begins a stretch, or goes on with it where an earlier run ended.
    pub(super) async fn stretch(
        &self,
        index: usize,
        range: BlockRange,
    ) -> Result<Stretch, OutputError> {
        let folder = self.files.dir.as_ref().map(|d| d.path().join("data"));
        let mut state = self.state.lock().await;
        let mut earlier = state.begun.remove(&index).unwrap_or_default();
        let to = if earlier.map.extents().is_empty() { range.start } else { earlier.to() };
        earlier.end = range.end.max(earlier.end);
        let rest = BlockRange::new(to, earlier.end);
        // Known killers in the rest are found once more, below.
        earlier.lost.retain(|l| l.is_before(to));
        let killers = || state.killers.iter().filter(|(k, _)| rest.contains(k.block));
        let known = self.known(killers().map(|(&k, _)| k));
        let salvage = Salvage::resumed(earlier.map.clone(), rest, self.readable.limits(), known);
        let journal = self.files.journal.clone().filter(|_| self.can_be_narrowed());
        let saving = journal.map(|j| Saving::new(j, self.relation.oid, to));
        let (_, findings) = taken_up((&self.log, self.stretches()), earlier, killers());
        let is_whole = self.stretches() == 1 && self.begins_at() == 0;
        state.out.insert(index);
        let mut lanes = Vec::with_capacity(RowClass::COUNT);
        for lane in &mut state.lanes {
            lanes.push(lane.take(index).await?);
        }
        Ok(Stretch::new(
            (index, is_whole),
            salvage,
            Lanes::new(lanes, folder.as_deref()),
            findings,
            self.watch.clone(),
            saving,
        ))
    }

    /// This tuple took the server down.
    pub(super) async fn killer(&self, ctid: Ctid, words: &Words) -> Result<(), OutputError> {
        let (oid, message) = (self.relation.oid, words.one_line());
        self.state.lock().await.killers.insert(ctid, message.clone());
        let Some(journal) = &self.files.journal else { return Ok(()) };
        journal.append(&Record::Killer { oid, ctid: ctid.to_string(), message })?;
        journal.sync().await
    }

    /// The server went down while this stretch was read.
    pub(super) async fn accused(&self, stretch: usize) -> Result<(), OutputError> {
        self.state.lock().await.accused.insert(stretch);
        self.write_accused(stretch)?;
        match &self.files.journal {
            Some(journal) => journal.sync().await,
            None => Ok(()),
        }
    }

    fn write_accused(&self, stretch: usize) -> Result<(), OutputError> {
        let Some(journal) = &self.files.journal else { return Ok(()) };
        journal.append(&Record::Accused { oid: self.relation.oid, stretch })
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
    pub(super) async fn salvage(&self, range: BlockRange) -> Salvage {
        let known = self.known(self.state.lock().await.killers.keys().copied());
        Salvage::resumed(TidMap::default(), range, self.readable.limits(), known)
    }

    fn known(&self, killers: impl Iterator<Item = Ctid>) -> Known {
        Known { killers: killers.collect(), unchecked: self.pages.read_unchecked() }
    }

    /// Whether something was taken in that other snapshots saw differently.
    pub(super) async fn is_of_other_data(&self, data: u32) -> bool {
        self.state.lock().await.data.iter().any(|&d| d != data)
    }

    /// How far sequences are, by the clean rows.
    pub(super) fn furthest(&self) -> Vec<(u32, i64)> {
        self.furthest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The files of a relation, one for each class.
fn lanes(
    files: &Files,
    stem: &str,
    begun: [Begun; RowClass::COUNT],
) -> Result<Vec<Lane>, OutputError> {
    let classes = RowClass::ALL.into_iter().zip(begun);
    let lane = |(class, begun)| {
        let path = names::data_path(stem, class, files.codec);
        Lane::resumed(files.dir.clone(), path, class, files.codec, begun)
    };
    classes.map(lane).collect()
}

/// The map and the findings of what an earlier run has read, and the killers in
/// the rest.
fn taken_up<'a>(
    (log, stretches): (&Log, usize),
    earlier: EarlierStretch,
    killers: impl IntoIterator<Item = (&'a Ctid, &'a String)>,
) -> (TidMap, Findings) {
    let mut findings = Findings::new(log.clone(), stretches);
    findings.list = earlier.lost.iter().filter_map(Finding::of).collect();
    findings.omitted = earlier.lost_omitted;
    for (&at, message) in killers.into_iter().filter(|(at, _)| at.offset > 0) {
        findings.killer(at, message);
    }
    (earlier.map, findings)
}
