//! Functions and procedures, as `pg_get_functiondef` gives them.

use super::{Ddl, Name, catalog};
use crate::archive::Section;
use crate::server::fault::FIRST_NORMAL_OID;
use crate::server::session::ReadError;

impl Ddl<'_> {
    pub(super) async fn functions(&mut self) -> Result<(), ReadError> {
        let (kind, plain) = match self.version {
            110_000.. => ("x.prokind", "x.prokind <> 'a'"),
            _ => ("'f'", "NOT x.proisagg"),
        };
        let of = |filter: &str| {
            format!(
                "SELECT x.oid, n.nspname, x.proname, pg_catalog.pg_get_userbyid(x.proowner), {kind}, \
                 pg_catalog.pg_get_function_identity_arguments(x.oid), \
                 pg_catalog.pg_get_functiondef(x.oid) \
                 FROM pg_catalog.pg_proc x JOIN pg_catalog.pg_namespace n ON n.oid = x.pronamespace \
                 WHERE x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID} AND {plain}{filter}"
            )
        };
        let list = format!(
            "SELECT x.oid, x.proname FROM pg_catalog.pg_proc x WHERE x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID} \
             AND {plain}"
        );
        for row in self.objects("FUNCTION", of, &list, None).await? {
            let oid = row.oid();
            let name = Name::new(row.text(1), row.text(2));
            // What a range type brings with it is of no use by itself.
            let is_part = self.depends.iter().any(|d| {
                d.object == (catalog::PROC, oid) && d.kind == b'i' && d.on.0 == catalog::TYPE
            });
            if name.is_system() || is_part || self.is_of_extension(catalog::PROC, oid) {
                continue;
            }
            let desc = if row.text(4) == "p" { "PROCEDURE" } else { "FUNCTION" };
            let tag = Name {
                name: format!("{}({})", row.text(2), row.text(5)),
                ..Name::new(row.text(1), row.text(2))
            };
            let defn = format!("{};\n", row.text(6).trim_end());
            let owner = row.text(3).to_owned();
            let at = (3, desc, Section::PreData);
            let item = self.add(at, (catalog::PROC, oid), &tag, &owner, defn);
            let drop = format!("DROP {desc} {}({});\n", name.qualified, row.text(5));
            item.entry.drop_stmt = Some(drop.into());
        }
        Ok(())
    }
}
