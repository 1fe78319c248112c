//! Pages looked at as bytes before the executor meets them.
//!
//! Where some of a page would lead the server astray, that is never read: a
//! length that leads out of the tuple takes down the backend that believes it,
//! and all others with it. What is read of such a page is read by exact TIDs.
//!
//! The file may be older than what the server has in memory, or be written to at
//! this moment. So what looks insane is looked at again; of what is insane each
//! time nothing is executed. Whatever keeps us from looking keeps no row from
//! being read.

use super::astray::know_astray;
use super::raw::left_out::{LeftOut, left_out};
use super::{End, Layout, Reading, Stretch};
use crate::heap::{Around, BlockNumber, BlockRange, Ctid, OffsetNumber, Read, Status};
use crate::output::OutputError;
use crate::page::insane::{Insane, insane};
use crate::page::{Page, checksum};
use crate::server::fault::{Fault, Phase, is_permission};
use crate::server::pages::Fork;
use crate::server::session::ReadError;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Before what looks insane is looked at again, each time.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

/// So many blocks are asked for in one statement: whoever stops reading its
/// answer gets the rest of it all the same.
const BLOCKS_PER_STATEMENT: u32 = 4096;

/// So many blocks from the next read on are looked at with it, at least: to look
/// again at what is insane takes as long for many as for one.
const BLOCKS_AHEAD: u32 = 1024;

/// When so many blocks are insane, what follows waits until they are read.
const INSANE_MAX: usize = 1024;

/// When so many of a TOAST relation are, the rest is not looked at: they are
/// remembered all together.
const TOAST_INSANE_MAX: usize = 100_000;

/// So many bytes of rows that are not to be read are decoded in one look, and the
/// last of them; the others are lost.
const LEFT_OUT_BYTES_MAX: usize = 64 << 20;

/// So many pieces of a stretch may not be had; then nobody looks at the rest.
const FAILURES_MAX: u32 = 16;

/// So often a look from one block on may end with its session, as one that hangs
/// does; then the blocks are read without.
const LOOKS_CUT_MAX: u32 = 2;

/// When pages are looked at before they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckPages {
    /// Once the server went down. Before that the server is asked first: of a row
    /// that it refuses without harm it gives the columns before the damage.
    #[default]
    Auto,
    Always,
    Never,
}

/// Looking at pages; the same for the whole run.
#[derive(Default)]
pub struct Checking {
    pub when: CheckPages,
    crashed: AtomicBool,
    /// Files cannot be read by this role.
    refused: AtomicBool,
    /// Why some page could not be looked at.
    trouble: OnceLock<String>,
}

impl Checking {
    pub fn new(when: CheckPages) -> Self {
        Self { when, ..Self::default() }
    }

    /// The server went down in this run.
    pub fn after_crash(&self) {
        self.crashed.store(true, Relaxed);
    }

    /// Nobody need try.
    pub fn refuse(&self) {
        self.refused.store(true, Relaxed);
    }

    /// What kept us from looking, where we were told to look always.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.get().map(String::as_str).filter(|_| self.when == CheckPages::Always)
    }

    /// Whether what is stored elsewhere is looked at, too.
    pub(super) fn is_thorough(&self) -> bool {
        let after_crash = self.when == CheckPages::Auto && self.crashed.load(Relaxed);
        self.when == CheckPages::Always || after_crash
    }

    /// Whether pages are looked at before they are read.
    fn is_wanted(&self) -> bool {
        let wanted = match self.when {
            CheckPages::Never => false,
            CheckPages::Always => true,
            CheckPages::Auto => self.crashed.load(Relaxed),
        };
        wanted && !self.refused.load(Relaxed)
    }
}

/// Looks at the pages of the next read, as far as that is wanted: after it, there
/// may be another next read.
pub(super) async fn look_ahead(
    at: &Reading<'_>,
    stretch: &mut Stretch,
) -> Result<Option<End>, OutputError> {
    loop {
        stretch.note_insane()?;
        let Some(read) = stretch.salvage.next_read() else { return Ok(None) };
        let Some(range) = wanted(at, stretch, &read) else { return Ok(None) };
        let Some(layout) = &at.pages.layout else { return Ok(None) };
        if stretch.looks_cut == (range.start, LOOKS_CUT_MAX) {
            let recorded = stretch.salvage.looked_at(range.end, BTreeMap::new());
            super::settle(at, stretch, recorded, None).await?;
            continue;
        }
        let seen = async {
            know_astray(at, layout).await?;
            let mut seen = look(at, layout, range).await?;
            decode_left_out(at, &mut seen).await?;
            Ok(seen)
        };
        let seen = match seen.await {
            Ok(seen) => seen,
            Err(error) => {
                let (from, times) = stretch.looks_cut;
                let times = if from == range.start { times } else { 0 };
                stretch.looks_cut = (range.start, times + 1);
                return Ok(Some(ended(at, &error)));
            }
        };
        let recorded = stretch.salvage.looked_at(seen.to, seen.around());
        // What is done is forgotten, and what a look before this one has said.
        let next = match read {
            Read::Blocks { range, .. } => range.start,
            Read::Tuples { block, .. } => block,
        };
        stretch.astray.retain(|ctid, _| (next..range.start).contains(&ctid.block));
        at.progress.damaged.fetch_add(seen.insane(), Relaxed);
        let Seen { found, mut left_out, .. } = seen;
        for (block, Found { insane, astray }) in found {
            let places = astray.into_iter().map(|(number, of)| (Ctid::new(block, number), of));
            stretch.astray.extend(places);
            let had = left_out.remove(&block).unwrap_or_default();
            stretch.insane.extend((insane != Insane::default()).then_some((block, (insane, had))));
        }
        super::settle(at, stretch, recorded, None).await?;
    }
}

fn wanted(at: &Reading<'_>, stretch: &Stretch, read: &Read) -> Option<BlockRange> {
    let layout = at.pages.layout.as_ref()?;
    if !at.source.checking.is_wanted() || !layout.is_of(at.path) {
        return None;
    }
    let range = stretch.salvage.not_looked_at(read)?;
    let ahead = range.start.saturating_add(BLOCKS_AHEAD).min(stretch.salvage.end());
    Some(BlockRange::new(range.start, range.end.max(ahead)))
}

/// What was seen.
#[derive(Default)]
pub(super) struct Seen {
    /// Nobody looked at what follows.
    pub(super) to: BlockNumber,
    pub(super) found: BTreeMap<BlockNumber, Found>,
    /// What was had of tuples that are not to be read.
    left_out: BTreeMap<BlockNumber, LeftOut>,
}

/// What was seen in a block.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Found {
    insane: Insane,
    /// Tuples with values that the server must not be asked for, and the columns
    /// that these are of.
    astray: Vec<(OffsetNumber, Vec<usize>)>,
}

impl Seen {
    /// How many pages are not sound.
    fn insane(&self) -> u64 {
        self.found.values().filter(|found| found.insane != Insane::default()).count() as u64
    }

    /// How the blocks are to be read.
    pub(super) fn around(&self) -> BTreeMap<BlockNumber, Around> {
        let status =
            |block, number| self.left_out.get(block).map_or(Status::Lost, |had| had.status(number));
        let left_out = |block, (number, _): &(u16, _)| (*number, status(block, *number));
        let around = |block, found: &Found| Around {
            left_out: found.insane.fenced.iter().map(|f| left_out(block, f)).collect(),
            alone: found.astray.iter().map(|(number, _)| *number).collect(),
            sound: found.insane == Insane::default(),
        };
        self.found.iter().map(|(block, found)| (*block, around(block, found))).collect()
    }
}

/// Looks at all of a TOAST relation, if its chunks are to be looked at before they
/// are read.
pub(super) async fn look_at_toast(at: &Reading<'_>, blocks: u32) -> Result<Seen, ReadError> {
    if !at.source.checking.is_wanted() {
        return Ok(Seen::default());
    }
    let (layout, mut seen) = (Layout::of_toast(), Seen::default());
    while seen.to < blocks && seen.found.len() < TOAST_INSANE_MAX {
        let more = look(at, &layout, BlockRange::new(seen.to, blocks)).await?;
        seen.to = more.to;
        seen.found.extend(more.found);
    }
    Ok(seen)
}

/// Looks at some blocks. `Err`: the session is of no use any more.
async fn look(at: &Reading<'_>, layout: &Layout, range: BlockRange) -> Result<Seen, ReadError> {
    let fork = Fork::new(at.session, at.path);
    let mut seen = Seen { to: range.start, ..Seen::default() };
    let mut failures = 0;
    while seen.to < range.end && seen.found.len() < INSANE_MAX && !at.progress.stopped() {
        let count = BLOCKS_PER_STATEMENT.min(range.end - seen.to);
        let Err(error) = look_at_some(at, layout, &fork, (seen.to, count), &mut seen).await else {
            continue;
        };
        let shortage = matches!(not_had(at, error).await?, Fault::Environment | Fault::Hung);
        failures += 1;
        let piece = seen.to.saturating_add(fork.piece()).min(range.end);
        let over = shortage || failures == FAILURES_MAX || at.source.checking.refused.load(Relaxed);
        seen.to = if over { range.end } else { piece };
    }
    if at.progress.stopped() {
        // It is not read either.
        seen.to = range.end;
    }
    for pause in PAUSES {
        let suspected = seen.found.iter().filter(|(_, f)| f.insane != Insane::default());
        let suspected: Vec<BlockNumber> = suspected.map(|(block, _)| *block).collect();
        if suspected.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        for block in suspected {
            let again = match fork.read(block, 1).await {
                Ok(bytes) => judge(at, layout, block, &bytes),
                Err(error) => not_had(at, error).await.map(|_| None)?,
            };
            match again {
                Some(found) => seen.found.insert(block, found),
                None => seen.found.remove(&block),
            };
        }
    }
    Ok(seen)
}

/// Has what can be had of tuples that are not to be read.
async fn decode_left_out(at: &Reading<'_>, seen: &mut Seen) -> Result<(), ReadError> {
    let mut bytes = 0;
    for (&block, found) in seen.found.iter().filter(|(_, f)| !f.insane.fenced.is_empty()) {
        if bytes > LEFT_OUT_BYTES_MAX || at.progress.stopped() {
            break;
        }
        let numbers: Vec<OffsetNumber> = found.insane.fenced.iter().map(|(n, _)| *n).collect();
        match left_out(at, block, &numbers).await {
            Ok(had) => {
                bytes += had.len();
                seen.left_out.insert(block, had);
            }
            Err((error, _)) => _ = not_had(at, error).await?,
        }
    }
    Ok(())
}

/// In one statement.
async fn look_at_some(
    at: &Reading<'_>,
    layout: &Layout,
    fork: &Fork<'_>,
    (first, count): (BlockNumber, u32),
    seen: &mut Seen,
) -> Result<(), ReadError> {
    let size = at.session.server().block_size.max(1) as usize;
    let mut pieces = fork.pieces(first, count);
    while let Some((first, bytes)) = pieces.next().await? {
        for (block, page) in (first..).zip(bytes.chunks_exact(size)) {
            if let Some(found) = judge(at, layout, block, page) {
                seen.found.insert(block, found);
            }
            seen.to = block.saturating_add(1);
        }
    }
    // Pages that are not there are the server's to tell of.
    seen.to = first.saturating_add(count);
    Ok(())
}

/// What must not be executed of a page, if the server would take it at all.
fn judge(at: &Reading<'_>, layout: &Layout, block: BlockNumber, bytes: &[u8]) -> Option<Found> {
    let server = at.session.server();
    if bytes.len() != server.block_size as usize {
        return None;
    }
    let (page, attributes) = (Page::new(bytes), layout.attributes.as_deref());
    let insane = insane(page, attributes, at.readable.tuples_max).unwrap_or_default();
    let found = Found { astray: layout.astray_on(page, &insane), insane };
    let is_refused = || {
        server.data_checksums
            && at.pages.unchecked.is_none()
            && page.checksum() != checksum::checksum(bytes, block)
    };
    (found != Found::default() && !is_refused()).then_some(found)
}

/// A page could not be had. `Err`: nor can anything else.
pub(super) async fn not_had(at: &Reading<'_>, error: ReadError) -> Result<Fault, ReadError> {
    let fault = error.fault(Phase::Rows, None);
    if fault == Fault::SessionLost || at.session.is_given_up() {
        return Err(error);
    }
    at.session.undo_reading().await?;
    let (checking, words) = (&at.source.checking, error.words());
    if is_permission(&words.sqlstate) {
        checking.refuse();
    }
    let name = &at.readable.qualified;
    checking.trouble.get_or_init(|| {
        format!("not all pages were checked before they were read: {name}: {}", words.one_line())
    });
    Ok(fault)
}

pub(super) fn ended(at: &Reading<'_>, error: &ReadError) -> End {
    match error.fault(Phase::Rows, None) {
        Fault::SessionLost => End::SessionLost(error.words().clone()),
        _ if at.session.is_given_up() => End::Hung,
        _ => End::SessionLost(error.words().clone()),
    }
}

impl Stretch {
    /// Names what is not read of blocks whose turn has come.
    pub(super) fn note_insane(&mut self) -> Result<(), OutputError> {
        for (block, tuples) in self.salvage.take_opened() {
            if let Some((mut insane, mut left_out)) = self.insane.remove(&block) {
                // Others were read before somebody looked.
                insane.fenced.retain(|(number, _)| tuples.contains(number));
                left_out.keep(&tuples);
                self.findings.insane(block, &insane, |number| left_out.status(number));
                self.hold_left_out(&left_out)?;
            }
        }
        self.hold_killers()
    }
}
