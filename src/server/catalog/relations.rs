//! What pg_class, pg_attribute and pg_type say of relations.

use super::missing::Evidence;
use super::rows::{Catalogs, Row};
use super::{CatalogError, FIRST_NORMAL_OID, is_catalog, is_system};
use crate::server::inventory::{Attribute, Column, Relation, RelationKind};
use bstr::BString;
use std::collections::{HashMap, HashSet};

const PG_LARGEOBJECT: u32 = 2613;
const PG_LARGEOBJECT_METADATA: u32 = 2995;

/// One row of pg_class.
enum Class {
    Relation(Box<Relation>),
    Toast {
        oid: u32,
        pages: u32,
    },
    /// An index, a composite type, or the system's own.
    Other(u32),
}

/// The relations that a run can be about, and the OIDs of all there are.
pub(super) async fn classes(
    from: &mut Catalogs<'_>,
    schemas: &HashMap<u32, BString>,
    methods: &HashMap<u32, BString>,
) -> Result<(Vec<Relation>, HashSet<u32>), CatalogError> {
    let (version, system) = (from.session.server().version, from.system);
    // pg_class: relhasoids and the like came and went; these stay from 10 on.
    let columns = "oid, relname, relnamespace, relkind, relpersistence, relpages, relallvisible, \
                   reltuples, reltoastrelid, relispartition, relispopulated, relam, relrowsecurity, \
                   relfilenode, relnatts";
    let found =
        from.rows("pg_class", columns, |r| Some(class(&r, (version, system), schemas, methods)));
    let mut known = HashSet::new();
    let mut toast_pages: HashMap<u32, u32> = HashMap::new();
    let mut relations: Vec<Relation> = Vec::new();
    let mut twice = 0;
    for class in found.await? {
        match class {
            Class::Other(oid) => _ = known.insert(oid),
            Class::Toast { oid, pages } => {
                known.insert(oid);
                toast_pages.insert(oid, pages);
            }
            Class::Relation(relation) if known.insert(relation.oid) => relations.push(*relation),
            // A damaged xmax can bring an old version of the row back.
            Class::Relation(again) => {
                twice += 1;
                if let Some(relation) = relations.iter_mut().find(|r| r.oid == again.oid) {
                    *relation = *again;
                }
            }
        }
    }
    if twice > 0 {
        from.add_hole("pg_class", format!("{twice} relations are in it more than once"));
    }
    for relation in &mut relations {
        let pages = relation.toast.and_then(|t| toast_pages.get(&t));
        relation.toast_pages_estimated = pages.copied().unwrap_or(0);
    }
    Ok((relations, known))
}

fn class(
    r: &Row,
    (version, system): (u32, bool),
    schemas: &HashMap<u32, BString>,
    methods: &HashMap<u32, BString>,
) -> Class {
    let (oid, schema_oid, relkind) = (r.number::<u32>(0), r.number::<u32>(2), r.text(3));
    if relkind == "t" {
        return Class::Toast { oid, pages: r.number(5) };
    }
    let schema = schemas.get(&schema_oid).cloned();
    let undescribed = schema.is_none().then(|| {
        format!("its schema, OID {schema_oid}, is not in pg_namespace, and without its name nothing can be read")
    });
    let schema = schema.unwrap_or_else(|| by_oid(schema_oid));
    let kind = match (oid, relkind.as_slice()) {
        (PG_LARGEOBJECT, _) => RelationKind::LargeObjects,
        (PG_LARGEOBJECT_METADATA, _) => RelationKind::LargeObjectMetadata,
        (_, b"r") if system && is_catalog(&schema) => RelationKind::Table,
        _ if oid < FIRST_NORMAL_OID || is_system(&schema) => return Class::Other(oid),
        (_, b"r") => RelationKind::Table,
        (_, b"m") => RelationKind::Matview,
        (_, b"S") => RelationKind::Sequence,
        (_, b"p") => RelationKind::PartitionedTable,
        (_, b"v") => RelationKind::View,
        (_, b"f") => RelationKind::ForeignTable,
        _ => return Class::Other(oid),
    };
    let method = methods.get(&r.number::<u32>(11));
    Class::Relation(Box::new(Relation {
        unlogged: r.is(4, "u"),
        temporary: r.is(4, "t"),
        pages_estimated: r.number::<i64>(5).try_into().unwrap_or(0),
        all_visible_estimated: r.number::<i64>(6).try_into().unwrap_or(0),
        rows_estimated: r.rows_estimated(7),
        toast: Some(r.number(8)).filter(|&t| t != 0),
        partition: r.is(9, "t"),
        populated: r.is(10, "t"),
        // Before 12 there was no other; sequences have none.
        heap: version < 120_000 || method.is_none_or(|m| m == "heap"),
        row_security: r.is(12, "t"),
        filenode: Some(r.number(13)).filter(|&f| f != 0),
        attributes: r.number(14),
        undescribed,
        ..Relation::named(oid, schema, r.text(1), kind)
    }))
}

/// What is called so, where nobody knows its name.
pub(super) fn by_oid(oid: u32) -> BString {
    BString::from(format!("oid {oid}"))
}

/// One row of pg_attribute.
pub(super) struct Attributed {
    relation: u32,
    attribute: Attribute,
    /// None: dropped.
    column: Option<Column>,
    generated: bool,
}

/// The attributes of these relations. Those of others tell that there are
/// others.
pub(super) async fn attributes(
    from: &mut Catalogs<'_>,
    types: &Types,
    relations: &[Relation],
    evidence: &mut Evidence,
) -> Result<Vec<Attributed>, CatalogError> {
    let wanted: HashSet<u32> = relations.iter().map(|r| r.oid).collect();
    let generated = if from.session.server().version >= 120_000 { ", attgenerated" } else { "" };
    let list =
        format!("attrelid, attname, attnum, atttypid, attisdropped, attlen, attalign{generated}");
    let found = from.rows("pg_attribute", &list, |r| {
        let (relation, attnum) = (r.number(0), r.number(2));
        if !wanted.contains(&relation) && evidence.knows(relation) || attnum == 0 {
            return None;
        }
        let type_oid = r.number(3);
        let name = types.of.get(&type_oid).map(|t| t.name.clone()).unwrap_or_default();
        let column = Column { name: r.text(1), attnum, type_name: name };
        Some(Attributed {
            relation,
            attribute: Attribute {
                attnum,
                len: r.number(5),
                align: r.text(6).first().copied().unwrap_or_default(),
                type_oid: types.base(type_oid),
            },
            column: (!r.is(4, "t")).then_some(column),
            generated: !r.text(7).is_empty(),
        })
    });
    let (known, others): (Vec<_>, Vec<_>) =
        found.await?.into_iter().partition(|a| wanted.contains(&a.relation));
    for Attributed { relation, attribute, column, .. } in others {
        evidence.add_attribute(relation, attribute.attnum, column);
    }
    // The oid was a system column before 12, and no less than any other to its
    // user.
    let is_oid = |a: &Attributed| a.column.as_ref().is_some_and(|c| c.name == "oid");
    Ok(known.into_iter().filter(|a| a.attribute.attnum > 0 || is_oid(a)).collect())
}

/// Fills in the columns that COPY can give back: no dropped ones, no generated
/// ones; identity columns stay, and so does the oid of a table that has them.
pub(super) fn describe(relations: &mut [Relation], attributes: Vec<Attributed>) {
    let by_oid: HashMap<u32, usize> =
        relations.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
    for Attributed { relation, attribute, column, generated } in attributes {
        let Some(&at) = by_oid.get(&relation) else { continue };
        let relation = &mut relations[at];
        // An old version of its row that damage has brought back.
        let is_known = |attnum| attnum == attribute.attnum;
        if relation.physical.iter().any(|a| is_known(a.attnum))
            || relation.columns.iter().any(|c| is_known(c.attnum))
        {
            continue;
        }
        if attribute.attnum > 0 {
            relation.physical.push(attribute);
        }
        let list = if generated { &mut relation.left_out } else { &mut relation.columns };
        list.extend(column);
    }
    for relation in relations {
        relation.columns.sort_by_key(|c| c.attnum);
        relation.left_out.sort_by_key(|c| c.attnum);
        relation.physical.sort_by_key(|a| a.attnum);
        let (there, wanted) = (relation.physical.len(), usize::from(relation.attributes));
        if there < wanted && relation.kind.has_rows() {
            relation.undescribed.get_or_insert_with(|| {
                format!("pg_attribute has only {there} of its {wanted} attributes")
            });
        }
    }
}

pub(super) struct Type {
    pub(super) name: BString,
    /// Of a domain: what it is over; else 0.
    base: u32,
    /// Of the type of a relation's rows: that, and the relation's name.
    pub(super) relation: Option<(u32, BString, BString)>,
}

pub(super) struct Types {
    pub(super) of: HashMap<u32, Type>,
}

impl Types {
    pub(super) async fn read(
        from: &mut Catalogs<'_>,
        schemas: &HashMap<u32, BString>,
    ) -> Result<Self, CatalogError> {
        let list = "oid, typname, typnamespace, typbasetype, typrelid";
        let found = from.rows("pg_type", list, |r| {
            let (schema_oid, own_name) = (r.number::<u32>(2), r.text(1));
            let schema = schemas.get(&schema_oid);
            let own = schema.filter(|s| *s != "pg_catalog");
            let qualified = own.map(|s| BString::from([s.as_slice(), b".", &own_name].concat()));
            let name = qualified.unwrap_or_else(|| own_name.clone());
            let relation = Some(r.number(4)).filter(|&oid| oid >= FIRST_NORMAL_OID);
            let relation = relation
                .map(|oid| (oid, schema.cloned().unwrap_or_else(|| by_oid(schema_oid)), own_name));
            Some((r.number(0), Type { name, base: r.number(3), relation }))
        });
        Ok(Self { of: found.await?.into_iter().collect() })
    }

    /// The type below a domain, which may be over another.
    fn base(&self, mut oid: u32) -> u32 {
        /// Deeper than anybody nests domains; a damaged catalog may go in circles.
        const DEPTH_MAX: u32 = 32;
        for _ in 0..DEPTH_MAX {
            match self.of.get(&oid) {
                Some(t) if t.base != 0 => oid = t.base,
                _ => break,
            }
        }
        oid
    }
}
