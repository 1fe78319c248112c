//! What was in the database before the harm: every row by its place and a hash
//! of its text, and how far the sequences were.

use super::kit::{Server, oracle};
use sha2::{Digest, Sha256};

/// Enough of a SHA-256 to know a row by.
pub type RowHash = u128;

pub struct Relation {
    pub oid: u32,
    /// `schema.name`.
    pub name: String,
    pub rows: Vec<(u32, u16, RowHash)>,
}

pub struct Sequence {
    pub oid: u32,
    pub name: String,
    pub last_value: i64,
}

pub struct Truth {
    pub relations: Vec<Relation>,
    pub sequences: Vec<Sequence>,
}

impl Truth {
    pub fn rows(&self) -> u64 {
        self.relations.iter().map(|r| r.rows.len() as u64).sum()
    }
}

pub fn hash(line: &[u8]) -> RowHash {
    let digest = Sha256::digest(line);
    let half = digest.first_chunk::<16>().expect("a SHA-256 has 32 bytes");
    RowHash::from_le_bytes(*half)
}

pub async fn take(server: &Server, dbname: &str) -> Truth {
    let client = oracle::session(server, dbname).await;
    let mut names: Vec<(u32, String, String)> = oracle::relations(&client)
        .await
        .iter()
        .map(|r| (r.oid, format!("{}.{}", r.schema, r.name), r.quoted()))
        .collect();
    for catalog in ["pg_largeobject", "pg_largeobject_metadata"] {
        let name = format!("pg_catalog.{catalog}");
        let sql = format!("SELECT '{name}'::regclass::oid");
        let oid = client.query_one(&sql, &[]).await.expect("an OID").get(0);
        names.push((oid, name.clone(), name));
    }
    let mut relations = Vec::new();
    for (oid, name, quoted) in names {
        let columns = oracle::columns(&client, &quoted).await;
        let rows = oracle::rows(&client, &quoted, &columns).await;
        let rows = rows.iter().map(|row| (row.block, row.offset, hash(&row.line))).collect();
        relations.push(Relation { oid, name, rows });
    }
    let sql = "SELECT c.oid, n.nspname || '.' || c.relname, n.nspname, c.relname
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S'";
    let sql = sql.replace("pg_class", "pg_catalog.pg_class");
    let mut sequences = Vec::new();
    for row in client.query(&sql, &[]).await.expect("pg_class") {
        let (schema, name): (&str, &str) = (row.get(2), row.get(3));
        let sql =
            format!("SELECT last_value FROM {}.{}", oracle::quote(schema), oracle::quote(name));
        let last_value = client.query_one(&sql, &[]).await.expect("a sequence").get(0);
        sequences.push(Sequence { oid: row.get(0), name: row.get(1), last_value });
    }
    Truth { relations, sequences }
}
