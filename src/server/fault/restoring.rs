//! What errors of the target of a restore mean.

use super::{Meaning, Words, is_fatal};

/// What it means that the target of a restore has refused rows. `in_rows`: the
/// words name one of them.
pub fn refusal(words: &Words, in_rows: bool) -> Meaning {
    let code = words.sqlstate.as_str();
    match (code.get(..2).unwrap_or(""), code) {
        _ if is_fatal(words) => Meaning::SessionLost,
        ("53" | "57" | "40", _) | (_, "55P03") => Meaning::Environment,
        ("0A" | "25" | "26" | "28" | "3F" | "42" | "55", _) if !in_rows => Meaning::Relation,
        _ => Meaning::Row,
    }
}

/// Two rows have a key that only one may have.
pub fn is_duplicate_key(sqlstate: &str) -> bool {
    sqlstate == "23505"
}

/// A row refers to one that is not there.
pub fn is_orphan(sqlstate: &str) -> bool {
    sqlstate == "23503"
}

/// What was to be made is there.
pub fn is_there_already(sqlstate: &str) -> bool {
    matches!(sqlstate, "42P06" | "42P07" | "42701" | "42710" | "42723" | "42P16")
}
