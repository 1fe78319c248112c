//! Relations that are not in pg_class, though other catalogs tell of them.
//!
//! A page of zeros in pg_class makes tables vanish, and no read says so. But
//! their attributes, the types of their rows, their indexes and their children
//! still name them. All catalogs are read in one snapshot, so in a healthy
//! database nothing is found here.

use super::relations::{Types, by_oid};
use super::rows::Catalogs;
use super::{FIRST_NORMAL_OID, is_system};
use crate::server::inventory::{Column, Relation, RelationKind, Sequence};
use bstr::BString;
use std::collections::{BTreeMap, HashMap, HashSet};

const PG_CLASS_NAME: &str = "pg_class";

/// What other catalogs say of a relation.
#[derive(Default)]
struct Trace {
    columns: Vec<Column>,
    /// Whether it has system columns: those with rows of their own have.
    stores: bool,
    /// Whether anything is known of its attributes.
    attributed: bool,
    /// Schema and name, by the type of its rows.
    name: Option<(BString, BString)>,
    index: bool,
    sequence: bool,
    /// It has a rule: every view has, and every materialised view.
    rule: bool,
}

pub(super) struct Evidence {
    /// All that are in pg_class.
    known: HashSet<u32>,
    traces: BTreeMap<u32, Trace>,
    /// OIDs that only pg_depend knows, which may be left over from what was
    /// dropped long ago.
    doubtful: HashSet<u32>,
}

impl Evidence {
    pub(super) fn new(known: HashSet<u32>) -> Self {
        Self { known, traces: BTreeMap::new(), doubtful: HashSet::new() }
    }

    pub(super) fn knows(&self, oid: u32) -> bool {
        oid < FIRST_NORMAL_OID || self.known.contains(&oid)
    }

    fn trace(&mut self, oid: u32) -> Option<&mut Trace> {
        (!self.knows(oid)).then(|| self.traces.entry(oid).or_default())
    }

    pub(super) fn add(&mut self, oid: u32) {
        self.trace(oid);
    }

    pub(super) fn add_doubtful(&mut self, oid: u32) {
        if !self.knows(oid) {
            self.doubtful.insert(oid);
        }
    }

    pub(super) fn add_attribute(&mut self, oid: u32, attnum: i16, column: Option<Column>) {
        let Some(trace) = self.trace(oid) else { return };
        trace.attributed = true;
        trace.stores |= attnum < 0;
        trace.columns.extend(column.filter(|_| attnum > 0));
    }

    pub(super) fn add_types(&mut self, types: &Types) {
        for (oid, schema, name) in types.of.values().filter_map(|t| t.relation.as_ref()) {
            if let Some(trace) = self.trace(*oid) {
                trace.name = Some((schema.clone(), name.clone()));
            }
        }
    }

    pub(super) fn add_index(&mut self, index: u32, table: u32) {
        if let Some(trace) = self.trace(index) {
            trace.index = true;
        }
        self.add(table);
    }

    pub(super) fn add_rule(&mut self, oid: u32) {
        if let Some(trace) = self.trace(oid) {
            trace.rule = true;
        }
    }

    pub(super) fn add_sequences<'a>(&mut self, oids: impl Iterator<Item = &'a u32>) {
        for &oid in oids {
            if let Some(trace) = self.trace(oid) {
                trace.sequence = true;
            }
        }
    }
}

impl Trace {
    /// What it is; none: an index, a TOAST table or a composite type.
    fn kind(&self) -> Option<RelationKind> {
        let is_toast = || {
            let names = self.columns.iter().map(|c| c.name.as_slice());
            names.eq([b"chunk_id".as_slice(), b"chunk_seq", b"chunk_data"])
        };
        let stores = self.stores || !self.attributed;
        match (stores, self.rule) {
            _ if self.index || is_toast() => None,
            _ if self.sequence => Some(RelationKind::Sequence),
            (true, true) => Some(RelationKind::Matview),
            (true, false) => Some(RelationKind::Table),
            (false, true) => Some(RelationKind::View),
            (false, false) => None,
        }
    }
}

/// Adds the relations that are not in pg_class, as far as they are known.
pub(super) fn add_missing(
    from: &mut Catalogs<'_>,
    relations: &mut Vec<Relation>,
    mut evidence: Evidence,
) {
    if from.damaged.iter().any(|d| d.catalog == PG_CLASS_NAME) || !evidence.traces.is_empty() {
        for oid in std::mem::take(&mut evidence.doubtful) {
            evidence.add(oid);
        }
    }
    let toast: HashSet<u32> = relations.iter().filter_map(|r| r.toast).collect();
    let (mut missing, mut rest) = (0, 0);
    for (oid, mut trace) in evidence.traces {
        let kind = trace.kind().filter(|_| !toast.contains(&oid));
        let Some(kind) = kind else {
            rest += 1;
            continue;
        };
        let (schema, name) = trace.name.take().unwrap_or_else(|| ("oid 0".into(), by_oid(oid)));
        if is_system(&schema) {
            continue;
        }
        trace.columns.sort_by_key(|c| c.attnum);
        trace.columns.dedup_by_key(|c| c.attnum);
        missing += 1;
        let reason = "it is not in pg_class, though other catalogs tell of it";
        relations.push(Relation {
            columns: trace.columns,
            undescribed: Some(reason.to_owned()),
            ..Relation::named(oid, schema, name, kind)
        });
    }
    if missing + rest > 0 {
        let message = format!(
            "{missing} tables, sequences or views and {rest} indexes, TOAST tables or composite \
             types that other catalogs tell of are not in it"
        );
        from.add_hole(PG_CLASS_NAME, message);
    }
}

/// Notes what other catalogs tell of that is not where it must be.
pub(super) fn look_for_holes(
    from: &mut Catalogs<'_>,
    relations: &[Relation],
    evidence: &Evidence,
    sequences: &HashMap<u32, Sequence>,
) {
    let described = || relations.iter().filter(|r| r.oid >= FIRST_NORMAL_OID);
    let count = |is: &dyn Fn(&&Relation) -> bool| described().filter(is).count();
    let toast = count(&|r| r.toast.is_some_and(|oid| !evidence.knows(oid)));
    let short = count(&|r| r.physical.len() < usize::from(r.attributes));
    let unknown_type = |c: &Column| c.type_name.is_empty();
    let typeless = count(&|r| r.columns.iter().any(unknown_type));
    let is_sequence = |r: &&Relation| r.kind == RelationKind::Sequence;
    let unset = count(&|r| is_sequence(r) && !sequences.contains_key(&r.oid));
    for (catalog, holes, what) in [
        (PG_CLASS_NAME, toast, "TOAST tables that relations have are not in it"),
        ("pg_attribute", short, "relations have attributes that are not in it"),
        ("pg_type", typeless, "relations have columns whose types are not in it"),
        ("pg_sequence", unset, "sequences are not in it: where they start is not known"),
    ] {
        if holes > 0 {
            from.add_hole(catalog, format!("{holes} {what}"));
        }
    }
}
