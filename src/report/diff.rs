//! What is different between two runs: relations with other contents, and those
//! that only one of them has. Pure.
//!
//! Contents are told by how many rows there are and by the hash of them all. Where
//! one of the two does not have that of a relation, it cannot be compared, and that
//! is said: it is neither the same nor different.

use super::grouped;
use super::side::{Contents, Key, Read, Side};
use crate::output::ContentHash;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Of the JSON.
const FORMAT_VERSION: u32 = 1;

const EXIT_SAME: u8 = 0;
const EXIT_DIFFERENT: u8 = 2;
const EXIT_INCOMPLETE: u8 = 3;

/// Since this version the text of floating-point numbers is another.
const FLOATS_SINCE: u32 = 12;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    pub format_version: u32,
    /// 0: the same; 2: there are differences; 3: something could not be compared.
    pub exit_code: u8,
    pub a: Side,
    pub b: Side,
    /// What lets differences be expected, or be doubted.
    pub warnings: Vec<String>,
    /// How many relations are the same.
    pub same: u64,
    /// How many neither run was asked for.
    pub not_asked: u64,
    /// All others.
    pub relations: Vec<Difference>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Empty where both runs have one database.
    pub database: String,
    pub schema: String,
    pub name: String,
    pub what: What,
    /// Where they are known.
    pub rows_a: Option<u64>,
    pub rows_b: Option<u64>,
    pub hash_a: Option<ContentHash>,
    pub hash_b: Option<ContentHash>,
    /// For people; one line.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Differs,
    OnlyInA,
    OnlyInB,
    NotCompared,
}

impl What {
    fn words(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::OnlyInA => "only in A",
            Self::OnlyInB => "only in B",
            Self::NotCompared => "not compared",
        }
    }
}

pub fn diff(a: Side, b: Side) -> Diff {
    let keys: BTreeSet<&Key> = a.relations.keys().chain(b.relations.keys()).collect();
    let (mut same, mut not_asked, mut relations) = (0, 0, Vec::new());
    let encodings = a.encoding.as_ref().zip(b.encoding.as_ref()).filter(|(a, b)| a != b);
    for key in keys {
        let pair = (a.relations.get(key), b.relations.get(key));
        let found = match (pair, encodings) {
            ((Some(one), Some(other)), _)
                if one.read == Read::NotAsked && other.read == Read::NotAsked =>
            {
                not_asked += 1;
                continue;
            }
            ((Some(_), Some(_)), Some((a, b))) => {
                Some((What::NotCompared, format!("A is in encoding {a}, and B in {b}")))
            }
            ((Some(one), Some(other)), None) => compared(one, other),
            ((Some(one), None), _) => only(one, What::OnlyInA),
            ((None, other), _) => other.and_then(|other| only(other, What::OnlyInB)),
        };
        match found {
            Some((what, message)) => relations.push(difference(key, pair, (what, message))),
            None if pair.0.is_none() || pair.1.is_none() => not_asked += 1,
            None => same += 1,
        }
    }
    let has = |what: What| relations.iter().any(|d| d.what == what);
    let exit_code = match (has(What::NotCompared), relations.is_empty()) {
        (true, _) => EXIT_INCOMPLETE,
        (_, false) => EXIT_DIFFERENT,
        _ => EXIT_SAME,
    };
    let warnings = warnings(&a, &b);
    Diff { format_version: FORMAT_VERSION, exit_code, a, b, warnings, same, not_asked, relations }
}

/// None: the same.
fn compared(a: &Contents, b: &Contents) -> Option<(What, String)> {
    let not = |why: String| Some((What::NotCompared, why));
    let why = |side: &str, contents: &Contents| match &contents.read {
        Read::Clean => None,
        Read::NotAsked => Some(format!("{side} was not asked for it")),
        Read::No(why) => Some(format!("in {side}: {why}")),
    };
    if let Some(why) = why("A", a).or_else(|| why("B", b)) {
        return not(why);
    }
    if a.columns.as_ref().zip(b.columns.as_ref()).is_some_and(|(a, b)| a != b) {
        return not("its columns are others, or in another order".to_owned());
    }
    if a.rows != b.rows {
        let (a, b) = (grouped(a.rows), grouped(b.rows));
        return Some((What::Differs, format!("{a} rows in A, {b} in B")));
    }
    match (a.hash, b.hash) {
        (Some(a), Some(b)) if a == b => None,
        (Some(_), Some(_)) => {
            let rows = grouped(b.rows);
            Some((What::Differs, format!("{rows} rows in both, and their contents are others")))
        }
        (None, None) => not("neither A nor B has a hash of it".to_owned()),
        (None, _) => not("A has no hash of it".to_owned()),
        (_, None) => not("B has no hash of it".to_owned()),
    }
}

/// None: nobody asked for it.
fn only(contents: &Contents, what: What) -> Option<(What, String)> {
    let message = match &contents.read {
        Read::Clean => format!("{} rows", grouped(contents.rows)),
        Read::NotAsked => return None,
        Read::No(why) => why.clone(),
    };
    Some((what, message))
}

fn difference(
    (database, schema, name): &Key,
    (a, b): (Option<&Contents>, Option<&Contents>),
    (what, message): (What, String),
) -> Difference {
    let rows = |c: Option<&Contents>| c.filter(|c| c.read == Read::Clean).map(|c| c.rows);
    Difference {
        database: database.clone(),
        schema: schema.clone(),
        name: name.clone(),
        what,
        rows_a: rows(a),
        rows_b: rows(b),
        hash_a: a.and_then(|c| c.hash),
        hash_b: b.and_then(|c| c.hash),
        message: message.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

fn warnings(a: &Side, b: &Side) -> Vec<String> {
    let mut warnings = Vec::new();
    match (&a.system_identifier, &b.system_identifier) {
        (Some(one), Some(other)) if one != other => warnings
            .push(format!("A is of another cluster than B: system identifier {one}, and {other}")),
        _ => {}
    }
    if a.databases != b.databases {
        let names = |side: &Side| match side.databases.as_slice() {
            [] => "of no database".to_owned(),
            names => names.join(", "),
        };
        warnings.push(format!(
            "the databases have other names: {} in A, {} in B",
            names(a),
            names(b)
        ));
    }
    let old = |side: &Side| side.major().map(|major| major < FLOATS_SINCE);
    if old(a).zip(old(b)).is_some_and(|(a, b)| a != b) {
        warnings.push(format!(
            "PostgreSQL {} and {} write floating-point numbers in different ways: equal ones \
             differ here",
            a.version, b.version
        ));
    }
    let (first, last) = if a.started <= b.started { (a, b) } else { (b, a) };
    if first.finished.is_some_and(|end| end < last.started) {
        warnings.push(
            "one run had ended when the other began: what was written in between differs"
                .to_owned(),
        );
    }
    warnings
}

/// For a person.
pub fn text(diff: &Diff) -> String {
    let mut out = String::new();
    for (side, letter) in [(&diff.a, 'A'), (&diff.b, 'B')] {
        let started = side.started.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S UTC");
        let path = side.path.escape_debug();
        // That of a dump says which database it is.
        let databases = match side.host.starts_with("database ") {
            true => String::new(),
            false => format!("{} on ", side.databases.join(", ").escape_debug()),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{letter}: {path}: {databases}{} (PostgreSQL {}), begun {started}",
            plain(&side.host),
            plain(&side.version)
        );
    }
    for warning in &diff.warnings {
        let _ = writeln!(out, "WARNING: {}", plain(warning));
    }
    let _ = writeln!(out);
    let names: Vec<String> = diff.relations.iter().map(Difference::title).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (difference, name) in diff.relations.iter().zip(&names) {
        let (what, message) = (difference.what.words(), plain(&difference.message));
        let _ = writeln!(out, "{what:12}  {name:width$}  {message}");
    }
    let count =
        |what: What| grouped(diff.relations.iter().filter(|d| d.what == what).count() as u64);
    let gap = if diff.relations.is_empty() { "" } else { "\n" };
    let _ = writeln!(
        out,
        "{gap}{} relations are the same, {} differ, {} are only in A, {} only in B, {} could not \
         be compared",
        grouped(diff.same),
        count(What::Differs),
        count(What::OnlyInA),
        count(What::OnlyInB),
        count(What::NotCompared)
    );
    out
}

/// What files say, without characters that steer a terminal.
fn plain(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

impl Difference {
    /// `database.schema.name`, as far as it has them, for people.
    pub fn title(&self) -> String {
        let parts = [&self.database, &self.schema, &self.name];
        let parts: Vec<&str> =
            parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        parts.join(".").escape_debug().to_string()
    }
}

#[cfg(test)]
mod tests;
