//! A server that is silent: how long it is waited for, and how a statement is
//! ended that does not end by itself.
//!
//! It is cancelled; where that takes no effect its backend is terminated, by
//! another session; where that takes none either, the session is given up: its
//! connection is dropped, and whoever used it goes on with another. Everything
//! here ends within a time that has a name.
//!
//! Only waiting counts, so our own slowness in taking rows does not. And who
//! waits for a lock waits for somebody, and does not hang.

use super::connect::{self, CancelHandle, Target};
use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

/// So long a cancelled statement may take to end, unless the limit is shorter: a
/// server with a slow disk looks for interrupts between two pages.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// So long a terminated backend may take to end, likewise.
const TERMINATE_PATIENCE: Duration = Duration::from_secs(5);

/// So long it may take to connect beside the silent session, and to ask there.
const OUTSIDE_PATIENCE: Duration = Duration::from_secs(10);

/// A wait is cut into so many, and each counts only as what it was to be: time
/// in which we ourselves were stopped (Ctrl-Z, a machine asleep) counts little.
const TICKS: u32 = 20;

/// A session's backend, by which it is known from outside. The start is there
/// since process ids are used again.
struct Backend {
    pid: i32,
    begun: String,
}

/// The way to a session's backend from outside of the session.
pub(super) struct Outside {
    target: Target,
    cancel: CancelHandle,
    backend: Option<Backend>,
    given_up: AtomicBool,
}

impl Outside {
    pub(super) fn new(target: Target, cancel: CancelHandle) -> Self {
        Self { target, cancel, backend: None, given_up: AtomicBool::new(false) }
    }

    /// Asks a session for its backend.
    pub(super) const WHO: &str = "SELECT pid, \
        pg_catalog.to_char(backend_start AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') \
        FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())";

    /// Takes in the answer to [`Self::WHO`].
    pub(super) fn is(&mut self, answer: &[Option<String>]) {
        if let [Some(pid), Some(begun)] = answer
            && let Ok(pid) = pid.parse()
        {
            self.backend = Some(Backend { pid, begun: begun.clone() });
        }
    }

    /// Whether the session was given up.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }

    pub(super) fn give_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    /// Whether the backend waits for a lock that somebody else has. (A silence
    /// that nobody can be asked about is one.)
    async fn waits_for_lock(&self) -> bool {
        let Some(Backend { pid, .. }) = &self.backend else { return false };
        let sql = format!(
            "SELECT pg_catalog.array_to_string(pg_catalog.pg_blocking_pids({pid}), ', ') WHERE EXISTS \
             (SELECT FROM pg_catalog.pg_locks WHERE pid = {pid} AND NOT granted)"
        );
        let Some(blocking) = self.ask(&sql).await else { return false };
        // 0 is a prepared transaction.
        tracing::warn!("process {pid}, which reads, waits for a lock of process {blocking}");
        true
    }

    async fn cancel(&self) {
        tracing::info!("the server is silent: cancelling");
        match timeout(OUTSIDE_PATIENCE, self.cancel.cancel()).await {
            Ok(Err(e)) => tracing::debug!("{e}"),
            Err(_) => tracing::debug!("the cancel request was not taken"),
            Ok(Ok(())) => {}
        }
    }

    async fn terminate(&self) {
        let Some(Backend { pid, begun }) = &self.backend else { return };
        tracing::info!(pid, "cancelling had no effect: terminating the backend");
        let sql = format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) \
             FROM pg_catalog.pg_stat_get_activity({pid}) WHERE \
             pg_catalog.to_char(backend_start AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') = '{begun}'"
        );
        if self.ask(&sql).await.is_none() {
            tracing::debug!(pid, "the backend could not be terminated");
        }
    }

    /// The first value of the answer, if it has a row.
    async fn ask(&self, sql: &str) -> Option<String> {
        let asking = async {
            let beside = connect::connect(&self.target).await.ok()?;
            let answer = beside.client.simple_query(sql).await.ok()?;
            answer.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some(row.try_get(0).ok().flatten().unwrap_or_default().to_owned())
                }
                _ => None,
            })
        };
        timeout(OUTSIDE_PATIENCE, asking).await.ok().flatten()
    }
}

/// How far it has come with one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Waiting,
    Cancelled,
    Terminated,
}

/// Waits for the answers to one statement.
pub(super) struct Silence {
    /// None: for ever.
    limit: Option<Duration>,
    step: Step,
}

impl Silence {
    pub(super) fn after(limit: Option<Duration>) -> Self {
        Self { limit, step: Step::Waiting }
    }

    /// Whether the statement was cancelled, and nothing more was tried.
    pub(super) fn has_cancelled(&self) -> bool {
        self.step == Step::Cancelled
    }

    /// Whether the backend was terminated.
    pub(super) fn has_terminated(&self) -> bool {
        self.step == Step::Terminated
    }

    /// Waits for an answer. None: there is none, and the session is given up.
    pub(super) async fn wait<T>(
        &mut self,
        outside: &Outside,
        mut answer: impl Future<Output = T> + Unpin,
    ) -> Option<T> {
        // Ten million times it is there already, and no clock is wanted.
        if let std::task::Poll::Ready(answer) = futures::poll!(&mut answer) {
            return Some(answer);
        }
        let Some(limit) = self.limit else { return Some(answer.await) };
        loop {
            let patience = match self.step {
                Step::Waiting => limit,
                Step::Cancelled => CANCEL_PATIENCE.min(limit),
                Step::Terminated => TERMINATE_PATIENCE.min(limit),
            };
            if let Some(answer) = within(patience, &mut answer).await {
                return Some(answer);
            }
            match self.step {
                Step::Waiting if outside.waits_for_lock().await => {}
                Step::Waiting => {
                    outside.cancel().await;
                    self.step = Step::Cancelled;
                }
                Step::Cancelled => {
                    outside.terminate().await;
                    self.step = Step::Terminated;
                }
                Step::Terminated => {
                    outside.give_up();
                    return None;
                }
            }
        }
    }
}

/// What comes within so much waiting. What does not is waited for by the next
/// call: nothing is lost.
async fn within<T>(patience: Duration, mut answer: impl Future<Output = T> + Unpin) -> Option<T> {
    for _ in 0..TICKS {
        if let Ok(answer) = timeout(patience / TICKS, &mut answer).await {
            return Some(answer);
        }
    }
    None
}
