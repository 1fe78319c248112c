//! Where the servers' files lie while a test runs.

use super::owner;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Below this a folder in memory is too small for a test's servers.
const ENOUGH_MEMORY: u64 = 4 << 30;

/// A new folder that belongs to the servers' user. Its name is short, for a
/// socket's path has room for about a hundred bytes.
///
/// In memory where there is much of it: copying a data directory is many times
/// faster there. `PG_SALVAGE_TMP` names another place.
pub fn new_folder(on_disk: bool) -> TempDir {
    let parent = match std::env::var_os("PG_SALVAGE_TMP") {
        Some(chosen) => PathBuf::from(chosen),
        None if !on_disk && has_room(Path::new("/dev/shm")) => PathBuf::from("/dev/shm"),
        None => PathBuf::from("/tmp"),
    };
    let folder = tempfile::Builder::new().prefix("pgs").tempdir_in(parent);
    let folder = folder.expect("a temporary folder");
    owner::give(folder.path());
    folder
}

fn has_room(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|fs| fs.f_bavail * fs.f_frsize >= ENOUGH_MEMORY)
}
