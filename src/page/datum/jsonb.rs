//! `jsonb` (`jsonb.h`): a container holds a word for each child, which has its
//! kind and length, and behind these the children one after the other.

use super::TEXT_MAX;
use super::numeric::numeric;
use crate::page::varlena::Varlena;
use crate::page::{u32_at, usize_of};
use std::io::Write as _;

/// Of a container's header.
const COUNT: u32 = 0x0FFF_FFFF;
const IS_SCALAR: u32 = 0x1000_0000;
const IS_OBJECT: u32 = 0x2000_0000;
const IS_ARRAY: u32 = 0x4000_0000;

/// Of a child's word: the end of the child instead of its length.
const HAS_OFFSET: u32 = 0x8000_0000;
const LENGTH: u32 = 0x0FFF_FFFF;

/// Containers within containers; more than this nobody writes, and the stack
/// is to hold them.
pub(super) const DEPTH_MAX: usize = 500;

enum Child<'a> {
    String(&'a [u8]),
    Numeric(&'a [u8]),
    Word(&'static str),
    Container(&'a [u8]),
}

pub(super) fn jsonb(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    container(value, DEPTH_MAX, out)
}

fn container(bytes: &[u8], depth: usize, out: &mut Vec<u8>) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let header = u32_at(bytes, 0)?;
    let count = usize_of(header & COUNT);
    let is_object = match header & !COUNT {
        IS_OBJECT => true,
        IS_ARRAY => false,
        scalar if scalar == IS_ARRAY | IS_SCALAR && count == 1 => {
            let [child] = children(bytes, 1)?.try_into().ok()?;
            return match child {
                Child::Container(_) => None,
                scalar => scalar.text(depth, out),
            };
        }
        _ => return None,
    };
    let children = children(bytes, count * if is_object { 2 } else { 1 })?;
    if is_object {
        out.push(b'{');
        let (keys, values) = children.split_at(count);
        for (i, (key, value)) in keys.iter().zip(values).enumerate() {
            let Child::String(key) = key else { return None };
            separate(i, out);
            quoted(key, out)?;
            out.extend_from_slice(b": ");
            value.text(depth, out)?;
        }
        out.push(b'}');
    } else {
        out.push(b'[');
        for (i, child) in children.iter().enumerate() {
            separate(i, out);
            child.text(depth, out)?;
        }
        out.push(b']');
    }
    Some(())
}

fn separate(i: usize, out: &mut Vec<u8>) {
    if i > 0 {
        out.extend_from_slice(b", ");
    }
}

/// All children of a container, which they fill to its last byte.
fn children(container: &[u8], count: usize) -> Option<Vec<Child<'_>>> {
    let (words, data) = container[4..].split_at_checked(count.checked_mul(4)?)?;
    let (words, _) = words.as_chunks();
    let mut begin = 0;
    let mut children = Vec::with_capacity(count);
    for word in words {
        let word = u32::from_le_bytes(*word);
        let length = usize_of(word & LENGTH);
        let end = if word & HAS_OFFSET != 0 { length } else { begin + length };
        let bytes = data.get(begin..end)?;
        // What has words in it stands aligned, behind padding that counts.
        let aligned = || bytes.get(begin.next_multiple_of(4) - begin..);
        children.push(match word >> 28 & 7 {
            0 => Child::String(bytes),
            1 => Child::Numeric(aligned()?),
            2 if bytes.is_empty() => Child::Word("false"),
            3 if bytes.is_empty() => Child::Word("true"),
            4 if bytes.is_empty() => Child::Word("null"),
            5 => Child::Container(aligned()?),
            _ => return None,
        });
        begin = end;
    }
    (begin == data.len()).then_some(children)
}

impl Child<'_> {
    fn text(&self, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        match *self {
            Child::String(text) => quoted(text, out),
            Child::Numeric(varlena) => numeric(Varlena::parse(varlena)?.in_place()?, out),
            Child::Word(word) => write!(out, "{word}").ok(),
            Child::Container(bytes) => container(bytes, depth, out),
        }?;
        (out.len() <= TEXT_MAX).then_some(())
    }
}

/// As `escape_json` does.
fn quoted(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0C => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1F => write!(out, "\\u{byte:04x}").ok()?,
            _ => out.push(byte),
        }
    }
    out.push(b'"');
    Some(())
}
