//! What the server says when it meets damage, in the words of PostgreSQL 9.6 to
//! 18: a message becomes a [`Saying`].
//!
//! A message is matched from its beginning, so that the text of a statement that
//! has such words in it is not taken for one. Only English words are known.

use super::path::PATH;
use super::pattern;
use regex::bytes::{Captures, Regex, RegexSet};
use std::sync::LazyLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    InvalidPage,
    ChecksumFailure,
    ReadFailed,
    WriteFailed,
    MissingFile,
    BeyondEof,
    MissingChunk,
    UnexpectedChunk,
    IndexDamage,
    SequenceDamage,
    TransactionStatus,
    MultiXact,
    FrozenXid,
    CompressedData,
    PagePointers,
    WalInvalidPages,
    AllocSize,
    NoCheckpoint,
    Crash,
    /// Of class XX or 58, about a relation's file, in words that are not known.
    Other,
    /// Nothing was said: somebody asks about this place.
    Asked,
}

impl Kind {
    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Kind::InvalidPage => "invalid page",
            Kind::ChecksumFailure => "wrong checksum",
            Kind::ReadFailed => "could not be read",
            Kind::WriteFailed => "could not be written",
            Kind::MissingFile => "file missing, or too short",
            Kind::BeyondEof => "data beyond the end of the file",
            Kind::MissingChunk => "missing chunk of a TOAST value",
            Kind::UnexpectedChunk => "unexpected chunk of a TOAST value",
            Kind::IndexDamage => "damaged index",
            Kind::SequenceDamage => "damaged sequence",
            Kind::TransactionStatus => "status of a transaction not there",
            Kind::MultiXact => "MultiXactId that does not exist",
            Kind::FrozenXid => "transaction id that cannot be there",
            Kind::CompressedData => "corrupt compressed data",
            Kind::PagePointers => "corrupted pointers on a page",
            Kind::WalInvalidPages => "WAL refers to invalid pages",
            Kind::AllocSize => "impossible memory request",
            Kind::NoCheckpoint => "no valid checkpoint record",
            Kind::Crash => "crashed process",
            Kind::Other => "other damage",
            Kind::Asked => "asked about",
        }
    }

    /// For programs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::InvalidPage => "invalid_page",
            Kind::ChecksumFailure => "checksum_failure",
            Kind::ReadFailed => "read_failed",
            Kind::WriteFailed => "write_failed",
            Kind::MissingFile => "missing_file",
            Kind::BeyondEof => "beyond_eof",
            Kind::MissingChunk => "missing_chunk",
            Kind::UnexpectedChunk => "unexpected_chunk",
            Kind::IndexDamage => "index_damage",
            Kind::SequenceDamage => "sequence_damage",
            Kind::TransactionStatus => "transaction_status",
            Kind::MultiXact => "multixact",
            Kind::FrozenXid => "frozen_xid",
            Kind::CompressedData => "compressed_data",
            Kind::PagePointers => "page_pointers",
            Kind::WalInvalidPages => "wal_invalid_pages",
            Kind::AllocSize => "alloc_size",
            Kind::NoCheckpoint => "no_checkpoint",
            Kind::Crash => "crash",
            Kind::Other => "other",
            Kind::Asked => "asked",
        }
    }
}

/// What a message says. What it does not say is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Saying {
    pub(super) path: Option<String>,
    /// First and last block, both of them included.
    pub(super) blocks: Option<(u32, u32)>,
    /// Of the blocks only so many are meant.
    pub(super) among: Option<u64>,
    /// The block is counted within the segment that the path names.
    pub(super) within_segment: bool,
    /// Computed, and expected.
    pub(super) checksums: Option<(u32, u32)>,
    /// A relation by its name: `pg_toast_16500`, or an index.
    pub(super) relation: Option<String>,
    pub(super) value: Option<u32>,
    pub(super) xid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) signal: Option<u32>,
    /// The words of the operating system, or what was read instead.
    pub(super) why: Option<String>,
}

/// Signals by which damage ends a process: SIGILL, SIGABRT, SIGBUS, SIGFPE,
/// SIGKILL (also of a kernel that is out of memory), SIGSEGV.
const SIGNALS: [u32; 6] = [4, 6, 7, 8, 9, 11];

/// What is no damage of a file, but of its surroundings.
const ENVIRONMENT: [&str; 6] = [
    "Permission denied",
    "Too many open files",
    "No space left on device",
    "Disk quota exceeded",
    "Cannot allocate memory",
    "Interrupted system call",
];

/// Kinds and their words; `PATH` stands for the path of a relation's file, `BLOCKS`
/// for a block or a range of them.
const TABLE: &[(Kind, &str)] = &[
    // bufmgr.c; in quotes and with the plural since 18.
    (Kind::InvalidPage, r"^invalid page in block (?P<b>\d+) of relation PATH"),
    (
        Kind::InvalidPage,
        r"^(?:zeroing out )?(?P<n>\d+) invalid pages among blocks BLOCKS of relation PATH",
    ),
    (
        Kind::InvalidPage,
        r"^zeroing (?P<n>\d+) page\(s\) and ignoring \d+ checksum failure\(s\) among blocks BLOCKS of relation PATH",
    ),
    (Kind::ChecksumFailure, r"^ignoring checksum failure in block (?P<b>\d+) of relation PATH"),
    (
        Kind::ChecksumFailure,
        r"^ignoring (?P<n>\d+) checksum failures among blocks BLOCKS of relation PATH",
    ),
    // bufpage.c
    (
        Kind::ChecksumFailure,
        r"^page verification failed, calculated checksum (?P<c>\d+) but expected (?P<x>\d+)",
    ),
    // basebackup.c, and pg_checksums
    (
        Kind::ChecksumFailure,
        r"^checksum verification failed in file PATH, block (?P<w>\d+): calculated (?:checksum )?(?P<hc>[0-9A-Fa-f]+) but (?:expected|block contains) (?P<hx>[0-9A-Fa-f]+)",
    ),
    // md.c; the plural since 17.
    (Kind::ReadFailed, r"^could not read blocks? BLOCKS in file PATH: (?P<why>.+)"),
    (Kind::WriteFailed, r"^could not write blocks? BLOCKS in file PATH: (?P<why>.+)"),
    (
        Kind::WriteFailed,
        r"^could not (?:extend|fsync|seek to block \d+ in) file PATH(?: but retrying)?(?: with FileFallocate\(\))?: (?P<why>Input/output error.*)",
    ),
    (Kind::MissingFile, r"^could not open file PATH(?: \(target block (?P<b>\d+)\))?: (?P<why>.+)"),
    (Kind::BeyondEof, r"^unexpected data beyond EOF in block (?P<b>\d+) of relation PATH"),
    // xlogutils.c
    (
        Kind::WalInvalidPages,
        r"^page (?P<b>\d+) of relation PATH (?:is uninitialized|does not exist)",
    ),
    (Kind::WalInvalidPages, r"^WAL contains references to invalid pages"),
    // tuptoaster.c, heaptoast.c
    (
        Kind::MissingChunk,
        r#"^missing chunk number -?\d+ for toast value (?P<v>\d+) in "?(?P<rel>[^\s"]+)"#,
    ),
    (
        Kind::UnexpectedChunk,
        r#"^unexpected chunk number -?\d+ \((?:expected -?\d+|out of range -?\d+\.\.-?\d+)\) for toast value (?P<v>\d+) in "?(?P<rel>[^\s"]+)"#,
    ),
    (
        Kind::UnexpectedChunk,
        r#"^unexpected chunk size -?\d+ \(expected -?\d+\) in (?:final )?chunk -?\d+(?: of -?\d+)? for toast value (?P<v>\d+) in "?(?P<rel>[^\s"]+)"#,
    ),
    // slru.c, multixact.c
    (Kind::TransactionStatus, r"^could not access status of transaction (?P<xid>\d+)"),
    (
        Kind::MultiXact,
        r"^MultiXactId (?P<xid>\d+) (?:has not been created yet|does no longer exist)",
    ),
    (Kind::MultiXact, r"^MultiXact(?:Id)? (?P<xid>\d+) has (?:an )?invalid (?:next )?offset"),
    (Kind::MultiXact, r"^invalid MultiXactId: (?P<xid>\d+)"),
    // heapam.c
    (
        Kind::FrozenXid,
        r"^found (?:xmin|xmax|xvac|update xid|multixact) (?P<xid>\d+) (?:\S+ )*?from before (?:multi freeze |xid )?(?:relfrozenxid|relminmxid|cutoff)",
    ),
    (
        Kind::FrozenXid,
        r"^(?:uncommitted xmin|cannot freeze committed xmax|cannot freeze non-committed xvac|multixact) (?P<xid>\d+)",
    ),
    // nbtree, hash, gist
    (
        Kind::IndexDamage,
        r#"^index "(?P<rel>[^"]+)" (?:contains (?:unexpected zero|corrupted) page at block (?P<b>\d+)|is not a (?:btree|hash index|GiST index))"#,
    ),
    (
        Kind::IndexDamage,
        r#"^(?:could not find left sibling of block (?P<b>\d+)|right sibling's left-link doesn't match: block \d+ links to \d+ instead of expected \d+|failed to re-find (?:parent key|tuple within|parent of a page)|left link changed unexpectedly).*? index "(?P<rel>[^"]+)""#,
    ),
    (Kind::SequenceDamage, r#"^bad magic number in sequence "(?P<rel>[^"]+)""#),
    (Kind::CompressedData, r"^compressed (?:(?:pglz|lz4) )?data is corrupt"),
    (Kind::PagePointers, r"^corrupted (?:page pointers|line pointer|item pointer|item lengths)"),
    (Kind::AllocSize, r"^invalid memory alloc(?:ation)? request size (?P<size>\d+)"),
    (Kind::NoCheckpoint, r"^could not locate (?:a valid|required) checkpoint record"),
    (
        Kind::Crash,
        r"^(?P<rel>[^\x00]{1,100}?) \(PID \d+\) was terminated by signal (?P<sig>\d+)(?:: (?P<why>[^\r\n]{1,80}))?",
    ),
];

struct Words {
    set: RegexSet,
    each: Vec<Regex>,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let expanded: Vec<String> = TABLE
        .iter()
        .map(|(_, words)| {
            words.replace("PATH", PATH).replace("BLOCKS", r"(?P<b>\d+)(?:\.\.(?P<e>\d+))?")
        })
        .collect();
    Words { set: super::patterns(&expanded), each: expanded.iter().map(|w| pattern(w)).collect() }
});

/// What a message says of damage, if it does.
pub(super) fn saying(message: &[u8]) -> Option<(Kind, Saying)> {
    let at = WORDS.set.matches(message).iter().next()?;
    let found = WORDS.each.get(at)?.captures(message)?;
    let kind = TABLE.get(at)?.0;
    let saying = read(&found);
    let is_damage = match kind {
        Kind::Crash => saying.signal.is_some_and(|s| SIGNALS.contains(&s)),
        Kind::ReadFailed | Kind::WriteFailed | Kind::MissingFile => {
            let why = saying.why.as_deref().unwrap_or_default();
            let of_surroundings = ENVIRONMENT.iter().any(|e| why.contains(e));
            // A file that is short while its relation grows is no damage.
            let of_growth = kind == Kind::WriteFailed && why.starts_with("wrote only");
            !of_surroundings && !of_growth
        }
        _ => true,
    };
    is_damage.then_some((kind, saying))
}

/// What a DETAIL adds: the block behind which others were counted, and the file
/// of pg_xact and its kin.
pub(super) fn detail(detail: &[u8]) -> (Option<u32>, Option<(String, String)>) {
    static FIRST: LazyLock<Regex> = LazyLock::new(|| {
        pattern(r"^Block (?P<b>\d+) held the first (?:invalid|zeroed|ignored) page")
    });
    static SLRU: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r#"^Could not (?:open|read|seek|write|access|fsync|close)[^"]*"(?P<file>pg_[a-z_]+(?:/[a-z]+)?/[0-9A-Fa-f]{4,15})"(?P<why>[^\r\n]*)"#,
        )
    });
    let block = FIRST.captures(detail).and_then(|f| number(&f, "b"));
    let slru = SLRU.captures(detail).and_then(|f| {
        let why = text(&f, "why")?;
        let why = why.trim_start_matches([':', ' ']).trim_end_matches('.').to_owned();
        Some((text(&f, "file")?, why))
    });
    (block, slru)
}

/// What a CONTEXT adds: the relation that was looked at, and the block.
pub(super) fn context(context: &[u8]) -> Option<(String, Option<u32>)> {
    static SCANNING: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r#"(?:while (?:scanning|vacuuming|truncating|pruning)(?: block (?P<b>\d+)(?: and offset \d+|, offset \d+)?)?(?: of)? relation "(?P<rel>[^"]+)"|automatic (?:vacuum|analyze) of table "(?P<auto>[^"]+)")"#,
        )
    });
    let found = SCANNING.captures(context)?;
    let relation = text(&found, "rel").or_else(|| text(&found, "auto"))?;
    Some((relation, number(&found, "b")))
}

/// Words that are not known, about one file of a relation and at most one
/// number before or behind it: for entries of which the SQLSTATE says that they
/// are of damage.
pub(super) fn translated(message: &[u8]) -> Option<Saying> {
    static FILE: LazyLock<Regex> = LazyLock::new(|| pattern(PATH));
    let found = FILE.captures(message)?;
    let path = found.name("path")?;
    let rest = [message.get(..path.start())?, message.get(path.end()..)?].concat();
    let numbers: Vec<u32> = rest
        .split(|b| !b.is_ascii_digit())
        .filter(|n| !n.is_empty())
        .filter_map(|n| std::str::from_utf8(n).ok()?.parse().ok())
        .collect();
    let blocks = match numbers.as_slice() {
        [one] => Some((*one, *one)),
        _ => None,
    };
    Some(Saying { path: text(&found, "path"), blocks, ..Saying::default() })
}

fn read(found: &Captures<'_>) -> Saying {
    let first = number(found, "b").or_else(|| number(found, "w"));
    let last = number(found, "e").or(first);
    let hex = |name: &str| u32::from_str_radix(&text(found, name)?, 16).ok();
    Saying {
        path: text(found, "path"),
        blocks: first.zip(last).map(|(a, b)| (a.min(b), a.max(b))),
        among: number(found, "n").map(u64::from),
        within_segment: named(found, "w").is_some(),
        checksums: number(found, "c").zip(number(found, "x")).or_else(|| hex("hc").zip(hex("hx"))),
        relation: text(found, "rel"),
        value: number(found, "v"),
        xid: number(found, "xid"),
        size: text(found, "size").and_then(|s| s.parse().ok()),
        signal: number(found, "sig"),
        why: text(found, "why"),
    }
}

fn named<'a>(found: &Captures<'a>, name: &str) -> Option<&'a [u8]> {
    found.name(name).map(|m| m.as_bytes())
}

fn text(found: &Captures<'_>, name: &str) -> Option<String> {
    named(found, name).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn number(found: &Captures<'_>, name: &str) -> Option<u32> {
    std::str::from_utf8(named(found, name)?).ok()?.parse().ok()
}
