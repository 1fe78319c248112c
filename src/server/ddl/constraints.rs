//! Keys, foreign keys and other constraints that come after the rows, and
//! indexes.
//!
//! Those of a partitioned table are made without `ONLY`, and so make those of
//! its partitions, which then have the names that PostgreSQL gives them.

use super::{Ddl, catalog};
use crate::archive::Section;
use crate::server::fault::FIRST_NORMAL_OID;
use crate::server::inventory::RelationKind;
use crate::server::session::ReadError;
use crate::server::sql::ident;

impl Ddl<'_> {
    pub(super) async fn constraints(&mut self) -> Result<(), ReadError> {
        // Of a partition's constraint: whether its parent's makes it.
        let of_parent = if self.version >= 110_000 { "x.conparentid" } else { "0" };
        let of = |filter: &str| {
            format!(
                "SELECT x.oid, x.conrelid, x.conname, x.contype, {of_parent}, x.conindid, \
                 x.confrelid, pg_catalog.pg_get_constraintdef(x.oid) FROM pg_catalog.pg_constraint x \
                 WHERE x.contype IN ('p', 'u', 'x', 'f') AND x.conrelid::pg_catalog.int8 >= {FIRST_NORMAL_OID}{filter}"
            )
        };
        let list = format!(
            "SELECT x.oid, x.conname FROM pg_catalog.pg_constraint x \
             WHERE x.contype IN ('p', 'u', 'x', 'f') AND x.conrelid::pg_catalog.int8 >= {FIRST_NORMAL_OID}"
        );
        for row in self.objects("CONSTRAINT", of, &list, Some("x.conrelid")).await? {
            let (oid, table) = (row.oid(), row.number(1));
            if !matches!(row.text(4), "0" | "") {
                continue;
            }
            let Some(name) = self.of_relation(table, row.text(2)) else { continue };
            let only = if self.is_partitioned(table) { "" } else { "ONLY " };
            let defn = format!(
                "ALTER TABLE {only}{}\n    ADD CONSTRAINT {} {};\n",
                name.qualified,
                ident(row.text(2)),
                row.text(7)
            );
            let is_foreign = row.text(3) == "f";
            let at = match is_foreign {
                true => (4, "FK CONSTRAINT", Section::PostData),
                false => (1, "CONSTRAINT", Section::PostData),
            };
            let index = row.number(5);
            let item = self.add(at, (catalog::CONSTRAINT, oid), &name, "", defn);
            item.needs.push((catalog::CLASS, table));
            if is_foreign {
                // The index of the key that it refers to.
                item.needs.extend([(catalog::CLASS, index), (catalog::CLASS, row.number(6))]);
            } else {
                self.parts.insert((catalog::CLASS, index), (catalog::CONSTRAINT, oid));
            }
        }
        Ok(())
    }

    pub(super) async fn indexes(&mut self) -> Result<(), ReadError> {
        let of = |filter: &str| {
            format!(
                "SELECT x.oid, i.indrelid, x.relname, pg_catalog.pg_get_indexdef(x.oid), \
                 x.relispartition, i.indisclustered, i.indisreplident, \
                 (SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = x.reltablespace) \
                 FROM pg_catalog.pg_class x JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid \
                 WHERE x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID}{filter}"
            )
        };
        let list = format!(
            "SELECT x.oid, x.relname FROM pg_catalog.pg_class x WHERE x.relkind IN ('i', 'I') \
             AND x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID}"
        );
        for row in self.objects("INDEX", of, &list, Some("i.indrelid")).await? {
            let (oid, table) = (row.oid(), row.number(1));
            let is_of_constraint = self.parts.contains_key(&(catalog::CLASS, oid));
            if row.is(4) || is_of_constraint || self.of_relation(table, "").is_none() {
                continue;
            }
            let Some(relation) = self.relations.get(&table) else { continue };
            let schema = relation.schema.to_string();
            let name = super::Name::new(&schema, row.text(2));
            let defn = match self.is_partitioned(table) {
                true => row.text(3).replacen(" ON ONLY ", " ON ", 1),
                false => row.text(3).to_owned(),
            };
            let at = (2, "INDEX", Section::PostData);
            let item = self.add(at, (catalog::CLASS, oid), &name, "", format!("{defn};\n"));
            item.needs.push((catalog::CLASS, table));
            item.entry.drop_stmt = Some(format!("DROP INDEX {};\n", name.qualified).into());
            item.entry.tablespace = Some(row.text(7).into());
        }
        Ok(())
    }

    fn is_partitioned(&self, table: u32) -> bool {
        self.relations.get(&table).is_some_and(|r| r.kind == RelationKind::PartitionedTable)
    }
}
