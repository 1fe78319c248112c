//! How far a run is: a handful of counters that the workers raise and whoever
//! shows them reads, and the word to stop.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

#[derive(Debug, Default)]
pub struct Progress {
    /// Rows received and not undone.
    pub rows: AtomicU64,
    /// Bytes of rows received.
    pub bytes: AtomicU64,
    /// Blocks of the stretches that are done, and of all of them.
    pub blocks_done: AtomicU64,
    pub blocks: AtomicU64,
    /// Relations that are done, and all of them.
    pub relations_done: AtomicU64,
    pub relations: AtomicU64,
    /// Places lost.
    pub damaged: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Tells the workers to stop after the read they are at.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}
