//! What to do next about a relation: from what was found to a sentence a tired
//! person can act on. Nothing here is ever done by the program.

mod dumped;
pub mod object;
pub mod script;

pub use dumped::advice_of_dump;

use crate::output::manifest::{Relation, RelationKind, RelationStatus};

/// The advice for one relation, the first thing first.
pub fn advice(relation: &Relation) -> Vec<String> {
    if !matches!(relation.status, RelationStatus::Salvaged | RelationStatus::Lost) {
        return failed(relation).into_iter().collect();
    }
    let has = |cause: &str| relation.lost.iter().any(|l| l.cause == cause);
    let mut advice = Vec::new();
    if has("page") || has("tuple") {
        advice.push(
            "fetch the rows of the lost places from a standby or a restored backup".to_owned(),
        );
    }
    if !dumped::of_transactions(relation).is_empty() {
        advice.push(
            "transactions that its tuples name are unknown to the server: restore a backup where \
             one has them; advice.sql has the calls of pg_surgery for exactly these tuples, and \
             what they do"
                .to_owned(),
        );
    }
    if let Some((keys, path, sql)) =
        relation.lost_keys.as_ref().and_then(|k| Some((k, k.path.as_ref()?, k.sql.as_ref()?)))
    {
        advice.push(format!(
            "{path} names {} lost rows by what indexes know of them: {sql} fetches them from a \
             restored copy",
            keys.rows
        ));
    }
    if has("stored_elsewhere") && relation.kind != RelationKind::Sequence {
        advice.push(
            "values were lost that are stored in TOAST: run as a superuser, if you did not, so that \
             they are put together past a damaged TOAST index; what is left of others is in the \
             file of the class toast_chunks"
                .to_owned(),
        );
    }
    if has("missing_library") {
        advice.push(
            "the library of a type is missing on the server: install the extension's files, and run \
             again for these columns"
                .to_owned(),
        );
    }
    if relation.rows.oversize > 0 {
        advice.push(
            "some rows are too long to be sent as text, which is no damage: load the file of the \
             class oversize by COPY ... (FORMAT binary), with client_encoding UTF8"
                .to_owned(),
        );
    }
    if relation.rows.partial > 0 {
        advice.push(
            "the partial rows have \\N for each value that is lost: fetch those from a backup, \
             or restore the rows without them"
                .to_owned(),
        );
    }
    if has("missing_file") {
        advice.push(
            "its file is missing: look for it in a backup before the server is started again"
                .to_owned(),
        );
    }
    if has("catalog") {
        advice.push(
            "its definition cannot be read: its file may still be whole; keep a copy of it"
                .to_owned(),
        );
    }
    if has("silent_loss") {
        advice.push("rows are missing though no read failed: compare with a backup".to_owned());
    }
    if has("server_crash") {
        advice.push("reading it took the server down: read it on a copy only".to_owned());
    }
    if has("structure") {
        advice.push(
            "what was not read would have taken the server down: pages/ has its pages, and \
             pg_salvage inspect shows them"
                .to_owned(),
        );
    }
    if relation.rows.suspect > 0 {
        advice.push(
            "look at the suspect rows before restoring them: their blocks were damaged".to_owned(),
        );
    }
    advice
}

fn failed(relation: &Relation) -> Option<String> {
    let reason = relation.reason.as_deref()?;
    if relation.status != RelationStatus::Failed {
        return None;
    }
    if reason.contains("permission denied") || reason.contains("row-level security") {
        return Some("run again as a superuser, or as a role with the right to read it".to_owned());
    }
    if relation.lost.iter().any(|l| l.cause == "hung") {
        return Some(
            "look at the disk of the server, and into its kernel's log; read the rest from a copy \
             or a standby"
                .to_owned(),
        );
    }
    if relation.lost.iter().any(|l| l.cause == "too_large") {
        return Some(
            "read the rows that are too large in a server with more memory, or by \
             COPY ... (FORMAT binary)"
                .to_owned(),
        );
    }
    if relation.lost.iter().any(|l| l.cause == "not_tried") {
        return Some(
            "reading it takes the server down: run again on a copy, with a higher --max-crashes"
                .to_owned(),
        );
    }
    if reason.contains("only plain COPY") {
        return Some(
            "if an index of it is damaged, drop that on a copy, and read it there: then what lies \
             behind the damage can be read, too"
                .to_owned(),
        );
    }
    if reason.contains("could not lock") || reason.contains("lock timeout") {
        return Some(
            "run again when nobody holds a lock on it, or with a longer --lock-timeout".to_owned(),
        );
    }
    None
}
