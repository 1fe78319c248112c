//! What is wrong with a page, as far as its bytes tell by themselves.
//!
//! First what tells most: a page of zeros where none belongs, a checksum that
//! does not fit, a header that makes no sense, and then what is behind it.
//! Nothing that PostgreSQL 10 to 18 write is found wrong.

use super::{LineState, Page, Tuple, btree, checksum, u16_at};
use std::fmt;

/// `MaxHeapAttributeNumber`: attributes may have been added since somebody asked
/// how many there are.
const ATTRIBUTES_MAX: usize = 1600;

/// `SEQ_MAGIC` (`sequence.c`).
const SEQUENCE_MAGIC: u16 = 0x1717;

/// What the pages of a file hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// Tables, materialised views, TOAST tables.
    Heap,
    Sequence,
    Btree,
    /// An index of which each page ends with this mark (`HASHO_PAGE_ID`,
    /// `GIST_PAGE_ID`, `SPGIST_PAGE_ID`).
    Marked(u16),
    /// The main fork of a relation that is not known: pages without a special space
    /// are those of a heap.
    Unknown,
    /// Other indexes; the free space map, the visibility map; what is not known.
    Other,
}

impl Kind {
    /// By `pg_class.relkind` and `relam`; the OIDs of the access methods are the
    /// same everywhere (`pg_am.dat`). Before 12 tables have none.
    pub fn of(relkind: char, access_method: u32) -> Self {
        match (relkind, access_method) {
            ('r' | 't' | 'm', 0 | 2) => Self::Heap,
            ('S', _) => Self::Sequence,
            ('i', 403) => Self::Btree,
            ('i', 405) => Self::Marked(0xFF80),
            ('i', 783) => Self::Marked(0xFF81),
            ('i', 4000) => Self::Marked(0xFF82),
            _ => Self::Other,
        }
    }

    /// Whether its first page is written before any other.
    fn has_first_page(self) -> bool {
        !matches!(self, Self::Heap | Self::Unknown | Self::Other)
    }
}

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is all zeros, and the file cannot begin with such: unless it is new,
    /// and its first page is still in the server's memory.
    Zeros,
    Checksum {
        stored: u16,
        computed: u16,
    },
    Header(&'static str),
    /// Of a line pointer.
    Item {
        number: u16,
        what: &'static str,
    },
    /// What is behind `pd_special`.
    Special(&'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeros => {
                f.write_str("the page is all zeros, and the file has others that are older")
            }
            Self::Checksum { stored, computed } => {
                write!(f, "the page carries the checksum {stored}, and its bytes have {computed}")
            }
            Self::Header(what) | Self::Special(what) => f.write_str(what),
            Self::Item { number, what } => write!(f, "line pointer {number}: {what}"),
        }
    }
}

/// Looks at a page as a block of its fork, counted through all segments. None:
/// nothing is wrong with it. `checksums`: whether the cluster has them.
pub fn check(bytes: &[u8], block: u32, kind: Kind, checksums: bool) -> Option<Problem> {
    let page = Page::new(bytes);
    // Most pages are not, as their first words tell.
    if page.is_new() {
        return (block == 0 && kind.has_first_page()).then_some(Problem::Zeros);
    }
    // To the server a page without pd_upper is a new one, checksum or not.
    if checksums && page.upper() != 0 {
        let (stored, computed) = (page.checksum(), checksum::checksum(bytes, block));
        if stored != computed {
            return Some(Problem::Checksum { stored, computed });
        }
    }
    if let Some(what) = page.insane() {
        return Some(Problem::Header(what));
    }
    match kind {
        Kind::Heap => heap(page),
        Kind::Unknown if usize::from(page.special()) == bytes.len() => heap(page),
        Kind::Sequence => (u16_at(bytes, usize::from(page.special())) != Some(SEQUENCE_MAGIC))
            .then_some(Problem::Special("the page is not marked as that of a sequence")),
        Kind::Btree => {
            (!btree::is_sound(bytes)).then_some(Problem::Special("the page is not one of a b-tree"))
        }
        Kind::Marked(mark) => {
            let end = bytes.len().saturating_sub(2);
            (u16_at(bytes, end) != Some(mark))
                .then_some(Problem::Special("the page does not end with the mark of its index"))
        }
        Kind::Unknown | Kind::Other => None,
    }
}

fn heap(page: Page<'_>) -> Option<Problem> {
    page.line_pointers().find_map(|(number, pointer)| {
        // A dead one may have its tuple still.
        let has_tuple = matches!(pointer.flags, LineState::Normal | LineState::Dead);
        let of_tuple = || match page.item(pointer).and_then(Tuple::new) {
            _ if !has_tuple || pointer.length == 0 => None,
            None => Some("its tuple does not lie on the page"),
            Some(tuple) => tuple.insane(ATTRIBUTES_MAX),
        };
        let what = page.insane_pointer(pointer).or_else(of_tuple)?;
        Some(Problem::Item { number, what })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(special: usize) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        let special = u16::try_from(512 - special).expect("small");
        for (at, value) in [(12, 24), (14, special), (16, special), (18, 512 | 4)] {
            bytes[at..at + 2].copy_from_slice(&u16::to_le_bytes(value));
        }
        bytes
    }

    #[test]
    fn zeros_are_wrong_only_where_a_file_begins_otherwise() {
        for (kind, block, wrong) in [
            (Kind::Heap, 0, false),
            (Kind::Btree, 0, true),
            (Kind::Btree, 1, false),
            (Kind::Sequence, 0, true),
            (Kind::Other, 0, false),
        ] {
            let found = check(&[0; 512], block, kind, true);
            assert_eq!(found.is_some(), wrong, "{kind:?} {block}");
        }
    }

    #[test]
    fn a_checksum_is_told_before_anything_else_and_only_where_there_are_any() {
        let mut bytes = page(0);
        let computed = checksum::checksum(&bytes, 3);
        bytes[8..10].copy_from_slice(&computed.to_le_bytes());
        assert_eq!(check(&bytes, 3, Kind::Heap, true), None);
        let wrong = check(&bytes, 4, Kind::Heap, true);
        assert!(matches!(wrong, Some(Problem::Checksum { stored, .. }) if stored == computed));
        assert_eq!(check(&bytes, 4, Kind::Heap, false), None);
        bytes[10] = 0xFF;
        assert!(matches!(check(&bytes, 3, Kind::Heap, true), Some(Problem::Checksum { .. })));
        assert!(matches!(check(&bytes, 3, Kind::Heap, false), Some(Problem::Header(_))));
    }

    #[test]
    fn a_page_of_another_kind_is_found() {
        let mut bytes = page(8);
        assert!(check(&bytes, 0, Kind::Sequence, false).is_some());
        assert!(check(&bytes, 0, Kind::Marked(0xFF81), false).is_some());
        assert!(check(&bytes, 0, Kind::Btree, false).is_some());
        bytes[504..506].copy_from_slice(&SEQUENCE_MAGIC.to_le_bytes());
        assert_eq!(check(&bytes, 0, Kind::Sequence, false), None);
        bytes[510..].copy_from_slice(&0xFF81_u16.to_le_bytes());
        assert_eq!(check(&bytes, 0, Kind::Marked(0xFF81), false), None);
    }

    #[test]
    fn line_pointers_that_lead_nowhere_are_found() {
        let mut bytes = page(0);
        bytes[12..14].copy_from_slice(&28_u16.to_le_bytes());
        // Redirected to number 2 of 1; normal, behind the page.
        for (pointer, wrong) in [
            (0_u32, false),
            (2 | 2 << 15, true),
            (1 | 2 << 15, false),
            (510 | 1 << 15 | 30 << 17, true),
        ] {
            bytes[24..28].copy_from_slice(&pointer.to_le_bytes());
            assert_eq!(check(&bytes, 0, Kind::Heap, false).is_some(), wrong, "{pointer:#x}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let kinds = [Kind::Heap, Kind::Sequence, Kind::Btree, Kind::Marked(1), Kind::Other];
        let mut seed = 1_u32;
        let mut bytes = page(16);
        for round in 0..20_000_usize {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (seed >> 8) as usize % if round % 2 == 0 { 64 } else { bytes.len() };
            bytes[at] = seed.to_le_bytes()[3];
            for kind in kinds {
                check(&bytes[..bytes.len() - round % 5], 0, kind, round % 3 == 0);
            }
        }
    }
}
