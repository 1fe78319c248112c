//! Points, and what is made of them (`geo_ops.c`).

use super::float::float8;
use super::i32_at;

/// Two floating point numbers.
const POINT_LEN: usize = 16;

pub(super) fn point(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    surrounded([b"(", b")"], value, float8, 8, out)
}

pub(super) fn lseg(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    surrounded([b"[", b"]"], value, point, POINT_LEN, out)
}

pub(super) fn r#box(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    surrounded([b"", b""], value, point, POINT_LEN, out)
}

pub(super) fn line(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    surrounded([b"{", b"}"], value, float8, 8, out)
}

pub(super) fn circle(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (center, radius) = value.split_at_checked(POINT_LEN)?;
    out.push(b'<');
    point(center, out)?;
    out.push(b',');
    float8(radius, out)?;
    out.push(b'>');
    Some(())
}

/// The number of points, whether it is closed, four bytes of padding, and the
/// points.
pub(super) fn path(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let brackets: [&[u8]; 2] = match i32_at(value, 4)? {
        0 => [b"[", b"]"],
        1 => [b"(", b")"],
        _ => return None,
    };
    points(brackets, i32_at(value, 0)?, value.get(12..)?, out)
}

/// The number of points, the box around them, and the points.
pub(super) fn polygon(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    points([b"(", b")"], i32_at(value, 0)?, value.get(4 + 2 * POINT_LEN..)?, out)
}

fn points(brackets: [&[u8]; 2], count: i32, points: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let count = usize::try_from(count).ok().filter(|count| *count > 0)?;
    if !points.len().is_multiple_of(POINT_LEN) || points.len() / POINT_LEN != count {
        return None;
    }
    surrounded(brackets, points, point, POINT_LEN, out)
}

fn surrounded(
    [open, close]: [&[u8]; 2],
    value: &[u8],
    write: super::Write,
    len: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    out.extend_from_slice(open);
    for (i, part) in value.chunks(len).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(part, out)?;
    }
    out.extend_from_slice(close);
    Some(())
}
