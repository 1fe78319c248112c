//! Sessions that write: into the target of a restore, which is ours.
//!
//! Nothing else in the program writes to a server. What is sent comes from
//! [`sql`] and from the statements of a dump.

mod copy_in;
mod refusal;
pub mod sql;

pub use copy_in::CopyIn;
pub use refusal::{Meaning, Refusal};

use super::connect::{self, Connected, Target};
use super::fault;
use super::session::OpenError;
use futures::TryStreamExt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::SimpleQueryMessage;

/// A session of the target, in a transaction of its own when it says so.
pub struct TargetSession {
    connected: Connected,
    version: u32,
    /// A COPY was refused before it took any row. The client library then sends
    /// the server one `Sync` too many, and takes each answer for that of the
    /// statement before.
    out_of_step: AtomicBool,
    /// What is behind the savepoint is kept, and it was not released yet.
    kept: AtomicBool,
}

/// Rows of text, as the simple protocol has them.
pub type TextRows = Vec<Vec<Option<String>>>;

impl TargetSession {
    /// Connects, and pins what decides how values are read and statements run.
    pub async fn open(target: &Target) -> Result<Self, OpenError> {
        let connected = connect::connect(target).await?;
        connect::refuse_shared_sessions(target, &connected).await?;
        let version = connected.server_version_num();
        let (out_of_step, kept) = (AtomicBool::new(false), AtomicBool::new(false));
        let session = Self { connected, version, out_of_step, kept };
        session.execute(&sql::pin(version)).await.map_err(OpenError::from)?;
        for wish in sql::PINNED_IF_POSSIBLE {
            match session.execute(wish).await {
                Err(refused) if refused.is_lost() => return Err(refused.into()),
                _ => {}
            }
        }
        Ok(session)
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn is_closed(&self) -> bool {
        self.connected.client.is_closed()
    }

    /// Whether it can be used no more: a COPY was refused at its beginning.
    pub fn is_out_of_step(&self) -> bool {
        self.out_of_step.load(Ordering::Relaxed)
    }

    pub async fn execute(&self, sql: &str) -> Result<(), Refusal> {
        tracing::trace!(sql, "write");
        self.connected.client.batch_execute(sql).await.map_err(Refusal::from)
    }

    /// Nothing is asked of the server where there is no statement.
    pub async fn execute_if_any(&self, sql: &str) -> Result<(), Refusal> {
        if sql.is_empty() { Ok(()) } else { self.execute(sql).await }
    }

    /// Statements of a dump, in its encoding. What is not UTF-8 is sent as
    /// hexadecimal digits, since the client library sends text only.
    pub async fn execute_bytes(&self, sql: &[u8], encoding: &str) -> Result<(), Refusal> {
        match std::str::from_utf8(sql) {
            // In another encoding it may be valid UTF-8, and mean something else.
            Ok(text) if text.is_ascii() || encoding == "UTF8" => self.execute(text).await,
            _ => self.execute(&sql::execute_hex(sql, encoding)).await,
        }
    }

    pub async fn rows(&self, sql: &str) -> Result<TextRows, Refusal> {
        tracing::trace!(sql, "ask");
        let messages = self.connected.client.simple_query(sql).await?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len()).map(|i| row.try_get(i).ok().flatten().map(str::to_owned)).collect(),
            ),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The first column of the first row.
    pub async fn value(&self, sql: &str) -> Result<Option<String>, Refusal> {
        Ok(self.rows(sql).await?.into_iter().next().and_then(|row| row.into_iter().next()?))
    }

    /// How many rows the statement touched.
    pub async fn affected(&self, sql: &str) -> Result<u64, Refusal> {
        let messages = self.connected.client.simple_query(sql).await?;
        let count = messages.into_iter().rev().find_map(|message| match message {
            SimpleQueryMessage::CommandComplete(count) => Some(count),
            _ => None,
        });
        Ok(count.unwrap_or(0))
    }

    /// Begins a transaction that writes, and gives its number. Deferred constraints
    /// hold at once in it: else rows that break one are known at its end only.
    pub async fn begin(&self) -> Result<String, Refusal> {
        self.kept.store(false, Ordering::Relaxed);
        let begin = "BEGIN; SET CONSTRAINTS ALL IMMEDIATE; SELECT pg_catalog.txid_current()";
        let xid = self.value(begin).await?;
        Ok(xid.unwrap_or_default())
    }

    pub async fn commit(&self) -> Result<(), Refusal> {
        self.kept.store(false, Ordering::Relaxed);
        self.execute("COMMIT").await
    }

    pub async fn rollback(&self) -> Result<(), Refusal> {
        self.kept.store(false, Ordering::Relaxed);
        self.execute("ROLLBACK").await
    }

    /// Rolls back what is there no use for. If that fails, the next statement
    /// tells; a session that is out of step ends with it.
    pub async fn abandon(&self) {
        if !self.is_out_of_step() {
            let _ = self.rollback().await;
        }
    }

    pub async fn save(&self) -> Result<(), Refusal> {
        match self.kept.swap(false, Ordering::Relaxed) {
            true => self.execute("RELEASE SAVEPOINT part; SAVEPOINT part").await,
            false => self.execute("SAVEPOINT part").await,
        }
    }

    /// What came since [`Self::save`] stays. The savepoint goes with the next, or
    /// with the end of the transaction: to release it would be one more question to
    /// wait for.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    pub async fn undo(&self) -> Result<(), Refusal> {
        self.execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part").await
    }

    /// Begins to send rows.
    pub async fn copy_in(&self, sql: &str) -> Result<CopyIn, Refusal> {
        tracing::trace!(sql, "load");
        match self.connected.client.copy_in(sql).await {
            Ok(sink) => Ok(CopyIn::new(sink)),
            Err(error) => {
                self.out_of_step.store(true, Ordering::Relaxed);
                Err(error.into())
            }
        }
    }

    /// Both at once: a savepoint, and behind it the beginning of a COPY.
    pub async fn save_and_copy_in(&self, sql: &str) -> Result<CopyIn, Refusal> {
        let (saved, copy) = tokio::join!(self.save(), self.copy_in(sql));
        saved?;
        copy
    }

    /// Gives rows of a COPY, some whole ones at a time.
    pub async fn copy_out(&self, sql: &str, mut each: impl FnMut(&[u8])) -> Result<(), Refusal> {
        tracing::trace!(sql, "read");
        let mut stream = pin!(self.connected.client.copy_out(sql).await?);
        while let Some(rows) = stream.try_next().await? {
            each(&rows);
        }
        Ok(())
    }

    /// What became of a transaction, by its number. None: it is under way.
    pub async fn is_committed(&self, xid: &str) -> Result<Option<bool>, Refusal> {
        let status = self.value(&sql::transaction_status(xid)).await;
        match status {
            Ok(status) => Ok(match status.as_deref() {
                Some("committed") => Some(true),
                Some("in progress") => None,
                _ => Some(false),
            }),
            Err(refusal) if refusal.is_lost() => Err(refusal),
            // A number that this server has not given out yet.
            Err(refusal) if fault::is_invalid_value(&refusal.words.sqlstate) => Ok(Some(false)),
            Err(refusal) => Err(refusal),
        }
    }
}
