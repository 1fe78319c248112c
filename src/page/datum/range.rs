//! Ranges (`rangetypes.h`): the type, the bounds that there are, and a byte of
//! flags.

use super::{Type, u32_at};
use crate::page::varlena::Varlena;

const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;

/// A range type of this OID, with bounds of that type.
pub(super) fn range(oid: u32, element: u32, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let element = super::plain(element)?;
    let (flags, value) = value.split_last()?;
    if u32_at(value, 0)? != oid {
        return None;
    }
    // The bounds are aligned from here on, too: it is the eighth byte.
    let data = &value[4..];
    let (lower, upper) = match *flags {
        EMPTY => {
            out.extend_from_slice(b"empty");
            return data.is_empty().then_some(());
        }
        flags if flags > 0x1F || flags & EMPTY != 0 => return None,
        flags => (flags & LOWER_INFINITE == 0, flags & UPPER_INFINITE == 0),
    };
    out.push(if flags & LOWER_INCLUSIVE != 0 { b'[' } else { b'(' });
    let mut at = 0;
    if lower {
        at = bound(element, data, at, out)?;
    }
    out.push(b',');
    if upper {
        at = bound(element, data, at, out)?;
    }
    out.push(if flags & UPPER_INCLUSIVE != 0 { b']' } else { b')' });
    (at == data.len()).then_some(())
}

/// Appends the bound that begins at `at`, and returns where it ends.
fn bound(element: &Type, data: &[u8], at: usize, out: &mut Vec<u8>) -> Option<usize> {
    let (value, end) = element.stored.value(data, at)?;
    let value = match element.stored.len {
        -1 => Varlena::parse(value)?.in_place()?,
        _ => value,
    };
    let mut text = Vec::new();
    element.text(value, &mut text)?;
    // Of the types that are known only a time has what must be quoted.
    if text.contains(&b' ') {
        text.insert(0, b'"');
        text.push(b'"');
    }
    out.extend_from_slice(&text);
    Some(end)
}
