//! The lines of a file or of standard input, each as far as it is of interest.

use std::io::{self, BufRead};

/// So much of a line is kept. A statement in it may be of any length.
pub(super) const LINE_MAX: usize = 64 << 10;

/// Gives each line, without its end, to `take`; a line that is longer than
/// [`LINE_MAX`] without its rest. Returns how many bytes there were.
pub(super) fn each_line(mut input: impl BufRead, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let (mut line, mut bytes): (Vec<u8>, u64) = (Vec::new(), 0);
    // Of what is left out, quotes count: else a record of a csvlog has no end.
    let mut is_odd = false;
    loop {
        let buffer = match input.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            buffer => buffer?,
        };
        if buffer.is_empty() {
            if !line.is_empty() {
                finish(&mut line, is_odd, &mut take);
            }
            return Ok(bytes);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        let (kept, left_out) = part.split_at(part.len().min(LINE_MAX.saturating_sub(line.len())));
        line.extend_from_slice(kept);
        is_odd ^= left_out.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
        let used = part.len() + usize::from(end.is_some());
        if end.is_some() {
            finish(&mut line, is_odd, &mut take);
            is_odd = false;
        }
        input.consume(used);
        bytes += used as u64;
    }
}

fn finish(line: &mut Vec<u8>, is_odd: bool, take: &mut impl FnMut(&[u8])) {
    if is_odd {
        line.push(b'"');
    }
    take(line.strip_suffix(b"\r").unwrap_or(line));
    line.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_had_whatever_their_length_and_end() {
        let long = [vec![b'x'; 3 * LINE_MAX], b"\"".to_vec()].concat();
        let text = [b"a\r\n\n".as_slice(), &long, b"\nb"].concat();
        let mut lines = Vec::new();
        let read =
            each_line(io::BufReader::with_capacity(7, text.as_slice()), |l| lines.push(l.to_vec()));
        assert_eq!(read.expect("it is in memory"), text.len() as u64);
        assert_eq!(
            (lines.len(), lines[0].as_slice(), lines[1].as_slice()),
            (4, &b"a"[..], &b""[..])
        );
        assert_eq!((lines[2].len(), lines[2].last()), (LINE_MAX + 1, Some(&b'"')));
        assert_eq!(lines[3], b"b");
    }
}
