//! The b-trees of some relations: what they have of which columns, by plain
//! COPY of the catalogs as everything here.

use super::{CatalogError, Catalogs, Session};
use crate::page::{Align, Attribute};
use bstr::BString;
use std::collections::{BTreeSet, HashMap};

/// `BTREE_AM_OID`.
const BTREE: u32 = 403;

/// A b-tree that is valid.
#[derive(Clone, Debug)]
pub struct Index {
    pub oid: u32,
    /// The table.
    pub relation: u32,
    pub name: BString,
    pub primary: bool,
    /// Whether no two rows of the table have the same key, NULLs aside.
    pub unique: bool,
    /// What it holds, in order; columns that are only included come last.
    pub attributes: Vec<Attribute>,
    /// Which column of the table each is: 0 for an expression.
    pub columns: Vec<i16>,
    /// So many of them are its key.
    pub keys: usize,
}

/// The valid b-trees of these relations: primary keys first, then unique
/// indexes, each by OID.
pub async fn indexes(session: &Session, of: &BTreeSet<u32>) -> Result<Vec<Index>, CatalogError> {
    let server = session.server();
    let mut from =
        Catalogs { session, encoding: &server.encoding, system: false, damaged: Vec::new() };
    let keys = if server.version >= 110_000 { "indnkeyatts" } else { "indnatts" };
    let list = format!(
        "indexrelid, indrelid, indisprimary, indisunique, indisvalid, {keys}, indkey, \
         indpred"
    );
    let mut found = from
        .rows("pg_index", &list, |r| {
            let is_wanted = of.contains(&r.number(1)) && r.is(4, "t");
            let columns = r.text(6);
            is_wanted.then(|| Index {
                oid: r.number(0),
                relation: r.number(1),
                name: BString::default(),
                primary: r.is(2, "t"),
                unique: r.is(3, "t") && r.text(7).is_empty(),
                attributes: Vec::new(),
                columns: columns.split(|b| *b == b' ').map(number).collect(),
                keys: r.number(5),
            })
        })
        .await?;
    let mut names: HashMap<u32, BString> = HashMap::new();
    let ours: BTreeSet<u32> = found.iter().map(|i| i.oid).collect();
    from.rows("pg_class", "oid, relname, relam", |r| -> Option<()> {
        if ours.contains(&r.number(0)) && r.number::<u32>(2) == BTREE {
            names.insert(r.number(0), r.text(1));
        }
        None
    })
    .await?;
    let mut attributes: HashMap<u32, Vec<(i16, Option<Attribute>)>> = HashMap::new();
    from.rows("pg_attribute", "attrelid, attnum, attlen, attalign", |r| -> Option<()> {
        let oid = r.number(0);
        if names.contains_key(&oid) {
            let align = r.text(3).first().copied().and_then(Align::of);
            let attribute = align.map(|align| Attribute { len: r.number(2), align });
            attributes.entry(oid).or_default().push((r.number(1), attribute));
        }
        None
    })
    .await?;
    found.retain_mut(|index| {
        let Some(name) = names.remove(&index.oid) else { return false };
        let mut own = attributes.remove(&index.oid).unwrap_or_default();
        own.sort_by_key(|(attnum, _)| *attnum);
        index.name = name;
        index.attributes = own.into_iter().map_while(|(_, attribute)| attribute).collect();
        // Else its description is damaged, and so would be what is read by it.
        index.attributes.len() == index.columns.len() && index.keys <= index.columns.len()
    });
    found.sort_by_key(|i| (!i.primary, !i.unique, i.oid));
    Ok(found)
}

/// An element of an int2vector.
fn number(text: &[u8]) -> i16 {
    std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or(0)
}
