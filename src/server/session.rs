//! A session: one connection with our settings, in one read-only transaction
//! with a snapshot that all sessions share.
//!
//! An error aborts a transaction, so every read stands behind a savepoint:
//! rolling back to it keeps the snapshot (and the lock on the relation).

use super::connect::{self, Connected, HangUps, Notice, Target};
pub use super::copy::CopyRows;
pub use super::error::{CheckFault, Hung, OpenError, ReadError};
pub use super::facts::ServerFacts;
use super::fault::{self, Ended, Words, ended};
use super::silence::{Outside, Silence};
use super::sql;
use futures::future;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::SimpleQueryMessage;

/// A session's settings that the user decides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeouts {
    /// 0: none.
    pub statement_ms: u64,
    pub lock_ms: u64,
    /// How long the server may be silent.
    pub read_ms: u64,
}

impl Timeouts {
    /// `read_ms`; none for 0.
    pub fn read(&self) -> Option<Duration> {
        (self.read_ms > 0).then(|| Duration::from_millis(self.read_ms))
    }

    /// For statements that read no relation.
    fn answer(&self) -> Option<Duration> {
        Some(self.read()?.min(ANSWER_PATIENCE))
    }
}

/// Until our settings hold, those of the role or the database may leave a
/// session too little time: so often it is begun.
const TRIES_MAX: u32 = 5;

/// So long is waited for a connection to be closed that does not answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// So long a statement may take that reads no relation, where `--read-timeout`
/// is longer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// A statement that reads all of a relation may be silent for so many times
/// `--read-timeout`.
const READS_OF_ALL: u32 = 12;

/// Statements of the transaction that every session is in.
const BEGIN: &str = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
const SAVE: &str = "SAVEPOINT relation";
const UNDO_READING: &str = "ROLLBACK TO SAVEPOINT reading";
const UNDO_RELATION: &str = "ROLLBACK TO SAVEPOINT relation";

/// A snapshot that another session exported, and what that one knows of the
/// server.
#[derive(Clone)]
pub struct Snapshot<'a> {
    pub id: &'a str,
    pub server: Arc<ServerFacts>,
}

pub struct Session {
    pub(super) connected: Connected,
    server: Arc<ServerFacts>,
    outside: Outside,
    pub(super) timeouts: Timeouts,
}

impl Session {
    /// Connects, pins the settings, and begins a transaction, in the exported
    /// snapshot if one is given.
    pub async fn open(
        target: &Target,
        timeouts: Timeouts,
        snapshot: Option<Snapshot<'_>>,
    ) -> Result<Self, OpenError> {
        let mut tries = 1;
        loop {
            let connected = connect::connect(target).await?;
            if snapshot.is_none() {
                connect::refuse_shared_sessions(target, &connected).await?;
            }
            let outside = Outside::new(target.clone(), connected.cancel_handle());
            let mut session = Self { connected, server: Arc::default(), outside, timeouts };
            match session.prepare(snapshot.clone()).await {
                Ok(()) => return Ok(session),
                Err(e) if fault::is_timeout(e.sqlstate()) && tries < TRIES_MAX => tries += 1,
                Err(e) => return Err(e.into()),
            }
        }
    }

    async fn prepare(&mut self, snapshot: Option<Snapshot<'_>>) -> Result<(), ReadError> {
        let timeouts = self.timeouts;
        let version = match &snapshot {
            Some(s) => s.server.version,
            None => {
                self.execute("SET statement_timeout TO 0").await?;
                let version = self.value("SHOW server_version_num").await?;
                version.and_then(|v| v.parse().ok()).unwrap_or(0)
            }
        };
        self.execute(&sql::pin(version, timeouts.statement_ms, timeouts.lock_ms)).await?;
        let wishes = sql::PINNED_IF_POSSIBLE.iter().map(|sql| self.execute(sql));
        for refused in future::join_all(wishes).await.into_iter().filter_map(Result::err) {
            if refused.sqlstate().is_empty() {
                return Err(refused);
            }
        }
        match self.row(Outside::WHO).await {
            Err(e) if e.sqlstate().is_empty() => return Err(e),
            // Without it a silent backend is cancelled, and not terminated.
            who => self.outside.is(&who.unwrap_or_default()),
        }
        let hiding = self.look_at_damage().await?;
        self.execute(BEGIN).await?;
        match snapshot {
            Some(Snapshot { id, server }) => {
                self.execute(&format!("SET TRANSACTION SNAPSHOT {}", sql::literal(id))).await?;
                self.server = server;
                self.execute(SAVE).await
            }
            None => {
                self.server = Arc::new(self.facts(version, hiding).await?);
                Ok(())
            }
        }
    }

    /// Turns off what hides damage, whatever the server's configuration says.
    /// Returns what is on all the same.
    async fn look_at_damage(&self) -> Result<Vec<String>, ReadError> {
        let mut hiding = Vec::new();
        for name in ["zero_damaged_pages", "ignore_checksum_failure"] {
            if self.value(&format!("SHOW {name}")).await?.as_deref() == Some("off") {
                continue;
            }
            match self.execute(&format!("SET {name} TO off")).await {
                Err(e) if e.sqlstate().is_empty() => return Err(e),
                Err(_) => hiding.push(name.to_owned()),
                Ok(()) => {}
            }
        }
        Ok(hiding)
    }

    /// One value that is good to have: an error of the server leaves it out.
    pub(super) async fn wish(&self, sql: &str) -> Result<Option<String>, ReadError> {
        self.execute("SAVEPOINT wish").await?;
        let value = match self.value(sql).await {
            Err(e) if e.sqlstate().is_empty() => return Err(e),
            other => other.ok().flatten(),
        };
        self.execute("ROLLBACK TO SAVEPOINT wish; RELEASE SAVEPOINT wish").await?;
        Ok(value)
    }

    /// Whether the server is on this host, or a pooler is that we are connected to.
    pub fn is_by_unix_socket(&self) -> bool {
        self.connected.is_by_unix_socket()
    }

    pub fn server(&self) -> &Arc<ServerFacts> {
        &self.server
    }

    /// What the snapshot of this session can see: `xmin:xmax:` and the
    /// transactions under way between them.
    pub async fn snapshot_sees(&self) -> Result<String, ReadError> {
        let function = match self.server.version {
            130_000.. => "pg_current_snapshot",
            _ => "txid_current_snapshot",
        };
        let sees = self.value(&format!("SELECT {function}()")).await?;
        Ok(sees.unwrap_or_default())
    }

    /// Ends the transaction, and begins one with a snapshot of now.
    pub async fn renew_snapshot(&self) -> Result<(), ReadError> {
        self.execute(&format!("ROLLBACK; {BEGIN}")).await
    }

    /// Exports the snapshot of this session; it lives as long as the session.
    pub async fn export_snapshot(&self) -> Result<String, ReadError> {
        let id = self.value("SELECT pg_export_snapshot()").await?;
        self.save().await?;
        Ok(id.unwrap_or_default())
    }

    /// Sets the savepoint that [`Self::leave_relation`] goes back to. After a
    /// snapshot was exported: that cannot be done in a subtransaction.
    pub async fn save(&self) -> Result<(), ReadError> {
        self.execute(SAVE).await
    }

    /// After an error in a read: back to where the read began.
    pub async fn undo_reading(&self) -> Result<(), ReadError> {
        self.execute(UNDO_READING).await
    }

    /// Done with a relation, or it could not be begun: gives its lock back.
    pub async fn leave_relation(&self) -> Result<(), ReadError> {
        self.execute(UNDO_RELATION).await
    }

    /// Whether the connection has ended, or was given up.
    pub fn is_closed(&self) -> bool {
        self.connected.client.is_closed() || self.is_given_up()
    }

    /// Whether its backend did not answer, and could not be ended.
    pub fn is_given_up(&self) -> bool {
        self.outside.is_given_up()
    }

    /// What the server said when it ended this session, if it has: idle
    /// sessions are told, busy ones often not (a backend that is blocked in
    /// sending rows ends without a word).
    pub async fn ended(&mut self) -> (Ended, Words) {
        let closed = tokio::time::timeout(LAST_WORDS, &mut self.connected.closed).await;
        let words = match closed {
            Ok(Ok(Some(error))) => Words::of(&error),
            Ok(_) => Words::default(),
            // The server has not ended it at all: it hangs.
            Err(_) => return (Ended::Told, Words::default()),
        };
        let warnings: Vec<String> = self.notices().into_iter().map(|n| n.sqlstate).collect();
        (ended(&words, &warnings), words)
    }

    /// Has it noted when this session hangs up, under this number.
    pub fn watch(&self, hang_ups: &HangUps, number: u64) -> Result<(), OpenError> {
        Ok(hang_ups.watch(&self.connected, number)?)
    }

    /// Warnings of the server since the last call.
    pub fn notices(&self) -> Vec<Notice> {
        self.connected.notices.take()
    }

    /// Whether a COPY can be planned and sent: its rows do not matter.
    pub async fn probe(&self, sql: &str) -> Result<(), ReadError> {
        let mut copy = self.copy(sql).await?;
        while copy.next().await?.is_some() {}
        Ok(())
    }

    pub async fn execute(&self, sql: &str) -> Result<(), ReadError> {
        let mut silence = Silence::after(self.timeouts.answer());
        let statement = pin!(self.connected.client.batch_execute(sql));
        self.answer(statement, &mut silence, Instant::now()).await
    }

    /// The first column of the first row, as text.
    pub async fn value(&self, sql: &str) -> Result<Option<String>, ReadError> {
        let row = self.row(sql).await?;
        Ok(row.into_iter().next().flatten())
    }

    /// The first row, as text; empty if there is none.
    pub async fn row(&self, sql: &str) -> Result<Vec<Option<String>>, ReadError> {
        Ok(self.rows(sql).await?.into_iter().next().unwrap_or_default())
    }

    /// One value for which the server reads all of a relation, and is silent
    /// until it has.
    pub async fn value_of_all(&self, sql: &str) -> Result<Option<String>, ReadError> {
        let limit = self.timeouts.read().map(|read| read * READS_OF_ALL);
        let rows = self.rows_within(sql, limit).await?;
        Ok(rows.into_iter().flatten().next().flatten())
    }

    /// All rows, as text. For results of a few thousand rows at most.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, ReadError> {
        self.rows_within(sql, self.timeouts.read()).await
    }

    async fn rows_within(
        &self,
        sql: &str,
        limit: Option<Duration>,
    ) -> Result<Vec<Vec<Option<String>>>, ReadError> {
        let mut silence = Silence::after(limit);
        let query = pin!(self.connected.client.simple_query(sql));
        let messages = self.answer(query, &mut silence, Instant::now()).await?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len()).map(|i| row.try_get(i).ok().flatten().map(str::to_owned)).collect(),
            ),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Waits for an answer of the server, but not for ever.
    pub(super) async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>> + Unpin,
        silence: &mut Silence,
        begun: Instant,
    ) -> Result<T, ReadError> {
        if self.is_given_up() {
            let message = "the connection was given up: the server did not answer".to_owned();
            return Err(ReadError::GivenUp { words: Words { message, ..Words::default() }.into() });
        }
        let error = match silence.wait(&self.outside, answer).await {
            Some(answer) => match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => Some(ReadError::from(error)),
            },
            None => None,
        };
        Err(self.hung(error, silence, begun.elapsed()))
    }

    /// Tells a statement that was ended since it hung from one that failed.
    fn hung(&self, error: Option<ReadError>, silence: &Silence, took: Duration) -> ReadError {
        let silent = |end: &str, sqlstate: &str| {
            let waited = self.timeouts.read().unwrap_or_default();
            let message = format!("the server sent nothing for {waited:?}: {end}");
            let words = Words { message, sqlstate: sqlstate.to_owned(), ..Words::default() };
            ReadError::Hung { words: Box::new(words), why: Hung::Silent }
        };
        let Some(error) = error else {
            return silent("its backend did not end, and was left alone", "");
        };
        let limit = Duration::from_millis(self.timeouts.statement_ms);
        let cancelled = fault::is_cancellation(error.sqlstate());
        if silence.has_terminated() && fault::is_termination(error.sqlstate()) {
            self.outside.give_up();
            silent("its backend was terminated", "")
        } else if silence.has_cancelled() && cancelled {
            silent("the read was cancelled", error.sqlstate())
        } else if cancelled && !limit.is_zero() && took >= limit {
            ReadError::Hung { words: Box::new(error.words().clone()), why: Hung::Slow }
        } else {
            error
        }
    }
}
