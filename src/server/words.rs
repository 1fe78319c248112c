//! What an error says, in one line of PostgreSQL's style.
//!
//! `tokio_postgres::Error` prints what the server said as `db error`, so nobody prints it: all go through here.

use std::error::Error;
use std::io;

use tokio_postgres::error::DbError;

/// What the server (or, without a SQLSTATE, the connection) said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub severity: String,
    /// Five characters; empty when it was not the server who spoke.
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub context: Option<String>,
    pub routine: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
}

impl Words {
    /// Of an error of the client library: the server's words, or the causes
    /// down to the last.
    pub fn of(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self::of_server(db),
            None => Self { message: words(error), ..Self::default() },
        }
    }

    fn of_server(db: &DbError) -> Self {
        Self {
            severity: db.severity().to_owned(),
            sqlstate: db.code().code().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().map(str::to_owned),
            hint: db.hint().map(str::to_owned),
            context: db.where_().map(str::to_owned),
            routine: db.routine().map(str::to_owned),
            file: db.file().map(str::to_owned),
            line: db.line(),
        }
    }

    /// On one line, for people.
    pub fn one_line(&self) -> String {
        let message = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        if self.severity.is_empty() { message } else { format!("{}: {message}", self.severity) }
    }
}

/// The error in one line: the server's own `SEVERITY: message`, or what happened to the connection.
pub fn words(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return db_words(said);
    }
    if error.is_closed() {
        return "server closed the connection unexpectedly".into();
    }
    let mut line = one_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&cause_words(error));
        // What lies below these has been said by them.
        if error.is::<io::Error>() || error.is::<openssl::ssl::Error>() {
            break;
        }
        cause = error.source();
    }
    line
}

/// `SEVERITY: message`, the severity untranslated where the server tells it (9.6 and later).
pub fn db_words(said: &DbError) -> String {
    let severity = match said.parsed_severity() {
        Some(severity) => severity.to_string(),
        None => said.severity().to_string(),
    };
    one_line(&format!("{severity}: {}", said.message()))
}

/// The server's DETAIL, if it gave one.
pub fn detail(error: &tokio_postgres::Error) -> Option<String> {
    error.as_db_error().and_then(DbError::detail).map(one_line)
}

/// The server's HINT, if it gave one.
pub fn hint(error: &tokio_postgres::Error) -> Option<String> {
    error.as_db_error().and_then(DbError::hint).map(one_line)
}

/// An operating system error as PostgreSQL writes it: `connection refused`, not `Connection refused (os error 111)`.
pub fn io_words(error: &io::Error) -> String {
    if let Some(ssl) = error.get_ref().and_then(|inner| inner.downcast_ref::<openssl::ssl::Error>())
    {
        return ssl_words(ssl);
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "server closed the connection unexpectedly".into();
    }
    let text = one_line(&error.to_string());
    let text = match text.rfind(" (os error ") {
        Some(end) if error.raw_os_error().is_some() => &text[..end],
        _ => &text,
    };
    lower_first(text)
}

/// The first reason that OpenSSL gives, as libpq prints it: `SSL error: tlsv1 alert unknown ca`.
pub fn ssl_words(error: &openssl::ssl::Error) -> String {
    if let Some(stack) = error.ssl_error() {
        return match stack_words(stack).as_str() {
            // OpenSSL 3's way to say what a plain connection says by ending.
            "unexpected eof while reading" => "SSL connection has been closed unexpectedly".into(),
            reason => format!("SSL error: {reason}"),
        };
    }
    match error.io_error() {
        Some(io) => format!("SSL error: {}", io_words(io)),
        None => "SSL connection has been closed unexpectedly".into(),
    }
}

/// The first reason of an OpenSSL error stack.
pub fn stack_words(stack: &openssl::error::ErrorStack) -> String {
    let reason = stack.errors().iter().find_map(openssl::error::Error::reason);
    one_line(reason.unwrap_or("no SSL error reported"))
}

/// Line ends and other control characters become spaces.
pub fn one_line(text: &str) -> String {
    let spaced: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if spaced == text {
        spaced
    } else {
        spaced.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

fn cause_words(error: &(dyn Error + 'static)) -> String {
    if let Some(io) = error.downcast_ref::<io::Error>() {
        io_words(io)
    } else if let Some(ssl) = error.downcast_ref::<openssl::ssl::Error>() {
        ssl_words(ssl)
    } else {
        one_line(&error.to_string())
    }
}

/// `Connection refused` begins a sentence; `SSL error` and `I/O error` are names.
pub(super) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operating_system_error_loses_its_capital_and_its_number() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(io_words(&refused), "connection refused");
        assert_eq!(io_words(&io::Error::other("I/O error here")), "I/O error here");
    }

    #[test]
    fn a_message_of_many_lines_becomes_one() {
        assert_eq!(one_line("a\n  b\tc\r\n"), "a b c");
        assert_eq!(one_line("two  spaces stay"), "two  spaces stay");
    }
}
