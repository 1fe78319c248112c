//! What can be done to the files of a stopped server.
//!
//! Each harm first looks whether the page lies on disk as it expects, changes
//! the fewest bytes that make the damage, and tells what it touched, so that a
//! test can say which rows are out of its reach. Only after a clean stop do the
//! files hold everything: see `Server::stop`.

mod toast;

use super::Server;
use super::expect::Expect;
use super::page_edit::{
    BLOCK_SIZE, LinePointer, Page, XMAX_COMMITTED, XMAX_INVALID, XMAX_IS_MULTI, XMIN_HINTS,
};
use super::places::{self, Places, read_page, write_page};
use super::victim::{self, VictimRow};
use std::collections::BTreeMap;

/// A transaction that has not begun yet, for a server that is young.
const FUTURE_XID: u32 = 0x4000_0000;
/// One long past, whose file in pg_xact is not there.
pub const FORGOTTEN_XID: u32 = 0xC000_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Harm {
    // A whole page of the relation itself. These serve for any relation.
    BadPageHeader,
    Checksum,
    ZeroBlock,
    TornPage,
    TruncateAt,
    RemoveFile,
    /// The segment of the place's block.
    RemoveSegment,
    // One tuple of a victim.
    LinePointerOffset,
    LinePointerLength,
    XminFuture,
    XminMissingClog,
    XmaxCommitted,
    XmaxMissingClog,
    THoff,
    TooManyAttributes,
    TooFewAttributes,
    VarlenaLength,
    VarlenaTag,
    CompressedGarbage,
    FlipValueBytes,
    ToastPointer,
    /// The null bitmap says that `note` is NULL: what lies behind it is then
    /// taken for the next column.
    NullBitmap,
    /// Three tuples of one page, in two ways: the one at the place and the next
    /// as by `CompressedGarbage`, the third after it as by `XminMissingClog`.
    SeveralTuples,
    // The TOAST table of a victim: the place is one in that table.
    ToastChunkData,
    ToastChunkSequence,
    ToastBadPageHeader,
    ToastZeroBlock,
    ToastTornPage,
    /// A chunk's line pointer is unused.
    ToastChunkMissing,
    /// Garbage inside of a chunk of a value that is stored compressed: see
    /// `sample::victims`.
    ToastCompressed,
    RemoveToastFile,
    // The index of the TOAST table.
    ToastIndexZeroBlock,
    ToastIndexBadPageHeader,
    /// Of its first page, which the planner looks at.
    ToastIndexMetaPage,
    // A sequence.
    SequenceMagic,
    SequenceBadPageHeader,
}

impl Harm {
    pub const RELATION: [Harm; 6] = [
        Harm::BadPageHeader,
        Harm::Checksum,
        Harm::ZeroBlock,
        Harm::TornPage,
        Harm::TruncateAt,
        Harm::RemoveFile,
    ];
    pub const TUPLE: [Harm; 16] = [
        Harm::LinePointerOffset,
        Harm::LinePointerLength,
        Harm::XminFuture,
        Harm::XminMissingClog,
        Harm::XmaxCommitted,
        Harm::XmaxMissingClog,
        Harm::THoff,
        Harm::TooManyAttributes,
        Harm::TooFewAttributes,
        Harm::VarlenaLength,
        Harm::VarlenaTag,
        Harm::CompressedGarbage,
        Harm::FlipValueBytes,
        Harm::ToastPointer,
        Harm::NullBitmap,
        Harm::SeveralTuples,
    ];
    pub const TOAST: [Harm; 11] = [
        Harm::ToastChunkData,
        Harm::ToastChunkSequence,
        Harm::ToastBadPageHeader,
        Harm::ToastZeroBlock,
        Harm::ToastTornPage,
        Harm::ToastChunkMissing,
        Harm::ToastCompressed,
        Harm::RemoveToastFile,
        Harm::ToastIndexZeroBlock,
        Harm::ToastIndexBadPageHeader,
        Harm::ToastIndexMetaPage,
    ];
    pub const SEQUENCE: [Harm; 2] = [Harm::SequenceMagic, Harm::SequenceBadPageHeader];

    /// All that a victim can suffer.
    pub fn of_victims() -> Vec<Harm> {
        [&Harm::RELATION[..], &Harm::TUPLE, &Harm::TOAST].concat()
    }
}

/// A tuple, or only the block of one: in the TOAST table for TOAST harms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub block: u32,
    pub offset: u16,
}

impl Place {
    pub fn first() -> Place {
        Place { block: 0, offset: 1 }
    }

    pub fn middle(blocks: u32) -> Place {
        Place { block: blocks / 2, offset: 2 }
    }

    pub fn last(blocks: u32) -> Place {
        Place { block: blocks - 1, offset: 1 }
    }
}

/// Whether the page's checksum fits it after the harm. A bad sector or a lost
/// write leaves it stale; damage in memory before the write does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumAfter {
    Stale,
    Recomputed,
}

/// What a harm touched.
#[derive(Clone, Debug)]
pub struct Harmed {
    pub harm: Harm,
    pub relation: String,
    /// Blocks of the relation itself of which any byte was changed or removed.
    pub blocks: Vec<u32>,
    /// The only tuples of the relation whose reading the harm can change, as
    /// long as their page can be read at all: the tuple changed, or the users
    /// of the TOAST values changed. Empty: every tuple of `blocks`.
    pub tuples: Vec<(u32, u16)>,
    /// Of those tuples, what became of their bytes where the harm alone does
    /// not say it.
    pub changed: BTreeMap<(u32, u16), Changed>,
    pub expect: Expect,
}

/// What became of the bytes of a tuple, or of its out-of-line value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// All of the tuple is zero.
    Zeroed,
    /// It is zero from somewhere within this column on (counted from 0).
    ZeroedFrom(usize),
    /// A chunk of its value is gone.
    ChunkGone,
    /// These bytes of its value were replaced, from this one on.
    Value(usize, Vec<u8>),
}

impl Harmed {
    /// True for a row that nothing was done to, not even to its page or to its
    /// TOAST value: it must come out, whatever else does.
    pub fn leaves_alone(&self, block: u32, offset: u16) -> bool {
        !self.blocks.contains(&block) && !self.tuples.contains(&(block, offset))
    }

    /// True for a row that was not changed itself, though its page may have
    /// been: what a reader should get when the page can be had.
    pub fn leaves_tuple_alone(&self, block: u32, offset: u16) -> bool {
        if self.tuples.is_empty() {
            !self.blocks.contains(&block)
        } else {
            !self.tuples.contains(&(block, offset))
        }
    }
}

/// Does the harm.
pub fn harm(server: &Server, places: &Places, harm: Harm, at: Place, sum: ChecksumAfter) -> Harmed {
    let checked = server.options.checksums && sum == ChecksumAfter::Stale;
    let mut done = Harmed {
        harm,
        relation: places.relation.clone(),
        blocks: Vec::new(),
        tuples: Vec::new(),
        changed: BTreeMap::new(),
        expect: harm.expected(checked),
    };
    match harm {
        Harm::TruncateAt => {
            places::truncate(server, &places.main, at.block);
            done.blocks = (at.block..places.blocks).collect();
        }
        Harm::RemoveFile => {
            places::remove(server, &places.main, 0);
            done.blocks = (0..places.blocks).collect();
        }
        Harm::RemoveSegment => {
            places::remove(server, &places.main, at.block);
            let first = at.block / places::SEGMENT_BLOCKS * places::SEGMENT_BLOCKS;
            // The copied page of `grow_second_segment` is not in `places`.
            done.blocks = (first..places.blocks.max(at.block + 1)).collect();
        }
        Harm::SequenceMagic | Harm::SequenceBadPageHeader => {
            edit(server, &places.main, 0, sum, |page| sequence_page(page, harm));
            done.blocks = vec![0];
        }
        _ if Harm::TOAST.contains(&harm) => toast::harm(server, places, &mut done, at, sum),
        _ if Harm::RELATION.contains(&harm) => {
            edit(server, &places.main, at.block, sum, |page| {
                if harm == Harm::TornPage {
                    done.changed = victim::torn(page);
                }
                whole_page(page, harm);
            });
            done.blocks = vec![at.block];
        }
        _ => {
            edit(server, &places.main, at.block, sum, |page| {
                let offsets = match harm {
                    Harm::ToastPointer => vec![first(page, at, |row| row.big.is_some())],
                    Harm::NullBitmap => vec![first(page, at, |row| row.big.is_none())],
                    Harm::SeveralTuples => vec![at.offset, at.offset + 1, at.offset + 3],
                    _ => vec![at.offset],
                };
                for (n, &offset) in offsets.iter().enumerate() {
                    let harm = match (harm, n) {
                        (Harm::SeveralTuples, 2) => Harm::XminMissingClog,
                        (Harm::SeveralTuples, _) => Harm::CompressedGarbage,
                        (harm, _) => harm,
                    };
                    one_tuple(page, harm, offset);
                    done.tuples.push((at.block, offset));
                }
            });
            done.blocks = vec![at.block];
        }
    }
    done
}

/// Reads a page, makes sure of it, changes it, and writes it back. Pages that
/// carry no checksum keep none.
fn edit(
    server: &Server,
    path: &str,
    block: u32,
    sum: ChecksumAfter,
    change: impl FnOnce(&mut Page),
) {
    let mut page = read_page(server, path, block);
    page.assert_sound();
    let before = page.clone();
    change(&mut page);
    assert!(page != before, "the harm changed nothing in block {block} of {path}");
    if server.options.checksums && sum == ChecksumAfter::Recomputed && !page.is_zero() {
        page.recompute_checksum();
    }
    write_page(server, path, &page);
}

fn whole_page(page: &mut Page, harm: Harm) {
    match harm {
        // lower above upper, and special outside of the page.
        Harm::BadPageHeader | Harm::ToastBadPageHeader => {
            page.put(12, &[0xF0, 0x1F, 0x20, 0x00, 0xAD, 0xDE]);
        }
        Harm::Checksum => {
            page.flip(8, 0x55);
            page.flip(9, 0xAA);
        }
        Harm::ZeroBlock | Harm::ToastZeroBlock | Harm::ToastIndexZeroBlock => {
            page.bytes.fill(0);
        }
        // Only the first half was written.
        Harm::TornPage | Harm::ToastTornPage => page.bytes[BLOCK_SIZE / 2..].fill(0),
        _ => unreachable!("{harm:?} is not of a whole page"),
    }
}

fn sequence_page(page: &mut Page, harm: Harm) {
    let magic = usize::from(page.special());
    assert_eq!(page.u32_at(magic), 0x1717, "the magic number of a sequence");
    match harm {
        Harm::SequenceMagic => page.put(magic, &0xDEAD_u32.to_le_bytes()),
        _ => whole_page(page, Harm::BadPageHeader),
    }
}

/// The first tuple from this place on that is such.
fn first(page: &Page, at: Place, is: impl Fn(VictimRow) -> bool) -> u16 {
    let mut numbers = page.tuples().into_iter().filter(|number| *number >= at.offset);
    let found = numbers.find(|number| is(victim::row(page, *number)));
    found.unwrap_or_else(|| panic!("no such tuple at or after {at:?}"))
}

fn one_tuple(page: &mut Page, harm: Harm, number: u16) {
    let row = victim::row(page, number);
    let tuple = row.tuple;
    let pointer = page.line_pointer(number);
    match harm {
        // Into the tuple's own middle.
        Harm::LinePointerOffset => {
            let offset = pointer.offset + 40;
            page.put_line_pointer(number, LinePointer { offset, ..pointer });
        }
        Harm::LinePointerLength => {
            page.put_line_pointer(number, LinePointer { length: 30, ..pointer });
        }
        Harm::XminFuture | Harm::XminMissingClog => {
            let xid = if harm == Harm::XminFuture { FUTURE_XID } else { FORGOTTEN_XID };
            page.put(tuple.xmin(), &xid.to_le_bytes());
            page.change_infomask(tuple, XMIN_HINTS, 0);
        }
        Harm::XmaxCommitted => {
            let xmin = page.u32_at(tuple.xmin());
            page.put(tuple.xmax(), &xmin.to_le_bytes());
            page.change_infomask(tuple, XMAX_INVALID | XMAX_IS_MULTI, XMAX_COMMITTED);
        }
        Harm::XmaxMissingClog => {
            page.put(tuple.xmax(), &FORGOTTEN_XID.to_le_bytes());
            page.change_infomask(tuple, XMAX_INVALID | XMAX_IS_MULTI | XMAX_COMMITTED, 0);
        }
        Harm::THoff => page.put(tuple.hoff(), &[32]),
        Harm::TooManyAttributes => page.put(tuple.infomask2(), &0x07FF_u16.to_le_bytes()),
        Harm::TooFewAttributes => page.put(tuple.infomask2(), &3_u16.to_le_bytes()),
        // Half a gigabyte, on a page of eight kilobytes.
        Harm::VarlenaLength => page.put(row.note, &0x8000_0000_u32.to_le_bytes()),
        Harm::VarlenaTag => page.put(row.note, &[0x01, 0x63]),
        Harm::CompressedGarbage => {
            page.bytes[row.squeezed + 8..row.squeezed_end].fill(0xFF);
        }
        Harm::FlipValueBytes => {
            page.flip(row.n, 0x40);
            page.flip(row.note + 3, 0x02);
        }
        Harm::ToastPointer => {
            let at = row.value_id_at().expect("an out-of-line value");
            let wrong = page.u32_at(at) ^ 0x4000_0000;
            page.put(at, &wrong.to_le_bytes());
        }
        Harm::NullBitmap => page.flip(tuple.null_bits(), 1 << 3),
        _ => unreachable!("{harm:?} is not of one tuple"),
    }
}
