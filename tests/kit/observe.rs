//! What a server really does when harmed rows are read: its words, a crash, or
//! silence.

use super::Server;
use super::expect::Expect;
use super::oracle::{self, Row, quote};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Everything came as it was before the harm.
    Same,
    /// No error, yet not the truth.
    Silent {
        missing: usize,
        altered: usize,
        extra: usize,
    },
    Error {
        sqlstate: String,
        routine: String,
        message: String,
        rows: usize,
    },
    Crash {
        rows: usize,
    },
    /// Neither an end nor an error within the limit.
    Hang,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Same => write!(f, "same as before"),
            Seen::Silent { missing, altered, extra } => {
                write!(f, "SILENT: {missing} missing, {altered} altered, {extra} extra")
            }
            Seen::Error { sqlstate, routine, message, rows } => {
                write!(f, "{sqlstate} {routine}: {message} (after {rows} rows)")
            }
            Seen::Crash { rows } => write!(f, "CRASH (after {rows} rows)"),
            Seen::Hang => write!(f, "HANG"),
        }
    }
}

impl Seen {
    pub fn is(&self, expected: Expect) -> bool {
        match (self, expected) {
            (Seen::Same, Expect::Nothing)
            | (Seen::Silent { .. }, Expect::Silent)
            | (Seen::Crash { .. }, Expect::Crash) => true,
            (Seen::Error { sqlstate, .. }, Expect::Error(any)) => any.contains(&sqlstate.as_str()),
            _ => false,
        }
    }

    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Seen::Error { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }
}

/// Reads a whole relation in one COPY and holds it against the rows before.
pub async fn relation(
    server: &Server,
    dbname: &str,
    relation: &str,
    columns: &[String],
    before: &[Row],
) -> Seen {
    read(server, dbname, relation, columns, "", before).await
}

/// Reads one tuple by its address; `before` holds the whole relation.
pub async fn tuple(
    server: &Server,
    dbname: &str,
    relation: &str,
    columns: &[String],
    at: (u32, u16),
    before: &[Row],
) -> Seen {
    let one: Vec<Row> =
        before.iter().filter(|row| (row.block, row.offset) == at).cloned().collect();
    let condition = format!(" WHERE ctid = '({},{})'", at.0, at.1);
    read(server, dbname, relation, columns, &condition, &one).await
}

/// Reads those tuples that satisfy the test, all of them by their addresses in
/// one query. A TID scan looks at nothing else on their pages.
pub async fn tuples(
    server: &Server,
    dbname: &str,
    relation: &str,
    columns: &[String],
    before: &[Row],
    wanted: impl Fn(u32, u16) -> bool,
) -> Seen {
    let some: Vec<Row> =
        before.iter().filter(|row| wanted(row.block, row.offset)).cloned().collect();
    let tids: Vec<String> =
        some.iter().map(|row| format!("\"({},{})\"", row.block, row.offset)).collect();
    let condition = format!(" WHERE ctid = ANY ('{{{}}}'::pg_catalog.tid[])", tids.join(","));
    read(server, dbname, relation, columns, &condition, &some).await
}

async fn read(
    server: &Server,
    dbname: &str,
    relation: &str,
    columns: &[String],
    condition: &str,
    before: &[Row],
) -> Seen {
    let client = oracle::session(server, dbname).await;
    let list: String = columns.iter().map(|column| format!(", {}", quote(column))).collect();
    let sql = format!(
        "COPY (SELECT ctid{list} FROM ONLY {relation}{condition}) TO STDOUT (ENCODING 'UTF8')"
    );
    let crashes = server.crashes();
    // Without this a long list of addresses becomes a sequential scan.
    client.batch_execute("SET enable_seqscan = off").await.expect("a setting");
    // Unknown before 17; that is as good.
    let _ = client.batch_execute("SET io_combine_limit = 1").await;
    let Ok((rows, error)) =
        tokio::time::timeout(Duration::from_secs(20), collect(&client, &sql)).await
    else {
        return Seen::Hang;
    };
    let Some(error) = error else { return compare(before, &rows) };
    if let Some(db) = error.as_db_error() {
        return Seen::Error {
            sqlstate: db.code().code().to_owned(),
            routine: db.routine().unwrap_or_default().to_owned(),
            message: db.message().to_owned(),
            rows: rows.len(),
        };
    }
    let begun = Instant::now();
    while server.crashes() == crashes {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "the session ended without a crash: {error:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.wait_ready();
    Seen::Crash { rows: rows.len() }
}

/// The rows that came, and the error that ended them.
async fn collect(client: &Client, sql: &str) -> (Vec<Row>, Option<tokio_postgres::Error>) {
    let stream = match client.copy_out(sql).await {
        Ok(stream) => stream,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let mut stream = std::pin::pin!(stream);
    let mut text = Vec::new();
    let mut error = None;
    while let Some(next) = stream.next().await {
        match next {
            Ok(data) => text.extend_from_slice(&data),
            Err(end) => {
                error = Some(end);
                break;
            }
        }
    }
    (oracle::lines(&text).map(oracle::tagged_row).collect(), error)
}

fn compare(before: &[Row], after: &[Row]) -> Seen {
    let by_place = |rows: &[Row]| -> BTreeMap<(u32, u16), Vec<u8>> {
        rows.iter().map(|row| ((row.block, row.offset), row.line.clone())).collect()
    };
    let (old, new) = (by_place(before), by_place(after));
    let missing = old.keys().filter(|place| !new.contains_key(place)).count();
    let extra = after.len() - new.keys().filter(|place| old.contains_key(place)).count();
    let altered =
        old.iter().filter(|(place, line)| new.get(place).is_some_and(|now| now != *line)).count();
    if missing + extra + altered == 0 {
        Seen::Same
    } else {
        Seen::Silent { missing, altered, extra }
    }
}
