//! Rows by their primary keys, for two databases to be compared range by range:
//! the statements, and the sessions that send them.
//!
//! Nothing here relies on how a server orders keys but that server: ranges are
//! made, counted and read by its own operators. None of the statements writes.

use super::connect::Target;
use super::copy_text;
use super::session::{OpenError, ReadError, Session, Timeouts};
use super::sql::{ident, literal};
use std::collections::HashMap;

/// Ranges of keys are read by the index of the primary key.
const BY_INDEX: &str = "SET enable_indexscan TO on; SET enable_indexonlyscan TO on";

/// So many keys are in a statement.
const KEYS_PER_QUESTION: usize = 500;

/// A range of many dead rows is silent for long, and nothing is salvaged here.
const TIMEOUTS: Timeouts = Timeouts { statement_ms: 0, lock_ms: 10_000, read_ms: 3_600_000 };

/// A table, as far as its rows are compared.
#[derive(Clone, Debug)]
pub struct Keyed {
    qualified: String,
    /// Names and types of all columns, in order.
    columns: Vec<(String, String)>,
    /// `COLLATE` of each column, where it is not the database's.
    collations: Vec<String>,
    /// Which of them are its primary key, in order.
    key: Vec<usize>,
}

/// A key, as the texts of its columns.
pub type Key = Vec<String>;

/// Rows whose keys are greater than the one, and not greater than the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    pub after: Option<Key>,
    pub to: Option<Key>,
}

/// What the rows of a range are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    pub rows: u64,
    /// The sums of the two halves of the MD5 of each row's text.
    sums: [String; 2],
}

/// The MD5 of each row of some, by its key.
pub type RowsByKey = HashMap<Key, String>;

/// What kept something from being compared.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What the server says is not what was asked for.
    #[error("{0}")]
    Unexpected(&'static str),
}

impl Digest {
    /// Whether as many rows, and the same.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.rows, &self.sums) == (other.rows, &other.sums)
    }
}

impl Keyed {
    /// As the server has it. None: there is no such table.
    pub async fn of(session: &Session, schema: &str, name: &str) -> Result<Option<Self>, KeyError> {
        let rows = session.rows(&describe(schema, name)).await?;
        let (mut columns, mut collations, mut key) = (Vec::new(), Vec::new(), Vec::new());
        for (index, row) in rows.iter().enumerate() {
            let [Some(column), Some(type_name), collation, position] = row.as_slice() else {
                return Err(KeyError::Unexpected("its columns are not described"));
            };
            columns.push((column.clone(), type_name.clone()));
            collations.push(collation.clone().unwrap_or_default());
            let position = position.as_ref().and_then(|p| p.parse::<usize>().ok());
            key.extend(position.map(|position| (position, index)));
        }
        key.sort_unstable();
        let key: Vec<usize> = key.into_iter().map(|(_, index)| index).collect();
        let qualified = format!("{}.{}", ident(schema), ident(name));
        Ok((!columns.is_empty()).then_some(Self { qualified, columns, collations, key }))
    }

    /// Whether rows of the one can be compared with rows of the other. In which
    /// order each has its keys does not matter for that.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.columns, &self.key) == (&other.columns, &other.key)
    }

    pub fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    pub fn key_names(&self) -> Vec<String> {
        self.key.iter().map(|&i| self.columns[i].0.clone()).collect()
    }

    fn key_list(&self) -> Vec<String> {
        self.key.iter().map(|&i| format!("t.{}", ident(&self.columns[i].0))).collect()
    }

    fn values(&self, key: &Key) -> String {
        let value = |(text, &i): (&String, &usize)| {
            format!("{}::{}{}", literal(text), self.columns[i].1, self.collations[i])
        };
        key.iter().zip(&self.key).map(value).collect::<Vec<_>>().join(", ")
    }

    fn condition(&self, range: &KeyRange) -> String {
        let list = self.key_list().join(", ");
        let bound = |key: &Option<Key>, sign| {
            key.as_ref().map(|key| format!("({list}) {sign} ({})", self.values(key)))
        };
        let bounds: Vec<String> =
            bound(&range.after, ">").into_iter().chain(bound(&range.to, "<=")).collect();
        if bounds.is_empty() { String::new() } else { format!(" WHERE {}", bounds.join(" AND ")) }
    }

    /// Whether each of these keys is before the next.
    fn order_sql(&self, keys: &[&Key]) -> String {
        let pair =
            |pair: &[&Key]| format!("({}) < ({})", self.values(pair[0]), self.values(pair[1]));
        let pairs: Vec<String> = keys.windows(2).map(pair).collect();
        format!("SELECT {}", pairs.join(" AND "))
    }

    fn digest_sql(&self, range: &KeyRange) -> String {
        let half = |from: u32| {
            format!(
                "COALESCE(pg_catalog.sum(('x' || pg_catalog.substr(m.h, {from}, 16))\
                 ::pg_catalog.bit(64)::pg_catalog.int8), 0)"
            )
        };
        format!(
            "SELECT pg_catalog.count(*), {}, {} FROM (SELECT \
             pg_catalog.md5((t.*)::pg_catalog.text) AS h FROM ONLY {} t{} OFFSET 0) m",
            half(1),
            half(17),
            self.qualified,
            self.condition(range)
        )
    }

    /// Every so many keys of a range, but for its end.
    fn split_sql(&self, range: &KeyRange, every: u64) -> String {
        let list = self.key_list();
        let named: Vec<String> =
            list.iter().enumerate().map(|(i, column)| format!("{column} AS k{i}")).collect();
        let names: Vec<String> = (0..list.len()).map(|i| format!("s.k{i}")).collect();
        to_utf8(&format!(
            "SELECT {} FROM (SELECT {}, pg_catalog.row_number() OVER (ORDER BY {}) AS n \
             FROM ONLY {} t{}) s WHERE s.n % {every} = 0",
            names.join(", "),
            named.join(", "),
            list.join(", "),
            self.qualified,
            self.condition(range)
        ))
    }

    fn rows_sql(&self, condition: &str) -> String {
        let list = self.key_list().join(", ");
        to_utf8(&format!(
            "SELECT {list}, pg_catalog.md5((t.*)::pg_catalog.text) FROM ONLY {} t{condition}",
            self.qualified
        ))
    }

    pub async fn digest(&self, session: &Session, range: &KeyRange) -> Result<Digest, KeyError> {
        let row = session.row(&self.digest_sql(range)).await?;
        let [Some(rows), Some(one), Some(two)] = row.as_slice() else {
            return Err(KeyError::Unexpected("a range of it was not counted"));
        };
        let rows = rows.parse().map_err(|_| KeyError::Unexpected("a range was not counted"))?;
        Ok(Digest { rows, sums: [one.clone(), two.clone()] })
    }

    /// Keys at which a range can be cut into ranges of so many rows.
    pub async fn split(
        &self,
        session: &Session,
        range: &KeyRange,
        every: u64,
    ) -> Result<Vec<Key>, KeyError> {
        let mut keys = Vec::new();
        each_row(session, &self.split_sql(range, every.max(1)), |key| keys.push(key)).await?;
        keys.retain(|key| Some(key) != range.to.as_ref());
        Ok(keys)
    }

    /// Whether keys are in this order for this server, too, from the beginning of
    /// the range to its end: then they cut its rows of the range into ranges.
    pub async fn is_in_order(
        &self,
        session: &Session,
        range: &KeyRange,
        keys: &[Key],
    ) -> Result<bool, KeyError> {
        let all: Vec<&Key> = range.after.iter().chain(keys).chain(&range.to).collect();
        let mut begin = 0;
        while begin + 1 < all.len() {
            let end = all.len().min(begin + KEYS_PER_QUESTION);
            if session.value(&self.order_sql(&all[begin..end])).await?.as_deref() != Some("t") {
                return Ok(false);
            }
            begin = end - 1;
        }
        Ok(true)
    }

    /// The rows of a range.
    pub async fn rows(&self, session: &Session, range: &KeyRange) -> Result<RowsByKey, KeyError> {
        self.rows_of(session, &self.condition(range)).await
    }

    /// The rows with these keys, as this server takes them to be equal: the key of
    /// what is found may be another text.
    pub async fn rows_with(&self, session: &Session, keys: &[Key]) -> Result<RowsByKey, KeyError> {
        let (list, mut rows) = (self.key_list().join(", "), HashMap::new());
        for keys in keys.chunks(KEYS_PER_QUESTION) {
            let keys: Vec<String> =
                keys.iter().map(|key| format!("({})", self.values(key))).collect();
            let condition = format!(" WHERE ({list}) IN ({})", keys.join(", "));
            rows.extend(self.rows_of(session, &condition).await?);
        }
        Ok(rows)
    }

    async fn rows_of(&self, session: &Session, condition: &str) -> Result<RowsByKey, KeyError> {
        let (mut rows, mut is_unique) = (HashMap::new(), true);
        each_row(session, &self.rows_sql(condition), |mut fields| {
            if let Some(hash) = fields.pop() {
                is_unique &= rows.insert(fields, hash).is_none();
            }
        })
        .await?;
        match is_unique {
            true => Ok(rows),
            false => Err(KeyError::Unexpected("a key of it is there twice")),
        }
    }
}

/// A session for these statements, in a read-only transaction of its own.
pub async fn open(target: &Target) -> Result<Session, OpenError> {
    let session = Session::open(target, TIMEOUTS, None).await?;
    session.execute(BY_INDEX).await?;
    session.save().await?;
    Ok(session)
}

/// Names, types, collations and the places in the primary key of the columns of a
/// table.
fn describe(schema: &str, name: &str) -> String {
    format!(
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), \
         (SELECT pg_catalog.format(' COLLATE %I.%I', s.nspname, l.collname) \
         FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace s ON s.oid = l.collnamespace \
         WHERE l.oid = a.attcollation AND l.collname <> 'default'), \
         pg_catalog.array_position(k.conkey, a.attnum) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
         LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p' \
         WHERE n.nspname = {} AND c.relname = {} AND c.relkind IN ('r', 'm') \
         AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        literal(schema),
        literal(name)
    )
}

fn to_utf8(select: &str) -> String {
    format!("COPY ({select}) TO STDOUT (ENCODING 'UTF8')")
}

async fn each_row(
    session: &Session,
    sql: &str,
    mut each: impl FnMut(Vec<String>),
) -> Result<(), KeyError> {
    let (mut copy, mut count) = (session.copy(sql).await?, 0);
    let mut strange = false;
    while let Some(bytes) = copy.next().await? {
        for row in copy_text::rows_in(&bytes) {
            count += 1;
            let text = |field: bstr::BString| String::from_utf8(field.into()).ok();
            match copy_text::fields(row).map(|field| text(field?)).collect::<Option<Vec<_>>>() {
                Some(fields) => each(fields),
                None => strange = true,
            }
        }
    }
    copy.check(count)?;
    match strange {
        true => Err(KeyError::Unexpected("a key of it is null, or not valid in its encoding")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Keyed {
        Keyed {
            qualified: "\"s\".\"t\"".to_owned(),
            columns: [("a", "integer"), ("b\"", "text"), ("c", "numeric(3,1)")]
                .map(|(name, of)| (name.to_owned(), of.to_owned()))
                .into(),
            collations: ["", " COLLATE pg_catalog.\"C\"", ""].map(str::to_owned).into(),
            key: vec![1, 0],
        }
    }

    #[test]
    fn a_range_is_told_by_whole_keys() {
        let key = |b: &str, a: &str| Some(vec![b.to_owned(), a.to_owned()]);
        let range = KeyRange { after: key("it's", "7"), to: key("z", "-1") };
        let condition = "(t.\"b\"\"\", t.\"a\") > ('it''s'::text COLLATE pg_catalog.\"C\", '7'::integer) AND \
                         (t.\"b\"\"\", t.\"a\") <= ('z'::text COLLATE pg_catalog.\"C\", '-1'::integer)";
        assert_eq!(table().condition(&range), format!(" WHERE {condition}"));
        assert_eq!(table().condition(&KeyRange::default()), "");
        assert!(table().split_sql(&range, 10).contains("s.n % 10 = 0"));
        let (one, two) = (range.after.unwrap(), range.to.unwrap());
        assert_eq!(
            table().order_sql(&[&one, &two, &one]),
            "SELECT ('it''s'::text COLLATE pg_catalog.\"C\", '7'::integer) < ('z'::text COLLATE pg_catalog.\"C\", '-1'::integer) AND \
             ('z'::text COLLATE pg_catalog.\"C\", '-1'::integer) < ('it''s'::text COLLATE pg_catalog.\"C\", '7'::integer)"
        );
    }
}
