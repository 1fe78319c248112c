//! Values of variable length: how they are stored, and what is in them when
//! they were compressed or moved to a TOAST table (`varatt.h`, `detoast.c`).

use super::pglz;
use super::{u32_at, usize_of};

/// `VARHDRSZ`, the length of the long header; it counts in all lengths.
const HEADER_LEN: usize = 4;
/// `VARTAG_ONDISK`; other tags are found in memory only.
const ON_DISK: u8 = 18;
/// `TOAST_POINTER_SIZE`, of which two bytes are header and tag.
const TOAST_POINTER_LEN: usize = 18;
/// Sizes have 30 bits: no value is longer.
const SIZE_MAX: u32 = 0x3FFF_FFFF;
/// Neither method makes more than so many bytes of one: in LZ4 a byte adds 255
/// to a length, in pglz three bytes stand for 273.
const GROWTH_MAX: usize = 256;

/// How a value was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Pglz,
    /// Since PostgreSQL 14.
    Lz4,
}

/// A varlena as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Varlena<'a> {
    /// The payload behind a header of one byte.
    Short(&'a [u8]),
    /// The payload behind a header of four bytes.
    Plain(&'a [u8]),
    Compressed {
        method: Method,
        /// Of the payload, when it is unpacked.
        raw_size: u32,
        data: &'a [u8],
    },
    External(ToastPointer),
}

/// Where in a TOAST table a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToastPointer {
    /// Of the payload, when it is unpacked.
    pub raw_size: u32,
    /// Of all chunks together.
    pub stored_size: u32,
    /// None if the chunks hold the payload itself.
    pub method: Option<Method>,
    /// `chunk_id`.
    pub value_id: u32,
    /// The OID of the TOAST table.
    pub toast_relid: u32,
}

impl Method {
    fn of(bits: u32) -> Option<Self> {
        match bits {
            0 => Some(Method::Pglz),
            1 => Some(Method::Lz4),
            _ => None,
        }
    }
}

/// Whether the value begins with a header of four bytes.
pub(super) fn has_long_header(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first & 1 == 0)
}

/// The length of the varlena at the front of these bytes, with its header.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    match *bytes.first()? {
        1 => (*bytes.get(1)? == ON_DISK).then_some(TOAST_POINTER_LEN),
        short if short & 1 != 0 => Some(usize::from(short >> 1)),
        _ => Some(usize_of(u32_at(bytes, 0)? >> 2)).filter(|length| *length >= HEADER_LEN),
    }
}

/// The number of the value in TOAST that a whole varlena points to, whatever
/// else stands in it.
pub(super) fn value_id(bytes: &[u8]) -> Option<u32> {
    let is_pointer = bytes.len() == TOAST_POINTER_LEN && bytes.starts_with(&[1, ON_DISK]);
    u32_at(bytes, 2 + 8).filter(|_| is_pointer)
}

impl<'a> Varlena<'a> {
    /// Reads a whole varlena. None if no value is stored like this.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if length(bytes)? != bytes.len() {
            return None;
        }
        match bytes[0] {
            1 => ToastPointer::parse(&bytes[2..]).map(Varlena::External),
            first if first & 1 != 0 => Some(Varlena::Short(&bytes[1..])),
            first if first & 2 != 0 => {
                let (raw_size, method) = size_and_method(u32_at(bytes, HEADER_LEN)?)?;
                Some(Varlena::Compressed { method, raw_size, data: bytes.get(2 * HEADER_LEN..)? })
            }
            _ => Some(Varlena::Plain(&bytes[HEADER_LEN..])),
        }
    }

    /// The payload of a value that is neither compressed nor elsewhere.
    pub(super) fn in_place(&self) -> Option<&'a [u8]> {
        match *self {
            Varlena::Short(payload) | Varlena::Plain(payload) => Some(payload),
            _ => None,
        }
    }

    /// The payload of a value that is in the tuple itself, unpacked to at most
    /// `limit` bytes. None for a value in a TOAST table.
    pub fn inline(&self, limit: usize) -> Option<std::borrow::Cow<'a, [u8]>> {
        match *self {
            Varlena::Short(payload) | Varlena::Plain(payload) => Some(payload.into()),
            Varlena::Compressed { method, raw_size, data } => {
                decompress(method, data, raw_size, limit).map(Into::into)
            }
            Varlena::External(_) => None,
        }
    }
}

impl ToastPointer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |i: usize| u32_at(bytes, 4 * i);
        let raw_size = word(0)?.checked_sub(4).filter(|size| *size <= SIZE_MAX)?;
        let info = word(1)?;
        let stored_size = info & SIZE_MAX;
        let method = match stored_size.cmp(&raw_size) {
            std::cmp::Ordering::Less => Some(Method::of(info >> 30)?),
            std::cmp::Ordering::Equal if info >> 30 == 0 => None,
            _ => return None,
        };
        Some(Self { raw_size, stored_size, method, value_id: word(2)?, toast_relid: word(3)? })
    }
}

/// `va_tcinfo`: 30 bits of size, two of method. Before PostgreSQL 14 all 32
/// were the size, which never had more than 30.
fn size_and_method(info: u32) -> Option<(u32, Method)> {
    Some((info & SIZE_MAX, Method::of(info >> 30)?))
}

/// Unpacks compressed data; None unless they give exactly `raw_size` bytes, or
/// if that is above `limit`.
pub fn decompress(method: Method, data: &[u8], raw_size: u32, limit: usize) -> Option<Vec<u8>> {
    let size = usize_of(raw_size);
    // Before memory is asked for: can these data grow to that at all?
    if size > limit || size / GROWTH_MAX > data.len() {
        return None;
    }
    match method {
        Method::Pglz => pglz::decompress(data, size),
        Method::Lz4 => {
            let mut raw = vec![0; size];
            let unpacked = lz4_flex::block::decompress_into(data, &mut raw).ok()?;
            (unpacked == size).then_some(raw)
        }
    }
}

/// The payload of a value whose chunks, in their order, are `bytes`. None
/// unless all lengths agree.
pub fn unpack_external(pointer: &ToastPointer, bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() != usize_of(pointer.stored_size) {
        return None;
    }
    let Some(method) = pointer.method else {
        return (pointer.raw_size == pointer.stored_size).then(|| bytes.to_vec());
    };
    // Compressed data are stored with their own size and method before them.
    if size_and_method(u32_at(bytes, 0)?)? != (pointer.raw_size, method) {
        return None;
    }
    decompress(method, bytes.get(4..)?, pointer.raw_size, usize_of(SIZE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn pointer(words: [u32; 4]) -> Vec<u8> {
        let mut bytes = vec![1, ON_DISK];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    #[test]
    fn each_way_of_storage_is_told_by_the_first_byte() {
        assert_eq!(Varlena::parse(b"\x03"), Some(Varlena::Short(b"")));
        assert_eq!(Varlena::parse(b"\x07ab"), Some(Varlena::Short(b"ab")));
        assert_eq!(Varlena::parse(b"\x18\0\0\0ab"), Some(Varlena::Plain(b"ab")));
        let lz4 = Varlena::Compressed { method: Method::Lz4, raw_size: 9, data: b"x" };
        assert_eq!(Varlena::parse(b"\x26\0\0\0\x09\0\0\x40x"), Some(lz4));
        let external = ToastPointer {
            raw_size: 100,
            stored_size: 40,
            method: Some(Method::Pglz),
            value_id: 7,
            toast_relid: 8,
        };
        assert_eq!(Varlena::parse(&pointer([104, 40, 7, 8])), Some(Varlena::External(external)));
    }

    #[test]
    fn what_no_value_is_stored_like_is_none() {
        let wrong: [&[u8]; 8] = [
            b"",
            b"\x05",
            b"\x05ab",
            b"\x0c\0\0\0",
            b"\x18\0\0",
            b"\x1a\0\0\0ab",
            // A method that does not exist.
            b"\x26\0\0\0\x09\0\0\x80x",
            b"\x01\x03aaaaaaaa",
        ];
        for bytes in wrong {
            assert_eq!(Varlena::parse(bytes), None, "{bytes:?}");
        }
        // Larger when compressed; too short; a method that is none, or not used.
        for words in
            [[104, 101, 7, 8], [3, 3, 7, 8], [104, 2 << 30 | 40, 7, 8], [104, 1 << 30 | 100, 7, 8]]
        {
            assert_eq!(Varlena::parse(&pointer(words)), None, "{words:?}");
        }
    }

    #[test]
    fn a_copy_may_overlap_with_what_it_makes() {
        // Two letters, and seven more from two back; then all nine again, and one more.
        let data = b"\x0cab\x04\x02\x07\x09";
        let raw = decompress(Method::Pglz, data, 19, LIMIT).expect("sound data");
        assert_eq!(raw, b"ababababaababababaa");
        // Eighteen and what a third byte says, from one back.
        let raw = decompress(Method::Pglz, b"\x02a\x0f\x01\xff", 274, LIMIT);
        assert_eq!(raw, Some(vec![b'a'; 274]));
    }

    #[test]
    fn corrupt_data_give_nothing() {
        let wrong: [(&[u8], u32); 6] = [
            (b"\x00ab", 3),
            (b"\x00abc", 2),
            (b"\x01\x00\x01", 3),
            (b"\x02a\x00\x00", 4),
            (b"\x02a\x00", 4),
            (b"\x02a\x0f\x01", 19),
        ];
        for (data, size) in wrong {
            assert_eq!(decompress(Method::Pglz, data, size, LIMIT), None, "{data:?}");
        }
        assert_eq!(decompress(Method::Lz4, b"\xf0", 100, LIMIT), None);
        assert_eq!(decompress(Method::Lz4, b"\x20ab", 3, LIMIT), None);
        assert_eq!(decompress(Method::Lz4, b"\x20ab", 2, LIMIT), Some(b"ab".to_vec()));
        assert_eq!(decompress(Method::Lz4, b"\x20ab", 2, 1), None);
    }

    #[test]
    fn no_memory_is_taken_for_what_the_data_cannot_grow_to() {
        for method in [Method::Pglz, Method::Lz4] {
            assert_eq!(decompress(method, &[0; 1000], SIZE_MAX, usize::MAX), None);
        }
    }

    #[test]
    fn chunks_are_unpacked_only_if_every_length_agrees() {
        let parse = |words| match Varlena::parse(&pointer(words)) {
            Some(Varlena::External(pointer)) => pointer,
            other => panic!("{other:?}"),
        };
        let plain = parse([6, 2, 7, 8]);
        assert_eq!(unpack_external(&plain, b"ab"), Some(b"ab".to_vec()));
        assert_eq!(unpack_external(&plain, b"abc"), None);
        let packed = parse([278, 9, 7, 8]);
        let with_info = |info: u32| [&info.to_le_bytes(), b"\x02a\x0f\x01\xff".as_slice()].concat();
        assert_eq!(unpack_external(&packed, &with_info(274)), Some(vec![b'a'; 274]));
        for info in [273, 1 << 30 | 274] {
            assert_eq!(unpack_external(&packed, &with_info(info)), None);
        }
    }
}
