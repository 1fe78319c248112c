//! One relation in one session: locked, measured, and what its statements are.

use super::fault::{Fault, Phase};
use super::inventory::{Relation, RelationKind};
use super::session::{ReadError, Session};
use super::sql::{Readable, ident, literal};
use crate::heap::tuples_per_page_max;
use std::collections::HashSet;

/// A relation as it lies on disk now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// `pg_relation_filepath`: what the server's words about its pages name.
    pub path: String,
    pub filenode: u32,
    /// Length of the main fork. A missing file counts as empty.
    pub blocks: u32,
}

/// Why a relation could not be begun.
#[derive(Debug)]
pub enum Refused {
    /// The relation is gone, or another has its name.
    Gone,
    Fault(Fault, ReadError),
}

/// The statements for a relation; the error is for people.
pub fn readable(session: &Session, relation: &Relation) -> Result<Readable, String> {
    let server = session.server();
    let utf8 = |name: &bstr::BString, what: &str| {
        std::str::from_utf8(name).map(ident).map_err(|_| {
            format!("the name of {what} \"{name}\" is not valid UTF-8, and cannot be sent in a statement")
        })
    };
    let schema = utf8(&relation.schema, "schema")?;
    let name = utf8(&relation.name, "relation")?;
    let columns = relation.columns.iter().map(|c| utf8(&c.name, "column"));
    Ok(Readable {
        qualified: format!("{schema}.{name}"),
        columns: columns.collect::<Result<_, _>>()?,
        encoding: server.encoding.clone(),
        plain: relation.kind != RelationKind::Matview || server.version >= 180_000,
        tid_ranges: server.version >= 140_000,
        tuples_max: tuples_per_page_max(server.block_size),
        block_size: server.block_size,
        past_statistics: false,
        oids: relation.columns.first().is_some_and(|c| c.attnum < 0),
    })
}

/// Locks a relation against being dropped, rewritten or emptied while it is
/// read, until [`Session::leave_relation`], and looks at its file.
pub async fn enter(
    session: &Session,
    relation: &Relation,
    readable: &Readable,
) -> Result<OnDisk, Refused> {
    // Only tables can be locked; a catalog is not emptied.
    let lock = match relation.kind {
        RelationKind::Table => {
            format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE; ", readable.qualified)
        }
        _ => String::new(),
    };
    let oid = relation.oid;
    let sql = format!(
        "{lock}SAVEPOINT reading; SELECT pg_catalog.pg_relation_filepath({oid}), \
         pg_catalog.pg_relation_filenode({oid}), pg_catalog.pg_relation_size({oid}, 'main'), \
         {}::pg_catalog.regclass::pg_catalog.oid",
        literal(&readable.qualified)
    );
    let failed = |e: ReadError| Refused::Fault(e.fault(Phase::Start, None), e);
    let row = session.row(&sql).await.map_err(failed)?;
    let [Some(path), Some(filenode), Some(size), Some(named)] = row.as_slice() else {
        return Err(Refused::Gone);
    };
    // Statements go by name: its rows would be taken for those of this one.
    if *named != oid.to_string() {
        return Err(Refused::Gone);
    }
    let bytes: u64 = size.parse().unwrap_or(0);
    let blocks = bytes / u64::from(session.server().block_size.max(1));
    Ok(OnDisk {
        path: path.clone(),
        filenode: filenode.parse().unwrap_or(0),
        blocks: u32::try_from(blocks).unwrap_or(u32::MAX),
    })
}

/// Tables of the system catalogs that the role may not read.
pub async fn unreadable_catalogs(session: &Session) -> Result<HashSet<u32>, ReadError> {
    let rows = session
        .rows(
            "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'r' \
             AND c.relnamespace IN (SELECT oid FROM pg_catalog.pg_namespace \
             WHERE nspname IN ('pg_catalog', 'information_schema')) \
             AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')",
        )
        .await?;
    Ok(rows.into_iter().flatten().flatten().filter_map(|oid| oid.parse().ok()).collect())
}

/// Lengths of many relations, in blocks, for the order of work and for cutting
/// the large ones. One that cannot be had (locked, broken) is left out.
pub async fn sizes(session: &Session, oids: &[u32]) -> Result<Vec<(u32, u32)>, ReadError> {
    /// So many at once; where one of them fails, halves.
    const BATCH: usize = 1000;
    /// Nobody is to wait for a lock before the first row is read.
    const LOCK_MS: u32 = 100;
    let mut sizes = Vec::with_capacity(oids.len());
    let mut todo: Vec<&[u32]> = oids.chunks(BATCH).rev().collect();
    while let Some(batch) = todo.pop() {
        let list: Vec<String> = batch.iter().map(u32::to_string).collect();
        let sql = format!(
            "SET LOCAL lock_timeout TO {LOCK_MS}; \
             SELECT oid, pg_catalog.pg_relation_size(oid::pg_catalog.regclass, 'main') \
             FROM pg_catalog.unnest('{{{}}}'::pg_catalog.oid[]) oid",
            list.join(",")
        );
        match session.rows(&sql).await {
            Ok(rows) => sizes.extend(rows.iter().filter_map(|row| {
                let bytes: u64 = row.get(1)?.as_ref()?.parse().ok()?;
                let blocks = bytes / u64::from(session.server().block_size.max(1));
                Some((
                    row.first()?.as_ref()?.parse().ok()?,
                    u32::try_from(blocks).unwrap_or(u32::MAX),
                ))
            })),
            Err(e) if e.sqlstate().is_empty() || e.is_hung() => return Err(e),
            Err(_) => {
                session.leave_relation().await?;
                if batch.len() > 1 {
                    let (left, right) = batch.split_at(batch.len() / 2);
                    todo.extend([right, left]);
                }
            }
        }
    }
    // The lock timeout is the user's again.
    session.leave_relation().await?;
    Ok(sizes)
}
