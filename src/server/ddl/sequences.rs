//! Sequences, those of identity columns too.

use super::order::owned_by;
use super::{Ddl, Name, catalog};
use crate::archive::Section;
use crate::server::fault::FIRST_NORMAL_OID;
use crate::server::session::ReadError;
use crate::server::sql::ident;

impl Ddl<'_> {
    pub(super) async fn sequences(&mut self) -> Result<(), ReadError> {
        let of = |filter: &str| {
            format!(
                "SELECT x.oid, n.nspname, x.relname, pg_catalog.pg_get_userbyid(x.relowner), \
                 pg_catalog.format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, \
                 s.seqmax, s.seqcache, s.seqcycle, x.relpersistence \
                 FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace \
                 JOIN pg_catalog.pg_sequence s ON s.seqrelid = x.oid \
                 WHERE x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID}{filter}"
            )
        };
        let list = "SELECT x.oid, x.relname FROM pg_catalog.pg_class x WHERE x.relkind = 'S'";
        let names = self.column_names().await?;
        for row in self.objects("SEQUENCE", of, list, Some("x.oid")).await? {
            let oid = row.oid();
            let name = Name::new(row.text(1), row.text(2));
            if !self.relations.contains_key(&oid)
                || name.is_system()
                || row.text(11) == "t"
                || self.is_of_extension(catalog::CLASS, oid)
            {
                continue;
            }
            let cycle = if row.is(10) { "\n    CYCLE" } else { "" };
            let rest = format!(
                "    START WITH {}\n    INCREMENT BY {}\n    MINVALUE {}\n    MAXVALUE {}\n    \
                 CACHE {}{cycle}",
                row.text(5),
                row.text(6),
                row.text(7),
                row.text(8),
                row.text(9)
            );
            let owned = owned_by(&self.depends, oid);
            let column = owned.and_then(|(table, column, _)| names.get(&(table, column)));
            let owner = row.text(3).to_owned();
            let at = (6, "SEQUENCE", Section::PreData);
            match (owned, column) {
                (Some((table, _, true)), Some((of, column, how))) => {
                    let how = if how == "a" { "ALWAYS" } else { "BY DEFAULT" };
                    let defn = format!(
                        "ALTER TABLE {of} ALTER COLUMN {column} ADD GENERATED {how} AS IDENTITY \
                         (\n    SEQUENCE NAME {}\n{rest}\n);\n",
                        name.qualified
                    );
                    let item = self.add(at, (catalog::CLASS, oid), &name, &owner, defn);
                    item.needs.push((catalog::CLASS, table));
                }
                _ => {
                    let unlogged = if row.text(11) == "u" { "UNLOGGED " } else { "" };
                    let defn = format!(
                        "CREATE {unlogged}SEQUENCE {}\n    AS {}\n{rest};\n",
                        name.qualified,
                        row.text(4)
                    );
                    let item = self.add(at, (catalog::CLASS, oid), &name, &owner, defn);
                    let drop = format!("DROP SEQUENCE {};\n", name.qualified);
                    item.entry.drop_stmt = Some(drop.into());
                    if let (Some((table, ..)), Some((of, column, _))) = (owned, column) {
                        let defn =
                            format!("ALTER SEQUENCE {} OWNED BY {of}.{column};\n", name.qualified);
                        let at = (7, "SEQUENCE OWNED BY", Section::PreData);
                        let item = self.add(at, (0, 0), &name, &owner, defn);
                        item.needs = vec![(catalog::CLASS, oid), (catalog::CLASS, table)];
                    }
                }
            }
        }
        Ok(())
    }

    /// Of columns that own a sequence: the table and the column in statements,
    /// and which identity it is.
    async fn column_names(
        &self,
    ) -> Result<std::collections::HashMap<(u32, u32), (String, String, String)>, ReadError> {
        let sql = format!(
            "SELECT x.attrelid, x.attnum, n.nspname, c.relname, x.attname, x.attidentity \
             FROM pg_catalog.pg_attribute x JOIN pg_catalog.pg_class c ON c.oid = x.attrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE x.attnum > 0 AND c.relkind IN ('r', 'p', 'f') AND c.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID}"
        );
        let rows = self.rows(&sql).await?.unwrap_or_default();
        let named = rows.into_iter().map(|row| {
            let table = Name::new(row.text(2), row.text(3)).qualified;
            let column = (table, ident(row.text(4)), row.text(5).to_owned());
            ((row.oid(), row.number(1)), column)
        });
        Ok(named.collect())
    }
}
