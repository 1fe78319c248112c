//! In which order relations are loaded that refer to each other already.

use super::RestoreError;
use super::plan::Table;
use super::shared::Shared;
use std::collections::HashMap;

/// Tables that refer to each other in a circle have no order; nobody has so many
/// levels otherwise.
const LEVELS_MAX: usize = 100;

const FOREIGN_KEYS: &str = "SELECT n.nspname, c.relname, rn.nspname, rc.relname \
    FROM pg_catalog.pg_constraint k \
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_catalog.pg_class rc ON rc.oid = k.confrelid \
    JOIN pg_catalog.pg_namespace rn ON rn.oid = rc.relnamespace \
    WHERE k.contype = 'f'";

/// Levels of tables: none refers to one of a later level, unless in a circle.
pub(super) async fn levels(
    shared: &Shared,
    tables: Vec<Table>,
) -> Result<Vec<Vec<Table>>, RestoreError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let rows = shared.session_again().await?.rows(FOREIGN_KEYS).await?;
    let name = |schema: &Option<String>, name: &Option<String>| {
        (schema.clone().unwrap_or_default(), name.clone().unwrap_or_default())
    };
    let mut refers = Vec::new();
    for row in &rows {
        if let [schema, table, to_schema, to_table] = row.as_slice() {
            refers.push((name(schema, table), name(to_schema, to_table)));
        }
    }
    let names: Vec<(String, String)> =
        tables.iter().map(|t| (t.relation.schema.clone(), t.relation.name.clone())).collect();
    let of = depths(&names, &refers);
    let mut levels: Vec<Vec<Table>> = Vec::new();
    for (table, depth) in tables.into_iter().zip(of) {
        if levels.len() <= depth {
            levels.resize_with(depth + 1, Vec::new);
        }
        levels[depth].push(table);
    }
    levels.retain(|level| !level.is_empty());
    Ok(levels)
}

type Name = (String, String);

/// How many tables deep the references of each go.
fn depths(names: &[Name], refers: &[(Name, Name)]) -> Vec<usize> {
    let at: HashMap<&Name, usize> = names.iter().enumerate().map(|(i, name)| (name, i)).collect();
    let edges: Vec<(usize, usize)> = refers
        .iter()
        .filter_map(|(from, to)| Some((*at.get(from)?, *at.get(to)?)))
        .filter(|(from, to)| from != to)
        .collect();
    let mut depths = vec![0; names.len()];
    for _ in 0..names.len().min(LEVELS_MAX) {
        let mut changed = false;
        for (from, to) in &edges {
            if depths[*from] <= depths[*to] {
                depths[*from] = depths[*to] + 1;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    depths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_referred_to_comes_first() {
        let name = |n: &str| ("s".to_owned(), n.to_owned());
        let names = ["c", "b", "a", "alone"].map(name);
        let refers = [
            (name("c"), name("b")),
            (name("b"), name("a")),
            (name("a"), name("a")),
            (name("a"), name("elsewhere")),
        ];
        assert_eq!(depths(&names, &refers), [2, 1, 0, 0]);
        // A circle ends.
        let circle = [(name("a"), name("b")), (name("b"), name("a"))];
        assert_eq!(depths(&names, &circle).len(), 4);
    }
}
