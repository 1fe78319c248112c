//! `pg_salvage locate`: what logs and error messages say of damage, by relation:
//! which one it is, where in which file the blocks lie, and what to do next.
//!
//! Pure but for three edges: reading the input (`read`), names from a server
//! (`resolve`), and whether files of a data directory are there (`on_disk`).

mod asked;
mod blocks;

mod entry;
mod group;
mod json;
mod lines;
mod object;
mod on_disk;
mod path;
mod record;
mod resolve;
mod said;
#[cfg(test)]
mod tests;
mod told;
mod wording;

pub use asked::{Asked, blocks as parse_blocks, is_path};
pub use path::{Fork, Geometry, Place, RelationFile};
pub use resolve::Resolved;

use crate::advice::object::{Damaged, Step, first_steps, steps};
use crate::advice::script::{Part, script};
use crate::server::connect::Target;
use crate::server::fault;
use crate::server::session::{OpenError, Session, Timeouts};
use crate::server::whose_file;
use entry::Entries;
use group::{Group, Groups, Subject};
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use wording::Kind;

/// A file is read in pieces of this size.
const BUFFER: usize = 256 << 10;

/// Where messages come from.
#[derive(Clone, Debug)]
pub enum Input {
    Stdin,
    File(PathBuf),
    Asked(Asked),
}

#[derive(Clone, Debug, Default)]
pub struct LocateOptions {
    pub inputs: Vec<Input>,
    pub pgdata: Option<PathBuf>,
    /// Where they are not the server's, or there is no server.
    pub block_size: Option<u32>,
    pub segment_bytes: Option<u64>,
    /// Where the advice is written to as a script.
    pub script: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    #[error("could not read \"{path}\": {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("could not read standard input: {0}")]
    Stdin(io::Error),
    #[error("could not write \"{path}\": {source}", path = .path.display())]
    Script { path: PathBuf, source: io::Error },
    #[error("\"{path}\" is there already: give the name of a new file for the script", path = .path.display())]
    ScriptThere { path: PathBuf },
    #[error("\"{0}\" is no block of a relation")]
    Asked(String),
}

/// One thing that damage was found in.
pub struct Finding {
    group: Group,
    resolved: Resolved,
    steps: Vec<Step>,
}

/// All that was found.
pub struct Located {
    findings: Vec<Finding>,
    geometry: Geometry,
    pgdata: Option<PathBuf>,
    first_steps: Vec<String>,
    bytes: u64,
    /// Messages for which there was no room.
    omitted: u64,
    /// Whether the catalogs were asked.
    is_connected: bool,
    warnings: Vec<String>,
}

/// Reads all inputs, asks the server if there is a target, and writes the script
/// if one is wanted.
pub async fn locate(
    target: Option<&Target>,
    options: &LocateOptions,
) -> Result<Located, LocateError> {
    let timeouts = Timeouts { statement_ms: 60_000, lock_ms: 1000, read_ms: 60_000 };
    let mut warnings = Vec::new();
    let session = match target {
        None => None,
        Some(target) => match open(target, timeouts).await {
            Ok(session) => Some(session),
            Err(e) => {
                warnings.push(format!("without names of relations: {e}"));
                None
            }
        },
    };
    let geometry = geometry(session.as_ref(), options);
    let mut groups = Groups::new(geometry, fault::is_of_damage);
    let mut bytes = 0;
    for input in &options.inputs {
        bytes += take_in(input, geometry, &mut groups)?;
    }
    let (groups, omitted) = groups.end();
    let resolved = match target.zip(session.as_ref()) {
        Some((target, session)) => resolve::resolve(target, timeouts, session, &groups).await,
        None => vec![Resolved::default(); groups.len()],
    };
    let version = session.as_ref().map(|session| session.server().version);
    let findings: Vec<Finding> = groups
        .into_iter()
        .zip(resolved)
        .map(|(group, resolved)| {
            let steps = advised(&group, &resolved, version);
            Finding { group, resolved, steps }
        })
        .collect();
    let located = Located {
        first_steps: first_steps(relations(&findings), has_failed(&findings)),
        findings,
        geometry,
        pgdata: options.pgdata.clone(),
        bytes,
        omitted,
        is_connected: session.is_some(),
        warnings,
    };
    if let Some(path) = &options.script {
        write_script(path, &located)?;
    }
    Ok(located)
}

impl Located {
    /// Whether damage was seen, and not only asked about.
    pub fn is_damage(&self) -> bool {
        self.findings.iter().any(|f| f.group.is_damage())
    }

    /// For a terminal.
    pub fn text(&self, verbose: bool) -> String {
        said::text(self, verbose)
    }

    /// For programs.
    pub fn json(&self) -> String {
        told::json(self)
    }
}

/// Waits for a server that comes up again, as it does after a crash.
async fn open(target: &Target, timeouts: Timeouts) -> Result<Session, OpenError> {
    let mut waits = 0;
    loop {
        match (whose_file::open(target, timeouts).await, fault::wait_after(waits)) {
            (Err(e), Some(wait)) if e.is_transient() => tokio::time::sleep(wait).await,
            (opened, _) => return opened,
        }
        waits += 1;
    }
}

fn geometry(session: Option<&Session>, options: &LocateOptions) -> Geometry {
    let server = session.map(|s| (s.server().block_size, s.server().segment_blocks));
    let (size, segment) = server.unwrap_or((8192, 131_072));
    let block_size = options.block_size.unwrap_or(size).max(1);
    let given =
        options.segment_bytes.map(|b| u32::try_from(b / u64::from(block_size)).unwrap_or(u32::MAX));
    // A gigabyte, whatever the size of a block.
    let segment = match server {
        Some(_) => segment,
        None => u32::try_from((1 << 30) / u64::from(block_size)).unwrap_or(segment),
    };
    Geometry { block_size, segment_blocks: given.unwrap_or(segment).max(1) }
}

fn take_in(input: &Input, geometry: Geometry, groups: &mut Groups) -> Result<u64, LocateError> {
    match input {
        Input::Asked(asked) => {
            let places = asked.places(geometry);
            let (file, blocks) = places.ok_or_else(|| LocateError::Asked(asked.path.clone()))?;
            groups.ask(file, &blocks);
            Ok(0)
        }
        Input::Stdin => read(io::stdin().lock(), geometry, groups).map_err(LocateError::Stdin),
        Input::File(path) => {
            let opened = File::open(path).and_then(|file| read(file, geometry, groups));
            opened.map_err(|source| LocateError::Read { path: path.clone(), source })
        }
    }
}

fn read(input: impl Read, geometry: Geometry, groups: &mut Groups) -> io::Result<u64> {
    let mut entries = Entries::default();
    let bytes =
        lines::each_line(BufReader::with_capacity(BUFFER, input), |line| {
            match asked::line(line).and_then(|asked| asked.places(geometry)) {
                Some((file, blocks)) => groups.ask(file, &blocks),
                None => entries.take(line, &mut |entry| groups.add(entry)),
            }
        })?;
    entries.end(&mut |entry| groups.add(entry));
    Ok(bytes)
}

fn advised(group: &Group, resolved: &Resolved, version: Option<u32>) -> Vec<Step> {
    let owner = resolved.owners.first();
    let name = owner.map(|o| o.relation.quoted());
    let table = owner.map(|o| o.table.as_ref().unwrap_or(&o.relation).quoted());
    let database = resolved.database.as_ref().or_else(|| group.databases.first());
    steps(&Damaged {
        object: object::object(group, owner),
        name: name.as_deref(),
        table: table.as_deref(),
        database: database.map(String::as_str),
        version,
    })
}

/// How many relations are damaged.
fn relations(findings: &[Finding]) -> usize {
    let is_relation =
        |s: &Subject| matches!(s, Subject::File(_) | Subject::Toast { .. } | Subject::Named { .. });
    findings.iter().filter(|f| f.group.is_damage() && is_relation(&f.group.subject)).count()
}

/// Whether the storage itself has said that it fails.
fn has_failed(findings: &[Finding]) -> bool {
    findings.iter().any(|f| {
        f.group.has(Kind::WriteFailed)
            || f.group.whys.iter().any(|why| why.contains("Input/output error"))
    })
}

/// Never over a file that is there.
fn write_script(path: &Path, located: &Located) -> Result<(), LocateError> {
    let parts: Vec<Part<'_>> = located
        .findings
        .iter()
        .map(|f| Part {
            title: said::title(f),
            database: f.resolved.database.as_deref(),
            steps: &f.steps,
        })
        .collect();
    let text = script(&located.first_steps, &parts);
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => LocateError::ScriptThere { path: path.to_owned() },
        _ => LocateError::Script { path: path.to_owned(), source },
    })
}

/// Every pattern of this folder is made once, and by a test.
fn pattern(text: &str) -> Regex {
    RegexBuilder::new(text).unicode(false).build().expect("patterns are written here")
}

fn patterns(texts: &[String]) -> RegexSet {
    RegexSetBuilder::new(texts).unicode(false).build().expect("patterns are written here")
}
