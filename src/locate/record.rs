//! One record of a csvlog: lines until its quotes are balanced, and its fields.
//!
//! The crate that writes our own CSV files is not used, since a record of a log
//! may be torn, or of any length, and only its beginning is of interest.

use super::pattern;
use regex::bytes::Regex;
use std::sync::LazyLock;

/// So much of a record is kept: the message stands before the statement.
const RECORD_MAX: usize = 64 << 10;

/// Fields up to the context, which is the 19th.
const FIELDS_MAX: usize = 19;

/// A record, of which more lines may come.
#[derive(Debug)]
pub(super) struct Record {
    kept: Vec<u8>,
    is_quoted: bool,
}

/// Whether a line is the first one of a record: a time, and then the fields of a
/// session. Lines of a statement that look like this are not written by chance.
pub(super) fn begins(line: &[u8]) -> bool {
    static FIRST: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r#"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? [A-Za-z0-9+:/_-]{1,40},(?:"(?:[^"]|"")*")?,(?:"(?:[^"]|"")*")?,\d*,"#,
        )
    });
    line.first().is_some_and(u8::is_ascii_digit) && FIRST.is_match(line)
}

impl Record {
    pub(super) fn new(line: &[u8]) -> Self {
        let mut record = Self { kept: Vec::new(), is_quoted: false };
        record.add(line);
        record
    }

    /// Takes one more line. Returns whether the record is complete.
    pub(super) fn add(&mut self, line: &[u8]) -> bool {
        if self.is_quoted && self.kept.len() < RECORD_MAX {
            self.kept.push(b'\n');
        }
        let room = RECORD_MAX.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&line[..line.len().min(room)]);
        let quotes = line.iter().filter(|byte| **byte == b'"').count();
        self.is_quoted ^= quotes % 2 == 1;
        self.is_complete()
    }

    pub(super) fn is_complete(&self) -> bool {
        !self.is_quoted
    }

    /// Unquoted.
    pub(super) fn fields(&self) -> Vec<Vec<u8>> {
        let (mut fields, mut field) = (Vec::new(), Vec::new());
        let mut is_quoted = false;
        let mut bytes = self.kept.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' if is_quoted && bytes.peek() == Some(&b'"') => {
                    bytes.next();
                    field.push(b'"');
                }
                b'"' => is_quoted = !is_quoted,
                b',' if !is_quoted => {
                    fields.push(std::mem::take(&mut field));
                    if fields.len() == FIELDS_MAX {
                        return fields;
                    }
                }
                _ => field.push(byte),
            }
        }
        fields.push(field);
        fields
    }
}
