//! Which columns a sequence feeds, and what belongs to an extension: by
//! pg_depend, the defaults of columns, and inheritance.
//!
//! A partition of a table with an identity column has no default of its own, so
//! what a parent's column is fed by, columns of that name below it are, too.

use super::missing::Evidence;
use super::rows::Catalogs;
use super::{CatalogError, Relation, Sequence};
use std::collections::{HashMap, HashSet};

const PG_CLASS: u32 = 1259;
const PG_ATTRDEF: u32 = 2604;
const PG_EXTENSION: u32 = 3079;

type Column = (u32, i16);

/// The sequences, without what they feed.
pub(super) async fn sequences(
    from: &mut Catalogs<'_>,
) -> Result<HashMap<u32, Sequence>, CatalogError> {
    let found = from.rows("pg_sequence", "seqrelid, seqstart, seqincrement", |r| {
        let (start, increment) = (r.number(1), r.number(2));
        Some((r.number(0), Sequence { start, increment, feeds: Vec::new() }))
    });
    Ok(found.await?.into_iter().collect())
}

/// What pg_depend says.
enum Depends {
    OnExtension(u32),
    /// A column that the sequence feeds.
    Feeds(u32, Column),
    /// A default that calls a sequence.
    Default {
        default: u32,
        sequence: u32,
    },
    /// Of a relation.
    Other(u32),
}

/// Fills in the columns that pg_depend names; gives the members of extensions.
pub(super) async fn depend(
    from: &mut Catalogs<'_>,
    sequences: &mut HashMap<u32, Sequence>,
    evidence: &mut Evidence,
) -> Result<HashSet<u32>, CatalogError> {
    let list = "classid, objid, refclassid, refobjid, refobjsubid, deptype";
    let found = from.rows("pg_depend", list, |r| {
        let (class, object) = (r.number::<u32>(0), r.number::<u32>(1));
        let (referenced_class, referenced) = (r.number::<u32>(2), r.number::<u32>(3));
        let column: i16 = r.number(4);
        Some(match (class, referenced_class) {
            (PG_CLASS, PG_EXTENSION) if r.is(5, "e") => Depends::OnExtension(object),
            (PG_CLASS, PG_CLASS) if column > 0 && (r.is(5, "a") || r.is(5, "i")) => {
                Depends::Feeds(object, (referenced, column))
            }
            (PG_ATTRDEF, PG_CLASS) => Depends::Default { default: object, sequence: referenced },
            (PG_CLASS, _) => Depends::Other(object),
            _ => return None,
        })
    });
    let (mut members, mut calls) = (HashSet::new(), Vec::new());
    for depends in found.await? {
        match depends {
            Depends::OnExtension(oid) => _ = members.insert(oid),
            Depends::Feeds(sequence, column) => feed(sequences, sequence, column),
            Depends::Default { default, sequence } => {
                if sequences.contains_key(&sequence) {
                    calls.push((default, sequence));
                }
            }
            Depends::Other(oid) => evidence.add_doubtful(oid),
        }
    }
    if !calls.is_empty() {
        let defaults = from.rows("pg_attrdef", "oid, adrelid, adnum", |r| {
            Some((r.number::<u32>(0), (r.number::<u32>(1), r.number::<i16>(2))))
        });
        let defaults: HashMap<u32, Column> = defaults.await?.into_iter().collect();
        for (default, sequence) in calls {
            if let Some(&column) = defaults.get(&default) {
                feed(sequences, sequence, column);
            }
        }
    }
    Ok(members)
}

fn feed(sequences: &mut HashMap<u32, Sequence>, sequence: u32, column: Column) {
    if let Some(Sequence { feeds, .. }) = sequences.get_mut(&sequence)
        && column.1 > 0
        && !feeds.contains(&column)
    {
        feeds.push(column);
    }
}

/// Adds the columns of partitions and children; `inherits`: child and parent.
pub(super) fn inherit(
    inherits: &[[u32; 2]],
    relations: &[Relation],
    sequences: &mut HashMap<u32, Sequence>,
) {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for &[child, parent] in inherits {
        children.entry(parent).or_default().push(child);
    }
    let by_oid: HashMap<u32, &Relation> = relations.iter().map(|r| (r.oid, r)).collect();
    for sequence in sequences.values_mut() {
        let mut known: HashSet<Column> = sequence.feeds.iter().copied().collect();
        let mut next = 0;
        // It grows while it is gone through.
        while let Some(&(parent, attnum)) = sequence.feeds.get(next) {
            next += 1;
            let columns = by_oid.get(&parent).map_or(&[][..], |r| &r.columns);
            let Some(column) = columns.iter().find(|c| c.attnum == attnum) else { continue };
            for child in children.get(&parent).into_iter().flatten() {
                let columns = by_oid.get(child).map_or(&[][..], |r| &r.columns);
                let below = columns.iter().find(|c| c.name == column.name);
                let below = below.map(|c| (*child, c.attnum)).filter(|c| known.insert(*c));
                sequence.feeds.extend(below);
            }
        }
    }
}
