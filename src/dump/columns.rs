//! A tuple that fails as a whole, column by column: what can be trusted of it
//! goes to the partial rows.

use super::Cause;
use super::apart::Apart;
use super::astray::not_asked_for;
use super::findings::LostColumn;
use super::oversize::{Weight, weigh};
use super::react::refined;
use super::{Reading, Stretch};
use crate::heap::{Columns, Ctid, Place};
use crate::output::OutputError;
use crate::output::manifest::RowClass;
use crate::server::copy_text::{raw_fields, rows_in, split_tag};
use crate::server::fault::{Fault, Phase, Words, is_of_type};
use crate::server::session::ReadError;

/// What was had of a tuple.
pub(super) enum Had {
    /// Each of its columns: it is a row like others.
    Complete,
    /// Some of them. Where the damage is.
    Partial(Place),
    /// None; whether the tuple itself is damaged, and not only what is stored
    /// elsewhere of it.
    Nothing { in_tuple: bool },
}

/// A read of some columns that did not succeed.
pub(super) enum NotRead {
    /// For damage, or a value too large; the session is ready for the next read.
    Damage { words: Words, place: Option<Place>, phase: Phase },
    /// For no damage of what was read.
    Interrupted(ReadError, Phase),
}

/// From now on reads without a column, if no value of it can be read at all.
/// Whether that is so.
pub(super) async fn read_without(at: &Reading<'_>, stretch: &mut Stretch, column: usize) -> bool {
    let Some(words) = Apart::is_unreadable(at, column).await else { return false };
    if stretch.apart.never(column, at.doctor.toastable()) {
        let cause = if is_of_type(&words) { Cause::MissingLibrary } else { Cause::Catalog };
        stretch.findings.whole_column(at.column_names, &LostColumn::new(column, cause, words));
        stretch.salvage.read_apart();
    }
    true
}

/// A field as it stands in COPY's text, escapes and all.
pub(super) type Field = Vec<u8>;

/// Reads the columns of a tuple that failed alone, and holds back what came of
/// it. `Err` inside: something came in between, and nothing was taken in.
pub(super) async fn read_columns(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    ctid: Ctid,
) -> Result<Result<Had, (ReadError, Phase)>, OutputError> {
    let count = at.readable.columns.len();
    let mut search = Columns::new(u32::try_from(count).unwrap_or(u32::MAX));
    let mut had: Vec<Option<Field>> = vec![None; count];
    let mut lost = Vec::new();
    // Can the tuple be seen at all?
    match fields(at, &at.readable.columns_of(ctid, 0..0)).await {
        Ok(Some(_)) => {}
        Ok(None) | Err(NotRead::Damage { .. }) => return Ok(Ok(Had::Nothing { in_tuple: true })),
        Err(NotRead::Interrupted(error, phase)) => return Ok(Err((error, phase))),
    }
    while let Some(read) = search.next_read() {
        let columns = read.start as usize..read.end as usize;
        let came = if stretch.is_astray(ctid, &columns) {
            let (words, place) = (not_asked_for(), Some(Place::Elsewhere));
            Err(NotRead::Damage { words, place, phase: Phase::Rows })
        } else {
            fields(at, &at.readable.columns_of(ctid, columns.clone())).await
        };
        match came {
            Ok(Some(came)) if came.len() == columns.len() => {
                for (slot, field) in had[columns].iter_mut().zip(came) {
                    *slot = Some(field);
                }
                search.complete();
            }
            Ok(_) => return Ok(Ok(Had::Nothing { in_tuple: true })),
            Err(NotRead::Interrupted(error, phase)) => return Ok(Err((error, phase))),
            Err(NotRead::Damage { words, place, phase }) => {
                let cause = cause_of(at, (ctid, columns.clone()), place, &words).await;
                let column = columns.start;
                if columns.len() > 1 {
                    search.failed(cause != Cause::Tuple);
                    continue;
                }
                match at.doctor.instead_of(at, ctid, LostColumn::new(column, cause, words)).await {
                    Err(interrupted) => return Ok(Err(interrupted)),
                    Ok(Ok(field)) => {
                        count_failure(at, stretch, column);
                        had[column] = Some(field);
                        search.complete();
                    }
                    Ok(Err(column)) => {
                        search.failed(column.cause != Cause::Tuple);
                        if phase == Phase::Start {
                            read_without(at, stretch, column.column).await;
                        }
                        lost.push(column);
                    }
                }
            }
        }
    }
    let behind = search.untrusted();
    if let Some(damaged) = lost.last().filter(|_| !behind.is_empty()) {
        let name = at.readable.columns.get(damaged.column).map_or("", String::as_str);
        let message = format!("not trusted, since it lies behind the damaged column {name}");
        let words = Words { message, ..Words::default() };
        let untrusted = |column| LostColumn::new(column as usize, Cause::Untrusted, words.clone());
        lost.extend(behind.map(untrusted));
    }
    take_in(at, stretch, ctid, &had, lost).map(Ok)
}

/// Holds back what was had of a tuple, and notes what was not.
pub(super) fn take_in(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    ctid: Ctid,
    had: &[Option<Field>],
    lost: Vec<LostColumn>,
) -> Result<Had, OutputError> {
    if lost.is_empty() {
        let row = line(had);
        stretch.watch.row(&row);
        stretch.lanes.hold(ctid.block, &row)?;
        return Ok(Had::Complete);
    }
    let in_tuple = lost.iter().any(|l| l.cause == Cause::Tuple);
    for row in lost.iter().flat_map(|column| &column.chunks) {
        stretch.lanes.hold_aside(RowClass::ToastChunks, ctid.block, row)?;
    }
    if had.iter().all(Option::is_none) {
        return Ok(Had::Nothing { in_tuple });
    }
    stretch.lanes.hold_aside(RowClass::Partial, ctid.block, &line(had))?;
    for column in &lost {
        if column.cause == Cause::StoredElsewhere {
            count_failure(at, stretch, column.column);
        }
        stretch.findings.column(at.column_names, ctid, column);
    }
    Ok(Had::Partial(if in_tuple { Place::Unknown } else { Place::Elsewhere }))
}

/// A value that is stored elsewhere could not be read. After some, the column is
/// read apart.
fn count_failure(at: &Reading<'_>, stretch: &mut Stretch, column: usize) {
    if stretch.apart.failed(column, at.doctor.toastable()) {
        stretch.salvage.read_apart();
    }
}

/// A row of COPY's text; what was not had is NULL there.
pub(super) fn line(fields: &[Option<Field>]) -> Vec<u8> {
    let fields: Vec<&[u8]> = fields.iter().map(|f| f.as_deref().unwrap_or(b"\\N")).collect();
    let mut line = fields.join(&b'\t');
    line.push(b'\n');
    line
}

/// The fields of the one row that a tagged COPY gives; none: it gives no row.
pub(super) async fn fields(at: &Reading<'_>, sql: &str) -> Result<Option<Vec<Field>>, NotRead> {
    let (mut row, mut rows) = (None, 0);
    let mut phase = Phase::Start;
    let read = async {
        let mut copy = at.session.copy(sql).await?;
        phase = Phase::Rows;
        while let Some(bytes) = copy.next().await? {
            rows += rows_in(&bytes).count() as u64;
            row = Some(bytes);
        }
        copy.check(rows)
    };
    match read.await {
        Ok(()) => Ok(row.map(|row| {
            let (_, rest) = split_tag(&row).unwrap_or_default();
            raw_fields(rest).map(<[u8]>::to_vec).collect()
        })),
        Err(error) => Err(not_read(at, error, phase).await),
    }
}

/// What the failure of a read of columns means. The relation itself can be read,
/// so nothing is pointless.
pub(super) async fn not_read(at: &Reading<'_>, error: ReadError, phase: Phase) -> NotRead {
    let place = match error.fault(Phase::Rows, Some(at.path)) {
        Fault::Damage(place) => Some(place),
        Fault::TooLarge => None,
        _ => return NotRead::Interrupted(error, phase),
    };
    match at.session.undo_reading().await {
        Ok(()) => NotRead::Damage { words: error.words().clone(), place, phase },
        Err(e) => NotRead::Interrupted(e, phase),
    }
}

/// Why columns of a tuple could not be read.
pub(super) async fn cause_of(
    at: &Reading<'_>,
    (ctid, columns): (Ctid, std::ops::Range<usize>),
    place: Option<Place>,
    words: &Words,
) -> Cause {
    let place = match place {
        Some(place) => place,
        // Whatever keeps it from being known, it may be so.
        None => match weigh(at, ctid, columns.clone()).await {
            Ok(Weight::Not) => return Cause::Tuple,
            _ => return Cause::TooLarge,
        },
    };
    if is_of_type(words) {
        return Cause::MissingLibrary;
    }
    match refined(at, ctid, columns, place, words).await {
        Place::Elsewhere => Cause::StoredElsewhere,
        _ => Cause::Tuple,
    }
}
