//! The values of a line of a jsonlog by their names, however deep they lie, as
//! far as the line goes: lines may be cut off, and need not be UTF-8.

/// The names that are looked for: those of PostgreSQL, and of CloudNativePG.
const NAMES: [&str; 13] = [
    "timestamp",
    "log_time",
    "pid",
    "process_id",
    "dbname",
    "database_name",
    "state_code",
    "sql_state_code",
    "message",
    "detail",
    "context",
    "log",
    "error_severity",
];

/// The first value of each name that has one: strings, and numbers.
pub(super) fn values(line: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut found: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let mut at = 0;
    while let Some(quote) = line.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'"')) {
        let (name, end) = string(line, at + quote + 1);
        at = blank(line, end);
        if line.get(at) != Some(&b':') {
            continue;
        }
        at = blank(line, at + 1);
        let value = match line.get(at) {
            Some(b'"') => {
                let (value, end) = string(line, at + 1);
                at = end;
                value
            }
            Some(b'0'..=b'9') => {
                let rest = line.get(at..).unwrap_or_default();
                let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                at += digits;
                rest[..digits].to_vec()
            }
            // Something deeper, or a word.
            _ => continue,
        };
        let known = NAMES.iter().find(|known| known.as_bytes() == name);
        if let Some(known) = known.filter(|known| found.iter().all(|(n, _)| n != *known)) {
            found.push((known, value));
        }
    }
    found
}

fn blank(line: &[u8], at: usize) -> usize {
    let rest = line.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|b| b.is_ascii_whitespace()).count()
}

/// The string that begins at `at`, behind its quote, and where what follows its
/// end begins.
fn string(line: &[u8], mut at: usize) -> (Vec<u8>, usize) {
    let mut value = Vec::new();
    while let Some(&byte) = line.get(at) {
        at += 1;
        match byte {
            b'"' => return (value, at),
            b'\\' => {
                let escaped = line.get(at).copied();
                at += 1;
                match escaped {
                    Some(b'n') => value.push(b'\n'),
                    Some(b't') => value.push(b'\t'),
                    Some(b'r') => value.push(b'\r'),
                    Some(b'b' | b'f') => value.push(b' '),
                    Some(b'u') => {
                        let digits = line.get(at..at + 4).and_then(|d| std::str::from_utf8(d).ok());
                        let code = digits.and_then(|d| u32::from_str_radix(d, 16).ok());
                        // Half of a pair is no character.
                        let letter =
                            code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
                        value.extend(letter.encode_utf8(&mut [0; 4]).bytes());
                        at += 4;
                    }
                    Some(other) => value.push(other),
                    None => {}
                }
            }
            _ => value.push(byte),
        }
    }
    (value, line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unescaped_and_what_is_cut_off_is_had_as_far_as_it_goes() {
        let line = br#"{"pid" : 12, "x":["message"], "y":{"message":"a\n\"b\"\\\u00e4\ud800"},"detail":"cut \u00"#;
        let found = values(line);
        let value = |name| {
            found
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| String::from_utf8_lossy(v).into_owned())
        };
        assert_eq!(value("pid").as_deref(), Some("12"));
        assert_eq!(value("message").as_deref(), Some("a\n\"b\"\\ä\u{fffd}"));
        assert_eq!(value("detail").as_deref(), Some("cut \u{fffd}"));
        assert_eq!(value("context"), None);
    }
}
