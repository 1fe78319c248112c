//! Reads a connection URI, `postgresql://user:password@host:port,host:port/dbname?keyword=value`, as libpq does. Pure.

use super::ConnectError;
use super::keywords::{self, Keyword};

/// What follows `postgresql://` or `postgres://`.
pub(super) fn without_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"))
}

/// The options of the URI; of an option given twice the last one counts.
pub(super) fn parse(uri: &str) -> Result<Vec<(&'static Keyword, String)>, ConnectError> {
    let mut options = Vec::new();
    let mut store = |name: &str, value: &str| -> Result<(), ConnectError> {
        // What is wrong with a password is not shown.
        let shown = if matches!(name, "password" | "sslpassword") { "..." } else { value };
        let value = decode(value, shown)?;
        let keyword = keywords::find(name).ok_or_else(|| unknown_parameter(name))?;
        options.push((keyword, value));
        Ok(())
    };
    let mut rest = without_scheme(uri).unwrap_or(uri);
    if let Some(end) = rest.find(['@', '/']).filter(|&end| rest.as_bytes()[end] == b'@') {
        let (user, password) = rest[..end].split_once(':').unwrap_or((&rest[..end], ""));
        if !user.is_empty() {
            store("user", user)?;
        }
        if !password.is_empty() {
            store("password", password)?;
        }
        rest = &rest[end + 1..];
    }
    let (hosts, ports, after) = hosts(rest, uri)?;
    if !hosts.is_empty() {
        store("host", &hosts)?;
    }
    if !ports.is_empty() {
        store("port", &ports)?;
    }
    let (path, query) = match after.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (after, None),
    };
    if let Some(dbname) = path.strip_prefix('/').filter(|dbname| !dbname.is_empty()) {
        store("dbname", dbname)?;
    }
    let mut parameters: Vec<&str> =
        query.map(|query| query.split('&').collect()).unwrap_or_default();
    // No parameters at all, or a sign too much at the end, as libpq lets it pass.
    parameters.pop_if(|last| last.is_empty());
    for parameter in parameters {
        let (name, value) = parameter_parts(parameter)?;
        let name = decode(name, name)?;
        match (name.as_str(), value) {
            // As JDBC writes it.
            ("ssl", "true") => store("sslmode", "require")?,
            _ => store(&name, value)?,
        }
    }
    Ok(options)
}

fn parameter_parts(parameter: &str) -> Result<(&str, &str), ConnectError> {
    let (name, value) = parameter.split_once('=').ok_or_else(|| {
        ConnectError::usage(format!(
            "missing key/value separator \"=\" in URI query parameter: \"{parameter}\""
        ))
    })?;
    if value.contains('=') {
        return Err(ConnectError::usage(format!(
            "extra key/value separator \"=\" in URI query parameter: \"{name}\""
        )));
    }
    Ok((name, value))
}

fn unknown_parameter(name: &str) -> ConnectError {
    ConnectError::usage(format!("invalid URI query parameter: \"{name}\""))
}

/// The list of hosts and the list of ports, each with its commas, and what follows them.
fn hosts<'a>(text: &'a str, uri: &str) -> Result<(String, String, &'a str), ConnectError> {
    let (mut hosts, mut ports) = (String::new(), String::new());
    let mut rest = text;
    loop {
        if let Some(inside) = rest.strip_prefix('[') {
            let end = inside.find(']').ok_or_else(|| {
                ConnectError::usage(format!(
                    "end of string reached when looking for matching \"]\" in IPv6 host address in URI: \"{}\"",
                    without_password(uri)
                ))
            })?;
            if end == 0 {
                return Err(ConnectError::usage(format!(
                    "IPv6 host address may not be empty in URI: \"{}\"",
                    without_password(uri)
                )));
            }
            hosts.push_str(&inside[..end]);
            rest = &inside[end + 1..];
            if let Some(odd) = rest.chars().next().filter(|c| !matches!(c, ':' | '/' | '?' | ',')) {
                return Err(ConnectError::usage(format!(
                    "unexpected character \"{odd}\" after \"]\" in URI (expected \":\" or \"/\"): \"{}\"",
                    without_password(uri)
                )));
            }
        } else {
            let end = rest.find([':', '/', '?', ',']).unwrap_or(rest.len());
            hosts.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        if let Some(port) = rest.strip_prefix(':') {
            let end = port.find(['/', '?', ',']).unwrap_or(port.len());
            ports.push_str(&port[..end]);
            rest = &port[end..];
        }
        let Some(next) = rest.strip_prefix(',') else {
            return Ok((hosts, ports, rest));
        };
        hosts.push(',');
        ports.push(',');
        rest = next;
    }
}

/// The URI as it may be shown.
fn without_password(uri: &str) -> String {
    match (without_scheme(uri), uri.find('@')) {
        (Some(rest), Some(at)) => format!("{}...{}", &uri[..uri.len() - rest.len()], &uri[at..]),
        _ => uri.to_string(),
    }
}

/// Undoes percent-encoding.
fn decode(text: &str, shown: &str) -> Result<String, ConnectError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let byte = match after {
            [high, low, after @ ..] => {
                rest = after;
                hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low)
            }
            _ => None,
        };
        match byte {
            Some(0) => {
                return Err(ConnectError::usage("forbidden value %00 in percent-encoded value"));
            }
            Some(byte) => bytes.push(byte),
            None => {
                return Err(ConnectError::usage(format!(
                    "invalid percent-encoded token: \"{shown}\""
                )));
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| {
        ConnectError::usage(format!("percent-encoded value is not valid UTF-8: \"{shown}\""))
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
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
    fn uris_are_read_as_libpq_documents_them() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("postgresql://", &[]),
            ("postgres://", &[]),
            ("postgresql://localhost", &[("host", "localhost")]),
            ("postgresql://localhost:5433", &[("host", "localhost"), ("port", "5433")]),
            ("postgresql://localhost/mydb", &[("host", "localhost"), ("dbname", "mydb")]),
            ("postgresql://user@localhost", &[("user", "user"), ("host", "localhost")]),
            (
                "postgresql://user:secret@localhost",
                &[("user", "user"), ("password", "secret"), ("host", "localhost")],
            ),
            (
                "postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp",
                &[
                    ("user", "other"),
                    ("host", "localhost"),
                    ("dbname", "otherdb"),
                    ("connect_timeout", "10"),
                    ("application_name", "myapp"),
                ],
            ),
            (
                "postgresql://host1:123,host2:456/somedb?target_session_attrs=any",
                &[
                    ("host", "host1,host2"),
                    ("port", "123,456"),
                    ("dbname", "somedb"),
                    ("target_session_attrs", "any"),
                ],
            ),
            ("postgresql://a,b:2", &[("host", "a,b"), ("port", ",2")]),
            (
                "postgresql:///mydb?host=localhost&port=5433",
                &[("dbname", "mydb"), ("host", "localhost"), ("port", "5433")],
            ),
            (
                "postgresql://user@localhost:5433/mydb?options=-c%20synchronous_commit%3Doff",
                &[
                    ("user", "user"),
                    ("host", "localhost"),
                    ("port", "5433"),
                    ("dbname", "mydb"),
                    ("options", "-c synchronous_commit=off"),
                ],
            ),
            (
                "postgresql://[2001:db8::1234]/database",
                &[("host", "2001:db8::1234"), ("dbname", "database")],
            ),
            ("postgresql://[::1]:5433,x", &[("host", "::1,x"), ("port", "5433,")]),
            (
                "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname",
                &[("host", "/var/lib/postgresql"), ("dbname", "dbname")],
            ),
            ("postgresql://u:p%40%3a%2F@h", &[("user", "u"), ("password", "p@:/"), ("host", "h")]),
            ("postgresql://h?ssl=true", &[("host", "h"), ("sslmode", "require")]),
            ("postgresql://h/?", &[("host", "h")]),
            ("postgresql://h/?user=u&", &[("host", "h"), ("user", "u")]),
            ("postgresql:///?user=%C3%BC", &[("user", "ü")]),
        ];
        for (text, expected) in cases {
            let expected = expected.iter().map(|&(k, v)| (k, v.to_string())).collect();
            assert_eq!(read(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn a_uri_that_libpq_refuses_is_refused_and_keeps_the_password_to_itself() {
        for (text, expected) in [
            ("postgresql://h?x", "missing key/value separator \"=\" in URI query parameter: \"x\""),
            (
                "postgresql://h?a=b=c",
                "extra key/value separator \"=\" in URI query parameter: \"a\"",
            ),
            (
                "postgresql://h?&user=u",
                "missing key/value separator \"=\" in URI query parameter: \"\"",
            ),
            ("postgresql://h?zzz=1", "invalid URI query parameter: \"zzz\""),
            ("postgresql://%zz", "invalid percent-encoded token: \"%zz\""),
            ("postgresql://a%2", "invalid percent-encoded token: \"a%2\""),
            ("postgresql://a%é", "invalid percent-encoded token: \"a%é\""),
            ("postgresql://u:geh%im@h", "invalid percent-encoded token: \"...\""),
            ("postgresql://%00", "forbidden value %00 in percent-encoded value"),
            ("postgresql://%ff", "percent-encoded value is not valid UTF-8: \"%ff\""),
            ("postgresql://[]", "IPv6 host address may not be empty in URI: \"postgresql://[]\""),
            (
                "postgresql://u:geheim@[::1",
                "end of string reached when looking for matching \"]\" in IPv6 host address in URI: \
                 \"postgresql://...@[::1\"",
            ),
            (
                "postgresql://[::1]z",
                "unexpected character \"z\" after \"]\" in URI (expected \":\" or \"/\"): \"postgresql://[::1]z\"",
            ),
        ] {
            assert_eq!(read(text), Err(expected.into()), "{text:?}");
        }
    }
}
