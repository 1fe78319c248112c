//! The way back: a dump directory into a database, around the rows that it does
//! not take.
//!
//! First what the schema has before data, entry by entry; then the rows, several
//! relations at a time, each in one transaction, small ones several in one; then sequences and
//! large objects; then what the schema has after data. What is refused is
//! reported and gone past. Each transaction is in the journal before it is
//! committed, so a restore that was ended in any way is gone on with.
//!
//! The dump is only read. The target is the one database that this program
//! writes to.

mod batch;
mod begin;
mod check;
mod choice;
mod create;
mod earlier;
mod foreign_keys;
mod group;
mod keys;
mod large_objects;
mod load;
mod order;
mod oversize;
mod plan;
mod post;
mod schema;
mod sequences;
mod shared;
mod tables;
mod text;
mod workers;

use crate::archive::Section;
use crate::output::manifest::{ManifestError, Tool};
use crate::output::restored::{self, Restored, Status, TargetServer, Totals};
use crate::output::{OutputError, RestoreDir};
use crate::progress::Progress;
use crate::server::connect::Target;
use crate::server::inventory::Selection;
use crate::server::restoring::Refusal;
use crate::server::session::OpenError;
use begin::Begun;
use plan::Plan;
use serde_json::Value;
use shared::Shared;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub use text::text;

/// What is asked of a restore.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    pub dir: PathBuf,
    /// Where rejected rows, the report and the journal go; none: into the dump.
    pub rejects: Option<PathBuf>,
    pub resume: bool,
    pub sync: bool,
    /// Make the database.
    pub create: bool,
    pub jobs: usize,
    pub selection: Selection,
    pub strict_names: bool,
    pub sections: Sections,
    pub include: Include,
    /// Rows whose key is there already are left out.
    pub skip_conflicts: bool,
    pub disable_triggers: bool,
    pub owners: bool,
    pub privileges: bool,
    pub dry_run: bool,
    pub checking: Checking,
    /// What to compare with instead of the files.
    pub source: Option<Target>,
    /// By the long names of the options, for the report.
    pub asked: BTreeMap<String, Value>,
}

/// Which sections are restored, as `pg_restore` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sections {
    pub pre_data: bool,
    pub data: bool,
    pub post_data: bool,
}

impl Sections {
    pub const ALL: Self = Self { pre_data: true, data: true, post_data: true };
    pub const DATA: Self = Self { pre_data: false, data: true, post_data: false };
    pub const SCHEMA: Self = Self { pre_data: true, data: false, post_data: true };

    fn has(self, section: Section) -> bool {
        match section {
            Section::PreData => self.pre_data,
            Section::Data => self.data,
            Section::PostData => self.post_data,
            Section::None => false,
        }
    }
}

/// Which rows are loaded beside the clean ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Include {
    pub partial: bool,
    pub suspect: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checking {
    Never,
    /// When all is loaded.
    After,
    /// Nothing is loaded.
    Only,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{0}")]
    Usage(String),
    #[error("could not read \"{0}\": {1}")]
    Manifest(String, ManifestError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("{0}")]
    Refused(#[from] Refusal),
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// What would be done, for people (`--dry-run`).
    Plan(String),
    Restored(Box<Restored>),
}

/// Restores a dump directory.
pub async fn restore(
    target: Target,
    options: RestoreOptions,
    progress: Arc<Progress>,
) -> Result<Outcome, RestoreError> {
    let plan = Plan::of(&options)?;
    if options.dry_run {
        return Ok(Outcome::Plan(begin::dry_run(&target, &options, &plan).await?));
    }
    let Begun { shared, target_server } =
        begin::begin(target, options, plan, progress.clone()).await?;
    let shared = Arc::new(shared);
    if shared.options.checking != Checking::Only {
        run(&shared).await?;
    }
    if shared.options.checking != Checking::Never && !progress.stopped() {
        check::check_all(&shared).await?;
    }
    let restored = finish(&shared, target_server);
    shared.dir.report(&restored.to_json())?;
    Ok(Outcome::Restored(Box::new(restored)))
}

/// The steps, in order. Whoever stops it leaves the rest undone.
async fn run(shared: &Arc<Shared>) -> Result<(), RestoreError> {
    let sections = shared.options.sections;
    if sections.pre_data {
        schema::pre_data(shared).await?;
    }
    if sections.data {
        workers::load_all(shared).await?;
        if !shared.progress.stopped() {
            large_objects::load(shared).await?;
            sequences::set_all(shared).await?;
        }
    }
    if sections.post_data && !shared.progress.stopped() {
        post::post_data(shared).await?;
    }
    if !shared.progress.stopped() {
        schema::last(shared).await?;
    }
    Ok(())
}

/// The report of what was done.
fn finish(shared: &Shared, target: TargetServer) -> Restored {
    let results = shared.results();
    let plan = &shared.plan;
    let mut relations: Vec<restored::Relation> = plan
        .manifest
        .relations
        .iter()
        .filter(|r| plan.is_chosen(r))
        .map(|r| {
            results
                .relations
                .get(&r.oid)
                .map_or_else(|| plan.untouched(r, &shared.options), |l| l.relation.clone())
        })
        .collect();
    for relation in &mut relations {
        relation.duplicates = results.moved.get(&relation.oid).map_or(0, |m| m.rows);
        if let Some(moved) = results.moved.get(&relation.oid) {
            relation.rejects = Some(moved.file.clone());
        }
        relation.check = results.checks.get(&relation.oid).cloned();
    }
    let incomplete = shared.progress.stopped() || results.incomplete;
    let is_short = |r: &restored::Relation| {
        r.duplicates > 0
            || matches!(
                r.status,
                restored::RelationStatus::WithRejects | restored::RelationStatus::NotLoaded
            )
            || r.check.as_ref().is_some_and(|c| !c.equal)
    };
    let imperfect = !results.not_made.is_empty()
        || !results.not_valid.is_empty()
        || relations.iter().any(is_short);
    let (status, exit_code) = match (incomplete, imperfect) {
        (true, _) => (Status::Incomplete, 3),
        (_, true) => (Status::WithRejects, 2),
        _ => (Status::Complete, 0),
    };
    Restored {
        format_version: restored::FORMAT_VERSION,
        tool: Tool { name: "pg_salvage".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        dump: shared.options.dir.display().to_string(),
        started: shared.started,
        resumed: shared.resumed.clone(),
        finished: jiff::Timestamp::now(),
        status,
        exit_code,
        target,
        options: shared.options.asked.clone(),
        warnings: results.warnings.clone(),
        totals: Totals::of(&relations),
        relations,
        made: results.made,
        not_made: results.not_made.clone(),
        not_valid: results.not_valid.clone(),
    }
}

/// Counts rows that were dealt with, one way or the other.
fn count(progress: &Progress, rows: u64, bytes: u64) {
    progress.rows.fetch_add(rows, Relaxed);
    progress.blocks_done.fetch_add(rows, Relaxed);
    progress.bytes.fetch_add(bytes, Relaxed);
}

impl RestoreOptions {
    /// Where rejected rows, the report and the journal go.
    pub fn folder(&self) -> PathBuf {
        self.rejects.clone().unwrap_or_else(|| self.dir.join("rejects"))
    }
}

fn open_folder(
    options: &RestoreOptions,
) -> Result<(RestoreDir, Vec<crate::output::restore_dir::Record>), RestoreError> {
    RestoreDir::open(&options.folder(), options.resume, options.sync).map_err(|e| {
        let hint = match options.rejects {
            None => " (--rejects DIR keeps rejected rows and the report elsewhere)",
            Some(_) => "",
        };
        RestoreError::Usage(format!("{e}{hint}"))
    })
}
