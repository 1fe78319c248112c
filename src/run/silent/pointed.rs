//! To which blocks of a heap an index points: all leaves of its smallest b-tree,
//! read from the file in pieces, once.

use super::counts::IS_COMPLETE;
use super::pages::is_settled;
use crate::page::{Page, btree};
use crate::server::pages::Fork;
use crate::server::session::{ReadError, Session};
use std::collections::BTreeSet;

/// What an index points to that may not be there.
#[derive(Default)]
pub(super) struct Pointed {
    pub index: String,
    /// The last block behind the end of the heap, if there is one.
    pub beyond: Option<u32>,
    /// Pages of zeros.
    pub zeros: BTreeSet<u32>,
}

/// Looks for these pages of zeros, and for anything from block `end` on. Only
/// what the index said before the last checkpoint counts: what it points to was
/// written by then.
pub(super) async fn pointed(
    session: &Session,
    oid: u32,
    end: u32,
    zeros: &BTreeSet<u32>,
    redo: u64,
) -> Result<Pointed, ReadError> {
    let mut pointed = Pointed::default();
    let sql = format!(
        "SELECT c.relname, pg_catalog.pg_relation_filepath(i.indexrelid), \
         pg_catalog.pg_relation_size(i.indexrelid) size \
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         WHERE i.indrelid = {oid} AND {IS_COMPLETE} ORDER BY size, i.indexrelid LIMIT 1"
    );
    let row = session.row(&sql).await?;
    let [Some(name), Some(path), Some(size)] = row.as_slice() else { return Ok(pointed) };
    pointed.index.clone_from(name);
    let block_size = session.server().block_size.max(1);
    let blocks = size.parse::<u64>().unwrap_or(0) / u64::from(block_size);
    let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
    let fork = Fork::new(session, path.as_str());
    let mut first = 0;
    while first < blocks {
        let bytes = fork.read(first, fork.piece().min(blocks - first)).await?;
        let pages = bytes.chunks_exact(block_size as usize);
        first += match u32::try_from(pages.len()) {
            // Somebody has truncated it.
            Ok(0) | Err(_) => break,
            Ok(pages) => pages,
        };
        for page in pages.filter(|page| is_settled(Page::new(page), redo)) {
            let items = btree::leaf_items(page).into_iter().flatten();
            for item in items.filter(|item| !item.dead) {
                for (block, _) in item.tids() {
                    if block >= end {
                        pointed.beyond = pointed.beyond.max(Some(block));
                    } else if !zeros.is_empty() && zeros.contains(&block) {
                        pointed.zeros.insert(block);
                    }
                }
            }
        }
    }
    Ok(pointed)
}
