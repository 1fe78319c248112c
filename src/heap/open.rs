//! The block whose tuples are being read by themselves: what was lost of it,
//! and what its other rows are worth.

use super::ahead::Around;
use super::ctid::{BlockNumber, Ctid, OffsetNumber};
use super::map::{Status, TidMap};
use super::narrow::Narrow;
use super::outcome::{Outcome, Place, RowClass};
use super::within::offset;

/// So often in a row is a page read again that may have left the server's cache
/// between two reads of it; more, and it is something else.
const TRIES_MAX: u32 = 3;

#[derive(Clone, Debug)]
pub(super) struct OpenBlock {
    pub(super) block: BlockNumber,
    pub(super) tuples: Narrow,
    /// Tuples that were lost, as a whole or in some columns, or had without a read.
    pub(super) spoilt: Vec<(OffsetNumber, Status)>,
    /// A tuple of it failed, and not for something stored elsewhere.
    pub(super) damaged: bool,
    /// A read of the block, or of several tuples of it, failed, and not for
    /// something stored elsewhere: what a tuple says by itself weighs more, if
    /// one of them fails.
    pub(super) blamed: bool,
    /// The server went down when the block was read as a whole.
    pub(super) crashed: bool,
    /// Its page is read although it is bad. First all of it, if it is `whole`.
    pub(super) unchecked: bool,
    pub(super) whole: bool,
    /// What is still to be read is not all that follows: the rest was had.
    pub(super) in_parts: bool,
    /// How often in a row it failed for its page and was tried again.
    pub(super) tries: u32,
}

impl OpenBlock {
    pub(super) fn new(block: BlockNumber, tuples: Narrow) -> Self {
        Self {
            block,
            tuples,
            spoilt: Vec::new(),
            damaged: false,
            blamed: false,
            crashed: false,
            unchecked: false,
            whole: false,
            in_parts: false,
            tries: 0,
        }
    }

    /// From now on its page is read unchecked.
    pub(super) fn go_unchecked(&mut self) {
        (self.unchecked, self.damaged) = (true, true);
    }

    /// Its page failed: whether that may be since it had left the server's cache.
    pub(super) fn may_try_again(&mut self) -> bool {
        self.tries += 1;
        self.tries <= TRIES_MAX
    }

    /// Damage was seen in it.
    pub(super) fn is_bad(&self) -> bool {
        self.damaged || self.blamed || self.crashed
    }

    /// Tuples that took the server down before. 0: the block did, as a whole.
    pub(super) fn leave_out_killers(&mut self, killers: &[(OffsetNumber, Status)]) {
        self.crashed = true;
        self.damaged |= killers.iter().any(|&(offset, _)| offset > 0);
        self.leave_out(killers.iter().copied());
    }

    /// Its tuples are to be read by themselves, around what was seen. Returns those
    /// that are left out.
    pub(super) fn read_around(&mut self, around: &Around) -> Vec<OffsetNumber> {
        self.whole = false;
        self.damaged |= !around.sound;
        let before = self.spoilt.len();
        self.leave_out(around.left_out.iter().copied());
        around.alone.iter().for_each(|&offset| {
            self.tuples.set_apart(offset.into());
        });
        self.spoilt.iter().skip(before).map(|(offset, _)| *offset).collect()
    }

    fn leave_out(&mut self, tuples: impl Iterator<Item = (OffsetNumber, Status)>) {
        self.spoilt.extend(tuples.filter(|(offset, _)| self.tuples.leave_out((*offset).into())));
    }

    /// What came of a read of tuples from `first` on. The tuple that is lost by
    /// it as a whole, if one is.
    pub(super) fn record(&mut self, first: OffsetNumber, outcome: Outcome) -> Option<OffsetNumber> {
        let bound = |last: Option<Ctid>| match last {
            Some(l) if l.block == self.block && l.offset >= first => u32::from(l.offset) + 1,
            _ => u32::from(first),
        };
        // All rows had come, and it ended behind them: none is read again.
        let end = self.tuples.next_read().map(|read| read.end);
        let outcome = match outcome {
            Outcome::Hung { last } if Some(bound(last)) == end => Outcome::Complete,
            Outcome::Failed { last, place } if Some(bound(last)) == end => {
                self.blamed |= place != Place::Elsewhere;
                Outcome::Complete
            }
            outcome => outcome,
        };
        let isolated = match outcome {
            Outcome::Complete => {
                self.tuples.complete();
                None
            }
            Outcome::Failed { last, place } => {
                let isolated = self.tuples.failed_from(bound(last));
                let blamed = place != Place::Elsewhere;
                self.damaged |= blamed && isolated.is_some();
                self.blamed |= blamed;
                isolated
            }
            Outcome::Partial { place } => {
                self.damaged |= place != Place::Elsewhere;
                let partial = self.tuples.failed_from(u32::from(first));
                self.spoil(partial, Status::Partial);
                None
            }
            Outcome::Hung { last } => self.tuples.hung(bound(last)),
            Outcome::Crashed { last } => {
                self.damaged = true;
                self.tuples.crashed(bound(last))
            }
        };
        self.spoil(isolated, Status::Lost)
    }

    fn spoil(&mut self, tuple: Option<u32>, status: Status) -> Option<OffsetNumber> {
        let offset = OffsetNumber::try_from(tuple?).ok()?;
        self.spoilt.push((offset, status));
        Some(offset)
    }

    /// The page went away: no tuple of it from `from` on can be read now. Returns the
    /// last that is lost by that: of parts, one is lost at a time.
    pub(super) fn lose_the_rest(
        &mut self,
        from: OffsetNumber,
        tuples_max: OffsetNumber,
    ) -> OffsetNumber {
        self.damaged = true;
        let read = self.tuples.next_read().filter(|_| self.in_parts);
        let last = read.as_ref().map_or(tuples_max, |read| offset(read.end - 1));
        self.spoilt.extend((from..=last).map(|o| (o, Status::Lost)));
        match read {
            Some(read) => self.tuples.advance(read.end),
            None => self.tuples = Narrow::new(0..0),
        }
        last
    }

    /// Whether some of its tuples, but not all, are done with.
    pub(super) fn is_begun(&self, tuples_max: OffsetNumber) -> bool {
        !self.whole && !self.tuples.rest().eq(std::iter::once(1..u32::from(tuples_max) + 1))
    }

    /// Leaves the tuples that are not done with alone; the rows of the others are
    /// suspect.
    pub(super) fn fence(mut self, map: &mut TidMap, tuples_max: OffsetNumber) {
        let rest: Vec<u32> = self.tuples.rest().flatten().collect();
        let rest = rest.into_iter().filter_map(|offset| OffsetNumber::try_from(offset).ok());
        self.spoilt.extend(rest.map(|offset| (offset, Status::Fenced)));
        self.damaged = true;
        self.settle(map, tuples_max, false);
    }

    /// Marks what became of it, and gives the class of its rows.
    /// `holes`: rows of it were had in part, by what is stored elsewhere.
    pub(super) fn settle(
        mut self,
        map: &mut TidMap,
        tuples_max: OffsetNumber,
        holes: bool,
    ) -> RowClass {
        self.spoilt.sort_unstable();
        let (class, status) = if self.damaged || (self.blamed && self.spoilt.is_empty()) {
            (RowClass::Suspect, Status::Suspect)
        } else {
            (RowClass::Clean, if holes { Status::Partial } else { Status::Done })
        };
        let mut from = Ctid::start_of(self.block);
        for &(offset, spoilt) in &self.spoilt {
            let at = Ctid::new(self.block, offset);
            map.mark(from, at, status);
            from = match offset.checked_add(1).filter(|_| offset < tuples_max) {
                Some(next) => Ctid::new(self.block, next),
                None => Ctid::start_of(self.block + 1),
            };
            map.mark(at, from, spoilt);
        }
        map.mark(from, Ctid::start_of(self.block + 1), status);
        class
    }
}
