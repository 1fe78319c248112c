//! A heap that fails as real ones do, without a server: what the salvage is
//! simulated on.

#![allow(dead_code, unreachable_pub)]

use pg_salvage::heap::{
    Around, BlockNumber, Ctid, Loss, OffsetNumber, Outcome, Place, Read, RowClass, Rows, Salvage,
    Status,
};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with a block.
#[derive(Clone, Debug)]
pub enum Bad {
    /// The server cannot read the page, and says which.
    Page,
    /// A read fails at these tuples; those before them come.
    Tuples(Vec<OffsetNumber>),
    /// As `Tuples`, but what fails is stored in another relation.
    Toast(Vec<OffsetNumber>),
    /// As `Toast`, but the other columns of these tuples can be had.
    Columns(Vec<OffsetNumber>),
    /// A read of blocks fails before any tuple of this one comes; exact TIDs
    /// fail at these only (a missing pg_xact segment).
    Visibility(Vec<OffsetNumber>),
    /// Reading one of these takes the server down.
    Killers(Vec<OffsetNumber>),
    /// The server cannot read the page; read unchecked, it is one with these.
    Unchecked(Box<Bad>),
}

/// Rows that fit into the server's send buffer.
const SEND_BUFFER_ROWS: OffsetNumber = 3;

/// Where a read came to its end.
struct Stop {
    /// Tuples from here on did not come.
    at: Ctid,
    place: Place,
    crash: bool,
}

/// Every block has tuples 1 to `tuples`, but for the empty ones.
pub struct FakeHeap {
    pub bad: BTreeMap<BlockNumber, Bad>,
    pub tuples: OffsetNumber,
    /// Of each so many blocks one has tuples; 1: all have.
    pub live_every: u32,
}

/// What a salvage came to.
#[derive(Default, Debug)]
pub struct Result {
    pub reads: u64,
    /// Stop before this read, if any.
    pub stop_at: Option<u64>,
    pub crashes: u64,
    pub clean: Vec<Ctid>,
    pub suspect: Vec<Ctid>,
    /// Tuples of which some columns were had.
    pub partial: Vec<Ctid>,
    /// From this read on columns are read apart.
    pub apart_at: Option<u64>,
    pub lost: Vec<Loss>,
    /// From which read on somebody looks at pages before they are read, and at how
    /// many at a time.
    pub looks: Option<(u64, u32)>,
    /// Of each so many unchecked reads one finds that the page has left the
    /// server's cache. 0: none does.
    pub evict_every: u64,
    /// Blocks that were read unchecked, and those of them that were then read as
    /// if nothing was wrong with them.
    pub unchecked: BTreeSet<BlockNumber>,
    pub trusted: BTreeSet<BlockNumber>,
}

impl Result {
    /// Notes how blocks are read; a page that is read unchecked may be gone.
    fn evicted(&mut self, salvage: &Salvage, read: &Read) -> Option<Stop> {
        let range = match *read {
            Read::Blocks { range, .. } => range.start..range.end,
            Read::Tuples { block, .. } => block..block + 1,
        };
        let Some(block) = salvage.unchecked() else {
            self.trusted.extend(self.unchecked.range(range));
            return None;
        };
        self.unchecked.insert(block);
        let is_gone = self.evict_every > 0 && self.reads.is_multiple_of(self.evict_every);
        is_gone.then(|| Stop { at: Ctid::start_of(block), place: Place::Page(block), crash: false })
    }
}

impl FakeHeap {
    pub fn live(&self, block: BlockNumber) -> bool {
        block.is_multiple_of(self.live_every)
    }

    /// Whether a read fails.
    pub fn fails(&self, read: &Read) -> bool {
        self.stop(read, None).is_some()
    }

    /// Whether a tuple is had without some of its columns.
    fn is_partial(&self, tuple: Ctid) -> bool {
        matches!(self.bad.get(&tuple.block), Some(Bad::Columns(t)) if t.contains(&tuple.offset))
    }

    /// The heap as it is read while the columns at fault are read apart.
    fn apart(&self) -> Self {
        let bad = self.bad.iter().filter(|(_, bad)| !matches!(bad, Bad::Columns(_)));
        let bad = bad.map(|(&block, bad)| (block, bad.clone())).collect();
        Self { bad, ..*self }
    }

    /// Where a read stops, if it does. One block may be read unchecked.
    fn stop(&self, read: &Read, unchecked: Option<BlockNumber>) -> Option<Stop> {
        let seen = |block: BlockNumber, bad: &Bad| match bad {
            Bad::Unchecked(bad) if unchecked == Some(block) => (**bad).clone(),
            bad => bad.clone(),
        };
        match *read {
            Read::Blocks { range, .. } => self
                .bad
                .range(range.start..range.end)
                .find_map(|(&block, bad)| in_range(block, &seen(block, bad), self.live(block))),
            Read::Tuples { block, first, last } => {
                let bad = seen(block, self.bad.get(&block)?);
                let (bad, place, crash) = match &bad {
                    Bad::Page | Bad::Unchecked(_) => {
                        return Some(Stop {
                            at: Ctid::new(block, first),
                            place: Place::Page(block),
                            crash: false,
                        });
                    }
                    Bad::Tuples(t) | Bad::Visibility(t) => (t, Place::Unknown, false),
                    Bad::Toast(t) | Bad::Columns(t) => (t, Place::Elsewhere, false),
                    Bad::Killers(t) => (t, Place::Unknown, true),
                };
                let at = bad.iter().copied().filter(|o| (first..=last).contains(o)).min()?;
                Some(Stop { at: Ctid::new(block, at), place, crash })
            }
        }
    }

    /// The tuples that come before the stop, in order.
    fn rows(&self, read: &Read, stop: Option<&Stop>) -> Vec<Ctid> {
        // When the server goes down, what is in its send buffer is lost on the way.
        let end = stop.map_or(Ctid::start_of(u32::MAX), |s| match s.crash {
            true => Ctid::new(s.at.block, s.at.offset.saturating_sub(SEND_BUFFER_ROWS)),
            false => s.at,
        });
        let (blocks, offsets) = match *read {
            Read::Blocks { range, .. } => (range.start..range.end, 1..=self.tuples),
            Read::Tuples { block, first, last } => {
                (block..block + 1, first..=last.min(self.tuples))
            }
        };
        let blocks = blocks.filter(|&b| self.live(b) && b <= end.block);
        let tuples = blocks.flat_map(|b| offsets.clone().map(move |o| Ctid::new(b, o)));
        tuples.take_while(|&c| c < end).collect()
    }

    /// Reads all of it as the program does. With `keep_rows` off, only reads
    /// and losses are counted, so that the heap may be as large as can be.
    pub fn salvage(&self, mut salvage: Salvage, keep_rows: bool, result: &mut Result) -> Salvage {
        if keep_rows {
            return self.salvage_with(salvage, result, |_| None);
        }
        while let Some(read) = salvage.next_read() {
            result.reads += 1;
            let stop = self.stop(&read, salvage.unchecked());
            let recorded = salvage.record(self.outcome(&read, stop.as_ref(), &[], false));
            result.lost.extend(recorded.loss);
        }
        salvage
    }

    /// Reads all of it, and every row is followed into the file it ends in.
    /// `cut` says after how many rows a read is cut short.
    pub fn salvage_with(
        &self,
        mut salvage: Salvage,
        result: &mut Result,
        mut cut: impl FnMut(&Read) -> Option<usize>,
    ) -> Salvage {
        let mut held: Vec<Ctid> = Vec::new();
        while salvage.next_read().is_some() && result.stop_at != Some(result.reads) {
            result.reads += 1;
            let apart = result.apart_at.is_some_and(|at| result.reads >= at);
            if apart {
                salvage.read_apart();
            }
            self.look_ahead(&mut salvage, result, &mut held);
            let Some(read) = salvage.next_read() else { break };
            let unchecked = salvage.unchecked();
            let stop = result.evicted(&salvage, &read).or_else(|| match apart {
                true => self.apart().stop(&read, unchecked),
                false => self.stop(&read, unchecked),
            });
            let mut rows = self.rows(&read, stop.as_ref());
            let tagged = !matches!(read, Read::Blocks { tagged: false, .. });
            let undo = |rows: &[Ctid], result: &mut Result| {
                let open = rows.last().map(|c| c.block);
                let before = rows.iter().filter(|c| tagged && Some(c.block) != open);
                result.clean.extend(before);
            };
            if apart {
                let holes: Vec<Ctid> =
                    rows.iter().copied().filter(|c| self.is_partial(*c)).collect();
                holes.iter().for_each(|c| salvage.has_holes(c.block));
            }
            let lone = matches!(read, Read::Tuples { first, last, .. } if first == last);
            let recorded = if let (true, Some(Stop { at, .. })) = (lone, &stop)
                && self.is_partial(*at)
            {
                rows.push(*at);
                salvage.record(Outcome::Partial { place: Place::Elsewhere })
            } else if let Some(n) = cut(&read) {
                rows.truncate(n);
                salvage.cut_short(rows.last().copied())
            } else {
                let outcome = self.outcome(&read, stop.as_ref(), &rows, true);
                result.crashes += u64::from(matches!(outcome, Outcome::Crashed { .. }));
                salvage.record(outcome)
            };
            result.lost.extend(recorded.loss);
            match recorded.rows {
                Rows::Clean => result.clean.extend(rows),
                Rows::Undo => undo(&rows, result),
                Rows::Hold => held.extend(rows),
                Rows::Settled(class) => {
                    held.extend(rows);
                    match class {
                        RowClass::Clean => result.clean.append(&mut held),
                        RowClass::Suspect => result.suspect.append(&mut held),
                    }
                }
            }
        }
        for rows in [&mut result.clean, &mut result.suspect] {
            result.partial.extend(rows.extract_if(.., |c| self.is_partial(*c)));
        }
        salvage
    }

    /// Tells of what takes the server down before it is read; and of a page of
    /// which something else is wrong.
    fn look_ahead(&self, salvage: &mut Salvage, result: &mut Result, held: &mut Vec<Ctid>) {
        let Some((_, blocks)) = result.looks.filter(|(from, _)| result.reads >= *from) else {
            return;
        };
        while let Some(range) = salvage.next_read().and_then(|read| salvage.not_looked_at(&read)) {
            let to = range.start.saturating_add(blocks).min(salvage.end());
            let insane = |(&block, bad): (&BlockNumber, &Bad)| match bad {
                _ if !self.live(block) => None,
                Bad::Killers(lost) => {
                    let left_out = lost.iter().map(|&offset| (offset, Status::Lost)).collect();
                    Some((block, Around { left_out, ..Around::default() }))
                }
                Bad::Visibility(_) => Some((block, Around::default())),
                Bad::Toast(alone) => {
                    let (alone, left_out) = (alone.clone(), Vec::new());
                    Some((block, Around { left_out, alone, sound: true }))
                }
                _ => None,
            };
            let insane = self.bad.range(range.start..to).filter_map(insane).collect();
            match salvage.looked_at(to, insane).rows {
                Rows::Settled(RowClass::Clean) => result.clean.append(held),
                Rows::Settled(RowClass::Suspect) => result.suspect.append(held),
                _ => {}
            }
        }
    }

    /// One read of the salvage, its rows left aside.
    pub fn step(&self, mut salvage: Salvage) -> Salvage {
        if let Some(read) = salvage.next_read() {
            let stop = self.stop(&read, salvage.unchecked());
            let rows = self.rows(&read, stop.as_ref());
            salvage.record(self.outcome(&read, stop.as_ref(), &rows, true));
        }
        salvage
    }

    fn outcome(&self, read: &Read, stop: Option<&Stop>, rows: &[Ctid], keep_rows: bool) -> Outcome {
        let Some(stop) = stop else { return Outcome::Complete };
        let tagged = !matches!(read, Read::Blocks { tagged: false, .. });
        let last = if keep_rows { rows.last().copied() } else { self.last_before(read, stop.at) };
        let last = last.filter(|_| tagged);
        if stop.crash {
            return Outcome::Crashed { last };
        }
        Outcome::Failed { last, place: stop.place }
    }

    /// The last tuple of the read before `at`, without listing them all.
    fn last_before(&self, read: &Read, at: Ctid) -> Option<Ctid> {
        let first = match *read {
            Read::Blocks { range, .. } => Ctid::start_of(range.start),
            Read::Tuples { block, first, .. } => Ctid::new(block, first),
        };
        let last = if at.offset > 1 && self.live(at.block) {
            Ctid::new(at.block, at.offset - 1)
        } else {
            Ctid::new(at.block.checked_sub(1)? / self.live_every * self.live_every, self.tuples)
        };
        (last >= first).then_some(last)
    }
}

fn in_range(block: BlockNumber, bad: &Bad, live: bool) -> Option<Stop> {
    let at = |o: Option<&OffsetNumber>| o.filter(|_| live).map(|&o| Ctid::new(block, o));
    let (at, place, crash) = match bad {
        Bad::Page | Bad::Unchecked(_) => (Some(Ctid::start_of(block)), Place::Page(block), false),
        Bad::Tuples(t) => (at(t.iter().min()), Place::Unknown, false),
        Bad::Toast(t) | Bad::Columns(t) => (at(t.iter().min()), Place::Elsewhere, false),
        Bad::Visibility(t) => {
            ((live && !t.is_empty()).then_some(Ctid::start_of(block)), Place::Unknown, false)
        }
        Bad::Killers(t) => (at(t.iter().min()), Place::Unknown, true),
    };
    at.map(|at| Stop { at, place, crash })
}
