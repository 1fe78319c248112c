//! The dump directory: made, locked, and written to in whole files.
//!
//! It relies on `flock` to keep two runs apart, and on `rename` within a folder
//! to show a file under its final name only when it is complete.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::OutputError;
use super::fault_point::{fault_point, torn_write};
use super::journal::JOURNAL;
use super::space::Space;

/// The folders of every dump; others are made when something goes into them.
const FOLDERS: [&str; 3] = ["data", "errors", "maps"];

/// A dump directory that is ours as long as this value lives.
#[derive(Debug)]
pub struct DumpDir {
    path: PathBuf,
    sync: bool,
    resumed: bool,
    space: Arc<Space>,
    /// Open for the lock on it.
    _lock: File,
}

impl DumpDir {
    /// Makes a new dump directory, or takes an empty one. When it refuses, all
    /// is as it was before.
    pub fn create(path: &Path, sync: bool) -> Result<Self, OutputError> {
        let is_new = make(path)?;
        let dir = Self::lock(path, sync, false).and_then(|dir| {
            refuse_unless_empty(path, Some(JOURNAL))?;
            dir.lay_out(is_new)?;
            Ok(dir)
        });
        if dir.is_err() && is_new {
            // What stopped us is the better error.
            let _ = fs::remove_dir(path);
        }
        dir
    }

    /// Takes the directory of an earlier run, to go on with it.
    pub fn open(path: &Path, sync: bool) -> Result<Self, OutputError> {
        let dir = Self::lock(path, sync, true)?;
        dir.try_lay_out(false)?;
        Ok(dir)
    }

    /// Whether an earlier run has left this directory: there is a journal, or
    /// nothing but what comes before one.
    pub fn is_of_earlier_run(path: &Path) -> Result<bool, OutputError> {
        let failed = || OutputError::io("read directory", path);
        let mut is_laid_out = false;
        for entry in fs::read_dir(path).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            if name == JOURNAL {
                return Ok(true);
            }
            let folder = path.join(&name);
            let is_ours = FOLDERS.iter().any(|f| name == *f) && folder.is_dir();
            if !is_ours || fs::read_dir(&folder).map_err(failed())?.next().is_some() {
                is_laid_out = false;
                break;
            }
            is_laid_out = true;
        }
        Ok(is_laid_out || path.join(JOURNAL).is_file())
    }

    /// Rows are taken in only as long as so many bytes stay free; 0: always.
    pub fn keep_free(self, min_free: u64) -> Self {
        let space = Arc::new(Space::new(&self.path, min_free));
        Self { space, ..self }
    }

    pub(super) fn space(&self) -> Arc<Space> {
        self.space.clone()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The length of a file; none if there is no such file.
    pub fn len(&self, relative: &str) -> Result<Option<u64>, OutputError> {
        let path = self.path.join(relative);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(OutputError::io("read file", &path)(error)),
        }
    }

    /// Gives a file another name in its folder.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), OutputError> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        fault_point("rename file");
        fs::rename(&from, &to).map_err(OutputError::io("rename file", &from))
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, relative: &str) -> Result<(), OutputError> {
        let path = self.path.join(relative);
        fault_point("remove file");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(OutputError::io("remove file", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Makes a folder, unless it is there.
    pub(super) fn make_folder(&self, relative: &str) -> Result<(), OutputError> {
        make_folder(&self.path.join(relative))
    }

    /// An empty folder for what another program writes; `relative` has a parent,
    /// which is made as well.
    pub fn fresh_folder(&self, relative: &str) -> Result<PathBuf, OutputError> {
        let path = self.path.join(relative);
        make_folder(parent(&path))?;
        self.remove_folder(relative)?;
        make_folder(&path)?;
        Ok(path)
    }

    /// Removes a folder with all that is in it, if it is there.
    pub fn remove_folder(&self, relative: &str) -> Result<(), OutputError> {
        let path = self.path.join(relative);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(OutputError::io("remove directory", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Files in a folder that are not finished.
    pub fn parts(&self, folder: &str) -> Result<Vec<String>, OutputError> {
        self.files(folder, ".part")
    }

    /// Files in a folder whose names end like this.
    pub fn files(&self, folder: &str, suffix: &str) -> Result<Vec<String>, OutputError> {
        let path = self.path.join(folder);
        let failed = || OutputError::io("read directory", &path);
        let mut files = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            if let Some(name) = name.to_str().filter(|n| n.ends_with(suffix)) {
                files.push(format!("{folder}/{name}"));
            }
        }
        Ok(files)
    }

    /// Whether files are to be synced (not with `--no-sync`).
    pub fn sync(&self) -> bool {
        self.sync
    }

    /// Whether files of an earlier run may lie here.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Writes a whole file, and its folder if need be. Whoever looks sees the
    /// former contents or all of the new.
    pub async fn write_atomic(&self, relative: &str, bytes: Vec<u8>) -> Result<(), OutputError> {
        let (path, sync) = (self.path.join(relative), self.sync);
        let part = self.path.join(format!("{relative}.part"));
        let writing = tokio::task::spawn_blocking(move || write_atomic(&path, &part, &bytes, sync));
        match writing.await {
            Ok(result) => result,
            Err(error) => Err(OutputError::io("write file", &self.path.join(relative))(
                io::Error::other(error),
            )),
        }
    }

    /// Makes the names of all finished files durable, once for all: a sync of
    /// the folder after every file costs as much as the file's own.
    pub async fn sync_names(&self) -> Result<(), OutputError> {
        if !self.sync {
            return Ok(());
        }
        let folders = FOLDERS.map(|folder| self.path.join(folder));
        let syncing = tokio::task::spawn_blocking(move || {
            folders.iter().filter(|f| f.is_dir()).try_for_each(|f| sync_directory(f))
        });
        match syncing.await {
            Ok(result) => result,
            Err(error) => {
                Err(OutputError::io("sync directory", &self.path)(io::Error::other(error)))
            }
        }
    }

    fn lock(path: &Path, sync: bool, resumed: bool) -> Result<Self, OutputError> {
        let lock = File::open(path).map_err(OutputError::io("open directory", path))?;
        let metadata = lock.metadata().map_err(OutputError::io("open directory", path))?;
        if !metadata.is_dir() {
            return Err(OutputError::NotADirectory { path: path.to_owned() });
        }
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(OutputError::InUse { path: path.to_owned() }),
            // Some network file systems have no locks: no reason not to dump there.
            Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => {
                tracing::warn!("could not lock directory \"{}\"", path.display());
            }
            Err(errno) => return Err(OutputError::io("lock directory", path)(errno.into())),
        }
        let space = Arc::new(Space::new(path, 0));
        Ok(Self { path: path.to_owned(), sync, resumed, space, _lock: lock })
    }

    fn lay_out(&self, is_new: bool) -> Result<(), OutputError> {
        let result = self.try_lay_out(is_new);
        if result.is_err() {
            for folder in FOLDERS {
                let _ = fs::remove_dir(self.path.join(folder));
            }
        }
        result
    }

    fn try_lay_out(&self, is_new: bool) -> Result<(), OutputError> {
        for folder in FOLDERS {
            make_folder(&self.path.join(folder))?;
        }
        // An existing directory may be open to others, and a new one may lack
        // rights that the umask took away.
        fs::set_permissions(&self.path, Permissions::from_mode(0o700))
            .map_err(OutputError::io("change the mode of directory", &self.path))?;
        if self.sync {
            sync_directory(&self.path)?;
            if is_new {
                sync_directory(parent(&self.path))?;
            }
        }
        Ok(())
    }
}

/// Syncs the entries of a directory, so that a rename in it is durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), OutputError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(OutputError::io("sync directory", path))
}

/// Makes a directory of one's own. False: there is one already.
pub(super) fn make_own(path: &Path) -> Result<bool, OutputError> {
    match make(path)? {
        false if !path.is_dir() => Err(OutputError::NotADirectory { path: path.to_owned() }),
        is_new => Ok(is_new),
    }
}

/// `journal`: the file by which an earlier run is known, if there can be one.
pub(super) fn refuse_unless_empty(path: &Path, journal: Option<&str>) -> Result<(), OutputError> {
    let failed = || OutputError::io("read directory", path);
    let mut found = None;
    for entry in fs::read_dir(path).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        found = Some(found.map_or(name.clone(), |least: std::ffi::OsString| least.min(name)));
    }
    let Some(name) = found else { return Ok(()) };
    let (path, found) = (path.to_owned(), name.to_string_lossy().into_owned());
    match journal.is_some_and(|journal| path.join(journal).is_file()) {
        true => Err(OutputError::HasRun { path }),
        false => Err(OutputError::NotEmpty { path, found }),
    }
}

/// Makes a directory. False: there is something of that name already.
fn make(path: &Path) -> Result<bool, OutputError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !parent(path).exists() => {
            let (path, parent) = (path.to_owned(), parent(path).to_owned());
            Err(OutputError::ParentMissing { path, parent })
        }
        Err(error) => Err(OutputError::io("create directory", path)(error)),
    }
}

fn make_folder(path: &Path) -> Result<(), OutputError> {
    make(path).map(|_is_new| ())
}

pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

fn write_atomic(path: &Path, part: &Path, bytes: &[u8], sync: bool) -> Result<(), OutputError> {
    write_part(part, bytes, sync)?;
    fault_point("rename file");
    if let Err(error) = fs::rename(part, path).map_err(OutputError::io("rename file", path)) {
        let _ = fs::remove_file(part);
        return Err(error);
    }
    if sync { sync_directory(parent(path)) } else { Ok(()) }
}

/// Writes a file that has not its final name yet, and its folder if need be. Of
/// one that could not be written nothing is left.
pub(super) fn write_part(part: &Path, bytes: &[u8], sync: bool) -> Result<(), OutputError> {
    let folder = parent(part);
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o600);
    let mut file = match open.open(part) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(OutputError::io("create directory", folder))?;
            open.open(part)
        }
        opened => opened,
    }
    .map_err(OutputError::io("create file", part))?;
    let written = torn_write("write file", bytes, |half| file.write_all(half))
        .and_then(|()| file.write_all(bytes))
        .map_err(OutputError::io("write file", part))
        .and_then(|()| {
            if sync { file.sync_all().map_err(OutputError::io("sync file", part)) } else { Ok(()) }
        });
    if written.is_err() {
        let _ = fs::remove_file(part);
    }
    written
}

#[cfg(test)]
mod tests;
