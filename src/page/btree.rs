//! One page of a b-tree: the items of a leaf, each with the places in the heap
//! that it points to, and its key.
//!
//! As in `nbtree.h`, `itup.h` and `bufpage.h` of PostgreSQL 10 to 18. A page
//! that is no sound leaf has no items here; of a leaf, an item that does not
//! lie on it is passed over.

use super::tuple::{Attribute, Found};
use super::{LineState, Page, u16_at, u32_at, usize_of};

/// `BTPageOpaqueData`: previous and next page, level, flags, vacuum cycle.
const OPAQUE: usize = 16;
const OPAQUE_NEXT: usize = 4;
const OPAQUE_FLAGS: usize = 12;
const BTP_LEAF: u16 = 1;
const BTP_DELETED: u16 = 1 << 2;
const BTP_META: u16 = 1 << 3;
const BTP_HALF_DEAD: u16 = 1 << 4;
/// The sibling of a page at the edge of the tree.
const P_NONE: u32 = 0;

/// `IndexTupleData`: a place of 6 bytes, and `t_info`.
const TUPLE_HEADER: usize = 8;
/// With a bitmap of NULLs for `INDEX_MAX_KEYS` (32), aligned.
const TUPLE_HEADER_NULLS: usize = 16;
const NULLS: usize = 4;
const TID: usize = 6;
const INDEX_SIZE_MASK: u16 = 0x1FFF;
const INDEX_ALT_TID_MASK: u16 = 0x2000;
const INDEX_NULL_MASK: u16 = 0x8000;
/// In the offset of the place of a tuple that has `INDEX_ALT_TID_MASK`.
const BT_IS_POSTING: u16 = 0x2000;
const BT_OFFSET_MASK: u16 = 0x0FFF;

/// A place in the heap: block and offset.
pub type Tid = (u32, u16);

/// What a leaf knows of rows with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its line pointer.
    pub offset: u16,
    /// Whether a reader has found that nobody sees the row any more (`LP_DEAD`).
    pub dead: bool,
    /// Which attributes are NULL, as in a heap tuple: a bit that is set says
    /// that the value is there. None: no attribute is.
    pub nulls: Option<&'a [u8]>,
    /// The values of the attributes, aligned as if they began at 0.
    pub key: &'a [u8],
    /// Places of 6 bytes each.
    tids: &'a [u8],
}

impl<'a> Item<'a> {
    /// Where the rows are; more than one from PostgreSQL 13 on. With
    /// HOT-updated rows, where the chain of their versions begins.
    pub fn tids(&self) -> impl ExactSizeIterator<Item = Tid> + use<'a> {
        self.tids.chunks_exact(TID).map(|tid| {
            let part = |i| u16::from_le_bytes([tid[i], tid[i + 1]]);
            (u32::from(part(0)) << 16 | u32::from(part(2)), part(4))
        })
    }

    /// The values of the index's attributes, included columns too.
    pub fn values(&self, attributes: &[Attribute]) -> Vec<Found<'a>> {
        let mut at = Some(0);
        let mut found = Vec::with_capacity(attributes.len());
        for (i, attribute) in attributes.iter().enumerate() {
            let bits = self.nulls.map(|bits| bits.get(i / 8).copied().unwrap_or(0));
            found.push(match (at, bits) {
                (None, _) => Found::Broken,
                (_, Some(bits)) if bits & 1 << (i % 8) == 0 => Found::Null,
                (Some(begin), _) => {
                    let value = attribute.value(self.key, begin);
                    at = value.map(|(_, end)| end);
                    value.map_or(Found::Broken, |(value, _)| Found::Bytes(value))
                }
            });
        }
        found
    }
}

/// The neighbours of a leaf: none at the edges of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Siblings {
    pub left: Option<u32>,
    pub right: Option<u32>,
}

/// The items of a leaf, in the order of their keys. None for other pages (the
/// meta page, inner, deleted and empty ones), and for those that are damaged.
pub fn leaf_items(page: &[u8]) -> Option<impl Iterator<Item = Item<'_>>> {
    let page = Page::new(page);
    let opaque = opaque(page)?;
    let flags = u16_at(opaque, OPAQUE_FLAGS)?;
    if flags & BTP_LEAF == 0 || flags & (BTP_DELETED | BTP_META | BTP_HALF_DEAD) != 0 {
        return None;
    }
    // Else the first line pointer is of the high key: a bound, not an item.
    let is_rightmost = u32_at(opaque, OPAQUE_NEXT)? == P_NONE;
    let first = if is_rightmost { 1 } else { 2 };
    Some((first..=page.line_pointer_count()).filter_map(move |number| item(page, number)))
}

/// The neighbours of a page of a b-tree that is sound.
pub fn siblings(page: &[u8]) -> Option<Siblings> {
    let opaque = opaque(Page::new(page))?;
    let page = |at| u32_at(opaque, at).map(|block| Some(block).filter(|b| *b != P_NONE));
    Some(Siblings { left: page(0)?, right: page(OPAQUE_NEXT)? })
}

/// Whether the page is one of a b-tree, as far as its header tells, or was
/// never used: else it is damaged.
pub fn is_sound(page: &[u8]) -> bool {
    let page = Page::new(page);
    page.is_new() || opaque(page).is_some()
}

/// The special space of a page whose header makes sense.
fn opaque(page: Page<'_>) -> Option<&[u8]> {
    let special = page.bytes().get(usize::from(page.special())..)?;
    (!page.is_new() && page.insane().is_none() && special.len() == OPAQUE).then_some(special)
}

fn item(page: Page<'_>, number: u16) -> Option<Item<'_>> {
    let pointer = page.line_pointer(number)?;
    if !matches!(pointer.flags, LineState::Normal | LineState::Dead) {
        return None;
    }
    let tuple = page.item(pointer)?;
    let info = u16_at(tuple, TID)?;
    let tuple = tuple.get(..usize::from(info & INDEX_SIZE_MASK))?;
    let has_nulls = info & INDEX_NULL_MASK != 0;
    let data = if has_nulls { TUPLE_HEADER_NULLS } else { TUPLE_HEADER };
    let own = (u32_at(tuple, 0)?.rotate_left(16), u16_at(tuple, 4)?);
    let (end, tids) = match info & INDEX_ALT_TID_MASK {
        0 => (tuple.len(), tuple.get(..TID)?),
        _ if own.1 & BT_IS_POSTING == 0 => return None, // a bound, which no item is
        _ => {
            let list = usize_of(own.0);
            (list, tuple.get(list..)?.get(..usize::from(own.1 & BT_OFFSET_MASK) * TID)?)
        }
    };
    Some(Item {
        offset: number,
        dead: pointer.flags == LineState::Dead,
        nulls: if has_nulls { Some(tuple.get(TUPLE_HEADER..TUPLE_HEADER + NULLS)?) } else { None },
        key: tuple.get(data..end)?,
        tids,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{Align, HEADER_LEN, LINE_POINTER_LEN};
    use proptest::prelude::*;

    const SIZE: usize = 8192;

    /// A leaf of these tuples, the flags of each line pointer beside it.
    fn leaf(next: u32, flags: u16, tuples: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut page = vec![0; SIZE];
        let mut upper = SIZE - OPAQUE;
        for (i, (lp, tuple)) in tuples.iter().enumerate() {
            upper -= tuple.len().next_multiple_of(8);
            page[upper..upper + tuple.len()].copy_from_slice(tuple);
            let (at, length) = (u32::try_from(upper).unwrap(), u32::try_from(tuple.len()).unwrap());
            let at_pointer = HEADER_LEN + i * LINE_POINTER_LEN;
            let word = at | lp << 15 | length << 17;
            page[at_pointer..at_pointer + 4].copy_from_slice(&word.to_le_bytes());
        }
        let lower = HEADER_LEN + tuples.len() * LINE_POINTER_LEN;
        for (at, value) in [(12, lower), (14, upper), (16, SIZE - OPAQUE), (18, SIZE | 4)] {
            let value = u16::try_from(value).unwrap();
            page[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        let opaque = SIZE - OPAQUE;
        page[opaque + 4..opaque + 8].copy_from_slice(&next.to_le_bytes());
        page[opaque + 12..opaque + 14].copy_from_slice(&flags.to_le_bytes());
        page
    }

    fn tid((block, offset): Tid) -> Vec<u8> {
        [block.rotate_left(16).to_le_bytes().as_slice(), &offset.to_le_bytes()].concat()
    }

    fn tuple(own: Tid, mask: u16, rest: &[u8]) -> Vec<u8> {
        let info = u16::try_from(TUPLE_HEADER + rest.len()).unwrap() | mask;
        [tid(own).as_slice(), &info.to_le_bytes(), rest].concat()
    }

    /// Number, whether it is dead, places, key.
    type Told = (u16, bool, Vec<Tid>, Vec<u8>);

    fn all(page: &[u8]) -> Option<Vec<Told>> {
        let items = leaf_items(page)?;
        Some(items.map(|i| (i.offset, i.dead, i.tids().collect(), i.key.to_vec())).collect())
    }

    #[test]
    fn a_leaf_gives_its_items_with_their_places_and_keys() {
        let plain = tuple((0x12345, 7), 0, &[9; 8]);
        let list = [[5; 8].as_slice(), &tid((1, 2)), &tid((3, 4))].concat();
        let posting = tuple((16, BT_IS_POSTING | 2), INDEX_ALT_TID_MASK, &list);
        let nulls = [&[0b10, 0, 0, 0][..], &[0; 4], &[6; 8]].concat();
        let with_null = tuple((8, 9), INDEX_NULL_MASK, &nulls);
        let tuples = [(1, plain.clone()), (3, posting), (1, with_null), (0, plain)];
        let items = vec![
            (1, false, vec![(0x12345, 7)], vec![9; 8]),
            (2, true, vec![(1, 2), (3, 4)], vec![5; 8]),
            (3, false, vec![(8, 9)], vec![6; 8]),
        ];
        let rightmost = leaf(P_NONE, BTP_LEAF, &tuples);
        assert_eq!(all(&rightmost), Some(items.clone()));
        let third = leaf_items(&rightmost).unwrap().nth(2).unwrap();
        let int = Attribute { len: 4, align: Align::Int };
        assert_eq!(third.nulls, Some(&nulls[..4]));
        assert_eq!(third.values(&[int; 3]), [Found::Null, Found::Bytes(&[6; 4]), Found::Null]);
        let short = Attribute { len: 2, align: Align::Short };
        let values = leaf_items(&rightmost).unwrap().next().unwrap().values(&[short, int, int]);
        assert_eq!(values, [Found::Bytes(&[9; 2]), Found::Bytes(&[9; 4]), Found::Broken]);
        // Elsewhere the first is the high key.
        assert_eq!(all(&leaf(77, BTP_LEAF, &tuples)), Some(items[1..].to_vec()));
        assert_eq!(
            siblings(&leaf(77, BTP_LEAF, &tuples)),
            Some(Siblings { left: None, right: Some(77) })
        );
    }

    #[test]
    fn pages_that_are_no_leaves_have_no_items() {
        let tuples = [(1, tuple((1, 1), 0, &[0; 8]))];
        for flags in [0, BTP_META, BTP_LEAF | BTP_DELETED, BTP_LEAF | BTP_HALF_DEAD] {
            assert_eq!(all(&leaf(P_NONE, flags, &tuples)), None);
        }
        let empty = vec![0; SIZE];
        assert!(all(&empty).is_none() && is_sound(&empty));
        let mut harmed = leaf(P_NONE, BTP_LEAF, &tuples);
        harmed[12] = 0xFF;
        harmed[13] = 0xFF;
        assert!(all(&harmed).is_none() && !is_sound(&harmed) && all(&[]).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            changes in prop::collection::vec((0usize..SIZE, any::<u8>()), 0..200),
            at_ends in prop::collection::vec((0usize..80, any::<u8>()), 0..20),
            len in prop::sample::select(vec![0, 1, 20, 24, 40, 4096, SIZE]),
        ) {
            let varlena = Attribute { len: -1, align: Align::Int };
            let tuples: Vec<_> = (0..20).map(|i| (1, tuple((i, 1), 0x2000, &[7; 24]))).collect();
            let mut page = leaf(P_NONE, BTP_LEAF, &tuples);
            for (at, byte) in changes {
                page[at] = byte;
            }
            for (at, byte) in at_ends {
                page[SIZE - 1 - at] = byte;
                page[12 + at] = byte;
            }
            for page in [&page[..len], &page[..]] {
                if let Some(items) = leaf_items(page) {
                    for item in items {
                        prop_assert!(item.tids().len() <= SIZE / TID && item.key.len() <= SIZE);
                        prop_assert_eq!(item.values(&[varlena; 3]).len(), 3);
                    }
                }
                siblings(page);
            }
        }
    }
}
