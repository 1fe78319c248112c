//! Damaged pages of a relation: an image of each is saved, and, where that is
//! allowed, some are read unchecked.

use super::{Checking, Layout, RawLayout, Reading, Stretch};
use crate::heap::{BlockNumber, Read};
use crate::output::journal::{Journal, Record};
use crate::output::{OutputError, PageFiles};
use crate::server::fault::{Fault, Phase, Words, is_permission};
use crate::server::pages::Fork;
use crate::server::session::ReadError;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How pages are had as bytes; the same for the whole run.
#[derive(Default)]
pub struct PageSource {
    /// The server will not have us read its files, in its words.
    refused: OnceLock<String>,
    /// How many pages were read unchecked.
    pub unchecked: AtomicU64,
    /// Also on a server that is no standby.
    pub on_primary: bool,
    /// Whether they are looked at before they are read.
    pub checking: Checking,
    /// Whether rows of pages that the server refuses are decoded from their bytes,
    /// and of how many they were.
    pub raw: bool,
    pub decoded: AtomicU64,
}

impl PageSource {
    pub fn new(on_primary: bool, checking: Checking, raw: bool) -> Self {
        Self { on_primary, checking, raw, ..Self::default() }
    }

    /// The server says that we may read none.
    pub(super) fn refuse(&self, words: &Words) {
        self.refused.get_or_init(|| words.one_line());
    }

    /// Why no page can be had.
    pub fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }
}

/// The damaged pages of one relation.
pub struct Pages {
    /// None: nothing is kept.
    pub files: Option<PageFiles>,
    pub journal: Option<Arc<Journal>>,
    pub oid: u32,
    /// What is on them; none: they are not those of a heap.
    pub layout: Option<Layout>,
    /// Those that were read unchecked. None: none is.
    pub unchecked: Option<Mutex<BTreeSet<BlockNumber>>>,
    /// What decoding its tuples takes. None: that is not known.
    pub raw_layout: Option<RawLayout>,
}

impl Pages {
    /// Those that were read unchecked so far, if any may be.
    pub fn read_unchecked(&self) -> Option<BTreeSet<BlockNumber>> {
        let known = self.unchecked.as_ref()?.lock();
        Some(known.unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Writes down that this page is about to be read unchecked: from then on the
    /// server may give it to anybody as if nothing was wrong.
    pub(super) async fn note_unchecked(&self, block: BlockNumber) -> Result<bool, OutputError> {
        let Some(known) = &self.unchecked else { return Ok(false) };
        let is_new = known.lock().unwrap_or_else(PoisonError::into_inner).insert(block);
        if let Some(journal) = self.journal.as_ref().filter(|_| is_new) {
            journal.append(&Record::Unchecked { oid: self.oid, block })?;
            journal.sync().await?;
        }
        Ok(is_new)
    }
}

/// What came of saving an image.
pub(super) enum Image {
    Kept,
    /// There is none, and there will be none.
    None(String),
    /// Something came in between.
    Interrupted(ReadError),
}

/// Saves the page of a block that failed by itself, or of whose tuples one did.
pub(super) async fn save_damaged(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    read: &Read,
) -> Result<(), OutputError> {
    match *read {
        Read::Blocks { range, .. } if range.len() == 1 => save_once(at, stretch, range.start).await,
        Read::Tuples { block, .. } => save_once(at, stretch, block).await,
        Read::Blocks { .. } => Ok(()),
    }
}

/// Saves the page of the block that is being read, if damage was seen in it.
pub(super) async fn save_open(at: &Reading<'_>, stretch: &mut Stretch) -> Result<(), OutputError> {
    match stretch.salvage.damaged_block() {
        Some(block) => save_once(at, stretch, block).await,
        None => Ok(()),
    }
}

async fn save_once(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    block: BlockNumber,
) -> Result<(), OutputError> {
    if stretch.imaged != Some(block) {
        // Without one it goes on; whatever came in between, the next read meets it.
        let image = save(at, block, false).await?;
        if !matches!(image, Image::Interrupted(_)) {
            stretch.imaged = Some(block);
        }
    }
    Ok(())
}

/// Saves the page of a block as it lies in the server's file, if there is no image
/// of it yet. With `needed`, however many there are, and on the disk at once.
pub(super) async fn save(
    at: &Reading<'_>,
    block: BlockNumber,
    needed: bool,
) -> Result<Image, OutputError> {
    let Some(files) = &at.pages.files else {
        return Ok(Image::None("nothing is kept".to_owned()));
    };
    if !files.has(block) {
        if let Some(refused) = at.source.refused() {
            return Ok(Image::None(refused.to_owned()));
        }
        if !needed && !files.has_room() {
            return Ok(Image::None("there are too many".to_owned()));
        }
        let bytes = match Fork::new(at.session, at.path).read(block, 1).await {
            Ok(bytes) => bytes,
            Err(error) => return Ok(not_had(at, error).await),
        };
        if bytes.is_empty() {
            return Ok(Image::None("its file has no such block".to_owned()));
        }
        files.save(block, bytes).await?;
    }
    if needed {
        files.keep(block).await?;
    }
    Ok(Image::Kept)
}

async fn not_had(at: &Reading<'_>, error: ReadError) -> Image {
    if let Err(error) = at.session.undo_reading().await {
        return Image::Interrupted(error);
    }
    let words = error.words();
    if is_permission(&words.sqlstate) {
        at.source.refuse(words);
    }
    match error.fault(Phase::Rows, None) {
        Fault::Damage(_) | Fault::Pointless | Fault::TooLarge | Fault::Miscounted => {
            Image::None(words.one_line())
        }
        Fault::SessionLost | Fault::Environment | Fault::Hung => Image::Interrupted(error),
    }
}
