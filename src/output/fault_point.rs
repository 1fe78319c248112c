//! Where a test may end the program, as kill -9 or a loss of power would.
//!
//! In a build for release there is nothing of it. Else `PG_SALVAGE_DIE_AT=N`
//! ends the program at the N-th write, sync, rename or removal of a file; a
//! write is then left half done. With `PG_SALVAGE_DIE_HOW=power` all that was
//! written to data files and not synced is taken away, too.

use std::fs::File;
use std::io;

/// Something is about to be done to a file.
pub(super) fn fault_point(what: &str) {
    let _ = torn_write(what, &[], |_| Ok(()));
}

/// Bytes are about to be written, by `write`.
#[cfg(not(debug_assertions))]
pub(super) fn torn_write(
    _: &str,
    _: &[u8],
    _: impl FnOnce(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    Ok(())
}

/// A data file is durable up to here.
#[cfg(not(debug_assertions))]
pub(super) fn is_durable(_: &File, _: u64) {}

#[cfg(debug_assertions)]
pub(super) use armed::{is_durable, torn_write};

#[cfg(debug_assertions)]
mod armed {
    use super::{File, io};
    use std::collections::HashMap;
    use std::fs::OpenOptions;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    use std::sync::atomic::Ordering::SeqCst;
    use std::sync::atomic::{AtomicBool, AtomicU64};
    use std::sync::{LazyLock, Mutex, PoisonError};

    static COUNT: AtomicU64 = AtomicU64::new(0);
    /// Nobody writes any more.
    static DYING: AtomicBool = AtomicBool::new(false);
    static DIE_AT: LazyLock<Option<u64>> =
        LazyLock::new(|| std::env::var("PG_SALVAGE_DIE_AT").ok()?.parse().ok());
    static POWER: LazyLock<bool> =
        LazyLock::new(|| std::env::var("PG_SALVAGE_DIE_HOW").is_ok_and(|how| how == "power"));
    /// Of each file, by its inode: a handle, and how much of it is durable.
    static DURABLE: Mutex<Option<HashMap<u64, (File, u64)>>> = Mutex::new(None);

    pub(in super::super) fn torn_write(
        what: &str,
        bytes: &[u8],
        write: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while DYING.load(SeqCst) {
            std::thread::park();
        }
        if *DIE_AT != Some(COUNT.fetch_add(1, SeqCst) + 1) {
            return Ok(());
        }
        DYING.store(true, SeqCst);
        write(&bytes[..bytes.len() / 2])?;
        let durable = DURABLE.lock().unwrap_or_else(PoisonError::into_inner).take();
        for (file, len) in durable.into_iter().flatten().map(|(_, kept)| kept) {
            let _ = file.set_len(len);
        }
        tracing::warn!("died at \"{what}\"");
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort()
    }

    pub(in super::super) fn is_durable(file: &File, len: u64) {
        if !*POWER {
            return;
        }
        // A handle of its own: with a clone, locks would live on.
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let again = OpenOptions::new().write(true).open(again);
        let (Ok(metadata), Ok(again)) = (file.metadata(), again) else { return };
        let mut durable = DURABLE.lock().unwrap_or_else(PoisonError::into_inner);
        durable.get_or_insert_default().insert(metadata.ino(), (again, len));
    }
}
