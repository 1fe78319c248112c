//! COPY's text format, as far as we read it: fields between tabs, `\N` for
//! NULL, backslash escapes ("File Formats, Text Format" in PostgreSQL's page on
//! COPY). A row never holds an unescaped newline or tab. Bytes, not text: an
//! SQL_ASCII database promises no encoding.

use bstr::BString;

/// The fields of one row, without its newline. NULL is `None`.
pub fn fields(row: &[u8]) -> impl Iterator<Item = Option<BString>> {
    raw_fields(row).map(|raw| (raw != b"\\N").then(|| unescape(raw).into()))
}

/// The rows of a piece of COPY text, each with its newline. (A newline in a value
/// is escaped.)
pub fn rows_in(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&b| b == b'\n')
}

/// The fields of one row as they stand, escapes and all.
pub fn raw_fields(row: &[u8]) -> impl Iterator<Item = &[u8]> {
    row.strip_suffix(b"\n").unwrap_or(row).split(|&b| b == b'\t')
}

/// Splits the tag, the first field, from a row.
pub fn split_tag(row: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = row.iter().position(|&b| b == b'\t' || b == b'\n')?;
    // A row without columns is its tag and a newline, which stays.
    let rest = if row[end] == b'\t' { end + 1 } else { end };
    Some((&row[..end], &row[rest..]))
}

fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'b') => plain.push(8),
            Some(b'f') => plain.push(12),
            Some(b'n') => plain.push(b'\n'),
            Some(b'r') => plain.push(b'\r'),
            Some(b't') => plain.push(b'\t'),
            Some(b'v') => plain.push(11),
            // COPY TO writes no octal or hex escapes.
            Some(other) => plain.push(other),
            None => plain.push(b'\\'),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(row: &[u8]) -> Vec<Option<Vec<u8>>> {
        fields(row).map(|f| f.map(Vec::from)).collect()
    }

    #[test]
    fn fields_are_unescaped_and_null_is_told_from_empty() {
        assert_eq!(
            all(b"a\t\\N\t\t\\\\N\tx\\ty\\nz\\\\\n"),
            [
                Some(b"a".to_vec()),
                None,
                Some(vec![]),
                Some(b"\\N".to_vec()),
                Some(b"x\ty\nz\\".to_vec())
            ]
        );
        assert_eq!(all(b"\n"), [Some(vec![])]);
        assert_eq!(all(b"odd\\"), [Some(b"odd\\".to_vec())]);
    }

    #[test]
    fn a_tag_is_cut_off() {
        assert_eq!(split_tag(b"(0,1)\ta\tb\n"), Some((&b"(0,1)"[..], &b"a\tb\n"[..])));
        assert_eq!(split_tag(b"(0,1)\n"), Some((&b"(0,1)"[..], &b"\n"[..])));
        assert_eq!(split_tag(b"(0,1)"), None);
    }
}
