//! The data directory, where we run on the server's own host: files are read
//! without the server, at the speed of `pg_checksums`.

use super::VerifyError;
use super::segment::{Seen, Task};
use crate::page::control::Control;
use crate::progress::Throttle;
use crate::server::files::{ForkFile, of_directory, segment_path};
use crate::server::session::ServerFacts;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// So many bytes are read at once: they are still in the processor's first cache when
/// they are looked at, which makes this twice as fast as a large buffer.
const PIECE_BYTES: usize = 32 << 10;

/// A data directory.
#[derive(Clone, Debug)]
pub(super) struct Local {
    dir: PathBuf,
    control: Control,
}

impl Local {
    /// Of whatever cluster.
    pub(super) fn open(dir: &Path) -> Result<Self, VerifyError> {
        let wrong = |why: String| wrong(dir, &why);
        let control = std::fs::read(dir.join("global/pg_control"));
        let control =
            control.map_err(|e| wrong(format!("could not read global/pg_control: {e}")))?;
        let control = Control::parse(&control)
            .ok_or_else(|| wrong("global/pg_control is damaged".to_owned()))?;
        Ok(Self { dir: dir.to_owned(), control })
    }

    /// It must be of the cluster that we are connected to: else names would be
    /// told of other files.
    pub(super) fn open_of(dir: &Path, server: &ServerFacts) -> Result<Self, VerifyError> {
        let local = Self::open(dir)?;
        let own = local.control.system_identifier.to_string();
        match &server.system_identifier {
            Some(server) if *server == own => Ok(local),
            None => Err(wrong(dir, "the server does not say which cluster it is")),
            Some(server) => {
                let why = format!("it is of another cluster ({own}) than the server ({server})");
                Err(wrong(dir, &why))
            }
        }
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// What the directory tells of its server, without it.
    pub(super) fn facts(&self) -> Result<ServerFacts, VerifyError> {
        let version = std::fs::read_to_string(self.dir.join("PG_VERSION"))
            .map_err(|e| wrong(&self.dir, &format!("could not read PG_VERSION: {e}")))?;
        let version = version.trim();
        let major: u32 = version
            .parse()
            .map_err(|_| wrong(&self.dir, "PG_VERSION is not that of PostgreSQL 10 or later"))?;
        Ok(ServerFacts {
            version: major.saturating_mul(10_000),
            version_text: version.to_owned(),
            block_size: self.control.block_size,
            segment_blocks: self.control.segment_blocks,
            data_checksums: self.control.data_checksums,
            system_identifier: Some(self.control.system_identifier.to_string()),
            ..ServerFacts::default()
        })
    }

    /// Directories that have relations of any database.
    pub(super) fn all_directories(&self, version: u32) -> io::Result<Vec<String>> {
        let mut within = vec!["base".to_owned()];
        let prefix = format!("PG_{}_", version / 10_000);
        for tablespace in names(&self.dir.join("pg_tblspc"))? {
            let own = names(&self.dir.join("pg_tblspc").join(&tablespace))?;
            let own = own.into_iter().filter(|name| name.starts_with(&prefix));
            within.extend(own.map(|own| format!("pg_tblspc/{tablespace}/{own}")));
        }
        let mut directories = vec!["global".to_owned()];
        for folder in within {
            // pgsql_tmp is no database.
            let databases = names(&self.dir.join(&folder))?.into_iter();
            let databases = databases.filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
            directories.extend(databases.map(|database| format!("{folder}/{database}")));
        }
        Ok(directories)
    }

    /// Directories that have relations of the database, as the server would say.
    pub(super) fn directories(
        &self,
        server: &ServerFacts,
        database: u32,
    ) -> io::Result<Vec<String>> {
        let mut directories = vec!["global".to_owned(), format!("base/{database}")];
        let version = format!("PG_{}_", server.version / 10_000);
        for tablespace in names(&self.dir.join("pg_tblspc"))? {
            let within = format!("pg_tblspc/{tablespace}");
            let own = names(&self.dir.join(&within))?;
            let own = own.into_iter().filter(|name| name.starts_with(&version));
            directories.extend(own.map(|own| format!("{within}/{own}/{database}")));
        }
        Ok(directories)
    }

    pub(super) fn forks(&self, directory: &str) -> io::Result<Vec<ForkFile>> {
        let folder = self.dir.join(directory);
        let mut files = Vec::new();
        for name in names(&folder)? {
            match std::fs::metadata(folder.join(&name)) {
                Ok(metadata) => files.push((name, metadata.len())),
                // It was removed meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(of_directory(directory, files))
    }

    /// Looks at pages of a segment. A page that cannot be read is damaged.
    pub(super) fn look(
        &self,
        task: &Task,
        server: &ServerFacts,
        throttle: &Throttle,
    ) -> io::Result<Seen> {
        let mut seen = Seen { settled: task.settled, ..Seen::default() };
        let size = server.block_size.max(1) as usize;
        let mut buffer = vec![0; PIECE_BYTES.max(size) / size * size];
        for &(first, count) in &task.ranges {
            let segment = first / server.segment_blocks.max(1);
            let file = match File::open(self.dir.join(segment_path(&task.path, segment))) {
                Ok(file) => file,
                // It was dropped meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let (mut next, end) = (first, first.saturating_add(count));
            while next < end {
                let wanted = ((end - next) as usize * size).min(buffer.len());
                let at = u64::from(next % server.segment_blocks.max(1)) * size as u64;
                match fill(&file, &mut buffer[..wanted], at) {
                    Ok(0) => break,
                    Ok(len) => {
                        let pages = buffer[..len].chunks_exact(size);
                        let before = next;
                        for (block, page) in (before..end).zip(pages) {
                            next = block + 1;
                            seen.page(page, block, task, server.data_checksums);
                        }
                        if next == before {
                            break;
                        }
                        std::thread::sleep(throttle.debt(len));
                    }
                    Err(_) => {
                        next = self.one_by_one((&file, next, wanted), task, server, &mut seen);
                    }
                }
            }
        }
        seen.judge_the_beginning();
        Ok(seen)
    }

    /// Reads pages of a piece that could not be read at once. Returns the block
    /// behind it.
    fn one_by_one(
        &self,
        (file, first, bytes): (&File, u32, usize),
        task: &Task,
        server: &ServerFacts,
        seen: &mut Seen,
    ) -> u32 {
        let size = server.block_size.max(1) as usize;
        let mut page = vec![0; size];
        let end = first.saturating_add(u32::try_from(bytes / size).unwrap_or(u32::MAX));
        for block in first..end {
            let at = u64::from(block % server.segment_blocks.max(1)) * size as u64;
            match fill(file, &mut page, at) {
                Ok(len) if len == size => seen.page(&page, block, task, server.data_checksums),
                Ok(_) => {}
                Err(e) => seen.unreadable(block, format!("the page could not be read: {e}")),
            }
        }
        end
    }
}

fn wrong(dir: &Path, why: &str) -> VerifyError {
    VerifyError::DataDirectory(format!("data directory \"{}\": {why}", dir.display()))
}

/// As many bytes as there are, up to those that are wanted.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], at + len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}

/// What is in a directory; nothing, if it is not there.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}
