//! `pg_salvage inspect`: one page, as it lies on disk: header, checksum, line
//! pointers, tuple headers and bytes, and what no sound page has among them.
//!
//! Where the bytes come from is in `source`; all else is pure.

mod hexdump;
mod said;
mod source;
mod told;

pub use source::{InspectError, InspectOptions, inspect};

use crate::page::check::{Kind, Problem, check};
use crate::page::flags::{self, Flag};
use crate::page::flips::{Bit, single_bits};
use crate::page::{LinePointer, LineState, Page, checksum};

/// What is known of where a page is from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// For people: `table "public.orders"`.
    pub what: String,
    pub fork: &'static str,
    pub block: u32,
    /// The file that has it: a segment, or an image.
    pub file: String,
    pub segment: u32,
    /// Counted within the file.
    pub page: u32,
    /// From the beginning of the file.
    pub byte: u64,
    /// What its pages hold. None: nobody knows.
    pub kind: Option<Kind>,
    /// How many attributes its relation has.
    pub attributes: Option<usize>,
    /// Whether the cluster has checksums. None: nobody knows.
    pub checksums: Option<bool>,
    /// What has to be said of it.
    pub notes: Vec<String>,
}

/// One page, and what was found on it.
pub struct Inspected {
    origin: Origin,
    bytes: Vec<u8>,
    insane: Option<&'static str>,
    computed: u16,
    is_checksum_wrong: bool,
    flips: Vec<Bit>,
    lines: Vec<Line>,
}

/// A line pointer, and the header of its tuple.
struct Line {
    number: u16,
    pointer: LinePointer,
    insane: Option<&'static str>,
    tuple: Option<TupleHeader>,
}

struct TupleHeader {
    xmin: u32,
    xmax: u32,
    /// `t_cid`, or `t_xvac`.
    field3: u32,
    ctid: (u32, u16),
    infomask: u16,
    infomask2: u16,
    natts: u16,
    hoff: usize,
    insane: Option<&'static str>,
}

impl TupleHeader {
    fn flags(&self) -> Vec<Flag> {
        flags::of_tuple(self.infomask, self.infomask2)
    }
}

impl Inspected {
    pub fn new(origin: Origin, bytes: Vec<u8>) -> Self {
        let page = Page::new(&bytes);
        let computed = checksum::checksum(&bytes, origin.block);
        let stored = page.checksum();
        let kind = origin.kind.unwrap_or_else(|| guessed(page));
        // On a cluster without checksums the field says nothing, and is 0 as a rule;
        // to the server a page without pd_upper is a new one, checksum or not.
        let is_checked = origin.checksums.unwrap_or(stored != 0) && page.upper() != 0;
        let is_checksum_wrong = is_checked && stored != computed;
        let flips = if is_checksum_wrong { single_bits(&bytes, origin.block) } else { Vec::new() };
        let lines = match has_line_pointers(page, kind, &origin) {
            true => page.line_pointers().map(|(n, p)| line(page, n, p, kind, &origin)).collect(),
            false => Vec::new(),
        };
        let special = match check(&bytes, origin.block, kind, false) {
            Some(Problem::Special(what)) if origin.fork == "main" => Some(what),
            _ => None,
        };
        let insane = page.insane().or(special);
        Self { insane, computed, is_checksum_wrong, flips, lines, origin, bytes }
    }

    fn page(&self) -> Page<'_> {
        Page::new(&self.bytes)
    }

    /// Whether anything on it is as on no sound page.
    pub fn is_damaged(&self) -> bool {
        let is_wrong =
            |l: &Line| l.insane.is_some() || l.tuple.as_ref().is_some_and(|t| t.insane.is_some());
        self.insane.is_some() || self.is_checksum_wrong || self.lines.iter().any(is_wrong)
    }

    /// For a terminal.
    pub fn text(&self, colour: bool) -> String {
        said::text(self, colour)
    }

    /// For programs.
    pub fn json(&self) -> String {
        told::json(self)
    }
}

/// Only pages of tuples have them: others have bytes of their own in that place.
fn has_line_pointers(page: Page<'_>, kind: Kind, origin: &Origin) -> bool {
    /// `BTP_META` of `btpo_flags` (`nbtree.h`).
    const META: u8 = 1 << 3;
    let flags = page.bytes().get(usize::from(page.special()) + 12).copied().unwrap_or(0);
    let has = match kind {
        Kind::Heap | Kind::Sequence => true,
        Kind::Btree => flags & META == 0,
        Kind::Marked(_) | Kind::Unknown | Kind::Other => false,
    };
    has && matches!(origin.fork, "main" | "init")
}

/// By the special space, which a heap has not.
fn guessed(page: Page<'_>) -> Kind {
    let special = page.bytes().get(usize::from(page.special())..).unwrap_or_default();
    match special {
        _ if page.is_new() => Kind::Other,
        [] => Kind::Heap,
        [.., mark @ (0x80 | 0x81), 0xFF] if special.len() == 16 => {
            Kind::Marked(u16::from_le_bytes([*mark, 0xFF]))
        }
        _ if special.len() == 16 => Kind::Btree,
        [0x17, 0x17, 0, 0, ..] if special.len() == 8 => Kind::Sequence,
        _ => Kind::Other,
    }
}

fn line(page: Page<'_>, number: u16, pointer: LinePointer, kind: Kind, origin: &Origin) -> Line {
    let insane = page.insane_pointer(pointer);
    let is_heap = matches!(kind, Kind::Heap | Kind::Sequence);
    let is_tuple = is_heap && pointer.flags == LineState::Normal;
    let tuple = page.tuple(number).filter(|_| is_tuple).map(|tuple| {
        let field3 = tuple.bytes().get(8..12).and_then(|b| b.first_chunk().copied());
        TupleHeader {
            xmin: tuple.xmin(),
            xmax: tuple.xmax(),
            field3: field3.map_or(0, u32::from_le_bytes),
            ctid: tuple.t_ctid(),
            infomask: tuple.infomask(),
            infomask2: tuple.infomask2(),
            natts: tuple.natts(),
            hoff: tuple.hoff(),
            insane: tuple.insane(origin.attributes.unwrap_or(usize::MAX)),
        }
    });
    let too_short = (is_tuple && tuple.is_none() && insane.is_none())
        .then_some("there is no room for a tuple's header where it points to");
    Line { number, pointer, insane: insane.or(too_short), tuple }
}

fn state(state: LineState) -> &'static str {
    match state {
        LineState::Unused => "unused",
        LineState::Normal => "normal",
        LineState::Redirect => "redirect",
        LineState::Dead => "dead",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin { fork: "main", ..Origin::default() }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        // xorshift64*, so that a failure can be had again.
        let mut state = 0x5EED_u64;
        let mut random = |below: usize| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            usize::try_from(state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % below
        };
        let mut pages: Vec<Vec<u8>> = vec![vec![], vec![0; 8192], vec![0xFF; 8192], vec![1; 23]];
        for _ in 0..60 {
            let mut page = vec![0; 1024];
            page[12..20].copy_from_slice(&[0x80, 0, 0, 1, 0, 4, 4, 4]);
            for _ in 0..random(400) {
                let at = random(page.len());
                page[at] = u8::try_from(random(256)).unwrap();
            }
            page.truncate(if random(5) == 0 { random(1024) } else { 1024 });
            pages.push(page);
        }
        for page in pages {
            for kind in [Some(Kind::Heap), Some(Kind::Btree), Some(Kind::Sequence), None] {
                let origin = Origin { kind, checksums: Some(false), ..origin() };
                let inspected = Inspected::new(origin, page.clone());
                let plain = inspected.text(false);
                assert!(!plain.contains('\x1b') && inspected.json().starts_with('{'));
                assert!(inspected.text(true).len() >= plain.len());
            }
        }
    }
}
