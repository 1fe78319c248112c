//! Places in a heap: blocks, and line pointers in them.

use std::fmt;
use std::str::FromStr;

/// A block of a relation, from 0 to 0xFFFFFFFE (`block.h`).
pub type BlockNumber = u32;

/// A line pointer of a page, from 1 (`off.h`); 0 never exists.
pub type OffsetNumber = u16;

/// The place of a tuple: its block and its line pointer.
///
/// Offset 0 is no tuple; it stands for the start of the block, so that a range
/// of ctids can also say "these whole blocks".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ctid {
    pub block: BlockNumber,
    pub offset: OffsetNumber,
}

impl Ctid {
    pub const fn new(block: BlockNumber, offset: OffsetNumber) -> Self {
        Self { block, offset }
    }

    /// The start of a block: before its first tuple.
    pub const fn start_of(block: BlockNumber) -> Self {
        Self { block, offset: 0 }
    }

    /// Reads the text form of the type `tid`, `(12,3)`. Whatever else the bytes
    /// are, the answer is `None`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let inner = text.strip_prefix(b"(")?.strip_suffix(b")")?;
        let comma = inner.iter().position(|&b| b == b',')?;
        let block = decimal(&inner[..comma])?;
        let offset = decimal(&inner[comma + 1..])?;
        Some(Self { block: block.try_into().ok()?, offset: offset.try_into().ok()? })
    }
}

/// Digits only, and few enough not to overflow.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    digits
        .iter()
        .try_fold(0u64, |sum, &d| d.is_ascii_digit().then(|| sum * 10 + u64::from(d - b'0')))
}

impl fmt::Display for Ctid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.block, self.offset)
    }
}

impl FromStr for Ctid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text.as_bytes()).ok_or_else(|| format!("not a ctid: \"{text}\""))
    }
}

/// Whole blocks, half-open: `start` is in it, `end` is not. Never empty where
/// it says what to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRange {
    pub start: BlockNumber,
    pub end: BlockNumber,
}

impl BlockRange {
    pub const fn new(start: BlockNumber, end: BlockNumber) -> Self {
        Self { start, end }
    }

    /// How many blocks.
    pub const fn len(&self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    pub const fn contains(&self, block: BlockNumber) -> bool {
        self.start <= block && block < self.end
    }
}

impl fmt::Display for BlockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len() == 1 {
            write!(f, "block {}", self.start)
        } else {
            write!(f, "blocks {}..{}", self.start, self.end.saturating_sub(1))
        }
    }
}

/// The most line pointers that PostgreSQL puts on a heap page of `block_size`
/// bytes: 291 at 8 kB (`MaxHeapTuplesPerPage`, `htup_details.h`: a page less
/// its header of 24 bytes, each tuple at least 24 bytes and a line pointer of 4).
pub fn tuples_per_page_max(block_size: u32) -> OffsetNumber {
    OffsetNumber::try_from(block_size.saturating_sub(24) / 28).unwrap_or(OffsetNumber::MAX).max(1)
}

/// A stretch of a relation that is read in ranges has so many blocks (32 MB at
/// 8 kB): what a worker takes at a time, and what an error without a place costs
/// to read again.
const STRETCH_BLOCKS: u32 = 4096;

/// A relation is cut into at most so many stretches; above that they get longer.
const STRETCHES_MAX: u32 = 16_384;

/// Cuts a relation of `blocks` blocks into what is read at a time: one stretch
/// up to `whole_max` blocks, else many of the same length, none longer than
/// that. The cut depends on nothing else, and so do the bytes that are written.
pub fn stretches(blocks: BlockNumber, whole_max: BlockNumber) -> Vec<BlockRange> {
    if blocks <= whole_max {
        return vec![BlockRange::new(0, blocks)];
    }
    let len = STRETCH_BLOCKS.min(whole_max.max(1)).max(blocks.div_ceil(STRETCHES_MAX));
    let starts = (0..blocks).step_by(len as usize);
    starts.map(|s| BlockRange::new(s, s.saturating_add(len).min(blocks))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ctid_is_read_as_postgresql_writes_it() {
        assert_eq!(Ctid::parse(b"(12,3)"), Some(Ctid::new(12, 3)));
        assert_eq!(Ctid::parse(b"(4294967294,65535)"), Some(Ctid::new(u32::MAX - 1, u16::MAX)));
        for bad in ["", "(", "()", "(,)", "(1,)", "(,1)", "(1,2", "1,2)", "(1;2)", "(-1,2)"] {
            assert_eq!(Ctid::parse(bad.as_bytes()), None, "{bad}");
        }
        for bad in ["(4294967296,1)", "(1,65536)", "(99999999999999999999,1)", "(1,2,3)", "( 1,2)"]
        {
            assert_eq!(Ctid::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Ctid::new(7, 1).to_string().parse(), Ok(Ctid::new(7, 1)));
    }

    #[test]
    fn stretches_cover_every_block_once_and_are_bounded_in_number() {
        for (blocks, whole_max) in [(0, 100), (100, 100), (101, 100), (9, 0), (1 << 20, 1 << 17)] {
            let cut = stretches(blocks, whole_max);
            assert_eq!(cut.first().map(|r| r.start), Some(0));
            assert_eq!(cut.last().map(|r| r.end), Some(blocks));
            assert!(cut.windows(2).all(|w| w[0].end == w[1].start), "{cut:?}");
        }
        assert_eq!(stretches(101, 8).len(), 13);
        let cut = stretches(u32::MAX, 1 << 17);
        assert_eq!((cut.len(), cut.last().map(|r| r.end)), (16_384, Some(u32::MAX)));
    }

    #[test]
    fn a_page_holds_as_many_tuples_as_postgresql_says() {
        assert_eq!(tuples_per_page_max(8192), 291);
        assert_eq!(tuples_per_page_max(32768), 1169);
        assert_eq!(tuples_per_page_max(1024), 35);
    }
}
