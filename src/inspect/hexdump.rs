//! The bytes of a page as `xxd` writes them, with its parts in colours. Rows
//! that are the same as the one before are left out, as by `hexdump`.

use super::Inspected;
use std::fmt::Write as _;

const PER_ROW: usize = 16;

const RESET: &str = "\x1b[0m";

/// What a byte is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Header,
    Checksum,
    LinePointers,
    Free,
    TupleHeader,
    Tuple,
    Special,
}

impl Part {
    fn colour(self) -> &'static str {
        match self {
            Part::Header => "\x1b[36m",
            Part::Checksum => "\x1b[1;35m",
            Part::LinePointers => "\x1b[33m",
            Part::Free => "\x1b[2m",
            Part::TupleHeader => "\x1b[32m",
            Part::Tuple => RESET,
            Part::Special => "\x1b[34m",
        }
    }
}

/// What the colours mean.
pub(super) fn legend() -> String {
    let parts = [
        (Part::Header, "header"),
        (Part::Checksum, "checksum"),
        (Part::LinePointers, "line pointers"),
        (Part::Free, "free space"),
        (Part::TupleHeader, "tuple headers"),
        (Part::Special, "special space"),
    ];
    let words = parts.map(|(part, word)| format!("{}{word}{RESET}", part.colour()));
    words.join(" ")
}

pub(super) fn hexdump(inspected: &Inspected, colour: bool) -> String {
    let bytes = &inspected.bytes;
    let parts = if colour { parts(inspected) } else { Vec::new() };
    let mut out = String::with_capacity(bytes.len() * 5);
    let mut last: Option<&[u8]> = None;
    let mut is_left_out = false;
    for (row, chunk) in bytes.chunks(PER_ROW).enumerate() {
        let begin = row * PER_ROW;
        let is_end = begin + PER_ROW >= bytes.len();
        if last == Some(chunk) && !is_end {
            if !is_left_out {
                out.push_str("*\n");
            }
            is_left_out = true;
            continue;
        }
        (last, is_left_out) = (Some(chunk), false);
        let _ = write!(out, "{begin:08x}: ");
        let mut now = None;
        for (i, byte) in chunk.iter().enumerate() {
            let part = parts.get(begin + i).copied();
            if part != now {
                out.push_str(part.map_or(RESET, Part::colour));
                now = part;
            }
            let _ = write!(out, "{byte:02x}{}", if i % 2 == 1 { " " } else { "" });
        }
        if now.is_some() {
            out.push_str(RESET);
        }
        let width = chunk.len() * 2 + chunk.len() / 2;
        let _ = write!(out, "{} ", " ".repeat((PER_ROW * 5 / 2).saturating_sub(width)));
        let letter = |b: &u8| if (0x20..0x7F).contains(b) { char::from(*b) } else { '.' };
        out.extend(chunk.iter().map(letter));
        out.push('\n');
    }
    out
}

/// Of each byte, as far as the header can be believed.
fn parts(inspected: &Inspected) -> Vec<Part> {
    let page = inspected.page();
    let length = inspected.bytes.len();
    let mut parts = vec![Part::Tuple; length];
    let mut paint = |from: usize, to: usize, part: Part| {
        let to = to.min(length);
        if from < to {
            parts[from..to].fill(part);
        }
    };
    let [lower, upper, special] = [page.lower(), page.upper(), page.special()].map(usize::from);
    if inspected.insane.is_none() && !page.is_new() {
        paint(lower, upper, Part::Free);
        paint(24, lower, Part::LinePointers);
        paint(special, length, Part::Special);
        for line in &inspected.lines {
            if let Some(tuple) = &line.tuple {
                let begin = usize::from(line.pointer.offset);
                paint(begin, begin + tuple.hoff.max(23), Part::TupleHeader);
            }
        }
    }
    paint(0, 24, Part::Header);
    paint(8, 10, Part::Checksum);
    parts
}
