//! `pg_salvage verify --pages`: every page of every file of a database's
//! relations, and of the shared catalogs, as it is on disk: all forks of tables,
//! indexes, TOAST tables, sequences and catalogs, the visibility and free space
//! maps, and files that nobody knows of.
//!
//! The server reads its files and sends them; nothing goes through its cache,
//! and nothing is locked. Each session looks at one segment at a time, in a
//! transaction of its own, so that no old snapshot is held.

mod advised;
pub mod amcheck;
mod lengths;
mod local;
mod names;
mod offline;
mod report;
mod segment;

pub use advised::Advice;
pub use report::{DamagedBlock, FileReport, Verified, text};

use crate::page::check::Kind;
use crate::progress::Progress;
use crate::server::connect::Target;
use crate::server::files::{FileOf, ForkFile, directories, forks};
use crate::server::inventory::Selection;
use crate::server::pages::{MAY_READ, READ_FUNCTION, redo};
use crate::server::session::{OpenError, ReadError, ServerFacts, Session, Timeouts};
use crate::server::sql::ident;
use local::Local;
use segment::{Seen, Task, look};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Before what seems to be damaged is looked at again, each time: a write of a
/// page takes thousandths of a second, on a disk that is overloaded some tenths.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1000)];

/// So often a session that was lost is replaced, for one segment.
const TRIES_MAX: u32 = 5;

/// Before a lost session is replaced; each time twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// What is asked of a look at all pages.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    pub jobs: usize,
    pub selection: Selection,
    pub timeouts: Timeouts,
    /// The data directory of the server, where it is on this host: else the
    /// server is asked for its files.
    pub pgdata: Option<PathBuf>,
    /// The server is not asked at all: it is down. All databases are looked at.
    pub offline: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The role may not read the server's files.
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    Selection(String),
    /// It cannot be read, or is that of another server.
    #[error("{0}")]
    DataDirectory(String),
}

/// A file, with what is known of it and what was found.
struct File {
    fork: ForkFile,
    of: Option<FileOf>,
    kind: Kind,
    seen: Seen,
    /// What is wrong with its length.
    problems: Vec<String>,
    /// Why some of it was not looked at.
    left: Option<String>,
}

/// A task, and what was found, or why it could not be looked at.
type Done = (Task, Result<Seen, String>);

/// Where files are read.
enum Source {
    /// The server reads them, and sends them, to sessions that are opened there.
    Server(Box<Target>, Timeouts),
    Local(Local),
}

impl Source {
    async fn directories(&self, session: &Session) -> Result<Vec<String>, VerifyError> {
        match self {
            Self::Server(..) => match directories(session).await {
                Err(e) if e.is_permission() => Err(forbidden(session).await),
                other => Ok(other?),
            },
            Self::Local(local) => local.directories(session.server()).map_err(unreadable),
        }
    }

    async fn forks(
        &self,
        session: &Session,
        directory: &str,
    ) -> Result<Vec<ForkFile>, VerifyError> {
        match self {
            Self::Server(..) => match forks(session, directory).await {
                Err(e) if e.is_permission() => Err(forbidden(session).await),
                other => Ok(other?),
            },
            Self::Local(local) => local.forks(directory).map_err(unreadable),
        }
    }
}

fn unreadable(error: std::io::Error) -> VerifyError {
    VerifyError::DataDirectory(format!("the data directory could not be read: {error}"))
}

struct Work {
    source: Source,
    server: Arc<ServerFacts>,
    todo: Mutex<VecDeque<Task>>,
    done: Mutex<Vec<Done>>,
    progress: Arc<Progress>,
}

impl Work {
    fn new(
        (source, server): (Source, Arc<ServerFacts>),
        files: &[File],
        redo: u64,
        progress: Arc<Progress>,
    ) -> Self {
        let todo = tasks(files, redo, (server.block_size, server.segment_blocks));
        progress.relations.store(files.len() as u64, Relaxed);
        progress.blocks.store(todo.iter().map(|t| u64::from(t.blocks())).sum(), Relaxed);
        Self { source, server, todo: Mutex::new(todo), done: Mutex::default(), progress }
    }
}

/// Looks at every page. `Err`: it could not be begun.
pub async fn verify(
    target: Target,
    options: VerifyOptions,
    progress: Arc<Progress>,
) -> Result<Verified, VerifyError> {
    let started = jiff::Timestamp::now();
    if options.offline {
        return offline::verify(&options, progress, started).await;
    }
    let session = Session::open(&target, options.timeouts, None).await?;
    let mut notes = Vec::new();
    let source = match &options.pgdata {
        Some(dir) => Source::Local(Local::open_of(dir, session.server())?),
        None => Source::Server(Box::new(target), options.timeouts),
    };
    let mut files = list(&session, &source, &options.selection, &mut notes).await?;
    let server = session.server().clone();
    let again = async |directory: &str| source.forks(&session, directory).await;
    lengths::check(&server, &mut files, again).await?;
    let redo = redo(&session).await?.unwrap_or(0);
    let work = Arc::new(Work::new((source, server), &files, redo, progress));
    look_at_all(&work, options.jobs, Some(session), &mut files, &mut notes).await;
    Ok(report::report(&work.server, started, files, notes))
}

/// Looks at all pages of these files, and notes what was found in them.
async fn look_at_all(
    work: &Arc<Work>,
    jobs: usize,
    session: Option<Session>,
    files: &mut [File],
    notes: &mut Vec<String>,
) {
    let mut tasks_of: BTreeMap<usize, usize> = BTreeMap::new();
    locked(&work.todo).iter().for_each(|task| *tasks_of.entry(task.file).or_default() += 1);
    let done = all(work, jobs, session, notes).await;
    for task in std::mem::take(&mut *locked(&work.todo)) {
        files[task.file].left = Some("stopped before its turn".to_owned());
    }
    for (task, _) in &done {
        tasks_of.entry(task.file).and_modify(|left| *left -= 1);
    }
    for (file, _) in tasks_of.into_iter().filter(|(_, left)| *left > 0) {
        files[file].left.get_or_insert_with(|| "not all of it was looked at".to_owned());
    }
    let done = confirmed(work, jobs, done, notes).await;
    for (task, seen) in done {
        let file = &mut files[task.file];
        match seen {
            Ok(seen) => {
                file.seen.blocks += seen.blocks;
                file.seen.zeros += seen.zeros;
                file.seen.damaged.extend(seen.damaged);
            }
            Err(why) => file.left = Some(why),
        }
    }
}

/// Works on all that is to be done, or until we are told to stop.
async fn all(
    work: &Arc<Work>,
    jobs: usize,
    mut first: Option<Session>,
    notes: &mut Vec<String>,
) -> Vec<Done> {
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..jobs.max(1).min(locked(&work.todo).len()) {
        workers.spawn(worker(work.clone(), first.take()));
    }
    while let Some(ended) = workers.join_next().await {
        if let Err(panicked) = ended {
            notes.push(format!("a worker ended before its time: {panicked}"));
        }
    }
    std::mem::take(&mut *locked(&work.done))
}

/// Looks at what seems to be damaged again, some time later, time and again: what
/// is wrong each time is damaged.
async fn confirmed(
    work: &Arc<Work>,
    jobs: usize,
    mut done: Vec<Done>,
    notes: &mut Vec<String>,
) -> Vec<Done> {
    for pause in PAUSES {
        // Numbered by what was done.
        let again = |(number, (task, seen)): (usize, &Done)| {
            let seen = seen.as_ref().ok().filter(|seen| !seen.damaged.is_empty())?;
            Some(Task { file: number, ..task.again(seen) })
        };
        let todo: VecDeque<Task> = done.iter().enumerate().filter_map(again).collect();
        if todo.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        *locked(&work.todo) = todo;
        for (task, again) in all(work, jobs, None, notes).await {
            if let (Ok(seen), Ok(again)) = (&mut done[task.file].1, again) {
                seen.damaged = again.damaged;
            }
        }
        for task in std::mem::take(&mut *locked(&work.todo)) {
            let why = "stopped before what seemed to be damaged was looked at again";
            done[task.file].1 = Err(why.to_owned());
        }
    }
    done
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files that are looked at.
async fn list(
    session: &Session,
    source: &Source,
    selection: &Selection,
    notes: &mut Vec<String>,
) -> Result<Vec<File>, VerifyError> {
    let mut all = Vec::new();
    for directory in source.directories(session).await? {
        all.extend(source.forks(session, &directory).await?);
    }
    if matches!(source, Source::Server(..)) {
        may_read(session).await?;
    }
    let names = names::of_files(session, selection, notes).await?;
    let file = |fork: ForkFile| {
        let (path, suffix) = fork.fork();
        let of = names.known.get(path).cloned();
        if names.chosen.as_ref().is_some_and(|c| of.as_ref().is_none_or(|f| !c.contains(&f.oid))) {
            return None;
        }
        let kind = of.as_ref().map_or(Kind::Unknown, |f| Kind::of(f.relkind, f.access_method));
        let kind = if matches!(suffix, "main" | "init") { kind } else { Kind::Other };
        let (seen, problems, left) = (Seen::default(), Vec::new(), None);
        Some(File { fork, of, kind, seen, problems, left })
    };
    Ok(all.into_iter().filter_map(file).collect())
}

/// Listing directories is one right, reading files another.
async fn may_read(session: &Session) -> Result<(), VerifyError> {
    match session.value(MAY_READ).await {
        Err(e) if e.is_permission() => Err(forbidden(session).await),
        other => Ok(other.map(|_| ())?),
    }
}

async fn forbidden(session: &Session) -> VerifyError {
    let role = match session.renew_snapshot().await {
        Ok(()) => session.value("SELECT current_user").await.ok().flatten(),
        Err(_) => None,
    };
    let role = ident(&role.unwrap_or_default());
    VerifyError::Forbidden(format!(
        "role {role} may not read the files of the server, which pages are checked in; a \
         superuser can allow it, in this database: GRANT EXECUTE ON FUNCTION \
         pg_catalog.pg_ls_dir(text, boolean, boolean), pg_catalog.pg_stat_file(text, boolean), \
         {READ_FUNCTION} TO {role}"
    ))
}

/// A task for each segment, the largest first.
fn tasks(files: &[File], redo: u64, (block_size, segment_blocks): (u32, u32)) -> VecDeque<Task> {
    let mut tasks = Vec::new();
    for (number, file) in files.iter().enumerate() {
        for (&segment, &bytes) in &file.fork.segments {
            let blocks = u32::try_from(bytes / u64::from(block_size.max(1))).unwrap_or(u32::MAX);
            let first = segment.checked_mul(segment_blocks);
            let Some(first) = first.filter(|_| blocks > 0) else { continue };
            let (path, kind) = (file.fork.path.clone(), file.kind);
            let ranges = vec![(first, blocks.min(segment_blocks))];
            tasks.push(Task { file: number, path, kind, ranges, settled: false, redo });
        }
    }
    tasks.sort_by_key(|task| (Reverse(task.blocks()), task.file, task.ranges[0]));
    tasks.into()
}

/// Works on one task after the other, in a session of its own.
async fn worker(work: Arc<Work>, mut session: Option<Session>) {
    while !work.progress.stopped() {
        let Some(task) = locked(&work.todo).pop_front() else { return };
        let seen = match &work.source {
            Source::Server(target, timeouts) => {
                patiently(&work.progress, (target, *timeouts), &mut session, &task).await
            }
            Source::Local(local) => {
                let (local, task, server) = (local.clone(), task.clone(), work.server.clone());
                match tokio::task::spawn_blocking(move || local.look(&task, &server)).await {
                    Ok(seen) => seen.map_err(|e| e.to_string()),
                    Err(panicked) => Err(panicked.to_string()),
                }
            }
        };
        // The second time it is known that something of it is settled.
        if !task.settled {
            let damaged = seen.as_ref().map_or(0, |seen| seen.damaged.len());
            work.progress.damaged.fetch_add(damaged as u64, Relaxed);
            work.progress.blocks_done.fetch_add(task.blocks().into(), Relaxed);
        }
        locked(&work.done).push((task, seen));
    }
}

/// In another session, where one is lost.
async fn patiently(
    progress: &Progress,
    (target, timeouts): (&Target, Timeouts),
    session: &mut Option<Session>,
    task: &Task,
) -> Result<Seen, String> {
    let mut pause = PAUSE;
    let mut tries = 0;
    loop {
        let tried = async {
            if session.as_ref().is_none_or(Session::is_closed) {
                *session = Some(Session::open(target, timeouts, None).await?);
            }
            let Some(session) = session.as_ref() else { return Ok(Seen::default()) };
            session.renew_snapshot().await?;
            Ok::<_, OpenError>(look(session, task).await?)
        };
        let error = match tried.await {
            Ok(seen) => return Ok(seen),
            Err(error) => error,
        };
        tries += 1;
        // A session with an error in it is of no use.
        *session = None;
        if tries == TRIES_MAX || progress.stopped() {
            return Err(error.to_string());
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}
