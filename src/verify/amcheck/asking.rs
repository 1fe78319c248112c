//! Asking the server: in a session that is replaced when it is lost, each time in
//! a transaction of its own; what is in the way is waited for.
//!
//! Whether the server went down is told by [`Life`]: sessions are lost for other
//! reasons, too.

use crate::progress::Progress;
use crate::server::blocking::why_locked;
use crate::server::connect::Target;
use crate::server::fault::{Ended, is_lock_timeout, wait_after};
use crate::server::life::Life;
use crate::server::session::{CheckFault, ReadError, Session, Timeouts};
use crate::server::words::Words;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When the server went down so often while something was checked, nothing more
/// is: others use it, too.
pub(super) const CRASHES_MAX: u32 = 3;

/// So often one thing is asked again whose session was ended by somebody else.
const LOSSES_MAX: u32 = 5;

/// So long is waited for a server that is away; recovery takes its time.
const AWAY_MAX: Duration = Duration::from_secs(300);

/// Before a session is opened again; each time twice as long, up to this.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What all sessions know of the server.
#[derive(Debug, Default)]
pub(super) struct Server {
    life: Mutex<Life>,
    crashes: AtomicU32,
    /// Why nothing more is asked.
    given_up: Mutex<Option<String>>,
}

impl Server {
    pub(super) fn new(life: Life) -> Self {
        Self { life: Mutex::new(life), ..Self::default() }
    }

    pub(super) fn given_up(&self) -> Option<String> {
        locked(&self.given_up).clone()
    }

    fn give_up(&self, why: String) {
        locked(&self.given_up).get_or_insert(why);
    }

    /// A session was lost without a word since there were so many crashes: whether
    /// the server went down since then.
    fn has_gone_down(&self, now: Life, crashes: u32) -> bool {
        let mut life = locked(&self.life);
        if !life.is_same(&now) {
            let crashes = self.crashes.fetch_add(1, SeqCst) + 1;
            if crashes >= CRASHES_MAX {
                self.give_up(format!(
                    "the server, or the way to it, was lost {crashes} times while something was \
                     checked: nothing more is"
                ));
            }
        }
        *life = now;
        self.crashes.load(SeqCst) != crashes
    }
}

/// What is asked about, for whoever reads the words.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub oid: u32,
    pub title: String,
    pub path: Option<String>,
    pub is_toast: bool,
}

/// How long the server may be silent until the answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    Short,
    /// It reads all of a relation, and answers with one value.
    Long,
}

pub(super) type Rows = Vec<Vec<Option<String>>>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The server's words, and what they mean.
    Said(CheckFault, Box<Words>),
    /// The server went down meanwhile, and this may be why.
    WentDown(String),
    /// It cannot be asked, for this reason.
    Away(String),
}

impl Failed {
    fn of_environment(message: String) -> Self {
        Self::Said(CheckFault::Environment, Words { message, ..Words::default() }.into())
    }
}

/// How the files of the server are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub block_size: u32,
    pub segment_blocks: u32,
}

impl Layout {
    pub(super) fn bytes(&self, blocks: u32) -> usize {
        self.block_size as usize * blocks as usize
    }
}

pub(super) struct Asking {
    pub target: Target,
    pub timeouts: Timeouts,
    pub progress: Arc<Progress>,
    pub server: Arc<Server>,
    pub layout: Layout,
    pub session: Option<Session>,
}

impl Asking {
    /// Asks until there is an answer, or something else than the server's trouble.
    pub(super) async fn ask(
        &mut self,
        about: &About,
        sql: &str,
        silence: Silence,
    ) -> Result<Rows, Failed> {
        let (mut waits, mut losses) = (0, 0);
        loop {
            self.open().await?;
            let crashes = self.server.crashes.load(SeqCst);
            let Some(session) = self.session.as_ref() else { continue };
            let answer = async {
                session.renew_snapshot().await?;
                session.save().await?;
                match silence {
                    Silence::Short => session.rows(sql).await,
                    Silence::Long => Ok(vec![vec![session.value_of_all(sql).await?]]),
                }
            };
            let error = match answer.await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error.check_fault(about.path.as_deref(), about.is_toast) {
                CheckFault::SessionLost => {
                    losses += 1;
                    self.lost(&error, crashes, losses).await?;
                }
                CheckFault::Environment => match wait_after(waits) {
                    Some(pause) if !self.progress.stopped() => {
                        waits += 1;
                        tokio::time::sleep(pause).await;
                    }
                    _ => return Err(self.in_the_way(about, &error).await),
                },
                fault => return Err(Failed::Said(fault, error.words().clone().into())),
            }
        }
    }

    /// Who is in the way, or what the server is short of.
    async fn in_the_way(&self, about: &About, error: &ReadError) -> Failed {
        let session = self.session.as_ref().filter(|_| is_lock_timeout(error.sqlstate()));
        let mut why = None;
        if let Some(session) = session
            && session.renew_snapshot().await.is_ok()
            && session.save().await.is_ok()
        {
            why = why_locked(session, about.oid, &about.title).await;
        }
        Failed::of_environment(why.unwrap_or_else(|| error.to_string()))
    }

    /// The session is lost. `Ok`: it was not by what was asked.
    async fn lost(&mut self, error: &ReadError, crashes: u32, losses: u32) -> Result<(), Failed> {
        let ended = match self.session.as_mut() {
            Some(session) => session.ended().await,
            None => (Ended::Told, Words::default()),
        };
        self.session = None;
        let words = match ended.1.sqlstate.is_empty() {
            true => error.to_string(),
            false => ended.1.one_line(),
        };
        tracing::debug!("session lost: {words}");
        if ended.0 == Ended::Silently {
            self.open().await?;
            let life = match self.session.as_ref() {
                Some(session) => Life::of(session).await.unwrap_or_default(),
                None => Life::default(),
            };
            if self.server.has_gone_down(life, crashes) {
                return Err(Failed::WentDown(words));
            }
        }
        if losses == LOSSES_MAX {
            return Err(Failed::of_environment(format!(
                "the session was ended {losses} times while it was checked: {words}"
            )));
        }
        Ok(())
    }

    /// Has a session, unless the server stays away.
    pub(super) async fn open(&mut self) -> Result<(), Failed> {
        let begun = Instant::now();
        let mut pause = PAUSE;
        while self.session.as_ref().is_none_or(Session::is_closed) {
            if let Some(why) = self.server.given_up() {
                return Err(Failed::Away(why));
            }
            match Session::open(&self.target, self.timeouts, None).await {
                Ok(session) => self.session = Some(session),
                Err(e) if e.is_transient() && begun.elapsed() < AWAY_MAX => {
                    if self.progress.stopped() {
                        return Err(Failed::Away(e.to_string()));
                    }
                    tokio::time::sleep(pause).await;
                    pause = PAUSE_MAX.min(pause * 2);
                }
                Err(e) if e.is_too_many() => return Err(Failed::Away(e.to_string())),
                Err(e) => {
                    let why = format!("the server could not be reached again: {e}");
                    self.server.give_up(why.clone());
                    return Err(Failed::Away(why));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
