//! The SQL that a restore sends, but for the statements of the dump. Pure.

use crate::server::sql::{AS_DUMPED, ident, literal};
use std::fmt::Write as _;

/// Settings of a session that loads, on every server, beside those that a dump
/// has, too.
const PINNED: &[(&str, &str)] = &[
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("check_function_bodies", "off"),
    ("client_min_messages", "warning"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
];

/// Settings that exist since a version.
const PINNED_SINCE: &[(u32, &str, &str)] =
    &[(170_000, "transaction_timeout", "0"), (140_000, "idle_session_timeout", "0")];

/// Where it may not be set, refused rows are found by halving alone.
pub const PINNED_IF_POSSIBLE: &[&str] = &["SET lc_messages TO 'C'"];

/// The settings of every session, in one go.
pub fn pin(version: u32) -> String {
    let since = PINNED_SINCE.iter().filter(|(v, _, _)| version >= *v).map(|(_, n, s)| (*n, *s));
    let mut sql = String::new();
    for (name, value) in PINNED.iter().chain(AS_DUMPED).copied().chain(since) {
        let _ = write!(sql, "SET {name} TO {}; ", literal(value));
    }
    sql
}

/// `"schema"."name"`.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// A list of columns in parentheses; nothing for none, which is all there are.
fn list(columns: &[String]) -> String {
    if columns.is_empty() {
        return String::new();
    }
    let quoted: Vec<String> = columns.iter().map(|c| ident(c)).collect();
    format!(" ({})", quoted.join(", "))
}

pub fn copy_in(table: &str, columns: &[String], encoding: &str) -> String {
    format!("COPY {table}{} FROM STDIN (ENCODING {})", list(columns), literal(encoding))
}

/// For rows that are too long as text.
pub fn copy_in_binary(table: &str, columns: &[String]) -> String {
    format!("COPY {table}{} FROM STDIN (FORMAT binary, ENCODING 'UTF8')", list(columns))
}

/// The rows of a relation alone, as a dump writes them, but for those at these
/// places.
pub fn copy_out(table: &str, columns: &[String], encoding: &str, but: &[String]) -> String {
    let quoted: Vec<String> = columns.iter().map(|c| ident(c)).collect();
    let list = quoted.join(", ");
    let filter = match but.is_empty() {
        true => String::new(),
        false => {
            let places: Vec<String> =
                but.iter().map(|p| format!("{}::pg_catalog.tid", literal(p))).collect();
            format!(" WHERE ctid <> ALL (ARRAY[{}])", places.join(", "))
        }
    };
    let encoding = literal(encoding);
    format!("COPY (SELECT {list} FROM ONLY {table}{filter}) TO STDOUT (ENCODING {encoding})")
}

/// The places of rows that have so many bytes or more, and the hashes of their
/// values; `sent` are these in binary form.
pub fn copy_hashes(table: &str, sent: &[String], bytes_min: u64) -> String {
    let hash = |value: &String| format!(", pg_catalog.encode(pg_catalog.sha256({value}), 'hex')");
    let length = |value: &String| format!(" + COALESCE(pg_catalog.octet_length({value}), 0)");
    let hashes: String = sent.iter().map(hash).collect();
    let lengths: String = sent.iter().map(length).collect();
    format!(
        "COPY (SELECT ctid{hashes} FROM ONLY {table} WHERE 0::pg_catalog.int8{lengths} >= {bytes_min}) \
         TO STDOUT"
    )
}

/// The pages of all large objects; of one that has none a row all the same.
pub const COPY_PAGES: &str = "COPY (SELECT m.oid, p.pageno, p.data \
    FROM pg_catalog.pg_largeobject_metadata m \
    LEFT JOIN pg_catalog.pg_largeobject p ON p.loid = m.oid) TO STDOUT";

/// The same by functions, for those who may not read the catalog. In it 262144 is
/// `INV_READ`, and 2 `SEEK_END`.
pub fn copy_pages_by_functions(page_bytes: u32) -> String {
    format!(
        "COPY (SELECT l.oid, p.n, pg_catalog.lo_get(l.oid, p.n * {page_bytes}, {page_bytes}) FROM \
         (SELECT o.oid, pg_catalog.lo_lseek64(o.fd, 0, 2) AS length, pg_catalog.lo_close(o.fd) FROM \
         (SELECT m.oid, pg_catalog.lo_open(m.oid, 262144) AS fd \
         FROM pg_catalog.pg_largeobject_metadata m OFFSET 0) o OFFSET 0) l, \
         pg_catalog.generate_series(0, GREATEST(l.length - 1, 0) / {page_bytes}) p (n)) TO STDOUT"
    )
}

/// Statements as hexadecimal digits, run by the server in its own encoding.
pub fn execute_hex(sql: &[u8], encoding: &str) -> String {
    let hex: String = sql.iter().map(|b| format!("{b:02x}")).collect();
    format!(
        "DO $run$ BEGIN EXECUTE pg_catalog.convert_from(pg_catalog.decode('{hex}', 'hex'), {}); \
         END $run$",
        literal(encoding)
    )
}

pub fn transaction_status(xid: &str) -> String {
    format!("SELECT pg_catalog.txid_status({}::bigint)", literal(xid))
}

pub fn setval(sequence: &str, value: i64, is_called: bool) -> String {
    format!("SELECT pg_catalog.setval({}, {value}, {is_called})", literal(sequence))
}

/// The table that takes rows in first, where some may be there already.
pub const NEW: &str = "pg_temp.pg_salvage_new";
/// Its name alone, as the server says it.
pub const NEW_NAME: &str = "pg_salvage_new";

/// A column of that table for what rows have before their columns: OIDs.
pub const NEW_OID: &str = "pg_salvage_oid";

pub fn create_new(table: &str, columns: &[String], with_oids: bool) -> String {
    let oid = with_oids.then(|| format!("NULL::pg_catalog.oid AS {NEW_OID}"));
    let quoted: Vec<String> = oid.into_iter().chain(columns.iter().map(|c| ident(c))).collect();
    // By its columns alone: no constraint, default or identity comes with them.
    format!(
        "CREATE TEMPORARY TABLE {NEW_NAME} ON COMMIT DROP AS SELECT {} FROM {table} WITH NO DATA",
        quoted.join(", ")
    )
}

/// Whether a row that is there already is known by a key, or there is none.
pub fn has_key_or_no_rows(table: &str) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indisunique AND i.indisvalid \
         AND i.indpred IS NULL AND i.indrelid = {}::pg_catalog.regclass) \
         OR NOT EXISTS (SELECT FROM ONLY {table})",
        literal(table)
    )
}

/// Takes all over, or with `skip` what is new.
pub fn insert_new(table: &str, columns: &[String], skip: bool) -> String {
    let quoted: Vec<String> = columns.iter().map(|c| ident(c)).collect();
    let skip = if skip { " ON CONFLICT DO NOTHING" } else { "" };
    format!(
        "INSERT INTO {table}{} OVERRIDING SYSTEM VALUE SELECT {} FROM {NEW}{skip}",
        list(columns),
        quoted.join(", ")
    )
}

/// What stands in the way of a unique index that is being made: its key, as the
/// server understands it.
#[derive(Clone, Debug)]
pub struct Key {
    /// Each is a column or an expression.
    pub columns: Vec<String>,
    /// Of a partial index.
    pub condition: Option<String>,
    /// Whether NULL is equal to NULL.
    pub nulls_are_equal: bool,
}

/// The table of duplicates that were found.
const DUPLICATES: &str = "pg_temp.pg_salvage_duplicates";

/// The places of all rows but the first, in heap order, of those that are equal
/// in a key.
pub fn find_duplicates(table: &str, key: &Key) -> String {
    let keys = key.columns.join(", ");
    let mut conditions: Vec<String> = key.condition.iter().map(|c| format!("({c})")).collect();
    if !key.nulls_are_equal {
        conditions.extend(key.columns.iter().map(|c| format!("({c}) IS NOT NULL")));
    }
    let filter = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    format!(
        "DROP TABLE IF EXISTS {DUPLICATES}; \
         CREATE TEMPORARY TABLE pg_salvage_duplicates AS SELECT at, kept, key FROM ( \
         SELECT ctid AS at, pg_catalog.first_value(ctid) OVER same AS kept, \
         pg_catalog.row_number() OVER same AS n, pg_catalog.concat_ws(', ', {keys}) AS key \
         FROM ONLY {table}{filter} WINDOW same AS (PARTITION BY {keys} ORDER BY ctid)) d WHERE n > 1"
    )
}

/// The places and keys of the duplicates, each before its row.
pub fn copy_duplicates(table: &str, columns: &[String], encoding: &str) -> String {
    let columns: String = columns.iter().map(|c| format!(", t.{}", ident(c))).collect();
    format!(
        "COPY (SELECT d.at, d.kept, d.key{columns} FROM ONLY {table} t JOIN {DUPLICATES} d \
         ON t.ctid = d.at ORDER BY d.at) TO STDOUT (ENCODING {})",
        literal(encoding)
    )
}

pub fn delete_duplicates(table: &str) -> String {
    format!("DELETE FROM ONLY {table} t USING {DUPLICATES} d WHERE t.ctid = d.at")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_nothing_ends_a_string_early() {
        let table = qualified("a\"b", "x");
        assert_eq!(
            copy_in(&table, &["Ü, \"q\"".to_owned()], "UTF8"),
            r#"COPY "a""b"."x" ("Ü, ""q""") FROM STDIN (ENCODING 'UTF8')"#
        );
        assert_eq!(copy_in(&table, &[], "UTF8"), r#"COPY "a""b"."x" FROM STDIN (ENCODING 'UTF8')"#);
        assert!(execute_hex(b"SELECT '$run$'", "LATIN1").contains("53454c4543542027"));
        assert_eq!(
            setval("\"s\".\"it's\"", 7, true),
            r#"SELECT pg_catalog.setval('"s"."it''s"', 7, true)"#
        );
    }
}
