//! Listens to what a server sends, for the one thing that the client library
//! keeps to itself: how many rows the server says that a COPY had. And makes one
//! message of many rows, where they come in text format: what a message costs the
//! library is more than what a row costs us, and rows come by the ten million.
//!
//! It follows the frames of the protocol (a type and a length) and looks into
//! no message but the one that a command ends with. What does not look like
//! frames is not listened to any more: nothing is known then, and nothing else
//! happens.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// A type and a length, which counts itself.
const HEAD: usize = 5;
const LENGTH: usize = 4;

/// Longer messages are none: a row has at most 1 GB (`MaxAllocSize`), and its
/// length before it.
const MESSAGE_MAX: u32 = 0x4000_0400;

/// So many bytes of rows are joined at most, but for a row that has more alone.
const JOINED_MAX: usize = 256 * 1024;

/// The types of messages of a backend, but for those that nobody sends us
/// (copying in, replication, calls of functions).
const TYPES: &[u8] = b"123ACDEHIKNRSTZcdnstv";

/// `COPY 18446744073709551615` with its end: longer tags are of other commands.
const TAG_MAX: usize = 32;

/// No COPY has ended since the last one began.
const UNKNOWN: u64 = u64::MAX;

/// What the last COPY in text format came to, as the server says: in that, each
/// row ends with a newline of its own, and can be counted. Clones share it.
#[derive(Clone, Debug)]
pub struct Copied(Arc<AtomicU64>);

impl Default for Copied {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(UNKNOWN)))
    }
}

impl Copied {
    /// The rows of the last COPY, once its end has been read.
    pub fn rows(&self) -> Option<u64> {
        Some(self.0.load(Relaxed)).filter(|&rows| rows != UNKNOWN)
    }
}

/// What the next byte belongs to.
#[derive(Debug)]
enum At {
    /// The beginning of a message, of which so much has come.
    Head([u8; HEAD], usize),
    /// A message, of which so much is still to come.
    Body(usize),
    /// The beginning of a COPY, likewise: its first byte says the format.
    Begin(usize),
    /// The tag of a command, as far as it has come, likewise.
    Tag(Vec<u8>, usize),
    /// Nobody knows.
    Lost,
}

#[derive(Debug)]
pub(super) struct Tap {
    at: At,
    /// Whether the last COPY is in text format.
    text: bool,
    copied: Copied,
}

impl Default for Tap {
    fn default() -> Self {
        Self { at: At::Head([0; HEAD], 0), text: false, copied: Copied::default() }
    }
}

impl Tap {
    pub(super) fn copied(&self) -> Copied {
        self.copied.clone()
    }

    /// Listens to the next bytes, wherever they are cut, and joins the rows among
    /// them. Returns how many bytes that leaves, at the beginning.
    pub(super) fn hear(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            if self.text
                && matches!(self.at, At::Head(_, 0))
                && let Some(joined) = join_rows(bytes, at, kept)
            {
                (at, kept) = joined;
                continue;
            }
            let taken = self.follow(&bytes[at..]);
            bytes.copy_within(at..at + taken, kept);
            (at, kept) = (at + taken, kept + taken);
        }
        kept
    }

    /// Takes in what belongs together of the next bytes, at least one; returns how
    /// many that is.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        let next = bytes[0];
        match &mut self.at {
            At::Head(_, 0) if bytes.len() >= HEAD => {
                let head = std::array::from_fn(|i| bytes[i]);
                self.at = self.message(head);
                HEAD
            }
            At::Head(head, come) => {
                head[*come] = next;
                *come += 1;
                if *come == HEAD {
                    let head = *head;
                    self.at = self.message(head);
                }
                1
            }
            At::Begin(left) => {
                self.text = next == 0;
                self.at = body(*left - 1);
                1
            }
            At::Body(left) => {
                let taken = bytes.len().min(*left);
                self.at = body(*left - taken);
                taken
            }
            At::Tag(tag, left) => {
                let taken = bytes.len().min(*left);
                tag.extend_from_slice(&bytes[..taken]);
                *left -= taken;
                if *left == 0 {
                    let rows = rows_of(tag).filter(|_| self.text);
                    self.copied.0.store(rows.unwrap_or(UNKNOWN), Relaxed);
                    self.at = At::Head([0; HEAD], 0);
                }
                taken
            }
            At::Lost => bytes.len(),
        }
    }

    /// What follows the head of a message.
    fn message(&self, head: [u8; HEAD]) -> At {
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length);
        let left = length.checked_sub(4).and_then(|left| usize::try_from(left).ok());
        let known = TYPES.contains(&kind) && length <= MESSAGE_MAX;
        let Some(left) = left.filter(|_| known) else {
            self.copied.0.store(UNKNOWN, Relaxed);
            return At::Lost;
        };
        match kind {
            // CopyOutResponse: a COPY begins.
            b'H' if left > 0 => {
                self.copied.0.store(UNKNOWN, Relaxed);
                At::Begin(left)
            }
            // CommandComplete.
            b'C' if (1..=TAG_MAX).contains(&left) => At::Tag(Vec::with_capacity(left), left),
            _ => body(left),
        }
    }
}

/// So much of a message is still to come.
fn body(left: usize) -> At {
    if left == 0 { At::Head([0; HEAD], 0) } else { At::Body(left) }
}

/// Makes one message of the rows that are there as a whole from a place on, and
/// puts it where another ends. Returns the places behind both; none: no row is.
fn join_rows(bytes: &mut [u8], from: usize, kept: usize) -> Option<(usize, usize)> {
    let (mut at, mut end) = (from, kept + HEAD);
    while let Some(row) = whole_row(bytes, at) {
        let length = row.end - row.start;
        if at > from && end + length > kept + JOINED_MAX {
            break;
        }
        at = row.end;
        bytes.copy_within(row, end);
        end += length;
    }
    let length = u32::try_from(end - kept - 1).ok().filter(|_| at > from)?;
    bytes[kept] = b'd';
    bytes[kept + 1..kept + HEAD].copy_from_slice(&length.to_be_bytes());
    Some((at, end))
}

/// Where the row is that a message brings, if it is there as a whole.
fn whole_row(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let [b'd', length @ ..] = *bytes.get(at..)?.first_chunk::<HEAD>()? else { return None };
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    let row = at + HEAD..at.checked_add(1)?.checked_add(length)?;
    (length >= LENGTH && row.end <= bytes.len()).then_some(row)
}

/// The number in the tag of a COPY.
fn rows_of(tag: &[u8]) -> Option<u64> {
    let rows = tag.strip_suffix(b"\0")?.strip_prefix(b"COPY ")?;
    std::str::from_utf8(rows).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + LENGTH).unwrap().to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    fn session() -> Vec<u8> {
        [
            message(b'R', &[0, 0, 0, 0]),
            message(b'S', b"server_version\x0018.4\0"),
            message(b'Z', b"I"),
            message(b'1', b""),
            message(b'2', b""),
            message(b'H', &[0, 0, 1, 0, 0]),
            message(b'd', b"1\tC\n"),
            message(b'd', b"\n"),
            message(b'd', b""),
            message(b'N', b"SWARNING\0\0"),
            message(b'd', &[b'x'; 300]),
            message(b'c', b""),
            message(b'C', b"COPY 4711\0"),
            message(b'Z', b"T"),
        ]
        .concat()
    }

    fn heard<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<u64> {
        let mut tap = Tap::default();
        passed(&mut tap, pieces);
        tap.copied().rows()
    }

    /// What is left of these.
    fn passed<'a>(tap: &mut Tap, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in pieces {
            let mut piece = piece.to_vec();
            let kept = tap.hear(&mut piece);
            assert_eq!(kept == 0, piece.is_empty(), "to the reader that is the end");
            all.extend_from_slice(&piece[..kept]);
        }
        all
    }

    /// The messages, rows that follow each other as one, and how many there were.
    fn messages(mut bytes: &[u8]) -> (Vec<(u8, Vec<u8>)>, usize) {
        let (mut all, mut count) = (Vec::<(u8, Vec<u8>)>::new(), 0);
        while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
            let [kind, length @ ..] = *head;
            let (text, rest) = rest.split_at(u32::from_be_bytes(length) as usize - LENGTH);
            match all.last_mut() {
                Some((b'd', before)) if kind == b'd' => before.extend_from_slice(text),
                _ => all.push((kind, text.to_vec())),
            }
            (bytes, count) = (rest, count + 1);
        }
        assert_eq!(bytes, b"");
        (all, count)
    }

    #[test]
    fn rows_are_joined_and_nothing_else_is_altered_wherever_the_bytes_are_cut() {
        let session = session();
        let (all, count) = messages(&session);
        for size in 1..=session.len() {
            let passed = passed(&mut Tap::default(), session.chunks(size));
            let (left, fewer) = messages(&passed);
            assert_eq!(left, all, "pieces of {size}");
            assert!(fewer <= count);
        }
        // The three rows before the notice are one.
        let whole = passed(&mut Tap::default(), [&session[..]]);
        assert_eq!(messages(&whole).1, count - 2);
        let mut binary = session.clone();
        let format = session.windows(6).position(|w| w == [b'H', 0, 0, 0, 9, 0]).unwrap() + 5;
        binary[format] = 1;
        assert_eq!(passed(&mut Tap::default(), [&binary[..]]), binary);
    }

    #[test]
    fn so_much_is_joined_and_no_more() {
        let row = message(b'd', &[b'x'; 999]);
        let large = message(b'd', &vec![b'y'; 2 * JOINED_MAX]);
        let rows = [row.repeat(1000), large, row.repeat(10)].concat();
        let mut tap = Tap::default();
        passed(&mut tap, [&message(b'H', &[0; 3])[..]]);
        let joined = passed(&mut tap, [&rows[..]]);
        assert_eq!(messages(&joined).0, messages(&rows).0);
        let lengths = [JOINED_MAX / 999 * 999; 3].into_iter();
        let expected: Vec<usize> =
            lengths.chain([1000 * 999 - 3 * (JOINED_MAX / 999 * 999)]).collect();
        let mut at = 0;
        let mut lengths = Vec::new();
        while let Some(row) = whole_row(&joined, at) {
            lengths.push(row.len());
            at = row.end;
        }
        assert_eq!(lengths, [&expected[..], &[2 * JOINED_MAX, 9990]].concat());
    }

    #[test]
    fn the_tag_of_a_copy_is_heard_wherever_the_bytes_are_cut() {
        let session = session();
        assert_eq!(heard(session.chunks(1)), Some(4711));
        for a in 0..session.len() {
            let (before, after) = session.split_at(a);
            assert_eq!(heard([before, after]), Some(4711), "cut at {a}");
            assert_eq!(heard(session.chunks(a + 1)), Some(4711), "pieces of {}", a + 1);
        }
    }

    #[test]
    fn a_tag_is_known_from_the_end_of_its_copy_to_the_begin_of_the_next() {
        let mut tap = Tap::default();
        let copied = tap.copied();
        assert_eq!(copied.rows(), None);
        tap.hear(&mut session());
        assert_eq!(copied.rows(), Some(4711));
        tap.hear(&mut message(b'H', &[0; 5]));
        assert_eq!(copied.rows(), None);
        tap.hear(&mut message(b'E', b"SERROR\0\0"));
        assert_eq!(copied.rows(), None);
        tap.hear(&mut session());
        tap.hear(&mut message(b'C', b"SELECT 3\0"));
        assert_eq!(copied.rows(), None);
    }

    #[test]
    fn the_rows_of_a_binary_copy_are_not_counted() {
        let ends = message(b'C', b"COPY 1\0");
        for (format, rows) in [(0, Some(1)), (1, None), (0, Some(1))] {
            let begins = message(b'H', &[format, 0, 1, 0, format]);
            assert_eq!(heard([&begins[..], &ends]), rows);
            assert_eq!(heard([begins, ends.clone()].concat().chunks(1)), rows);
        }
    }

    #[test]
    fn what_does_not_look_like_frames_is_heard_no_more() {
        let odd: [&[u8]; 5] = [
            b"HTTP/1.1 400 Bad Request\r\n",
            &[b'd', 0, 0, 0, 3],
            &[b'd', 0xFF, 0xFF, 0xFF, 0xFF],
            &[0; 64],
            &[b'Q', 0, 0, 0, 4],
        ];
        for odd in odd {
            assert_eq!(heard([&session(), odd]), None, "{odd:?}");
            assert_eq!(heard([odd, &session()]), None, "{odd:?}");
        }
        for tag in
            [&b"COPY\0"[..], b"COPY \0", b"COPY 1", b"COPY -1\0", b"COPY 99999999999999999999\0"]
        {
            assert_eq!(heard([&message(b'C', tag)[..]]), None, "{tag:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = 1_u64;
        for _ in 0..2_000 {
            let bytes: Vec<u8> = (0..200)
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let [one, two, ..] = random.to_be_bytes();
                    [b'd', 0, 0, 4, b'C', b'H', one, 5][usize::from(two % 8)]
                })
                .collect();
            let mut tap = Tap::default();
            let size = 1 + usize::from(bytes[0] % 17);
            passed(&mut tap, bytes.chunks(size));
        }
    }
}
