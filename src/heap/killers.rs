//! Tuples that took the server down: they are never read again, and lost, unless
//! somebody has them without a read.

use super::ctid::{BlockNumber, Ctid};
use super::map::Status;
use super::outcome::{Outcome, Read, Recorded, Rows};
use super::salvage::Salvage;

impl Salvage {
    /// The server went down under the read of [`Self::next_read`]. A block is not
    /// settled by that, not even if nothing of it is left to be read: the tuple may yet
    /// be had ([`Self::had`], [`Self::settle_read`]).
    pub fn convict(&mut self) -> Recorded {
        let crashed = Outcome::Crashed { last: None };
        match (self.next_read(), &mut self.open) {
            (Some(Read::Tuples { block, first, .. }), Some(open)) => {
                open.tries = 0;
                let lost = open.record(first, crashed);
                let loss = lost.map(|offset| super::Loss::Tuple(Ctid::new(block, offset)));
                Recorded { rows: Rows::Hold, loss }
            }
            _ => self.record(crashed),
        }
    }

    /// The tuples that are lost since they took the server down, of blocks that are not
    /// settled.
    pub fn killers(&self) -> Vec<Ctid> {
        let open = self.open.iter().filter(|open| open.crashed);
        let open = open.flat_map(|open| open.spoilt.iter().map(|s| (open.block, s)));
        let known =
            self.killers.iter().flat_map(|(&block, all)| all.iter().map(move |k| (block, k)));
        let lost = open.chain(known).filter(|(_, (number, s))| *number > 0 && *s == Status::Lost);
        lost.map(|(block, (number, _))| Ctid::new(block, *number)).collect()
    }

    /// Such a tuple was had in another way, and is held back when its block is open.
    /// Whether it is one.
    pub fn had(&mut self, at: Ctid, status: Status) -> bool {
        let open = self.open.as_mut().filter(|open| open.block == at.block);
        let tuples = match open {
            Some(open) => Some(&mut open.spoilt),
            None => self.killers.get_mut(&at.block),
        };
        let lost = tuples.and_then(|all| {
            all.iter_mut().find(|(number, s)| *number == at.offset && *s == Status::Lost)
        });
        lost.map(|(_, of)| *of = status).is_some()
    }

    /// The block whose tuples are being read by themselves.
    pub fn open_block(&self) -> Option<BlockNumber> {
        self.open.as_ref().map(|open| open.block)
    }

    /// Settles the open block if nothing of it is left to be read.
    pub fn settle_read(&mut self) -> Recorded {
        let recorded = self.settle_if_read(None);
        self.go_on();
        recorded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::{Around, BlockRange, Known, Loss, RowClass, TidMap};
    use std::collections::BTreeMap;

    const MAX: u16 = 3;

    fn status(salvage: &Salvage, number: u16) -> Option<Status> {
        salvage.map().status(Ctid::new(0, number))
    }

    #[test]
    fn a_convicted_tuple_is_lost_unless_it_is_had_before_its_block_is_settled() {
        for had in [None, Some(Status::Suspect), Some(Status::Partial)] {
            let mut salvage = Salvage::new(BlockRange::new(0, 1), MAX);
            salvage.accuse();
            salvage.convict();
            while !matches!(salvage.next_read(), Some(Read::Tuples { first: MAX, .. })) {
                salvage.record(Outcome::Complete);
            }
            let killer = Ctid::new(0, MAX);
            assert_eq!(
                salvage.convict(),
                Recorded { rows: Rows::Hold, loss: Some(Loss::Tuple(killer)) }
            );
            assert_eq!((salvage.next_read(), salvage.open_block()), (None, Some(0)));
            assert_eq!(salvage.killers(), [killer]);
            assert!(had.is_none_or(|had| salvage.had(killer, had)));
            assert!(!salvage.had(Ctid::new(0, 1), Status::Suspect), "it was read");
            assert_eq!(salvage.settle_read().rows, Rows::Settled(RowClass::Suspect));
            assert_eq!(status(&salvage, MAX), had.or(Some(Status::Lost)));
            assert_eq!(status(&salvage, 1), Some(Status::Suspect));
            assert!(salvage.killers().is_empty() && !salvage.had(killer, Status::Suspect));
        }
    }

    #[test]
    fn a_known_one_that_also_looks_insane_is_left_out_once() {
        let killer = Ctid::new(1, 2);
        let known = Known { killers: vec![killer], ..Known::default() };
        let mut salvage = Salvage::resumed(TidMap::default(), BlockRange::new(0, 2), MAX, known);
        assert!(salvage.had(killer, Status::Partial));
        let left_out = vec![(2, Status::Lost), (3, Status::Lost)];
        let around = Around { left_out, ..Around::default() };
        salvage.looked_at(2, BTreeMap::from([(1, around)]));
        while salvage.next_read().is_some() {
            salvage.record(Outcome::Complete);
        }
        assert_eq!(salvage.take_opened(), [(1, vec![3])]);
        assert_eq!(salvage.map().status(killer), Some(Status::Partial));
    }

    #[test]
    fn known_ones_are_had_before_their_blocks_are_reached_and_after() {
        let killers = vec![Ctid::new(0, 2), Ctid::new(3, 0), Ctid::new(3, 1)];
        let known = Known { killers: killers.clone(), ..Known::default() };
        let mut salvage = Salvage::resumed(TidMap::default(), BlockRange::new(0, 5), MAX, known);
        assert_eq!(salvage.open_block(), Some(0));
        assert_eq!(salvage.killers(), [killers[0], killers[2]]);
        assert!(
            salvage.had(killers[0], Status::Partial) && salvage.had(killers[2], Status::Suspect)
        );
        assert_eq!(salvage.killers(), []);
        while salvage.next_read().is_some() {
            salvage.record(Outcome::Complete);
        }
        assert_eq!(status(&salvage, 2), Some(Status::Partial));
        let all = salvage.map().status(Ctid::new(3, 1));
        assert_eq!(all, Some(Status::Suspect));
    }
}
