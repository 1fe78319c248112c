//! What the target has against a statement or against rows.

use crate::server::error::{OpenError, ReadError};
use crate::server::fault::{self, Words};
use tokio_postgres::Error;

#[derive(Debug, thiserror::Error)]
#[error("{}", .words.one_line())]
pub struct Refusal {
    pub words: Box<Words>,
    pub column: Option<String>,
    pub constraint: Option<String>,
    source: Option<Error>,
}

/// What to do about rows that were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// One of the rows is to blame: send fewer.
    Row,
    /// The relation can take no row at all.
    Relation,
    /// The server is short of something, or somebody is in the way.
    Environment,
    /// The session is gone.
    SessionLost,
}

impl Refusal {
    /// Of our own finding: no words of the server.
    pub fn ours(message: impl Into<String>) -> Self {
        let words = Words { message: message.into(), ..Words::default() };
        Self { words: words.into(), column: None, constraint: None, source: None }
    }

    pub fn is_lost(&self) -> bool {
        self.source.is_some() && fault::is_fatal(&self.words)
    }

    /// Decides what is to be done about rows of a COPY into `table` (its name
    /// alone) that were refused.
    pub fn meaning(&self, table: &str) -> Meaning {
        if self.source.is_none() {
            return Meaning::Row;
        }
        fault::refusal(&self.words, self.line(table).is_some())
    }

    /// Which row of the COPY it was, from 1 on, if the server says so.
    pub fn line(&self, table: &str) -> Option<u64> {
        named(&self.words, table)?.0.parse().ok()
    }

    /// The column, if the server says so.
    pub fn column(&self, table: &str) -> Option<String> {
        self.column.clone().or_else(|| column_of(named(&self.words, table)?.1))
    }

    /// The words, with what they say of keys.
    pub fn in_full(&self) -> String {
        match &self.words.detail {
            Some(detail) => format!("{}: {detail}", self.words.message),
            None => self.words.message.clone(),
        }
    }
}

impl From<Error> for Refusal {
    fn from(source: Error) -> Self {
        let db = source.as_db_error();
        let column = db.and_then(|db| db.column()).map(str::to_owned);
        let constraint = db.and_then(|db| db.constraint()).map(str::to_owned);
        Self { words: Words::of(&source).into(), column, constraint, source: Some(source) }
    }
}

impl From<Refusal> for OpenError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { words, source, .. } = refusal;
        match source {
            Some(source) => Self::Begin(ReadError::Server { words, source }),
            None => Self::Begin(ReadError::GivenUp { words }),
        }
    }
}

/// What `COPY table, line 7, column "x": "value"` of the words' context has after
/// `line`: the number, and the rest. (Words are translated only where
/// `lc_messages` could not be set: then nothing is known.)
fn named<'a>(words: &'a Words, table: &str) -> Option<(&'a str, &'a str)> {
    let prefix = format!("COPY {table}, line ");
    let context = words.context.as_deref()?;
    // What a trigger says stands before it, a line each.
    let begins = context
        .match_indices(&prefix)
        .find(|(at, _)| *at == 0 || context[..*at].ends_with('\n'))?;
    let rest = &context[begins.0 + prefix.len()..];
    Some(rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())))
}

/// The server does not quote the name, so a colon in it ends it for us.
fn column_of(rest: &str) -> Option<String> {
    let name = rest.strip_prefix(", column ")?;
    let name = &name[..name.find(": ").unwrap_or(name.len())];
    Some(name.lines().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(context: &str) -> Words {
        Words { context: Some(context.to_owned()), ..Words::default() }
    }

    #[test]
    fn the_line_of_a_copy_is_known_by_its_table_alone() {
        let words = said("COPY t, line 17, column id: \"x, line 3\"");
        assert_eq!(named(&words, "t").map(|n| n.0), Some("17"));
        assert_eq!(column_of(named(&words, "t").unwrap().1), Some("id".to_owned()));
        assert_eq!(named(&words, "u"), None);
        let words = said("PL/pgSQL function f() line 3 at RAISE\nCOPY a, line 9, line 12");
        assert_eq!(named(&words, "a, line 9").map(|n| n.0), Some("12"));
        assert_eq!(named(&said("SQL statement \"COPY t, line 1\""), "t"), None);
    }
}
