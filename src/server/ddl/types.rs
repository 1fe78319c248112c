//! Types: enums, domains, composite types and ranges.

use super::{Ddl, Name, catalog};
use crate::archive::Section;
use crate::server::fault::FIRST_NORMAL_OID;
use crate::server::session::ReadError;

impl Ddl<'_> {
    pub(super) async fn types(&mut self) -> Result<(), ReadError> {
        let multirange = match self.version {
            140_000.. => {
                "(SELECT m.typname FROM pg_catalog.pg_range r, pg_catalog.pg_type m \
                 WHERE r.rngtypid = x.oid AND m.oid = r.rngmultitypid)"
            }
            _ => "NULL",
        };
        let of = |filter: &str| {
            format!(
                "SELECT x.oid, n.nspname, x.typname, pg_catalog.pg_get_userbyid(x.typowner), \
                 x.typtype, x.typarray, x.typrelid, \
                 CASE x.typtype WHEN 'e' THEN (SELECT pg_catalog.string_agg(\
                 pg_catalog.quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) \
                 FROM pg_catalog.pg_enum e WHERE e.enumtypid = x.oid) \
                 WHEN 'c' THEN (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname) || ' ' || \
                 pg_catalog.format_type(a.atttypid, a.atttypmod) || COALESCE((SELECT ' COLLATE ' || \
                 pg_catalog.quote_ident(o.nspname) || '.' || pg_catalog.quote_ident(l.collname) \
                 FROM pg_catalog.pg_collation l, pg_catalog.pg_namespace o, pg_catalog.pg_type t \
                 WHERE t.oid = a.atttypid AND l.oid = a.attcollation AND o.oid = l.collnamespace \
                 AND a.attcollation <> t.typcollation), ''), ', ' ORDER BY a.attnum) \
                 FROM pg_catalog.pg_attribute a WHERE a.attrelid = x.typrelid AND a.attnum > 0 \
                 AND NOT a.attisdropped) \
                 WHEN 'r' THEN (SELECT 'SUBTYPE = ' || pg_catalog.format_type(r.rngsubtype, NULL) || \
                 CASE WHEN r.rngsubdiff <> 0 THEN ', SUBTYPE_DIFF = ' || r.rngsubdiff ELSE '' END \
                 FROM pg_catalog.pg_range r WHERE r.rngtypid = x.oid) \
                 WHEN 'd' THEN pg_catalog.format_type(x.typbasetype, x.typtypmod) END, \
                 x.typdefault, x.typnotnull, \
                 (SELECT pg_catalog.string_agg('CONSTRAINT ' || pg_catalog.quote_ident(c.conname) || ' ' || \
                 pg_catalog.pg_get_constraintdef(c.oid), E'\\n    ' ORDER BY c.conname) \
                 FROM pg_catalog.pg_constraint c WHERE c.contypid = x.oid AND c.contype = 'c'), \
                 {multirange} \
                 FROM pg_catalog.pg_type x JOIN pg_catalog.pg_namespace n ON n.oid = x.typnamespace \
                 LEFT JOIN pg_catalog.pg_class k ON k.oid = x.typrelid \
                 WHERE x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID} AND (x.typtype IN ('e', 'd', 'r') \
                 OR k.relkind = 'c'){filter}"
            )
        };
        let list = format!(
            "SELECT x.oid, x.typname FROM pg_catalog.pg_type x WHERE x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID} \
             AND x.typtype IN ('e', 'd', 'r', 'c')"
        );
        for row in self.objects("TYPE", of, &list, None).await? {
            let oid = row.oid();
            let name = Name::new(row.text(1), row.text(2));
            if name.is_system() || self.is_of_extension(catalog::TYPE, oid) {
                continue;
            }
            let (desc, body) = match row.text(4) {
                "e" => ("TYPE", format!("AS ENUM ({})", row.text(7))),
                "c" => ("TYPE", format!("AS ({})", row.text(7))),
                "r" => {
                    let multirange = row.some(11).map(|multirange| {
                        let multirange = Name::new(row.text(1), multirange).qualified;
                        format!(", MULTIRANGE_TYPE_NAME = {multirange}")
                    });
                    let multirange = multirange.unwrap_or_default();
                    ("TYPE", format!("AS RANGE ({}{multirange})", row.text(7)))
                }
                _ => {
                    let default = row.some(8).map(|d| format!(" DEFAULT {d}")).unwrap_or_default();
                    let not_null = if row.is(9) { " NOT NULL" } else { "" };
                    let checks = row.some(10).map(|c| format!("\n    {c}")).unwrap_or_default();
                    ("DOMAIN", format!("AS {}{default}{not_null}{checks}", row.text(7)))
                }
            };
            let defn = format!("CREATE {desc} {} {body};\n", name.qualified);
            let at = (2, desc, Section::PreData);
            let owner = row.text(3).to_owned();
            let item = self.add(at, (catalog::TYPE, oid), &name, &owner, defn);
            item.entry.drop_stmt = Some(format!("DROP {desc} {};\n", name.qualified).into());
            self.parts.insert((catalog::TYPE, row.number(5)), (catalog::TYPE, oid));
            self.parts.insert((catalog::CLASS, row.number(6)), (catalog::TYPE, oid));
        }
        Ok(())
    }
}
