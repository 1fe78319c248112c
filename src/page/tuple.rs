//! A heap tuple: its header, and the walk over its attributes.

use super::varlena;
use super::{u16_at, u32_at};

/// `SizeofHeapTupleHeader`: the NULL bitmap begins behind it.
const HEADER_LEN: usize = 23;

const HAS_NULL: u16 = 0x0001;
/// Both hint bits of xmin together.
pub(super) const FROZEN: u16 = 0x0300;
/// Only before PostgreSQL 12: an OID of four bytes ends the header.
const HAS_OID: u16 = 0x0008;
/// `HEAP_NATTS_MASK` of t_infomask2.
const NATTS: u16 = 0x07FF;

/// A tuple's bytes, from its header to the end of its data; there is room for
/// the header at least.
#[derive(Clone, Copy, Debug)]
pub struct Tuple<'a> {
    bytes: &'a [u8],
    header: &'a [u8; HEADER_LEN],
}

/// What of a column the walk needs; dropped columns have it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// `attlen`: bytes, or -1 for a varlena, or -2 for a C string.
    pub len: i16,
    pub align: Align,
}

/// `attalign`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Char,
    Short,
    Int,
    Double,
}

impl Align {
    /// As `pg_attribute.attalign` has it.
    pub fn of(letter: u8) -> Option<Self> {
        match letter {
            b'c' => Some(Align::Char),
            b's' => Some(Align::Short),
            b'i' => Some(Align::Int),
            b'd' => Some(Align::Double),
            _ => None,
        }
    }

    /// The next aligned place.
    pub(super) fn up(self, at: usize) -> usize {
        at.next_multiple_of(match self {
            Align::Char => 1,
            Align::Short => 2,
            Align::Int => 4,
            Align::Double => 8,
        })
    }
}

/// One attribute of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Null,
    /// The column was added after the tuple was written: its value is the
    /// column's missing value (`attmissingval`) or NULL.
    Absent,
    /// A value of fixed width, or a whole varlena with its header, or a C
    /// string with its end.
    Bytes(&'a [u8]),
    /// The walk came out of the tuple here, or upon what no value begins with:
    /// this attribute, and all behind it, cannot be told.
    Broken,
}

impl<'a> Tuple<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.first_chunk().map(|header| Self { bytes, header })
    }

    /// All of it, with the header.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn xmin(&self) -> u32 {
        u32_at(self.header, 0).unwrap_or(0)
    }

    pub fn xmax(&self) -> u32 {
        u32_at(self.header, 4).unwrap_or(0)
    }

    /// Block and number of this version of the row, or of the next.
    pub fn t_ctid(&self) -> (u32, u16) {
        let [high, low, number] = [12, 14, 16].map(|at| u16_at(self.header, at).unwrap_or(0));
        (u32::from(high) << 16 | u32::from(low), number)
    }

    pub fn infomask2(&self) -> u16 {
        u16_at(self.header, 18).unwrap_or(0)
    }

    pub fn infomask(&self) -> u16 {
        u16_at(self.header, 20).unwrap_or(0)
    }

    /// How many columns the table had when the tuple was written.
    pub fn natts(&self) -> u16 {
        self.infomask2() & NATTS
    }

    /// Where the data begin.
    pub fn hoff(&self) -> usize {
        usize::from(self.header[22])
    }

    fn has_nulls(&self) -> bool {
        self.infomask() & HAS_NULL != 0
    }

    /// What no tuple of a relation with so many attributes (dropped ones
    /// count) can have in its header, if anything.
    pub fn insane(&self, natts: usize) -> Option<&'static str> {
        let own = usize::from(self.natts());
        if own > natts {
            Some("the tuple has more attributes than its relation")
        } else if self.hoff() > self.bytes.len() {
            Some("t_hoff points behind the tuple")
        } else if !self.hoff().is_multiple_of(8) {
            Some("t_hoff is not aligned")
        } else if !self.begins_as_of(own) {
            Some("t_hoff does not fit the number of attributes")
        } else {
            None
        }
    }

    /// Whether its data begin where data may.
    pub(super) fn is_whole(&self) -> bool {
        self.hoff() <= self.bytes.len() && self.hoff().is_multiple_of(8)
    }

    /// Whether its data begin where they do in a tuple of so many attributes.
    pub(super) fn begins_as_of(&self, natts: usize) -> bool {
        let bitmap = if self.has_nulls() { natts.div_ceil(8) } else { 0 };
        let oid = if self.infomask() & HAS_OID != 0 { 4 } else { 0 };
        self.hoff() == Align::Double.up(HEADER_LEN + bitmap + oid)
    }

    /// What the tuple holds for each attribute of its relation, in physical
    /// order, dropped ones included.
    pub fn attributes(&self, attributes: &[Attribute]) -> Vec<Found<'a>> {
        self.walk(attributes).0
    }

    /// Whether the attributes of its relation take up the tuple to its last
    /// byte, as they do in every tuple that PostgreSQL writes. Where they do
    /// not, some length among them is wrong.
    pub fn is_filled_by(&self, attributes: &[Attribute]) -> bool {
        self.walk(attributes).1 == Some(self.bytes.len())
    }

    /// And where the last of them ends, if none is broken.
    fn walk(&self, attributes: &[Attribute]) -> (Vec<Found<'a>>, Option<usize>) {
        let data = self.bytes.get(self.hoff()..);
        let mut at = data.filter(|_| self.insane(attributes.len()).is_none()).map(|_| 0);
        let data = data.unwrap_or_default();
        let mut found = Vec::with_capacity(attributes.len());
        for (i, attribute) in attributes.iter().enumerate() {
            found.push(match at {
                None => Found::Broken,
                Some(_) if i >= usize::from(self.natts()) => Found::Absent,
                Some(_) if self.is_null(i) => Found::Null,
                Some(begin) => match attribute.value(data, begin) {
                    Some((value, end)) => {
                        at = Some(end);
                        Found::Bytes(value)
                    }
                    None => {
                        at = None;
                        Found::Broken
                    }
                },
            });
        }
        (found, at.map(|at| at + self.hoff()))
    }

    /// Where the values of these attributes end, counted from the tuple's begin,
    /// as far as it has them; or the number, from 1, of the first that cannot be
    /// told. What the tuple's header says is believed.
    pub(super) fn end_of(&self, attributes: &[Attribute]) -> Result<usize, u16> {
        let data = self.bytes.get(self.hoff()..).unwrap_or_default();
        let mut at = 0;
        for (i, attribute) in attributes.iter().enumerate().take(usize::from(self.natts())) {
            if !self.is_null(i) {
                let value = attribute.value(data, at);
                at = value.ok_or_else(|| u16::try_from(i + 1).unwrap_or(u16::MAX))?.1;
            }
        }
        Ok(self.hoff() + at)
    }

    fn is_null(&self, attribute: usize) -> bool {
        let byte = self.bytes.get(HEADER_LEN + attribute / 8).copied().unwrap_or(0);
        self.has_nulls() && byte & 1 << (attribute % 8) == 0
    }
}

impl Attribute {
    /// The value that begins at `at` or behind the padding there, and where it
    /// ends (`att_align_pointer`, `att_addlength_pointer`).
    pub(super) fn value<'d>(&self, data: &'d [u8], at: usize) -> Option<(&'d [u8], usize)> {
        let begin = match self.len {
            // A varlena with a header of one byte is not aligned, and no
            // varlena begins with a zero, as padding does.
            -1 if *data.get(at)? != 0 => at,
            _ => self.align.up(at),
        };
        let rest = data.get(begin..)?;
        let length = match self.len {
            -1 => {
                // What is aligned has a long header, and nothing else is.
                let (is_padded, is_aligned) = (begin != at, self.align.up(begin) == begin);
                let fits = if varlena::has_long_header(rest) { is_aligned } else { !is_padded };
                varlena::length(rest).filter(|_| fits)?
            }
            -2 => rest.iter().position(|byte| *byte == 0)? + 1,
            len => usize::try_from(len).ok().filter(|len| *len > 0)?,
        };
        Some((rest.get(..length)?, begin + length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARLENA: Attribute = Attribute { len: -1, align: Align::Int };
    const CSTRING: Attribute = Attribute { len: -2, align: Align::Char };
    const BYTE: Attribute = Attribute { len: 1, align: Align::Char };
    const LONG: Attribute = Attribute { len: 8, align: Align::Double };

    fn tuple(nulls: Option<u8>, natts: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 24];
        bytes[18] = natts;
        bytes[20] = u8::from(nulls.is_some());
        bytes[22] = 24;
        bytes[23] = nulls.unwrap_or(0);
        bytes.extend_from_slice(data);
        bytes
    }

    fn walk<'a>(bytes: &'a [u8], attributes: &[Attribute]) -> (Vec<Found<'a>>, bool) {
        let tuple = Tuple::new(bytes).expect("a header");
        assert_eq!(tuple.insane(attributes.len()), None);
        (tuple.attributes(attributes), tuple.is_filled_by(attributes))
    }

    #[test]
    fn short_varlenas_are_not_aligned_and_long_ones_are() {
        let data = b"\x01\x05a\x00\x00\x00\x00\x00\x18\x00\x00\x00xy";
        let bytes = tuple(None, 3, data);
        let short = Found::Bytes(b"\x05a");
        assert_eq!(walk(&bytes, &[BYTE, VARLENA, LONG]).0[..2], [Found::Bytes(b"\x01"), short]);
        let data = b"\x01\x05a\x00\x1c\x00\x00\x00xyz";
        let bytes = tuple(None, 3, data);
        let long = Found::Bytes(b"\x1c\x00\x00\x00xyz");
        let found = vec![Found::Bytes(b"\x01"), short, long];
        assert_eq!(walk(&bytes, &[BYTE, VARLENA, VARLENA]), (found, true));
    }

    #[test]
    fn nulls_take_no_room_and_columns_added_later_are_absent() {
        let bytes = tuple(Some(0b101), 3, b"\x01ab\x00");
        let found =
            vec![Found::Bytes(b"\x01"), Found::Null, Found::Bytes(b"ab\x00"), Found::Absent];
        assert_eq!(walk(&bytes, &[BYTE, LONG, CSTRING, LONG]), (found, true));
    }

    #[test]
    fn behind_a_value_that_leaves_the_tuple_nothing_can_be_told() {
        let wrong: [&[u8]; 6] = [
            b"\x01\x0babc",
            b"\x01\x01\x03aaaaaaaaaaaaaaaa",
            b"\x01\x00\x00\x00\x0c\x00\x00\x00",
            b"\x01\x00\x00\x00\x40\x00\x00\x00ab",
            // Long and not aligned; short and aligned.
            b"\x01\x18\x00\x00\x00ab",
            b"\x01\x00\x00\x00\x05a",
        ];
        for data in wrong {
            let bytes = tuple(None, 3, data);
            let (found, is_filled) = walk(&bytes, &[BYTE, VARLENA, BYTE, LONG]);
            assert_eq!(found[0], Found::Bytes(b"\x01"));
            assert_eq!(found[1..], [Found::Broken; 3], "{data:?}");
            assert!(!is_filled);
        }
    }

    #[test]
    fn a_length_that_is_wrong_but_inside_leaves_a_tuple_that_is_not_filled() {
        let bytes = tuple(None, 1, b"\x07abc");
        assert_eq!(walk(&bytes, &[VARLENA]), (vec![Found::Bytes(b"\x07ab")], false));
    }
}
