//! Texts, and what is written byte by byte.

use super::i32_at;
use super::{u16_at, u32_at};
use std::io::Write as _;

pub(super) fn as_it_is(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(value);
    Some(())
}

/// Ends with its first NUL.
pub(super) fn name(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let end = value.iter().position(|byte| *byte == 0)?;
    as_it_is(&value[..end], out)
}

/// `"char"`. One that is not ASCII is written by 15 and before as it is, and
/// in octal since.
pub(super) fn single(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match value {
        [0] => Some(()),
        [1..=0x7F] => as_it_is(value, out),
        _ => None,
    }
}

pub(super) fn boolean(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match value {
        [0] => as_it_is(b"f", out),
        [1] => as_it_is(b"t", out),
        _ => None,
    }
}

/// A declaration would be written anew, and a newline that then comes first is
/// left out.
pub(super) fn xml(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if value.starts_with(b"<?xml") {
        return None;
    }
    as_it_is(value.strip_prefix(b"\n").unwrap_or(value), out)
}

pub(super) fn bytea(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.reserve(2 + 2 * value.len());
    out.extend_from_slice(b"\\x");
    hex(value, out);
    Some(())
}

pub(super) fn uuid(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    for (i, byte) in value.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        hex(&[*byte], out);
    }
    Some(())
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(
        bytes
            .iter()
            .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0x0F)]]),
    );
}

pub(super) fn tid(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let block = u32::from(u16_at(value, 0)?) << 16 | u32::from(u16_at(value, 2)?);
    write!(out, "({block},{})", u16_at(value, 4)?).ok()
}

pub(super) fn pg_lsn(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    write!(out, "{:X}/{:X}", u32_at(value, 4)?, u32_at(value, 0)?).ok()
}

/// `bit` and `bit varying`: the number of bits, and the bits from the highest.
pub(super) fn bits(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let count = usize::try_from(i32_at(value, 0)?).ok()?;
    let bytes = &value[4..];
    if count.div_ceil(8) != bytes.len() {
        return None;
    }
    let bit = |i: usize| bytes[i / 8] >> (7 - i % 8) & 1;
    // What is left of the last byte is zero.
    if (count..8 * bytes.len()).any(|i| bit(i) != 0) {
        return None;
    }
    out.extend((0..count).map(|i| b'0' + bit(i)));
    Some(())
}
