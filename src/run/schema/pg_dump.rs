//! The schema by `pg_dump --schema-only`: which program, and one run of it.

use super::Had;
use crate::archive::{Archive, BYTES_MAX};
use crate::output::DumpDir;
use crate::output::manifest::SchemaSource;
use crate::run::generation::Guest;
use crate::run::{Run, RunError};
use crate::server::session::ServerFacts;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// Where it writes, in the dump directory, until it is read.
pub(super) const WORK: &str = "schema/pg_dump.part";

/// Where packages put their programs.
const FOLDERS: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// So long it may take: the schema of 100,000 tables takes minutes.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// So long a program may take to say its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked at whether the run was stopped.
const POLL: Duration = Duration::from_millis(50);

/// So much of what it says on stderr is kept, in all and in one line.
const SAID_BYTES_MAX: u64 = 64 << 10;
const LINE_CHARS_MAX: usize = 1000;

/// Encodings in which the server converts nothing.
const NOT_CONVERTED: [&str; 2] = ["SQL_ASCII", "MULE_INTERNAL"];

/// A program, and what it says of its version.
struct Client {
    path: PathBuf,
    major: u32,
    version: String,
}

/// What became of a run of it.
enum Ended {
    Well { said: String },
    Badly { said: String },
    Stopped,
}

impl Run {
    /// The schema, or why there is none, and in which snapshot it was tried.
    pub(super) async fn ask_pg_dump(&self) -> Result<Result<Had, (String, u32)>, RunError> {
        let (number, _) = self.generations.now().await;
        let Some(dir) = &self.dir else { return Ok(Err(("nothing is kept".to_owned(), number))) };
        let server = self.generations.server().await;
        let client = match self.find_client(server.version / 10_000).await {
            Ok(client) => client,
            Err(reason) => return Ok(Err((reason, number))),
        };
        let mut reason = None;
        let mut number = number;
        for past_indexes in [false, true] {
            if past_indexes && !self.generations.is_current(number).await {
                break;
            }
            let guest = self.generations.guest(past_indexes).await;
            number = guest.number;
            match self.dump_schema(dir, &client, &guest, &server).await? {
                Ok(mut had) => {
                    if past_indexes && let Some(reason) = reason {
                        had.notes.push(format!("read with ignore_system_indexes: {reason}"));
                        had.is_damaged = true;
                    }
                    return Ok(Ok(had));
                }
                // The first is what people know.
                Err(why) => reason = reason.or(Some(why)),
            }
            if self.progress.stopped() {
                break;
            }
        }
        Ok(Err((reason.unwrap_or_default(), number)))
    }

    async fn find_client(&self, server: u32) -> Result<Client, String> {
        if let Some(path) = &self.options.schema.pg_dump {
            let client = version(path.clone()).await;
            let client = client.ok_or(format!("\"{}\" is no pg_dump", path.display()))?;
            return match client.major < server {
                true => Err(format!(
                    "\"{}\" is of PostgreSQL {}, older than the server's {server}",
                    path.display(),
                    client.major
                )),
                false => Ok(client),
            };
        }
        let mut newest: Option<Client> = None;
        for path in installed() {
            if let Some(client) = version(path).await
                && newest.as_ref().is_none_or(|known| client.major > known.major)
            {
                newest = Some(client);
            }
        }
        match newest {
            Some(client) if client.major >= server => Ok(client),
            Some(Client { major, .. }) => Err(format!(
                "the newest pg_dump that was found is of PostgreSQL {major}, older than the \
                 server's {server} (--pg-dump names another)"
            )),
            None => Err("no pg_dump was found (--pg-dump names one)".to_owned()),
        }
    }

    /// One run of it. The inner error is why it gave nothing.
    async fn dump_schema(
        &self,
        dir: &DumpDir,
        client: &Client,
        guest: &Guest,
        server: &ServerFacts,
    ) -> Result<Result<Had, String>, RunError> {
        let work = dir.fresh_folder(WORK)?;
        let ended = self.run_client(client, guest, server, &work).await;
        let read = match &ended {
            Ok(Ended::Well { .. }) => read_toc(&work.join("toc.dat")),
            _ => Err(String::new()),
        };
        dir.remove_folder(WORK)?;
        let archive = match (ended, read) {
            (Ok(Ended::Well { said }), Ok(archive)) => {
                if !said.is_empty() {
                    tracing::warn!("pg_dump: {said}");
                    self.warn(format!("pg_dump: {said}"));
                }
                archive
            }
            (Ok(Ended::Well { .. }), Err(reason)) => return Ok(Err(reason)),
            (Ok(Ended::Badly { said }), _) => return Ok(Err(said)),
            (Ok(Ended::Stopped), _) => return Ok(Err("the run was stopped".to_owned())),
            (Err(error), _) => {
                let path = client.path.display();
                return Ok(Err(format!("could not run \"{path}\": {error}")));
            }
        };
        Ok(Ok(Had {
            archive: Some(archive),
            source: SchemaSource::PgDump,
            client: Some(client.version.clone()),
            number: guest.number,
            ..Had::default()
        }))
    }

    async fn run_client(
        &self,
        client: &Client,
        guest: &Guest,
        server: &ServerFacts,
        work: &Path,
    ) -> std::io::Result<Ended> {
        let encoding = match NOT_CONVERTED.contains(&server.encoding.as_str()) {
            true => server.encoding.as_str(),
            false => "UTF8",
        };
        let mut command = Command::new(&client.path);
        command
            .args(["-Fd", "--schema-only", "--no-password", "--no-sync", "--compress=0"])
            .arg(format!("--encoding={encoding}"))
            .arg(format!("--snapshot={}", guest.snapshot))
            .arg("--file")
            .arg(work)
            .arg("--dbname")
            .arg(&guest.connection.conninfo)
            .args(self.selection())
            .envs(guest.connection.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let lock_ms = self.options.timeouts.lock_ms;
        if lock_ms > 0 {
            command.arg(format!("--lock-wait-timeout={lock_ms}"));
        }
        self.wait_for(command.spawn()?).await
    }

    /// What was chosen, in the words that it was chosen by.
    fn selection(&self) -> Vec<String> {
        let chosen = &self.options.selection;
        let lists = [
            ("schema", &chosen.schemas),
            ("exclude-schema", &chosen.not_schemas),
            ("table", &chosen.tables),
            ("exclude-table", &chosen.not_tables),
        ];
        let words = lists.into_iter().flat_map(|(name, patterns)| {
            patterns.iter().map(move |p| format!("--{name}={}", p.as_str()))
        });
        words.collect()
    }

    async fn wait_for(&self, mut child: Child) -> std::io::Result<Ended> {
        let mut said = Vec::new();
        let mut stderr = child.stderr.take();
        let begun = Instant::now();
        let speaking = async {
            if let Some(stderr) = &mut stderr {
                let _ = stderr.take(SAID_BYTES_MAX).read_to_end(&mut said).await;
                // What is more than that is read, lest it waits for us, and not kept.
                let _ = tokio::io::copy(stderr, &mut tokio::io::sink()).await;
            }
            child.wait().await
        };
        let stopped = async {
            while !self.progress.stopped() && begun.elapsed() < PATIENCE {
                tokio::time::sleep(POLL).await;
            }
        };
        let ended = tokio::select! {
            ended = speaking => Some(ended?),
            () = stopped => None,
        };
        let Some(status) = ended else {
            child.kill().await?;
            return Ok(match self.progress.stopped() {
                true => Ended::Stopped,
                false => Ended::Badly { said: format!("pg_dump did not end within {PATIENCE:?}") },
            });
        };
        let said = one_line(&said);
        Ok(match (status.success(), said.is_empty()) {
            (true, _) => Ended::Well { said },
            (false, false) => Ended::Badly { said },
            (false, true) => Ended::Badly { said: format!("pg_dump ended with {status}") },
        })
    }
}

/// Programs of that name: in PATH, and where packages put them.
fn installed() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> =
        std::env::split_paths(&path).map(|folder| folder.join("pg_dump")).collect();
    for (folder, prefix) in FOLDERS {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(entry.path().join("bin/pg_dump"));
            }
        }
    }
    found.retain(|path| path.is_file());
    found.sort();
    found.dedup();
    found
}

/// `pg_dump (PostgreSQL) 16.14 (Debian ...)`. None: it is no such program.
async fn version(path: PathBuf) -> Option<Client> {
    let mut command = Command::new(&path);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(VERSION_PATIENCE, command.output()).await.ok()?.ok()?.stdout;
    let said = String::from_utf8(said).ok()?;
    let version = said.strip_prefix("pg_dump (PostgreSQL) ")?.split_whitespace().next()?.to_owned();
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some(Client { path, major: digits.parse().ok()?, version })
}

fn read_toc(path: &Path) -> Result<Archive, String> {
    let failed = |e: std::io::Error| format!("could not read what pg_dump has written: {e}");
    if std::fs::metadata(path).map_err(failed)?.len() > BYTES_MAX {
        return Err("what pg_dump has written is too long".to_owned());
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    Archive::read(&bytes).map_err(|e| format!("could not read what pg_dump has written: {e}"))
}

/// All lines as one, without the name of the program.
fn one_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines = said.lines().map(|line| line.strip_prefix("pg_dump: ").unwrap_or(line).trim());
    let line = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    match line.char_indices().nth(LINE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
