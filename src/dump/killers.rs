//! Tuples that took the server down: which they are, and what is had of them from the
//! bytes of their pages, since they are never read again.

use super::astray::know_astray;
use super::check::{ended, not_had};
use super::raw::left_out::{LeftOut, left_out};
use super::rows::flush;
use super::{End, Reading, Stretch};
use crate::heap::{BlockNumber, Ctid, Loss, OffsetNumber, Read, Rows, Salvage, Status};
use crate::output::OutputError;
use crate::progress::Progress;
use crate::server::fault::Words;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// So often the bytes of a block are asked for again, after the session was lost.
const TRIES_MAX: u32 = 2;

/// Those of a stretch.
#[derive(Default)]
pub(super) struct Killers {
    /// That nobody has decoded yet.
    todo: BTreeMap<BlockNumber, Vec<OffsetNumber>>,
    /// Those that were had, by blocks whose turn has not come.
    had: BTreeMap<BlockNumber, (Vec<OffsetNumber>, LeftOut)>,
    /// How often the first block was begun with.
    tries: u32,
}

impl Killers {
    pub(super) fn of(all: impl IntoIterator<Item = Ctid>) -> Self {
        let mut killers = Self::default();
        all.into_iter().for_each(|ctid| killers.add(ctid));
        killers
    }

    fn add(&mut self, ctid: Ctid) {
        self.todo.entry(ctid.block).or_default().push(ctid.offset);
    }

    /// Whether they were being decoded when the session was lost.
    fn is_being_decoded(&self) -> bool {
        self.tries > 0
    }

    /// The server went down meanwhile.
    fn give_up(&mut self) {
        self.todo.pop_first();
        self.tries = 0;
    }
}

/// The server went down under this read, and it was the only one. What did it,
/// if it is known now: the tuple, or the block (offset 0) when read as a whole.
pub async fn convict(
    at: &Progress,
    stretch: &mut Stretch,
    words: &Words,
) -> Result<Option<Ctid>, OutputError> {
    if stretch.killers.is_being_decoded() {
        // Nothing was read that could be to blame.
        stretch.killers.give_up();
        return Ok(None);
    }
    let Some(read) = stretch.salvage.next_read() else { return Ok(None) };
    let recorded = stretch.salvage.convict();
    stretch.findings.crash(&read, words, &recorded);
    if recorded.loss.is_some() {
        at.damaged.fetch_add(1, Relaxed);
    }
    if let Rows::Settled(class) = recorded.rows {
        flush(stretch, class).await?;
    }
    Ok(match (recorded.loss, read) {
        (Some(Loss::Tuple(ctid)), _) => {
            stretch.killers.add(ctid);
            Some(ctid)
        }
        (_, Read::Blocks { range, .. }) if range.len() == 1 => Some(Ctid::start_of(range.start)),
        _ => None,
    })
}

/// Decodes those that nobody has decoded yet, as far as that is wanted and can be done,
/// and settles what waited for it.
///
/// That is no risk: beside the bytes the server is asked for values in TOAST, and not for
/// those that a look at their pages forbids. Who wants no such looks has none decoded.
pub(super) async fn decode_killers(
    at: &Reading<'_>,
    stretch: &mut Stretch,
) -> Result<Option<End>, OutputError> {
    if stretch.has_killers() {
        // In this run or an earlier one.
        at.source.checking.after_crash();
    }
    while let Some((&block, numbers)) = stretch.killers.todo.first_key_value() {
        if stretch.killers.tries >= TRIES_MAX || !at.source.checking.is_thorough() {
            stretch.killers.give_up();
            continue;
        }
        let numbers = numbers.clone();
        stretch.killers.tries += 1;
        let had = async {
            if let Some(layout) = &at.pages.layout {
                know_astray(at, layout).await?;
            }
            left_out(at, block, &numbers).await.map_err(|(error, _)| error)
        };
        match had.await {
            Ok(had) => stretch.take_in_killers(block, &numbers, had)?,
            Err(error) => {
                if let Err(error) = not_had(at, error).await {
                    return Ok(Some(ended(at, &error)));
                }
            }
        }
        stretch.killers.give_up();
    }
    stretch.settle_convicted().await?;
    Ok(None)
}

impl Stretch {
    /// Whether there are tuples that took the server down, and nobody has decoded yet.
    pub fn has_killers(&self) -> bool {
        !self.killers.todo.is_empty()
    }

    /// Whether it was decoding such tuples when its session was lost.
    pub fn is_decoding(&self) -> bool {
        self.killers.is_being_decoded()
    }

    /// Begins anew, nothing having been read.
    pub fn begin_with(&mut self, salvage: Salvage) {
        self.salvage = salvage;
        for (&block, (numbers, had)) in &self.killers.had {
            for &number in numbers {
                self.salvage.had(Ctid::new(block, number), had.status(number));
            }
        }
    }

    fn take_in_killers(
        &mut self,
        block: BlockNumber,
        numbers: &[OffsetNumber],
        mut had: LeftOut,
    ) -> Result<(), OutputError> {
        let mut kept = Vec::new();
        for &number in numbers {
            let (ctid, status) = (Ctid::new(block, number), had.status(number));
            if status == Status::Lost || !self.salvage.had(ctid, status) {
                continue;
            }
            kept.push(number);
            if let Some((message, index)) = self.findings.found(ctid) {
                self.saving.iter_mut().for_each(|saving| saving.write_again_from(index));
                let words = Words { message, ..Words::default() };
                let read = Read::Tuples { block, first: number, last: number };
                self.findings.log_error(Some(&read), None, &words, "decoded from its bytes");
            }
        }
        had.keep(&kept);
        self.killers.had.insert(block, (kept, had));
        self.hold_killers()
    }

    /// Holds back what was had of the block whose turn has come.
    pub(super) fn hold_killers(&mut self) -> Result<(), OutputError> {
        let open = self.salvage.open_block();
        match open.and_then(|block| self.killers.had.remove(&block)) {
            Some((_, had)) => self.hold_left_out(&had),
            None => Ok(()),
        }
    }

    /// A block of which only a tuple was left that took the server down is settled.
    pub async fn settle_convicted(&mut self) -> Result<(), OutputError> {
        match self.salvage.settle_read().rows {
            Rows::Settled(class) => flush(self, class).await,
            Rows::Clean | Rows::Undo | Rows::Hold => Ok(()),
        }
    }
}
