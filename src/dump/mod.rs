//! One relation: its rows into its files, and what could not be read into its
//! findings.
//!
//! [`read_stretch`] does what the salvage says, read by read, until every block
//! is settled or something happens that is no damage. Whatever happens, the
//! stretch can be gone on with, in another session: what it holds and what it
//! has written agree with its map.

mod again;
mod findings;
mod held;
mod lane;
mod rows;
mod watch;

pub use again::{Came, read_alone};
pub use findings::{Cause, Finding, Findings, Log, Lost};
pub use held::Held;
pub use lane::{Lane, LaneMark, LaneWriter};
use rows::{flush, read_once, settle};
pub use watch::{ColumnWatch, LargeObjectWatch, Watch};

use crate::heap::{BlockRange, Ctid, Outcome, Place, Read, Rows, Salvage};
use crate::output::OutputError;
use crate::progress::Progress;
use crate::server::fault::{Fault, Words, fault, is_bad_compression, is_refusal};
use crate::server::session::{ReadError, Session};
use crate::server::sql::Readable;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How often a read waits for what is short on the server, each time twice as
/// long as before.
const WAITS_MAX: u32 = 5;
const WAIT_FIRST: Duration = Duration::from_millis(200);

/// A value of more bytes than this cannot be inside a heap tuple that was
/// toasted: `TOAST_TUPLE_THRESHOLD` at 8 kB pages (`heaptoast.h`).
const INLINE_BYTES_MAX: u64 = 2032;

/// A stretch of a relation that one worker reads.
pub struct Stretch {
    pub index: usize,
    /// Whether it is all of the relation.
    pub whole: bool,
    pub salvage: Salvage,
    pub clean: LaneWriter,
    pub suspect: LaneWriter,
    pub held: Held,
    pub findings: Findings,
    pub watch: Watch,
    /// Whether a read of a part is known to be planned.
    pub plans: bool,
    /// What came of a read of something perishable before the session was lost,
    /// and where it began: kept or undone when it is known what is left.
    came: Option<LaneMark>,
    /// What came, and was undone, of the read that is to be done next.
    came_before: Option<Came>,
}

impl Stretch {
    /// A stretch of which nothing was read.
    pub fn new(
        (index, whole): (usize, bool),
        salvage: Salvage,
        [clean, suspect]: [LaneWriter; 2],
        held: Held,
        findings: Findings,
        watch: Watch,
    ) -> Self {
        Self {
            index,
            whole,
            salvage,
            clean,
            suspect,
            held,
            findings,
            watch,
            plans: false,
            came: None,
            came_before: None,
        }
    }

    /// Whether any row of it was written.
    pub fn has_rows(&self) -> bool {
        self.clean.rows() + self.suspect.rows() > 0
    }

    /// Whether rows of it can be read again without any risk.
    pub fn came_before(&self) -> bool {
        self.came_before.is_some()
    }

    /// Nothing more is read of it, and what came before a session was lost
    /// counts: there is nothing else. Returns the blocks that are not settled.
    pub fn keep_what_came(&mut self) -> Vec<BlockRange> {
        if self.came.take().is_some() {
            self.watch.keep();
        }
        self.give_up()
    }

    /// What came before a session was lost is read again.
    pub async fn undo_what_came(&mut self) -> Result<(), OutputError> {
        let Some(mark) = self.came.take() else { return Ok(()) };
        self.watch.forget();
        self.clean.rollback(&mark).await
    }

    /// Nothing more is read of it. Returns the blocks that are not settled.
    pub fn give_up(&mut self) -> Vec<BlockRange> {
        self.held.clear();
        self.watch.forget();
        self.salvage.fence()
    }
}

/// How reading a stretch came to an end.
#[derive(Debug)]
pub enum End {
    /// Every block is settled.
    Settled,
    /// The session is gone.
    SessionLost(Words),
    /// The server will not have this relation read.
    Refused(Words),
    /// The server was short of something, or somebody in the way, too long.
    Environment(Words),
    /// We were told to stop.
    Stopped,
}

/// What reading needs to know beside the stretch.
pub struct Reading<'a> {
    pub session: &'a Session,
    pub readable: &'a Readable,
    /// The relation's file, as the server's words would name it.
    pub path: &'a str,
    pub progress: &'a Progress,
    /// A crash of the server empties the relation: what came is all there is.
    pub perishable: bool,
    /// The number of the data that the session sees.
    pub data: u32,
}

/// Reads a stretch to its end. `Err` means that we could not write.
pub async fn read_stretch(at: &Reading<'_>, stretch: &mut Stretch) -> Result<End, OutputError> {
    if stretch.whole && stretch.salvage.map().extents().is_empty() {
        return read_empty(at, stretch).await;
    }
    let mut waits = 0;
    while let Some(read) = stretch.salvage.next_read() {
        if at.progress.stopped() {
            return Ok(End::Stopped);
        }
        stretch.came_before = None;
        let before = stretch.clean.rows();
        let mark = match read {
            Read::Blocks { tagged: false, .. } => Some(stretch.clean.mark().await?),
            _ => None,
        };
        let got = read_once(at, stretch, &read).await?;
        let Some((error, phase)) = got.error else {
            stretch.plans |= !is_whole(stretch);
            let recorded = stretch.salvage.record(Outcome::Complete);
            settle(at, stretch, recorded, mark.as_ref()).await?;
            waits = 0;
            continue;
        };
        match fault(error.source(), phase, Some(at.path)) {
            Fault::Damage(place) => {
                if back_to_the_relation(at, &error).await.is_err() {
                    cut_short(at, stretch, got.last, mark.as_ref()).await?;
                    return Ok(End::SessionLost(error.words().clone()));
                }
                stretch.plans |= got.last.is_some();
                if !matches!(place, Place::Page(_))
                    && let Some(words) = unplannable(at, stretch).await
                {
                    cut_short(at, stretch, None, mark.as_ref()).await?;
                    return read_unplannable(at, stretch, words).await;
                }
                let place = refined(at, &read, place, error.words()).await;
                note(at, stretch, &read, got.last, place, error.words(), mark.as_ref()).await?;
            }
            Fault::SessionLost => {
                match mark {
                    Some(mark) if at.perishable => stretch.came = Some(mark),
                    mark => {
                        let rows = stretch.clean.rows() - before;
                        cut_short(at, stretch, got.last, mark.as_ref()).await?;
                        stretch.came_before = mark.map(|_| Came { rows, data: at.data });
                    }
                }
                return Ok(End::SessionLost(error.words().clone()));
            }
            Fault::Environment => {
                cut_short(at, stretch, got.last, mark.as_ref()).await?;
                let back = back_to_the_relation(at, &error).await;
                if back.is_err() || waits == WAITS_MAX {
                    return Ok(End::Environment(error.words().clone()));
                }
                tracing::info!("waiting: {}", error.words().one_line());
                tokio::time::sleep(WAIT_FIRST * 2u32.pow(waits)).await;
                waits += 1;
            }
            Fault::Pointless => {
                cut_short(at, stretch, None, mark.as_ref()).await?;
                return Ok(End::Refused(error.words().clone()));
            }
        }
    }
    Ok(End::Settled)
}

/// A session in an aborted transaction is of no use until it is rolled back.
async fn back_to_the_relation(at: &Reading<'_>, error: &ReadError) -> Result<(), ReadError> {
    tracing::debug!("{}", error.words().one_line());
    at.session.undo_reading().await
}

/// Before many narrower reads are tried: can anything of this relation be
/// planned at all? A damaged pg_statistic says no, and plain COPY is then all
/// there is.
async fn unplannable(at: &Reading<'_>, stretch: &mut Stretch) -> Option<Words> {
    if stretch.plans || (is_whole(stretch) && at.readable.plain) {
        return None;
    }
    let probe = async {
        let mut copy = at.session.copy(&at.readable.probe()).await?;
        while copy.next().await?.is_some() {}
        Ok::<(), ReadError>(())
    };
    match probe.await {
        Ok(()) => {
            stretch.plans = true;
            None
        }
        Err(e) => {
            at.session.undo_reading().await.ok()?;
            // Somebody in the way is no reason to give up.
            Some(e.words().clone()).filter(|words| !is_refusal(words))
        }
    }
}

/// Nothing but plain COPY can read this relation, and that fails at a place
/// which nobody knows: what comes before it is suspect, and better than nothing.
async fn read_unplannable(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    words: Words,
) -> Result<End, OutputError> {
    let mark = stretch.suspect.mark().await?;
    if !stretch.whole || stretch.clean.rows() > 0 || !at.readable.plain {
        return Ok(End::Refused(words));
    }
    let Ok(mut copy) = at.session.copy(&at.readable.whole()).await else {
        return Ok(End::Refused(words));
    };
    loop {
        match copy.next().await {
            Ok(Some(bytes)) => {
                let count = memchr::memchr_iter(b'\n', &bytes).count() as u64;
                at.progress.rows.fetch_add(count, Relaxed);
                stretch.suspect.write(&bytes, count).await?;
            }
            Ok(None) => return Ok(End::Refused(words)),
            Err(e) if e.sqlstate().is_empty() => {
                stretch.suspect.rollback(&mark).await?;
                return Ok(End::SessionLost(words));
            }
            Err(_) => {
                // An error here would be said by the next statement, too.
                let _ = at.session.undo_reading().await;
                return Ok(End::Refused(words));
            }
        }
    }
}

/// Whether the next read is the first, and of everything.
fn is_whole(stretch: &Stretch) -> bool {
    stretch.whole && stretch.salvage.is_fresh()
}

/// A relation without blocks: it is empty, or its file is gone, and only a read
/// can tell.
async fn read_empty(at: &Reading<'_>, stretch: &mut Stretch) -> Result<End, OutputError> {
    let mark = stretch.clean.mark().await?;
    let read = Read::Blocks { range: BlockRange::new(0, 0), tagged: false };
    let got = read_once(at, stretch, &read).await?;
    let Some((error, phase)) = got.error else {
        stretch.watch.keep();
        return Ok(End::Settled);
    };
    stretch.watch.forget();
    stretch.clean.rollback(&mark).await?;
    let words = error.words().clone();
    Ok(match fault(error.source(), phase, Some(at.path)) {
        Fault::SessionLost => End::SessionLost(words),
        Fault::Environment => End::Environment(words),
        Fault::Pointless => End::Refused(words),
        Fault::Damage(_) => match at.session.undo_reading().await {
            Err(_) => End::SessionLost(words),
            Ok(()) => {
                stretch.findings.whole(Cause::MissingFile, &words);
                at.progress.damaged.fetch_add(1, Relaxed);
                End::Settled
            }
        },
    })
}

/// A value that cannot be unpacked may have been in the tuple or in TOAST: its
/// stored size tells, where only one tuple was read.
async fn refined(at: &Reading<'_>, read: &Read, place: Place, words: &Words) -> Place {
    let Read::Tuples { block, first, last } = *read else { return place };
    if place != Place::Unknown || first != last || !is_bad_compression(words) {
        return place;
    }
    let sql = at.readable.stored_size_max(Ctid::new(block, first));
    match at.session.value(&sql).await {
        Ok(size) => match size.and_then(|s| s.parse::<u64>().ok()) {
            Some(size) if size > INLINE_BYTES_MAX => Place::Elsewhere,
            _ => place,
        },
        Err(_) => {
            // Whatever it is, the next read will say so.
            let _ = at.session.undo_reading().await;
            place
        }
    }
}

/// Takes damage into the map, the findings and the files.
async fn note(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    read: &Read,
    last: Option<Ctid>,
    place: Place,
    words: &Words,
    mark: Option<&LaneMark>,
) -> Result<(), OutputError> {
    let recorded = stretch.salvage.record(Outcome::Failed { last, place });
    stretch.findings.error(read, place, words, &recorded);
    if recorded.loss.is_some() {
        at.progress.damaged.fetch_add(1, Relaxed);
    }
    settle(at, stretch, recorded, mark).await
}

/// The server went down under this read, and it was the only one.
pub async fn convict(
    at: &Progress,
    stretch: &mut Stretch,
    words: &Words,
) -> Result<(), OutputError> {
    let Some(read) = stretch.salvage.next_read() else { return Ok(()) };
    let recorded = stretch.salvage.record(Outcome::Crashed { last: None });
    stretch.findings.crash(&read, words, &recorded);
    if recorded.loss.is_some() {
        at.damaged.fetch_add(1, Relaxed);
    }
    match recorded.rows {
        Rows::Settled(class) => flush(stretch, class).await,
        _ => Ok(()),
    }
}

/// What a read has given when it is cut short by something that is no damage.
async fn cut_short(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    last: Option<Ctid>,
    mark: Option<&LaneMark>,
) -> Result<(), OutputError> {
    let recorded = stretch.salvage.cut_short(last);
    settle(at, stretch, recorded, mark).await
}
