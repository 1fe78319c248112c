//! The data directory, where we run on the server's own host: files are read
//! without the server, at the speed of `pg_checksums`. Any of this may hang, if the
//! disk does: a process of its own does it ([`super::reader`]).

use super::segment::{Seen, Task};
use crate::page::control::Control;
use crate::server::files::{ForkFile, of_directory, segment_path};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// So many bytes are read at once: they are still in the processor's first cache when
/// they are looked at, which makes this twice as fast as a large buffer.
const PIECE_BYTES: usize = 32 << 10;

/// A data directory.
pub(super) struct Local {
    dir: PathBuf,
}

/// How the pages of a cluster lie in their files.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Layout {
    pub block_size: u32,
    /// Blocks in one file of a relation.
    pub segment_blocks: u32,
    pub data_checksums: bool,
}

impl Local {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(super) fn control(&self) -> Result<Control, String> {
        let control = std::fs::read(self.dir.join("global/pg_control"))
            .map_err(|e| format!("could not read global/pg_control: {e}"))?;
        Control::parse(&control).ok_or_else(|| "global/pg_control is damaged".to_owned())
    }

    /// The major version of the server that made it.
    pub(super) fn version(&self) -> Result<u32, String> {
        let version = std::fs::read_to_string(self.dir.join("PG_VERSION"))
            .map_err(|e| format!("could not read PG_VERSION: {e}"))?;
        let major = version.trim().parse();
        major.map_err(|_| "PG_VERSION is not that of PostgreSQL 10 or later".to_owned())
    }

    pub(super) fn file(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.dir.join(name))
    }

    /// Directories that have relations of any database.
    pub(super) fn all_directories(&self, major: u32) -> io::Result<Vec<String>> {
        let mut directories = vec!["global".to_owned()];
        for folder in ["base".to_owned()].into_iter().chain(self.tablespaces(major)?) {
            // pgsql_tmp is no database.
            let databases = names(&self.dir.join(&folder))?.into_iter();
            let databases = databases.filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
            directories.extend(databases.map(|database| format!("{folder}/{database}")));
        }
        Ok(directories)
    }

    /// Directories that have relations of the database, as the server would say.
    pub(super) fn directories(&self, major: u32, database: u32) -> io::Result<Vec<String>> {
        let tablespaces = self.tablespaces(major)?.into_iter();
        let within = ["base".to_owned()].into_iter().chain(tablespaces);
        let directories = within.map(|folder| format!("{folder}/{database}"));
        Ok(["global".to_owned()].into_iter().chain(directories).collect())
    }

    /// The directories of tablespaces that are of this version. The server makes one in
    /// each: where none is, the tablespace is not there, or not here.
    fn tablespaces(&self, major: u32) -> io::Result<Vec<String>> {
        let version = format!("PG_{major}_");
        let mut directories = Vec::new();
        for tablespace in names(&self.dir.join("pg_tblspc"))? {
            let within = format!("pg_tblspc/{tablespace}");
            let own = names(&self.dir.join(&within))?;
            let mut own = own.into_iter().filter(|name| name.starts_with(&version)).peekable();
            if own.peek().is_none() {
                return Err(io::Error::other(format!("{within} has no directory {version}*")));
            }
            directories.extend(own.map(|own| format!("{within}/{own}")));
        }
        Ok(directories)
    }

    pub(super) fn forks(&self, directory: &str) -> io::Result<Vec<ForkFile>> {
        let folder = self.dir.join(directory);
        let mut files = Vec::new();
        for name in names(&folder)? {
            match std::fs::metadata(folder.join(&name)) {
                Ok(metadata) => files.push((name, metadata.len())),
                Err(e) if is_gone(&e, &folder.join(&name)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(of_directory(directory, files))
    }

    /// Looks at pages of one segment, from a block on, up to another or behind a piece
    /// that cannot be read at once: of that each page is read by itself, and one that
    /// cannot be is damaged. Returns the block behind what was looked at.
    pub(super) fn look(
        &self,
        task: &Task,
        (from, end): (u32, u32),
        layout: Layout,
        seen: &mut Seen,
    ) -> io::Result<u32> {
        let size = layout.block_size.max(1) as usize;
        let segment = from / layout.segment_blocks.max(1);
        let path = self.dir.join(segment_path(&task.path, segment));
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if is_gone(&e, &path) => return Ok(end),
            Err(e) => return Err(e),
        };
        let at = |block: u32| u64::from(block % layout.segment_blocks.max(1)) * size as u64;
        let mut buffer = vec![0; PIECE_BYTES.max(size) / size * size];
        let mut next = from;
        while next < end {
            let wanted = ((end - next) as usize * size).min(buffer.len());
            let Ok(len) = fill(&file, &mut buffer[..wanted], at(next)) else {
                let behind = next + u32::try_from(wanted / size).unwrap_or(u32::MAX);
                for block in next..behind {
                    // A disk takes long to say that it cannot: one such page for an
                    // answer.
                    let page = &mut buffer[..size];
                    match fill(&file, page, at(block)) {
                        Ok(len) if len == size => {
                            seen.page(page, block, task, layout.data_checksums);
                        }
                        Ok(_) => {}
                        Err(e) => {
                            seen.unreadable(block, format!("the page could not be read: {e}"));
                            return Ok(block + 1);
                        }
                    }
                }
                return Ok(behind);
            };
            let before = next;
            for (block, page) in (before..end).zip(buffer[..len].chunks_exact(size)) {
                next = block + 1;
                seen.page(page, block, task, layout.data_checksums);
            }
            if next == before {
                // The file ends here.
                return Ok(end);
            }
        }
        Ok(next)
    }
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

/// Whether it was dropped meanwhile. Where a link is that leads to nothing, something is
/// not mounted.
fn is_gone(error: &io::Error, path: &Path) -> bool {
    error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err()
}

/// What is in a directory; nothing, if it is not there.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if is_gone(&e, directory) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tablespace_that_is_not_mounted_here_is_no_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, elsewhere) = (folder.path().join("data"), folder.path().join("elsewhere"));
        let link = dir.join("pg_tblspc/16400");
        std::fs::create_dir_all(dir.join("pg_tblspc")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        let local = Local::new(&dir);
        assert!(local.directories(15, 5).is_err() && local.all_directories(15).is_err());
        std::fs::create_dir(&elsewhere).unwrap();
        let said = local.directories(15, 5).unwrap_err().to_string();
        assert!(said.contains("pg_tblspc/16400 has no directory PG_15_"), "{said}");
        std::fs::create_dir_all(elsewhere.join("PG_15_202209061/5")).unwrap();
        let own = "pg_tblspc/16400/PG_15_202209061/5";
        assert_eq!(local.directories(15, 5).unwrap(), ["global", "base/5", own]);
        assert_eq!(local.all_directories(15).unwrap(), ["global", own]);
        std::os::unix::fs::symlink("/nowhere/7", dir.join(own).join("7")).unwrap();
        assert!(local.forks(own).is_err());
        assert!(local.forks("base/5").unwrap().is_empty());
    }
}
