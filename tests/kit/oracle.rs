//! The truth: rows as an undamaged server gives them, taken before the harm,
//! and the rows of a finished dump's files to hold against them.

use super::Server;
use async_compression::tokio::bufread::{GzipDecoder, Lz4Decoder, ZstdDecoder};
use futures::TryStreamExt;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio_postgres::Client;

/// Everything that would change how a row is written or in which order.
const PINNED: &str = "SET extra_float_digits = 3; SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres';
    SET bytea_output = 'hex'; SET timezone = 'UTC'; SET search_path = ''; SET synchronize_seqscans = off;
    SET max_parallel_workers_per_gather = 0; SET row_security = off; SET xmloption = 'content';
    SET lc_monetary = 'C'; SET statement_timeout = 0";

/// A row's address, and its columns as a line of COPY text without the newline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub block: u32,
    pub offset: u16,
    pub line: Vec<u8>,
}

/// A session that writes rows as a dump must.
pub async fn session(server: &Server, dbname: &str) -> Client {
    let client = server.connect(dbname).await;
    client.batch_execute(PINNED).await.expect("the pinned settings");
    client
}

/// A table, partition or materialised view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: char,
}

impl Relation {
    /// As SQL wants it.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }
}

/// Every relation of the user's that has rows of its own, by OID.
pub async fn relations(client: &Client) -> Vec<Relation> {
    let sql = "SELECT c.oid, n.nspname, c.relname, c.relkind::text FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relispopulated
        AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY c.oid";
    let rows = client.query(sql, &[]).await.expect("pg_class");
    let relation = |row: &tokio_postgres::Row| Relation {
        oid: row.get(0),
        schema: row.get(1),
        name: row.get(2),
        kind: row.get::<_, &str>(3).chars().next().expect("a relkind"),
    };
    rows.iter().map(relation).collect()
}

/// The columns that a dump holds, in physical order: none dropped, none
/// generated.
pub async fn columns(client: &Client, relation: &str) -> Vec<String> {
    let all = columns_and_generated(client, relation).await;
    all.into_iter().filter(|(_, generated)| !generated).map(|(name, _)| name).collect()
}

/// All columns that are not dropped, and whether each is generated. Before
/// PostgreSQL 12 the oid of a table that has them is one, the first.
pub async fn columns_and_generated(client: &Client, relation: &str) -> Vec<(String, bool)> {
    let version = "SELECT current_setting('server_version_num')::int";
    let version: i32 = client.query_one(version, &[]).await.expect("a version").get(0);
    let generated = if version >= 120_000 { "attgenerated <> ''" } else { "false" };
    let sql = format!(
        "SELECT attname, {generated} FROM pg_catalog.pg_attribute
        WHERE attrelid = $1::text::pg_catalog.regclass AND NOT attisdropped
        AND (attnum > 0 OR attname = 'oid') ORDER BY attnum"
    );
    let rows = client.query(&sql, &[&relation]).await.expect("pg_attribute");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The rows of a relation (named as SQL wants it), in physical order.
pub async fn rows(client: &Client, relation: &str, columns: &[String]) -> Vec<Row> {
    try_rows(client, relation, columns).await.expect("the rows of an undamaged relation")
}

pub async fn try_rows(
    client: &Client,
    relation: &str,
    columns: &[String],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let list: String = columns.iter().map(|column| format!(", {}", quote(column))).collect();
    let sql = format!("COPY (SELECT ctid{list} FROM ONLY {relation}) TO STDOUT (ENCODING 'UTF8')");
    let text = copy_out(client, &sql).await?;
    Ok(lines(&text).map(tagged_row).collect())
}

/// All relations of a database with their rows.
pub async fn database(server: &Server, dbname: &str) -> Vec<(Relation, Vec<Row>)> {
    let client = session(server, dbname).await;
    let mut all = Vec::new();
    for relation in relations(&client).await {
        let name = relation.quoted();
        let columns = columns(&client, &name).await;
        let rows = rows(&client, &name, &columns).await;
        all.push((relation, rows));
    }
    all
}

/// Everything that one COPY sends.
pub async fn copy_out(client: &Client, sql: &str) -> Result<Vec<u8>, tokio_postgres::Error> {
    let stream = client.copy_out(sql).await?;
    let append = |mut text: Vec<u8>, data: bytes::Bytes| async move {
        text.extend_from_slice(&data);
        Ok(text)
    };
    stream.try_fold(Vec::new(), append).await
}

/// `(12,3)<tab>the rest`; a table without columns has no rest and no tab.
pub fn tagged_row(line: &[u8]) -> Row {
    let end = line.iter().position(|byte| *byte == b'\t').unwrap_or(line.len());
    let (tid, rest) = line.split_at(end);
    let (block, offset) = parse_tid(std::str::from_utf8(tid).expect("a ctid"));
    Row { block, offset, line: rest.get(1..).unwrap_or_default().to_vec() }
}

/// `(12,3)` in parts.
pub fn parse_tid(tid: &str) -> (u32, u16) {
    let inner = tid.trim_start_matches('(').trim_end_matches(')');
    let (block, offset) = inner.split_once(',').expect("a ctid");
    (block.parse().expect("a block"), offset.parse().expect("an offset"))
}

/// The lines of COPY text: a newline ends a row and is never inside one.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\n").expect("the last row ends with a newline"))
}

/// What a dump's file holds, unpacked as its name says.
pub async fn read_file(path: &Path) -> Vec<u8> {
    let file = tokio::fs::File::open(path).await;
    let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = BufReader::new(file);
    let mut unpacked: Box<dyn AsyncRead + Unpin> =
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some("zst") => {
                let mut decoder = ZstdDecoder::new(file);
                decoder.multiple_members(true);
                Box::new(decoder)
            }
            Some("gz") => {
                let mut decoder = GzipDecoder::new(file);
                decoder.multiple_members(true);
                Box::new(decoder)
            }
            Some("lz4") => {
                let mut decoder = Lz4Decoder::new(file);
                decoder.multiple_members(true);
                Box::new(decoder)
            }
            _ => Box::new(file),
        };
    let mut bytes = Vec::new();
    let read = unpacked.read_to_end(&mut bytes).await;
    read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes
}

/// An identifier as SQL wants it, always in quotes.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
