//! What a dump of an undamaged database must hold, found out by other means
//! than the dump's own: SQL queries, and COPY of each relation in one go.

use super::Dump;
use crate::kit::{Server, oracle};
use pg_salvage::output::manifest::{self, RelationKind, RelationStatus};
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// One relation, as the server gives it.
pub struct Truth {
    pub schema: String,
    pub name: String,
    pub relkind: char,
    pub unlogged: bool,
    pub populated: bool,
    pub columns: Vec<String>,
    pub generated: Vec<String>,
    /// COPY text in heap order, if it has rows of its own.
    pub rows: Option<Vec<u8>>,
    /// `last_value`, `is_called` of a sequence.
    pub sequence: Option<(i64, bool)>,
}

/// All relations of a database that a dump has an entry for, by OID.
pub async fn of(server: &Server, dbname: &str) -> BTreeMap<u32, Truth> {
    let client = oracle::session(server, dbname).await;
    seen_by(&client).await
}

/// The same, in the snapshot that a session has.
pub async fn seen_by(client: &Client) -> BTreeMap<u32, Truth> {
    let sql = "SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence = 'u',
            c.relispopulated, pg_catalog.current_setting('server_encoding')
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm', 'S', 'p', 'v', 'f') AND c.relpersistence <> 't'
            AND (n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                OR c.relname IN ('pg_largeobject', 'pg_largeobject_metadata'))";
    let mut all = BTreeMap::new();
    for row in client.query(sql, &[]).await.expect("pg_class") {
        let relkind = row.get::<_, &str>(3).chars().next().expect("a relkind");
        let mut truth = Truth {
            schema: row.get(1),
            name: row.get(2),
            relkind,
            unlogged: row.get(4),
            populated: row.get(5),
            columns: Vec::new(),
            generated: Vec::new(),
            rows: None,
            sequence: None,
        };
        fill(client, row.get(6), &mut truth).await;
        all.insert(row.get(0), truth);
    }
    // Large objects have entries where there are any.
    let empty = |t: &Truth| t.schema == "pg_catalog" && t.rows.as_ref().is_some_and(Vec::is_empty);
    all.retain(|_, truth| !empty(truth));
    all
}

async fn fill(client: &Client, encoding: &str, truth: &mut Truth) {
    let qualified = format!("{}.{}", oracle::quote(&truth.schema), oracle::quote(&truth.name));
    if truth.relkind == 'S' {
        let sql = format!("SELECT last_value, is_called FROM {qualified}");
        let row = client.query_one(&sql, &[]).await.expect("a sequence");
        truth.sequence = Some((row.get(0), row.get(1)));
        return;
    }
    for (name, generated) in oracle::columns_and_generated(client, &qualified).await {
        let list = if generated { &mut truth.generated } else { &mut truth.columns };
        list.push(name);
    }
    if matches!(truth.relkind, 'r' | 'm') && truth.populated {
        let columns: Vec<String> = truth.columns.iter().map(|name| oracle::quote(name)).collect();
        let select = format!("SELECT {} FROM ONLY {qualified}", columns.join(", "));
        let sql = format!("COPY ({select}) TO STDOUT (ENCODING '{encoding}')");
        let rows = oracle::copy_out(client, &sql).await;
        truth.rows = Some(rows.unwrap_or_else(|error| panic!("{qualified}: {error:?}")));
    }
}

impl Dump {
    /// Every relation of the database is there, and as it must be.
    pub async fn assert_equals(&self, all: &BTreeMap<u32, Truth>) {
        let mut oids: Vec<u32> = self.manifest.relations.iter().map(|r| r.oid).collect();
        oids.sort_unstable();
        let expected: Vec<u32> = all.keys().copied().collect();
        assert_eq!(oids, expected, "{}: the relations", self.case);
        for entry in &self.manifest.relations {
            self.assert_relation(entry, &all[&entry.oid]).await;
        }
    }

    /// One entry of the manifest and its file are as the server says.
    pub async fn assert_relation(&self, entry: &manifest::Relation, truth: &Truth) {
        let case = format!("{}, relation \"{}.{}\"", self.case, truth.schema, truth.name);
        assert_eq!((&entry.schema, &entry.name), (&truth.schema, &truth.name), "{case}");
        assert_eq!(entry.kind, kind(truth), "{case}: kind");
        let persistence = match truth.unlogged {
            true => manifest::Persistence::Unlogged,
            false => manifest::Persistence::Permanent,
        };
        assert_eq!(entry.persistence, persistence, "{case}: persistence");
        let sequence = entry.sequence.as_ref().map(|s| (s.last_value, s.is_called));
        assert_eq!(sequence, truth.sequence, "{case}: last_value, is_called");
        assert_eq!(entry.lost, [], "{case}: lost");
        let Some(rows) = &truth.rows else {
            assert_eq!(entry.files, [], "{case}: files");
            if truth.sequence.is_none() {
                assert_eq!(entry.status, RelationStatus::Skipped, "{case}: status");
                assert!(entry.reason.as_ref().is_some_and(|r| !r.is_empty()), "{case}: a reason");
            }
            return;
        };
        assert_eq!(entry.status, RelationStatus::Clean, "{case}: {:?}", entry.reason);
        assert_eq!(entry.reason, None, "{case}: reason");
        let columns: Vec<&String> = entry.columns.iter().map(|c| &c.name).collect();
        assert_eq!(columns, truth.columns.iter().collect::<Vec<_>>(), "{case}: columns");
        let left_out: Vec<&String> = entry.columns_left_out.iter().map(|c| &c.name).collect();
        assert_eq!(left_out, truth.generated.iter().collect::<Vec<_>>(), "{case}: left out");
        let count = oracle::lines(rows).count() as u64;
        let clean = manifest::Rows { clean: count, ..Default::default() };
        assert_eq!(entry.rows, clean, "{case}: rows");
        assert_eq!((entry.files.len(), entry.files[0].rows), (1, count), "{case}: files");
        let read = self.clean_rows(entry).await;
        assert_same(&case, &read, rows);
    }
}

/// Two texts of COPY; what differs is said by its line, as both may be large.
pub fn assert_same(case: &str, read: &[u8], rows: &[u8]) {
    if read == rows {
        return;
    }
    let (read, rows): (Vec<_>, Vec<_>) =
        (oracle::lines(read).collect(), oracle::lines(rows).collect());
    let at = read.iter().zip(&rows).take_while(|(a, b)| a == b).count();
    let line = |lines: &[&[u8]]| lines.get(at).map(|line| line.to_vec()).unwrap_or_default();
    let (one, other) = (line(&read), line(&rows));
    let byte = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let show = |line: &[u8]| {
        let from = byte.saturating_sub(20).min(line.len());
        String::from_utf8_lossy(&line[from..line.len().min(from + 100)]).into_owned()
    };
    panic!(
        "{case}: {} lines instead of {}, line {at} differs: {:?} instead of {:?}",
        read.len(),
        rows.len(),
        show(&one),
        show(&other)
    );
}

fn kind(truth: &Truth) -> RelationKind {
    match (truth.relkind, truth.name.as_str()) {
        (_, "pg_largeobject") if truth.schema == "pg_catalog" => RelationKind::LargeObjects,
        (_, "pg_largeobject_metadata") if truth.schema == "pg_catalog" => {
            RelationKind::LargeObjectMetadata
        }
        ('r', _) => RelationKind::Table,
        ('m', _) => RelationKind::Matview,
        ('S', _) => RelationKind::Sequence,
        ('p', _) => RelationKind::PartitionedTable,
        ('v', _) => RelationKind::View,
        _ => RelationKind::ForeignTable,
    }
}
