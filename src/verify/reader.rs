//! A process of our own that reads files on this host. A disk may not answer, and then
//! nobody can end what waits for it, not even by SIGKILL: so we do not wait ourselves,
//! and leave that process alone.
//!
//! It is this program once more. Each line that it is sent is a [`Request`], each line
//! that it sends the answer: what was asked for, or what went wrong.

use super::local::{Layout, Local};
use super::segment::{Seen, Task};
use crate::page::control::Control;
use crate::server::files::ForkFile;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// What the program is called with to be such a process, before the directory. No
/// command is called so.
const ARGUMENT: &str = "--reader-of-files";

/// So many files of a tablespace may hang before nothing more is read of it.
const HANGING_MAX: usize = 8;

/// What is asked of a data directory.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    File(String),
    Control,
    Version,
    AllDirectories { major: u32 },
    Directories { major: u32, database: u32 },
    Forks { directory: String },
    Look { task: Task, range: (u32, u32), layout: Layout },
}

/// The directory that this process is to read files of, if it is such a process.
pub fn directory_to_read() -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    arguments.next().filter(|first| first == ARGUMENT)?;
    arguments.next().map(PathBuf::from)
}

/// What such a process does, until nobody asks any more.
pub fn read_for_others(dir: &Path, requests: impl BufRead, mut answers: impl Write) {
    let local = Local::new(dir);
    for line in requests.lines() {
        let answered = line.and_then(|line| {
            let request = serde_json::from_str(&line).map_err(|e| e.to_string());
            let answer = request.and_then(|request| answer(&local, request));
            writeln!(answers, "{}", serde_json::to_string(&answer)?)?;
            answers.flush()
        });
        if answered.is_err() {
            break;
        }
    }
}

fn answer(local: &Local, request: Request) -> Result<serde_json::Value, String> {
    let answer = match request {
        Request::File(name) => serde_json::to_value(local.file(&name).map_err(words)?),
        Request::Control => serde_json::to_value(local.control()?),
        Request::Version => serde_json::to_value(local.version()?),
        Request::AllDirectories { major } => {
            serde_json::to_value(local.all_directories(major).map_err(words)?)
        }
        Request::Directories { major, database } => {
            serde_json::to_value(local.directories(major, database).map_err(words)?)
        }
        Request::Forks { directory } => {
            serde_json::to_value(local.forks(&directory).map_err(words)?)
        }
        Request::Look { task, range, layout } => {
            let mut seen = Seen::of(&task);
            let next = local.look(&task, range, layout, &mut seen).map_err(words)?;
            serde_json::to_value((seen, next))
        }
    };
    answer.map_err(|e| e.to_string())
}

fn words(error: io::Error) -> String {
    error.to_string()
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReaderError {
    /// What is wrong with what was asked for.
    #[error("{0}")]
    Said(String),
    #[error("the disk did not answer for {0:?}")]
    Hung(Duration),
    /// The process, or it could not be started.
    #[error("{0}")]
    Ended(String),
}

/// Files that a disk has not given, for all of a run.
#[derive(Debug, Default)]
pub struct Hanging(Mutex<BTreeSet<String>>);

impl Hanging {
    fn locked(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a file is in, that may be on a disk of its own.
fn tablespace(path: &str) -> &str {
    match path.strip_prefix("pg_tblspc/").and_then(|rest| rest.find('/')) {
        Some(end) => &path[..end + "pg_tblspc/".len()],
        None => "",
    }
}

/// A data directory on this host, of which any number of processes can read.
#[derive(Clone, Debug)]
pub(super) struct DataDirectory {
    pub dir: PathBuf,
    /// How long a disk may give nothing.
    patience: Option<Duration>,
    hanging: Arc<Hanging>,
}

impl DataDirectory {
    pub(super) fn new(dir: &Path, patience: Option<Duration>, hanging: &Arc<Hanging>) -> Self {
        Self { dir: dir.to_owned(), patience, hanging: hanging.clone() }
    }

    /// The disk did not give this file.
    pub(super) fn hangs_for(&self, path: &str) {
        self.hanging.locked().insert(path.to_owned());
    }

    /// `Err`: nothing more is read of this file, and why.
    pub(super) fn answers_for(&self, path: &str) -> Result<(), String> {
        let hanging = self.hanging.locked();
        if hanging.contains(path) {
            return Err("the disk did not answer for another part of it".to_owned());
        }
        let own = tablespace(path);
        match hanging.iter().filter(|other| tablespace(other) == own).count() {
            HANGING_MAX.. => Err(format!(
                "the disk did not answer for {HANGING_MAX} files: nothing more is read of it"
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn reader(&self) -> Result<Reader, ReaderError> {
        // It is there also when the program was replaced by another since it began.
        let own = Path::new("/proc/self/exe");
        let own = if own.exists() { Ok(own.to_owned()) } else { std::env::current_exe() };
        let ended = |e: io::Error| {
            ReaderError::Ended(format!("could not start a process that reads files: {e}"))
        };
        let mut child = Command::new(own.map_err(ended)?)
            .arg(ARGUMENT)
            .arg(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // What is typed to stop us is not for it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(ended)?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(ReaderError::Ended("a process that reads files has no pipes".to_owned()));
        };
        let from = BufReader::new(from).lines();
        Ok(Reader { of: self.clone(), _child: child, to, from, is_lost: false })
    }
}

/// One such process; it ends with this.
pub(super) struct Reader {
    of: DataDirectory,
    _child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
    is_lost: bool,
}

impl Reader {
    /// Whether nothing more can be asked of it.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    pub(super) async fn file(&mut self, name: &str) -> Result<Vec<u8>, ReaderError> {
        self.ask(&Request::File(name.to_owned())).await
    }

    pub(super) async fn control(&mut self) -> Result<Control, ReaderError> {
        self.ask(&Request::Control).await
    }

    pub(super) async fn version(&mut self) -> Result<u32, ReaderError> {
        self.ask(&Request::Version).await
    }

    pub(super) async fn all_directories(&mut self, major: u32) -> Result<Vec<String>, ReaderError> {
        self.ask(&Request::AllDirectories { major }).await
    }

    pub(super) async fn directories(
        &mut self,
        major: u32,
        database: u32,
    ) -> Result<Vec<String>, ReaderError> {
        self.ask(&Request::Directories { major, database }).await
    }

    pub(super) async fn forks(&mut self, directory: &str) -> Result<Vec<ForkFile>, ReaderError> {
        self.ask(&Request::Forks { directory: directory.to_owned() }).await
    }

    /// As [`Local::look`]; what was seen of this range, and the block behind it.
    pub(super) async fn look(
        &mut self,
        task: &Task,
        range: (u32, u32),
        layout: Layout,
    ) -> Result<(Seen, u32), ReaderError> {
        self.ask(&Request::Look { task: task.clone(), range, layout }).await
    }

    async fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ReaderError> {
        // Until it has answered: who drops this has lost it.
        self.is_lost = true;
        let line = serde_json::to_string(request).map_err(|e| ReaderError::Said(e.to_string()))?;
        let asked = async {
            self.to.write_all(line.as_bytes()).await?;
            self.to.write_all(b"\n").await?;
            self.from.next_line().await
        };
        let answer = match self.of.patience {
            Some(patience) => tokio::time::timeout(patience, asked)
                .await
                .map_err(|_| ReaderError::Hung(patience))?,
            None => asked.await,
        };
        let answer = answer.ok().flatten().and_then(|line| serde_json::from_str(&line).ok());
        let answer: Result<T, String> = answer.ok_or_else(|| {
            ReaderError::Ended("the process that reads files has ended".to_owned())
        })?;
        self.is_lost = false;
        answer.map_err(ReaderError::Said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_hangs_is_not_read_again_and_the_eighth_is_the_last_of_its_tablespace() {
        let data = DataDirectory::new(Path::new("/nowhere"), None, &Arc::default());
        data.hangs_for("pg_tblspc/5/PG_15/1/2");
        assert!(data.answers_for("pg_tblspc/5/PG_15/1/2").is_err());
        for number in 0..7 {
            assert!(data.answers_for("pg_tblspc/5/PG_15/1/9").is_ok(), "{number}");
            data.hangs_for(&format!("pg_tblspc/5/PG_15/3/{number}"));
        }
        assert!(data.answers_for("pg_tblspc/5/PG_15/1/9").is_err());
        for other in ["pg_tblspc/6/PG_15/1/9", "base/1/9", "global/1"] {
            assert!(data.answers_for(other).is_ok(), "{other}");
        }
    }

    #[test]
    fn what_is_no_request_is_answered_and_the_next_is_too() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("PG_VERSION"), "18\n").unwrap();
        let mut answers = Vec::new();
        read_for_others(folder.path(), &b"{\n\"Version\"\n"[..], &mut answers);
        let answers: Vec<serde_json::Value> = String::from_utf8(answers)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(answers[0].get("Err").is_some(), "{answers:?}");
        assert_eq!(answers[1]["Ok"], 18);
    }
}
