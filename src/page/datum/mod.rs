//! Values as text: what the type's output function, and so COPY, would say
//! under the settings that every session pins (`DateStyle` ISO, `IntervalStyle`
//! postgres, `TimeZone` UTC, `bytea_output` hex, `extra_float_digits` 3).
//!
//! Only types that need no catalog are known: no enums, domains, composites
//! and ranges of one's own; and none that depends on a locale. Floating point numbers are
//! written as PostgreSQL 12 and later do, in the fewest digits that give the
//! same number; 10 and 11 write up to 17 digits.
//!
//! What is not understood, or does not agree with itself, is None: nothing is
//! guessed.

mod array;
mod float;
mod geometry;
mod jsonb;
mod network;
mod numeric;
mod range;
mod text;
mod time;
mod tsvector;

use super::tuple::{Align, Attribute};
use super::{u16_at, u32_at};
use std::io::Write as _;

/// The server can make no longer text of one value (`MaxAllocSize`): a few bytes
/// can stand for very many digits.
const TEXT_MAX: usize = 0x3FFF_FFFF;

/// Appends the text of a value to what is there.
type Write = fn(&[u8], &mut Vec<u8>) -> Option<()>;

struct Type {
    oid: u32,
    array_oid: u32,
    stored: Attribute,
    write: Write,
}

const fn of(oid: u32, array_oid: u32, len: i16, align: Align, write: Write) -> Type {
    Type { oid, array_oid, stored: Attribute { len, align }, write }
}

/// In the order of their OIDs, as in `pg_type.dat`: none of them ever changes.
#[rustfmt::skip]
const TYPES: &[Type] = &[
    of(16, 1000, 1, Align::Char, text::boolean),
    of(17, 1001, -1, Align::Int, text::bytea),
    of(18, 1002, 1, Align::Char, text::single),
    of(19, 1003, 64, Align::Char, text::name),
    of(20, 1016, 8, Align::Double, |v, out| write!(out, "{}", i64::from_le_bytes(v.try_into().ok()?)).ok()),
    of(21, 1005, 2, Align::Short, |v, out| write!(out, "{}", i16::from_le_bytes(v.try_into().ok()?)).ok()),
    of(23, 1007, 4, Align::Int, |v, out| write!(out, "{}", i32_at(v, 0)?).ok()),
    of(25, 1009, -1, Align::Int, text::as_it_is),
    of(26, 1028, 4, Align::Int, unsigned),
    of(27, 1010, 6, Align::Short, text::tid),
    of(28, 1011, 4, Align::Int, unsigned),
    of(29, 1012, 4, Align::Int, unsigned),
    of(114, 199, -1, Align::Int, text::as_it_is),
    of(142, 143, -1, Align::Int, text::xml),
    of(600, 1017, 16, Align::Double, geometry::point),
    of(601, 1018, 32, Align::Double, geometry::lseg),
    of(602, 1019, -1, Align::Double, geometry::path),
    of(BOX, 1020, 32, Align::Double, geometry::r#box),
    of(604, 1027, -1, Align::Double, geometry::polygon),
    of(628, 629, 24, Align::Double, geometry::line),
    of(650, 651, -1, Align::Int, network::cidr),
    of(700, 1021, 4, Align::Int, float::float4),
    of(701, 1022, 8, Align::Double, float::float8),
    of(718, 719, 24, Align::Double, geometry::circle),
    of(774, 775, 8, Align::Int, network::macaddr),
    of(829, 1040, 6, Align::Int, network::macaddr),
    of(869, 1041, -1, Align::Int, network::inet),
    of(1042, 1014, -1, Align::Int, text::as_it_is),
    of(1043, 1015, -1, Align::Int, text::as_it_is),
    of(1082, 1182, 4, Align::Int, time::date),
    of(1083, 1183, 8, Align::Double, time::time),
    of(1114, 1115, 8, Align::Double, time::timestamp),
    of(1184, 1185, 8, Align::Double, time::timestamptz),
    of(1186, 1187, 16, Align::Double, time::interval),
    of(1266, 1270, 12, Align::Double, time::timetz),
    of(1560, 1561, -1, Align::Int, text::bits),
    of(1562, 1563, -1, Align::Int, text::bits),
    of(1700, 1231, -1, Align::Int, numeric::numeric),
    of(2950, 2951, 16, Align::Char, text::uuid),
    of(3220, 3221, 8, Align::Double, text::pg_lsn),
    of(3614, 3643, -1, Align::Int, tsvector::tsvector),
    of(3802, 3807, -1, Align::Int, jsonb::jsonb),
    of(3904, 3905, -1, Align::Int, |v, out| range::range(3904, 23, v, out)),
    of(3906, 3907, -1, Align::Int, |v, out| range::range(3906, 1700, v, out)),
    of(3908, 3909, -1, Align::Double, |v, out| range::range(3908, 1114, v, out)),
    of(3910, 3911, -1, Align::Double, |v, out| range::range(3910, 1184, v, out)),
    of(3912, 3913, -1, Align::Int, |v, out| range::range(3912, 1082, v, out)),
    of(3926, 3927, -1, Align::Double, |v, out| range::range(3926, 20, v, out)),
    of(5069, 271, 8, Align::Double, |v, out| write!(out, "{}", u64::from_le_bytes(v.try_into().ok()?)).ok()),
];

/// The one type whose arrays are written with another delimiter.
const BOX: u32 = 603;

/// Arrays of one dimension that are written without braces: the type, and that
/// of its elements.
const INT2VECTOR: (u32, u32) = (22, 21);
const OIDVECTOR: (u32, u32) = (30, 26);

enum Known {
    Plain(&'static Type),
    Array(&'static Type),
    Vector(&'static Type),
}

fn plain(oid: u32) -> Option<&'static Type> {
    TYPES.binary_search_by_key(&oid, |t| t.oid).ok().map(|at| &TYPES[at])
}

fn find(type_oid: u32) -> Option<Known> {
    let vector = [INT2VECTOR, OIDVECTOR].into_iter().find(|(vector, _)| *vector == type_oid);
    if let Some((_, element)) = vector {
        return plain(element).map(Known::Vector);
    }
    let array = || TYPES.iter().find(|t| t.array_oid == type_oid).map(Known::Array);
    plain(type_oid).map(Known::Plain).or_else(array)
}

/// Whether values of this type can be written.
pub fn is_known(type_oid: u32) -> bool {
    find(type_oid).is_some()
}

/// Whether its values are, or are made of, floating point numbers: their text is
/// another one before PostgreSQL 12.
pub fn has_floats(type_oid: u32) -> bool {
    match find(type_oid) {
        Some(Known::Plain(t) | Known::Array(t)) => {
            matches!(t.oid, 600..=604 | 628 | 700 | 701 | 718)
        }
        _ => false,
    }
}

/// The text of a value: of one of fixed width its bytes, of a varlena the
/// payload, detoasted. Not yet escaped for COPY.
pub fn to_text(type_oid: u32, datum: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match find(type_oid)? {
        Known::Plain(t) => t.text(datum, &mut out)?,
        Known::Array(element) => array::array(element, datum, &mut out)?,
        Known::Vector(element) => array::vector(element, datum, &mut out)?,
    }
    Some(out)
}

impl Type {
    fn text(&self, datum: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let len = usize::try_from(self.stored.len);
        if len.is_ok_and(|len| len != datum.len()) {
            return None;
        }
        (self.write)(datum, out)?;
        (out.len() <= TEXT_MAX).then_some(())
    }
}

fn unsigned(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    write!(out, "{}", u32_at(value, 0)?).ok()
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    u32_at(bytes, at).map(u32::cast_signed)
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    bytes.get(at..)?.first_chunk().map(|bytes| i64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;
