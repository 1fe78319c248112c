//! A heap tuple: its header, and the walk over its attributes.

use super::varlena;
use super::{u16_at, u32_at};

/// `SizeofHeapTupleHeader`: the NULL bitmap begins behind it.
const HEADER_LEN: usize = 23;

const HAS_NULL: u16 = 0x0001;
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
        let bitmap = if self.has_nulls() { own.div_ceil(8) } else { 0 };
        let oid = if self.infomask() & HAS_OID != 0 { 4 } else { 0 };
        if own > natts {
            Some("the tuple has more attributes than its relation")
        } else if self.hoff() > self.bytes.len() {
            Some("t_hoff points behind the tuple")
        } else if !self.hoff().is_multiple_of(8) {
            Some("t_hoff is not aligned")
        } else if self.hoff() != Align::Double.up(HEADER_LEN + bitmap + oid) {
            Some("t_hoff does not fit the number of attributes")
        } else {
            None
        }
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
