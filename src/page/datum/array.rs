//! Arrays (`array.h`, `arrayfuncs.c`), of any dimensions and lower bounds.

use super::{BOX, Type, i32_at};
use crate::page::varlena::Varlena;
use crate::page::{tuple::Align, u32_at, usize_of};
use std::io::Write as _;

/// `MAXDIM`.
const DIMENSIONS_MAX: usize = 6;

/// Number of dimensions, where the data begin, and the type of the elements.
const HEADER_LEN: usize = 12;

/// The length word of a varlena, which is not in the payload: PostgreSQL counts
/// and aligns from there.
const LENGTH_WORD: usize = 4;

struct Array<'a> {
    element: &'static Type,
    /// Lower bound and length of each.
    dimensions: Vec<(i32, usize)>,
    count: usize,
    /// A bit for each element that is not NULL, if any is.
    nulls: Option<&'a [u8]>,
    data: &'a [u8],
}

pub(super) fn array(element: &'static Type, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let array = Array::parse(element, value)?;
    if array.count == 0 {
        out.extend_from_slice(b"{}");
        return array.data.is_empty().then_some(());
    }
    if array.dimensions.iter().any(|(lower, _)| *lower != 1) {
        for &(lower, length) in &array.dimensions {
            let upper = i64::from(lower) + i64::try_from(length).ok()? - 1;
            write!(out, "[{lower}:{upper}]").ok()?;
        }
        out.push(b'=');
    }
    let delimiter = if element.oid == BOX { b';' } else { b',' };
    // Every so many elements a brace of each dimension opens and closes.
    let strides: Vec<usize> = (0..array.dimensions.len())
        .map(|i| array.dimensions[i..].iter().map(|(_, length)| length).product())
        .collect();
    let braces = |at: usize| strides.iter().filter(|stride| at.is_multiple_of(**stride)).count();
    let mut at = 0;
    let mut text = Vec::new();
    for i in 0..array.count {
        if i > 0 {
            out.push(delimiter);
        }
        out.extend(std::iter::repeat_n(b'{', braces(i)));
        text.clear();
        match array.next(i, &mut at, &mut text)? {
            true => quoted(&text, delimiter, out),
            false => out.extend_from_slice(b"NULL"),
        }
        out.extend(std::iter::repeat_n(b'}', braces(i + 1)));
    }
    (at == array.data.len()).then_some(())
}

/// `int2vector` and `oidvector`: elements with a space between.
pub(super) fn vector(element: &'static Type, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let array = Array::parse(element, value)?;
    let mut at = 0;
    for i in 0..array.count {
        if i > 0 {
            out.push(b' ');
        }
        array.next(i, &mut at, out)?.then_some(())?;
    }
    (array.dimensions.len() <= 1 && at == array.data.len()).then_some(())
}

impl<'a> Array<'a> {
    fn parse(element: &'static Type, value: &'a [u8]) -> Option<Self> {
        let count = usize::try_from(i32_at(value, 0)?).ok().filter(|n| *n <= DIMENSIONS_MAX)?;
        let data_offset = usize_of(u32_at(value, 4)?);
        if u32_at(value, 8)? != element.oid {
            return None;
        }
        let mut dimensions = Vec::with_capacity(count);
        let mut elements = usize::from(count > 0);
        for i in 0..count {
            let length = usize::try_from(i32_at(value, HEADER_LEN + 4 * i)?).ok()?;
            let lower = i32_at(value, HEADER_LEN + 4 * (count + i))?;
            dimensions.push((lower, length));
            elements = elements.checked_mul(length)?;
        }
        let bitmap_at = HEADER_LEN + 8 * count;
        let bitmap_len = if data_offset == 0 { 0 } else { elements.div_ceil(8) };
        // Each has a byte at least, or a bit in the bitmap.
        if elements > 8 * value.len() {
            return None;
        }
        let data_at = Align::Double.up(LENGTH_WORD + bitmap_at + bitmap_len) - LENGTH_WORD;
        if data_offset != 0 && data_offset != data_at + LENGTH_WORD {
            return None;
        }
        let bitmap = value.get(bitmap_at..bitmap_at + bitmap_len)?;
        let nulls = (data_offset != 0).then_some(bitmap);
        Some(Self { element, dimensions, count: elements, nulls, data: value.get(data_at..)? })
    }

    /// Appends the text of the next element, which begins at `at`; false if it
    /// is NULL.
    fn next(&self, i: usize, at: &mut usize, out: &mut Vec<u8>) -> Option<bool> {
        if self.nulls.is_some_and(|bits| bits[i / 8] & 1 << (i % 8) == 0) {
            return Some(false);
        }
        let stored = self.element.stored;
        let (value, end) = stored.value(self.data, *at)?;
        // Each is followed by its padding, the last one, too.
        *at = stored.align.up(end);
        let value = match stored.len {
            -1 => Varlena::parse(value)?.in_place()?,
            _ => value,
        };
        self.element.text(value, out)?;
        Some(true)
    }
}

fn quoted(text: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    let special = |byte: &u8| {
        matches!(byte, b'"' | b'\\' | b'{' | b'}' | b' ' | b'\t'..=b'\r') || *byte == delimiter
    };
    if !text.is_empty() && !text.eq_ignore_ascii_case(b"null") && !text.iter().any(special) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}
