//! What a look at all pages came to, by relation.

use super::advised::Relations;
use super::segment::Wrong;
use super::{File, Left};
use crate::output::manifest::ReadBlocks;
use crate::report::model::{
    BlockStatus, EXTENTS_MAX, Extent, Level, Pages, Problem, Relation, Status,
};
use crate::server::files::{FileOf, ForkFile, place_of_block};
use crate::server::session::ServerFacts;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was found in the files of a database.
#[derive(Debug)]
pub struct Looked {
    pub server: Arc<ServerFacts>,
    pub pages: Pages,
    /// By OID or path.
    pub relations: Vec<Relation>,
    pub notes: Vec<String>,
    /// What was looked at in a row of the main forks of relations, by OID.
    pub read: BTreeMap<u32, ReadBlocks>,
}

/// `database`: whose files they are, but for shared ones; empty: of all.
pub(super) fn looked(
    server: Arc<ServerFacts>,
    database: &str,
    files: Vec<File>,
    notes: Vec<String>,
) -> Looked {
    let sum = |of: fn(&File) -> u64| files.iter().map(of).sum();
    let pages = Pages {
        files: files.len() as u64,
        blocks: sum(|f| f.seen.blocks.into()),
        bytes: sum(|f| f.fork.bytes()),
        zero_pages: sum(|f| f.seen.zeros.into()),
        damaged_blocks: sum(|f| f.seen.damaged.len() as u64),
    };
    let known = Relations::new(files.iter().filter_map(|f| f.of.as_ref()));
    let read = files.iter().filter_map(|file| {
        let (from, to) = file.read;
        Some((file.of.as_ref()?.oid, ReadBlocks { filenode: file.filenode()?, from, to }))
    });
    let read = read.collect();
    let mut relations: BTreeMap<(u32, String), Relation> = BTreeMap::new();
    for file in files {
        let oid = file.of.as_ref().map_or(0, |of| of.oid);
        let path = if oid == 0 { file.fork.path.clone() } else { String::new() };
        let relation = relations.entry((oid, path));
        let relation = relation.or_insert_with(|| nothing_wrong(&file, database, &known));
        add(relation, file, &server, &known);
    }
    Looked { server, pages, relations: relations.into_values().collect(), notes, read }
}

/// The relation of a file, before anything is said of any file.
fn nothing_wrong(file: &File, database: &str, known: &Relations) -> Relation {
    let of = file.of.as_ref();
    let is_shared = file.fork.path.starts_with("global/") || database.is_empty();
    let (schema, name, kind) =
        of.map_or(("", file.fork.path.as_str(), "file"), |f| (&f.schema, &f.name, kind(f)));
    Relation {
        oid: of.map_or(0, |f| f.oid),
        owner: of.and_then(|f| known.owner(f)),
        status: Status::Clean,
        levels: vec![Level::Pages],
        ..Relation::named((!is_shared).then_some(database), schema, name, kind)
    }
}

/// Adds what was found in one file of a relation.
fn add(relation: &mut Relation, file: File, server: &ServerFacts, known: &Relations) {
    relation.blocks.total += u64::from(file.seen.blocks);
    relation.blocks.damaged += file.seen.damaged.len() as u64;
    relation.bytes += file.fork.bytes();
    let status = match &file.left {
        _ if !file.seen.damaged.is_empty() || !file.problems.is_empty() => Status::Damaged,
        Some(Left::Failed(_)) => Status::Incomplete,
        Some(Left::Stopped(_)) => Status::NotReached,
        None => Status::Clean,
    };
    if file.left.is_some() {
        relation.levels.clear();
    }
    if status == Status::Damaged {
        for step in known.advice(&file.fork, file.of.as_ref(), server) {
            if !relation.advice.contains(&step) {
                relation.advice.push(step);
            }
        }
    }
    // A relation is as bad as the worst of its files.
    relation.status = relation.status.max(status);
    if let Some(Left::Failed(why) | Left::Stopped(why)) = &file.left {
        relation.reason.get_or_insert_with(|| why.clone());
    }
    if file.fork.fork().1 == "main" {
        relation.map = map(file.seen.blocks, file.seen.damaged.keys().copied());
    }
    let File { fork, seen, problems, .. } = file;
    let lengths = problems.into_iter().map(|message| Problem {
        fork: Some(fork.fork().1.to_owned()),
        file: Some(fork.path.clone()),
        ..Problem::new(Level::Pages, "length", message)
    });
    let pages =
        seen.damaged.into_iter().map(|(block, wrong)| of_block(&fork, block, wrong, server));
    lengths.chain(pages).for_each(|problem| relation.add_problem(problem));
}

fn of_block(fork: &ForkFile, block: u32, wrong: Wrong, server: &ServerFacts) -> Problem {
    let (file, offset) =
        place_of_block(&fork.path, block, (server.block_size, server.segment_blocks));
    Problem {
        fork: Some(fork.fork().1.to_owned()),
        first_block: Some(block),
        last_block: Some(block),
        file: Some(file),
        offset: Some(offset),
        ..Problem::new(Level::Pages, &wrong.cause, wrong.what)
    }
}

/// Empty where nothing is damaged.
fn map(blocks: u32, damaged: impl Iterator<Item = u32>) -> Vec<Extent> {
    let mut map: Vec<Extent> = Vec::new();
    let extent = |first_block, blocks, status| Extent { first_block, blocks, status };
    let mut next = 0;
    for block in damaged {
        if map.len() + 2 > EXTENTS_MAX {
            break;
        }
        if block > next {
            map.push(extent(next, block - next, BlockStatus::Clean));
        }
        match map.last_mut() {
            Some(last) if last.status == BlockStatus::Damaged && block == next => last.blocks += 1,
            _ => map.push(extent(block, 1, BlockStatus::Damaged)),
        }
        next = block.saturating_add(1);
    }
    if !map.is_empty() && blocks > next {
        let cut = map.len() + 2 > EXTENTS_MAX;
        let rest = if cut { BlockStatus::Untried } else { BlockStatus::Clean };
        map.push(extent(next, blocks - next, rest));
    }
    map
}

/// What a relation with files is called.
pub(super) fn kind(of: &FileOf) -> &'static str {
    match of.relkind {
        'r' => "table",
        't' => "TOAST table",
        'm' => "materialised view",
        'i' => "index",
        'S' => "sequence",
        _ => "relation",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_covers_all_blocks_and_has_the_damaged_ones() {
        let of = |blocks, damaged: &[u32]| {
            let map = map(blocks, damaged.iter().copied());
            map.iter().map(|e| (e.first_block, e.blocks, e.status)).collect::<Vec<_>>()
        };
        use BlockStatus::{Clean, Damaged};
        assert_eq!(of(9, &[]), []);
        assert_eq!(
            of(9, &[3, 4, 8]),
            [(0, 3, Clean), (3, 2, Damaged), (5, 3, Clean), (8, 1, Damaged)]
        );
        assert_eq!(of(2, &[0]), [(0, 1, Damaged), (1, 1, Clean)]);
    }
}
