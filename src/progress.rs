//! How far a run is: a handful of counters that the workers raise and whoever
//! shows them reads, how fast they may be, and the word to stop.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    /// How fast all of them together may read.
    pub throttle: Throttle,
    stop: AtomicBool,
    ended: AtomicBool,
}

impl Progress {
    /// Tells the workers to stop after the read they are at.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// The same, and nothing else is to be begun.
    pub fn end(&self) {
        self.ended.store(true, Relaxed);
        self.stop();
    }

    /// Counts from the beginning, for other work, unless that was to end.
    pub fn begin_again(&self) {
        let Self { rows, bytes, blocks_done, blocks, relations_done, relations, damaged, .. } =
            self;
        for counter in [rows, bytes, blocks_done, blocks, relations_done, relations, damaged] {
            counter.store(0, Relaxed);
        }
        self.stop.store(self.ended.load(Relaxed), Relaxed);
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// So far ahead of its time may be what was let through: less is not worth a
/// sleep.
const AHEAD_MAX: Duration = Duration::from_millis(20);

/// A limit on bytes per second; none, as long as none was set.
#[derive(Debug, Default)]
pub struct Throttle {
    /// 0: none.
    bytes_per_second: AtomicU64,
    /// When all that was let through will have been due.
    due: Mutex<Option<Instant>>,
}

impl Throttle {
    pub fn set(&self, bytes_per_second: u64) {
        self.bytes_per_second.store(bytes_per_second, Relaxed);
    }

    /// Counts bytes that were read. Returns how long to wait before more are.
    pub fn debt(&self, bytes: usize) -> Duration {
        let rate = self.bytes_per_second.load(Relaxed);
        if rate == 0 {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        // Time in which nobody read is not saved up.
        let begin = due.filter(|due| *due > now).unwrap_or(now);
        let end = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
        *due = Some(end);
        let ahead = end.saturating_duration_since(now);
        if ahead > AHEAD_MAX { ahead } else { Duration::ZERO }
    }

    /// How many bytes to read at once, of so many, that no wait for them is long.
    pub fn at_once(&self, bytes_max: usize) -> usize {
        match self.bytes_per_second.load(Relaxed) {
            0 => bytes_max,
            rate => bytes_max.min(usize::try_from(rate / 10).unwrap_or(usize::MAX)),
        }
    }

    /// Waits as long as that takes.
    pub async fn pay(&self, bytes: usize) {
        let debt = self.debt(bytes);
        if !debt.is_zero() {
            tokio::time::sleep(debt).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_ahead_of_its_time_is_waited_for() {
        let throttle = Throttle::default();
        assert_eq!(throttle.debt(usize::MAX), Duration::ZERO, "no limit");
        throttle.set(1_000_000);
        assert_eq!(throttle.debt(1000), Duration::ZERO, "a millisecond is not worth it");
        let debts = [(); 4].map(|()| throttle.debt(500_000));
        assert!(debts.is_sorted() && debts[0] > Duration::from_millis(400), "{debts:?}");
        assert!(debts[3] > Duration::from_millis(1900) && debts[3] < Duration::from_millis(2002));
    }
}
