//! What was found of a relation at several levels, as one.

use crate::report::model::{Level, Relation, Status};
use std::collections::BTreeMap;

/// Relations by what tells them apart: the database (none: shared), the OID, and
/// the name where there is no OID.
#[derive(Debug, Default)]
pub(super) struct Relations(BTreeMap<(Option<String>, u32, String), Relation>);

impl Relations {
    pub(super) fn add_all(&mut self, found: Vec<Relation>) {
        for relation in found {
            let name = if relation.oid == 0 { relation.name.clone() } else { String::new() };
            let key = (relation.database.clone(), relation.oid, name);
            match self.0.entry(key) {
                std::collections::btree_map::Entry::Vacant(none) => _ = none.insert(relation),
                std::collections::btree_map::Entry::Occupied(mut one) => {
                    add(one.get_mut(), relation);
                }
            }
        }
    }

    /// A level was not reached: what has it was not looked at to its end.
    pub(super) fn not_reached(&mut self, database: &str, level: Level) {
        let of = |r: &&mut Relation| r.database.as_deref() == Some(database) && has(r, level);
        for relation in self.0.values_mut().filter(of) {
            if relation.status < Status::NotReached {
                relation.status = Status::NotReached;
                relation.reason = Some("not all levels were reached".to_owned());
            }
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Relation> {
        self.0.values_mut()
    }

    /// By database, schema and name.
    pub(super) fn into_sorted(self) -> Vec<Relation> {
        let mut all: Vec<Relation> = self.0.into_values().collect();
        all.sort_by(|a, b| (a.key(), a.oid).cmp(&(b.key(), b.oid)));
        all
    }
}

/// Whether a relation is looked at at a level.
fn has(relation: &Relation, level: Level) -> bool {
    match level {
        Level::Pages => true,
        Level::Rows => matches!(relation.kind.as_str(), "table" | "materialised view" | "sequence"),
        Level::Amcheck => {
            matches!(
                relation.kind.as_str(),
                "table" | "materialised view" | "index" | "TOAST table"
            )
        }
    }
}

/// Adds what another level has found.
pub(super) fn add(to: &mut Relation, from: Relation) {
    if from.status > to.status {
        (to.status, to.reason) = (from.status, from.reason);
    }
    // Rows know better what a relation is: pages of large objects are of a table.
    if from.rows.is_some() {
        to.kind = from.kind;
    }
    to.levels.extend(from.levels);
    to.levels.sort_unstable();
    to.levels.dedup();
    to.owner = to.owner.take().or(from.owner);
    to.rows = to.rows.or(from.rows);
    to.content_hash = to.content_hash.take().or(from.content_hash);
    to.written = to.written.take().or(from.written);
    to.blocks.total = to.blocks.total.max(from.blocks.total);
    to.blocks.damaged = to.blocks.damaged.max(from.blocks.damaged);
    to.blocks.lost = to.blocks.lost.max(from.blocks.lost);
    to.bytes = to.bytes.max(from.bytes);
    to.problems_omitted += from.problems_omitted;
    // Shared catalogs are looked at in each database.
    let known = to.problems.len();
    for problem in from.problems {
        if to.problems[..known].contains(&problem) {
            continue;
        }
        to.add_problem(problem);
    }
    // What was read says more than what was looked at.
    if !from.map.is_empty() && (to.map.is_empty() || from.rows.is_some()) {
        to.map = from.map;
    }
    for step in from.advice {
        if !to.advice.contains(&step) {
            to.advice.push(step);
        }
    }
}
