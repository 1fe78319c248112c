//! What earlier runs into the same directory have done, by their journal.

use crate::dump::Cause;
use crate::heap::{BlockRange, Ctid, TidMap};
use crate::output::journal::{self, Extent, Record};
use crate::output::manifest::{self, RowClass};
use crate::server::inventory::Relation;
use std::collections::{BTreeMap, BTreeSet};

/// All that the journal says.
#[derive(Default)]
pub(super) struct Earlier {
    pub runs: Vec<journal::Run>,
    pub snapshots: Vec<journal::Snapshot>,
    pub relations: BTreeMap<u32, EarlierRelation>,
}

/// What was read of a relation that may not be done.
#[derive(Clone, Default)]
pub(super) struct EarlierRelation {
    /// None: only killers are known of it.
    pub planned: Option<journal::Relation>,
    pub stretches: BTreeMap<usize, EarlierStretch>,
    /// Stretches before this one are joined in the relation's files.
    pub next: usize,
    pub killers: BTreeMap<Ctid, String>,
    /// Stretches that the server went down under.
    pub accused: BTreeSet<usize>,
    /// Blocks whose pages were read unchecked.
    pub unchecked: BTreeSet<u32>,
    pub done: Option<(manifest::Relation, Vec<(u32, i64)>)>,
}

/// A stretch, as far as it is settled.
#[derive(Clone, Default)]
pub(super) struct EarlierStretch {
    pub map: TidMap,
    pub end: u32,
    pub lost: Vec<manifest::Lost>,
    pub lost_omitted: u64,
    pub snapshots: BTreeSet<u32>,
    pub in_place: bool,
    /// The rows of what is settled.
    pub files: [Extent; RowClass::COUNT],
    /// Settled before which block, with which rows, by each record.
    marks: Vec<(u32, [Extent; RowClass::COUNT])>,
    /// All that is in the files, where the stretch was given back.
    pub ended: Option<[Extent; RowClass::COUNT]>,
}

impl EarlierStretch {
    /// Settled before this block.
    pub(super) fn to(&self) -> u32 {
        self.map.extents().last().map_or(0, |e| e.end.block)
    }

    /// Takes back what was lost for no damage, and may be had now.
    pub(super) fn try_again(&mut self) {
        let passing = self.lost.iter().filter(|l| Cause::of(l).is_some_and(Cause::is_passing));
        let Some(block) = passing.filter_map(manifest::Lost::block).min() else { return };
        self.marks.retain(|(to, _)| *to <= block);
        let start = self.map.extents().first().map_or(0, |e| e.start.block);
        let (to, files) = self.marks.last().copied().unwrap_or((start, Default::default()));
        self.map = self.map.part(BlockRange::new(start, to));
        self.lost.retain(|l| l.is_before(to));
        self.files = files;
    }

    pub(super) fn is_settled(&self) -> bool {
        !self.map.extents().is_empty() && self.to() >= self.end
    }
}

impl Earlier {
    /// Takes in the next record. One that does not fit to those before it is of
    /// no use, and of no harm: what it would vouch for is read again.
    pub(super) fn record(&mut self, record: Record) {
        match record {
            Record::Run(run) => self.runs.push(run),
            Record::Snapshot(taken) => self.snapshots.push(taken),
            Record::Relation(planned) => {
                let relation = self.relations.entry(planned.oid).or_default();
                let before = std::mem::take(relation);
                if before.is_of_file(planned.filenode) {
                    (relation.killers, relation.accused) = (before.killers, before.accused);
                    relation.unchecked = before.unchecked;
                }
                relation.planned = Some(planned);
            }
            Record::Stretch(saved) => self.stretch(saved),
            Record::Ended { oid, stretch, files } => {
                self.of(oid, stretch).ended = Some(files);
            }
            Record::Joined { oid, next } => {
                let relation = self.relations.entry(oid).or_default();
                if next < relation.next {
                    for (_, later) in relation.stretches.range_mut(next + 1..) {
                        later.ended = None;
                        later.in_place = false;
                    }
                    if let Some(first) = relation.stretches.get_mut(&next) {
                        (first.in_place, first.ended) = (true, None);
                    }
                }
                relation.next = next;
            }
            Record::Killer { oid, ctid, message } => {
                if let Ok(ctid) = ctid.parse() {
                    self.relations.entry(oid).or_default().killers.insert(ctid, message);
                }
            }
            Record::Accused { oid, stretch } => {
                self.relations.entry(oid).or_default().accused.insert(stretch);
            }
            Record::Unchecked { oid, block } => {
                self.relations.entry(oid).or_default().unchecked.insert(block);
            }
            Record::Done { relation, furthest } => {
                let oid = relation.oid;
                self.relations.entry(oid).or_default().done = Some((*relation, furthest));
            }
        }
    }

    fn of(&mut self, oid: u32, stretch: usize) -> &mut EarlierStretch {
        self.relations.entry(oid).or_default().stretches.entry(stretch).or_default()
    }

    fn stretch(&mut self, saved: journal::Stretch) {
        let stretch = self.of(saved.oid, saved.stretch);
        let Ok(map) = TidMap::from_text(&saved.map) else { return };
        let follows = match (stretch.map.extents().last(), map.extents().first()) {
            (Some(last), Some(first)) => last.end >= first.start,
            _ => true,
        };
        if !follows {
            return;
        }
        // After a part was taken back, it is read once more.
        if let Some(first) = map.extents().first() {
            let start = stretch.map.extents().first().map_or(0, |e| e.start.block);
            stretch.map = stretch.map.part(BlockRange::new(start, first.start.block));
            stretch.marks.retain(|(to, _)| *to <= first.start.block);
        }
        stretch.map.join(map);
        stretch.lost.truncate(saved.lost_kept);
        stretch.lost.extend(saved.lost);
        stretch.lost_omitted = saved.lost_omitted;
        stretch.snapshots.insert(saved.snapshot);
        (stretch.end, stretch.files, stretch.in_place) = (saved.end, saved.files, saved.in_place);
        let settled = stretch.to();
        stretch.marks.retain(|(to, _)| *to < settled);
        stretch.marks.push((settled, saved.files));
        stretch.ended = None;
    }
}

impl EarlierRelation {
    /// Whether it is an unlogged table that had rows, and has no blocks now: a
    /// crash has emptied it.
    pub(super) fn is_emptied(&self, now: &Relation, blocks: Option<u32>) -> bool {
        let had = self.planned.as_ref().is_some_and(|p| p.blocks > 0);
        now.unlogged && blocks == Some(0) && had && self.is_of_file(now.filenode)
    }

    /// Whether what is known of its places is of this file, as far as one can
    /// tell. In another, the same places hold other rows.
    pub(super) fn is_of_file(&self, filenode: Option<u32>) -> bool {
        self.planned.as_ref().is_none_or(|p| p.filenode == filenode)
    }

    /// Where its blocks were cut: none, where it was read as one.
    pub(super) fn ranges(&self) -> Vec<BlockRange> {
        let planned = self.planned.iter().flat_map(|p| &p.stretches);
        planned.map(|&(start, end)| BlockRange::new(start, end)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved((from, to): (u32, u32), len: u64, hung: &[u32]) -> Record {
        let mut map = TidMap::new(BlockRange::new(from, to));
        map.mark_blocks(BlockRange::new(from, to), crate::heap::Status::Done);
        let lost = |&block| manifest::Lost {
            first_block: Some(block),
            last_block: Some(block),
            ctid: None,
            column: None,
            cause: Cause::Hung.name().to_owned(),
            sqlstate: None,
            message: String::new(),
        };
        Record::Stretch(journal::Stretch {
            oid: 1,
            stretch: 0,
            in_place: true,
            end: 400,
            snapshot: 1,
            map: map.to_text(),
            lost_kept: 0,
            lost: hung.iter().map(lost).collect(),
            lost_omitted: 0,
            files: std::array::from_fn(|class| match class {
                0 => Extent { len, rows: len, bytes: len, hash: None },
                _ => Extent::default(),
            }),
        })
    }

    /// A later run has written over what the first has written behind block 100.
    #[test]
    fn what_was_taken_back_twice_is_cut_where_the_files_are_now() {
        let mut earlier = Earlier::default();
        earlier.record(saved((0, 100), 10, &[]));
        earlier.record(saved((100, 200), 20, &[150]));
        earlier.record(saved((200, 300), 30, &[150]));
        let mut first = earlier.relations[&1].stretches[&0].clone();
        first.try_again();
        assert_eq!((first.to(), first.files[0].len), (100, 10));
        earlier.record(saved((100, 250), 27, &[220]));
        let mut second = earlier.relations[&1].stretches[&0].clone();
        second.try_again();
        assert_eq!((second.to(), second.files[0].len), (100, 10), "not at 200, which is gone");
    }
}
