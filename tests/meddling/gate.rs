//! A table that can be read up to its last value, until the gate is opened.

use crate::kit::Server;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Unlogged, so that it is read first; the last row alone has a TOASTed value,
/// and lies behind more rows than the server and its socket hold back.
pub(crate) const CREATE: &str = "CREATE UNLOGGED TABLE gate (id int, t text, wide text);
    ALTER TABLE gate ALTER wide SET STORAGE EXTERNAL;
    INSERT INTO gate SELECT i, repeat(md5(i::text), 4), NULL FROM generate_series(1, 20000) i;
    INSERT INTO gate SELECT 0, 'the last', repeat('wide', 2000);";

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

pub(crate) struct Gate {
    /// In a transaction that has the lock.
    holder: Client,
    /// To look at locks with.
    watcher: Client,
    index: u32,
}

impl Gate {
    pub(crate) async fn close(server: &Server, dbname: &str) -> Gate {
        let (holder, watcher) = (server.connect(dbname).await, server.connect(dbname).await);
        let sql =
            "SELECT i.indexrelid, i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c
            ON c.reltoastrelid = i.indrelid WHERE c.oid = 'gate'::regclass";
        let row = watcher.query_one(sql, &[]).await.expect("a TOAST index");
        let (index, name): (u32, &str) = (row.get(0), row.get(1));
        let sql = format!("BEGIN; REINDEX INDEX {name}");
        holder.batch_execute(&sql).await.expect("a lock on the TOAST index");
        Gate { holder, watcher, index }
    }

    /// Backends that wait at the gate.
    async fn waiting(&self) -> Vec<i32> {
        let sql = "SELECT pid FROM pg_locks WHERE relation = $1 AND NOT granted ORDER BY pid";
        let rows = self.watcher.query(sql, &[&self.index]).await.expect("pg_locks");
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn wait_for_one(&self) -> i32 {
        self.wait_for_another(&[]).await
    }

    /// Waits until one is at the gate that is none of these.
    pub(crate) async fn wait_for_another(&self, known: &[i32]) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(pid) = self.waiting().await.into_iter().find(|pid| !known.contains(pid)) {
                return pid;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody came to the gate");
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) async fn terminate(&self, pid: i32) {
        let sql = "SELECT pg_terminate_backend($1)";
        let row = self.watcher.query_one(sql, &[&pid]).await.expect("a signal");
        assert!(row.get::<_, bool>(0), "no backend {pid}");
    }

    pub(crate) async fn open(self) {
        self.holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
    }
}
