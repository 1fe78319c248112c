//! What an error means: the one place that knows SQLSTATEs, routines and words.
//!
//! The message may be translated, so SQLSTATE, severity and the source routine
//! decide first. Of the words only paths, numbers and identifiers are used,
//! which no translation touches.

mod restoring;

pub use restoring::{is_duplicate_key, is_orphan, is_there_already, refusal};

use super::error::CheckFault;
use super::restoring::Meaning;
pub use super::words::Words;
use crate::heap::{BlockNumber, Place};
use std::time::Duration;
use tokio_postgres::Error;
use tokio_postgres::error::Severity;

/// OIDs, and so names of files, below this are given out by initdb
/// (`access/transam.h`).
pub const FIRST_NORMAL_OID: u32 = 16_384;

/// When in a statement it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the first row could come: parsing, permissions, locks.
    Start,
    /// While rows were coming.
    Rows,
}

/// What to do about a read that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was read is damaged: read less at a time.
    Damage(Place),
    /// The session is gone, and perhaps the whole server for a while.
    SessionLost,
    /// The server is short of something, or somebody is in the way: wait, and
    /// read the same again. Never damage.
    Environment,
    /// The server was silent, or slow, for too long, and the read was ended: read
    /// less at a time. Never damage.
    Hung,
    /// Not as many rows came as the server has sent: something on the way loses
    /// them, and the read cannot be believed. Never damage.
    Miscounted,
    /// A row is larger, as text, than the server can send. No damage, unless it is
    /// a length that is damaged: the sizes of the tuple's values tell.
    TooLarge,
    /// No other read of this relation will do better.
    Pointless,
}

/// Decides what an error means. `path` is the relation's file, as
/// `pg_relation_filepath` gives it.
///
/// An ERROR that we do not know means damage: on a damaged database almost any
/// code can come up, and a needless narrower read costs little, where a
/// relation given up costs its rows.
pub fn fault(error: &Error, phase: Phase, path: Option<&str>) -> Fault {
    let fatal = error.as_db_error().is_none_or(|db| {
        matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
            || matches!(db.severity(), "FATAL" | "PANIC")
    });
    if fatal { Fault::SessionLost } else { meaning(&Words::of(error), phase, path) }
}

fn meaning(words: &Words, phase: Phase, path: Option<&str>) -> Fault {
    let code = words.sqlstate.as_str();
    match (code.get(..2).unwrap_or(""), code) {
        // Class 53: disk full, out of memory, too many connections. 55P03: lock
        // not available. 57014: cancelled, by a timeout or by somebody. 40001,
        // 40P01: a conflict with recovery, a deadlock. 72000: snapshot too old.
        ("53", _) | (_, "55P03" | "57014" | "40001" | "40P01") => Fault::Environment,
        (_, "72000") => Fault::Pointless,
        (_, "54000") if words.routine.as_deref() == Some("enlargeStringInfo") => Fault::TooLarge,
        (_, "XX000") if asks_for_too_much(words) => Fault::TooLarge,
        // Only before the first row: damaged values can raise these, too.
        ("0A" | "26" | "3F" | "55", _) | (_, "42501" | "42P01" | "42703" | "42809" | "22023")
            if phase == Phase::Start =>
        {
            Fault::Pointless
        }
        _ => Fault::Damage(place(words, path)),
    }
}

/// How often what is short, or in the way, is waited for, each time twice as long
/// as before.
const WAITS_MAX: u32 = 5;
const WAIT_FIRST: Duration = Duration::from_millis(200);

/// How long to wait for the server after so many waits. None: no more.
pub fn wait_after(waits: u32) -> Option<Duration> {
    (waits < WAITS_MAX).then(|| WAIT_FIRST * 2u32.pow(waits))
}

/// What failed is the type of a column, and no value: the library that it needs
/// is missing, or is another one (dfmgr.c and fmgr.c).
pub fn is_of_type(words: &Words) -> bool {
    const ROUTINES: &[&str] = &[
        "internal_load_library",
        "load_external_function",
        "lookup_external_function",
        "expand_dynamic_library_name",
        "substitute_libpath_macro",
        "substitute_path_macro",
        "incompatible_module_error",
        "fmgr_info_C_lang",
        "fetch_finfo_record",
    ];
    words.routine.as_deref().is_some_and(|r| ROUTINES.contains(&r))
}

/// A file is not there: one of a relation, of pg_xact, or a library.
pub fn is_missing_file(words: &Words) -> bool {
    words.sqlstate == "58P01"
}

/// Something may not be done by this role.
pub fn is_permission(sqlstate: &str) -> bool {
    sqlstate == "42501"
}

/// Of `txid_status`: the number of a transaction that is still to come.
pub fn is_in_the_future(sqlstate: &str) -> bool {
    sqlstate == "22023"
}

/// The server is short of something: memory, disk, connections.
pub fn is_shortage(sqlstate: &str) -> bool {
    sqlstate.starts_with("53")
}

/// Whether these words, before any row, tell of no damage: something may not be
/// read, or somebody is in the way.
pub fn is_refusal(words: &Words) -> bool {
    matches!(meaning(words, Phase::Start, None), Fault::Environment | Fault::Pointless)
}

/// What the server said of the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// For a reason that is no crash: an administrator, a timeout, a conflict
    /// with recovery.
    Told,
    /// Another session has crashed, and all are ended: it was told, or another
    /// hung up before.
    ByCrashOfAnother,
    /// Nothing: it may be this one that crashed.
    Silently,
}

/// Decides it from the last words and the SQLSTATEs of the warnings before.
pub fn ended(words: &Words, warnings: &[String]) -> Ended {
    let says = |code: &str| words.sqlstate == code || warnings.iter().any(|w| w == code);
    if says("57P02") {
        Ended::ByCrashOfAnother
    } else if !words.sqlstate.is_empty() || says("57P01") {
        Ended::Told
    } else {
        Ended::Silently
    }
}

/// Classes XX and 58: what the server says of data, indexes and files that are
/// not as they must be.
pub fn is_of_damage(sqlstate: &str) -> bool {
    sqlstate.starts_with("XX") || sqlstate.starts_with("58")
}

/// Whether the words name a file that initdb has made: one of a system catalog,
/// or of an index of one. (One that was rewritten since has another name.)
pub fn names_a_catalog(words: &Words) -> bool {
    ["base/", "global/"].iter().any(|folder| {
        words.message.match_indices(folder).any(|(at, _)| {
            let path = &words.message[at + folder.len()..];
            let path =
                if *folder == "base/" { path.split_once('/').map(|(_, n)| n) } else { Some(path) };
            let digits = |p: &str| p.chars().take_while(char::is_ascii_digit).collect::<String>();
            path.is_some_and(|p| digits(p).parse().is_ok_and(|n: u32| n < FIRST_NORMAL_OID))
        })
    })
}

/// The server is going down, or coming up.
pub fn is_not_ready(sqlstate: &str) -> bool {
    sqlstate.starts_with("57P")
}

/// Of a COPY that is not what the server says that it was: a violation of the
/// protocol.
pub const MISCOUNTED: &str = "08P01";

/// The exported snapshot is gone: whoever exported it is.
pub fn is_stale_snapshot(sqlstate: &str) -> bool {
    matches!(sqlstate, "22023" | "55000" | "42704" | "0A000")
}

/// Bytes that mean nothing in their encoding, or in the one that was asked for.
pub fn is_untranslatable(sqlstate: &str) -> bool {
    matches!(sqlstate, "22021" | "22P05")
}

/// A timeout: of a statement, a transaction, or of a session or transaction
/// that is idle.
pub fn is_timeout(sqlstate: &str) -> bool {
    matches!(sqlstate, "57014" | "25P04" | "57P05" | "25P03")
}

/// A statement that was cancelled, by a timeout or by somebody.
pub fn is_cancellation(sqlstate: &str) -> bool {
    sqlstate == "57014"
}

/// What is heard of a backend that was terminated: that, or that the connection
/// is closed.
pub fn is_termination(sqlstate: &str) -> bool {
    matches!(sqlstate, "57P01" | "57014" | "")
}

/// The server has no memory left, for this or for anything.
pub fn is_out_of_memory(sqlstate: &str) -> bool {
    sqlstate == "53200"
}

/// A lock was not had in time.
pub fn is_lock_timeout(sqlstate: &str) -> bool {
    sqlstate == "55P03"
}

/// Whether the server has ended the session with these words, or nobody spoke.
pub fn is_fatal(words: &Words) -> bool {
    words.sqlstate.is_empty() || matches!(words.severity.as_str(), "FATAL" | "PANIC")
}

/// What a statement names and the server does not have (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Or its schema.
    Relation,
    Column,
}

/// Whether it is that what an error means.
pub fn missing(sqlstate: &str) -> Option<Missing> {
    match sqlstate {
        "42P01" | "3F000" => Some(Missing::Relation),
        "42703" => Some(Missing::Column),
        _ => None,
    }
}

/// What it means that a check by amcheck has failed. `is_toast`: of a TOAST
/// relation or its index, of which the name does not tell of another.
pub fn of_check(words: &Words, path: Option<&str>, is_toast: bool) -> CheckFault {
    let code = words.sqlstate.as_str();
    let is_missing = words.routine.as_deref() == Some("relation_open") || code == "42P01";
    let is_refused = matches!(code.get(..2), Some("0A" | "55"))
        || matches!(code, "42501" | "42809" | "42883")
        || is_of_type(words);
    match meaning(words, Phase::Rows, path) {
        _ if is_fatal(words) => CheckFault::SessionLost,
        Fault::Environment => CheckFault::Environment,
        _ if is_missing => CheckFault::Missing,
        _ if is_refused => CheckFault::Refused,
        _ if is_invalid_value(code) => CheckFault::Shorter,
        Fault::Damage(Place::Elsewhere) if is_toast && !names_a_file(&words.message) => {
            CheckFault::Damage(Place::Unknown)
        }
        Fault::Damage(place) if is_of_damage(code) => CheckFault::Damage(place),
        _ => CheckFault::Other,
    }
}

/// Of the check of a b-tree: a row of its table is not in it.
pub fn is_missing_in_index(words: &Words) -> bool {
    words.routine.as_deref() == Some("bt_tuple_present_callback")
}

/// Of the check of a b-tree: two visible rows have one key.
pub fn is_shared_key(words: &Words) -> bool {
    words.routine.as_deref() == Some("bt_report_duplicate")
}

/// An argument of a function means nothing.
pub fn is_invalid_value(sqlstate: &str) -> bool {
    sqlstate == "22023"
}

/// Where the words say that the damage is.
fn place(words: &Words, path: Option<&str>) -> Place {
    // "missing chunk number 0 for toast value 16999 in pg_toast_16500", and its
    // relatives: the name of the TOAST relation is in all of them.
    // "no valid index found for toast relation with Oid 16876".
    let no_index = words.routine.as_deref() == Some("toast_open_indexes");
    if no_index || words.message.contains("pg_toast_") {
        return Place::Elsewhere;
    }
    match (path.and_then(|p| file_named(&words.message, p)), names_a_file(&words.message)) {
        (Some(Named { fork: false, before }), _) if reads_a_page(words) => match block_in(before) {
            Some(block) => Place::Page(block),
            None => Place::Unknown,
        },
        (Some(Named { fork: false, .. }), _) | (None, false) => Place::Unknown,
        _ => Place::Elsewhere,
    }
}

/// The routines that report a page that could not be read: of bufmgr.c up to
/// 16, in 17 and 18; of md.c up to 16, in 17 and 18.
fn reads_a_page(words: &Words) -> bool {
    const ROUTINES: &[&str] = &[
        "ReadBuffer_common",
        "WaitReadBuffers",
        "buffer_readv_report",
        "mdread",
        "mdreadv",
        "md_readv_report",
    ];
    words.routine.as_deref().is_some_and(|r| ROUTINES.contains(&r))
}

/// Whether the words name this file.
pub fn names_file(words: &Words, path: &str) -> bool {
    file_named(&words.message, path).is_some()
}

/// The words name the relation's file, or another fork of it.
struct Named<'a> {
    fork: bool,
    /// The words before the path.
    before: &'a str,
}

/// Finds the path as a whole: `base/5/164` is not in `base/5/16468`, and
/// `base/5/16468_vm` is another fork of `base/5/16468`.
fn file_named<'a>(message: &'a str, path: &str) -> Option<Named<'a>> {
    message.match_indices(path).find_map(|(at, _)| {
        let before = &message[..at];
        let after = message[at + path.len()..].chars().next();
        let starts = !before.ends_with(|c: char| c.is_alphanumeric() || c == '/' || c == '_');
        let ends = !after.is_some_and(|c| c.is_alphanumeric() || c == '/');
        (starts && ends).then_some(Named { fork: after == Some('_'), before })
    })
}

/// Whether any relation's file is named: `base/5/16468`, `global/1262`,
/// `pg_tblspc/...`.
fn names_a_file(message: &str) -> bool {
    ["base/", "global/", "pg_tblspc/"].iter().any(|p| message.contains(p))
}

/// The block in "invalid page in block 1000 of relation", "could not read
/// blocks 172..172 in file": one number before the path, or twice the same.
/// "2 invalid pages among blocks 991..1006" says none.
fn block_in(before: &str) -> Option<BlockNumber> {
    let numbers: Vec<&str> =
        before.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty()).collect();
    match numbers.as_slice() {
        [one] => one.parse().ok(),
        [one, other] if one == other => one.parse().ok(),
        _ => None,
    }
}

/// The most that the server makes at once (`MaxAllocSize`, `memutils.h`).
const ALLOC_MAX: u64 = 0x3fff_ffff;

/// Whether the server was to make more than it can, and no more than the text of
/// a value may need that it has: each byte of a bytea is two digits. "invalid
/// memory alloc request size 1100000003".
fn asks_for_too_much(words: &Words) -> bool {
    let of_memory = |r: &str| r.starts_with("MemoryContext") || r.contains("palloc");
    let number = words.message.rsplit(|c: char| !c.is_ascii_digit()).find(|n| !n.is_empty());
    words.routine.as_deref().is_some_and(of_memory)
        && number
            .and_then(|n| n.parse().ok())
            .is_some_and(|n: u64| n > ALLOC_MAX && n <= 2 * ALLOC_MAX + 16)
}

/// Whether a compressed value could not be unpacked: it may have been in the
/// heap itself, or put together from TOAST.
pub fn is_bad_compression(words: &Words) -> bool {
    // XX000 up to PostgreSQL 13.
    matches!(words.sqlstate.as_str(), "XX001" | "XX000")
        && words.routine.as_deref().is_some_and(|r| {
            r.starts_with("pglz_decompress")
                || r.starts_with("lz4_decompress")
                || r.starts_with("toast_decompress")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: Option<&str> = Some("base/5/16468");

    fn words(sqlstate: &str, routine: &str, message: &str) -> Words {
        Words {
            severity: "ERROR".to_owned(),
            sqlstate: sqlstate.to_owned(),
            routine: Some(routine.to_owned()),
            message: message.to_owned(),
            ..Words::default()
        }
    }

    /// One line each of docs/errors.md.
    #[test]
    fn files_of_catalogs_are_told_from_others() {
        for (message, is) in [
            ("invalid page in block 2 of relation base/5/2662", true),
            ("invalid page in block 0 of relation \"base/5/1259\"", true),
            ("could not read block 1 in file \"global/1260\": read only 0 of 8192 bytes", true),
            ("invalid page in block 2 of relation base/5/16468", false),
            ("could not open file \"base/5/16468\": No such file or directory", false),
            ("invalid page in block 2 of relation pg_tblspc/16400/PG_15_1/5/16468", false),
            ("missing chunk number 0 for toast value 16999 in pg_toast_2619", false),
        ] {
            assert_eq!(names_a_catalog(&words("XX001", "x", message)), is, "{message}");
        }
    }

    #[test]
    fn each_error_means_what_the_table_says() {
        use Fault::{Damage, Environment, Pointless, TooLarge};
        use Place::{Elsewhere, Page, Unknown};
        let table = [
            (
                "XX001",
                "ReadBuffer_common",
                "invalid page in block 1000 of relation base/5/16468",
                Damage(Page(1000)),
            ),
            (
                "XX001",
                "WaitReadBuffers",
                "invalid page in block 7 of relation base/5/16468",
                Damage(Page(7)),
            ),
            (
                "XX001",
                "buffer_readv_report",
                "invalid page in block 7 of relation \"base/5/16468\"",
                Damage(Page(7)),
            ),
            (
                "XX001",
                "buffer_readv_report",
                "2 invalid pages among blocks 991..1006 of relation \"base/5/16468\"",
                Damage(Unknown),
            ),
            (
                "XX001",
                "mdread",
                "could not read block 172 in file \"base/5/16468\": read only 0 of 8192 bytes",
                Damage(Page(172)),
            ),
            (
                "XX001",
                "mdreadv",
                "could not read blocks 131080..131080 in file \"base/5/16468.1\": read only 0 of 8192 bytes",
                Damage(Page(131_080)),
            ),
            (
                "58030",
                "mdread",
                "could not read block 172 in file \"base/5/16468\": Input/output error",
                Damage(Page(172)),
            ),
            (
                "XX001",
                "ReadBuffer_common",
                "ungültige Seite in Block 12 von Relation base/5/16468",
                Damage(Page(12)),
            ),
            (
                "XX001",
                "ReadBuffer_common",
                "invalid page in block 2 of relation base/5/164689",
                Damage(Elsewhere),
            ),
            (
                "XX001",
                "ReadBuffer_common",
                "invalid page in block 2 of relation base/15/16468",
                Damage(Elsewhere),
            ),
            (
                "XX001",
                "ReadBuffer_common",
                "invalid page in block 2 of relation base/5/16468_vm",
                Damage(Elsewhere),
            ),
            (
                "58P01",
                "mdopenfork",
                "could not open file \"base/5/16468\": No such file or directory",
                Damage(Unknown),
            ),
            (
                "58P01",
                "mdopenfork",
                "could not open file \"base/5/2619\": No such file or directory",
                Damage(Elsewhere),
            ),
            (
                "58P01",
                "SlruReportIOError",
                "could not access status of transaction 12345",
                Damage(Unknown),
            ),
            (
                "XX001",
                "heap_fetch_toast_slice",
                "missing chunk number 0 for toast value 16999 in pg_toast_16500",
                Damage(Elsewhere),
            ),
            ("XX001", "pglz_decompress_datum", "compressed pglz data is corrupt", Damage(Unknown)),
            (
                "XX000",
                "palloc",
                "invalid memory alloc request size 18446744073709551613",
                Damage(Unknown),
            ),
            ("53200", "AllocSetAlloc", "out of memory", Environment),
            ("55P03", "ProcSleep", "canceling statement due to lock timeout", Environment),
            (
                "57014",
                "ProcessInterrupts",
                "canceling statement due to statement timeout",
                Environment,
            ),
            (
                "40001",
                "ProcessInterrupts",
                "canceling statement due to conflict with recovery",
                Environment,
            ),
            ("72000", "x", "snapshot too old", Pointless),
            ("54000", "enlargeStringInfo", "out of memory", TooLarge),
            ("XX000", "palloc", "invalid memory alloc request size 1100000003", TooLarge),
            (
                "XX000",
                "MemoryContextSizeFailure",
                "invalid memory alloc request size 1100000003",
                TooLarge,
            ),
        ];
        for (code, routine, message, meant) in table {
            assert_eq!(
                meaning(&words(code, routine, message), Phase::Rows, PATH),
                meant,
                "{message}"
            );
        }
    }

    #[test]
    fn a_refusal_is_one_only_before_the_first_row() {
        for code in ["42501", "42P01", "0A000", "55000"] {
            let w = words(code, "aclcheck_error", "permission denied for table x");
            assert_eq!(meaning(&w, Phase::Start, PATH), Fault::Pointless);
            assert_eq!(meaning(&w, Phase::Rows, PATH), Fault::Damage(Place::Unknown));
        }
    }

    #[test]
    fn only_what_tells_of_damage_is_damage_to_a_check() {
        let of = |code, routine, message| of_check(&words(code, routine, message), PATH, false);
        let page = "invalid page in block 7 of relation base/5/16468";
        for (code, routine, message, meant) in [
            ("XX001", "ReadBuffer_common", page, CheckFault::Damage(Place::Page(7))),
            ("XX002", "bt_target_page_check", "x", CheckFault::Damage(Place::Unknown)),
            ("XX000", "relation_open", "could not open relation", CheckFault::Missing),
            ("42P01", "x", "x", CheckFault::Missing),
            ("55P03", "ProcSleep", "x", CheckFault::Environment),
            ("40001", "ProcessInterrupts", "x", CheckFault::Environment),
            ("0A000", "index_checkable", "x", CheckFault::Refused),
            ("58P01", "internal_load_library", "x", CheckFault::Refused),
            ("22023", "verify_heapam", "x", CheckFault::Shorter),
            ("22012", "int4div", "division by zero", CheckFault::Other),
        ] {
            assert_eq!(of(code, routine, message), meant, "{code} {routine}");
        }
        let named = words("XX002", "x", "item order invariant violated for \"pg_toast_7_index\"");
        assert_eq!(of_check(&named, PATH, true), CheckFault::Damage(Place::Unknown));
        assert_eq!(of_check(&named, PATH, false), CheckFault::Damage(Place::Elsewhere));
        assert_eq!(of_check(&Words::default(), PATH, false), CheckFault::SessionLost);
    }

    #[test]
    fn no_words_make_it_panic() {
        for message in [
            "",
            "base/5/16468",
            "99999999999999999999 base/5/16468",
            "\u{1F4A5}base/5/16468\u{1F4A5}",
        ] {
            for code in ["", "X", "XX001", "ü"] {
                meaning(&words(code, "mdread", message), Phase::Rows, PATH);
                meaning(&words(code, "mdread", message), Phase::Rows, Some(""));
            }
        }
    }
}
