//! Views, materialised views and triggers.

use super::rows::Row;
use super::tables::options;
use super::{Ddl, Name, catalog};
use crate::archive::Section;
use crate::server::fault::FIRST_NORMAL_OID;
use crate::server::session::ReadError;
use crate::server::sql::ident;

impl Ddl<'_> {
    pub(super) async fn views(&mut self) -> Result<(), ReadError> {
        let of = |filter: &str| {
            format!(
                "SELECT x.oid, n.nspname, x.relname, pg_catalog.pg_get_userbyid(x.relowner), \
                 x.relkind, pg_catalog.array_to_string(x.reloptions, ','), x.reltype, \
                 (SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = x.reltablespace), \
                 pg_catalog.pg_get_viewdef(x.oid) \
                 FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace \
                 WHERE x.relkind IN ('v', 'm') AND x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID}{filter}"
            )
        };
        let list = format!(
            "SELECT x.oid, x.relname FROM pg_catalog.pg_class x WHERE x.relkind IN ('v', 'm') \
             AND x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID}"
        );
        self.rules().await?;
        for row in self.objects("VIEW", of, &list, Some("x.oid")).await? {
            let oid = row.oid();
            let name = Name::new(row.text(1), row.text(2));
            if !self.relations.contains_key(&oid)
                || name.is_system()
                || self.is_of_extension(catalog::CLASS, oid)
            {
                continue;
            }
            let (desc, end) = match row.text(4) {
                "m" => ("MATERIALIZED VIEW", "\n  WITH NO DATA"),
                _ => ("VIEW", ""),
            };
            let options = options(row.text(5));
            let query = row.text(8).trim_end().trim_end_matches(';');
            let defn = format!("CREATE {desc} {}{options} AS\n{query}{end};\n", name.qualified);
            let owner = row.text(3).to_owned();
            let at = (9, desc, Section::PreData);
            let item = self.add(at, (catalog::CLASS, oid), &name, &owner, defn);
            item.entry.drop_stmt = Some(format!("DROP {desc} {};\n", name.qualified).into());
            item.entry.tablespace = row.some(7).map(Into::into);
            self.parts.insert((catalog::TYPE, row.number(6)), (catalog::CLASS, oid));
        }
        Ok(())
    }

    /// Which relation each rule is of, and the rules that are no views.
    async fn rules(&mut self) -> Result<(), ReadError> {
        for row in self.rules_of_all().await? {
            self.parts.insert((catalog::REWRITE, row.oid()), (catalog::CLASS, row.number(1)));
        }
        let of = |filter: &str| {
            format!(
                "SELECT x.oid, x.ev_class, x.rulename, pg_catalog.pg_get_ruledef(x.oid) \
                 FROM pg_catalog.pg_rewrite x \
                 WHERE x.rulename <> '_RETURN' AND x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID}{filter}"
            )
        };
        let list = format!(
            "SELECT x.oid, x.rulename FROM pg_catalog.pg_rewrite x \
             WHERE x.rulename <> '_RETURN' AND x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID}"
        );
        for row in self.objects("RULE", of, &list, Some("x.ev_class")).await? {
            let Some(name) = self.of_relation(row.number(1), row.text(2)) else { continue };
            let defn = format!("{}\n", row.text(3));
            let at = (5, "RULE", Section::PostData);
            let item = self.add(at, (catalog::REWRITE, row.oid()), &name, "", defn);
            item.needs.push((catalog::CLASS, row.number(1)));
        }
        Ok(())
    }

    /// Which there are, as far as it can be had.
    async fn rules_of_all(&mut self) -> Result<Vec<Row>, ReadError> {
        let all = "SELECT x.oid, x.ev_class FROM pg_catalog.pg_rewrite x";
        if let Ok(rows) = self.rows(all).await? {
            return Ok(rows);
        }
        let mut found = Vec::new();
        for &oid in self.relations.keys() {
            // What fails is said of the view.
            let rows = self.rows(&format!("{all} WHERE x.ev_class = {oid}")).await?;
            found.extend(rows.unwrap_or_default());
        }
        Ok(found)
    }

    pub(super) async fn triggers(&mut self) -> Result<(), ReadError> {
        let of = |filter: &str| {
            format!(
                "SELECT x.oid, x.tgrelid, x.tgname, x.tgenabled, pg_catalog.pg_get_triggerdef(x.oid) \
                 FROM pg_catalog.pg_trigger x WHERE NOT x.tgisinternal{filter}"
            )
        };
        let list = "SELECT x.oid, x.tgname FROM pg_catalog.pg_trigger x WHERE NOT x.tgisinternal";
        for row in self.objects("TRIGGER", of, list, Some("x.tgrelid")).await? {
            let table = row.number(1);
            // That of a partitioned table makes those of its partitions.
            let is_part = self.depends.iter().any(|d| {
                d.object == (catalog::TRIGGER, row.oid())
                    && d.on.0 == catalog::TRIGGER
                    && matches!(d.kind, b'I' | b'P' | b'S')
            });
            let Some(name) = self.of_relation(table, row.text(2)).filter(|_| !is_part) else {
                continue;
            };
            let mut defn = format!("{};\n", row.text(4));
            let enable = match row.text(3) {
                "D" => "DISABLE",
                "A" => "ENABLE ALWAYS",
                "R" => "ENABLE REPLICA",
                _ => "",
            };
            if !enable.is_empty()
                && let Some(relation) = self.relations.get(&table)
            {
                let of = Name::new(&relation.schema.to_string(), &relation.name.to_string());
                let trigger = ident(row.text(2));
                defn += &format!("ALTER TABLE {} {enable} TRIGGER {trigger};\n", of.qualified);
            }
            let at = (6, "TRIGGER", Section::PostData);
            let item = self.add(at, (catalog::TRIGGER, row.oid()), &name, "", defn);
            item.needs.push((catalog::CLASS, table));
        }
        Ok(())
    }

    /// The name of something that a selected relation has: its tag begins with
    /// the relation's. None: the relation is not wanted.
    pub(super) fn of_relation(&self, relation: u32, name: &str) -> Option<Name> {
        let relation = self.relations.get(&relation)?;
        let wanted = !relation.extension && !relation.temporary && relation.oid >= FIRST_NORMAL_OID;
        let (schema, of) = (relation.schema.to_string(), relation.name.to_string());
        wanted.then(|| Name { name: format!("{of} {name}"), ..Name::new(&schema, &of) })
    }
}
