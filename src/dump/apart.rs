//! Columns that are read apart from the others, since too many of their values
//! cannot be read: a TOAST relation is gone or damaged, or the library of a type
//! is missing.
//!
//! Where values are stored elsewhere, the other columns, and those values that
//! lie in the tuple itself, are read by ranges of blocks; only the values that
//! are left are read by exact TID, some at a time as long as that succeeds. So
//! a million rows without their TOAST values cost no search for each.

use super::Cause;
use super::columns::{Field, NotRead, cause_of, line, not_read};
use super::findings::LostColumn;
use super::react::INLINE_BYTES_MAX;
use super::rows::{Got, flush};
use super::toast::Value;
use super::{Reading, Stretch};
use crate::heap::narrow::Narrow;
use crate::heap::{Ctid, Place, Read, RowClass};
use crate::output::{OutputError, manifest};
use crate::server::copy_text::{raw_fields, rows_in, split_tag};
use crate::server::fault::{Fault, Phase, Words};
use crate::server::session::ReadError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

/// When so many tuples of a stretch have lost a value of the same column to what
/// is stored elsewhere, the column is read apart.
const FAILURES_MAX: u32 = 4;

/// Values are asked for together up to so many, and so many bytes as stored.
const VALUES_MAX: usize = 64;
const VALUES_BYTES_MAX: u64 = 256 * 1024;

/// Which columns of a stretch are read apart.
#[derive(Default)]
pub(super) struct Apart {
    /// No value of these can be read.
    never: BTreeSet<usize>,
    /// Values of these that are stored elsewhere are read one by one.
    stored: BTreeSet<usize>,
    failures: BTreeMap<usize, u32>,
}

impl Apart {
    pub(super) fn is_on(&self) -> bool {
        !self.never.is_empty() || !self.stored.is_empty()
    }

    /// A value of the column was lost to what is stored elsewhere. Whether
    /// columns are read apart from now on that were not before: with it all of
    /// which values may be stored elsewhere, for the rows of many blocks are
    /// held in memory then.
    pub(super) fn failed(&mut self, column: usize, toastable: impl Iterator<Item = usize>) -> bool {
        let failures = self.failures.entry(column).or_default();
        *failures += 1;
        *failures >= FAILURES_MAX && self.hold(column, toastable)
    }

    fn hold(&mut self, column: usize, toastable: impl Iterator<Item = usize>) -> bool {
        let before = self.stored.len();
        self.stored.extend(toastable.chain([column]));
        self.stored.retain(|c| !self.never.contains(c));
        self.stored.len() > before
    }

    /// Whether no value of the column can be read at all, in any tuple: then a
    /// read fails that is of none. Not where a file is named, such as that of a
    /// damaged pg_statistic: then it is the planner that fails, and not COPY.
    pub(super) async fn is_unreadable(at: &Reading<'_>, column: usize) -> Option<Words> {
        let error = at.session.probe(&at.readable.column_probe(column)).await.err()?;
        let is_damage = error.fault(Phase::Rows, Some(at.path)) == Fault::Damage(Place::Unknown);
        // Whatever else it is, the next read will meet it again.
        (at.session.undo_reading().await.is_ok() && is_damage).then(|| error.words().clone())
    }

    /// No value of the column can be read. Whether that is news.
    pub(super) fn never(&mut self, column: usize, toastable: impl Iterator<Item = usize>) -> bool {
        let is_news = self.never.insert(column);
        self.hold(column, toastable);
        is_news
    }
}

/// A row without the values that are stored elsewhere.
struct Row {
    ctid: Ctid,
    fields: Vec<Option<Field>>,
    /// Columns to be read, and how many bytes are stored of them.
    holes: Vec<(usize, u64)>,
}

/// Sends one read, as [`super::rows::read_once`] does, with some columns apart.
pub(super) async fn read_apart(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    read: &Read,
) -> Result<Got, OutputError> {
    let Apart { never, stored, .. } = &stretch.apart;
    let sql = at.readable.part_apart(read, stored, never, INLINE_BYTES_MAX);
    let (mut rows, mut error) = (Vec::new(), None);
    let mut phase = Phase::Start;
    let came = async {
        let mut copy = at.session.copy(&sql).await?;
        phase = Phase::Rows;
        let mut count = 0;
        while let Some(bytes) = copy.next().await? {
            at.progress.bytes.fetch_add(bytes.len() as u64, Relaxed);
            for row in rows_in(&bytes) {
                count += 1;
                rows.extend(stretch.apart.row(row));
            }
        }
        copy.check(count)
    };
    if let Err(e) = came.await {
        let damage = matches!(e.fault(phase, Some(at.path)), Fault::Damage(_));
        if damage && !rows.is_empty() {
            if let Err(e) = at.session.undo_reading().await {
                return Ok(Got { error: Some((e, Phase::Rows)), ..Got::default() });
            }
        } else {
            rows.clear();
        }
        error = Some((e, phase));
    }
    let mut last = None;
    while !rows.is_empty() {
        let group = next_group(&mut rows);
        if let Err(interrupted) = fill(at, stretch, read, group, &mut last).await? {
            return Ok(Got { last, error: Some(interrupted), ..Got::default() });
        }
    }
    Ok(Got { last, error, ..Got::default() })
}

/// So many rows from the front as may be filled together.
fn next_group(rows: &mut Vec<Row>) -> Vec<Row> {
    let (mut values, mut bytes) = (0, 0);
    let mut fits = |row: &Row| {
        values += row.holes.len();
        bytes += row.holes.iter().map(|(_, size)| size).sum::<u64>();
        values <= VALUES_MAX && bytes <= VALUES_BYTES_MAX
    };
    let count = rows.iter().take_while(|row| fits(row)).count().max(1);
    rows.drain(..count).collect()
}

impl Apart {
    /// Takes a row apart: tag, stored sizes, columns.
    fn row(&self, row: &[u8]) -> Option<Row> {
        let (tag, rest) = split_tag(row)?;
        let mut fields = raw_fields(rest);
        let sizes: Vec<u64> = (fields.by_ref().take(self.stored.len()))
            .map(|f| std::str::from_utf8(f).ok()?.parse().ok())
            .map(Option::unwrap_or_default)
            .collect();
        let mut fields: Vec<Option<Field>> = fields.map(|f| Some(f.to_vec())).collect();
        let holes = self.stored.iter().copied().zip(sizes);
        let holes: Vec<_> = holes.filter(|(_, size)| *size > INLINE_BYTES_MAX).collect();
        for column in self.never.iter().chain(holes.iter().map(|(c, _)| c)) {
            *fields.get_mut(*column)? = None;
        }
        Some(Row { ctid: Ctid::parse(tag)?, fields, holes })
    }
}

/// Reads what is missing of some rows, and holds them back, block by block.
/// `last` is the last that was. `Err` inside: something came in between.
async fn fill(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    read: &Read,
    mut group: Vec<Row>,
    last: &mut Option<Ctid>,
) -> Result<Result<(), (ReadError, Phase)>, OutputError> {
    let mut lost: BTreeMap<Ctid, Vec<LostColumn>> = BTreeMap::new();
    let columns: BTreeSet<usize> =
        group.iter().flat_map(|r| r.holes.iter().map(|(column, _)| *column)).collect();
    for column in columns {
        let has_hole = |r: &Row| r.holes.iter().any(|(c, _)| *c == column);
        let wanted: Vec<usize> = (0..group.len()).filter(|&i| has_hole(&group[i])).collect();
        let tuples: Vec<Ctid> = wanted.iter().map(|&i| group[i].ctid).collect();
        let values = match values(at, &tuples, column).await {
            Ok(values) => values,
            Err(interrupted) => return Ok(Err(interrupted)),
        };
        for (i, value) in wanted.into_iter().zip(values) {
            match value {
                Ok(field) => group[i].fields[column] = Some(field),
                Err(column) => lost.entry(group[i].ctid).or_default().push(column),
            }
        }
    }
    let of_blocks = matches!(read, Read::Blocks { .. });
    for row in group {
        let block = row.ctid.block;
        if of_blocks && stretch.lanes.held_block().is_some_and(|b| b != block) {
            flush(stretch, RowClass::Clean).await?;
        }
        at.progress.rows.fetch_add(1, Relaxed);
        *last = Some(row.ctid);
        let text = line(&row.fields);
        if row.fields.iter().all(Option::is_some) {
            stretch.watch.row(&text);
            stretch.lanes.hold(block, &text)?;
            continue;
        }
        stretch.lanes.hold_aside(manifest::RowClass::Partial, block, &text)?;
        stretch.salvage.has_holes(block);
        for column in lost.remove(&row.ctid).unwrap_or_default() {
            for chunk in &column.chunks {
                stretch.lanes.hold_aside(manifest::RowClass::ToastChunks, block, chunk)?;
            }
            stretch.findings.column(at.column_names, row.ctid, &column);
        }
    }
    Ok(Ok(()))
}

/// The values of a column of some tuples, in order.
async fn values(
    at: &Reading<'_>,
    tuples: &[Ctid],
    column: usize,
) -> Result<Vec<Result<Field, LostColumn>>, (ReadError, Phase)> {
    let mut had: BTreeMap<Ctid, Result<Field, LostColumn>> = BTreeMap::new();
    let elsewhere = |words: Words| LostColumn::new(column, Cause::StoredElsewhere, words);
    if let Some(words) = at.doctor.gone(at, None).await? {
        return Ok(tuples.iter().map(|_| Err(elsewhere(words.clone()))).collect());
    }
    for &tuple in tuples {
        if !at.doctor.is_trusted().await {
            break;
        }
        // Where it cannot be put together, the server is asked, too.
        if let Value::Whole(field) = at.doctor.value(at, tuple, column).await? {
            had.insert(tuple, Ok(field));
        }
    }
    let left: Vec<Ctid> = tuples.iter().copied().filter(|t| !had.contains_key(t)).collect();
    let mut search = Narrow::new(0..u32::try_from(left.len()).unwrap_or(u32::MAX));
    while let Some(read) = search.next_read() {
        let wanted = &left[read.start as usize..read.end as usize];
        let sql = at.readable.column_of(wanted, column);
        let (mut last, mut phase) = (None, Phase::Start);
        let came = async {
            let mut copy = at.session.copy(&sql).await?;
            phase = Phase::Rows;
            let mut count = 0;
            while let Some(bytes) = copy.next().await? {
                for row in rows_in(&bytes) {
                    count += 1;
                    let (tag, rest) = split_tag(row).unwrap_or_default();
                    let field = raw_fields(rest).next().map(<[u8]>::to_vec);
                    if let Some((tuple, field)) = Ctid::parse(tag).zip(field) {
                        last = Some(tuple);
                        had.insert(tuple, Ok(field));
                    }
                }
            }
            copy.check(count)
        };
        let Err(error) = came.await else {
            search.complete();
            continue;
        };
        let NotRead::Damage { words, place, .. } = (match not_read(at, error, phase).await {
            NotRead::Interrupted(error, phase) => return Err((error, phase)),
            damage => damage,
        }) else {
            continue;
        };
        let came = wanted.iter().filter(|t| last.is_some_and(|last| **t <= last)).count();
        let bound = read.start + u32::try_from(came).unwrap_or(0);
        if let Some(i) = search.failed_from(bound) {
            let tuple = left[i as usize];
            let cause = cause_of(at, (tuple, column..column + 1), place, &words).await;
            let lost = LostColumn::new(column, cause, words);
            had.insert(tuple, at.doctor.instead_of(at, tuple, lost).await?);
        }
    }
    let gone = || {
        let message = "the tuple did not come again".to_owned();
        Err(LostColumn::new(column, Cause::Tuple, Words { message, ..Words::default() }))
    };
    Ok(tuples.iter().map(|tuple| had.remove(tuple).unwrap_or_else(gone)).collect())
}
