//! The whole run: what is read in which order, by how many, and what the run
//! came to.
//!
//! The queue is filled and sorted before the workers start: unlogged tables
//! first, since a crash empties them, then the largest, TOAST included. Every
//! worker owns its session. What may have taken the server down is read at the
//! end, alone.

mod begin;
mod blame;
mod cut;
mod earlier;
mod entry;
mod finish;
mod generation;
mod job;
mod lost_keys;
mod other_way;
mod plan;
mod queue;
mod reasons;
mod relation;
mod resume;
mod schema;
mod sequences;
mod silent;
mod unchecked;

pub use generation::ServerGone;
pub use reasons::{ALTERED, GONE, NOT_ALL_READ, NOT_READ, REPLACED, REPLACED_MEANWHILE};
pub use schema::SchemaOptions;
pub use silent::CheckCounts;
pub use unchecked::Unchecked;
use unchecked::may_check;

pub use crate::dump::CheckPages;
use crate::dump::{Checking, PageSource};
use crate::output::journal::{Journal, Record};
use crate::output::{Codec, DumpDir, OutputError, manifest, space};
use crate::progress::Progress;
use crate::server::catalog::CatalogError;
use crate::server::connect::Target;
use crate::server::inventory::{CatalogDamage, Inventory, Relation, Selection};
use crate::server::session::{OpenError, ReadError, Timeouts};
use earlier::Earlier;
use generation::{Generations, Numbered};
use job::Job;
use queue::Queue;
use relation::{Files, RelationRun};
use resume::Output;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

/// What is asked of a run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where the dump goes; none: everything is read, and nothing is kept.
    pub dir: Option<PathBuf>,
    /// Go on with what an earlier run has left there.
    pub resume: bool,
    /// Bytes that are left free where the dump goes.
    pub min_free: u64,
    /// Whether files are synced.
    pub sync: bool,
    pub jobs: usize,
    pub codec: Codec,
    pub selection: Selection,
    /// Every pattern must match something.
    pub strict_names: bool,
    /// Larger relations are read as ranges of blocks; bytes. None: as suits all
    /// that is read, and how many read it.
    pub split_bytes: Option<u64>,
    pub max_crashes: u32,
    /// How long a server that went down is waited for.
    pub crash_wait: Duration,
    pub timeouts: Timeouts,
    /// Whether rows are counted by an index, too.
    pub check_counts: CheckCounts,
    /// Stop at the first damage.
    pub fail_fast: bool,
    /// What is to be read although it is known to be bad.
    pub unchecked: Unchecked,
    /// When pages are looked at before they are read.
    pub check_pages: CheckPages,
    pub schema: SchemaOptions,
    /// Whether the tables of the system catalogs are read, too, as far as the role
    /// may: no dump has them.
    pub catalogs: bool,
    /// Of what is selected these only, by OID; empty: all.
    pub only: BTreeSet<u32>,
    /// When relations were last found clean: those of which that is longest ago
    /// are read first, and before them those that never were. Empty: the largest
    /// are.
    pub last_ok: BTreeMap<u32, jiff::Timestamp>,
    /// What was read of relations by an earlier run, and need not be read again: of
    /// the same file, from its beginning on. Only where nothing is kept.
    pub begun: BTreeMap<u32, manifest::ReadBlocks>,
    /// What was typed, for the manifest.
    pub asked: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    ServerGone(#[from] ServerGone),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("{0}")]
    Selection(String),
    #[error("{0}")]
    Resume(String),
    #[error("{0}")]
    Unchecked(String),
}

pub(crate) struct Run {
    options: RunOptions,
    progress: Arc<Progress>,
    generations: Generations,
    dir: Option<Arc<DumpDir>>,
    journal: Option<Arc<Journal>>,
    earlier: Mutex<Earlier>,
    queue: Queue,
    accused: Mutex<VecDeque<Job>>,
    /// What could not be opened by the usual way to the catalogs.
    by_other_way: Mutex<Vec<Job>>,
    /// What could not be read of the catalogs.
    catalogs: Mutex<Vec<CatalogDamage>>,
    entries: Mutex<Vec<manifest::Relation>>,
    /// The least and the most that is needed of sequences, by the rows of the
    /// columns they feed.
    furthest: Mutex<HashMap<u32, (i64, i64)>>,
    warnings: Mutex<Vec<String>>,
    /// The schema, once it was read.
    schema: Mutex<Option<schema::Had>>,
    /// The relations that the run is about.
    selected: Mutex<Arc<Vec<Relation>>>,
    /// The relations that are read, as the catalogs described them.
    read: Mutex<Arc<HashMap<u32, Relation>>>,
    /// Their names in file names.
    stems: Mutex<HashMap<u32, String>>,
    started: jiff::Timestamp,
    source: PageSource,
    /// Whether it ends by an error: nothing that is not complete is finished then.
    broken: AtomicBool,
}

/// Reads a database. The manifest says what came of it; `Err` means that it
/// could not be done.
pub async fn run(
    target: Target,
    mut options: RunOptions,
    progress: Arc<Progress>,
) -> Result<manifest::Manifest, RunError> {
    let started = jiff::Timestamp::now();
    let generations =
        Generations::begin(target, options.timeouts, options.crash_wait, progress.clone()).await?;
    let (first, inventory) = generations.inventory(options.catalogs).await?;
    check_selection(&options, &inventory, &first.session.server().database)?;
    let mut warnings = options.unchecked.check(&first.session).await?;
    let checking = Checking::new(options.check_pages);
    warnings.extend(may_check(&checking, &first.session).await?);
    let output = match &options.dir {
        Some(path) => {
            space::check(path, options.min_free)?;
            Some(resume::open(path, &options, first.session.server(), started)?)
        }
        None => None,
    };
    let (dir, journal, earlier) = match output {
        Some(Output { dir, journal, earlier }) => (Some(dir), Some(journal), earlier),
        None => (None, None, Earlier::default()),
    };
    if let Some(journal) = &journal {
        generations.follow(&earlier.snapshots, journal.clone()).await?;
    }
    let run = Arc::new(Run {
        source: PageSource::new(options.unchecked.on_primary, checking, options.unchecked.raw),
        options,
        progress,
        generations,
        dir,
        journal,
        earlier: Mutex::new(earlier),
        queue: Queue::default(),
        accused: Mutex::default(),
        by_other_way: Mutex::default(),
        catalogs: Mutex::new(inventory.damaged.clone()),
        entries: Mutex::default(),
        furthest: Mutex::default(),
        warnings: Mutex::default(),
        schema: Mutex::default(),
        selected: Mutex::default(),
        read: Mutex::default(),
        stems: Mutex::default(),
        started,
        broken: AtomicBool::new(false),
    });
    for damage in &inventory.damaged {
        tracing::warn!("{damage}");
        run.warn(damage.to_string());
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
        run.warn(warning.clone());
    }
    let selected = run.select(inventory);
    *locked(&run.selected) = Arc::new(selected.clone());
    let (first, missing) = run.prepare(first, selected).await?;
    // Its number was given before earlier runs were known.
    let (snapshot, data) = run.generations.now().await;
    let first = Numbered { snapshot, data, ..first };
    let schema = run.begin_schema();
    if let Err(e) = run.read_all(first).await {
        schema.inspect(JoinHandle::abort);
        return run.finish_after(e, &missing).await;
    }
    if let Err(e) = run.end_schema(schema).await {
        return run.finish_after(e, &missing).await;
    }
    run.look_for_silent_loss().await;
    if let Err(e) = run.look_for_lost_keys().await {
        return run.finish_after(e.into(), &missing).await;
    }
    run.finish(&missing).await
}

fn check_selection(
    options: &RunOptions,
    inventory: &Inventory,
    database: &str,
) -> Result<(), RunError> {
    let selection = &options.selection;
    for pattern in selection.tables.iter().chain(&selection.not_tables) {
        pattern.check_database(database).map_err(|e| RunError::Selection(e.to_string()))?;
    }
    match selection.unmatched(inventory) {
        Some(unmatched) if options.strict_names => Err(RunError::Selection(unmatched)),
        Some(unmatched) if !selection.is_everything() && !selection.matches_any(inventory) => {
            Err(RunError::Selection(unmatched))
        }
        _ => Ok(()),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    async fn read_all(self: &Arc<Self>, first: Numbered) -> Result<(), RunError> {
        let mut workers = JoinSet::new();
        workers.spawn(Arc::clone(self).work(Some(first)));
        for _ in 1..self.options.jobs {
            workers.spawn(Arc::clone(self).work(None));
        }
        let mut first_error = None;
        while let Some(joined) = workers.join_next().await {
            // A panic is a mistake of ours, and goes on.
            let result = joined.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
            if let Err(e) = result {
                self.broken.store(true, Relaxed);
                self.progress.stop();
                first_error.get_or_insert(e);
            }
        }
        if let Some(e) = first_error {
            return Err(e);
        }
        loop {
            // What a worker without a connection left behind, and what an accused
            // one has begun again.
            while !self.queue.is_empty() {
                match self.generations.session(true).await {
                    Ok(session) => Arc::clone(self).work(Some(session)).await?,
                    Err(gone) => self.all_gone(&gone).await?,
                }
            }
            self.work_on_accused().await?;
            self.work_by_other_way().await?;
            if self.queue.is_empty() {
                return Ok(());
            }
        }
    }

    /// Makes the first session ready again, or gets another in its place where it
    /// hung and was given up. Without a session at all it cannot be done.
    async fn after_failure(&self, first: &mut Numbered, error: ReadError) -> Result<(), RunError> {
        if error.is_hung() && first.session.leave_relation().await.is_err() {
            *first = self.generations.session(true).await?;
        } else if error.sqlstate().is_empty() {
            return Err(error.into());
        } else {
            first.session.leave_relation().await?;
        }
        Ok(())
    }

    fn next_accused(&self) -> Option<Job> {
        locked(&self.accused).pop_front()
    }

    async fn accuse(&self, job: Job) -> Result<(), OutputError> {
        let name = job.relation.relation.display_name();
        tracing::warn!(
            event = "relation_accused",
            relation = name,
            "the server went down while relation \"{name}\" was read; it is read again at the end, alone"
        );
        job.relation.accused(job.index).await?;
        locked(&self.accused).push_back(job);
        Ok(())
    }

    async fn crashes_left(&self) -> u32 {
        self.options.max_crashes.saturating_sub(self.generations.crashes().await)
    }

    /// The run cannot go on; what was not read is said.
    fn stop_for(&self, why: &str) {
        let warning = format!("the run stopped: {why}");
        // Every worker comes here, and it is said once.
        if !locked(&self.warnings).contains(&warning) {
            tracing::error!(event = "run_stopped", "{why}");
        }
        self.warn(warning);
        self.progress.stop();
    }

    fn warn(&self, warning: String) {
        let mut warnings = locked(&self.warnings);
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    fn count_done(&self, blocks: u64) {
        self.progress.blocks_done.fetch_add(blocks, Relaxed);
    }

    async fn finished(
        &self,
        relation: &RelationRun,
        entry: manifest::Relation,
    ) -> Result<(), OutputError> {
        use manifest::RelationStatus::{Failed, Lost, Salvaged};
        self.progress.relations_done.fetch_add(1, Relaxed);
        if matches!(entry.status, Salvaged | Lost) {
            let name = relation.relation.display_name();
            tracing::warn!(
                event = "relation_damaged",
                relation = name,
                "relation \"{name}\" is damaged: {} clean, {} suspect and {} partial rows were read",
                entry.rows.clean,
                entry.rows.suspect,
                entry.rows.partial
            );
            if self.options.fail_fast {
                self.warn("stopped at the first damage (--fail-fast)".to_owned());
                self.progress.stop();
            }
        }
        let furthest = relation.furthest();
        // What was had of an unlogged table may be all there is by then.
        let is_worth_it = entry.status != Failed || relation.relation.unlogged;
        if let Some(journal) = self.journal.as_ref().filter(|_| is_worth_it) {
            let relation = Box::new(entry.clone());
            journal.append(&Record::Done { relation, furthest: furthest.clone() })?;
            journal.sync_sometimes().await?;
        }
        self.note_furthest(&furthest);
        locked(&self.entries).push(entry);
        Ok(())
    }

    fn note_furthest(&self, furthest: &[(u32, i64)]) {
        let mut all = locked(&self.furthest);
        for &(sequence, value) in furthest {
            let (least, most) = all.entry(sequence).or_insert((value, value));
            (*least, *most) = ((*least).min(value), (*most).max(value));
        }
    }

    fn files(&self) -> Files {
        let (dir, journal) = (self.dir.clone(), self.journal.clone());
        Files { dir, journal, codec: self.options.codec }
    }
}
