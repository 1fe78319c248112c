//! How COPY writes a value into a line of its text format.

/// Appends the text of one value as `CopyAttributeOutText` does, the delimiter
/// being a tab. Server encodings have no byte below 0x80 inside of a character.
pub fn escape(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len());
    for &byte in text {
        let letter = match byte {
            b'\\' => b'\\',
            0x08 => b'b',
            0x0C => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0B => b'v',
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend([b'\\', letter]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_value_or_a_line_is_escaped_and_nothing_else() {
        let mut out = b"before ".to_vec();
        escape(b"a\tb\nc\\N\r\x08\x0b\x0c\x01\x7f\xff\"'", &mut out);
        assert_eq!(out, b"before a\\tb\\nc\\\\N\\r\\b\\v\\f\x01\x7f\xff\"'");
    }
}
