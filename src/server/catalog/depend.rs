//! Which columns a sequence feeds, and what belongs to an extension: by
//! pg_depend, the defaults of columns, and inheritance.
//!
//! A partition of a table with an identity column has no default of its own, so
//! what a parent's column is fed by, columns of that name below it are, too.

use super::{CatalogError, Catalogs, Relation, Sequence, rows_if_possible};
use std::collections::{HashMap, HashSet};

const PG_CLASS: u32 = 1259;
const PG_ATTRDEF: u32 = 2604;
const PG_EXTENSION: u32 = 3079;

type Column = (u32, i16);

/// Fills in what the relations have of all this.
pub(super) async fn sequences(
    from: Catalogs<'_>,
    warnings: &mut Vec<String>,
    relations: &mut [Relation],
) -> Result<(), CatalogError> {
    let list = "seqrelid, seqstart, seqincrement";
    let found = rows_if_possible(from, "pg_sequence", list, warnings, |r| {
        let (start, increment) = (r.number(1), r.number(2));
        Some((r.number::<u32>(0), Sequence { start, increment, feeds: Vec::new() }))
    });
    let mut sequences: HashMap<u32, Sequence> = found.await?.into_iter().collect();
    let defaults: HashMap<u32, Column> = if sequences.is_empty() {
        HashMap::new()
    } else {
        let list = "oid, adrelid, adnum";
        let found = rows_if_possible(from, "pg_attrdef", list, warnings, |r| {
            Some((r.number(0), (r.number(1), r.number(2))))
        });
        found.await?.into_iter().collect()
    };
    let members = depend(from, warnings, &defaults, &mut sequences).await?;
    if sequences.values().any(|s| !s.feeds.is_empty()) {
        inherit(from, warnings, relations, &mut sequences).await?;
    }
    for relation in relations {
        relation.extension = members.contains(&relation.oid);
        relation.sequence = sequences.remove(&relation.oid);
    }
    Ok(())
}

/// Fills in the columns that pg_depend names; gives the members of extensions.
async fn depend(
    from: Catalogs<'_>,
    warnings: &mut Vec<String>,
    defaults: &HashMap<u32, Column>,
    sequences: &mut HashMap<u32, Sequence>,
) -> Result<HashSet<u32>, CatalogError> {
    let list = "classid, objid, refclassid, refobjid, refobjsubid, deptype";
    let mut members = HashSet::new();
    rows_if_possible(from, "pg_depend", list, warnings, |r| -> Option<()> {
        let (class, object) = (r.number::<u32>(0), r.number::<u32>(1));
        let (referenced_class, referenced) = (r.number::<u32>(2), r.number::<u32>(3));
        let (sequence, column) = match (class, referenced_class) {
            (PG_CLASS, PG_EXTENSION) if r.is(5, "e") => {
                members.insert(object);
                return None;
            }
            // A column owns the sequence, or a default calls it.
            (PG_CLASS, PG_CLASS) if r.is(5, "a") || r.is(5, "i") => {
                (object, (referenced, r.number(4)))
            }
            (PG_ATTRDEF, PG_CLASS) => (referenced, *defaults.get(&object)?),
            _ => return None,
        };
        let feeds = &mut sequences.get_mut(&sequence)?.feeds;
        if column.1 > 0 && !feeds.contains(&column) {
            feeds.push(column);
        }
        None
    })
    .await?;
    Ok(members)
}

/// Adds the columns of partitions and children.
async fn inherit(
    from: Catalogs<'_>,
    warnings: &mut Vec<String>,
    relations: &[Relation],
    sequences: &mut HashMap<u32, Sequence>,
) -> Result<(), CatalogError> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    rows_if_possible(from, "pg_inherits", "inhrelid, inhparent", warnings, |r| -> Option<()> {
        children.entry(r.number(1)).or_default().push(r.number(0));
        None
    })
    .await?;
    if children.is_empty() {
        return Ok(());
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
    Ok(())
}
