//! `journal`: what is durable; a run that is resumed reads it.
//!
//! One line for each record: a CRC-32 of what follows, a space, and JSON. Lines
//! are only ever appended. A line is written after what it vouches for has been
//! synced, so whatever ended the run, what the journal says is true. What it
//! does not say (rows behind a mark, files it does not name) does not count, and
//! is cut off or written anew.
//!
//! A last line that is torn, or anything behind a line that is no record, is cut
//! off when the journal is opened.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::content::ContentHash;
use super::dir::{DumpDir, sync_directory};
use super::error::OutputError;
use super::fault_point::{fault_point, torn_write};
use super::manifest::{self, RowClass};

pub const JOURNAL: &str = "journal";
pub const FORMAT_VERSION: u32 = 3;

/// Finished relations are made durable together, so often; one that the journal
/// forgets is read again.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// A longer line is taken for damage. A relation with as many lost places as are
/// listed has one of some 30 MB.
const LINE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How much of a file: its bytes on disk, and the rows in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Compressed.
    pub len: u64,
    pub rows: u64,
    /// Uncompressed.
    pub bytes: u64,
    /// Of these rows, where they are clean. None: it is not known, as in what
    /// earlier versions have written.
    #[serde(default)]
    pub hash: Option<ContentHash>,
}

impl Default for Extent {
    /// Nothing, and so nothing that is not known.
    fn default() -> Self {
        Self { len: 0, rows: 0, bytes: 0, hash: Some(ContentHash::default()) }
    }
}

impl Extent {
    /// What follows `base` in this.
    pub fn since(self, base: Self) -> Self {
        Self {
            len: self.len - base.len,
            rows: self.rows - base.rows,
            bytes: self.bytes - base.bytes,
            hash: self.hash.zip(base.hash).map(|(all, base)| all - base),
        }
    }

    /// This, and `more` behind it.
    pub fn and(self, more: Self) -> Self {
        Self {
            len: self.len + more.len,
            rows: self.rows + more.rows,
            bytes: self.bytes + more.bytes,
            hash: self.hash.zip(more.hash).map(|(one, more)| one + more),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    Run(Run),
    Snapshot(Snapshot),
    Relation(Relation),
    Stretch(Stretch),
    /// A stretch is at its place in the relation's files, or in pieces of its
    /// own; this much of each class.
    Ended {
        oid: u32,
        stretch: usize,
        files: [Extent; RowClass::COUNT],
    },
    /// Stretches before this one are joined in the relation's files. If that is
    /// less than before, what follows has been put back into pieces, but for the
    /// rows of this one.
    Joined {
        oid: u32,
        next: usize,
    },
    /// Reading this tuple took the server down; offset 0: the block as a whole.
    Killer {
        oid: u32,
        ctid: String,
        message: String,
    },
    /// The server went down while this stretch was read.
    Accused {
        oid: u32,
        stretch: usize,
    },
    /// The page of this block is bad, and is read all the same, unchecked: for as
    /// long as the server has it in its cache, nothing tells that it is bad.
    Unchecked {
        oid: u32,
        block: u32,
    },
    /// The relation is done, with its files.
    Done {
        relation: Box<manifest::Relation>,
        /// How far its rows say that sequences are: OID and value.
        furthest: Vec<(u32, i64)>,
    },
}

/// A run begins: the first, or one that goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub format_version: u32,
    pub tool: String,
    pub started: jiff::Timestamp,
    pub server: Identity,
    /// What was asked that decides which rows are written, and how.
    pub asked: std::collections::BTreeMap<String, serde_json::Value>,
}

/// Which database it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// None where the role may not ask for it.
    pub system_identifier: Option<String>,
    pub database: String,
    pub database_oid: u32,
    pub encoding: String,
    pub block_size: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub snapshot: manifest::Snapshot,
    /// What it sees, as the server writes it.
    pub sees: String,
}

/// A relation is read from its beginning: what was read of it before is void,
/// but for the killers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    pub oid: u32,
    /// Its name in file names.
    pub stem: String,
    /// None where the relation is mapped.
    pub filenode: Option<u32>,
    /// What is read of it, in order.
    pub columns: Vec<String>,
    /// First block and block after the last; empty: it is read as one.
    pub stretches: Vec<(u32, u32)>,
    /// Its length, when it was cut.
    pub blocks: u32,
}

/// A stretch is settled up to a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    pub oid: u32,
    pub stretch: usize,
    /// Whether its rows are in the relation's files, or in pieces of their own.
    pub in_place: bool,
    /// The block after its last.
    pub end: u32,
    pub snapshot: u32,
    /// What became of the blocks since the record before, as in a map file.
    pub map: String,
    /// The first so many lost places of the record before stay as they are.
    pub lost_kept: usize,
    /// These follow.
    pub lost: Vec<manifest::Lost>,
    pub lost_omitted: u64,
    /// Its rows, by class.
    pub files: [Extent; RowClass::COUNT],
}

/// The journal of a run, to be written to.
pub struct Journal {
    path: PathBuf,
    sync: bool,
    state: Mutex<State>,
}

struct State {
    file: File,
    /// The end of the last whole line.
    len: u64,
    synced: Instant,
}

impl Journal {
    /// Opens the journal of a directory, or makes an empty one. Gives each
    /// record that it has to `each`, in order; returns whether something behind
    /// them that is no record, and more than a torn line, was cut off.
    pub fn open(dir: &DumpDir, mut each: impl FnMut(Record)) -> Result<(Self, bool), OutputError> {
        let path = dir.path().join(JOURNAL);
        let failed = |doing| OutputError::io(doing, &path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open file"))?;
        let found = file.metadata().map_err(failed("read file"))?.len();
        let (len, torn) = read(&file, &mut each).map_err(failed("read file"))?;
        if len < found {
            file.set_len(len).map_err(failed("truncate file"))?;
        }
        if dir.sync() {
            file.sync_all().map_err(failed("sync file"))?;
            sync_directory(dir.path())?;
        }
        let state = Mutex::new(State { file, len, synced: Instant::now() });
        Ok((Self { path, sync: dir.sync(), state }, len < found && !torn))
    }

    /// Writes a record. Whatever it vouches for is durable by now. It is so
    /// itself after [`Self::sync`], or a little later.
    pub fn append(&self, record: &Record) -> Result<(), OutputError> {
        let line = line(record).map_err(OutputError::io("write file", &self.path))?;
        let mut state = self.lock();
        let len = state.len;
        let write = |bytes: &[u8]| state.file.write_all_at(bytes, len);
        torn_write("journal", &line, write)
            .and_then(|()| write(&line))
            .map_err(OutputError::io("write file", &self.path))?;
        state.len += line.len() as u64;
        Ok(())
    }

    /// Makes all records durable.
    pub async fn sync(&self) -> Result<(), OutputError> {
        if !self.sync {
            return Ok(());
        }
        fault_point("sync journal");
        let file = {
            let mut state = self.lock();
            state.synced = Instant::now();
            state.file.try_clone()
        };
        let syncing = tokio::task::spawn_blocking(move || file?.sync_data());
        let synced = syncing.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        synced.map_err(OutputError::io("sync file", &self.path))
    }

    /// Makes all records durable, unless that was done a moment ago.
    pub async fn sync_sometimes(&self) -> Result<(), OutputError> {
        if self.lock().synced.elapsed() < SYNC_EVERY { Ok(()) } else { self.sync().await }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn line(record: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(record)?;
    let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

/// Reads records up to the first line that is none. Returns where that begins,
/// and whether it is the last and has no end.
pub(super) fn read<R: DeserializeOwned>(
    file: &File,
    each: &mut impl FnMut(R),
) -> io::Result<(u64, bool)> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut whole = 0;
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        match parse(&line) {
            Some(record) => each(record),
            None => return Ok((whole, line.last() != Some(&b'\n'))),
        }
        whole += read as u64;
    }
}

fn parse<R: DeserializeOwned>(line: &[u8]) -> Option<R> {
    let line = line.strip_suffix(b"\n")?;
    let (crc, json) = line.split_at_checked("01234567 ".len())?;
    let crc = std::str::from_utf8(crc).ok()?.strip_suffix(' ')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    if crc32fast::hash(json) != crc {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests;
