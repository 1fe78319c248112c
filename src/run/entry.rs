//! The manifest's entry of a relation, as far as the catalogs and the rows on
//! their way tell of it.

use crate::dump::Watch;
use crate::output::manifest;
use crate::server::inventory::{Relation, RelationKind};

/// Pages of large objects that are missing, as far as they are listed.
const MISSING_PAGES_MAX: usize = 100_000;

/// The entry of a relation of which nothing was read yet.
pub(super) fn described(relation: &Relation, in_recovery: bool) -> manifest::Relation {
    let (schema, schema_hex) = manifest::lossy(&relation.schema);
    let (name, name_hex) = manifest::lossy(&relation.name);
    let columns = relation.columns.iter().map(|c| {
        let (name, name_hex) = manifest::lossy(&c.name);
        manifest::Column { name, name_hex, type_name: c.type_name.to_string(), attnum: c.attnum }
    });
    let left_out = relation
        .left_out
        .iter()
        .map(|c| manifest::ColumnLeftOut { name: c.name.to_string(), why: "generated".to_owned() });
    manifest::Relation {
        oid: relation.oid,
        schema,
        schema_hex,
        name,
        name_hex,
        kind: match relation.kind {
            RelationKind::Table => manifest::RelationKind::Table,
            RelationKind::Matview => manifest::RelationKind::Matview,
            RelationKind::Sequence => manifest::RelationKind::Sequence,
            RelationKind::LargeObjects => manifest::RelationKind::LargeObjects,
            RelationKind::LargeObjectMetadata => manifest::RelationKind::LargeObjectMetadata,
            RelationKind::PartitionedTable => manifest::RelationKind::PartitionedTable,
            RelationKind::View => manifest::RelationKind::View,
            RelationKind::ForeignTable => manifest::RelationKind::ForeignTable,
        },
        persistence: match (relation.temporary, relation.unlogged) {
            (true, _) => manifest::Persistence::Temporary,
            (_, true) => manifest::Persistence::Unlogged,
            _ => manifest::Persistence::Permanent,
        },
        relfilenode: None,
        status: manifest::RelationStatus::Skipped,
        reason: relation.not_read(in_recovery).map(str::to_owned),
        snapshots: Vec::new(),
        columns: columns.collect(),
        columns_left_out: left_out.collect(),
        rows: manifest::Rows::default(),
        content_hash: None,
        blocks: manifest::Blocks::default(),
        files: Vec::new(),
        lost: Vec::new(),
        lost_omitted: 0,
        lost_keys: None,
        errors: None,
        map: None,
        pages: None,
        sequence: None,
        large_objects: None,
        advice: Vec::new(),
        read: None,
    }
}

/// What was seen of large objects, and which pages are missing.
pub(super) fn large_objects(watch: &Watch) -> Option<manifest::LargeObjects> {
    let pages = watch.pages()?;
    let missing = pages.missing().take(MISSING_PAGES_MAX);
    Some(manifest::LargeObjects {
        count: pages.objects(),
        pages: pages.pages(),
        missing: missing
            .map(|(loid, first_page, last_page)| manifest::MissingPages {
                loid,
                first_page,
                last_page,
            })
            .collect(),
    })
}
