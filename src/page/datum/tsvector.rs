//! `tsvector` (`ts_type.h`): lexemes in their order, and where in the document
//! they stand.

use super::{TEXT_MAX, u16_at, u32_at};
use crate::page::usize_of;
use std::io::Write as _;

pub(super) fn tsvector(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let count = usize_of(u32_at(value, 0)?);
    // Of each lexeme a word first: has it positions, its length, and its place.
    let (entries, lexemes) = value[4..].split_at_checked(count.checked_mul(4)?)?;
    let (entries, _) = entries.as_chunks();
    for (i, entry) in entries.iter().enumerate() {
        let entry = u32::from_le_bytes(*entry);
        let (length, begin) = (usize_of(entry >> 1 & 0x7FF), usize_of(entry >> 12));
        // Nothing keeps entries from naming the same lexeme again and again.
        if out.len() > TEXT_MAX {
            return None;
        }
        if i > 0 {
            out.push(b' ');
        }
        quoted(lexemes.get(begin..begin + length)?, out);
        if entry & 1 != 0 {
            positions(lexemes.get((begin + length).next_multiple_of(2)..)?, out)?;
        }
    }
    Some(())
}

fn quoted(lexeme: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for &byte in lexeme {
        if matches!(byte, b'\'' | b'\\') {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'\'');
}

/// How many, and of each two bits of weight and fourteen of position.
fn positions(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let count = usize::from(u16_at(bytes, 0)?);
    if count == 0 {
        return None;
    }
    for i in 0..count {
        let position = u16_at(bytes, 2 + 2 * i)?;
        let weight = ["", "C", "B", "A"][usize::from(position >> 14)];
        let before = if i == 0 { ':' } else { ',' };
        write!(out, "{before}{}{weight}", position & 0x3FFF).ok()?;
    }
    Some(())
}
