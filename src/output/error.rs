//! What can go wrong with the dump directory. Each error names what was being
//! done, the file, and the reason, in one line.

use super::space::in_units;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("could not {doing} \"{path}\": {source}", path = .path.display())]
    Io {
        /// What was being done, as in "create file".
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error(
        "could not create directory \"{path}\": there is no directory \"{parent}\" to create it in",
        path = .path.display(),
        parent = .parent.display()
    )]
    ParentMissing { path: PathBuf, parent: PathBuf },

    #[error("\"{path}\" exists and is not a directory; give the name of a new directory", path = .path.display())]
    NotADirectory { path: PathBuf },

    #[error("\"{path}\" is there, and is no file", path = .path.display())]
    NotAFile { path: PathBuf },

    #[error(
        "directory \"{path}\" is not empty (it has \"{found}\"); give the name of a new directory",
        path = .path.display()
    )]
    NotEmpty { path: PathBuf, found: String },

    #[error(
        "directory \"{path}\" has what an earlier run has written; give --resume to go on with it, or the name of a new directory",
        path = .path.display()
    )]
    HasRun { path: PathBuf },

    #[error("directory \"{path}\" is in use by another run of pg_salvage", path = .path.display())]
    InUse { path: PathBuf },

    #[error(
        "only {free} are free for directory \"{path}\", less than --min-free {min_free} leaves \
         alone; make space, or give a smaller --min-free",
        free = in_units(*.free),
        path = .path.display(),
        min_free = in_units(*.min_free)
    )]
    SpaceTooLow { path: PathBuf, free: u64, min_free: u64 },

    #[error(
        "only {free} are free in directory \"{path}\", less than --min-free {min_free} leaves \
         alone; make space, and run it again with --resume",
        free = in_units(*.free),
        path = .path.display(),
        min_free = in_units(*.min_free)
    )]
    SpaceLow { path: PathBuf, free: u64, min_free: u64 },

    #[error(
        "file \"{path}\" has {found} bytes, but {expected} had been made durable",
        path = .path.display()
    )]
    TooShort { path: PathBuf, found: u64, expected: u64 },
}

impl OutputError {
    /// For `map_err`: says what was being done, and to which file.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// Whether we stopped ourselves before the disk was full.
    pub fn is_space_low(&self) -> bool {
        matches!(self, Self::SpaceLow { .. })
    }

    /// Whether the disk, or our share of it, is full: no fault of the relation
    /// that was being written.
    pub fn is_disk_full(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOSPC: i32 = 28;
    const EACCES: i32 = 13;

    fn creating(errno: i32) -> OutputError {
        OutputError::io("create file", Path::new("x"))(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn an_error_says_what_was_done_to_which_file_and_why_it_failed() {
        assert_eq!(
            creating(ENOSPC).to_string(),
            "could not create file \"x\": No space left on device (os error 28)"
        );
    }

    #[test]
    fn a_full_disk_is_told_from_other_errors() {
        assert!(creating(ENOSPC).is_disk_full());
        assert!(!creating(EACCES).is_disk_full());
        assert!(!OutputError::InUse { path: "x".into() }.is_disk_full());
    }
}
