//! Lost rows by name: the keys that b-trees still hold of rows in lost places,
//! and statements that fetch these rows from a restored copy.
//!
//! At the end of a run, of each relation with lost places, every b-tree is read
//! from its file, once and whole, and never through the server's cache: nothing
//! that is damaged is touched, and no page is written for it. So it is a matter
//! of the disk's speed and of the right to read files. Without that right the
//! server is asked for keys by an index-only scan (`index_only.rs`).
//!
//! An index knows dead rows, too. Those of a block that was all-visible are all
//! alive; of others it is not certain, and those are taken out of which another
//! version was read.

mod check;
mod heap;
mod index_only;
mod places;
mod scan;
mod script;

use super::{Run, locked};
use crate::dump::Cause;
use crate::heap::TidMap;
use crate::output::lost_keys::{LostKey, csv, paths};
use crate::output::manifest::{self, RelationStatus};
use crate::output::{DumpDir, OutputError};
use crate::server::catalog::{Index, indexes};
use crate::server::inventory::Relation;
use crate::server::pages::Fork;
use crate::server::relation::readable;
use crate::server::session::{ReadError, Session};
use crate::server::sql::{Readable, ident};
use bstr::BString;
use heap::{Visibility, follow_chains};
use places::Places;
use scan::{Keys, Wanted, scan, stored};
use script::{Fetch, script};
use std::collections::{BTreeMap, BTreeSet};

/// A larger index is not read: at the speed of a common disk it would take
/// longer than many a dump.
const INDEX_BYTES_MAX: u64 = 64 << 30;

/// A relation of which rows are looked for.
struct Search<'a> {
    relation: &'a Relation,
    readable: Readable,
    indexes: Vec<&'a Index>,
    /// The columns that the indexes have: those of the primary key first.
    slots: Vec<i16>,
    notes: Vec<String>,
    /// Whether the server may go down once more for what is asked of it.
    crash_allowed: bool,
}

impl Run {
    /// Writes what indexes know of lost rows, and notes it in the entries of
    /// their relations. Whatever the server says to it, the run goes on.
    pub(super) async fn look_for_lost_keys(&self) -> Result<(), OutputError> {
        let Some(dir) = self.dir.clone().filter(|_| !self.progress.stopped()) else {
            return Ok(());
        };
        let lost = self.lost_places(&dir);
        if lost.is_empty() {
            return Ok(());
        }
        let all = match self.b_trees(lost.keys().copied().collect()).await {
            Ok(all) => all,
            Err(why) => {
                self.warn(format!("lost rows are not named: {why}"));
                return Ok(());
            }
        };
        let read = locked(&self.read).clone();
        for (oid, (places, path)) in lost {
            let Some(relation) = read.get(&oid).filter(|_| !self.progress.stopped()) else {
                continue;
            };
            // One that was lost is not wanted for the next relation.
            let session = match self.generations.session(true).await {
                Ok(numbered) => numbered.session,
                Err(gone) => {
                    self.warn(format!("lost rows are not named: {gone}"));
                    return Ok(());
                }
            };
            let own = all.iter().filter(|i| i.relation == oid).collect();
            let crash_allowed = self.generations.crashes().await < self.options.max_crashes;
            let named = match Search::new(&session, relation, own, crash_allowed) {
                Ok(search) => search.run(&session, places, path).await,
                Err(why) => Err(why),
            };
            let found = match named {
                Ok(named) => self.write(&dir, oid, named).await?,
                Err(why) => {
                    self.warn(format!("lost rows are not named: {why}"));
                    manifest::LostKeys { notes: vec![why], ..manifest::LostKeys::default() }
                }
            };
            let mut entries = locked(&self.entries);
            if let Some(entry) = entries.iter_mut().find(|e| e.oid == oid) {
                entry.lost_keys = Some(found);
            }
        }
        Ok(())
    }

    /// The relations that have lost places, with their files.
    fn lost_places(&self, dir: &DumpDir) -> BTreeMap<u32, (Places, Option<String>)> {
        let entries = locked(&self.entries);
        let damaged = entries.iter().filter(|e| e.status != RelationStatus::Clean);
        let of = |e: &manifest::Relation| {
            let map = e.map.as_ref().and_then(|m| std::fs::read_to_string(dir.path().join(m)).ok());
            let map = map.and_then(|text| TidMap::from_text(&text).ok());
            // A disk that does not answer is not asked again.
            let hung = e.lost.iter().any(|l| Cause::of(l) == Some(Cause::Hung));
            let places = Places::of(e, map.as_ref());
            (!hung && !places.is_empty()).then(|| (e.oid, (places, e.relfilenode.clone())))
        };
        damaged.filter_map(of).collect()
    }

    async fn b_trees(&self, of: BTreeSet<u32>) -> Result<Vec<Index>, String> {
        let numbered = self.generations.session(true).await.map_err(|e| e.to_string())?;
        indexes(&numbered.session, &of).await.map_err(|e| e.to_string())
    }

    async fn write(
        &self,
        dir: &DumpDir,
        oid: u32,
        named: Named<'_>,
    ) -> Result<manifest::LostKeys, OutputError> {
        let Named { search, keys, omitted } = named;
        let certain = keys.iter().filter(|k| k.certain).count() as u64;
        let mut found = manifest::LostKeys {
            rows: keys.len() as u64,
            certain,
            omitted,
            notes: search.notes.clone(),
            ..manifest::LostKeys::default()
        };
        let stem = locked(&self.stems).get(&oid).cloned().filter(|_| !keys.is_empty());
        let Some(stem) = stem else { return Ok(found) };
        let [path, sql] = paths(&stem);
        dir.write_atomic(&path, csv(&search.names(), &keys)).await?;
        let (statements, unnamed) = script(&search.fetch(), &keys);
        dir.write_atomic(&sql, statements).await?;
        if unnamed > 0 {
            found.notes.push(format!(
                "{unnamed} rows of the list cannot be fetched by what is known of them"
            ));
        }
        (found.path, found.sql) = (Some(path), Some(sql));
        Ok(found)
    }
}

/// What was found of a relation.
struct Named<'a> {
    search: Search<'a>,
    keys: Vec<LostKey>,
    omitted: u64,
}

impl<'a> Search<'a> {
    fn new(
        session: &Session,
        relation: &'a Relation,
        indexes: Vec<&'a Index>,
        crash_allowed: bool,
    ) -> Result<Self, String> {
        let readable = readable(session, relation)?;
        let named = |attnum: &i16| name_of(relation, *attnum).is_some();
        let mut slots: Vec<i16> = Vec::new();
        for &attnum in indexes.iter().flat_map(|i| &i.columns) {
            if named(&attnum) && !slots.contains(&attnum) {
                slots.push(attnum);
            }
        }
        let notes = match slots.is_empty() {
            true => vec!["it has no b-tree index that is valid".to_owned()],
            false => Vec::new(),
        };
        Ok(Self { relation, readable, indexes, slots, notes, crash_allowed })
    }

    /// `path` is the file that was read: another has other rows.
    async fn run(
        mut self,
        session: &Session,
        mut places: Places,
        path: Option<String>,
    ) -> Result<Named<'a>, String> {
        let mut keys = Keys::default();
        if places.has_unlisted {
            let note = "of the rows with lost columns only those in the list of lost places were \
                        looked for";
            self.notes.push(note.to_owned());
        }
        if !self.slots.is_empty() {
            let sql = format!("SELECT pg_catalog.pg_relation_filepath({})", self.relation.oid);
            let now = session.value(&sql).await.map_err(|e| e.to_string())?;
            let now = now.filter(|now| path.as_ref().is_none_or(|path| path == now));
            let Some(now) = now else { return Err("its file was replaced meanwhile".to_owned()) };
            let visibility = match self.look_at_heap(session, &now, &mut places).await {
                Ok(visibility) => visibility,
                Err(e) if e.is_permission() => {
                    session.leave_relation().await.map_err(|e| e.to_string())?;
                    return self.by_index_only_scan(session, &places, &e).await;
                }
                Err(e) => {
                    self.notes.push(format!("its own files could not be looked at: {e}"));
                    session.leave_relation().await.map_err(|_| e.to_string())?;
                    Visibility::default()
                }
            };
            self.read_indexes(session, &places, &visibility, &mut keys).await?;
            self.take_out_what_was_read(session, &places, &mut keys).await;
        }
        let omitted = keys.omitted;
        let keys = keys.rows.into_iter().map(|(at, known)| LostKey {
            at: Some((at.block, at.offset)),
            certain: known.certain,
            values: known.values,
        });
        Ok(Named { keys: keys.collect(), search: self, omitted })
    }

    async fn look_at_heap(
        &mut self,
        session: &Session,
        path: &str,
        places: &mut Places,
    ) -> Result<Visibility, ReadError> {
        let block_size = session.server().block_size;
        let map = Fork::new(session, format!("{path}_vm"));
        let visibility = Visibility::read(&map, block_size, places).await?;
        let left = follow_chains(&Fork::new(session, path), places).await?;
        if left > 0 {
            let note =
                format!("in {left} blocks lost tuples that were updated were not looked for");
            self.notes.push(note);
        }
        Ok(visibility)
    }

    async fn read_indexes(
        &mut self,
        session: &Session,
        places: &Places,
        visibility: &Visibility,
        keys: &mut Keys,
    ) -> Result<(), String> {
        let server = session.server();
        let identity = self.identity();
        let mut failed = 0;
        for (i, index) in self.indexes.iter().enumerate() {
            let wanted = Wanted {
                places,
                visibility,
                stored: stored(index, self.relation, &self.slots),
                slots: self.slots.len(),
                identify: Some(index.keys).filter(|_| identity == Some(i)),
                checksums: server.data_checksums,
                block_size: usize::try_from(server.block_size).unwrap_or(usize::MAX).max(1),
            };
            match read_index(session, index, &wanted, keys).await {
                Ok(None) => {}
                Ok(Some(note)) => self.notes.push(format!("index \"{}\": {note}", index.name)),
                Err(e) => {
                    self.notes.push(format!("index \"{}\" could not be read: {e}", index.name));
                    session.leave_relation().await.map_err(|_| e.to_string())?;
                    failed += 1;
                    if failed == self.indexes.len() {
                        return Err(e.to_string());
                    }
                }
            }
        }
        keys.bury();
        Ok(())
    }

    async fn take_out_what_was_read(
        &mut self,
        session: &Session,
        places: &Places,
        keys: &mut Keys,
    ) {
        let Some(index) = self.identity().map(|i| self.indexes[i]) else { return };
        let key = self.key_of(index);
        let note = match check::take_out(session, &key, places, keys).await {
            Ok(0) => return,
            Ok(blocks) => {
                format!("{blocks} blocks where rows may have moved to were not looked at")
            }
            Err(e) => format!("where rows may have moved to could not be looked at: {e}"),
        };
        self.notes.push(note);
    }

    /// What to ask the server for, to have the key of an index.
    fn key_of(&self, index: &Index) -> check::Key<'_> {
        let columns = index.columns[..index.keys].iter();
        let columns =
            columns.filter_map(|&c| name_of(self.relation, c)).map(|n| ident(&n.to_string()));
        check::Key {
            qualified: &self.readable.qualified,
            columns: columns.collect(),
            slots: self.slots_of(index),
            tuples_max: self.readable.tuples_max,
            encoding: &self.readable.encoding,
        }
    }

    /// The index by which rows are told apart, and looked for.
    fn identity(&self) -> Option<usize> {
        let of = |index: &Index| {
            let stored = stored(index, self.relation, &self.slots);
            index.unique
                && self.slots_of(index).len() == index.keys
                && stored[..index.keys].iter().all(scan::Stored::is_understood)
        };
        self.indexes.iter().position(|index| of(index))
    }

    /// Where the key of an index is in a row of the file; fewer than it has, if
    /// one is an expression.
    fn slots_of(&self, index: &Index) -> Vec<usize> {
        let columns = index.columns.iter().take(index.keys);
        columns.filter_map(|c| self.slots.iter().position(|s| s == c)).collect()
    }

    fn names(&self) -> Vec<BString> {
        self.slots.iter().filter_map(|&slot| name_of(self.relation, slot)).cloned().collect()
    }

    fn fetch(&self) -> Fetch<'_> {
        let unique = self.indexes.iter().filter(|i| i.unique);
        let whole = unique.filter(|i| self.slots_of(i).len() == i.keys);
        let mut identities: Vec<Vec<usize>> = whole.map(|i| self.slots_of(i)).collect();
        identities.push((0..self.slots.len()).collect());
        Fetch {
            qualified: &self.readable.qualified,
            columns: &self.readable.columns,
            keys: self.names().iter().map(ToString::to_string).collect(),
            identities,
            encoding: &self.readable.encoding,
        }
    }
}

/// The name of a column, generated ones too.
fn name_of(relation: &Relation, attnum: i16) -> Option<&BString> {
    let columns = relation.columns.iter().chain(&relation.left_out);
    columns.into_iter().find(|c| c.attnum == attnum).map(|c| &c.name)
}

/// Reads one index; what is to be said of it, if anything is.
async fn read_index(
    session: &Session,
    index: &Index,
    wanted: &Wanted<'_>,
    keys: &mut Keys,
) -> Result<Option<String>, ReadError> {
    let oid = index.oid;
    let sql = format!(
        "SELECT pg_catalog.pg_relation_filepath({oid}), pg_catalog.pg_relation_size({oid}, 'main')"
    );
    let row = session.row(&sql).await?;
    let [Some(path), size] = row.as_slice() else { return Ok(Some("it is gone".to_owned())) };
    let size: u64 = size.as_ref().and_then(|s| s.parse().ok()).unwrap_or(0);
    if size > INDEX_BYTES_MAX {
        return Ok(Some(format!("it was not read: {size} bytes are more than {INDEX_BYTES_MAX}")));
    }
    let blocks = u32::try_from(size / u64::from(session.server().block_size.max(1)));
    let file = Fork::new(session, path);
    let read = scan(&file, blocks.unwrap_or(u32::MAX), wanted, keys).await?;
    Ok(match (read.blocks, read.damaged) {
        (0, _) => Some("its file is missing or empty".to_owned()),
        (_, 0) => None,
        (blocks, damaged) => Some(format!("{damaged} of its {blocks} pages are damaged")),
    })
}
