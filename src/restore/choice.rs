//! Which entries of a table of contents go with what was chosen. Pure.

use crate::archive::{self, Entry};
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
    /// Taken, or not, since their tables are.
    pub sequences: HashMap<Name, bool>,
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
pub(super) fn choose(all: &[Entry], selection: &Selection) -> Choice {
    if selection.is_everything() {
        let entries = all.iter().map(|e| e.dump_id).collect();
        return Choice { entries, sequences: HashMap::new() };
    }
    // Relations, and what is of them: whether they are taken.
    let mut of_relations: HashMap<i32, bool> = HashMap::new();
    for entry in all {
        let Some((_, kind)) = RELATIONS.iter().find(|(desc, _)| entry.desc == *desc) else {
            continue;
        };
        let schema = entry.namespace.clone().unwrap_or_default();
        let relation = inventory::Relation::named(0, schema, entry.tag.clone(), *kind);
        of_relations.insert(entry.dump_id, selection.takes(&relation));
    }
    let sequences = with_their_tables(all, &mut of_relations);
    let mut chosen: HashSet<i32> = HashSet::new();
    for entry in all {
        let of: Vec<bool> =
            entry.dependencies.iter().filter_map(|d| of_relations.get(d).copied()).collect();
        let all_are_chosen = || entry.dependencies.iter().all(|d| chosen.contains(d));
        let takes = match of_relations.get(&entry.dump_id) {
            Some(takes) => *takes,
            None if !of.is_empty() => {
                let takes =
                    of.iter().all(|takes| *takes) && (!is_between(entry) || all_are_chosen());
                of_relations.insert(entry.dump_id, takes);
                takes
            }
            // Rights and comments go with what they are of.
            None if entry.section == archive::Section::None && !entry.dependencies.is_empty() => {
                all_are_chosen()
            }
            None => takes_other(entry, selection),
        };
        if takes {
            chosen.insert(entry.dump_id);
        }
    }
    Choice { entries: chosen, sequences }
}

/// Whether it is of a relation, and as much of something that is none.
fn is_between(entry: &Entry) -> bool {
    entry.desc.starts_with(b"PUBLICATION ")
}

/// A sequence that a column owns goes with its table, and one that an identity
/// column is with nothing else. Returns those of which that decides.
fn with_their_tables(all: &[Entry], relations: &mut HashMap<i32, bool>) -> HashMap<Name, bool> {
    let by_id: HashMap<i32, &Entry> = all.iter().map(|e| (e.dump_id, e)).collect();
    let is = |id: &i32, desc: &str| by_id.get(id).is_some_and(|e| e.desc == desc);
    let mut decided = HashMap::new();
    for entry in all {
        let tables = entry.dependencies.iter().filter(|d| is(d, "TABLE"));
        let tables: Vec<bool> = tables.filter_map(|t| relations.get(t).copied()).collect();
        let is_identity = entry.desc == "SEQUENCE";
        let sequences: Vec<i32> = match entry.desc.as_slice() {
            b"SEQUENCE" => vec![entry.dump_id],
            b"SEQUENCE OWNED BY" => {
                entry.dependencies.iter().copied().filter(|d| is(d, "SEQUENCE")).collect()
            }
            _ => continue,
        };
        let takes = tables.iter().all(|takes| *takes);
        if tables.is_empty() || !(takes || is_identity) {
            continue;
        }
        for id in sequences {
            relations.insert(id, takes);
            let sequence = by_id.get(&id).copied().unwrap_or(entry);
            let schema = sequence.namespace.clone().unwrap_or_default();
            decided.insert((schema, sequence.tag.clone()), takes);
        }
    }
    decided
}

/// Whether something that is of no relation is in the schemas that were chosen.
fn takes_other(entry: &Entry, selection: &Selection) -> bool {
    if matches!(entry.desc.as_slice(), b"BLOB" | b"BLOB METADATA") {
        return selection.takes_large_objects();
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Section;

    fn entry(id: i32, desc: &str, tag: &str, dependencies: &[i32]) -> Entry {
        let mut entry = Entry::new(id, desc, tag, Section::PostData);
        entry.namespace = Some("s".into());
        entry.dependencies = dependencies.to_vec();
        entry
    }

    /// Two tables, one with an identity and one with a serial column, and what
    /// hangs on them.
    fn entries() -> Vec<Entry> {
        let mut comment = entry(31, "COMMENT", "INDEX a_x", &[21]);
        comment.section = Section::None;
        let mut object = entry(41, "BLOB", "7", &[]);
        object.namespace = None;
        vec![
            entry(1, "TABLE", "a", &[]),
            entry(2, "SEQUENCE", "a_id_seq", &[1]),
            entry(3, "TABLE", "b", &[]),
            entry(4, "SEQUENCE", "b_id_seq", &[]),
            entry(5, "SEQUENCE OWNED BY", "b_id_seq", &[4, 3]),
            entry(6, "PUBLICATION", "p", &[]),
            entry(7, "PUBLICATION TABLE", "p a", &[6, 1]),
            entry(8, "FUNCTION", "f()", &[]),
            entry(9, "TRIGGER", "a t", &[1, 8]),
            entry(21, "INDEX", "a_x", &[1]),
            entry(22, "INDEX", "b_x", &[3]),
            entry(23, "INDEX ATTACH", "a_x", &[21, 22]),
            entry(24, "FK CONSTRAINT", "a b", &[1, 3, 22]),
            comment,
            object,
        ]
    }

    fn chosen(selection: &Selection) -> Vec<i32> {
        let mut ids: Vec<i32> = choose(&entries(), selection).entries.into_iter().collect();
        ids.sort_unstable();
        ids
    }

    fn patterns(names: &[&str]) -> Vec<Pattern> {
        names.iter().map(|name| Pattern::parse(name).unwrap()).collect()
    }

    #[test]
    fn what_is_of_a_table_goes_with_it_and_what_is_of_two_with_both() {
        let of = |names: &[&str]| Selection { tables: patterns(names), ..Selection::default() };
        assert_eq!(chosen(&of(&["a"])), [1, 2, 9, 21, 31]);
        assert_eq!(chosen(&of(&["b"])), [3, 4, 5, 22]);
        let both = [1, 2, 3, 4, 5, 9, 21, 22, 23, 24, 31];
        assert_eq!(chosen(&of(&["a", "b"])), both);
        let objects = Selection { large_objects: true, ..of(&["b"]) };
        assert_eq!(chosen(&objects), [3, 4, 5, 22, 41]);
    }

    /// The sequence of an identity column is nothing without it; one that a column
    /// owns is something by itself.
    #[test]
    fn without_a_table_all_is_left_out_that_cannot_be_without_it() {
        let without =
            |name: &str| Selection { not_tables: patterns(&[name]), ..Selection::default() };
        assert_eq!(chosen(&without("a")), [3, 4, 5, 6, 8, 22, 41]);
        assert_eq!(chosen(&without("b")), [1, 2, 4, 6, 7, 8, 9, 21, 31, 41]);
        let name = (BString::from("s"), BString::from("a_id_seq"));
        assert_eq!(choose(&entries(), &without("a")).sequences.get(&name), Some(&false));
    }
}
