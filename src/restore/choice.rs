//! Which entries of a table of contents go with what was chosen. Pure.

use crate::archive::{self, Archive, Entry};
use crate::server::inventory::{self, Selection};
use crate::server::pattern::Pattern;
use bstr::{BString, ByteSlice};
use std::collections::{HashMap, HashSet};

/// Schema and name.
type Name = (BString, BString);

#[derive(Default)]
pub(super) struct Choice {
    /// By their dump ids.
    pub entries: HashSet<i32>,
    /// Taken since their tables are.
    pub sequences: Vec<Name>,
}

/// The kinds of entries that are relations, by which others are chosen.
const RELATIONS: &[(&str, inventory::RelationKind)] = &[
    ("TABLE", inventory::RelationKind::Table),
    ("FOREIGN TABLE", inventory::RelationKind::ForeignTable),
    ("VIEW", inventory::RelationKind::View),
    ("MATERIALIZED VIEW", inventory::RelationKind::Matview),
    ("SEQUENCE", inventory::RelationKind::Sequence),
];

/// What of a schema goes with the relations that were chosen: these, what is of
/// them alone (indexes, constraints between them, rights), and, where schemas
/// were chosen, all that is in them.
pub(super) fn choose(archive: &Archive, selection: &Selection) -> Choice {
    let all = &archive.entries;
    if selection.is_everything() {
        let entries = all.iter().map(|e| e.dump_id).collect();
        return Choice { entries, sequences: Vec::new() };
    }
    let mut relations: HashMap<i32, bool> = HashMap::new();
    for entry in all {
        let Some((_, kind)) = RELATIONS.iter().find(|(desc, _)| entry.desc == *desc) else {
            continue;
        };
        let schema = entry.namespace.clone().unwrap_or_default();
        let relation = inventory::Relation::named(0, schema, entry.tag.clone(), *kind);
        relations.insert(entry.dump_id, selection.takes(&relation));
    }
    let sequences = with_their_tables(all, &mut relations);
    let mut chosen: HashSet<i32> = HashSet::new();
    for entry in all {
        let own = relations.get(&entry.dump_id).copied();
        let of: Vec<bool> =
            entry.dependencies.iter().filter_map(|d| relations.get(d).copied()).collect();
        let takes = match own {
            Some(takes) => takes,
            None if !of.is_empty() => of.iter().all(|takes| *takes),
            // Rights and comments go with what they are of.
            None if entry.section == archive::Section::None && !entry.dependencies.is_empty() => {
                entry.dependencies.iter().all(|d| chosen.contains(d))
            }
            None => takes_other(entry, selection),
        };
        if takes {
            chosen.insert(entry.dump_id);
        }
    }
    Choice { entries: chosen, sequences }
}

/// A sequence that a column owns, or that an identity column is, goes with its
/// table. Returns those that are taken for that.
fn with_their_tables(all: &[Entry], relations: &mut HashMap<i32, bool>) -> Vec<Name> {
    let by_id: HashMap<i32, &Entry> = all.iter().map(|e| (e.dump_id, e)).collect();
    let is = |id: &i32, desc: &str| by_id.get(id).is_some_and(|e| e.desc == desc);
    let mut taken = Vec::new();
    for entry in all {
        let tables = entry.dependencies.iter().filter(|d| is(d, "TABLE"));
        let tables: Vec<bool> = tables.filter_map(|t| relations.get(t).copied()).collect();
        let sequences: Vec<i32> = match entry.desc.as_slice() {
            b"SEQUENCE" => vec![entry.dump_id],
            b"SEQUENCE OWNED BY" => {
                entry.dependencies.iter().copied().filter(|d| is(d, "SEQUENCE")).collect()
            }
            _ => continue,
        };
        if tables.is_empty() || !tables.iter().all(|takes| *takes) {
            continue;
        }
        for id in sequences {
            relations.insert(id, true);
            let sequence = by_id.get(&id).copied().unwrap_or(entry);
            let schema = sequence.namespace.clone().unwrap_or_default();
            taken.push((schema, sequence.tag.clone()));
        }
    }
    taken
}

/// Whether something that is of no relation is in the schemas that were chosen.
fn takes_other(entry: &Entry, selection: &Selection) -> bool {
    if !selection.tables.is_empty() {
        return false;
    }
    let schema: Option<&BString> = match entry.namespace.as_ref().filter(|n| !n.is_empty()) {
        Some(namespace) => Some(namespace),
        None if entry.desc == "SCHEMA" => Some(&entry.tag),
        None => None,
    };
    match schema {
        Some(schema) => {
            let is = |p: &Pattern| p.matches_schema(schema.as_bytes());
            (selection.schemas.is_empty() || selection.schemas.iter().any(is))
                && !selection.not_schemas.iter().any(is)
        }
        None => selection.schemas.is_empty(),
    }
}
