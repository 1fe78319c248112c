//! Which rows of two databases are different, by their primary keys.
//!
//! The keys of a table are cut into ranges, each server counts the rows of each and
//! adds up their hashes, and only the rows of ranges that differ are fetched: their
//! keys, and a hash of each. So what is kept in memory is a key for each range, and
//! the keys of one range.
//!
//! Two servers may order the same keys in different ways. So what one of them does
//! not have in a range it is asked for by its key before it is called missing, and
//! where its order makes no ranges of those of the other, the table is not compared.

mod told;

use crate::output::OutputError;
use crate::output::keys_dir::{KeysDir, KeysFile};
use crate::report::diff::{Diff, Difference, What};
use crate::server::connect::Target;
use crate::server::keys::{self, Digest, Key, KeyError, KeyRange, Keyed, RowsByKey};
use crate::server::pattern::Pattern;
use crate::server::session::{OpenError, Session};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
pub use told::text;

/// A range with more rows than so many times those asked for is cut again.
const LONGER_MAX: u64 = 4;

/// So many keys of a relation are listed.
const LISTED_MAX: usize = 1000;

const EXIT_INCOMPLETE: u8 = 3;

/// What is asked.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// Where A is.
    pub source: Target,
    /// Where B is.
    pub target: Target,
    /// Only these relations; empty: all that differ.
    pub tables: Vec<Pattern>,
    /// Rows in a range.
    pub range_rows: u64,
    /// A folder for all keys that are found.
    pub keys_to: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// The rows of a relation that are different.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowsOf {
    pub database: String,
    pub schema: String,
    pub name: String,
    /// Its primary key.
    pub key: Vec<String>,
    /// Ranges of keys that were compared, and those whose rows were fetched.
    pub ranges: u64,
    pub ranges_fetched: u64,
    pub only_in_a: u64,
    pub only_in_b: u64,
    pub different: u64,
    /// The first of them.
    pub listed: Vec<RowFound>,
    /// Where all of them are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Why not all of it was compared.
    pub not_compared: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowFound {
    pub what: RowIs,
    /// The texts of the columns of its key.
    pub key: Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowIs {
    OnlyInA,
    OnlyInB,
    Different,
}

/// What is found of a relation, and the file that has all of it.
struct Found<'a> {
    of: &'a mut RowsOf,
    file: Option<&'a mut KeysFile>,
}

/// Both sessions, each in a read-only transaction with a snapshot of its own.
struct Both {
    a: Session,
    b: Session,
}

/// A table as one of them has it.
struct There<'a> {
    side: &'static str,
    session: &'a Session,
    table: Keyed,
}

/// A table as both have it.
struct Pair<'a> {
    a: There<'a>,
    b: There<'a>,
}

/// Finds the rows of relations that differ. Each relation that cannot be compared
/// is said, and ends nothing else.
pub async fn compare(diff: &Diff, options: &CompareOptions) -> Result<Vec<RowsOf>, CompareError> {
    let asked = diff.relations.iter().filter(|d| is_asked(d, &options.tables));
    let asked: Vec<(u32, &Difference)> = (1..).zip(asked).collect();
    let (a, b) = tokio::join!(keys::open(&options.source), keys::open(&options.target));
    let both = Both { a: a?, b: b? };
    let tables = asked.iter().map(|(n, d)| (*n, d.schema.as_str(), d.name.as_str()));
    let keys = options.keys_to.as_deref().map(|path| KeysDir::create(path, tables)).transpose()?;
    let mut all = Vec::new();
    for (number, difference) in asked {
        let mut file = keys.as_ref().map(|keys| keys.file(number));
        let mut found = RowsOf {
            database: difference.database.clone(),
            schema: difference.schema.clone(),
            name: difference.name.clone(),
            ..RowsOf::default()
        };
        let mut rows = Found { of: &mut found, file: file.as_mut() };
        let compared = both.relation(&mut rows, options.range_rows.max(1)).await;
        // What is not complete keeps the name of a part.
        let compared = compared.and_then(|()| match file {
            Some(file) => file.finish().map_err(|error| error.to_string()),
            None => Ok(None),
        });
        match compared {
            Ok(file) => found.file = file,
            Err(why) => {
                found.not_compared = Some(why);
                // Whatever became of a session, the next relation will tell.
                let _ = tokio::join!(both.a.leave_relation(), both.b.leave_relation());
            }
        }
        all.push(found);
    }
    Ok(all)
}

/// 3 where rows of a relation could not be compared; else that of the runs.
pub fn exit_code(diff: &Diff, all: &[RowsOf]) -> u8 {
    let is_whole = all.iter().all(|found| found.not_compared.is_none());
    if is_whole { diff.exit_code } else { EXIT_INCOMPLETE }
}

fn is_asked(difference: &Difference, tables: &[Pattern]) -> bool {
    let (schema, name) = (difference.schema.as_bytes(), difference.name.as_bytes());
    let is_named = tables.iter().any(|pattern| pattern.matches_relation(schema, name));
    match difference.what {
        What::Differs => is_named || tables.is_empty(),
        What::NotCompared => is_named,
        What::OnlyInA | What::OnlyInB => false,
    }
}

impl Both {
    /// `Err`: why not all of it was compared.
    async fn relation(&self, found: &mut Found<'_>, range_rows: u64) -> Result<(), String> {
        let pair = self.pair(found.of).await?;
        found.of.key = pair.a.table.key_names();
        let mut todo = pair.cut(&pair.a, &KeyRange::default(), range_rows).await?;
        // From the front on.
        todo.reverse();
        while let Some(range) = todo.pop() {
            found.of.ranges += 1;
            let (a, b) = tokio::join!(pair.a.digest(&range), pair.b.digest(&range));
            let (a, b) = (a?, b?);
            if a.is_same(&b) {
                continue;
            }
            if a.rows.max(b.rows) > range_rows.saturating_mul(LONGER_MAX) {
                let longer = if a.rows < b.rows { &pair.b } else { &pair.a };
                let parts = pair.cut(longer, &range, range_rows).await?;
                if parts.len() > 1 {
                    todo.extend(parts.into_iter().rev());
                    continue;
                }
            }
            found.of.ranges_fetched += 1;
            pair.range(&range, found).await?;
        }
        Ok(())
    }

    async fn pair(&self, found: &RowsOf) -> Result<Pair<'_>, String> {
        let (a, b) = (self.a.server(), self.b.server());
        if !found.database.is_empty() && a.database != found.database {
            return Err(format!("A is connected to another database, \"{}\"", a.database));
        }
        if a.encoding != b.encoding {
            return Err(format!("A is in encoding {}, and B in {}", a.encoding, b.encoding));
        }
        let (a, b) = tokio::join!(There::of("A", &self.a, found), There::of("B", &self.b, found));
        let (a, b) = (a?, b?);
        if !a.table.is_like(&b.table) {
            return Err("its columns, or its primary key, are others in B".to_owned());
        }
        if !a.table.has_key() {
            return Err("it has no primary key".to_owned());
        }
        Ok(Pair { a, b })
    }
}

impl Pair<'_> {
    /// A range cut into ranges of so many rows on one of the sides. Where the other
    /// orders keys in another way, rows could be in none of them there, or in two.
    async fn cut(
        &self,
        by: &There<'_>,
        range: &KeyRange,
        rows: u64,
    ) -> Result<Vec<KeyRange>, String> {
        let keys = by.said(by.table.split(by.session, range, rows).await)?;
        let (a, b) =
            tokio::join!(self.a.is_in_order(range, &keys), self.b.is_in_order(range, &keys));
        match a? && b? {
            true => Ok(ranges(range, keys)),
            false => Err("A and B order its keys in different ways".to_owned()),
        }
    }

    /// Compares the rows of a range one by one.
    async fn range(&self, range: &KeyRange, found: &mut Found<'_>) -> Result<(), String> {
        let (a, b) = tokio::join!(self.a.rows(range), self.b.rows(range));
        let (a, b) = (a?, b?);
        let (different, only_a, only_b) = compared(&a, &b);
        let mut rows: BTreeSet<(Key, RowIs)> =
            different.into_iter().map(|key| (key, RowIs::Different)).collect();
        rows.extend(self.b.look_for((&a, only_a), RowIs::OnlyInA).await?);
        rows.extend(self.a.look_for((&b, only_b), RowIs::OnlyInB).await?);
        for (key, what) in rows {
            found.add(what, key)?;
        }
        Ok(())
    }
}

impl<'a> There<'a> {
    async fn of(side: &'static str, session: &'a Session, of: &RowsOf) -> Result<Self, String> {
        let table = Keyed::of(session, &of.schema, &of.name).await;
        let table = table.map_err(|error| format!("{side}: {error}"))?;
        let table = table.ok_or_else(|| format!("{side} has no such table now"))?;
        Ok(Self { side, session, table })
    }

    fn said<T>(&self, result: Result<T, KeyError>) -> Result<T, String> {
        result.map_err(|error| format!("{}: {error}", self.side))
    }

    async fn digest(&self, range: &KeyRange) -> Result<Digest, String> {
        self.said(self.table.digest(self.session, range).await)
    }

    async fn rows(&self, range: &KeyRange) -> Result<RowsByKey, String> {
        self.said(self.table.rows(self.session, range).await)
    }

    async fn is_in_order(&self, range: &KeyRange, keys: &[Key]) -> Result<bool, String> {
        self.said(self.table.is_in_order(self.session, range, keys).await)
    }

    /// Of keys that only the other side has in a range, those that this one does
    /// not have at all, and those whose rows are others here. The latter are told
    /// once: where the rows of A are looked for.
    async fn look_for(
        &self,
        (rows, keys): (&RowsByKey, Vec<Key>),
        only: RowIs,
    ) -> Result<Vec<(Key, RowIs)>, String> {
        let mut found = Vec::new();
        let here = self.said(self.table.rows_with(self.session, &keys).await)?;
        for key in keys {
            match here.get(&key) {
                None => found.push((key, only)),
                Some(hash) if Some(hash) != rows.get(&key) && only == RowIs::OnlyInA => {
                    found.push((key, RowIs::Different));
                }
                Some(_) => {}
            }
        }
        Ok(found)
    }
}

/// Keys of rows that are different, only in A, and only in B.
fn compared(a: &RowsByKey, b: &RowsByKey) -> (Vec<Key>, Vec<Key>, Vec<Key>) {
    let (mut different, mut only_a) = (Vec::new(), Vec::new());
    for (key, hash) in a {
        match b.get(key) {
            None => only_a.push(key.clone()),
            Some(other) if other != hash => different.push(key.clone()),
            Some(_) => {}
        }
    }
    let only_b = b.keys().filter(|key| !a.contains_key(*key)).cloned().collect();
    (different, only_a, only_b)
}

/// A range cut at these keys.
fn ranges(whole: &KeyRange, keys: Vec<Key>) -> Vec<KeyRange> {
    let mut ranges = Vec::with_capacity(keys.len() + 1);
    let mut after = whole.after.clone();
    for key in keys {
        ranges.push(KeyRange { after: after.replace(key.clone()), to: Some(key) });
    }
    ranges.push(KeyRange { after, to: whole.to.clone() });
    ranges
}

impl Found<'_> {
    fn add(&mut self, what: RowIs, key: Key) -> Result<(), String> {
        if let Some(file) = &mut self.file {
            file.add(what.word(), &self.of.key, &key).map_err(|error| error.to_string())?;
        }
        *match what {
            RowIs::OnlyInA => &mut self.of.only_in_a,
            RowIs::OnlyInB => &mut self.of.only_in_b,
            RowIs::Different => &mut self.of.different,
        } += 1;
        if self.of.listed.len() < LISTED_MAX {
            self.of.listed.push(RowFound { what, key });
        }
        Ok(())
    }
}

impl RowIs {
    /// As JSON has it.
    fn word(self) -> &'static str {
        match self {
            Self::OnlyInA => "only_in_a",
            Self::OnlyInB => "only_in_b",
            Self::Different => "different",
        }
    }
}

impl RowsOf {
    /// How many rows are different in any way.
    pub fn rows(&self) -> u64 {
        self.only_in_a + self.only_in_b + self.different
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        vec![text.to_owned()]
    }

    #[test]
    fn ranges_cover_all_keys_and_none_twice() {
        let whole = KeyRange { after: Some(key("1")), to: Some(key("9")) };
        let cut = ranges(&whole, vec![key("3"), key("5")]);
        let ends: Vec<_> = cut.iter().map(|r| (r.after.clone(), r.to.clone())).collect();
        let some = |text| Some(key(text));
        assert_eq!(ends, [(some("1"), some("3")), (some("3"), some("5")), (some("5"), some("9"))]);
        assert_eq!(ranges(&KeyRange::default(), Vec::new()), [KeyRange::default()]);
    }

    #[test]
    fn rows_are_compared_by_their_keys() {
        let rows = |rows: &[(&str, &str)]| -> RowsByKey {
            rows.iter().map(|(k, hash)| (key(k), (*hash).to_owned())).collect()
        };
        let found = compared(
            &rows(&[("1", "x"), ("2", "x"), ("3", "x")]),
            &rows(&[("1", "x"), ("2", "y"), ("4", "x")]),
        );
        assert_eq!(found, (vec![key("2")], vec![key("3")], vec![key("4")]));
    }
}
