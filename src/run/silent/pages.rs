//! Are there pages of zeros to which something points, or does something point
//! behind the end of the file?
//!
//! A page of zeros is a new one for the server, with every check: a crash leaves
//! such where a file was extended and nothing was written yet, and so does a bad
//! disk. It is loss where the visibility map says that everybody sees its rows,
//! which the server says of no new page, or where an index has items for it.
//!
//! Files are read, and not what the server has in memory, so they may be behind.
//! What the last checkpoint began with is on disk: a page whose LSN is below
//! that is the whole truth of that time, and all that its own change relied on
//! was written, too. The one thing that takes pages away is truncating; where a
//! later block was written before the checkpoint, none was.
//!
//! The server looks for zeros itself; what comes over the connection is the
//! index. It takes what reads files (a superuser, or who was granted it).

use super::asking::Asked;
use super::counts::{beyond, count};
use super::pointed::{Pointed, pointed};
use super::{Found, Looked, Missing, Run, is_short, path_now};
use crate::heap::{BlockRange, Read};
use crate::page::{Page, visibility};
use crate::run::generation::Numbered;
use crate::server::pages::{Fork, redo as redo_of};
use crate::server::relation::readable;
use crate::server::session::{ReadError, Session};
use std::collections::BTreeSet;

/// So many pages of zeros of a relation are looked into: those of an extension
/// that was never used are not more, and a hole in a file is found by its first.
const ZEROS_MAX: usize = 1_000_000;

/// So many blocks at the end of a file are looked at for one that was written
/// before the last checkpoint.
const ANCHOR_BLOCKS_MAX: u32 = 8192;

/// A relation, as it lies on disk.
struct OnDisk<'a> {
    session: &'a Session,
    looked: &'a Looked,
    fork: Fork<'a>,
    blocks: u32,
    /// Where the last checkpoint began.
    redo: u64,
}

impl Run {
    /// What is missing; and the relations of which an index says that nothing is
    /// behind the end of the file.
    pub(super) async fn pages_that_are_gone(
        &self,
        clean: &[Looked],
    ) -> (Vec<Found>, BTreeSet<u32>) {
        const NOTHING: &str = "files were not looked at";
        // Where the last checkpoint began: later ones do no harm.
        let redo = tokio::sync::OnceCell::new();
        let ask = async |numbered: &Numbered, relation: &Looked| {
            let session = &numbered.session;
            let redo = match redo.get_or_try_init(|| redo_of(session)).await {
                Ok(Some(redo)) => *redo,
                Ok(None) => return Asked::Answered((Vec::new(), None)),
                Err(error) => return Asked::Failed { what: NOTHING.to_owned(), error, all: true },
            };
            match self.pages_of(session, relation, redo, numbered.snapshot).await {
                Ok((missing, denied)) => Asked::Answered((missing, denied.then_some(relation.oid))),
                Err(error) => {
                    let name = relation.relation.display_name();
                    let what = format!("the file of relation \"{name}\" was not looked at");
                    let all = error.is_permission();
                    Asked::Failed { what, error, all }
                }
            }
        };
        let relations = clean.iter().filter(|r| !r.relation.unlogged).collect();
        let (found, denied): (Vec<_>, Vec<_>) =
            self.ask_of_all(relations, NOTHING, ask).await.into_iter().unzip();
        (found.into_iter().flatten().collect(), denied.into_iter().flatten().collect())
    }

    async fn pages_of(
        &self,
        session: &Session,
        looked: &Looked,
        redo: u64,
        snapshot: u32,
    ) -> Result<(Vec<Found>, bool), ReadError> {
        let Some(disk) = OnDisk::open(session, looked, redo).await? else {
            return Ok((Vec::new(), false));
        };
        let (zeros, unsure) = disk.zeros().await?;
        let known = pointed(session, looked.oid, disk.blocks, &zeros, redo).await?;
        let visible = disk.all_visible(&zeros).await?;
        let found = |missing, what: String, told_by| Found {
            oid: looked.oid,
            missing,
            what: Some(what),
            told_by,
        };
        let mut lost = Vec::new();
        let proven: BTreeSet<u32> = visible.union(&known.zeros.confirmed()).copied().collect();
        for range in ranges(&proven) {
            if disk.rows_in(range).await? > 0 {
                self.warn(format!(
                    "relation \"{}\": on disk {} of zeros; the server still has it in memory",
                    looked.relation.display_name(),
                    are_pages(range)
                ));
                continue;
            }
            let told_by = match visible.contains(&range.start) {
                true => "the visibility map says that all see the rows there".to_owned(),
                false => known.told_by("rows there"),
            };
            let (start, end) = (u64::from(range.start), u64::from(range.end));
            let what = format!("{} of zeros", are_pages(range));
            lost.push(found(Missing::Heap { start, end }, what, told_by));
        }
        let unproven: BTreeSet<u32> = zeros.difference(&proven).copied().collect();
        self.note_unproven(&disk, &unproven, unsure);
        let start = u64::from(disk.blocks);
        match behind_the_end(&disk, &known, snapshot).await? {
            Some(End::Missing(last)) => lost.push(found(
                Missing::Heap { start, end: u64::from(last) + 1 },
                is_short(false, start),
                known.told_by(&format!("rows in block {last}")),
            )),
            Some(End::Doubtful(block)) => self.warn(format!(
                "relation \"{}\": one item of index {} is for a row in block {block}, and the file \
                 has {start} blocks: the index is damaged, or that row is missing",
                looked.relation.display_name(),
                known.names()
            )),
            None => {}
        }
        let is_same = path_now(session, looked.oid).await?.as_deref() == Some(&looked.path);
        let denied = is_same && known.denies_what_is_behind();
        Ok((if is_same { lost } else { Vec::new() }, denied))
    }

    /// Pages of zeros between others, of which nobody can say whether they ever
    /// were anything else.
    fn note_unproven(&self, disk: &OnDisk<'_>, unproven: &BTreeSet<u32>, too_many: bool) {
        let Some(first) = unproven.first() else { return };
        let more = if too_many { "more than " } else { "" };
        self.warn(format!(
            "relation \"{}\": {more}{} pages of zeros between others, the first of them block \
             {first}: a crash of the server leaves such, and so does a bad disk",
            disk.looked.relation.display_name(),
            unproven.len()
        ));
    }
}

/// Whether a page was written before the last checkpoint began. Pages that carry
/// no place in WAL (of what was loaded with `wal_level = minimal`) do not say.
pub(super) fn is_settled(page: Page<'_>, redo: u64) -> bool {
    (2..redo).contains(&page.lsn())
}

/// What is behind the end of a file.
enum End {
    /// Blocks up to this one are missing.
    Missing(u32),
    /// A single item is for this block, and nothing else tells of it.
    Doubtful(u32),
}

/// What indexes point to behind the end, if the server stumbles over it, too:
/// the index on disk may be behind, and VACUUM have truncated the file since.
async fn behind_the_end(
    disk: &OnDisk<'_>,
    known: &Pointed,
    snapshot: u32,
) -> Result<Option<End>, ReadError> {
    let confirmed = known.beyond.confirmed().last().copied();
    let Some(block) = confirmed.or(known.beyond.alone()) else { return Ok(None) };
    let is_counted = match count(disk.session, disk.looked, snapshot).await {
        Ok(counted) if counted.as_ref().is_some_and(|c| c.loss().is_some()) => true,
        Ok(_) => return Ok(None),
        Err(e) if beyond(&e, disk.looked, disk.blocks.into()).is_some() => {
            disk.session.leave_relation().await?;
            false
        }
        Err(e) => return Err(e),
    };
    // That pg_class says so, too, was found before.
    let is_known = disk.looked.relation.pages_estimated > block;
    Ok(match confirmed.is_some() || is_counted {
        true => Some(End::Missing(block)),
        false => Some(End::Doubtful(block)).filter(|_| !is_known),
    })
}

impl<'a> OnDisk<'a> {
    /// None: it is another file than was read.
    async fn open(
        session: &'a Session,
        looked: &'a Looked,
        redo: u64,
    ) -> Result<Option<Self>, ReadError> {
        let sql = format!(
            "SELECT pg_catalog.pg_relation_filepath({0}), pg_catalog.pg_relation_size({0}, 'main')",
            looked.oid
        );
        let row = session.row(&sql).await?;
        let [Some(path), Some(size)] = row.as_slice() else { return Ok(None) };
        if *path != looked.path {
            return Ok(None);
        }
        let bytes: u64 = size.parse().unwrap_or(0);
        let blocks = bytes / u64::from(session.server().block_size.max(1));
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        let fork = Fork::new(session, path.as_str());
        Ok(Some(Self { session, looked, fork, blocks, redo }))
    }

    /// Pages of zeros before one that was written before the checkpoint, and
    /// whether there are more of them.
    async fn zeros(&self) -> Result<(BTreeSet<u32>, bool), ReadError> {
        let mut zeros = BTreeSet::new();
        let (mut first, step) = (0, self.fork.piece_there());
        while first < self.blocks && zeros.len() < ZEROS_MAX {
            let next = first.saturating_add(step).min(self.blocks);
            zeros.extend(self.fork.zeros(first, next - first).await?);
            first = next;
        }
        let Some(&lowest) = zeros.first() else { return Ok((zeros, false)) };
        let anchor = self.anchor(lowest).await?.unwrap_or(0);
        zeros.split_off(&anchor);
        Ok((zeros, first < self.blocks))
    }

    /// The last block that was written before the checkpoint, above this one.
    async fn anchor(&self, lowest: u32) -> Result<Option<u32>, ReadError> {
        let size = self.block_size();
        let least = lowest.max(self.blocks.saturating_sub(ANCHOR_BLOCKS_MAX));
        let mut end = self.blocks;
        while end > least {
            let start = end.saturating_sub(self.fork.piece()).max(least);
            let bytes = self.read(&self.fork, start, end - start).await?;
            let pages = (start..).zip(bytes.chunks_exact(size));
            let settled = |(_, page): &(u32, &[u8])| is_settled(Page::new(page), self.redo);
            if let Some((block, _)) = pages.filter(settled).last() {
                return Ok(Some(block));
            }
            end = start;
        }
        Ok(None)
    }

    /// Those that the visibility map calls all-visible.
    async fn all_visible(&self, blocks: &BTreeSet<u32>) -> Result<BTreeSet<u32>, ReadError> {
        if blocks.is_empty() {
            return Ok(BTreeSet::new());
        }
        let map = Fork::new(self.session, format!("{}_vm", self.looked.path));
        let size = self.block_size();
        let per_page = u32::try_from(visibility::blocks_per_page(size)).unwrap_or(u32::MAX).max(1);
        let (mut visible, mut page) = (BTreeSet::new(), (None, Vec::new()));
        for &block in blocks {
            let (number, within) = (block / per_page, block % per_page);
            if page.0 != Some(number) {
                page = (Some(number), map.read(number, 1).await?);
            }
            let is_said = visibility::is_all_visible(&page.1, within as usize);
            if is_said && is_settled(Page::new(&page.1), self.redo) {
                visible.insert(block);
            }
        }
        Ok(visible)
    }

    /// The rows that the server sees in some blocks.
    async fn rows_in(&self, range: BlockRange) -> Result<u64, ReadError> {
        let Ok(readable) = readable(self.session, &self.looked.relation) else { return Ok(0) };
        let step = readable.limits().blocks_per_read.unwrap_or(range.len()).max(1);
        let mut rows = 0;
        for start in (range.start..range.end).step_by(step as usize) {
            let range = BlockRange::new(start, range.end.min(start.saturating_add(step)));
            let sql = readable.part(&Read::Blocks { range, tagged: true });
            let mut copy = self.session.copy(&sql).await?;
            while let Some(bytes) = copy.next().await? {
                rows += memchr::memchr_iter(b'\n', &bytes).count() as u64;
            }
        }
        Ok(rows)
    }

    /// Some blocks, as far as they are there.
    async fn read(&self, fork: &Fork<'_>, first: u32, count: u32) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        let size = self.block_size();
        let mut at = first;
        while at < first + count {
            let more = fork.read(at, first + count - at).await?;
            let blocks = u32::try_from(more.len() / size).unwrap_or(u32::MAX);
            if blocks == 0 {
                break;
            }
            bytes.extend_from_slice(&more[..blocks as usize * size]);
            at += blocks;
        }
        Ok(bytes)
    }

    fn block_size(&self) -> usize {
        self.session.server().block_size.max(1) as usize
    }
}

/// Blocks in a row as one.
fn ranges(blocks: &BTreeSet<u32>) -> Vec<BlockRange> {
    let mut ranges: Vec<BlockRange> = Vec::new();
    for &block in blocks {
        match ranges.last_mut() {
            Some(last) if last.end == block => last.end += 1,
            _ => ranges.push(BlockRange::new(block, block.saturating_add(1))),
        }
    }
    ranges
}

fn are_pages(range: BlockRange) -> String {
    match range.len() {
        1 => format!("block {} is a page", range.start),
        _ => format!("blocks {} to {} are pages", range.start, range.end - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_in_a_row_are_one_range() {
        let said: Vec<String> = ranges(&[3, 4, 5, 9].into()).into_iter().map(are_pages).collect();
        assert_eq!(said, ["blocks 3 to 5 are pages", "block 9 is a page"]);
        assert!(ranges(&BTreeSet::new()).is_empty());
    }
}
