//! Is there a segment behind one that is missing or short? A relation ends for
//! the server with the first segment that is not full, and what comes after it
//! is not looked at.
//!
//! Truncating leaves later segments, but empty: one that holds something was
//! not cut off by the server. Asked with what lists directories, which a
//! superuser may, and who was granted it.

use super::{Found, Looked, Missing, Run, path_now};
use crate::server::session::{ReadError, Session};
use crate::server::sql::literal;
use std::collections::{BTreeMap, HashMap};

/// A relation has not more: 32 TB of 1 GB each.
const SEGMENTS_MAX: u64 = 32_768;

/// A file that can have segments.
struct File {
    oid: u32,
    of: u32,
    path: String,
}

impl Run {
    pub(super) async fn segments_behind_a_gap(&self, clean: &[Looked]) -> Vec<Found> {
        let what = "segments of files were not looked at";
        if clean.is_empty() {
            return Vec::new();
        }
        let session = match self.generations.session_of_now().await {
            Ok(session) => session,
            Err(e) => {
                self.warn(format!("{what}: {e}"));
                return Vec::new();
            }
        };
        let found = async {
            session.save().await?;
            gaps(&session, clean).await
        };
        match found.await {
            Ok(found) => found,
            Err(e) => {
                self.not_asked(&session, what, &e).await;
                Vec::new()
            }
        }
    }
}

async fn gaps(session: &Session, clean: &[Looked]) -> Result<Vec<Found>, ReadError> {
    let mut files: Vec<File> = clean
        .iter()
        .filter(|r| !r.relation.unlogged)
        .map(|r| File { oid: r.oid, of: r.oid, path: r.path.clone() })
        .collect();
    files.extend(toast_files(session, clean).await?);
    let mut folders: BTreeMap<&str, HashMap<&str, &File>> = BTreeMap::new();
    for file in &files {
        let Some((folder, name)) = file.path.rsplit_once('/') else { continue };
        folders.entry(folder).or_default().insert(name, file);
    }
    let per_segment = u64::from(session.server().segment_blocks);
    let mut found = Vec::new();
    for (folder, files) in folders {
        let listed = format!(
            "SELECT name FROM pg_catalog.pg_ls_dir({}) name WHERE name ~ '^[0-9]+[.][0-9]+$'",
            literal(folder)
        );
        let names = session.rows(&listed).await?.into_iter().flatten().flatten();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        let names: Vec<String> = names.collect();
        for name in &names {
            let Some((name, number)) = name.split_once('.') else { continue };
            let (Ok(number), true) = (number.parse::<u64>(), files.contains_key(name)) else {
                continue;
            };
            let last = last.entry(name).or_default();
            *last = number.max(*last);
        }
        for (name, last) in last {
            found.extend(gap(session, files[name], last, per_segment).await?);
        }
    }
    Ok(found)
}

/// What lies behind the first segment that is not full, if anything does. The
/// last segment is known by its name.
async fn gap(
    session: &Session,
    file: &File,
    last: u64,
    per_segment: u64,
) -> Result<Option<Found>, ReadError> {
    let sizes = sizes(session, file, last).await?;
    let block_size = u64::from(session.server().block_size.max(1));
    let blocks = |n: usize| sizes.get(n).map_or(0, |size| size / block_size);
    let Some(short) = (0..sizes.len()).find(|&n| blocks(n) < per_segment) else { return Ok(None) };
    let Some(behind) = (short + 1..sizes.len()).rev().find(|&n| blocks(n) > 0) else {
        return Ok(None);
    };
    // It may have grown meanwhile, or another have come in its place.
    let is_same = path_now(session, file.oid).await?.as_deref() == Some(&file.path);
    if !is_same || self::sizes(session, file, last).await? != sizes {
        return Ok(None);
    }
    let of_toast = if file.oid == file.of { "" } else { " of its TOAST table" };
    let what = format!(
        "segment {short} of the file{of_toast} has {} of {per_segment} blocks: the rest of it is \
         missing, and what follows is not read",
        blocks(short)
    );
    let behind_it = |n: usize| n as u64 * per_segment + blocks(n);
    let (start, end) = (behind_it(short), behind_it(behind));
    let missing = match file.oid == file.of {
        true => Missing::Heap { start, end },
        false => Missing::Toast { start, end },
    };
    let told_by = format!("segment {behind} is there");
    Ok(Some(Found { oid: file.of, missing, what: Some(what), told_by }))
}

/// The sizes of all segments up to the last; one that is missing has none.
async fn sizes(session: &Session, file: &File, last: u64) -> Result<Vec<u64>, ReadError> {
    let sql = format!(
        "SELECT (pg_catalog.pg_stat_file({} || CASE n WHEN 0 THEN '' ELSE '.' || n END, true)).size \
         FROM pg_catalog.generate_series(0, {}) n ORDER BY n",
        literal(&file.path),
        last.min(SEGMENTS_MAX)
    );
    let rows = session.rows(&sql).await?.into_iter();
    Ok(rows
        .map(|r| r.into_iter().next().flatten().and_then(|s| s.parse().ok()).unwrap_or(0))
        .collect())
}

async fn toast_files(session: &Session, clean: &[Looked]) -> Result<Vec<File>, ReadError> {
    let toast = |r: &Looked| Some((r.relation.toast?, r.oid)).filter(|_| !r.relation.unlogged);
    let toast: HashMap<u32, u32> = clean.iter().filter_map(toast).collect();
    let list: Vec<String> = toast.keys().map(u32::to_string).collect();
    let sql = format!(
        "SELECT oid, pg_catalog.pg_relation_filepath(oid::pg_catalog.regclass) \
         FROM pg_catalog.unnest('{{{}}}'::pg_catalog.oid[]) oid",
        list.join(",")
    );
    let file = |row: Vec<Option<String>>| {
        let oid: u32 = row.first()?.as_ref()?.parse().ok()?;
        let path = row.get(1)?.clone()?;
        Some(File { oid, of: *toast.get(&oid)?, path })
    };
    Ok(session.rows(&sql).await?.into_iter().filter_map(file).collect())
}
