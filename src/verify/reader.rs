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
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// What the program is called with to be such a process, before the directory. No
/// command is called so.
const ARGUMENT: &str = "--reader-of-files";

/// So many may hang before nothing more is read of the disk.
const HANGING_MAX: u32 = 8;

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
            let mut seen = Seen { settled: task.settled, ..Seen::default() };
            let next = local.look(&task, range, layout, &mut seen).map_err(words)?;
            serde_json::to_value((seen, next))
        }
    };
    answer.map_err(|e| e.to_string())
}

fn words(error: io::Error) -> String {
    error.to_string()
}

/// A data directory on this host, of which any number of processes can read.
#[derive(Clone, Debug)]
pub(super) struct DataDirectory {
    pub dir: PathBuf,
    /// How long a disk may give nothing.
    patience: Option<Duration>,
    hanging: Arc<AtomicU32>,
}

impl DataDirectory {
    pub(super) fn new(dir: &Path, patience: Option<Duration>) -> Self {
        Self { dir: dir.to_owned(), patience, hanging: Arc::default() }
    }

    pub(super) fn reader(&self) -> Result<Reader, String> {
        let hanging = self.hanging.load(Relaxed);
        if hanging >= HANGING_MAX {
            return Err(format!(
                "the disk did not answer {hanging} times: nothing more is read of it"
            ));
        }
        // It is there also when the program was replaced by another since it began.
        let own = Path::new("/proc/self/exe");
        let own =
            if own.exists() { own.to_owned() } else { std::env::current_exe().map_err(words)? };
        let mut child = Command::new(own)
            .arg(ARGUMENT)
            .arg(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // What is typed to stop us is not for it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("could not start a process that reads files: {e}"))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a process that reads files has no pipes".to_owned());
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

    pub(super) async fn file(&mut self, name: &str) -> Result<Vec<u8>, String> {
        self.ask(&Request::File(name.to_owned())).await
    }

    pub(super) async fn control(&mut self) -> Result<Control, String> {
        self.ask(&Request::Control).await
    }

    pub(super) async fn version(&mut self) -> Result<u32, String> {
        self.ask(&Request::Version).await
    }

    pub(super) async fn all_directories(&mut self, major: u32) -> Result<Vec<String>, String> {
        self.ask(&Request::AllDirectories { major }).await
    }

    pub(super) async fn directories(
        &mut self,
        major: u32,
        database: u32,
    ) -> Result<Vec<String>, String> {
        self.ask(&Request::Directories { major, database }).await
    }

    pub(super) async fn forks(&mut self, directory: &str) -> Result<Vec<ForkFile>, String> {
        self.ask(&Request::Forks { directory: directory.to_owned() }).await
    }

    /// As [`Local::look`]; what was seen of this range, and the block behind it.
    pub(super) async fn look(
        &mut self,
        task: &Task,
        range: (u32, u32),
        layout: Layout,
    ) -> Result<(Seen, u32), String> {
        self.ask(&Request::Look { task: task.clone(), range, layout }).await
    }

    async fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, String> {
        // Until it has answered: who drops this has lost it.
        self.is_lost = true;
        let line = serde_json::to_string(request).map_err(|e| e.to_string())? + "\n";
        let asked = async {
            self.to.write_all(line.as_bytes()).await?;
            self.from.next_line().await
        };
        let answer = match self.of.patience {
            Some(patience) => tokio::time::timeout(patience, asked).await,
            None => Ok(asked.await),
        };
        let Ok(answer) = answer else {
            self.of.hanging.fetch_add(1, Relaxed);
            let patience = self.of.patience.unwrap_or_default();
            return Err(format!("the disk did not answer for {patience:?}"));
        };
        let answer = answer.ok().flatten().ok_or("the process that reads files has ended")?;
        self.is_lost = false;
        serde_json::from_str::<Result<T, String>>(&answer).map_err(|e| e.to_string())?
    }
}
