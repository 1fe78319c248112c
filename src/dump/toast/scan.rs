//! A scan of a TOAST relation's heap, around its damage: where its chunks are,
//! and the chunks at some places.

use super::super::Reading;
use super::super::check::look_at_toast;
use super::super::columns::{NotRead, not_read};
use crate::heap::{BlockRange, Ctid, Outcome, Place, Salvage};
use crate::server::copy_text::{raw_fields, rows_in, split_tag};
use crate::server::fault::Phase;
use crate::server::pages::from_hex;
use crate::server::session::ReadError;
use crate::server::sql::Readable;

/// So many chunks are asked for in one statement (some 8 MB of text).
const CHUNKS_PER_READ: usize = 2000;

/// A TOAST relation.
pub(super) struct ToastRelation {
    pub(super) readable: Readable,
    /// Its file, as the server's words would name it.
    pub(super) path: String,
    pub(super) blocks: u32,
}

/// Something that is no damage came in between.
pub(super) type Interrupted = (ReadError, Phase);

/// Tells of each chunk that can be read where it is: value, number, place. One
/// may be told of twice.
pub(super) async fn find_chunks(
    at: &Reading<'_>,
    toast: &ToastRelation,
    mut each: impl FnMut(u32, u32, Ctid),
) -> Result<(), Interrupted> {
    let range = BlockRange::new(0, toast.blocks);
    let mut salvage = Salvage::new(range, toast.readable.limits());
    salvage.tag_all();
    let at = Reading { path: &toast.path, ..*at };
    let seen = look_at_toast(&at, toast.blocks).await.map_err(|e| (e, Phase::Rows))?;
    salvage.looked_at(seen.to, seen.around());
    let number = |f: &[u8]| std::str::from_utf8(f).ok()?.parse::<u32>().ok();
    while let Some(read) = salvage.next_read() {
        let (mut last, mut phase) = (None, Phase::Start);
        let sql = toast.readable.part(&read);
        let came = async {
            let mut copy = at.session.copy(&sql).await?;
            phase = Phase::Rows;
            while let Some(bytes) = copy.next().await? {
                for row in rows_in(&bytes) {
                    let Some((tag, rest)) = split_tag(row) else { continue };
                    let mut fields = raw_fields(rest).map(number);
                    let place = Ctid::parse(tag);
                    last = place.or(last);
                    if let (Some(place), Some(Some(value)), Some(Some(seq))) =
                        (place, fields.next(), fields.next())
                    {
                        each(value, seq, place);
                    }
                }
            }
            Ok::<_, ReadError>(())
        };
        let outcome = match came.await {
            Ok(()) => Outcome::Complete,
            Err(error) => match not_read(&at, error, phase).await {
                NotRead::Interrupted(error, phase) => return Err((error, phase)),
                NotRead::Damage { place, .. } => {
                    Outcome::Failed { last, place: place.unwrap_or(Place::Unknown) }
                }
            },
        };
        salvage.record(outcome);
    }
    Ok(())
}

/// The data of the chunks of a value that are at these places, in the order of
/// their numbers: those that can be read.
pub(super) async fn read_chunks(
    at: &Reading<'_>,
    toast: &ToastRelation,
    value_id: u32,
    places: &[(u32, Ctid)],
) -> Result<Vec<(u32, Vec<u8>)>, Interrupted> {
    let at = Reading { path: &toast.path, ..*at };
    let mut chunks = Vec::with_capacity(places.len());
    let mut todo: Vec<&[(u32, Ctid)]> = places.chunks(CHUNKS_PER_READ).collect();
    while let Some(some) = todo.pop() {
        let before = chunks.len();
        let mut phase = Phase::Start;
        let tuples: Vec<Ctid> = some.iter().map(|(_, place)| *place).collect();
        let sql = toast.readable.chunks_at(value_id, &tuples);
        let came = async {
            let mut copy = at.session.copy(&sql).await?;
            phase = Phase::Rows;
            while let Some(bytes) = copy.next().await? {
                chunks.extend(rows_in(&bytes).filter_map(chunk));
            }
            Ok::<_, ReadError>(())
        };
        let Err(error) = came.await else { continue };
        match not_read(&at, error, phase).await {
            NotRead::Interrupted(error, phase) => return Err((error, phase)),
            NotRead::Damage { .. } if some.len() > 1 => {
                chunks.truncate(before);
                let (left, right) = some.split_at(some.len() / 2);
                todo.extend([left, right]);
            }
            NotRead::Damage { .. } => chunks.truncate(before),
        }
    }
    chunks.sort_unstable_by_key(|(seq, _)| *seq);
    Ok(chunks)
}

/// A row of a chunk's number and data.
pub(super) fn chunk(row: &[u8]) -> Option<(u32, Vec<u8>)> {
    let mut fields = raw_fields(row);
    let seq = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    // bytea's hex form, its backslash escaped.
    Some((seq, from_hex(fields.next()?.strip_prefix(b"\\\\x")?)?))
}
