//! The bytes of a page: header, line pointers, tuples, their attributes and
//! values, as PostgreSQL 10 to 18 write them on little-endian machines that
//! align to eight bytes.
//!
//! Pure: no IO, nothing outside this folder is named here. Whatever the bytes
//! are, nothing here panics, and nothing allocates by a length that was read
//! without holding it against what is there.

pub mod btree;
pub mod check;
pub mod checksum;
pub mod control;
pub mod copy;
pub mod datum;
pub mod flags;
pub mod flips;
pub mod insane;
mod pglz;
pub mod raw;
pub mod seen;
pub mod tuple;
pub mod varlena;
pub mod visibility;

pub use tuple::{Align, Attribute, Found, Tuple};
pub use varlena::{Method, ToastPointer, Varlena};

/// `SizeOfPageHeaderData`: line pointers begin behind it.
const HEADER_LEN: usize = 24;

/// `sizeof(ItemIdData)`.
const LINE_POINTER_LEN: usize = 4;

/// `PG_PAGE_LAYOUT_VERSION`, since 8.3.
const LAYOUT_VERSION: u8 = 4;

/// `PD_VALID_FLAG_BITS`.
const FLAGS_VALID: u16 = 0x0007;

/// `PD_ALL_VISIBLE`.
const ALL_VISIBLE: u16 = 0x0004;

/// A whole block of a relation's file, whatever it holds.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    bytes: &'a [u8],
}

/// What `lp_flags` of a line pointer say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineState {
    Unused,
    Normal,
    Redirect,
    Dead,
}

/// A line pointer as it stands on the page; where it points to was not looked
/// at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinePointer {
    /// From the start of the page; of a redirected one, the number of another.
    pub offset: u16,
    pub flags: LineState,
    pub length: u16,
}

impl<'a> Page<'a> {
    /// `bytes` are one block: their number is the block size.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The place in WAL behind the last record that changed the page.
    pub fn lsn(&self) -> u64 {
        u64::from(u32_at(self.bytes, 0).unwrap_or(0)) << 32
            | u64::from(u32_at(self.bytes, 4).unwrap_or(0))
    }

    /// The checksum that the page carries; 0 on a cluster without checksums.
    pub fn checksum(&self) -> u16 {
        self.field(8)
    }

    pub fn flags(&self) -> u16 {
        self.field(10)
    }

    pub fn lower(&self) -> u16 {
        self.field(12)
    }

    pub fn upper(&self) -> u16 {
        self.field(14)
    }

    pub fn special(&self) -> u16 {
        self.field(16)
    }

    /// The block size that the header names.
    pub fn size(&self) -> u16 {
        self.field(18) & 0xFF00
    }

    pub fn layout_version(&self) -> u8 {
        self.field(18).to_le_bytes()[0]
    }

    /// The oldest xmax by which something might be pruned, or 0.
    pub fn prune_xid(&self) -> u32 {
        u32_at(self.bytes, 20).unwrap_or(0)
    }

    /// Whether scans look at no tuple's xmin and xmax.
    pub fn is_all_visible(&self) -> bool {
        self.flags() & ALL_VISIBLE != 0
    }

    fn field(&self, at: usize) -> u16 {
        u16_at(self.bytes, at).unwrap_or(0)
    }

    /// Whether all of it is zeros: extended, and never written. The server
    /// takes it for an empty page.
    pub fn is_new(&self) -> bool {
        self.bytes.iter().all(|byte| *byte == 0)
    }

    /// What no page can have in its header, if anything: what the server looks
    /// at before it takes a page (`PageIsVerified`), and what it relies on all
    /// the same. A new page is sane. The checksum is not looked at.
    pub fn insane(&self) -> Option<&'static str> {
        let (lower, upper, special) = (self.lower(), self.upper(), self.special());
        let size = self.bytes.len();
        if self.is_new() {
            None
        } else if size < HEADER_LEN {
            Some("the page is shorter than its header")
        } else if self.flags() & !FLAGS_VALID != 0 {
            Some("pd_flags has bits that do not exist")
        } else if usize::from(lower) < HEADER_LEN {
            Some("pd_lower points into the header")
        } else if lower > upper {
            Some("pd_lower is above pd_upper")
        } else if upper > special {
            Some("pd_upper is above pd_special")
        } else if usize::from(special) > size {
            Some("pd_special points behind the page")
        } else if !special.is_multiple_of(8) {
            Some("pd_special is not aligned")
        } else if usize::from(self.size()) != size || self.layout_version() != LAYOUT_VERSION {
            Some("pd_pagesize_version is of no such page")
        } else {
            None
        }
    }

    /// Whether the server has no tuples of it to read: it is a new page, or it is
    /// refused for its header (`PageIsVerified`).
    pub fn is_refused(&self) -> bool {
        let (lower, upper, special) = (self.lower(), self.upper(), self.special());
        self.is_new()
            || self.flags() & !FLAGS_VALID != 0
            || lower > upper
            || upper > special
            || usize::from(special) > self.bytes.len()
            || !special.is_multiple_of(8)
    }

    /// How many line pointers the header claims, as far as the page goes.
    pub fn line_pointer_count(&self) -> u16 {
        let end = usize::from(self.lower()).min(self.bytes.len());
        let count = end.saturating_sub(HEADER_LEN) / LINE_POINTER_LEN;
        u16::try_from(count).unwrap_or(u16::MAX)
    }

    /// All of them, with their numbers.
    pub fn line_pointers(self) -> impl Iterator<Item = (u16, LinePointer)> + 'a {
        (1..=self.line_pointer_count()).filter_map(move |n| Some((n, self.line_pointer(n)?)))
    }

    /// The line pointer of this number, counted from 1.
    pub fn line_pointer(&self, number: u16) -> Option<LinePointer> {
        self.pointer_at(number).filter(|_| number <= self.line_pointer_count())
    }

    /// What stands at the place of a line pointer, however many the header claims.
    fn pointer_at(&self, number: u16) -> Option<LinePointer> {
        let at = HEADER_LEN + LINE_POINTER_LEN * usize::from(number.checked_sub(1)?);
        let [low, middle] = [u16_at(self.bytes, at)?, u16_at(self.bytes, at + 2)?];
        // Bit fields of 15, 2 and 15 bits, from the lowest.
        let flags = match (middle & 1) << 1 | low >> 15 {
            0 => LineState::Unused,
            1 => LineState::Normal,
            2 => LineState::Redirect,
            _ => LineState::Dead,
        };
        Some(LinePointer { offset: low & 0x7FFF, flags, length: middle >> 1 })
    }

    /// The bytes that a line pointer with storage points to, if they lie
    /// between the line pointers and the end of the page.
    pub fn item(&self, pointer: LinePointer) -> Option<&'a [u8]> {
        let (start, length) = (usize::from(pointer.offset), usize::from(pointer.length));
        if length == 0 || start < usize::from(self.lower()).max(HEADER_LEN) {
            return None;
        }
        self.bytes.get(start..start + length)
    }

    /// What no line pointer of a sound page can be, if anything. What stands on the
    /// page behind it was not looked at.
    pub fn insane_pointer(&self, pointer: LinePointer) -> Option<&'static str> {
        let (start, length) = (usize::from(pointer.offset), usize::from(pointer.length));
        match pointer.flags {
            LineState::Unused if length != 0 => Some("it is unused, and has a length"),
            LineState::Redirect if length != 0 => Some("it is redirected, and has a length"),
            LineState::Redirect
                if pointer.offset < 1 || pointer.offset > self.line_pointer_count() =>
            {
                Some("it is redirected to a line pointer that is not there")
            }
            LineState::Normal if length == 0 => Some("it has no length"),
            LineState::Normal | LineState::Dead if length > 0 => match () {
                () if start < usize::from(self.upper()) => {
                    Some("it points to before pd_upper, where no tuples are")
                }
                () if start + length > usize::from(self.special()) => {
                    Some("what it points to ends behind pd_special")
                }
                () if !start.is_multiple_of(8) => Some("it points to what is not aligned"),
                () => None,
            },
            _ => None,
        }
    }

    /// The tuple at a normal line pointer, if its bytes lie inside of the page
    /// and have room for a tuple's header.
    pub fn tuple(&self, number: u16) -> Option<Tuple<'a>> {
        let pointer = self.line_pointer(number)?;
        if pointer.flags != LineState::Normal {
            return None;
        }
        Tuple::new(self.item(pointer)?)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// A length or an offset that was read: never more than memory has.
fn usize_of(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of one tuple of one int, as PostgreSQL lays it out.
    fn page() -> Vec<u8> {
        let mut bytes = vec![0; 512];
        let mut put = |at: usize, value: u16| {
            bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        };
        for (at, value) in [(12, 28), (14, 480), (16, 512), (18, 512 | 4)] {
            put(at, value);
        }
        // At 480, normal, 28 bytes.
        put(24, 480 | 1 << 15);
        put(26, 28 << 1);
        // One attribute, no NULLs, and the data behind 24 bytes.
        put(480 + 12, 1);
        put(480 + 14, 2);
        put(480 + 16, 3);
        put(480 + 18, 1);
        put(480 + 22, 24);
        put(480 + 24, 7);
        bytes
    }

    fn with(at: usize, value: u16) -> Vec<u8> {
        let mut bytes = page();
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        bytes
    }

    const INT: Attribute = Attribute { len: 4, align: Align::Int };

    #[test]
    fn a_tuple_is_found_where_its_line_pointer_says() {
        let bytes = page();
        let page = Page::new(&bytes);
        assert_eq!((page.insane(), page.line_pointer_count()), (None, 1));
        let pointer = LinePointer { offset: 480, flags: LineState::Normal, length: 28 };
        assert_eq!(page.line_pointers().collect::<Vec<_>>(), [(1, pointer)]);
        let tuple = page.tuple(1).expect("a tuple");
        assert_eq!((tuple.t_ctid(), tuple.natts(), tuple.hoff()), ((1 << 16 | 2, 3), 1, 24));
        assert_eq!(tuple.attributes(&[INT, INT]), [Found::Bytes(&[7, 0, 0, 0]), Found::Absent]);
        assert_eq!((page.line_pointer(0), page.line_pointer(2)), (None, None));
    }

    #[test]
    fn a_header_that_no_page_can_have_is_insane() {
        let wrong = [
            (10, 8),
            (12, 23),
            (12, 481),
            (14, 27),
            (14, 513),
            (16, 520),
            (16, 506),
            (18, 1024 | 4),
            (18, 512 | 5),
        ];
        for (at, value) in wrong {
            assert!(Page::new(&with(at, value)).insane().is_some(), "{value} at {at}");
        }
        assert_eq!(Page::new(&[0; 512]).insane(), None);
        let almost_new = [vec![0; 511], vec![1]].concat();
        assert!(Page::new(&almost_new).insane().is_some());
        assert!(Page::new(&[1; 9]).insane().is_some());
    }

    #[test]
    fn a_tuple_that_leaves_the_page_is_none() {
        for (at, value) in [(24, 485 | 1 << 15), (24, 20 | 1 << 15), (26, 33 << 1), (26, 22 << 1)] {
            assert!(Page::new(&with(at, value)).tuple(1).is_none(), "{value} at {at}");
        }
        // Unused, redirected, dead.
        for (low, middle) in [(480, 28 << 1), (480, 28 << 1 | 1), (480 | 1 << 15, 28 << 1 | 1)] {
            let mut bytes = with(24, low);
            bytes[26..28].copy_from_slice(&u16::to_le_bytes(middle));
            assert!(Page::new(&bytes).tuple(1).is_none());
        }
    }

    #[test]
    fn a_tuple_that_does_not_fit_its_relation_is_insane_and_its_attributes_are_broken() {
        // Two attributes; t_hoff unaligned, behind the end, and of a bitmap that is not there.
        for (at, value) in [(498, 2), (502, 25), (502, 32), (502, 16)] {
            let bytes = with(at, value);
            let tuple = Page::new(&bytes).tuple(1).expect("a tuple");
            assert!(tuple.insane(1).is_some(), "{value} at {at}");
            assert_eq!(tuple.attributes(&[INT]), [Found::Broken]);
            assert!(!tuple.is_filled_by(&[INT]));
        }
    }
}
