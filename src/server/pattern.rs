//! Name patterns as psql and `pg_dump -t` and `-n` take them. Pure.
//!
//! Unquoted letters are folded to lower case, `*` is any text, `?` any character, double quotes make what they enclose
//! literal (a doubled one is a quote), and `$` is always literal. Other characters of regular expressions mean what
//! they mean, outside of quotes; PostgreSQL's own extensions to them (`\y`, back references) are not known here, and
//! `[:alpha:]`, `\w` and the like know ASCII alone. A pattern matches the whole name.
//!
//! Names are bytes: those of a database in SQL_ASCII, or damaged, need not be UTF-8. `?` and `.` match one UTF-8
//! character, or one byte that is not part of any.
//!
//! Where pg_dump, given `-t` without a schema, matches the tables that are visible in the `search_path`, we match in
//! any schema that is not a system schema: whoever salvages wants too much rather than too little.

use regex::bytes::{Regex, RegexBuilder};

/// How much memory one pattern may need: `{9999}` and the like are refused, not served.
const SIZE_MAX: usize = 1 << 20;

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// As in pg_dump: `a.b.c.d`.
    #[error("improper qualified name (too many dotted names): {0}")]
    TooManyDots(String),
    /// As in pg_dump: the database of `database.schema.name` is not the one we are connected to.
    #[error("cross-database references are not implemented: {0}")]
    OtherDatabase(String),
    /// What remains after psql's signs is no regular expression.
    #[error("invalid regular expression in pattern \"{pattern}\": {reason}")]
    Regex {
        /// As it was given.
        pattern: String,
        /// In one line.
        reason: String,
    },
}

/// A pattern for relations (`-t`) or for schemas (`-n`).
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    database: Option<String>,
    schema: Option<Regex>,
    name: Regex,
}

impl Pattern {
    /// `name`, `schema.name` or `database.schema.name`.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let parts = split(text);
        let (database, schema, name) = match parts.as_slice() {
            [name] => (None, None, name),
            [schema, name] => (None, Some(schema), name),
            [database, schema, name] => (Some(database.literal.clone()), Some(schema), name),
            _ => return Err(PatternError::TooManyDots(text.into())),
        };
        // As in psql an empty schema is none.
        let schema = schema
            .filter(|schema| !schema.regex.is_empty())
            .map(|part| compile(text, part))
            .transpose()?;
        Ok(Pattern { text: text.into(), database, schema, name: compile(text, name)? })
    }

    /// A pattern for schemas: `name` or `database.name`.
    pub fn parse_schema(text: &str) -> Result<Pattern, PatternError> {
        let parts = split(text);
        let (database, name) = match parts.as_slice() {
            [name] => (None, name),
            [database, name] => (Some(database.literal.clone()), name),
            _ => return Err(PatternError::TooManyDots(text.into())),
        };
        Ok(Pattern { text: text.into(), database, schema: None, name: compile(text, name)? })
    }

    /// Fails if the pattern names another database than that. Its name is not a pattern.
    pub fn check_database(&self, database: &str) -> Result<(), PatternError> {
        match &self.database {
            Some(named) if named != database => Err(PatternError::OtherDatabase(self.text.clone())),
            _ => Ok(()),
        }
    }

    /// Whether it is this relation that is meant.
    pub fn matches_relation(&self, schema: &[u8], name: &[u8]) -> bool {
        let in_schema = match &self.schema {
            Some(pattern) => pattern.is_match(schema),
            None => !is_system_schema(schema),
        };
        in_schema && self.name.is_match(name)
    }

    /// Whether it is this schema that is meant, system or not.
    pub fn matches_schema(&self, schema: &[u8]) -> bool {
        self.name.is_match(schema)
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// `pg_catalog`, `pg_toast` and their like, and `information_schema`. The prefix is reserved.
pub fn is_system_schema(schema: &[u8]) -> bool {
    schema.starts_with(b"pg_") || schema == b"information_schema"
}

/// What stands between two dots: as a regular expression, and as the plain name it would be.
#[derive(Default)]
struct Part {
    regex: String,
    literal: String,
}

/// Cuts the pattern at its unquoted dots and turns psql's signs into those of regular expressions. A quote that is not
/// closed is closed by the end, as in psql.
fn split(text: &str) -> Vec<Part> {
    let mut done = Vec::new();
    let mut part = Part::default();
    let mut quoted = false;
    // In a bracket expression psql's signs are turned too, but into single characters.
    let mut bracket = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match c {
            '"' if quoted && next == Some('"') => {
                chars.next();
                part.both('"', "\"");
            }
            '"' => quoted = !quoted,
            '.' if !quoted => done.push(std::mem::take(&mut part)),
            '*' if !quoted => part.both('*', if bracket { ".*" } else { ANY_TEXT }),
            '?' if !quoted => part.both('?', if bracket { "." } else { ANY_CHARACTER }),
            '$' => part.both('$', "\\$"),
            // More likely the name of an array type than a bracket expression.
            '[' if !quoted && next == Some(']') => part.both('[', "\\["),
            c if quoted => part.both(c, &regex::escape(c.encode_utf8(&mut [0; 4]))),
            // A folded letter after a backslash would be another class: psql folds it all the same.
            c => {
                bracket = c == '[' || bracket && c != ']';
                let c = c.to_ascii_lowercase();
                part.both(c, c.encode_utf8(&mut [0; 4]));
            }
        }
    }
    done.push(part);
    done
}

/// One UTF-8 character, or one byte that is not part of one.
const ANY_CHARACTER: &str = r"(?:(?u:.)|(?-u:.))";
/// Bytes do here, and cost less.
const ANY_TEXT: &str = r"(?-u:.)*";

impl Part {
    fn both(&mut self, literal: char, regex: &str) {
        self.literal.push(literal);
        self.regex.push_str(regex);
    }
}

fn compile(pattern: &str, part: &Part) -> Result<Regex, PatternError> {
    let invalid = |reason: String| PatternError::Regex { pattern: pattern.into(), reason };
    // Alone, so that `a)(b` is not made right by the parentheses around it.
    let build = |regex: &str| {
        RegexBuilder::new(regex).dot_matches_new_line(true).size_limit(SIZE_MAX).build().map_err(
            |error| {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                invalid(reason.to_string())
            },
        )
    };
    build(&part.regex)?;
    build(&format!("^(?:{})$", part.regex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_psql_documents_it() {
        for (pattern, name, expected) in [
            ("foo", "foo", true),
            ("FOO", "foo", true),
            ("FOO", "FOO", false),
            ("\"FOO\"", "FOO", true),
            ("FOO\"BAR\"BAZ", "fooBARbaz", true),
            ("\"FOO\"\"BAR\"", "FOO\"BAR", true),
            ("int*", "integer", true),
            ("int*", "int", true),
            ("*int*", "pointed", true),
            ("int", "integer", false),
            ("teger", "integer", false),
            ("t?", "t1", true),
            ("t?", "t", false),
            ("t?", "t12", false),
            ("t?", "tü", true),
            ("\"t?\"", "t?", true),
            ("\"t?\"", "t1", false),
            ("\"a*\"", "a*", true),
            ("\"a.b\"", "a.b", true),
            ("\"a.b\"", "axb", false),
            ("a$b", "a$b", true),
            ("a\"$\"b", "a$b", true),
            ("[a-c]1", "b1", true),
            ("[a-c]1", "d1", false),
            ("t[?*]x", "t*x", true),
            ("t[?*]x", "t:x", false),
            ("a|b", "a", true),
            ("a|b", "b", true),
            ("a|b", "ab", false),
            ("(foo|bar)_[0-9]+", "bar_17", true),
            ("a+", "aaa", true),
            ("\"a+\"", "aaa", false),
            ("t{2}", "tt", true),
            ("int[]", "int[]", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("\"open", "open", true),
            ("a*", "a\nb", true),
            ("ÄB", "Äb", true),
            ("\\d", "7", true),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(
                parsed.matches_relation(b"public", name.as_bytes()),
                expected,
                "{pattern:?} and {name:?}"
            );
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_matched_by_their_bytes() {
        let matches = |pattern: &str, name: &[u8]| {
            Pattern::parse(pattern).unwrap().matches_relation(b"s", name)
        };
        assert!(matches("t*", b"t\xff\xfe"));
        assert!(matches("t?", b"t\xff"));
        assert!(!matches("t?", b"t\xff\xff"));
        assert!(matches("*x", b"\xc3x"));
    }

    #[test]
    fn a_schema_is_matched_if_given_and_otherwise_all_but_the_systems_are() {
        for (pattern, schema, expected) in [
            ("s.t", "s", true),
            ("s.t", "s2", false),
            ("s*.t", "s2", true),
            ("S.T", "s", true),
            ("\"S\".t", "S", true),
            ("t", "anything", true),
            ("t", "pg_catalog", false),
            ("t", "pg_toast", false),
            ("t", "information_schema", false),
            ("pg_catalog.t", "pg_catalog", true),
            ("*.t", "pg_catalog", true),
            (".t", "anything", true),
            ("d.s.t", "s", true),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(
                parsed.matches_relation(schema.as_bytes(), b"t"),
                expected,
                "{pattern:?} in {schema:?}"
            );
        }
        let schema = Pattern::parse_schema("a*").unwrap();
        assert!(schema.matches_schema(b"abc") && !schema.matches_schema(b"bc"));
    }

    #[test]
    fn a_database_must_be_the_one_we_are_in_and_is_no_pattern() {
        let check = |text, database| Pattern::parse(text).unwrap().check_database(database);
        assert_eq!(check("t", "d"), Ok(()));
        assert_eq!(check("D.s.t", "d"), Ok(()));
        assert_eq!(check("\"D.1\".s.t", "D.1"), Ok(()));
        let error = check("d*.s.t", "dd").unwrap_err();
        assert_eq!(error.to_string(), "cross-database references are not implemented: d*.s.t");
        let schema = Pattern::parse_schema("d.s").unwrap();
        assert!(schema.check_database("d").is_ok() && schema.check_database("e").is_err());
    }

    #[test]
    fn what_cannot_be_a_pattern_is_refused_in_one_line() {
        let error = |text| Pattern::parse(text).unwrap_err().to_string();
        assert_eq!(error("a.b.c.d"), "improper qualified name (too many dotted names): a.b.c.d");
        assert_eq!(error("a("), "invalid regular expression in pattern \"a(\": unclosed group");
        assert_eq!(error("a)(b"), "invalid regular expression in pattern \"a)(b\": unopened group");
        for text in ["(((((((((((a{99}){99}){99})))))))))", "[", "x{2,1}", "\\"] {
            assert!(!error(text).contains('\n'), "{text}");
        }
        assert!(Pattern::parse_schema("a.b.c").is_err());
    }
}
