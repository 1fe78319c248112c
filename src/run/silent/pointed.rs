//! To which blocks of a heap an index points: all leaves of its smallest b-tree,
//! read from the file in pieces, once.
//!
//! One changed bit in an index makes an item that points anywhere. So what a
//! single item says is believed only if another one says so, too: of the same
//! block, of one close to it, or in another index. A page that is gone has left
//! an item for each of its rows, in each index.

use super::counts::IS_COMPLETE;
use super::pages::is_settled;
use crate::heap::tuples_per_page_max;
use crate::page::{Page, btree};
use crate::server::pages::Fork;
use crate::server::session::{ReadError, Session};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// Items for blocks that are at most so far apart confirm each other. Rows are
/// seldom more than a few blocks from the next, and of two changed bits that
/// lead behind the end of a file hardly ever both lead there.
const CLOSE: u32 = 8;

/// So many blocks are remembered; behind the end of a file there may be more.
const BLOCKS_MAX: usize = 1_000_000;

/// Blocks that items point to.
#[derive(Default)]
pub(super) struct Marks {
    /// By whom first: the number of the index, and which tuple; and whether another
    /// item says so, too.
    blocks: BTreeMap<u32, ((usize, u16), bool)>,
    /// The last of those that are not remembered.
    more: Option<u32>,
}

impl Marks {
    fn add(&mut self, index: usize, (block, offset): btree::Tid) {
        let by = (index, offset);
        let is_full = self.blocks.len() >= BLOCKS_MAX;
        match self.blocks.entry(block) {
            Entry::Occupied(mut known) => {
                let (first, confirmed) = known.get_mut();
                *confirmed |= *first != by;
            }
            Entry::Vacant(_) if is_full => self.more = self.more.max(Some(block)),
            Entry::Vacant(new) => {
                new.insert((by, false));
            }
        }
    }

    /// Blocks of which more than one item tells.
    pub(super) fn confirmed(&self) -> BTreeSet<u32> {
        let mut confirmed = BTreeSet::new();
        let mut before: Option<u32> = None;
        for (&block, &(_, is_confirmed)) in &self.blocks {
            let close = before.filter(|before| block - before <= CLOSE);
            confirmed.extend(close);
            if close.is_some() || is_confirmed {
                confirmed.insert(block);
            }
            before = Some(block);
        }
        // Where there are so many, they are of no few changed bits.
        confirmed.extend(self.more);
        confirmed
    }

    /// The last block of which one item alone tells.
    pub(super) fn alone(&self) -> Option<u32> {
        let confirmed = self.confirmed();
        self.blocks.keys().rev().find(|block| !confirmed.contains(block)).copied()
    }
}

/// What indexes point to that may not be there.
#[derive(Default)]
pub(super) struct Pointed {
    /// Those that were looked at.
    indexes: Vec<String>,
    /// Blocks behind the end of the heap.
    pub beyond: Marks,
    /// Pages of zeros.
    pub zeros: Marks,
    /// Whether some page of an index could tell more: it is damaged, or was
    /// written since the last checkpoint, or an item that a reader has marked as
    /// dead points behind the end.
    is_unsure: bool,
}

/// A b-tree, as it lies on disk.
struct Index {
    name: String,
    path: String,
    blocks: u32,
}

/// What is looked for.
struct Wanted<'a> {
    end: u32,
    zeros: &'a BTreeSet<u32>,
    redo: u64,
    offset_max: u16,
}

/// Looks for these pages of zeros, and for anything from block `end` on. Only
/// what the index said before the last checkpoint counts: what it points to was
/// written by then. Another index is asked where one item alone tells.
pub(super) async fn pointed(
    session: &Session,
    oid: u32,
    end: u32,
    zeros: &BTreeSet<u32>,
    redo: u64,
) -> Result<Pointed, ReadError> {
    let mut pointed = Pointed::default();
    let offset_max = tuples_per_page_max(session.server().block_size);
    let wanted = Wanted { end, zeros, redo, offset_max };
    for index in smallest_two(session, oid).await? {
        pointed.look_at(session, &index, &wanted).await?;
        pointed.indexes.push(index.name);
        if pointed.beyond.alone().is_none() && pointed.zeros.alone().is_none() {
            break;
        }
    }
    Ok(pointed)
}

async fn smallest_two(session: &Session, oid: u32) -> Result<Vec<Index>, ReadError> {
    let sql = format!(
        "SELECT c.relname, pg_catalog.pg_relation_filepath(i.indexrelid), \
         pg_catalog.pg_relation_size(i.indexrelid) size \
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         WHERE i.indrelid = {oid} AND {IS_COMPLETE} ORDER BY size, i.indexrelid LIMIT 2"
    );
    let block_size = u64::from(session.server().block_size.max(1));
    let index = |row: Vec<Option<String>>| {
        let [Some(name), Some(path), Some(size)] = row.as_slice() else { return None };
        let blocks = size.parse::<u64>().unwrap_or(0) / block_size;
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        Some(Index { name: name.clone(), path: path.clone(), blocks })
    };
    Ok(session.rows(&sql).await?.into_iter().filter_map(index).collect())
}

impl Pointed {
    async fn look_at(
        &mut self,
        session: &Session,
        index: &Index,
        wanted: &Wanted<'_>,
    ) -> Result<(), ReadError> {
        let number = self.indexes.len();
        let block_size = session.server().block_size.max(1) as usize;
        let fork = Fork::new(session, index.path.as_str());
        let mut read = 0;
        let mut pieces = fork.pieces(0, index.blocks);
        while let Some((_, bytes)) = pieces.next().await? {
            let pages = bytes.chunks_exact(block_size).filter(|page| !Page::new(page).is_new());
            read += bytes.len() as u64;
            for page in pages {
                if !is_settled(Page::new(page), wanted.redo) || !btree::is_sound(page) {
                    self.is_unsure = true;
                    continue;
                }
                for item in btree::leaf_items(page).into_iter().flatten() {
                    if item.dead || !wanted.makes_sense(&item) {
                        self.is_unsure |= item.tids().any(|tid| tid.0 >= wanted.end);
                        continue;
                    }
                    for tid in item.tids() {
                        if tid.0 >= wanted.end {
                            self.beyond.add(number, tid);
                        } else if !wanted.zeros.is_empty() && wanted.zeros.contains(&tid.0) {
                            self.zeros.add(number, tid);
                        }
                    }
                }
            }
        }
        self.is_unsure |= read < u64::from(index.blocks) * block_size as u64;
        Ok(())
    }

    /// Whether an index knows all rows, and none of them behind the end.
    pub(super) fn denies_what_is_behind(&self) -> bool {
        let knows_none = self.beyond.confirmed().is_empty() && self.beyond.alone().is_none();
        !self.indexes.is_empty() && !self.is_unsure && knows_none
    }

    /// Who says so.
    pub(super) fn told_by(&self, what: &str) -> String {
        match self.indexes.as_slice() {
            [one, other] => format!("indexes \"{one}\" and \"{other}\" have items for {what}"),
            some => format!("index \"{}\" has items for {what}", some.join("")),
        }
    }

    /// The index, or both of them, in words.
    pub(super) fn names(&self) -> String {
        self.indexes.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" or ")
    }
}

impl Wanted<'_> {
    /// The places of one item are in order, and are such as there can be.
    fn makes_sense(&self, item: &btree::Item<'_>) -> bool {
        let mut before = None;
        item.tids().all(|tid| {
            let in_order = before.replace(tid).is_none_or(|before| before < tid);
            in_order && (1..=self.offset_max).contains(&tid.1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_item_says_another_must_confirm() {
        let mut marks = Marks::default();
        let said =
            |marks: &Marks| (marks.confirmed().into_iter().collect::<Vec<_>>(), marks.alone());
        assert_eq!(said(&marks), (vec![], None));
        marks.add(0, (1 << 20, 7));
        marks.add(0, (1 << 20, 7));
        assert_eq!(said(&marks), (vec![], Some(1 << 20)));
        // Another row of a block, blocks that are close, another index.
        marks.add(0, (500, 1));
        marks.add(0, (500, 2));
        marks.add(0, (700, 1));
        marks.add(0, (708, 1));
        marks.add(0, (717, 1));
        assert_eq!(said(&marks), (vec![500, 700, 708], Some(1 << 20)));
        marks.add(1, (1 << 20, 7));
        assert_eq!(said(&marks), (vec![500, 700, 708, 1 << 20], Some(717)));
    }
}
