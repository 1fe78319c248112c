//! The tuples of a heap page that nobody vouches for: its checksum is wrong, or
//! its header makes no sense.
//!
//! Nothing is taken for a tuple that only looks like one by chance: its line
//! pointer, its header and its `t_ctid` must be as PostgreSQL writes them, and
//! its bytes are no other tuple's. What of that does not hold is named, and so
//! is what nobody can know: whether there were more line pointers.

use super::tuple::FROZEN;
use super::{Attribute, HEADER_LEN, LINE_POINTER_LEN, LinePointer, LineState, Page, Tuple};
use std::ops::Range;

/// Bits of `t_infomask2` that no version has given a meaning.
const INFOMASK2_UNUSED: u16 = 0x1800;

/// `SpecTokenOffsetNumber`: an insertion that is not yet, or never was, complete.
const SPECULATIVE: u16 = 0xFFFE;

/// `MovedPartitionsOffsetNumber`: the row went to another partition.
const MOVED: u16 = 0xFFFD;

/// Fewer bytes are no tuple.
const TUPLE_LEN_MIN: usize = 24;

/// What there is on a page.
#[derive(Debug, Default)]
pub struct Looked<'a> {
    /// Tuples, with their line pointers, whoever may see them.
    pub tuples: Vec<(u16, Tuple<'a>)>,
    /// Line pointers whose tuple cannot be told, and why.
    pub broken: Vec<(u16, &'static str)>,
    /// Line pointers that are not in use.
    pub unused: Vec<u16>,
    /// Behind this line pointer, or at unused ones, there may have been others,
    /// and why nobody knows.
    pub more: Option<(u16, &'static str)>,
}

/// Looks at the page of a block of a heap with these attributes, of which none has
/// more than `lines_max` line pointers.
pub fn look<'a>(
    bytes: &'a [u8],
    block: u32,
    attributes: &[Attribute],
    lines_max: u16,
) -> Looked<'a> {
    let page = Page::new(bytes);
    let mut looked = Looked::default();
    if page.is_new() {
        return looked;
    }
    let told = told(page, lines_max);
    let mut spans: Vec<(Range<usize>, u16)> = Vec::new();
    let (mut lowest, mut last, mut insane) = (bytes.len(), 0, false);
    let line_end = |number: u16| HEADER_LEN + LINE_POINTER_LEN * usize::from(number);
    for number in 1..=told.unwrap_or(lines_max) {
        // Line pointers end where tuples begin.
        if told.is_none() && line_end(number) > lowest {
            break;
        }
        let Some(pointer) = page.pointer_at(number) else { break };
        match span(page, pointer, line_end(told.unwrap_or(number))) {
            Ok(Some(span)) => {
                (lowest, last) = (lowest.min(span.start), number);
                spans.push((span, number));
            }
            Ok(None) if pointer.flags == LineState::Unused => looked.unused.push(number),
            Ok(None) => last = number,
            // Behind the last one there is anything.
            Err(_) if told.is_none() => break,
            Err(why) => {
                looked.broken.push((number, why));
                insane = true;
            }
        }
    }
    let count = told.unwrap_or(last);
    looked.unused.retain(|number| *number <= count);
    if !insane {
        looked.more = has_more(page, &spans, count).map(|why| (count, why));
    }
    let single = without_overlap(page, block, spans, &mut looked.broken);
    for (number, tuple) in single {
        match insane_header(tuple, (block, number), attributes.len(), lines_max) {
            Some(why) => looked.broken.push((number, why)),
            None if is_speculative(tuple) => {}
            None => looked.tuples.push((number, tuple)),
        }
    }
    looked.tuples.sort_unstable_by_key(|(number, _)| *number);
    looked.broken.sort_unstable();
    looked
}

/// How many line pointers the header names, if it makes sense as far as that goes.
fn told(page: Page<'_>, lines_max: u16) -> Option<u16> {
    let (lower, upper) = (usize::from(page.lower()), usize::from(page.upper()));
    let is_whole = lower >= HEADER_LEN && (lower - HEADER_LEN).is_multiple_of(LINE_POINTER_LEN);
    let is_before = lower <= upper && upper <= page.bytes().len();
    let count = page.line_pointer_count();
    (is_whole && is_before && count <= lines_max).then_some(count)
}

/// Where the tuple of a line pointer lies, if it has one. The error says why it
/// cannot be one of a heap. Tuples lie behind `floor`.
fn span(
    page: Page<'_>,
    pointer: LinePointer,
    floor: usize,
) -> Result<Option<Range<usize>>, &'static str> {
    let (start, length) = (usize::from(pointer.offset), usize::from(pointer.length));
    match pointer.flags {
        LineState::Unused if length > 0 => Err("it is unused, and has a length"),
        LineState::Redirect if length > 0 || start == 0 => Err("it is redirected, and to nowhere"),
        LineState::Unused | LineState::Redirect => Ok(None),
        LineState::Dead if length == 0 => Ok(None),
        // In an index it may.
        LineState::Dead => Err("it is dead, and has a length"),
        _ if !start.is_multiple_of(8) => Err("it points to what is not aligned"),
        _ if start < floor || start + length > page.bytes().len() => {
            Err("it points to where no tuples are")
        }
        _ if length < TUPLE_LEN_MIN => Err("its tuple is shorter than a header"),
        LineState::Normal => Ok(Some(start..start + length)),
    }
}

/// Why there may be tuples beside those that are known, if there is room for one
/// between them, or before them, where not all is zero.
fn has_more(page: Page<'_>, spans: &[(Range<usize>, u16)], count: u16) -> Option<&'static str> {
    const BYTES: &str = "there are bytes of tuples to which no line pointer leads";
    let size = page.bytes().len();
    let lines_end = HEADER_LEN + LINE_POINTER_LEN * usize::from(count);
    let upper = usize::from(page.upper());
    let mut spans: Vec<&Range<usize>> = spans.iter().map(|(span, _)| span).collect();
    spans.sort_unstable_by_key(|span| span.start);
    let lowest = spans.first().map_or(size, |span| span.start);
    let is_zero = |range: Range<usize>| {
        page.bytes().get(range).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
    };
    let mut at = match upper {
        _ if is_zero(lines_end..lowest) => lowest,
        upper if (lines_end..=size).contains(&upper) => upper,
        _ => return Some("where the line pointers end cannot be told"),
    };
    for span in spans {
        if span.start >= at + TUPLE_LEN_MIN {
            return Some(BYTES);
        }
        at = at.max(span.end.next_multiple_of(8));
    }
    (size >= at + TUPLE_LEN_MIN).then_some(BYTES)
}

/// Of tuples whose bytes are another's, too, only those that say so themselves.
fn without_overlap<'a>(
    page: Page<'a>,
    block: u32,
    mut spans: Vec<(Range<usize>, u16)>,
    broken: &mut Vec<(u16, &'static str)>,
) -> Vec<(u16, Tuple<'a>)> {
    spans.sort_unstable_by_key(|(span, number)| (span.start, *number));
    let mut shared = vec![false; spans.len()];
    let (mut furthest, mut of) = (0, 0);
    for (i, (span, _)) in spans.iter().enumerate() {
        if i > 0 && span.start < furthest {
            (shared[i], shared[of]) = (true, true);
        }
        if span.end > furthest {
            (furthest, of) = (span.end, i);
        }
    }
    let mut single = Vec::with_capacity(spans.len());
    for ((span, number), shared) in spans.into_iter().zip(shared) {
        match page.bytes().get(span).and_then(Tuple::new) {
            Some(tuple) if !shared || tuple.t_ctid() == (block, number) => {
                single.push((number, tuple));
            }
            _ => broken.push((number, "its bytes are another tuple's, too")),
        }
    }
    single
}

fn is_speculative(tuple: Tuple<'_>) -> bool {
    tuple.xmax() == 0 && tuple.t_ctid().1 == SPECULATIVE
}

/// What no tuple at this place has in its header, if anything.
fn insane_header(
    tuple: Tuple<'_>,
    at: (u32, u16),
    natts: usize,
    lines_max: u16,
) -> Option<&'static str> {
    let next = tuple.t_ctid();
    let can_be_next = (1..=lines_max).contains(&next.1) || matches!(next.1, MOVED | SPECULATIVE);
    // One that was never updated, deleted or locked points to itself; freezing takes
    // the xmax away of an update that was taken back, and leaves the pointer.
    let was_updated = tuple.xmax() != 0 || tuple.infomask() & FROZEN == FROZEN;
    let points_well = next == at || can_be_next && (was_updated || next.1 == SPECULATIVE);
    if let Some(why) = tuple.insane(natts) {
        Some(why)
    } else if tuple.infomask2() & INFOMASK2_UNUSED != 0 {
        Some("t_infomask2 has bits that mean nothing")
    } else if tuple.xmin() == 0 {
        Some("its xmin is no transaction")
    } else if !points_well {
        Some("its t_ctid is of another place")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Align;

    const SIZE: usize = 8192;
    const BLOCK: u32 = 7;
    const INT: [Attribute; 1] = [Attribute { len: 4, align: Align::Int }];

    fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
        page[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put_pointer(page: &mut [u8], number: u16, start: usize, flags: u32, length: u32) {
        let word = u32::try_from(start).unwrap() | flags << 15 | length << 17;
        put(page, HEADER_LEN + 4 * (usize::from(number) - 1), &word.to_le_bytes());
    }

    fn put_lower(page: &mut [u8], lower: u16) {
        put(page, 12, &lower.to_le_bytes());
    }

    /// A page with so many tuples of one int each.
    fn page(count: u16) -> Vec<u8> {
        let mut page = vec![0; SIZE];
        let mut at = SIZE;
        for number in 1..=count {
            at -= 32;
            put(&mut page, at, &900_u32.to_le_bytes());
            put(&mut page, at + 14, &7_u16.to_le_bytes());
            put(&mut page, at + 16, &number.to_le_bytes());
            put(&mut page, at + 18, &1_u16.to_le_bytes());
            page[at + 22] = 24;
            put(&mut page, at + 24, &u32::from(number).to_le_bytes());
            put_pointer(&mut page, number, at, 1, 28);
        }
        put_lower(&mut page, 24 + 4 * count);
        for (place, value) in [(14, at), (16, SIZE), (18, SIZE | 4)] {
            put(&mut page, place, &u16::try_from(value).unwrap().to_le_bytes());
        }
        page
    }

    /// The tuples, the broken line pointers, and behind which there may be more.
    fn told(page: &[u8]) -> (Vec<u16>, Vec<u16>, Option<u16>) {
        let looked = look(page, BLOCK, &INT, 291);
        let tuples = looked.tuples.iter().map(|(number, _)| *number).collect();
        let broken = looked.broken.iter().map(|(number, _)| *number).collect();
        (tuples, broken, looked.more.map(|(number, _)| number))
    }

    #[test]
    fn a_sound_page_is_told_whole_also_without_its_header() {
        let mut page = page(5);
        let whole = (vec![1, 2, 3, 4, 5], vec![], None);
        assert_eq!(told(&page), whole);
        put_lower(&mut page, 0xFFFF);
        assert_eq!(told(&page), whole);
        page[14..20].fill(0xFF);
        assert_eq!(told(&page), whole);
        assert_eq!(told(&[0; SIZE]), (vec![], vec![], None));
    }

    #[test]
    fn a_line_pointer_that_is_gone_is_missed() {
        let mut page = page(5);
        put_pointer(&mut page, 3, 0, 0, 0);
        assert_eq!(told(&page), (vec![1, 2, 4, 5], vec![], Some(5)));
        put_lower(&mut page, 0xFFFF);
        assert_eq!(told(&page), (vec![1, 2, 4, 5], vec![], Some(5)));
        // What lies before the tuples may be line pointers.
        put(&mut page, 200, &[1]);
        assert_eq!(told(&page).2, Some(5));
    }

    #[test]
    fn a_tuple_that_only_looks_like_one_is_none() {
        let sound = page(5);
        let spoil: [fn(&mut Vec<u8>); 7] = [
            // Leads to the tuple of another, and into one.
            |page| put_pointer(page, 3, SIZE - 32, 1, 28),
            |page| put_pointer(page, 3, SIZE - 32 * 3 + 8, 1, 20),
            |page| put_pointer(page, 3, 8, 1, 28),
            |page| put_pointer(page, 3, SIZE - 32 * 3, 3, 28),
            // No xmin; another place; more attributes than there are.
            |page| put(page, SIZE - 32 * 3, &[0; 4]),
            |page| put(page, SIZE - 32 * 3 + 12, &[1]),
            |page| put(page, SIZE - 32 * 3 + 18, &[2]),
        ];
        for spoil in spoil {
            let mut page = sound.clone();
            spoil(&mut page);
            let (tuples, broken, _) = told(&page);
            assert_eq!((tuples, broken), (vec![1, 2, 4, 5], vec![3]));
        }
    }
}
