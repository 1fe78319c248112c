//! The inventory: every relation of a database, by plain COPY of the catalogs,
//! joined here.
//!
//! Not by a query: a planned query fails when pg_statistic is damaged, and a
//! join of views fails when any of its catalogs is, while plain COPY of one
//! catalog still works. The catalogs' rows come in the snapshot of the session.

use super::copy_text::fields;
use super::fault::{is_untranslatable, wait_after};
use super::session::{ReadError, Session};
use bstr::{BString, ByteSlice};
use std::collections::HashMap;

pub use super::inventory::{Attribute, Column, Inventory, Relation, RelationKind, Sequence};

/// OIDs below this are given out by initdb (`access/transam.h`).
const FIRST_NORMAL_OID: u32 = 16_384;

const PG_CLASS: u32 = 1259;
const PG_EXTENSION: u32 = 3079;
const PG_LARGEOBJECT: u32 = 2613;
const PG_LARGEOBJECT_METADATA: u32 = 2995;

/// A catalog could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read catalog \"{catalog}\": {}", source.words().one_line())]
pub struct CatalogError {
    pub catalog: &'static str,
    #[source]
    pub source: ReadError,
}

/// One row of a catalog: fields by their place in the column list.
struct Row(Vec<Option<BString>>);

impl Row {
    fn text(&self, i: usize) -> BString {
        self.0.get(i).cloned().flatten().unwrap_or_default()
    }

    /// A number; what is missing or none is 0.
    fn number<N: std::str::FromStr + Default>(&self, i: usize) -> N {
        let field = self.0.get(i).and_then(Option::as_ref);
        field.and_then(|f| f.to_str().ok()?.parse().ok()).unwrap_or_default()
    }

    /// A float4 such as `1e+06` or `-1`, as a whole number.
    fn rows_estimated(&self, i: usize) -> u64 {
        let rows: f64 = self.number(i);
        // Saturates: a damaged catalog may say anything.
        #[expect(clippy::cast_possible_truncation)]
        let whole = rows.max(0.0) as u64;
        whole
    }

    fn is(&self, i: usize, value: &str) -> bool {
        self.0.get(i).and_then(Option::as_ref).is_some_and(|f| f == value)
    }
}

/// How the catalogs are read: names come in this encoding.
#[derive(Clone, Copy)]
struct Catalogs<'a> {
    session: &'a Session,
    encoding: &'a str,
}

/// Reads a whole catalog, keeping what `keep` makes of each row.
async fn rows<T>(
    from: Catalogs<'_>,
    catalog: &'static str,
    columns: &str,
    mut keep: impl FnMut(Row) -> Option<T>,
) -> Result<Vec<T>, CatalogError> {
    let failed = |source| CatalogError { catalog, source };
    // Before 12 the oid is a system column: an option asks for it, and it comes
    // first.
    let (columns, oids) = match columns.strip_prefix("oid, ") {
        Some(others) if from.session.server().version < 120_000 => (others, "OIDS, "),
        _ => (columns, ""),
    };
    let sql = format!(
        "COPY pg_catalog.{catalog} ({columns}) TO STDOUT ({oids}ENCODING {})",
        super::sql::literal(from.encoding)
    );
    let mut copy = from.session.copy(&sql).await.map_err(failed)?;
    let mut kept = Vec::new();
    while let Some(bytes) = copy.next().await.map_err(failed)? {
        for line in bytes.lines_with_terminator() {
            kept.extend(keep(Row(fields(line).collect())));
        }
    }
    Ok(kept)
}

/// Reads a catalog without which the rest can be read, too: what could be read
/// of it, and a warning.
async fn rows_if_possible<T>(
    from: Catalogs<'_>,
    catalog: &'static str,
    columns: &str,
    warnings: &mut Vec<String>,
    mut keep: impl FnMut(Row) -> Option<T>,
) -> Result<Vec<T>, CatalogError> {
    let mut kept = Vec::new();
    let read = rows(from, catalog, columns, |r| -> Option<()> {
        kept.extend(keep(r));
        None
    });
    match read.await {
        Ok(_) => Ok(kept),
        Err(e) if e.source.sqlstate().is_empty() || is_untranslatable(e.source.sqlstate()) => {
            Err(e)
        }
        Err(e) if e.source.is_shortage() => Err(e),
        Err(e) => {
            warnings.push(format!("{e}; what it says of some relations is not known"));
            let failed = |source| CatalogError { catalog, source };
            from.session.leave_relation().await.map_err(failed)?;
            Ok(kept)
        }
    }
}

/// Reads the inventory of the session's database.
///
/// Names go into statements, which are sent in UTF-8, so they are asked for in
/// the same; but not where the server does not know what its bytes mean, or
/// where some that are damaged mean nothing.
///
/// A server that is short of something is waited for.
pub async fn read(session: &Session) -> Result<Inventory, CatalogError> {
    let mut waits = 0;
    loop {
        let error = match read_now(session).await {
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

async fn read_now(session: &Session) -> Result<Inventory, CatalogError> {
    let own = session.server().encoding.as_str();
    if !matches!(own, "SQL_ASCII" | "MULE_INTERNAL") {
        match read_from(Catalogs { session, encoding: "UTF8" }).await {
            Err(e) if is_untranslatable(e.source.sqlstate()) => {
                let failed = |source| CatalogError { catalog: e.catalog, source };
                session.leave_relation().await.map_err(failed)?;
            }
            other => return other,
        }
    }
    read_from(Catalogs { session, encoding: own }).await
}

async fn read_from(from: Catalogs<'_>) -> Result<Inventory, CatalogError> {
    let version = from.session.server().version;
    let mut found = Vec::new();
    let warnings = &mut found;
    let namespaces: HashMap<u32, BString> =
        rows(from, "pg_namespace", "oid, nspname", |r| Some((r.number(0), r.text(1))))
            .await?
            .into_iter()
            .collect();
    let methods: HashMap<u32, BString> =
        rows_if_possible(from, "pg_am", "oid, amname", warnings, |r| {
            Some((r.number(0), r.text(1)))
        })
        .await?
        .into_iter()
        .collect();
    let mut relations = relations(from, version, &namespaces, &methods).await?;
    columns(from, version, &namespaces, warnings, &mut relations).await?;
    let mut sequences = sequences(from, warnings).await?;
    depend(from, warnings, &mut relations, &mut sequences).await?;
    for relation in &mut relations {
        relation.sequence = sequences.remove(&relation.oid);
    }
    relations.sort_by_key(|r| r.oid);
    Ok(Inventory { relations, warnings: found })
}

/// Whether pg_dump would leave the schema out as the system's own.
fn is_system(schema: &[u8]) -> bool {
    schema.starts_with(b"pg_") || schema == b"information_schema"
}

async fn relations(
    from: Catalogs<'_>,
    version: u32,
    namespaces: &HashMap<u32, BString>,
    methods: &HashMap<u32, BString>,
) -> Result<Vec<Relation>, CatalogError> {
    // pg_class: relhasoids and the like came and went; these stay from 10 on.
    let columns = "oid, relname, relnamespace, relkind, relpersistence, relpages, relallvisible, \
                   reltuples, reltoastrelid, relispartition, relispopulated, relam, relrowsecurity, \
                   relfilenode";
    let mut toast_pages: HashMap<u32, u32> = HashMap::new();
    let mut found = rows(from, "pg_class", columns, |r| {
        let (oid, name, schema) = (r.number::<u32>(0), r.text(1), r.number::<u32>(2));
        let relkind = r.text(3);
        if relkind == "t" {
            toast_pages.insert(oid, r.number(5));
            return None;
        }
        let schema = namespaces
            .get(&schema)
            .cloned()
            .unwrap_or_else(|| BString::from(format!("oid {schema}")));
        let kind = match (oid, relkind.as_slice()) {
            (PG_LARGEOBJECT, _) => RelationKind::LargeObjects,
            (PG_LARGEOBJECT_METADATA, _) => RelationKind::LargeObjectMetadata,
            _ if oid < FIRST_NORMAL_OID || is_system(&schema) => return None,
            (_, b"r") => RelationKind::Table,
            (_, b"m") => RelationKind::Matview,
            (_, b"S") => RelationKind::Sequence,
            (_, b"p") => RelationKind::PartitionedTable,
            (_, b"v") => RelationKind::View,
            (_, b"f") => RelationKind::ForeignTable,
            _ => return None, // indexes, composite types
        };
        let method = methods.get(&r.number::<u32>(11));
        Some(Relation {
            oid,
            schema,
            name,
            kind,
            unlogged: r.is(4, "u"),
            temporary: r.is(4, "t"),
            pages_estimated: r.number::<i64>(5).try_into().unwrap_or(0),
            all_visible_estimated: r.number::<i64>(6).try_into().unwrap_or(0),
            rows_estimated: r.rows_estimated(7),
            toast: Some(r.number(8)).filter(|&t| t != 0),
            toast_pages_estimated: 0,
            partition: r.is(9, "t"),
            populated: r.is(10, "t"),
            // Before 12 there was no other; sequences have none.
            heap: version < 120_000 || method.is_none_or(|m| m == "heap"),
            row_security: r.is(12, "t"),
            filenode: Some(r.number(13)).filter(|&f| f != 0),
            extension: false,
            columns: Vec::new(),
            left_out: Vec::new(),
            physical: Vec::new(),
            sequence: None,
        })
    })
    .await?;
    for relation in &mut found {
        let pages = relation.toast.and_then(|t| toast_pages.get(&t));
        relation.toast_pages_estimated = pages.copied().unwrap_or(0);
    }
    Ok(found)
}

/// Fills in the columns that COPY can give back: no dropped ones, no generated
/// ones; identity columns stay, and so does the oid of a table that has them.
async fn columns(
    from: Catalogs<'_>,
    version: u32,
    namespaces: &HashMap<u32, BString>,
    warnings: &mut Vec<String>,
    relations: &mut [Relation],
) -> Result<(), CatalogError> {
    let types = types(from, namespaces, warnings).await?;
    let by_oid: HashMap<u32, usize> =
        relations.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
    let generated = if version >= 120_000 { ", attgenerated" } else { "" };
    let list =
        format!("attrelid, attname, attnum, atttypid, attisdropped, attlen, attalign{generated}");
    rows(from, "pg_attribute", &list, |r| -> Option<()> {
        let relation = &mut relations[*by_oid.get(&r.number(0))?];
        let attnum: i16 = r.number(2);
        let type_name = types.get(&r.number::<u32>(3)).map(|t| t.name.clone());
        let column = Column { name: r.text(1), attnum, type_name: type_name.unwrap_or_default() };
        if attnum <= 0 {
            // A system column before 12, and no less than any other to its user.
            relation.columns.extend(Some(column).filter(|c| c.name == "oid"));
            return None;
        }
        relation.physical.push(Attribute {
            attnum,
            len: r.number(5),
            align: r.text(6).first().copied().unwrap_or_default(),
            type_oid: base_type(&types, r.number(3)),
        });
        if r.is(4, "t") {
            return None;
        }
        match r.text(7).is_empty() {
            true => relation.columns.push(column),
            false => relation.left_out.push(column),
        }
        None
    })
    .await?;
    for relation in relations {
        relation.columns.sort_by_key(|c| c.attnum);
        relation.left_out.sort_by_key(|c| c.attnum);
        relation.physical.sort_by_key(|a| a.attnum);
    }
    Ok(())
}

struct Type {
    name: BString,
    /// Of a domain: what it is over; else 0.
    base: u32,
}

async fn types(
    from: Catalogs<'_>,
    namespaces: &HashMap<u32, BString>,
    warnings: &mut Vec<String>,
) -> Result<HashMap<u32, Type>, CatalogError> {
    let list = "oid, typname, typnamespace, typbasetype";
    let found = rows_if_possible(from, "pg_type", list, warnings, |r| {
        let schema = namespaces.get(&r.number::<u32>(2));
        let own = schema.filter(|s| *s != "pg_catalog");
        let qualified = own.map(|s| BString::from([s.as_slice(), b".", &r.text(1)].concat()));
        let name = qualified.unwrap_or_else(|| r.text(1));
        Some((r.number(0), Type { name, base: r.number(3) }))
    });
    Ok(found.await?.into_iter().collect())
}

/// The type below a domain, which may be over another.
fn base_type(types: &HashMap<u32, Type>, mut oid: u32) -> u32 {
    /// Deeper than anybody nests domains; a damaged catalog may go in circles.
    const DEPTH_MAX: u32 = 32;
    for _ in 0..DEPTH_MAX {
        match types.get(&oid) {
            Some(t) if t.base != 0 => oid = t.base,
            _ => break,
        }
    }
    oid
}

async fn sequences(
    from: Catalogs<'_>,
    warnings: &mut Vec<String>,
) -> Result<HashMap<u32, Sequence>, CatalogError> {
    let list = "seqrelid, seqstart, seqincrement";
    let found = rows_if_possible(from, "pg_sequence", list, warnings, |r| {
        let sequence = Sequence { start: r.number(1), increment: r.number(2), owner: None };
        Some((r.number(0), sequence))
    });
    Ok(found.await?.into_iter().collect())
}

/// Fills in which column owns a sequence, and what belongs to an extension.
async fn depend(
    from: Catalogs<'_>,
    warnings: &mut Vec<String>,
    relations: &mut [Relation],
    sequences: &mut HashMap<u32, Sequence>,
) -> Result<(), CatalogError> {
    let list = "classid, objid, refclassid, refobjid, refobjsubid, deptype";
    let mut members = Vec::new();
    rows_if_possible(from, "pg_depend", list, warnings, |r| -> Option<()> {
        if r.number::<u32>(0) != PG_CLASS {
            return None;
        }
        let (oid, class, referenced) = (r.number::<u32>(1), r.number::<u32>(2), r.number::<u32>(3));
        if class == PG_EXTENSION && r.is(5, "e") {
            members.push(oid);
        }
        let column = r.number::<i16>(4);
        if class == PG_CLASS && column > 0 && (r.is(5, "a") || r.is(5, "i")) {
            sequences.get_mut(&oid)?.owner = Some((referenced, column));
        }
        None
    })
    .await?;
    for relation in relations {
        relation.extension = members.contains(&relation.oid);
    }
    Ok(())
}
