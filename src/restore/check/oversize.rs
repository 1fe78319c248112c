//! Rows that are too long as text, compared: by the lengths and the SHA-256 of
//! their values in binary form.
//!
//! The target takes the hashes itself, of the rows that are long enough; those
//! which are also in the file are not read as text then. One that is not is, and
//! cannot be.

use super::super::plan::Table;
use super::super::shared::Shared;
use crate::output::manifest::{RowClass, hex};
use crate::output::{BinaryRows, OutputError};
use crate::server::restoring::{Refusal, TargetSession, sql};
use crate::server::sql::{ident, literal};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};

/// `sha256()` is there from this version on.
const HASHES_SINCE: u32 = 110_000;

/// The rows of a file.
pub(super) struct Known {
    /// The hashes of the values of each row, as COPY would write them, and how
    /// often it is there.
    rows: HashMap<String, u64>,
    /// The shortest has so many bytes.
    bytes_min: u64,
}

/// Rows of a database that are in the file.
#[derive(Default)]
pub(super) struct Apart {
    pub places: Vec<String>,
    pub rows: Vec<String>,
}

impl Known {
    /// All of them.
    pub(super) fn rows(&self) -> impl Iterator<Item = &String> {
        self.rows.iter().flat_map(|(row, times)| (0..*times).map(move |_| row))
    }
}

/// The rows of the table's files, but for those that were rejected, by the
/// numbers of their lines. None: it has none.
pub(super) async fn known(
    shared: &Shared,
    table: &Table,
    rejected: &HashSet<u64>,
) -> Result<Option<Known>, OutputError> {
    let mut known = Known { rows: HashMap::new(), bytes_min: u64::MAX };
    let files = table.relation.files.iter().filter(|f| f.class == RowClass::Oversize);
    for file in files {
        let mut rows = BinaryRows::open(&shared.options.dir.join(&file.path)).await?;
        while rows.next_row().await {
            let mut row = Row::default();
            while let Some(piece) = rows.piece().await {
                row.piece(&piece);
            }
            if !rows.is_broken() && !rejected.contains(&rows.rows()) {
                known.bytes_min = known.bytes_min.min(row.bytes);
                *known.rows.entry(row.finish()).or_default() += 1;
            }
        }
    }
    Ok((!known.rows.is_empty()).then_some(known))
}

/// A row of which pieces come.
#[derive(Default)]
struct Row {
    has_begun: bool,
    /// What is left of the value that is being read.
    left: u64,
    value: Option<Sha256>,
    hashes: Vec<String>,
    bytes: u64,
}

impl Row {
    /// The number of values; or the length of one, with what comes of it at once;
    /// or more of it.
    fn piece(&mut self, mut piece: &[u8]) {
        if !self.has_begun {
            self.has_begun = true;
            return;
        }
        if self.left == 0 {
            let Some((length, rest)) = piece.split_first_chunk() else { return };
            piece = rest;
            match u64::try_from(i32::from_be_bytes(*length)) {
                Ok(length) => {
                    self.left = length;
                    self.bytes += length;
                    self.value = Some(Sha256::new());
                }
                Err(_) => self.hashes.push("\\N".to_owned()),
            }
        }
        if let Some(value) = &mut self.value {
            value.update(piece);
        }
        self.left = self.left.saturating_sub(piece.len() as u64);
        if self.left == 0
            && let Some(value) = self.value.take()
        {
            self.hashes.push(hex(&value.finalize()));
        }
    }

    fn finish(self) -> String {
        self.hashes.join("\t")
    }
}

/// Looks for the rows in a database.
pub(super) async fn find(
    session: &TargetSession,
    table: &Table,
    known: &Known,
) -> Result<Apart, Refusal> {
    if session.version() < HASHES_SINCE {
        return Err(Refusal::ours(
            "it has rows that are too long to be compared as text, and the server cannot hash",
        ));
    }
    let sent = sent_by(session, table).await?;
    let copy = sql::copy_hashes(&table.qualified, &sent, known.bytes_min);
    let mut left = known.rows.clone();
    let mut apart = Apart::default();
    session
        .copy_out(&copy, |rows| {
            for line in String::from_utf8_lossy(rows).lines() {
                let (place, row) = line.split_once('\t').unwrap_or((line, ""));
                if let Some(times) = left.get_mut(row).filter(|times| **times > 0) {
                    *times -= 1;
                    apart.places.push(place.to_owned());
                    apart.rows.push(row.to_owned());
                }
            }
        })
        .await?;
    Ok(apart)
}

/// Each column in binary form, as an expression.
async fn sent_by(session: &TargetSession, table: &Table) -> Result<Vec<String>, Refusal> {
    let of = format!(
        "SELECT a.attname, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(p.proname) \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         JOIN pg_catalog.pg_proc p ON p.oid = t.typsend \
         JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
         WHERE a.attnum > 0 AND a.attrelid = {}::pg_catalog.regclass",
        literal(&table.qualified)
    );
    let mut functions = HashMap::new();
    for row in session.rows(&of).await? {
        if let [Some(column), Some(function)] = row.as_slice() {
            functions.insert(column.clone(), function.clone());
        }
    }
    let call = |column: &String| match functions.get(column) {
        Some(function) => Ok(format!("{function}({})", ident(column))),
        None => Err(Refusal::ours(format!("column \"{column}\" has no binary form"))),
    };
    table.columns.iter().map(call).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_same_hashes_however_it_is_cut_into_pieces() {
        let of = |pieces: &[&[u8]]| {
            let mut row = Row::default();
            pieces.iter().for_each(|piece| row.piece(piece));
            (row.bytes, row.finish())
        };
        let whole = of(&[b"\0\x03", b"\0\0\0\x03abc", b"\xff\xff\xff\xff", b"\0\0\0\0"]);
        let cut = of(&[b"\0\x03", b"\0\0\0\x03a", b"bc", b"\xff\xff\xff\xff", b"\0\0\0\0"]);
        let hash = |bytes: &[u8]| hex(&Sha256::digest(bytes));
        assert_eq!(whole, (3, format!("{}\t\\N\t{}", hash(b"abc"), hash(b""))));
        assert_eq!(cut, whole);
    }
}
