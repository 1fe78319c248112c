//! Going on with what earlier runs have written.
//!
//! The journal says what is durable; files are made to agree with it, never the
//! other way round. Where they do not (a file is gone, or shorter), where the
//! relation is another one by now, or where its rows would be of two snapshots
//! that do not fit together, the relation is read from its beginning.

use super::earlier::{Earlier, EarlierRelation, EarlierStretch};
use super::relation::Files;
use super::{RunError, RunOptions};
use crate::dump::{Begun, piece_path};
use crate::output::binary::header_extent;
use crate::output::journal::{self, Extent, Identity, Journal, Record};
use crate::output::manifest::{FileEntry, RowClass};
use crate::output::{Codec, DumpDir, OutputError, Piece, links, lost_keys, names, toc};
use crate::server::inventory::Relation;
use crate::server::session::ServerFacts;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Options that decide which rows are written, and how: a run that goes on
/// cannot change them.
const DECIDING: [(&str, &str); 8] = [
    ("compress", "-Z"),
    ("split_size", "--split-size"),
    ("schema", "-n"),
    ("exclude_schema", "-N"),
    ("table", "-t"),
    ("exclude_table", "-T"),
    ("large_objects", "-b"),
    ("ignore_checksum_failure", "--ignore-checksum-failure"),
];

/// Where a run writes.
pub(super) struct Output {
    pub dir: Arc<DumpDir>,
    pub journal: Arc<Journal>,
    pub earlier: Earlier,
}

/// Takes the directory, with what earlier runs have left in it.
pub(super) fn open(
    path: &Path,
    options: &RunOptions,
    server: &ServerFacts,
    started: jiff::Timestamp,
) -> Result<Output, RunError> {
    let goes_on = options.resume && path.is_dir() && DumpDir::is_of_earlier_run(path)?;
    let dir = match goes_on {
        true => DumpDir::open(path, options.sync)?,
        false => DumpDir::create(path, options.sync)?,
    }
    .keep_free(options.min_free);
    let mut earlier = Earlier::default();
    let (journal, harmed) = Journal::open(&dir, |record| earlier.record(record))?;
    if harmed {
        tracing::warn!("the journal is damaged; what follows the damage is read again");
    }
    let identity = identity(server);
    if let Some(first) = earlier.runs.first() {
        check(path, first, &identity, options)?;
    }
    let run = journal::Run {
        format_version: journal::FORMAT_VERSION,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        started,
        server: identity,
        asked: options.asked.clone(),
    };
    journal.append(&Record::Run(run.clone()))?;
    earlier.runs.push(run);
    if goes_on {
        // It speaks of files that are written to from now on.
        dir.remove("manifest.json")?;
        dir.remove(toc::TOC)?;
        links::clear(&dir)?;
    }
    Ok(Output { dir: Arc::new(dir), journal: Arc::new(journal), earlier })
}

fn identity(server: &ServerFacts) -> Identity {
    Identity {
        system_identifier: server.system_identifier.clone(),
        database: server.database.clone(),
        database_oid: server.database_oid,
        encoding: server.encoding.clone(),
        block_size: server.block_size,
    }
}

/// A run goes on only with the database and the options that it began with.
fn check(
    path: &Path,
    first: &journal::Run,
    now: &Identity,
    options: &RunOptions,
) -> Result<(), RunError> {
    let dir = path.display();
    let refuse = |why: String| Err(RunError::Resume(format!("cannot resume \"{dir}\": {why}")));
    if first.format_version != journal::FORMAT_VERSION {
        return refuse(format!(
            "its journal has format version {}, and this program reads version {}",
            first.format_version,
            journal::FORMAT_VERSION
        ));
    }
    let then = &first.server;
    let another = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
    if then.database_oid != now.database_oid || then.database != now.database {
        return refuse(format!(
            "it is of database \"{}\", and this is \"{}\"; give another directory",
            then.database, now.database
        ));
    }
    if another(&then.system_identifier, &now.system_identifier)
        || (&then.encoding, then.block_size) != (&now.encoding, now.block_size)
    {
        return refuse("it is of another server; give another directory".to_owned());
    }
    for (key, option) in DECIDING {
        let (then, now) = (first.asked.get(key), options.asked.get(key));
        if then != now {
            let text = |v: Option<&serde_json::Value>| v.map_or_else(|| "not given".into(), said);
            return refuse(format!(
                "it was begun with {option} {}, and now it is {}; give the same options",
                text(then),
                text(now)
            ));
        }
    }
    Ok(())
}

fn said(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(s) => s.clone(),
        serde_json::Value::Array(all) if all.is_empty() => "not given".to_owned(),
        serde_json::Value::Array(all) => all.iter().map(said).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// What can be gone on with of a relation.
#[derive(Default)]
pub(super) struct Kept {
    pub lanes: [Begun; RowClass::COUNT],
    pub stretches: BTreeMap<usize, EarlierStretch>,
}

/// Whether the rows that were read of a relation fit to what is seen now.
pub(super) fn fits(
    earlier: &EarlierRelation,
    relation: &Relation,
    data: impl Fn(u32) -> Option<u32>,
    now: u32,
) -> bool {
    let Some(planned) = &earlier.planned else { return false };
    planned.filenode == relation.filenode
        && planned.columns == columns(relation)
        && earlier.stretches.values().flat_map(|s| &s.snapshots).all(|&s| data(s) == Some(now))
}

pub(super) fn columns(relation: &Relation) -> Vec<String> {
    relation.columns.iter().map(|c| format!("{} {}", c.name, c.type_name)).collect()
}

/// Whether the files of a finished relation are there. A name that a loss of
/// power took back is given again.
pub(super) fn has_files(dir: &DumpDir, files: &[FileEntry]) -> Result<bool, OutputError> {
    for file in files {
        let part = format!("{}.part", file.path);
        if dir.len(&file.path)? != Some(file.bytes) {
            if dir.len(&part)? != Some(file.bytes) {
                return Ok(false);
            }
            dir.rename(&part, &file.path)?;
        }
    }
    Ok(true)
}

/// Makes the files of a relation agree with the journal, for the run to go on
/// with. None: they do not.
pub(super) async fn take_up(
    files: &Files,
    oid: u32,
    stem: &str,
    earlier: &EarlierRelation,
) -> Result<Option<Kept>, OutputError> {
    let (Some(dir), Some(journal)) = (&files.dir, &files.journal) else { return Ok(None) };
    let paths = RowClass::ALL.map(|class| names::data_path(stem, class, files.codec));
    let stretches = earlier.ranges().len().max(1);
    let mut kept = earlier.stretches.clone();
    kept.values_mut().for_each(EarlierStretch::try_again);
    kept.retain(|_, s| !s.map.extents().is_empty());
    let settled = |i: &usize| kept.get(i).is_some_and(EarlierStretch::is_settled);
    let next = earlier.next.min((0..stretches).take_while(settled).count());
    if !agree(dir, (&paths, files.codec), earlier, &kept)? {
        return Ok(None);
    }
    if next < earlier.next {
        for (class, path) in paths.iter().enumerate() {
            let header = header_extent(RowClass::ALL[class], files.codec)?;
            let later = kept.range(next + 1..earlier.next);
            for (&i, stretch) in later.filter(|(_, s)| s.files[class].len > 0) {
                let offset = header.and(joined(earlier, i, class)).len;
                let piece = piece_path(path, i);
                Piece::carve(dir, path, offset, &piece, stretch.files[class].len).await?;
            }
        }
        journal.append(&Record::Joined { oid, next })?;
        journal.sync().await?;
    }
    let mut lanes: [Begun; RowClass::COUNT] = Default::default();
    for (class, lane) in lanes.iter_mut().enumerate() {
        (lane.next, lane.joined) = (next, joined(earlier, next, class));
        for (&i, stretch) in kept.range(next..) {
            let extent = stretch.files[class];
            if i == next && (stretch.in_place || next < earlier.next) {
                lane.in_place = extent;
            } else if stretch.is_settled() {
                lane.done.insert(i, extent);
            } else {
                lane.pieces.insert(i, extent);
            }
        }
    }
    // Settled, and in place: nothing more is written behind it.
    if let Some(first) = kept.get(&next).filter(|s| s.is_settled()) {
        for (class, lane) in lanes.iter_mut().enumerate() {
            if lane.done.contains_key(&next) {
                continue;
            }
            lane.joined = lane.joined.and(first.files[class]);
            (lane.in_place, lane.next) = (Extent::default(), next + 1);
        }
    }
    Ok(Some(Kept { lanes, stretches: kept }))
}

/// How much of the relation's file is of the stretches before this one.
fn joined(earlier: &EarlierRelation, before: usize, class: usize) -> Extent {
    let ended = earlier.stretches.range(..before).filter_map(|(_, s)| Some(s.ended?[class]));
    ended.fold(Extent::default(), Extent::and)
}

/// Whether all that the journal vouches for is in the files. Finished files are
/// taken back to what they were before.
fn agree(
    dir: &DumpDir,
    (paths, codec): (&[String; RowClass::COUNT], Codec),
    earlier: &EarlierRelation,
    kept: &BTreeMap<usize, EarlierStretch>,
) -> Result<bool, OutputError> {
    for (class, path) in paths.iter().enumerate() {
        let part = format!("{path}.part");
        if dir.len(path)?.is_some() && dir.len(&part)?.is_none() {
            dir.rename(path, &part)?;
        }
        if (0..earlier.next).any(|i| earlier.stretches.get(&i).is_none_or(|s| s.ended.is_none())) {
            return Ok(false);
        }
        let mut needed = joined(earlier, earlier.next, class).len;
        for (&i, stretch) in kept.range(earlier.next..) {
            let len = stretch.files[class].len;
            if i == earlier.next && stretch.in_place {
                needed += len;
            } else if len > 0 && dir.len(&format!("{}.part", piece_path(path, i)))? < Some(len) {
                return Ok(false);
            }
        }
        let header = header_extent(RowClass::ALL[class], codec)?;
        if needed > 0 && dir.len(&part)? < Some(header.len + needed) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes what earlier runs have left and nobody goes on with.
pub(super) fn sweep(dir: &DumpDir, wanted: &HashSet<String>) -> Result<(), OutputError> {
    for name in dir.parts("data")?.into_iter().chain(dir.parts("maps")?) {
        if !wanted.contains(&name) {
            dir.remove(&name)?;
        }
    }
    // Made again at the end, of what is lost by then.
    for suffix in lost_keys::SUFFIXES {
        for name in dir.files("data", suffix)? {
            dir.remove(&name)?;
        }
    }
    dir.remove("manifest.json.part")
}

impl Kept {
    /// The files that it needs.
    pub(super) fn parts(&self, stem: &str, files: &Files) -> Vec<String> {
        let mut parts = Vec::new();
        for (class, lane) in RowClass::ALL.into_iter().zip(&self.lanes) {
            let path = names::data_path(stem, class, files.codec);
            if lane.joined.len + lane.in_place.len > 0 {
                parts.push(format!("{path}.part"));
            }
            let pieces = lane.pieces.iter().chain(&lane.done).filter(|(_, e)| e.len > 0);
            parts.extend(pieces.map(|(&i, _)| format!("{}.part", piece_path(&path, i))));
        }
        parts
    }
}
