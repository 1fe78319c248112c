//! `pg_salvage verify --pages`: every page of every file of a database's
//! relations, and of the shared catalogs, as it is on disk: all forks of tables,
//! indexes, TOAST tables, sequences and catalogs, the visibility and free space
//! maps, and files that nobody knows of.
//!
//! Where the server's data directory is on this host, its files are read there; else
//! the server reads them and sends them. Nothing goes through its cache,
//! and nothing is locked. Each session looks at one segment at a time, in a
//! transaction of its own, so that no old snapshot is held.

mod advised;
pub mod amcheck;
mod here;
mod lengths;
mod local;
mod names;
mod offline;
mod reader;
mod report;
mod segment;
mod source;
mod work;

pub use reader::{Hanging, directory_to_read, read_for_others};
pub use report::Looked;

use crate::output::manifest::ReadBlocks;
use crate::page::check::Kind;
use crate::progress::Progress;
use crate::server::connect::Target;
use crate::server::files::{FileOf, ForkFile};
use crate::server::inventory::Selection;
use crate::server::pages::redo;
use crate::server::session::{OpenError, ReadError, Session, Timeouts};
use names::Names;
use segment::Seen;
use source::Source;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use work::Work;

/// What is asked of a look at all pages.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    pub jobs: usize,
    pub selection: Selection,
    pub timeouts: Timeouts,
    pub files: FilesFrom,
    /// Files on this host that the disk did not give so far.
    pub hanging: Arc<Hanging>,
    /// The server is not asked at all: it is down. All databases are looked at.
    pub offline: bool,
    /// Whether the shared catalogs are looked at, too.
    pub shared: bool,
    /// Another database of the server, which one cannot connect to: its OID and
    /// name. Nobody knows what its files are called.
    pub of_other: Option<(u32, String)>,
    /// When relations were last found clean: those of which that is longest ago
    /// come first, and before them those that never were. Empty: the largest do.
    pub last_ok: BTreeMap<u32, jiff::Timestamp>,
    /// What was looked at of relations by an earlier run, and need not be again: of
    /// the same file, from its beginning on, whole segments.
    pub begun: BTreeMap<u32, ReadBlocks>,
}

/// Who reads the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilesFrom {
    /// We, where the server's data directory is found on this host; else the server.
    Found,
    /// The server, which sends them.
    Server,
    /// We, in this data directory of the server.
    DataDirectory(PathBuf),
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
    left: Option<Left>,
    /// What was looked at of a main fork one after the other, and is sound: from
    /// this block on, up to that one.
    read: (u32, u32),
}

impl File {
    fn new(fork: ForkFile, of: Option<FileOf>, kind: Kind) -> Self {
        let (seen, problems, left, read) = (Seen::default(), Vec::new(), None, (0, 0));
        Self { fork, of, kind, seen, problems, left, read }
    }

    /// The number of the file of a main fork.
    fn filenode(&self) -> Option<u32> {
        let (path, fork) = self.fork.fork();
        path.rsplit('/').next()?.parse().ok().filter(|_| fork == "main")
    }

    /// Leaves out what an earlier run has looked at: segments as a whole. A file that
    /// became shorter is looked at from its beginning.
    fn go_on(
        &mut self,
        begun: &BTreeMap<u32, ReadBlocks>,
        (block_size, segment_blocks): (u32, u32),
    ) {
        let blocks = self.fork.bytes() / u64::from(block_size.max(1));
        let begun = self.of.as_ref().and_then(|of| begun.get(&of.oid));
        let begun =
            begun.filter(|b| self.filenode() == Some(b.filenode) && u64::from(b.to) <= blocks);
        let from = begun.map_or(0, |b| b.to - b.to % segment_blocks.max(1));
        self.read = (from, from);
    }
}

/// Why something was not looked at.
#[derive(Clone, Debug)]
enum Left {
    /// We were told to stop.
    Stopped(String),
    Failed(String),
}

fn stopped(why: &str) -> Left {
    Left::Stopped(why.to_owned())
}

/// Looks at every page. `Err`: it could not be begun.
pub async fn verify(
    target: Target,
    options: VerifyOptions,
    progress: Arc<Progress>,
) -> Result<Looked, VerifyError> {
    if options.offline {
        return offline::verify(&options, progress).await;
    }
    let session = Session::open(&target, options.timeouts, None).await?;
    let mut notes = Vec::new();
    let source = Source::of(target, &session, &options).await?;
    source.may_read(&session).await?;
    let mut files = list(&session, &source, &options, &mut notes).await?;
    let server = session.server().clone();
    let again = async |directory: &str| source.forks(&session, directory).await;
    lengths::check(&server, &mut files, again).await?;
    let redo = redo(&session).await?.unwrap_or(0);
    let work = Arc::new(Work::new((source, server), &files, (redo, &options.last_ok), progress));
    // It is not held while files are read without it: its snapshot would hold up VACUUM.
    let session = work.is_by_server().then_some(session);
    work::look_at_all(&work, options.jobs, session, &mut files, &mut notes).await;
    let own = work.server.database.clone();
    let database = options.of_other.map_or(own, |(_, name)| name);
    Ok(report::looked(work.server.clone(), &database, files, notes))
}

/// The files that are looked at.
async fn list(
    session: &Session,
    source: &Source,
    options: &VerifyOptions,
    notes: &mut Vec<String>,
) -> Result<Vec<File>, VerifyError> {
    let mut all = Vec::new();
    let is_wanted = |directory: &String| options.shared || directory != "global";
    let own = session.server().database_oid;
    let database = options.of_other.as_ref().map_or(own, |(oid, _)| *oid);
    for directory in source.directories(session, database).await?.into_iter().filter(is_wanted) {
        all.extend(source.forks(session, &directory).await?);
    }
    let names = match options.of_other {
        Some(_) => Names { known: BTreeMap::new(), chosen: None },
        None => names::of_files(session, &options.selection, notes).await?,
    };
    let file = |fork: ForkFile| {
        let (path, suffix) = fork.fork();
        let of = names.known.get(path).cloned();
        if names.chosen.as_ref().is_some_and(|c| of.as_ref().is_none_or(|f| !c.contains(&f.oid))) {
            return None;
        }
        let kind = of.as_ref().map_or(Kind::Unknown, |f| Kind::of(f.relkind, f.access_method));
        let kind = if matches!(suffix, "main" | "init") { kind } else { Kind::Other };
        let mut file = File::new(fork, of, kind);
        let server = session.server();
        file.go_on(&options.begun, (server.block_size, server.segment_blocks));
        Some(file)
    };
    Ok(all.into_iter().filter_map(file).collect())
}
