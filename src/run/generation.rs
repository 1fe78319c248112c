//! Sessions that share a snapshot, and what happens when the server goes down.
//!
//! One idle session holds the exported snapshot; the workers' sessions use it.
//! When the server has gone down, all of them are gone and so is the snapshot:
//! whoever notices first waits until connections are accepted again, and a new
//! generation begins.

mod client;
mod current;
mod ways;

use crate::output::journal::{self, Journal, Record};
use crate::output::{OutputError, manifest};
use crate::progress::Progress;
use crate::server::connect::{HangUps, Target};
use crate::server::fault::{Ended, Words, ended, wait_after};
use crate::server::session::{OpenError, ServerFacts, Session, Snapshot, Timeouts};
use crate::server::written::Written;
pub(super) use client::Guest;
use current::{ASKED_OF_SILENT, Current, described, hold, same_data, write_down};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::time::sleep;
pub(super) use ways::Way;
use ways::hold_somehow;

/// Between two tries to connect: from the first to the last, twice as long
/// each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// A server without a free connection is waited for so long.
const TOO_MANY_PATIENCE: Duration = Duration::from_secs(2);

/// Of a server that does not start again after a crash.
const BY_HAND: &str = "stays down until somebody starts it (restart_after_crash is off)";

/// The server did not come back, or would not have us.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{words}")]
pub struct ServerGone {
    words: String,
    /// It has no connection left for us.
    pub(super) too_many: bool,
    /// What every session needs is damaged.
    pub(super) damage: bool,
}

impl From<OpenError> for ServerGone {
    fn from(error: OpenError) -> Self {
        Self { words: error.to_string(), too_many: error.is_too_many(), damage: error.is_damage() }
    }
}

/// What a lost session means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The server is well: this session alone is gone.
    Session,
    /// All sessions are gone, but it was no crash: the server has said why, or
    /// has not gone down at all.
    ServerTold,
    /// All sessions are gone: a crash, as far as one can tell.
    Server,
}

pub(super) struct Generations {
    target: Target,
    /// Whether sessions go past the indexes of the catalogs, as a rule.
    past_indexes: AtomicBool,
    /// Whether going past them has led to what could not be had by them.
    indexes_damaged: AtomicBool,
    timeouts: Timeouts,
    patience: Duration,
    progress: Arc<Progress>,
    hang_ups: HangUps,
    /// How many sessions were watched.
    watched: AtomicU64,
    /// How many snapshots earlier runs had.
    earlier: AtomicU32,
    current: Mutex<Current>,
    /// What the server had written when the run began.
    written: Written,
    /// Where snapshots are written down, once there is one.
    journal: OnceLock<Arc<Journal>>,
}

/// A session, and the number of its snapshot.
pub(super) struct Numbered {
    pub(super) session: Session,
    pub(super) snapshot: u32,
    /// The number of the first snapshot that sees the same rows.
    pub(super) data: u32,
    /// Under which number it is noted when it hangs up.
    pub(super) watched: u64,
}

/// A session that was lost.
pub(super) struct LostSession {
    pub(super) snapshot: u32,
    watched: u64,
    pub(super) words: Words,
    pub(super) why: Ended,
}

impl Generations {
    /// The first one. A server that is short of something is waited for a little;
    /// one that is not there is the user's to know.
    pub(super) async fn begin(
        target: Target,
        timeouts: Timeouts,
        patience: Duration,
        progress: Arc<Progress>,
    ) -> Result<Self, OpenError> {
        let mut waits = 0;
        let ((holder, snapshot, sees, life), past) = loop {
            let error = match hold_somehow(&target, timeouts).await {
                Err(e) if e.is_shortage() => e,
                held => break held?,
            };
            let Some(pause) = wait_after(waits) else { return Err(error) };
            tracing::info!("waiting: {error}");
            sleep(pause).await;
            waits += 1;
        };
        let taken = vec![described(&holder, &snapshot, 1, 1)];
        // A session that is lost here is found lost by whoever reads first.
        let written = Written::so_far(&holder, &sees).await.unwrap_or_default();
        let current = Mutex::new(Current {
            holder,
            snapshot,
            sees,
            life,
            data: 1,
            taken,
            told: Vec::new(),
            crashes: 0,
            last_words: Words::default(),
            gone: None,
        });
        Ok(Self {
            target,
            past_indexes: AtomicBool::new(past),
            indexes_damaged: AtomicBool::new(past),
            timeouts,
            patience,
            progress,
            hang_ups: HangUps::new().map_err(OpenError::from)?,
            watched: AtomicU64::new(0),
            earlier: AtomicU32::new(0),
            current,
            written,
            journal: OnceLock::new(),
        })
    }

    /// Goes on where earlier runs have ended, before anything is read. From now
    /// on, snapshots are written down.
    pub(super) async fn follow(
        &self,
        earlier: &[journal::Snapshot],
        journal: Arc<Journal>,
    ) -> Result<(), OutputError> {
        let mut current = self.current.lock().await;
        let before: Vec<_> = earlier.iter().map(|t| t.snapshot.clone()).collect();
        self.earlier.store(u32::try_from(before.len()).unwrap_or(u32::MAX), Relaxed);
        current.told.splice(0..0, before.iter().map(|_| true));
        current.taken.splice(0..0, before);
        let number = current.number();
        for (number, taken) in (1..).zip(&mut current.taken).skip(earlier.len()) {
            (taken.number, taken.same_as) = (number, number);
        }
        // Lost before anything was read in them. The journal has them all, in order.
        for snapshot in &current.taken[earlier.len()..current.taken.len() - 1] {
            let (snapshot, sees) = (snapshot.clone(), String::new());
            journal.append(&Record::Snapshot(journal::Snapshot { snapshot, sees }))?;
        }
        let alike = earlier.last().filter(|t| same_data(&t.sees, &current.sees));
        let data = alike.map_or(number, |t| t.snapshot.same_as);
        current.data = data;
        if let Some(last) = current.taken.last_mut() {
            last.same_as = data;
        }
        write_down(&journal, &current)?;
        // Another one is never given.
        let _ = self.journal.set(journal);
        Ok(())
    }

    /// The number of the snapshot of now, and of the first that sees the same.
    pub(super) async fn now(&self) -> (u32, u32) {
        let current = self.current.lock().await;
        (current.number(), current.data)
    }

    /// Where the server is, for people.
    pub(super) fn host(&self) -> String {
        self.target.describe()
    }

    pub(super) async fn server(&self) -> Arc<ServerFacts> {
        self.current.lock().await.holder.server().clone()
    }

    /// What went into the WAL since the run began, as far as the server can be
    /// asked. Ends the snapshot: nothing is read after it.
    pub(super) async fn wal_meanwhile(&self) -> Option<manifest::Wal> {
        let current = self.current.lock().await;
        if current.gone.is_some() || current.holder.is_closed() {
            return None;
        }
        let now = current.written_now().await.ok()?;
        let (bytes, transactions) = now.since(&self.written)?;
        let before = self.written.position.clone();
        Some(manifest::Wal { before, after: now.position, bytes, transactions })
    }

    /// The snapshots so far, and how often the server has gone down.
    pub(super) async fn history(&self) -> (Vec<manifest::Snapshot>, u32) {
        let current = self.current.lock().await;
        (current.taken.clone(), current.crashes)
    }

    /// A new session in the snapshot of now. The others may go on meanwhile.
    /// With `patient`, a connection is waited for as long as a server that went
    /// down.
    pub(super) async fn session_by(&self, way: Way, patient: bool) -> Result<Numbered, ServerGone> {
        let begun = Instant::now();
        let mut pause = RETRY_FIRST;
        loop {
            let (id, server, number, data) = {
                let now = self.current.lock().await;
                (now.snapshot.clone(), now.holder.server().clone(), now.number(), now.data)
            };
            let snapshot = Snapshot { id: &id, server };
            match Session::open(&self.target(way), self.timeouts, Some(snapshot)).await {
                Ok(session) => return self.watch(session, number, data),
                Err(e) if !e.is_transient() && !e.is_stale_snapshot() => return Err(e.into()),
                Err(e) if begun.elapsed() > self.patience || self.progress.stopped() => {
                    return Err(e.into());
                }
                // Another worker has a session, and will do this one's work.
                Err(e) if !patient && e.is_too_many() && begun.elapsed() > TOO_MANY_PATIENCE => {
                    return Err(e.into());
                }
                Err(e) => tracing::info!("{e}; trying again"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_LAST);
            let mut current = self.current.lock().await;
            if current.number() == number && current.holder.execute("SELECT 1").await.is_err() {
                self.renew(&mut current).await?;
            }
        }
    }

    fn watch(&self, session: Session, snapshot: u32, data: u32) -> Result<Numbered, ServerGone> {
        // Of which generation of this run it is, and a number of its own.
        let generation = u64::from(snapshot.saturating_sub(self.earlier.load(Relaxed)));
        let watched = generation << 32 | self.watched.fetch_add(1, Relaxed);
        session.watch(&self.hang_ups, watched)?;
        Ok(Numbered { session, snapshot, data, watched })
    }

    /// What is known of a session that ended with these words. To be asked of
    /// every session that is lost, before it is dropped.
    pub(super) fn lost(&self, session: &Numbered, words: &Words) -> LostSession {
        let Numbered { session, snapshot, watched, .. } = session;
        let warnings: Vec<String> = session.notices().into_iter().map(|n| n.sqlstate).collect();
        let mut order = self.hang_ups.order().into_iter();
        let first = order.find(|n| n >> 32 == *watched >> 32);
        let why = match ended(words, &warnings) {
            // Whoever crashed hung up before all others.
            Ended::Silently if first.is_some_and(|n| n != *watched) => Ended::ByCrashOfAnother,
            ended => ended,
        };
        tracing::debug!(
            snapshot,
            ?warnings,
            first = first == Some(*watched),
            "session lost: {why:?}"
        );
        LostSession { snapshot: *snapshot, watched: *watched, words: words.clone(), why }
    }

    /// A session without the shared snapshot, which sees the database as it is
    /// now.
    pub(super) async fn session_of_now(&self) -> Result<Session, OpenError> {
        Session::open(&self.target(Way::Usual), self.timeouts, None).await
    }

    /// Finds out what the loss of a session of this snapshot means.
    pub(super) async fn after_loss(
        &self,
        LostSession { snapshot, watched, why, .. }: &LostSession,
    ) -> Result<Lost, ServerGone> {
        let mut current = self.current.lock().await;
        if current.number() == *snapshot {
            if current.is_there(if *why == Ended::Silently { ASKED_OF_SILENT } else { 1 }).await {
                self.hang_ups.forget(*watched);
                return Ok(Lost::Session);
            }
            self.renew(&mut current).await?;
        }
        // How the snapshot of this session ended.
        let told =
            usize::try_from(*snapshot).ok().and_then(|n| current.told.get(n.checked_sub(1)?));
        Ok(if told == Some(&true) { Lost::ServerTold } else { Lost::Server })
    }

    /// Waits for the server, and takes a new snapshot.
    async fn renew(&self, current: &mut Current) -> Result<(), ServerGone> {
        if let Some(gone) = &current.gone {
            return Err(gone.clone());
        }
        let (ended, last_words) = current.holder.ended().await;
        let told = ended == Ended::Told;
        current.last_words = last_words;
        current.told.push(told);
        current.crashes += u32::from(!told);
        let by_hand = !told && !current.holder.server().restart_after_crash;
        if current.holder.is_given_up() {
            tracing::warn!(
                event = "server_down",
                "the session that holds the snapshot hangs; taking a new one"
            );
        } else if by_hand {
            tracing::warn!(
                event = "server_down",
                "the server went down and {BY_HAND}; waiting for that, at most {:?} (--crash-wait)",
                self.patience
            );
        } else {
            tracing::warn!(
                event = "server_down",
                "the server has ended all sessions; waiting until it accepts connections"
            );
        }
        let begun = Instant::now();
        let mut pause = RETRY_FIRST;
        let error = loop {
            match hold(&self.target(Way::Usual), self.timeouts).await {
                Ok(held) => {
                    current.go_on(held, told);
                    if let Some(Err(e)) = self.journal.get().map(|j| write_down(j, current)) {
                        // Whoever goes on with this run reads a little more.
                        tracing::error!("{e}");
                    }
                    return Ok(());
                }
                Err(e) if !e.is_transient() => break e,
                Err(e) if begun.elapsed() > self.patience || self.progress.stopped() => break e,
                Err(e) => tracing::debug!("{e}; trying again"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_LAST);
        };
        let mut gone = ServerGone::from(error);
        if by_hand {
            gone.words = format!("{}: it went down and {BY_HAND}", gone.words);
        }
        current.gone = Some(gone.clone());
        Err(gone)
    }

    /// What the server said when it last ended all sessions: those that were
    /// busy have often not heard it.
    pub(super) async fn last_words(&self) -> Words {
        self.current.lock().await.last_words.clone()
    }

    pub(super) async fn crashes(&self) -> u32 {
        self.current.lock().await.crashes
    }
}
