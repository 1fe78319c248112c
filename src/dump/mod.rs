//! One relation: its rows into its files, and what could not be read into its
//! findings.
//!
//! [`read_stretch`] does what the salvage says, read by read, until every block
//! is settled or something happens that is no damage. Whatever happens, the
//! stretch can be gone on with, in another session: what it holds and what it
//! has written agree with its map.

mod again;
mod apart;
mod astray;
mod cause;
mod check;
mod columns;
mod cut_off;
mod findings;
mod held;
mod hindered;
mod killers;
mod lane;
mod lanes;
mod layout;
mod miscounted;
mod oversize;
mod pages;
mod place;
mod raw;
mod react;
mod rows;
mod save;
mod toast;
mod unchecked;
mod unplannable;
mod watch;

pub use again::{Came, read_alone};
use apart::Apart;
use astray::read_astray;
pub use cause::Cause;
use check::look_ahead;
pub use check::{CheckPages, Checking};
pub use cut_off::cut_off;
pub use findings::{Finding, Findings, Log, Lost, LostColumn};
pub use killers::convict;
use killers::{Killers, decode_killers};
pub use lane::{Begun, Lane, LaneMark, LaneWriter, piece_path};
pub use lanes::Lanes;
pub use layout::Layout;
use pages::save_open;
pub use pages::{PageSource, Pages};
pub use raw::RawLayout;
use react::{Failed, Waits, react};
use rows::{Got, flush, read_once, settle};
pub use save::Saving;
pub use toast::Doctor;
use unchecked::{Load, load};
pub use watch::{ColumnWatch, LargeObjectWatch, Watch};

use crate::heap::{BlockNumber, BlockRange, Ctid, Outcome, Read, RowClass, Salvage};
use crate::output::OutputError;
use crate::page::insane::Insane;
use crate::progress::Progress;
use crate::server::fault::{Fault, Words};
use crate::server::session::Session;
use crate::server::sql::Readable;
use raw::left_out::LeftOut;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

/// A stretch of a relation that one worker reads.
pub struct Stretch {
    pub index: usize,
    /// Whether it is all of the relation.
    pub whole: bool,
    pub salvage: Salvage,
    pub lanes: Lanes,
    pub findings: Findings,
    pub watch: Watch,
    /// None: nobody could go on with it.
    pub saving: Option<Saving>,
    /// Whether a read of a part is known to be planned.
    pub plans: bool,
    apart: Apart,
    /// Whether parts are read so that no statistics are looked up.
    past_statistics: bool,
    /// The block of which an image was saved, or tried to, last.
    imaged: Option<BlockNumber>,
    /// The block that is read unchecked, when all is ready for it.
    loaded: Option<BlockNumber>,
    /// What was seen in blocks that are still to be read.
    /// By blocks whose turn has not come: what is wrong, and what was had of it.
    insane: BTreeMap<BlockNumber, (Insane, LeftOut)>,
    killers: Killers,
    /// Columns of tuples that must not be asked for.
    astray: BTreeMap<Ctid, Vec<usize>>,
    /// From which block on the last look at pages that ended with its session was,
    /// and how many there did.
    looks_cut: (BlockNumber, u32),
    /// What came of a read of something perishable before the session was lost,
    /// and where it began: kept or undone when it is known what is left.
    came: Option<LaneMark>,
    /// What came, and was undone, of the read that is to be done next.
    came_before: Option<Came>,
}

impl Stretch {
    /// A stretch of which nothing was read in this run.
    pub fn new(
        (index, whole): (usize, bool),
        salvage: Salvage,
        lanes: Lanes,
        findings: Findings,
        watch: Watch,
        saving: Option<Saving>,
    ) -> Self {
        let killers = Killers::of(salvage.killers());
        Self {
            index,
            whole,
            salvage,
            lanes,
            findings,
            watch,
            saving,
            plans: false,
            apart: Apart::default(),
            past_statistics: false,
            imaged: None,
            loaded: None,
            insane: BTreeMap::new(),
            killers,
            astray: BTreeMap::new(),
            looks_cut: (0, 0),
            came: None,
            came_before: None,
        }
    }

    /// Whether any row of it was written.
    pub fn has_rows(&self) -> bool {
        self.lanes.rows() > 0
    }

    /// Whether rows of it can be read again without any risk.
    pub fn came_before(&self) -> bool {
        self.came_before.is_some()
    }

    /// Whether an image of the page that it is at is still to be saved.
    pub fn wants_image(&self) -> bool {
        let damaged = self.salvage.damaged_block();
        damaged.is_some() && damaged != self.imaged
    }

    /// No page of it is read unchecked any more. Returns the block that was.
    pub async fn fence_unchecked(&mut self) -> Result<Option<BlockRange>, OutputError> {
        self.settle_convicted().await?;
        if self.salvage.unchecked().is_some() {
            self.keep_what_is_held().await?;
        }
        Ok(self.salvage.fence_unchecked())
    }

    /// Nothing more is read of it, and what came before a session was lost
    /// counts: there is nothing else. Returns the blocks that are not settled.
    pub async fn keep_what_came(&mut self) -> Result<Vec<BlockRange>, OutputError> {
        self.settle_convicted().await?;
        if self.came.take().is_none() {
            return self.give_up().await;
        }
        self.watch.keep();
        self.lanes.clear_held();
        Ok(self.salvage.fence())
    }

    /// What came before a session was lost is read again.
    pub async fn undo_what_came(&mut self) -> Result<(), OutputError> {
        let Some(mark) = self.came.take() else { return Ok(()) };
        self.watch.forget();
        self.lanes.clean().rollback(&mark).await
    }

    /// Nothing more is read of it. Returns the blocks that are not settled.
    pub async fn give_up(&mut self) -> Result<Vec<BlockRange>, OutputError> {
        self.settle_convicted().await?;
        self.keep_what_is_held().await?;
        Ok(self.salvage.fence())
    }

    /// Before its block is fenced: rows of its tuples that were read by
    /// themselves are suspect, and other rows that are held came of a read that
    /// says nothing. A later run reads the block again, so what is saved ends
    /// before it.
    async fn keep_what_is_held(&mut self) -> Result<(), OutputError> {
        self.note_insane()?;
        self.save().await?;
        if self.salvage.has_rows_of_a_part() {
            return flush(self, RowClass::Suspect).await;
        }
        self.lanes.clear_held();
        self.watch.forget();
        Ok(())
    }
}

/// How reading a stretch came to an end.
#[derive(Debug)]
pub enum End {
    /// Every block is settled.
    Settled,
    /// The session is gone.
    SessionLost(Words),
    /// The session hung, and was given up: go on with another.
    Hung,
    /// The server will not have this relation read.
    Refused(Words),
    /// What a system catalog says of it could not be read: there is another way
    /// to the catalogs.
    OtherWay(Words),
    /// The server was short of something, or somebody in the way, too long.
    Environment(Words),
    /// We were told to stop.
    Stopped,
    /// A page is to be read unchecked, and there is no loader yet.
    NoLoader,
    /// The loader's session is gone.
    LoaderLost(Words),
}

/// What reading needs to know beside the stretch.
pub struct Reading<'a> {
    pub session: &'a Session,
    pub readable: &'a Readable,
    /// As they are in the manifest, in the order of the rows.
    pub column_names: &'a [String],
    /// The relation's file, as the server's words would name it.
    pub path: &'a str,
    pub progress: &'a Progress,
    /// A crash of the server empties the relation: what came is all there is.
    pub perishable: bool,
    /// How often a read of the relation has hung.
    pub hangs: &'a AtomicU32,
    /// The number of the data that the session sees.
    pub data: u32,
    /// Puts values together that the server cannot.
    pub doctor: &'a Doctor,
    /// Whether there is another way to the system catalogs, by their indexes or
    /// past them, that was not tried.
    pub other_way: bool,
    pub pages: &'a Pages,
    pub source: &'a PageSource,
    /// Another session, at the same relation, that takes pages into the server's
    /// cache for unchecked reads; or why there is none.
    pub loader: Option<Result<&'a Session, &'a str>>,
}

/// Reads a stretch to its end, and writes down how far it came. `Err` means that
/// we could not write.
pub async fn read_stretch(at: &Reading<'_>, stretch: &mut Stretch) -> Result<End, OutputError> {
    let end = match decode_killers(at, stretch).await? {
        Some(end) => end,
        None => read_on(at, stretch).await?,
    };
    stretch.note_insane()?;
    // All of a relation is written down when it is finished.
    if !(stretch.whole && matches!(end, End::Settled)) {
        stretch.save().await?;
    }
    Ok(end)
}

async fn read_on(at: &Reading<'_>, stretch: &mut Stretch) -> Result<End, OutputError> {
    if stretch.whole && stretch.salvage.map().extents().is_empty() {
        return read_empty(at, stretch).await;
    }
    hindered::stop_over_the_limit(at, stretch).await?;
    let mut waits = Waits::default();
    let past_statistics = at.readable.past_statistics();
    loop {
        if let Some(end) = look_ahead(at, stretch).await? {
            return Ok(end);
        }
        save_open(at, stretch).await?;
        let Some(read) = stretch.salvage.next_read() else { return Ok(End::Settled) };
        let readable = if stretch.past_statistics { &past_statistics } else { at.readable };
        let at = &Reading { readable, ..*at };
        if at.progress.stopped() {
            return Ok(End::Stopped);
        }
        if let Some(block) = stretch.salvage.unchecked() {
            match load(at, stretch, (block, &read)).await? {
                Load::Ready => {}
                Load::Lost => continue,
                Load::End(end) => return Ok(*end),
            }
        }
        stretch.came_before = None;
        let before = stretch.lanes.clean().rows();
        // Rows of a single block, or of tuples, are held back until it is read.
        let start = match &read {
            Read::Blocks { tagged: true, range } if range.len() == 1 => None,
            Read::Blocks { .. } => Some(stretch.lanes.clean().mark().await?),
            Read::Tuples { .. } => None,
        };
        let held = stretch.lanes.mark_held();
        let got = match stretch.astray_of(&read) {
            Some(ctid) => read_astray(at, stretch, (&read, ctid)).await?,
            None => Some(read_once(at, stretch, &read).await?),
        };
        let Some(Got { last, error, tail }) = got else { continue };
        let Some((error, phase)) = error else {
            stretch.plans |= !is_whole(stretch);
            let recorded = stretch.salvage.record(Outcome::Complete);
            settle(at, stretch, recorded, untagged(&read, start.as_ref())).await?;
            stretch.save_sometimes().await?;
            waits.go_on();
            continue;
        };
        let failed = Failed { read, last, error, phase, start, held, before, tail };
        if let Some(end) = react(at, stretch, failed, &mut waits).await? {
            return Ok(end);
        }
        stretch.save_sometimes().await?;
    }
}

/// What is undone of an untagged read that failed; of a tagged one, whole blocks
/// count.
fn untagged<'a>(read: &Read, start: Option<&'a LaneMark>) -> Option<&'a LaneMark> {
    start.filter(|_| matches!(read, Read::Blocks { tagged: false, .. }))
}

/// Whether the next read is the first, and of everything.
fn is_whole(stretch: &Stretch) -> bool {
    stretch.whole && stretch.salvage.is_fresh()
}

/// A relation without blocks: it is empty, or its file is gone, and only a read
/// can tell.
async fn read_empty(at: &Reading<'_>, stretch: &mut Stretch) -> Result<End, OutputError> {
    let mark = stretch.lanes.clean().mark().await?;
    let read = Read::Blocks { range: BlockRange::new(0, 0), tagged: false };
    let got = read_once(at, stretch, &read).await?;
    let Some((error, phase)) = got.error else {
        stretch.watch.keep();
        return Ok(End::Settled);
    };
    stretch.watch.forget();
    stretch.lanes.clean().rollback(&mark).await?;
    let words = error.words().clone();
    Ok(match error.fault(phase, Some(at.path)) {
        Fault::SessionLost => End::SessionLost(words),
        Fault::Environment | Fault::Hung => End::Environment(words),
        Fault::Pointless | Fault::Miscounted => End::Refused(words),
        Fault::Damage(_) | Fault::TooLarge => match at.session.undo_reading().await {
            Err(_) => End::SessionLost(words),
            Ok(()) => {
                stretch.findings.whole(Cause::MissingFile, &words);
                at.progress.damaged.fetch_add(1, Relaxed);
                End::Settled
            }
        },
    })
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
