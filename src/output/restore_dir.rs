//! The folder of a restore: `restore.json`, the rejected rows, and the journal
//! that `--resume` reads.
//!
//! What a restore has done is what the target has committed. So a record is
//! written before each commit, with the transaction's number: whatever ended the
//! restore then, the target can be asked what became of that transaction. The
//! lines are those of the journal of a dump: a CRC-32, a space, and JSON.

use super::OutputError;
use super::dir::{make_own, refuse_unless_empty, sync_directory, write_part};
use super::fault_point::{fault_point, torn_write};
use super::journal::{line, read};
use super::restored::{NotMade, Relation};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub const JOURNAL: &str = "restore.journal";
pub const REPORT: &str = "restore.json";

/// So many bytes of the journal are made durable before they are written to, as
/// zeros: to sync a file that grows makes the file system write down what others
/// have written, too. Zeros are no record, so a reader ends before them.
const ROOM_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A run begins, the first or one that goes on.
    Run(Run),
    /// This transaction may be committed; if it is, that has been done. The last
    /// record of it counts.
    Commit { xid: String, step: Box<Step> },
    /// It is committed.
    Done { step: Box<Step> },
}

/// Which dump goes where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub started: Timestamp,
    /// When the dump was begun, and how many relations it has: enough to know it
    /// again.
    pub dump: (Timestamp, usize),
    pub database: String,
    pub database_oid: u32,
    /// None where the role may not ask for it.
    pub system_identifier: Option<String>,
    /// What was asked that decides what is loaded.
    pub asked: std::collections::BTreeMap<String, serde_json::Value>,
}

/// One thing that is done as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Entries of `toc.dat` were made, or could not be.
    Entries {
        made: Vec<i32>,
        not_made: Vec<NotMade>,
        not_valid: Vec<NotMade>,
        moved: Option<Moved>,
    },
    /// A relation was loaded.
    Relation { relation: Box<Relation>, rejects_len: u64, rejects: u64 },
    /// Relations were loaded together, each to its last row.
    Relations { relations: Vec<Relation> },
}

impl Step {
    /// Entries that were made, or could not be, and nothing else.
    pub fn entries(made: Vec<i32>, not_made: Vec<NotMade>) -> Self {
        Self::Entries { made, not_made, not_valid: Vec::new(), moved: None }
    }
}

/// Rows that were in the way of a unique index, and are in the rejects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    pub oid: u32,
    pub rows: u64,
    /// The file of rejects.
    pub file: String,
    pub rejects_len: u64,
    pub rejects: u64,
}

/// The folder of a restore, ours as long as this value lives.
pub struct RestoreDir {
    path: PathBuf,
    sync: bool,
    journal: File,
    end: Mutex<End>,
    _lock: File,
}

/// Where the records of the journal end, and what is made ready behind them.
#[derive(Default)]
struct End {
    len: u64,
    room: u64,
}

impl RestoreDir {
    /// Makes the folder, or takes an empty one; or, to go on, that of an earlier
    /// run, with the records that it has left.
    pub fn open(path: &Path, resume: bool, sync: bool) -> Result<(Self, Vec<Record>), OutputError> {
        let is_new = make_own(path)?;
        let opened = Self::take(path, resume, sync);
        if opened.is_err() && is_new {
            // What stopped us is the better error.
            let _ = fs::remove_dir(path);
        }
        opened
    }

    fn take(path: &Path, resume: bool, sync: bool) -> Result<(Self, Vec<Record>), OutputError> {
        let lock = File::open(path).map_err(OutputError::io("open directory", path))?;
        // Some network file systems have no locks: no reason not to restore.
        let locked = flock(&lock, FlockOperation::NonBlockingLockExclusive);
        if locked == Err(Errno::WOULDBLOCK) {
            return Err(OutputError::InUse { path: path.to_owned() });
        }
        let at = path.join(JOURNAL);
        if !resume {
            refuse_unless_empty(path, Some(JOURNAL))?;
        }
        let failed = |doing| OutputError::io(doing, &at);
        let journal = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&at)
            .map_err(failed("open file"))?;
        let mut records = Vec::new();
        let (len, _) =
            read(&journal, &mut |record| records.push(record)).map_err(failed("read file"))?;
        journal.set_len(len).map_err(failed("truncate file"))?;
        if sync {
            sync_directory(path)?;
        }
        let path = path.to_owned();
        let end = Mutex::new(End { len, room: len });
        Ok((Self { path, sync, journal, end, _lock: lock }, records))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a record. With `sync` it is durable then.
    pub fn append(&self, record: &Record, sync: bool) -> Result<(), OutputError> {
        let at = self.path.join(JOURNAL);
        let line = line(record).map_err(OutputError::io("write file", &at))?;
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_room(&mut end, line.len() as u64).map_err(OutputError::io("write file", &at))?;
        let write = |bytes: &[u8]| self.journal.write_all_at(bytes, end.len);
        torn_write("restore journal", &line, write)
            .and_then(|()| write(&line))
            .map_err(OutputError::io("write file", &at))?;
        end.len += line.len() as u64;
        if self.sync && sync {
            self.journal.sync_data().map_err(OutputError::io("sync file", &at))?;
        }
        // The target has not committed yet, or has.
        fault_point("restore journal is written");
        Ok(())
    }

    fn make_room(&self, end: &mut End, bytes: u64) -> io::Result<()> {
        if !self.sync || end.len + bytes <= end.room {
            return Ok(());
        }
        let zeros = vec![0; ROOM_BYTES];
        while end.len + bytes > end.room {
            self.journal.write_all_at(&zeros, end.room)?;
            end.room += zeros.len() as u64;
        }
        self.journal.sync_all()
    }

    /// Writes a record, and gives what makes it durable, to be run beside other
    /// work.
    pub fn append_ahead(
        &self,
        record: &Record,
    ) -> Result<impl FnOnce() -> Result<(), OutputError> + Send + use<>, OutputError> {
        self.append(record, false)?;
        let at = self.path.join(JOURNAL);
        let journal = self.journal.try_clone().map_err(OutputError::io("open file", &at))?;
        let sync = self.sync;
        Ok(move || match sync {
            true => journal.sync_data().map_err(OutputError::io("sync file", &at)),
            false => Ok(()),
        })
    }

    /// Writes the report, after the last record.
    pub fn report(&self, json: &str) -> Result<(), OutputError> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.path.join(JOURNAL);
        self.journal.set_len(end.len).map_err(OutputError::io("truncate file", &at))?;
        end.room = end.len;
        let (path, part) = (self.path.join(REPORT), self.path.join(format!("{REPORT}.part")));
        write_part(&part, json.as_bytes(), self.sync)?;
        fs::rename(&part, &path).map_err(OutputError::io("rename file", &path))
    }
}
