//! The inventory: every relation of a database, by plain COPY of the catalogs,
//! joined here.
//!
//! Not by a query: a planned query fails when pg_statistic is damaged, and a
//! join of views fails when any of its catalogs is, while plain COPY of one
//! catalog still works. The catalogs' rows come in the snapshot of the session.
//!
//! No catalog is needed: what one does not say of a relation others often do
//! (`missing.rs`), and what nobody can say is said to be missing.

mod checks;
mod depend;
mod indexes;
mod missing;
mod relations;
mod rows;

use super::fault::{FIRST_NORMAL_OID, is_untranslatable, wait_after};
use super::session::{ReadError, Session};
use bstr::BString;

use depend::{depend, inherit, sequences};
use missing::{Evidence, add_missing, look_for_holes};
use relations::{Types, attributes, classes, describe};
use rows::{Catalogs, Row};
use std::collections::HashMap;

pub use super::inventory::{
    Attribute, CatalogDamage, CatalogLoss, Column, Inventory, Relation, RelationKind, Sequence,
};
pub use checks::{Checkable, Checks, Installed, checks};
pub use indexes::{Index, indexes};

/// A catalog could not be read, for something that is not its damage.
#[derive(Debug, thiserror::Error)]
#[error("could not read catalog \"{catalog}\": {}", source.words().one_line())]
pub struct CatalogError {
    pub catalog: &'static str,
    #[source]
    pub source: ReadError,
}

/// Reads the inventory of the session's database.
///
/// Names go into statements, which are sent in UTF-8, so they are asked for in
/// the same; but not where the server does not know what its bytes mean, or
/// where some that are damaged mean nothing.
///
/// A server that is short of something is waited for.
pub async fn read(session: &Session) -> Result<Inventory, CatalogError> {
    read_with(session, false).await
}

/// The same; `system`: with the tables of the system catalogs themselves, which
/// no dump has.
pub async fn read_with(session: &Session, system: bool) -> Result<Inventory, CatalogError> {
    let mut waits = 0;
    loop {
        let error = match read_now(session, system).await {
            Err(e) if e.source.is_shortage() => e,
            other => return other,
        };
        let Some(pause) = wait_after(waits) else { return Err(error) };
        tracing::info!("waiting: {error}");
        let failed = |source| CatalogError { catalog: error.catalog, source };
        session.leave_relation().await.map_err(failed)?;
        tokio::time::sleep(pause).await;
        waits += 1;
    }
}

/// A database of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseOf {
    pub oid: u32,
    pub name: String,
    /// `datallowconn`.
    pub allows_connections: bool,
}

/// All databases, by name, and what could not be read of their catalog.
pub async fn databases(
    session: &Session,
) -> Result<(Vec<DatabaseOf>, Vec<CatalogDamage>), CatalogError> {
    let mut from = Catalogs { session, encoding: "UTF8", system: false, damaged: Vec::new() };
    let row = |r: Row| {
        let name = r.text(1).to_string();
        Some(DatabaseOf { oid: r.number(0), name, allows_connections: !r.is(2, "f") })
    };
    let mut all = from.rows("pg_database", "oid, datname, datallowconn", row).await?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((all, from.damaged))
}

async fn read_now(session: &Session, system: bool) -> Result<Inventory, CatalogError> {
    let own = session.server().encoding.as_str();
    if !matches!(own, "SQL_ASCII" | "MULE_INTERNAL") {
        match read_from(Catalogs { session, encoding: "UTF8", system, damaged: Vec::new() }).await {
            Err(e) if is_untranslatable(e.source.sqlstate()) => {
                let failed = |source| CatalogError { catalog: e.catalog, source };
                session.leave_relation().await.map_err(failed)?;
            }
            other => return other,
        }
    }
    read_from(Catalogs { session, encoding: own, system, damaged: Vec::new() }).await
}

async fn read_from(mut from: Catalogs<'_>) -> Result<Inventory, CatalogError> {
    let from = &mut from;
    let schemas = names(from, "pg_namespace", "oid, nspname").await?;
    let methods = names(from, "pg_am", "oid, amname").await?;
    let (mut relations, known) = classes(from, &schemas, &methods).await?;
    let types = Types::read(from, &schemas).await?;
    let mut evidence = Evidence::new(known);
    let attributes = attributes(from, &types, &relations, &mut evidence).await?;
    evidence.add_types(&types);
    let mut sequences = sequences(from).await?;
    let extensions = depend(from, &mut sequences, &mut evidence).await?;
    for (index, table) in
        from.rows("pg_index", "indexrelid, indrelid", |r| Some((r.number(0), r.number(1)))).await?
    {
        evidence.add_index(index, table);
    }
    let inherits: Vec<[u32; 2]> = from
        .rows("pg_inherits", "inhrelid, inhparent", |r| Some([r.number(0), r.number(1)]))
        .await?;
    inherits.iter().flatten().for_each(|&oid| evidence.add(oid));
    for oid in from.rows("pg_rewrite", "ev_class", |r| Some(r.number(0))).await? {
        evidence.add_rule(oid);
    }
    evidence.add_sequences(sequences.keys());
    describe(&mut relations, attributes);
    inherit(&inherits, &relations, &mut sequences);
    look_for_holes(from, &relations, &evidence, &sequences);
    add_missing(from, &mut relations, evidence);
    for relation in &mut relations {
        relation.extension = extensions.contains(&relation.oid);
        relation.sequence = sequences.remove(&relation.oid);
    }
    relations.sort_by_key(|r| r.oid);
    Ok(Inventory { relations, damaged: std::mem::take(&mut from.damaged) })
}

/// Names by OID.
async fn names(
    from: &mut Catalogs<'_>,
    catalog: &'static str,
    columns: &str,
) -> Result<HashMap<u32, BString>, CatalogError> {
    let named = from.rows(catalog, columns, |r| Some((r.number(0), r.text(1)))).await?;
    Ok(named.into_iter().collect())
}

/// Whether pg_dump would leave the schema out as the system's own.
fn is_system(schema: &[u8]) -> bool {
    schema.starts_with(b"pg_") || schema == b"information_schema"
}

/// Whether the server's own tables are in the schema.
fn is_catalog(schema: &[u8]) -> bool {
    schema == b"pg_catalog" || schema == b"information_schema"
}
