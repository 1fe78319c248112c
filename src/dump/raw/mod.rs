//! Rows of a page that the server refuses, decoded from the page's bytes.
//!
//! The page comes from the file (`pg_read_binary_file`); nothing of it passes
//! through the server's cache, so it is as it was afterwards. What is sane on it
//! is taken for tuples (`page::raw`), those that the snapshot does not see are
//! left out (`seen.rs`), and the others go to the suspect rows, or, where a value
//! cannot be told, to the partial ones (`row.rs`).
//!
//! What the server must be asked beside it (values of columns that are newer than
//! the tuple, labels of enums, transactions, TOAST) is asked as ever.

mod catalog;
pub(super) mod left_out;
mod row;
mod seen;

use super::pages::save_damaged;
use super::react::Failed;
use super::rows::settle;
use super::{Cause, Reading, Stretch};
use crate::heap::{BlockNumber, Ctid, OffsetNumber, Place, RawBlock, Recorded, Rows, Status};
use crate::output::OutputError;
use crate::output::manifest::RowClass;
use crate::page::raw::{Looked, look};
use crate::page::seen::Sight;
use crate::page::{self, Page};
use crate::server::fault::{Fault, Phase, Words, is_permission};
use crate::server::inventory::{self, Relation};
use crate::server::pages::page_image;
use crate::server::session::ReadError;
use catalog::Catalog;
use row::RawRow;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::Mutex;

/// Something came in between that is no answer.
pub(super) type Interrupted = (ReadError, Phase);

/// How tuples of a relation are laid out.
pub struct RawLayout {
    oid: u32,
    attributes: Vec<page::Attribute>,
    columns: Vec<Column>,
    catalog: Mutex<Option<std::sync::Arc<Catalog>>>,
}

/// A column of the rows.
#[derive(Clone, Copy)]
struct Column {
    attnum: i16,
    /// Its place among the attributes.
    place: usize,
    type_oid: u32,
}

impl RawLayout {
    /// None: no tuple of it can be told.
    pub fn of(relation: &Relation) -> Option<Self> {
        // The oid, before 12, is none of the attributes.
        let column = |c: &inventory::Column| {
            let (place, type_oid) = relation.place_of(c.attnum)?;
            Some(Column { attnum: c.attnum, place, type_oid })
        };
        Some(Self {
            oid: Some(relation.oid).filter(|_| relation.heap)?,
            attributes: relation.layout()?,
            columns: relation.columns.iter().map(column).collect::<Option<_>>()?,
            catalog: Mutex::default(),
        })
    }
}

/// What was had of a page.
#[derive(Default)]
struct Had {
    rows: Vec<RawRow>,
    /// Tuples that were not had, and why.
    lost: Vec<(OffsetNumber, &'static str)>,
    not_seen: Vec<OffsetNumber>,
    /// Given, though nobody knows whether the snapshot sees them.
    doubtful: usize,
}

/// Tries the bytes of the page of a block that failed by itself. Whether that has
/// settled what came of the read. `Err` inside: something came in between.
pub(super) async fn read_raw(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    failed: &Failed,
    block: BlockNumber,
) -> Result<Result<bool, Interrupted>, OutputError> {
    let Some(layout) = wanted(at) else { return Ok(Ok(false)) };
    save_damaged(at, stretch, &failed.read).await?;
    let image = match image(at, block).await {
        Ok(Some(image)) => image,
        Ok(None) => return Ok(Ok(false)),
        Err(interrupted) => return Ok(Err(interrupted)),
    };
    let looked = look(&image, block, &layout.attributes, at.readable.tuples_max);
    if looked.tuples.is_empty() {
        return Ok(Ok(false));
    }
    let had = match decode(at, layout, &image, block, &looked).await {
        Ok(had) => had,
        Err(interrupted) => return Ok(Err(interrupted)),
    };
    // Whatever was read of it before does not count.
    let undo = Recorded { rows: Rows::Undo, loss: None };
    settle(at, stretch, undo, failed.mark()).await?;
    // To take it into the cache does not help a page whose header is insane.
    let unchecked = stretch.salvage.allows_unchecked() && Page::new(&image).insane().is_none();
    take_in(at, stretch, (failed, block), had, looked, unchecked).await?;
    Ok(Ok(true))
}

/// How tuples are laid out, if they are to be decoded and files can be read.
fn wanted<'a>(at: &Reading<'a>) -> Option<&'a RawLayout> {
    let can_be = at.source.raw && at.pages.files.is_some() && at.source.refused().is_none();
    at.pages.raw_layout.as_ref().filter(|_| can_be)
}

/// The page, if it can be had and is not empty.
async fn image(at: &Reading<'_>, block: BlockNumber) -> Result<Option<Vec<u8>>, Interrupted> {
    match page_image(at.session, at.path, block).await {
        Ok(image) => Ok(image),
        Err(error) => {
            if is_permission(&error.words().sqlstate) {
                at.source.refuse(error.words());
            }
            no_answer(at, error).await.map(|_| None)
        }
    }
}

/// What the server says in place of an answer. `Err`: it is none.
async fn no_answer(at: &Reading<'_>, error: ReadError) -> Result<Words, Interrupted> {
    match error.fault(Phase::Rows, None) {
        Fault::SessionLost | Fault::Environment | Fault::Hung => Err((error, Phase::Rows)),
        Fault::Damage(_) | Fault::Pointless | Fault::TooLarge | Fault::Miscounted => {
            let words = error.words().clone();
            tracing::debug!("{}", words.one_line());
            at.session.undo_reading().await.map_err(|e| (e, Phase::Rows))?;
            Ok(words)
        }
    }
}

async fn decode(
    at: &Reading<'_>,
    layout: &RawLayout,
    image: &[u8],
    block: BlockNumber,
    looked: &Looked<'_>,
) -> Result<Had, Interrupted> {
    let page = Page::new(image);
    // Scans then look at no xmin and no xmax.
    let all_visible = page.is_all_visible() && page.insane().is_none();
    let transactions = match all_visible {
        true => None,
        false => Some(seen::ask(at, looked.tuples.iter().map(|(_, tuple)| *tuple)).await?),
    };
    let mut had = Had { lost: looked.broken.clone(), ..Had::default() };
    for &(offset, tuple) in &looked.tuples {
        match transactions.as_ref().map_or(Sight::Visible, |t| t.sight(tuple)) {
            Sight::Visible => {}
            Sight::Perhaps => had.doubtful += 1,
            Sight::Not => {
                had.not_seen.push(offset);
                continue;
            }
            Sight::Insane => {
                had.lost.push((offset, "its xmin is a transaction that has not begun yet"));
                continue;
            }
        }
        let row = row::decode(at, layout, Ctid::new(block, offset), tuple).await?;
        if layout.columns.is_empty() || row.fields.iter().any(Option::is_some) {
            had.rows.push(row);
        } else {
            had.lost.push((offset, "none of its columns can be told"));
        }
    }
    Ok(had)
}

/// Holds the rows back, and takes all that was found into the map and the findings.
async fn take_in(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    (failed, block): (&Failed, BlockNumber),
    mut had: Had,
    looked: Looked<'_>,
    unchecked: bool,
) -> Result<(), OutputError> {
    let mut raw = RawBlock::default();
    if unchecked {
        // They are whole there, if they can be had at all.
        let partial = had.rows.extract_if(.., |row| !row.lost.is_empty());
        raw.left.extend(partial.map(|row| row.at.offset));
        raw.left.extend(had.lost.drain(..).map(|(offset, _)| offset));
        raw.left.sort_unstable();
    }
    let partial = had.rows.iter().filter(|row| !row.lost.is_empty()).count();
    let mut detail = format!(
        "from the bytes of the page: {} rows, {partial} partial ones, {} tuples lost, {} that are \
         dead or not yet there, {} to be read unchecked",
        had.rows.len() - partial,
        had.lost.len(),
        had.not_seen.len(),
        raw.left.len()
    );
    if had.doubtful > 0 {
        detail += &format!("; of {} rows nobody knows whether they were committed", had.doubtful);
    }
    let place = Some(Place::Page(block));
    let words = Words { detail: Some(detail), ..failed.error.words().clone() };
    stretch.findings.log_error(Some(&failed.read), place, &words, "decoded from its bytes");
    for &(offset, why) in &had.lost {
        raw.spoilt.push((offset, Status::Lost));
        lose(stretch, Ctid::new(block, offset), failed, why);
    }
    if let Some((last, why)) = looked.more.filter(|_| !unchecked) {
        let behind = last + 1..=at.readable.tuples_max;
        let more = looked.unused.iter().copied().chain(behind);
        raw.spoilt.extend(more.map(|offset| (offset, Status::Lost)));
        lose(stretch, Ctid::new(block, last + 1), failed, why);
    } else if let Some((last, _)) = looked.more {
        raw.left.extend(looked.unused.iter().copied().chain(last + 1..=at.readable.tuples_max));
        raw.left.sort_unstable();
    }
    let partial = had.rows.iter().filter(|row| !row.lost.is_empty());
    raw.spoilt.extend(partial.map(|row| (row.at.offset, Status::Partial)));
    at.progress.rows.fetch_add(had.rows.len() as u64, Relaxed);
    stretch.hold_decoded(&had.rows, at.column_names)?;
    at.progress.damaged.fetch_add(1, Relaxed);
    at.source.decoded.fetch_add(1, Relaxed);
    let recorded = stretch.salvage.record_raw(block, raw);
    settle(at, stretch, recorded, None).await
}

impl Stretch {
    /// Holds rows back, and names the columns that they lack; `names`: of all columns.
    fn hold_decoded(&mut self, rows: &[RawRow], names: &[String]) -> Result<(), OutputError> {
        for row in rows {
            let block = row.at.block;
            if row.lost.is_empty() {
                self.lanes.hold(block, &row.line())?;
                continue;
            }
            self.lanes.hold_aside(RowClass::Partial, block, &row.line())?;
            for column in &row.lost {
                for chunk in &column.chunks {
                    self.lanes.hold_aside(RowClass::ToastChunks, block, chunk)?;
                }
                self.findings.column(names, row.at, column);
            }
        }
        Ok(())
    }
}

fn lose(stretch: &mut Stretch, ctid: Ctid, failed: &Failed, why: &str) {
    let said = failed.error.words();
    let message = format!("{} ({why})", said.message);
    stretch.findings.lose_tuple(ctid, Cause::Page, &Words { message, ..said.clone() });
}
