//! `data/<stem>.lost-keys.sql`: statements that fetch the lost rows from a
//! restored copy of the database.
//!
//! Values are untyped literals, which the server takes for the type of the
//! column beside them: whatever the type is called, and wherever it is. No name
//! and no value stands in a comment.

use crate::output::lost_keys::{LostKey, Value};
use crate::server::sql::ident;

/// A statement of some tens of kilobytes is planned at once.
const ROWS_PER_STATEMENT: usize = 500;
const BYTES_PER_STATEMENT: usize = 64 * 1024;

/// What is fetched, and by what rows are told apart.
pub(super) struct Fetch<'a> {
    /// `"schema"."name"`.
    pub qualified: &'a str,
    /// Quoted; as in the data files.
    pub columns: &'a [String],
    /// Names of the columns of the file of keys.
    pub keys: Vec<String>,
    /// Lists of places in it, the best first: the primary key, unique indexes,
    /// and at last all.
    pub identities: Vec<Vec<usize>>,
    pub encoding: &'a str,
}

/// The whole file, and how many rows it does not fetch.
pub(super) fn script(fetch: &Fetch<'_>, keys: &[LostKey]) -> (Vec<u8>, u64) {
    let mut out = format!(
        "-- Fetches lost rows from a restored copy, as COPY would write them; use it with\n\
         --   psql -qXd COPY -f THIS_FILE > ROWS\n\
         SET client_encoding TO '{}';\n\
         SET standard_conforming_strings TO on;\n\
         SET DateStyle TO 'ISO, MDY';\n\
         SET IntervalStyle TO 'postgres';\n\
         SET TimeZone TO 'UTC';\n\
         SET extra_float_digits TO 3;\n\
         SET bytea_output TO 'hex';\n",
        fetch.encoding
    )
    .into_bytes();
    let mut unnamed = 0;
    for (certain, title) in [
        (true, "-- Rows that were there for certain.\n"),
        (false, "-- Rows that may have been deleted, or never committed, before they were lost.\n"),
    ] {
        let mut conditions: Vec<Vec<Vec<u8>>> = vec![Vec::new(); fetch.identities.len()];
        for key in keys.iter().filter(|k| k.certain == certain) {
            let all = fetch.identities.iter().enumerate();
            let named = all.filter_map(|(i, identity)| Some((i, fetch.condition(identity, key)?)));
            match named.into_iter().next() {
                Some((i, condition)) => conditions[i].push(condition),
                None => unnamed += 1,
            }
        }
        if conditions.iter().any(|c| !c.is_empty()) {
            out.extend_from_slice(title.as_bytes());
        }
        for (identity, conditions) in fetch.identities.iter().zip(conditions) {
            fetch.statements(identity, &conditions, &mut out);
        }
    }
    (out, unnamed)
}

impl Fetch<'_> {
    fn is_last(&self, identity: &[usize]) -> bool {
        self.identities.last().is_some_and(|last| last == identity)
    }

    /// What tells this row from others; none if too little is known of it. Only
    /// where there is no better identity may something be NULL.
    fn condition(&self, identity: &[usize], key: &LostKey) -> Option<Vec<u8>> {
        let last = self.is_last(identity);
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for &slot in identity {
            match key.values.get(slot)? {
                Value::Text(text) if last => parts
                    .push([ident(&self.keys[slot]).as_bytes(), b" = ", &literal(text)].concat()),
                Value::Text(text) => parts.push(literal(text)),
                Value::Null if last => {
                    parts.push(format!("{} IS NULL", ident(&self.keys[slot])).into_bytes());
                }
                // Fewer columns fetch more than the row, but not less.
                _ if last => {}
                _ => return None,
            }
        }
        if parts.is_empty() {
            return None;
        }
        let glue: &[u8] = if last { b" AND " } else { b", " };
        let list = parts.join(glue);
        let bare = identity.len() == 1 && !last;
        Some(if bare { list } else { [b"(", list.as_slice(), b")"].concat() })
    }

    fn statements(&self, identity: &[usize], conditions: &[Vec<u8>], out: &mut Vec<u8>) {
        let mut rest = conditions;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |condition: &&Vec<u8>| {
                bytes += condition.len();
                bytes <= BYTES_PER_STATEMENT
            };
            let count = rest.iter().take(ROWS_PER_STATEMENT).take_while(fits).count().max(1);
            let (some, later) = rest.split_at(count);
            rest = later;
            let begin = format!(
                "COPY (SELECT {} FROM ONLY {} WHERE ",
                self.columns.join(", "),
                self.qualified
            );
            out.extend_from_slice(begin.as_bytes());
            if self.is_last(identity) {
                out.extend(some.join(&b" OR "[..]));
            } else {
                let names: Vec<String> = identity.iter().map(|&s| ident(&self.keys[s])).collect();
                let names = names.join(", ");
                let names = if identity.len() == 1 { names } else { format!("({names})") };
                out.extend_from_slice(format!("{names} IN (").as_bytes());
                out.extend(some.join(&b", "[..]));
                out.push(b')');
            }
            out.extend_from_slice(b") TO STDOUT;\n");
        }
    }
}

/// As `server::sql::literal`, of bytes in whatever encoding.
fn literal(text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for &byte in text {
        if byte == b'\'' {
            out.push(b'\'');
        }
        out.push(byte);
    }
    out.push(b'\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    fn key(certain: bool, values: &[Value]) -> LostKey {
        LostKey { at: Some((1, 1)), certain, values: values.to_vec() }
    }

    #[test]
    fn each_row_is_named_by_the_best_that_is_known_of_it() {
        let columns = ["\"id\"".to_owned(), "\"a\"\"b\"".to_owned()];
        let fetch = Fetch {
            qualified: "\"s\".\"t\"",
            columns: &columns,
            keys: ["id", "a\"b", "c"].map(str::to_owned).to_vec(),
            identities: vec![vec![0], vec![1, 2], vec![0, 1, 2]],
            encoding: "UTF8",
        };
        let keys = [
            key(true, &[text("1"), text("x"), Value::Null]),
            key(false, &[text("o'2"), Value::Unknown, Value::Null]),
            key(true, &[Value::Unknown, text("y\\"), text("z")]),
            key(true, &[Value::Unknown, text("y"), Value::Null]),
            key(true, &[Value::Unknown, Value::Raw(vec![1]), Value::Unknown]),
        ];
        let (script, unnamed) = script(&fetch, &keys);
        let script = String::from_utf8(script).unwrap();
        let (_, statements) = script.split_once("'hex';\n").unwrap();
        let select = "COPY (SELECT \"id\", \"a\"\"b\" FROM ONLY \"s\".\"t\" WHERE ";
        assert_eq!(
            statements,
            format!(
                "-- Rows that were there for certain.\n\
                 {select}\"id\" IN ('1')) TO STDOUT;\n\
                 {select}(\"a\"\"b\", \"c\") IN (('y\\', 'z'))) TO STDOUT;\n\
                 {select}(\"a\"\"b\" = 'y' AND \"c\" IS NULL)) TO STDOUT;\n\
                 -- Rows that may have been deleted, or never committed, before they were lost.\n\
                 {select}\"id\" IN ('o''2')) TO STDOUT;\n"
            )
        );
        assert_eq!(unnamed, 1);
    }
}
