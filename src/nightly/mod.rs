//! `pg_salvage verify`: all levels of one database or of all, in the order and in
//! the time that were asked for, as one report.
//!
//! What is looked at is a list of turns, each a level of a database. The turn
//! comes first in which something was not looked at for longest; within a turn
//! the same holds for relations. What a turn has found is in the state before the
//! next one begins.

mod amcheck;
mod databases;
mod ending;
mod merge;
mod rows;
mod state;

use crate::output::manifest::RunStatus;
use crate::progress::Progress;
use crate::report::model::{self, Database, Level, Report};
use crate::run::{RunError, RunOptions};
use crate::server::connect::Target;
use crate::server::session::{OpenError, ReadError};
use crate::verify::amcheck::AmcheckOptions;
use crate::verify::{self, VerifyError, VerifyOptions};
use databases::Asked;
use ending::Ending;
use jiff::Timestamp;
use merge::Relations;
use state::State;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What is asked of a verification.
#[derive(Clone, Debug)]
pub struct NightlyOptions {
    /// In the order in which they are looked at.
    pub levels: Vec<Level>,
    /// All databases, and not only that of the target.
    pub all: bool,
    pub pages: VerifyOptions,
    pub rows: RunOptions,
    pub amcheck: AmcheckOptions,
    pub window: Window,
    /// An earlier report, to compare with.
    pub baseline: Option<PathBuf>,
    /// Damage that the earlier report has is none of this exit code's.
    pub only_new: bool,
    /// So many of a hundred rows may be fewer than in the earlier report.
    pub rows_fell_percent: u8,
}

/// How long, how fast, and in which order.
#[derive(Clone, Debug, Default)]
pub struct Window {
    pub max_duration: Option<Duration>,
    /// Bytes per second.
    pub max_rate: Option<u64>,
    /// The file that says when relations were last found clean.
    pub state: Option<PathBuf>,
    /// How old that may be.
    pub max_age: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum NightlyError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Pages(#[from] VerifyError),
    #[error(transparent)]
    Rows(#[from] RunError),
    #[error("file \"{}\" could not be used: {why}", path.display())]
    File { path: PathBuf, why: String },
}

/// A level of a database.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// The number of the database.
    database: usize,
    level: Level,
}

struct Nightly {
    options: NightlyOptions,
    target: Target,
    progress: Arc<Progress>,
    state: State,
    asked: Vec<Asked>,
    server: Option<model::Server>,
    /// As they go into the report, in the order of `asked`.
    databases: Vec<Database>,
    relations: Relations,
    notes: Vec<String>,
    shared_oids: BTreeSet<u32>,
    /// Whether the files of the shared catalogs were looked at.
    shared: bool,
    /// Whether a turn did not come.
    missed: bool,
}

/// Looks at all that was asked for. `Err`: nothing could be looked at at all.
pub async fn verify(
    target: Target,
    options: NightlyOptions,
    progress: Arc<Progress>,
) -> Result<Report, NightlyError> {
    let started = Timestamp::now();
    let state = options.window.state.as_deref().map_or(Ok(State::default()), State::read)?;
    let then = ending::baseline(options.baseline.as_deref())?;
    if let Some(rate) = options.window.max_rate {
        progress.throttle.set(rate);
    }
    let clock = options.window.max_duration.map(|window| {
        let progress = progress.clone();
        tokio::spawn(async move {
            tokio::time::sleep(window).await;
            progress.end();
        })
    });
    let mut nightly = Nightly {
        options,
        target,
        progress,
        state,
        asked: Vec::new(),
        server: None,
        databases: Vec::new(),
        relations: Relations::default(),
        notes: Vec::new(),
        shared_oids: BTreeSet::new(),
        shared: false,
        missed: false,
    };
    nightly.all_turns().await?;
    let window_ended = clock.is_some_and(|clock| {
        // One that is aborted is finished, too, a moment later.
        let ended = clock.is_finished();
        clock.abort();
        ended
    });
    nightly.end(Ending { started, then, window_ended })
}

impl Nightly {
    async fn all_turns(&mut self) -> Result<(), NightlyError> {
        if self.options.pages.offline {
            let (options, progress) = (self.options.pages.clone(), self.progress.clone());
            let looked = verify::verify(self.target.clone(), options, progress).await?;
            self.databases.push(databases::nameless());
            self.take_in(Turn { database: 0, level: Level::Pages }, looked.into());
            return Ok(());
        }
        self.find_databases().await?;
        let mut first_error = None;
        let mut done = 0;
        for turn in self.turns() {
            if self.progress.stopped() {
                self.not_reached(turn);
                continue;
            }
            self.progress.begin_again();
            match self.turn(turn).await {
                Ok(()) => done += 1,
                Err(error) => {
                    let error = self.failed(turn, error);
                    first_error = first_error.or(error);
                }
            }
        }
        match first_error {
            Some(error) if done == 0 => Err(error),
            _ => Ok(()),
        }
    }

    /// All turns, in order.
    fn turns(&self) -> Vec<Turn> {
        let levels = self.options.levels.iter();
        let mut turns: Vec<Turn> = levels
            .flat_map(|&level| {
                let all = self.asked.iter().enumerate();
                let open = all.filter(move |(_, asked)| asked.has(level));
                open.map(move |(database, _)| Turn { database, level })
            })
            .collect();
        // A sort keeps what is equal in its order.
        turns.sort_by_key(|turn| self.state.oldest_of(self.asked[turn.database].oid, turn.level));
        turns
    }

    async fn turn(&mut self, turn: Turn) -> Result<(), NightlyError> {
        let asked = self.asked[turn.database].clone();
        let last_ok = self.state.last_ok(asked.oid, turn.level);
        let target = self.target.with_dbname(&asked.name);
        let progress = self.progress.clone();
        let found = match turn.level {
            Level::Pages => {
                let mut options = self.options.pages.clone();
                options.shared = !self.shared && asked.allows_connections;
                options.last_ok = last_ok;
                options.begun = self.state.begun(asked.oid, turn.level);
                let target = if asked.allows_connections {
                    target
                } else {
                    options.of_other = Some((asked.oid, asked.name.clone()));
                    self.target.clone()
                };
                let looked = verify::verify(target, options, progress).await?;
                // Without a connection its files have no names.
                self.shared |= asked.allows_connections;
                looked.into()
            }
            Level::Rows => {
                let begun = self.state.begun(asked.oid, turn.level);
                let options = RunOptions { last_ok, begun, ..self.options.rows.clone() };
                rows::read(target, options, progress).await?
            }
            Level::Amcheck => {
                let options = AmcheckOptions { last_ok, ..self.options.amcheck.clone() };
                amcheck::check_all(target, options, (&asked.name, self.server()), progress).await?
            }
        };
        self.take_in(turn, found);
        // It could be written when the run began.
        if let Err(error) = self.save_state() {
            tracing::error!("{error}");
            let database = &mut self.databases[turn.database];
            database.notes.push(format!("what was found clean is not remembered: {error}"));
            database.status = RunStatus::Incomplete;
        }
        Ok(())
    }
}
