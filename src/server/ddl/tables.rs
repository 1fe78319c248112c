//! Tables: columns, partitions, inheritance; defaults as entries of their own.

use super::rows::Row;
use super::{Ddl, Name, catalog};
use crate::archive::Section;
use crate::server::fault::FIRST_NORMAL_OID;
use crate::server::inventory::RelationKind;
use crate::server::session::ReadError;
use crate::server::sql::{ident, literal};
use std::collections::HashMap;

/// A column as it is written in CREATE TABLE.
struct Column {
    name: String,
    /// Type, collation, and how it is generated.
    words: String,
    not_null: bool,
    is_local: bool,
    default: Option<String>,
    default_oid: u32,
}

impl Ddl<'_> {
    pub(super) async fn tables(&mut self) -> Result<(), ReadError> {
        let wanted: Vec<(u32, String)> = self
            .relations
            .values()
            .filter(|r| matches!(r.kind, RelationKind::Table | RelationKind::PartitionedTable))
            .filter(|r| !r.extension && !r.temporary && r.oid >= FIRST_NORMAL_OID)
            .map(|r| (r.oid, r.display_name()))
            .collect();
        let rows =
            self.of_relations("TABLE", &wanted, Self::table_sql(self.version), "x.oid").await?;
        let columns = self.columns(&wanted).await?;
        let checks = self.checks().await?;
        let known: HashMap<u32, Row> = rows.into_iter().map(|row| (row.oid(), row)).collect();
        for (oid, _) in &wanted {
            let columns = columns.get(oid).map_or(&[][..], Vec::as_slice);
            let checks = checks.get(oid).map_or(&[][..], Vec::as_slice);
            match known.get(oid) {
                Some(row) => self.table(row, columns, checks),
                None => self.bare_table(*oid),
            }
        }
        Ok(())
    }

    fn table_sql(version: u32) -> impl Fn(&str) -> String {
        let method = match version {
            120_000.. => "(SELECT a.amname FROM pg_catalog.pg_am a WHERE a.oid = x.relam)",
            _ => "NULL",
        };
        move |filter: &str| {
            format!(
                "SELECT x.oid, n.nspname, x.relname, pg_catalog.pg_get_userbyid(x.relowner), \
                 x.relkind, x.relpersistence, x.relispartition, \
                 CASE WHEN x.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(x.oid) END, \
                 pg_catalog.pg_get_expr(x.relpartbound, x.oid), \
                 pg_catalog.array_to_string(x.reloptions, ','), \
                 (SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = x.reltablespace), \
                 {method}, x.reltype, \
                 (SELECT pg_catalog.string_agg(i.inhparent::pg_catalog.regclass::pg_catalog.text, \
                 ', ' ORDER BY i.inhseqno) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = x.oid) \
                 FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace \
                 WHERE x.relkind IN ('r', 'p') AND x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID}{filter}"
            )
        }
    }

    /// All of a kind or, where that fails, each of those that are wanted.
    async fn of_relations(
        &mut self,
        kind: &'static str,
        wanted: &[(u32, String)],
        of: impl Fn(&str) -> String,
        key: &str,
    ) -> Result<Vec<Row>, ReadError> {
        match self.rows(&of("")).await? {
            Ok(rows) => Ok(rows),
            Err(_) => self.each(kind, wanted.to_vec(), of, key).await,
        }
    }

    async fn columns(
        &mut self,
        wanted: &[(u32, String)],
    ) -> Result<HashMap<u32, Vec<Column>>, ReadError> {
        let mut columns: HashMap<u32, Vec<Column>> = HashMap::new();
        for row in self.column_rows(wanted).await? {
            columns.entry(row.oid()).or_default().push(column(&row));
        }
        Ok(columns)
    }

    /// All of them or, where that fails, those of each table; where that fails,
    /// too, without their expressions, and these one by one: an expression fails
    /// with the functions that it calls.
    async fn column_rows(&mut self, wanted: &[(u32, String)]) -> Result<Vec<Row>, ReadError> {
        const EXPRESSION: &str = "pg_catalog.pg_get_expr(d.adbin, d.adrelid)";
        let version = self.version;
        let mut all = match self.rows(&columns_sql(version, EXPRESSION, "")).await? {
            Ok(rows) => return Ok(rows),
            Err(_) => Vec::new(),
        };
        for (oid, table) in wanted {
            let filter = format!(" AND x.attrelid = {oid}");
            if let Ok(rows) = self.rows(&columns_sql(version, EXPRESSION, &filter)).await? {
                all.extend(rows);
                continue;
            }
            let mut rows = match self.rows(&columns_sql(version, "NULL", &filter)).await? {
                Ok(rows) => rows,
                Err(error) => {
                    self.lose("COLUMNS", table.clone(), error.words());
                    if error.is_hung() {
                        return Ok(all);
                    }
                    continue;
                }
            };
            for row in rows.iter_mut().filter(|row| row.number(8) > 0) {
                let sql = format!(
                    "SELECT {EXPRESSION} FROM pg_catalog.pg_attrdef d WHERE d.oid = {}",
                    row.number(8)
                );
                match self.rows(&sql).await? {
                    Ok(expression) => row.set(7, expression.first().and_then(|e| e.some(0))),
                    Err(error) => {
                        let kind =
                            if row.text(5).is_empty() { "DEFAULT" } else { "GENERATED COLUMN" };
                        self.lose(kind, format!("{table}.{}", row.text(1)), error.words());
                    }
                }
            }
            all.extend(rows);
        }
        Ok(all)
    }

    /// The CHECK constraints, and whether they are local.
    async fn checks(&mut self) -> Result<HashMap<u32, Vec<(String, bool)>>, ReadError> {
        let of = |filter: &str| {
            format!(
                "SELECT x.conrelid, x.conname, x.conislocal, x.oid, \
                 pg_catalog.pg_get_constraintdef(x.oid) FROM pg_catalog.pg_constraint x \
                 WHERE x.contype = 'c' AND x.conrelid::pg_catalog.int8 >= {FIRST_NORMAL_OID}{filter} \
                 ORDER BY x.conrelid, x.conname"
            )
        };
        let list = "SELECT x.oid, x.conname FROM pg_catalog.pg_constraint x WHERE x.contype = 'c' \
            AND x.conrelid <> 0";
        let mut checks: HashMap<u32, Vec<(String, bool)>> = HashMap::new();
        for row in self.objects("CHECK CONSTRAINT", of, list, Some("x.conrelid")).await? {
            let words = format!("CONSTRAINT {} {}", ident(row.text(1)), row.text(4));
            checks.entry(row.oid()).or_default().push((words, row.is(2)));
            self.parts.insert((catalog::CONSTRAINT, row.number(3)), (catalog::CLASS, row.oid()));
        }
        Ok(checks)
    }

    fn table(&mut self, row: &Row, columns: &[Column], checks: &[(String, bool)]) {
        let oid = row.oid();
        let name = Name::new(row.text(1), row.text(2));
        let is_partition = row.is(6);
        let parents = row.some(13).filter(|_| !is_partition);
        // A partition has all of its own: it is attached when it is made.
        let is_own = |local: bool| local || parents.is_none();
        let mut lines: Vec<String> = columns
            .iter()
            .filter(|column| is_own(column.is_local))
            .map(|column| {
                let not_null = if column.not_null { " NOT NULL" } else { "" };
                format!("    {} {}{not_null}", ident(&column.name), column.words)
            })
            .collect();
        if columns.is_empty() {
            lines = self.bare_columns(oid);
        }
        let own = checks.iter().filter(|(words, local)| is_own(*local) && !not_valid(words));
        lines.extend(own.map(|(words, _)| format!("    {words}")));
        let unlogged = if row.text(5) == "u" { "UNLOGGED " } else { "" };
        let body =
            if lines.is_empty() { String::new() } else { format!("\n{}\n", lines.join(",\n")) };
        let mut defn = format!("CREATE {unlogged}TABLE {} ({body})", name.qualified);
        if let Some(parents) = parents {
            defn += &format!("\nINHERITS ({parents})");
        }
        if let Some(key) = row.some(7) {
            defn += &format!("\nPARTITION BY {key}");
        }
        defn += &options(row.text(9));
        defn += ";\n";
        for column in columns.iter().filter(|c| !is_own(c.is_local) && c.not_null) {
            let column = ident(&column.name);
            defn += &format!(
                "ALTER TABLE ONLY {} ALTER COLUMN {column} SET NOT NULL;\n",
                name.qualified
            );
        }
        for (words, _) in checks.iter().filter(|(words, local)| is_own(*local) && not_valid(words))
        {
            defn += &format!("ALTER TABLE {} ADD {words};\n", name.qualified);
        }
        let owner = row.text(3).to_owned();
        let at = (5, "TABLE", Section::PreData);
        let item = self.add(at, (catalog::CLASS, oid), &name, &owner, defn);
        item.entry.drop_stmt = Some(format!("DROP TABLE {};\n", name.qualified).into());
        item.entry.tablespace = Some(row.text(10).into());
        item.entry.table_am = row.some(11).map(Into::into);
        item.entry.relkind = row.text(4).bytes().next().map_or(0, i32::from);
        self.parts.insert((catalog::TYPE, row.number(12)), (catalog::CLASS, oid));
        self.defaults(oid, &name, &owner, columns);
        if is_partition && let (Some(parent), Some(bound)) = (row.some(13), row.some(8)) {
            self.attach(oid, &name, &owner, (parent, bound));
        }
    }

    /// A default may need a function or a sequence that needs the table.
    fn defaults(&mut self, oid: u32, name: &Name, owner: &str, columns: &[Column]) {
        for column in columns {
            let Some(default) = &column.default else { continue };
            let tag = Name {
                name: format!("{} {}", name.name, column.name),
                ..Name::new(&name.schema, "")
            };
            let defn = format!(
                "ALTER TABLE ONLY {} ALTER COLUMN {} SET DEFAULT {default};\n",
                name.qualified,
                ident(&column.name)
            );
            let at = (8, "DEFAULT", Section::PreData);
            let object = (catalog::ATTRDEF, column.default_oid);
            self.add(at, object, &tag, owner, defn).needs.push((catalog::CLASS, oid));
        }
        let inline = columns.iter().filter(|c| c.default.is_none() && c.default_oid > 0);
        let inline: Vec<u32> = inline.map(|column| column.default_oid).collect();
        for default in inline {
            self.parts.insert((catalog::ATTRDEF, default), (catalog::CLASS, oid));
        }
    }

    fn attach(&mut self, oid: u32, name: &Name, owner: &str, (parent, bound): (&str, &str)) {
        let defn =
            format!("ALTER TABLE ONLY {parent} ATTACH PARTITION {} {bound};\n", name.qualified);
        let parents: Vec<(u32, u32)> = self
            .depends
            .iter()
            .filter(|d| d.object == (catalog::CLASS, oid) && d.on.0 == catalog::CLASS)
            .map(|d| d.on)
            .collect();
        let item = self.add((7, "TABLE ATTACH", Section::PreData), (0, 0), name, owner, defn);
        item.needs = parents;
        item.needs.push((catalog::CLASS, oid));
    }

    /// A table of which only the columns are known.
    fn bare_table(&mut self, oid: u32) {
        let Some(relation) = self.relations.get(&oid) else { return };
        let name = Name::new(&relation.schema.to_string(), &relation.name.to_string());
        let unlogged = if relation.unlogged { "UNLOGGED " } else { "" };
        let columns = self.bare_columns(oid).join(",\n");
        let defn = format!("CREATE {unlogged}TABLE {} (\n{columns}\n);\n", name.qualified);
        let at = (5, "TABLE", Section::PreData);
        let item = self.add(at, (catalog::CLASS, oid), &name, "", defn);
        item.entry.drop_stmt = Some(format!("DROP TABLE {};\n", name.qualified).into());
    }

    /// The columns as the inventory knows them: those that there are rows for.
    fn bare_columns(&self, oid: u32) -> Vec<String> {
        let columns = self.relations.get(&oid).map_or(&[][..], |r| r.columns.as_slice());
        let column = |c: &crate::server::inventory::Column| {
            format!("    {} {}", ident(&c.name.to_string()), c.type_name)
        };
        columns.iter().map(column).collect()
    }
}

/// What is known of the columns of tables, with `expression` for how they are
/// filled.
fn columns_sql(version: u32, expression: &str, filter: &str) -> String {
    let generated = if version >= 120_000 { "x.attgenerated" } else { "''" };
    format!(
        "SELECT x.attrelid, x.attname, pg_catalog.format_type(x.atttypid, x.atttypmod), \
         x.attnotnull, x.attislocal, {generated}, \
         (SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.collname) \
         FROM pg_catalog.pg_collation c, pg_catalog.pg_namespace n, pg_catalog.pg_type t \
         WHERE t.oid = x.atttypid AND c.oid = x.attcollation AND n.oid = c.collnamespace \
         AND x.attcollation <> t.typcollation), \
         {expression}, d.oid \
         FROM pg_catalog.pg_attribute x LEFT JOIN pg_catalog.pg_attrdef d \
         ON d.adrelid = x.attrelid AND d.adnum = x.attnum \
         WHERE x.attnum > 0 AND NOT x.attisdropped \
         AND x.attrelid::pg_catalog.int8 >= {FIRST_NORMAL_OID}{filter} ORDER BY x.attrelid, x.attnum"
    )
}

fn column(row: &Row) -> Column {
    let mut words = row.text(2).to_owned();
    if let Some(collation) = row.some(6) {
        words += &format!(" COLLATE {collation}");
    }
    let expression = row.some(7).map(str::to_owned);
    let how = match row.text(5) {
        "s" => Some("STORED"),
        "v" => Some("VIRTUAL"),
        _ => None,
    };
    if let (Some(how), Some(expression)) = (how, &expression) {
        words += &format!(" GENERATED ALWAYS AS ({expression}) {how}");
    }
    Column {
        name: row.text(1).to_owned(),
        words,
        not_null: row.is(3),
        is_local: row.is(4),
        default: expression.filter(|_| how.is_none()),
        default_oid: row.number(8),
    }
}

fn not_valid(words: &str) -> bool {
    words.ends_with(" NOT VALID")
}

/// `WITH (...)` of a relation's options, which are `name=value`.
pub(super) fn options(list: &str) -> String {
    let option = |option: &str| match option.split_once('=') {
        Some((name, value)) => format!("{}={}", ident(name), literal(value)),
        None => ident(option),
    };
    match list {
        "" => String::new(),
        list => {
            let options: Vec<String> = list.split(',').map(option).collect();
            format!("\nWITH ({})", options.join(", "))
        }
    }
}
