//! Reads a connection string of the form `keyword=value ...`, as libpq does. Pure.

use super::ConnectError;
use super::keywords::{self, Keyword};

/// Whether a database name is really a connection string or a URI.
pub(super) fn is_conninfo(dbname: &str) -> bool {
    super::uri::without_scheme(dbname).is_some() || dbname.contains('=')
}

/// The options of the string in their order; of an option given twice the last one counts.
pub(super) fn parse(text: &str) -> Result<Vec<(&'static Keyword, String)>, ConnectError> {
    let mut options = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = rest.find(|c| c == '=' || is_space(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(after) = after.trim_start_matches(is_space).strip_prefix('=') else {
            return Err(ConnectError::usage(format!(
                "missing \"=\" after \"{name}\" in connection info string"
            )));
        };
        let (value, after) = value(after.trim_start_matches(is_space))?;
        let keyword = keywords::find(name)
            .ok_or_else(|| ConnectError::usage(format!("invalid connection option \"{name}\"")))?;
        options.push((keyword, value));
        rest = after.trim_start_matches(is_space);
    }
    Ok(options)
}

/// One value and what follows it. A backslash takes the next character as it is, quoted or not.
fn value(text: &str) -> Result<(String, &str), ConnectError> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            c if !quoted && is_space(c) => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        return Err(ConnectError::usage("unterminated quoted string in connection info string"));
    }
    Ok((value, ""))
}

/// What C's isspace() takes for space.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(&'static str, String)>, String> {
        match parse(text) {
            Ok(options) => Ok(options.into_iter().map(|(k, v)| (k.name, v)).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn strings_are_read_as_libpq_documents_them() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("  \t\n", &[]),
            (
                "host=localhost port=5432 dbname=mydb connect_timeout=10",
                &[
                    ("host", "localhost"),
                    ("port", "5432"),
                    ("dbname", "mydb"),
                    ("connect_timeout", "10"),
                ],
            ),
            ("  host = h\tuser\n=\nu ", &[("host", "h"), ("user", "u")]),
            ("password='a b'", &[("password", "a b")]),
            ("password=''", &[("password", "")]),
            (r"password='it\'s \\'", &[("password", r"it's \")]),
            (r"password=a\ b\'c user=u", &[("password", "a b'c"), ("user", "u")]),
            ("user='a'host=b", &[("user", "a"), ("host", "b")]),
            ("user= host=b", &[("user", "host=b")]),
            ("host=a,b,c port=1,,3", &[("host", "a,b,c"), ("port", "1,,3")]),
            ("user=ümläut", &[("user", "ümläut")]),
            (r"user=a\", &[("user", "a")]),
        ];
        for (text, expected) in cases {
            let expected = expected.iter().map(|&(k, v)| (k, v.to_string())).collect();
            assert_eq!(read(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn a_string_that_libpq_refuses_is_refused_in_its_words() {
        for (text, expected) in [
            ("host", "missing \"=\" after \"host\" in connection info string"),
            ("host x=1", "missing \"=\" after \"host\" in connection info string"),
            ("user='a", "unterminated quoted string in connection info string"),
            (r"user='a\'", "unterminated quoted string in connection info string"),
            ("sslmod=require", "invalid connection option \"sslmod\""),
            ("=x", "invalid connection option \"\""),
        ] {
            assert_eq!(read(text), Err(expected.into()), "{text:?}");
        }
    }
}
