//! Which tuples of a heap page the server's executor must not meet.
//!
//! The executor believes what it finds: it goes where a line pointer leads, takes
//! t_hoff for where the values begin, and lengths for lengths. Where these lead
//! out of the tuple it may crash, and the whole server with it. So the same way is
//! gone here first, over the bytes of the page alone.
//!
//! Two things may be wrong with a tuple. Of one that leads astray no value can be
//! believed: it is *fenced*. Another is *doubtful*: it leads nowhere bad, but is
//! not as PostgreSQL writes it. On a page with either a scan does harm, for it
//! looks at all of the page, and may prune it; a read of a single ctid looks at
//! that one tuple only.

use super::{Attribute, Found, LinePointer, LineState, Page, Tuple, varlena};
use std::fmt;

/// `MaxHeapAttributeNumber`.
const ATTRIBUTES_MAX: usize = 1600;

/// What is wrong with tuples of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Insane {
    /// Line pointers that must not be followed, in order.
    pub fenced: Vec<(u16, What)>,
    /// What else is wrong, of the first tuple that it is of. 0: of the page.
    pub doubtful: Option<(u16, What)>,
}

/// What is wrong with a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Said(&'static str),
    /// The value of this attribute, counted from 1, cannot be told.
    Attribute(u16),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(what) => f.write_str(what),
            Self::Attribute(number) => {
                write!(f, "attribute {number} leads out of the tuple, or begins as no value does")
            }
        }
    }
}

/// What is wrong with a page that the server would take. `attributes`: those of
/// its relation, dropped ones included, where they are known.
pub fn insane(page: Page<'_>, attributes: Option<&[Attribute]>, tuples_max: u16) -> Option<Insane> {
    // The server says so itself, of a block that is empty or that it refuses.
    if page.is_refused() {
        return None;
    }
    let items = Items::of(page);
    let mut found = Insane::default();
    let mut doubt = |number: u16, what| {
        if found.doubtful.is_none() {
            found.doubtful = Some((number, what));
        }
    };
    if page.line_pointer_count() > tuples_max {
        doubt(0, What::Said("the page has more line pointers than tuples fit on it"));
    }
    for (number, pointer) in page.line_pointers() {
        match items.tuple(page, pointer, attributes) {
            Seen::Sane => {}
            Seen::Doubtful(what) => doubt(number, what),
            Seen::Insane(what) => found.fenced.push((number, what)),
        }
    }
    let is_sane = found.fenced.is_empty() && found.doubtful.is_none();
    (!is_sane).then_some(found)
}

enum Seen {
    Sane,
    Doubtful(What),
    Insane(What),
}

/// Where the tuples of a page begin and end, as the line pointers have it.
struct Items {
    /// In order.
    places: Vec<(u16, u16)>,
}

impl Items {
    fn of(page: Page<'_>) -> Self {
        let stored = page.line_pointers().filter(|(_, p)| is_stored(page, *p));
        let mut places: Vec<_> = stored.map(|(_, p)| (p.offset, p.length)).collect();
        places.sort_unstable();
        Self { places }
    }

    /// Whether a tuple shares bytes with another.
    fn overlaps(&self, pointer: LinePointer) -> bool {
        let (start, end) = (pointer.offset, pointer.offset.saturating_add(pointer.length));
        let at = self.places.partition_point(|(other, _)| *other < start);
        let before = self.places[..at].last().is_some_and(|(o, l)| o.saturating_add(*l) > start);
        let others = self.places[at..].iter().take_while(|(other, _)| *other < end.max(start + 1));
        before || others.count() > 1
    }

    /// Where the next tuple begins, or the page ends for tuples.
    fn next(&self, page: Page<'_>, start: u16) -> u16 {
        let at = self.places.partition_point(|(other, _)| *other <= start);
        self.places.get(at).map_or(page.special(), |(next, _)| *next)
    }

    /// Looks at what a line pointer leads to.
    fn tuple(&self, page: Page<'_>, pointer: LinePointer, known: Option<&[Attribute]>) -> Seen {
        let wrong = page.insane_pointer(pointer);
        if pointer.flags != LineState::Normal {
            return wrong.map_or(Seen::Sane, |what| Seen::Insane(What::Said(what)));
        }
        if let Some(what) = wrong
            && !begins_well(page, pointer)
        {
            return Seen::Insane(What::Said(what));
        }
        // Its length may be what is wrong, which the executor does not look at.
        let end = pointer.offset.saturating_add(pointer.length).min(page.special());
        let limit = usize::from(end.max(self.next(page, pointer.offset)));
        let bytes = page.bytes().get(usize::from(pointer.offset)..limit);
        let Some(tuple) = bytes.and_then(Tuple::new) else {
            return Seen::Insane(What::Said("its tuple does not lie on the page"));
        };
        let natts = usize::from(tuple.natts());
        // The executor takes no more of them than there are.
        let too_many = known.is_some_and(|k| natts > k.len() && tuple.begins_as_of(k.len()));
        if let Some(what) = tuple.insane(natts)
            && !(too_many && tuple.is_whole())
        {
            return Seen::Insane(What::Said(what));
        }
        let walked = known.map(|known| (known.len(), tuple.end_of(known)));
        let doubt = |what| Seen::Doubtful(What::Said(what));
        match walked {
            Some((_, Err(attribute))) => Seen::Insane(What::Attribute(attribute)),
            _ if wrong.is_some() => Seen::Doubtful(What::Said(wrong.unwrap_or_default())),
            _ if natts > ATTRIBUTES_MAX || tuple.insane(natts).is_some() => {
                doubt("the tuple has more attributes than its relation")
            }
            // There may be columns by now that were not there when we asked.
            Some((known, Ok(end))) if natts <= known && end != usize::from(pointer.length) => {
                doubt("its values do not end where it does: some length is wrong")
            }
            _ if self.overlaps(pointer) => doubt("it shares bytes with another"),
            _ => Seen::Sane,
        }
    }
}

/// The tuples of a page that have values in TOAST of which the numbers are such,
/// and these attributes of them, counted from 0.
pub fn pointing(
    page: Page<'_>,
    attributes: &[Attribute],
    is: impl Fn(u32) -> bool,
) -> Vec<(u16, Vec<usize>)> {
    if page.is_refused() {
        return Vec::new();
    }
    let is_such = |(_, found): &(usize, Found<'_>)| match found {
        Found::Bytes(bytes) => varlena::value_id(bytes).is_some_and(&is),
        _ => false,
    };
    let tuple = |(number, _)| {
        let found = page.tuple(number)?.attributes(attributes);
        let such = (0..).zip(found).zip(attributes).filter(|(_, a)| a.len == -1).map(|(f, _)| f);
        let such: Vec<usize> = such.filter(is_such).map(|(place, _)| place).collect();
        (!such.is_empty()).then_some((number, such))
    };
    page.line_pointers().filter_map(tuple).collect()
}

/// Whether a tuple may begin where a line pointer leads.
fn begins_well(page: Page<'_>, pointer: LinePointer) -> bool {
    let start = pointer.offset;
    start >= page.upper() && start < page.special() && start.is_multiple_of(8)
}

/// Whether a tuple is stored where a line pointer leads, however long it is.
fn is_stored(page: Page<'_>, pointer: LinePointer) -> bool {
    let has_tuple = match pointer.flags {
        LineState::Normal => true,
        LineState::Dead => pointer.length > 0,
        LineState::Unused | LineState::Redirect => false,
    };
    has_tuple && begins_well(page, pointer)
}

#[cfg(test)]
mod tests {
    use super::super::Align;
    use super::*;

    const INT: Attribute = Attribute { len: 4, align: Align::Int };
    const TEXT: Attribute = Attribute { len: -1, align: Align::Int };
    const COLUMNS: [Attribute; 2] = [INT, TEXT];

    /// Two tuples of an int and a text of three letters: at 480, and at 448.
    fn page() -> Vec<u8> {
        let mut bytes = vec![0; 512];
        for (at, value) in [(12, 32), (14, 448), (16, 512), (18, 512 | 4)] {
            put(&mut bytes, at, value);
        }
        for (number, start) in [(1, 480), (2, 448)] {
            point(&mut bytes, number, start | 1 << 15 | 32 << 17);
            let start = usize::try_from(start).expect("small");
            put(&mut bytes, start + 18, 2);
            put(&mut bytes, start + 22, 24);
            bytes[start + 24..start + 32].copy_from_slice(b"\x07\0\0\0\x09abc");
        }
        bytes
    }

    fn put(bytes: &mut [u8], at: usize, value: u16) {
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn point(bytes: &mut [u8], number: usize, word: u32) {
        let at = 20 + 4 * number;
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }

    /// Which are fenced, and whether something else is wrong.
    fn found(bytes: &[u8]) -> (Vec<u16>, bool) {
        let found = insane(Page::new(bytes), Some(&COLUMNS), 17).unwrap_or_default();
        (found.fenced.iter().map(|(number, _)| *number).collect(), found.doubtful.is_some())
    }

    #[test]
    fn what_is_as_it_should_be_or_is_refused_by_the_server_is_not_insane() {
        assert_eq!(insane(Page::new(&page()), Some(&COLUMNS), 17), None);
        // Columns were added to the table since the tuples were written, or since
        // somebody asked for its columns.
        assert_eq!(insane(Page::new(&page()), Some(&[INT, TEXT, TEXT]), 17), None);
        assert_eq!(insane(Page::new(&page()), Some(&[INT]), 17), None);
        assert_eq!(insane(Page::new(&page()), None, 17), None);
        assert_eq!(insane(Page::new(&[0; 512]), Some(&COLUMNS), 17), None);
        let mut refused = page();
        put(&mut refused, 14, 513);
        point(&mut refused, 1, u32::MAX);
        assert_eq!(insane(Page::new(&refused), Some(&COLUMNS), 17), None);
    }

    #[test]
    fn what_leads_astray_is_fenced_alone() {
        // Behind the page, before pd_upper, not aligned, redirected to nothing.
        for word in [
            504 | 1 << 15 | 32 << 17,
            40 | 1 << 15 | 32 << 17,
            484 | 1 << 15 | 24 << 17,
            9 | 2 << 15,
        ] {
            let mut bytes = page();
            point(&mut bytes, 1, word);
            assert_eq!(found(&bytes).0, [1], "{word:#x}");
        }
        // t_hoff, and lengths: out of the tuple, out of the page, of no TOAST pointer.
        for (at, value) in [
            (480 + 22, 32),
            (448 + 22, 0),
            (480 + 28, 0x010B),
            (448 + 28, 0x6311),
            (480 + 28, 0xFFF8),
            (448 + 28, 0x6301),
        ] {
            let mut bytes = page();
            put(&mut bytes, at, value);
            let number = if at < 480 { 2 } else { 1 };
            assert_eq!(found(&bytes).0, [number], "{value:#x} at {at}");
        }
    }

    #[test]
    fn what_is_wrong_but_leads_nowhere_bad_is_doubtful() {
        // A length that is too short; fewer attributes; more than any relation has.
        for (at, value) in [(480 + 28, 0x0107), (480 + 18, 1), (480 + 18, 0x7FF)] {
            let mut bytes = page();
            put(&mut bytes, at, value);
            assert_eq!(found(&bytes), (vec![], true), "{value:#x} at {at}");
        }
        // Line pointers: too short, too long, two to one tuple.
        for (number, word) in [
            (1, 480 | 1 << 15 | 27 << 17),
            (1, 480 | 1 << 15),
            (2, 448 | 1 << 15 | 64 << 17),
            (2, 480 | 1 << 15 | 32 << 17),
        ] {
            let mut bytes = page();
            point(&mut bytes, number, word);
            assert_eq!(found(&bytes), (vec![], true), "{word:#x}");
        }
        assert_eq!(
            insane(Page::new(&page()), Some(&COLUMNS), 1).and_then(|i| i.doubtful).map(|d| d.0),
            Some(0)
        );
    }

    #[test]
    fn a_tuple_of_more_attributes_than_there_are_is_read_if_its_values_begin_where_they_do() {
        let many: Vec<Attribute> = [INT, TEXT].into_iter().chain([INT; 10]).collect();
        let mut bytes = page();
        // All attributes are there that it has, by a bitmap of one byte.
        (bytes[480 + 20], bytes[480 + 23]) = (1, 0xFF);
        put(&mut bytes, 480 + 18, 0x7FF);
        assert_eq!(found(&bytes), (vec![], true));
        let of_many = insane(Page::new(&bytes), Some(&many), 17).unwrap_or_default();
        assert_eq!(of_many.fenced.iter().map(|f| f.0).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn tuples_with_values_in_toast_are_found_by_these() {
        let mut bytes = page();
        point(&mut bytes, 2, 440 | 1 << 15 | 46 << 17);
        bytes[440..472].copy_from_slice(&[0; 32]);
        put(&mut bytes, 14, 440);
        put(&mut bytes, 440 + 18, 2);
        put(&mut bytes, 440 + 22, 24);
        bytes[468..470].copy_from_slice(&[1, 18]);
        bytes[468 + 10..468 + 14].copy_from_slice(&77_u32.to_le_bytes());
        let page = Page::new(&bytes);
        assert_eq!(pointing(page, &COLUMNS, |value| value == 77), [(2, vec![1])]);
        assert_eq!(pointing(page, &COLUMNS, |value| value == 78), []);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 1_u32;
        let mut bytes = page();
        let mut insane_pages = 0;
        for round in 0..100_000_usize {
            if round % 20 == 0 {
                bytes = page();
            }
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (seed >> 8) as usize % if round % 2 == 0 { 40 } else { bytes.len() };
            bytes[at] = seed.to_le_bytes()[3];
            let page = Page::new(&bytes[..bytes.len() - round % 5]);
            let found = insane(page, Some(&COLUMNS), 17);
            insane_pages += usize::from(found.is_some());
            insane(page, None, 17);
            pointing(page, &COLUMNS, |value| value % 2 == 0);
        }
        assert!(insane_pages > 1000, "{insane_pages}");
    }
}
