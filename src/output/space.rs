//! Free space where the dump goes: looked at before a run begins, and while its
//! files grow.
//!
//! A dump that fills a file system may take the server with it, whose files may
//! lie on the same one. So some space is left, and a run that finds less stops
//! reading, while there is still room to finish what it has. Quotas are not
//! seen from here: they end as a full disk does.

use super::error::OutputError;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The file system is looked at once in so many bytes: by so much, and what is
/// under way, may the limit be passed.
const LOOK_BYTES: u64 = 8 << 20;

/// Nothing was seen to be short.
const ENOUGH: u64 = u64::MAX;

/// Watches over the space that is to stay free.
#[derive(Debug)]
pub(super) struct Space {
    path: PathBuf,
    /// 0: nothing is watched.
    min_free: u64,
    /// Written since the last look.
    unseen: AtomicU64,
    /// How much was free when it was too little.
    low: AtomicU64,
}

impl Space {
    pub(super) fn new(path: &Path, min_free: u64) -> Self {
        let (unseen, low) = (AtomicU64::new(0), AtomicU64::new(ENOUGH));
        Self { path: path.to_owned(), min_free, unseen, low }
    }

    /// Whether more rows may be taken in. What is there already may be finished
    /// in any case.
    pub(super) fn allow(&self) -> Result<(), OutputError> {
        match self.low.load(Relaxed) {
            ENOUGH => Ok(()),
            free => {
                let (path, min_free) = (self.path.clone(), self.min_free);
                Err(OutputError::SpaceLow { path, free, min_free })
            }
        }
    }

    /// So much was written.
    pub(super) fn wrote(&self, bytes: u64) {
        if self.min_free == 0 || self.unseen.fetch_add(bytes, Relaxed) + bytes < LOOK_BYTES {
            return;
        }
        self.unseen.store(0, Relaxed);
        // A file system that does not say fails when it is full.
        if let Some(free) = free_bytes(&self.path).filter(|&free| free < self.min_free) {
            self.low.store(free, Relaxed);
        }
    }
}

/// Refuses to begin where less is free than is to stay free. `path` need not
/// exist yet.
pub fn check(path: &Path, min_free: u64) -> Result<(), OutputError> {
    if min_free == 0 {
        return Ok(());
    }
    let free = free_bytes(path).or_else(|| free_bytes(super::dir::parent(path)));
    match free {
        Some(free) if free < min_free => {
            Err(OutputError::SpaceTooLow { path: path.to_owned(), free, min_free })
        }
        _ => Ok(()),
    }
}

/// What others than root may still write. None: the file system does not say,
/// or the path is not there.
fn free_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    // Some that are not on a disk have no size at all.
    (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

/// As PostgreSQL writes sizes, in the largest unit of which there are some.
pub(super) fn in_units(bytes: u64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB"];
    let power = (bytes.max(1).ilog2() / 10).min(4);
    let unit = units.get(power as usize).unwrap_or(&"bytes");
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        rest => format!("{}.{rest} {unit}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_units() {
        let cases = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 kB"),
            (1536, "1.5 kB"),
            (100 << 20, "100 MB"),
            (u64::MAX, "16777215.9 TB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(in_units(bytes), text);
        }
    }

    #[test]
    fn a_limit_is_noticed_once_enough_was_written_and_stays_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::new(dir.path(), u64::MAX - 1);
        space.wrote(LOOK_BYTES - 1);
        assert!(space.allow().is_ok(), "not looked at yet");
        space.wrote(1);
        for _ in 0..2 {
            assert!(matches!(space.allow(), Err(OutputError::SpaceLow { .. })));
        }
        let without_limit = Space::new(dir.path(), 0);
        without_limit.wrote(u64::MAX / 2);
        assert!(without_limit.allow().is_ok());
    }

    #[test]
    fn what_does_not_exist_yet_is_on_the_file_system_of_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        assert!(check(&path, 1).is_ok());
        assert!(matches!(check(&path, u64::MAX), Err(OutputError::SpaceTooLow { .. })));
        assert!(check(&path, 0).is_ok());
    }
}
