//! Sequences: one row each, read before everything else. Where one cannot be
//! read, its value is derived from the column it feeds, when that was read.

use super::entry::described;
use super::generation::{Numbered, Way};
use super::{Run, RunError, locked};
use crate::dump::Cause;
use crate::output::manifest;
use crate::server::fault::{Words, is_refusal, names_a_catalog, wait_after};
use crate::server::inventory::{Relation, RelationKind};
use crate::server::session::{ReadError, Session};
use crate::server::sql::ident;

/// So many sequences are read by one statement; where it fails, one by one.
const BATCH: usize = 100;

/// So many sequences may hang, each for `--read-timeout`; the others are then
/// not tried.
const HANGS_MAX: usize = 12;

/// Why a sequence is damaged, in the manifest.
const CAUSE: &str = "sequence";

/// A sequence that could not be read.
pub(super) struct MissingSequence {
    pub oid: u32,
    /// The columns that it feeds.
    pub feeds: Vec<(u32, i16)>,
    pub descending: bool,
    /// Its read hung, or was not tried: that is no damage.
    undamaged: Option<Cause>,
    entry: manifest::Relation,
    value: manifest::Sequence,
    words: Words,
}

pub(super) type Missing = Vec<MissingSequence>;

impl Run {
    /// Reads all sequences; returns those that could not be read.
    pub(super) async fn read_sequences(
        &self,
        first: &mut Numbered,
        selected: &[Relation],
    ) -> Result<Missing, RunError> {
        let in_recovery = first.session.server().in_recovery;
        let (sequences, not_here): (Vec<&Relation>, Vec<&Relation>) = selected
            .iter()
            .filter(|r| r.kind == RelationKind::Sequence && r.undescribed.is_none())
            .partition(|r| r.not_read(in_recovery).is_none());
        locked(&self.entries).extend(not_here.into_iter().map(|r| described(r, in_recovery)));
        let mut missing = Vec::new();
        for batch in sequences.chunks(BATCH) {
            let sql: Vec<String> =
                batch.iter().enumerate().map(|(i, s)| select_checked(i, s)).collect();
            match first.session.rows(&sql.join(" UNION ALL ")).await {
                Ok(rows) if rows.len() == batch.len() => {
                    first.session.leave_relation().await?;
                    for row in rows {
                        let number =
                            row.first().cloned().flatten().and_then(|n| n.parse::<usize>().ok());
                        if let Some(sequence) = number.and_then(|n| batch.get(n)) {
                            self.sequence_read(sequence, &row);
                        }
                    }
                    continue;
                }
                Ok(_) => {}
                Err(e) => self.after_failure(first, e).await?,
            }
            for sequence in batch {
                self.read_sequence(first, sequence, &mut missing).await?;
            }
        }
        Ok(self.read_by_other_way(selected, missing).await)
    }

    /// Sequences that could not be opened may be by the other way to the
    /// catalogs. Returns those that could not be read by that either.
    async fn read_by_other_way(&self, selected: &[Relation], missing: Missing) -> Missing {
        let (damaged, mut left): (Missing, Missing) =
            missing.into_iter().partition(|m| m.undamaged.is_none());
        if damaged.is_empty() {
            return left;
        }
        let other = self.generations.session_by(Way::Other, true).await.ok();
        for sequence in damaged {
            let relation = selected.iter().find(|r| r.oid == sequence.oid);
            let (Some(other), Some(relation)) = (&other, relation) else {
                left.push(sequence);
                continue;
            };
            match other.session.row(&select(0, relation)).await {
                Ok(row) if row.len() == 3 => {
                    self.generations.has_led(Way::Other);
                    self.sequence_read(relation, &row);
                }
                // Whatever it is, the first words count.
                _ => {
                    let _ = other.session.leave_relation().await;
                    left.push(sequence);
                }
            }
        }
        left
    }

    async fn read_sequence(
        &self,
        first: &mut Numbered,
        sequence: &Relation,
        missing: &mut Missing,
    ) -> Result<(), RunError> {
        let hung = missing.iter().filter(|m| m.undamaged == Some(Cause::Hung)).count();
        if hung == HANGS_MAX {
            let message = format!("not tried, since {hung} sequences have hung");
            let words = Words { message, ..Words::default() };
            self.sequence_missing(sequence, words, Some(Cause::NotTried), missing);
            return Ok(());
        }
        let error = match row_patiently(&first.session, &select_checked(0, sequence)).await {
            Ok(row) if row.len() == 4 => {
                self.sequence_read(sequence, &row);
                return Ok(first.session.leave_relation().await?);
            }
            Ok(_) => {
                let message = "the sequence has no row".to_owned();
                let words = Words { message, ..Words::default() };
                self.sequence_missing(sequence, words, None, missing);
                return Ok(first.session.leave_relation().await?);
            }
            Err(e) => e,
        };
        let (words, hung) = (error.words().clone(), error.is_hung());
        self.after_failure(first, error).await?;
        if !hung && !is_refusal(&words) {
            // The server may not use its page, and yet the row is there.
            match first.session.row(&select(0, sequence)).await {
                Ok(row) if row.len() == 3 => {
                    // It may be a catalog that the server could not look with.
                    if names_a_catalog(&words) {
                        self.sequence_read(sequence, &row);
                    } else {
                        self.sequence_had(sequence, &row, &words);
                    }
                    return Ok(first.session.leave_relation().await?);
                }
                Ok(_) => first.session.leave_relation().await?,
                Err(e) => self.after_failure(first, e).await?,
            }
        }
        self.sequence_missing(sequence, words, hung.then_some(Cause::Hung), missing);
        Ok(())
    }

    fn sequence_read(&self, sequence: &Relation, row: &[Option<String>]) {
        let Some(value) = value_of(sequence, row) else { return };
        let mut entry = described(sequence, false);
        entry.status = manifest::RelationStatus::Clean;
        entry.sequence = Some(value);
        locked(&self.entries).push(entry);
    }

    /// Its value was read, but the server finds its page damaged.
    fn sequence_had(&self, sequence: &Relation, row: &[Option<String>], words: &Words) {
        tracing::warn!("sequence \"{}\": {}", sequence.display_name(), words.one_line());
        let mut entry = described(sequence, false);
        entry.status = manifest::RelationStatus::Salvaged;
        entry.sequence = value_of(sequence, row);
        entry.lost = vec![lost(words, CAUSE)];
        entry.advice.push(
            "its value was read from a damaged page: compare it with the column that it feeds"
                .to_owned(),
        );
        locked(&self.entries).push(entry);
    }

    fn sequence_missing(
        &self,
        sequence: &Relation,
        words: Words,
        undamaged: Option<Cause>,
        missing: &mut Missing,
    ) {
        let mut entry = described(sequence, false);
        if undamaged.is_none() && is_refusal(&words) {
            entry.status = manifest::RelationStatus::Failed;
            entry.reason = Some(words.one_line());
            locked(&self.entries).push(entry);
            return;
        }
        tracing::warn!("sequence \"{}\": {}", sequence.display_name(), words.one_line());
        let known = sequence.sequence.as_ref();
        let feeds = known.map_or_else(Vec::new, |s| s.feeds.clone());
        let descending = known.is_some_and(|s| s.increment < 0);
        let value = value(sequence, 0, true, true);
        let oid = sequence.oid;
        missing.push(MissingSequence { oid, feeds, descending, undamaged, entry, value, words });
    }

    /// When all rows are read: what the missing sequences must be.
    pub(super) fn derive_sequences(&self, missing: &Missing) {
        for sequence in missing {
            let mut entry = sequence.entry.clone();
            let ends = locked(&self.furthest).get(&sequence.oid).copied();
            let furthest = ends.map(|(least, most)| if sequence.descending { least } else { most });
            let cause = sequence.undamaged.map_or(CAUSE, Cause::name);
            entry.lost = vec![lost(&sequence.words, cause)];
            entry.status = manifest::RelationStatus::Lost;
            if let Some(last_value) = furthest {
                entry.status = manifest::RelationStatus::Salvaged;
                entry.sequence = Some(manifest::Sequence { last_value, ..sequence.value.clone() });
                entry.advice.push("its value is the furthest of the clean rows of the column it feeds; set it higher if suspect rows are restored".to_owned());
            } else {
                entry.advice.push(
                    "set its value by hand after the restore: no column that it feeds was read"
                        .to_owned(),
                );
            }
            if sequence.undamaged.is_some() {
                entry.status = manifest::RelationStatus::Failed;
                entry.reason = Some(sequence.words.one_line());
            }
            locked(&self.entries).push(entry);
        }
    }
}

/// The one place of a sequence.
fn lost(words: &Words, cause: &str) -> manifest::Lost {
    manifest::Lost {
        first_block: Some(0),
        last_block: Some(0),
        ctid: None,
        column: None,
        cause: cause.to_owned(),
        sqlstate: Some(words.sqlstate.clone()).filter(|s| !s.is_empty()),
        message: words.one_line(),
    }
}

fn value_of(sequence: &Relation, row: &[Option<String>]) -> Option<manifest::Sequence> {
    let field = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
    Some(value(sequence, field(1).parse().ok()?, field(2) == "t", false))
}

fn value(
    sequence: &Relation,
    last_value: i64,
    is_called: bool,
    derived: bool,
) -> manifest::Sequence {
    let known = sequence.sequence.as_ref();
    manifest::Sequence {
        last_value,
        is_called,
        derived,
        start: known.map(|s| s.start),
        increment: known.map(|s| s.increment),
        min: None,
        max: None,
        cycle: None,
    }
}

/// The one row; a server that is short of something is waited for.
async fn row_patiently(session: &Session, sql: &str) -> Result<Vec<Option<String>>, ReadError> {
    let mut waits = 0;
    loop {
        let error = match session.row(sql).await {
            Err(e) if e.is_shortage() => e,
            other => return other,
        };
        let Some(pause) = wait_after(waits) else { return Err(error) };
        session.leave_relation().await?;
        tokio::time::sleep(pause).await;
        waits += 1;
    }
}

/// Reads a sequence as any table: what its page is for is not asked.
fn select(number: usize, sequence: &Relation) -> String {
    select_with(number, "", sequence)
}

/// The same, and the server looks at its page as it does for `nextval`.
fn select_checked(number: usize, sequence: &Relation) -> String {
    let check = format!(", pg_catalog.pg_sequence_last_value({})", sequence.oid);
    select_with(number, &check, sequence)
}

fn select_with(number: usize, more: &str, sequence: &Relation) -> String {
    // A name that is not UTF-8 names nothing: the statement fails, and says so.
    let (schema, name) = (sequence.schema.to_string(), sequence.name.to_string());
    format!("SELECT {number}, last_value, is_called{more} FROM {}.{}", ident(&schema), ident(&name))
}
