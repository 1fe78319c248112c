//! What is read, and in which order.

use super::earlier::EarlierRelation;
use super::entry::described;
use super::generation::Numbered;
use super::job::{EMPTIED, TRIES_MAX};
use super::relation::{Plan, RelationRun};
use super::resume::{Kept, fits, has_files, sweep, take_up};
use super::sequences::Missing;
use super::{Run, RunError, RunOptions, locked};
use crate::dump::{Cause, ColumnWatch, Finding, Watch};
use crate::heap::BlockRange;
use crate::output::{manifest, names};
use crate::server::inventory::{Inventory, Relation, RelationKind};
use crate::server::relation::{readable, sizes, unreadable_catalogs};
use crate::server::sql::Readable;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Run {
    /// The relations that this run is about.
    pub(super) fn select(&self, inventory: Inventory) -> Vec<Relation> {
        let RunOptions { selection, only, .. } = &self.options;
        let is_wanted = |r: &Relation| only.is_empty() || only.contains(&r.oid);
        let relations = inventory.relations.into_iter();
        relations.filter(|r| is_wanted(r) && selection.takes(r)).collect()
    }

    /// Reads the sequences and fills the queue: again, where the session is lost
    /// meanwhile.
    pub(super) async fn prepare(
        &self,
        mut first: Numbered,
        selected: Vec<Relation>,
    ) -> Result<(Numbered, Missing), RunError> {
        let mut tries = 1;
        loop {
            match self.prepare_once(first, &selected).await {
                Ok(prepared) => return Ok(prepared),
                // What is done once is not done again.
                Err((e @ RunError::Output(_), _)) => return Err(e),
                Err((e, closed)) if !closed || tries == TRIES_MAX => return Err(e),
                Err((e, _)) => tracing::info!("{e}; beginning again"),
            }
            tries += 1;
            locked(&self.entries).clear();
            self.progress.relations.store(0, Relaxed);
            first = self.generations.session(true).await?;
        }
    }

    /// Once; with an error, whether the session was lost.
    async fn prepare_once(
        &self,
        mut first: Numbered,
        selected: &[Relation],
    ) -> Result<(Numbered, Missing), (RunError, bool)> {
        let missing = match self.read_sequences(&mut first, selected).await {
            Ok(missing) => missing,
            Err(e) => return Err((e, first.session.is_closed())),
        };
        if selected.iter().any(|r| r.kind == RelationKind::Sequence) {
            // It holds the lock of `nextval` on each, to its end: whoever altered
            // one would wait for us, and everybody else for him.
            drop(first);
            first = self.generations.session(true).await.map_err(|e| (e.into(), true))?;
        }
        match self.plan(&mut first, selected.to_vec(), &missing).await {
            Ok(()) => Ok((first, missing)),
            Err(e) => Err((e, first.session.is_closed())),
        }
    }

    /// Fills the queue. What has no rows gets its entry at once.
    async fn plan(
        &self,
        first: &mut Numbered,
        selected: Vec<Relation>,
        missing: &Missing,
    ) -> Result<(), RunError> {
        let stems = self.stems(&selected);
        locked(&self.stems).clone_from(&stems);
        let in_recovery = first.session.server().in_recovery;
        let (selected, unknown): (Vec<_>, Vec<_>) =
            selected.into_iter().partition(|r| r.undescribed.is_none());
        locked(&self.entries).extend(unknown.iter().filter_map(undescribed));
        let hidden = self.hidden_catalogs(first).await?;
        let (hidden, selected): (Vec<_>, Vec<_>) =
            selected.into_iter().partition(|r| hidden.contains(&r.oid));
        locked(&self.entries).extend(hidden.iter().map(|r| manifest::Relation {
            reason: Some("the role may not read this catalog".to_owned()),
            ..described(r, in_recovery)
        }));
        let (read, rest): (Vec<_>, Vec<_>) = selected
            .into_iter()
            .filter(|r| r.kind != RelationKind::Sequence)
            .partition(|r| r.kind.has_rows() && r.not_read(in_recovery).is_none());
        locked(&self.entries).extend(rest.iter().map(|r| described(r, in_recovery)));
        let oids: Vec<u32> = read.iter().map(|r| r.oid).collect();
        let blocks = match sizes(&first.session, &oids).await {
            Ok(sizes) => sizes.into_iter().collect(),
            Err(e) => {
                self.after_failure(first, e).await?;
                HashMap::new()
            }
        };
        // They are in the catalogs of every database; where there are none, nobody
        // wants to hear of them (or of the right to read them). A file that is gone
        // has no length, but pg_class or the other catalog tells.
        let pages = |r: &Relation| {
            blocks.get(&r.oid).map_or(r.pages_estimated, |&b| b.max(r.pages_estimated))
        };
        let large_objects = read.iter().any(|r| r.kind.is_large_objects() && pages(r) > 0);
        let mut order: Vec<(u64, Relation)> = read
            .into_iter()
            .filter(|r| large_objects || !r.kind.is_large_objects())
            .map(|r| (weight(&r, &blocks), r))
            .collect();
        let last_ok = &self.options.last_ok;
        order.sort_by_key(|(weight, r)| {
            (Reverse(r.unlogged), last_ok.get(&r.oid).copied(), Reverse(*weight), r.oid)
        });
        *locked(&self.read) = Arc::new(order.iter().map(|(_, r)| (r.oid, r.clone())).collect());
        // All that needs the session first: what follows is done once.
        let all = order.iter().fold(0_u64, |all, (weight, _)| all.saturating_add(*weight));
        let mut cuts = Vec::new();
        for (_, relation) in order {
            let length = blocks.get(&relation.oid).copied();
            let readable = readable(&first.session, &relation);
            let cut = match &readable {
                Ok(readable) => self.cut(first, &relation, readable, (length, all)).await?,
                Err(_) => Vec::new(),
            };
            cuts.push((relation, length, readable, cut));
        }
        self.take_over_done(&blocks)?;
        let mut wanted = HashSet::new();
        for (relation, length, readable, cut) in cuts {
            if self.is_done(&relation) {
                continue;
            }
            match readable {
                Ok(readable) => {
                    let stem = stems.get(&relation.oid).cloned().unwrap_or_default();
                    let plan = (relation, readable, stem);
                    self.enqueue(plan, length, cut, missing, &mut wanted).await?;
                }
                Err(reason) => self.unreadable(&relation, reason),
            }
        }
        if let (Some(dir), Some(journal)) = (&self.dir, &self.journal) {
            journal.sync().await?;
            sweep(dir, &wanted)?;
        }
        Ok(())
    }

    /// Catalogs that are not for everybody's eyes: nobody wants to hear each night
    /// of what a role may not read.
    async fn hidden_catalogs(&self, first: &mut Numbered) -> Result<HashSet<u32>, RunError> {
        if !self.options.catalogs || first.session.server().superuser {
            return Ok(HashSet::new());
        }
        match unreadable_catalogs(&first.session).await {
            Ok(hidden) => Ok(hidden),
            Err(e) => {
                self.after_failure(first, e).await?;
                Ok(HashSet::new())
            }
        }
    }

    /// File names, those of earlier runs as they were.
    fn stems(&self, selected: &[Relation]) -> HashMap<u32, String> {
        let earlier = locked(&self.earlier);
        let given = earlier.relations.iter();
        let given = given.filter_map(|(&oid, r)| Some((oid, r.planned.as_ref()?.stem.clone())));
        let names = selected.iter().map(|r| (r.oid, r.schema.as_slice(), r.name.as_slice()));
        names::assign(names, &given.collect())
    }

    /// Takes over what earlier runs have done, as far as its files are there.
    fn take_over_done(&self, blocks: &HashMap<u32, u32>) -> Result<(), RunError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let read = locked(&self.read).clone();
        for (oid, relation) in &mut locked(&self.earlier).relations {
            let length = blocks.get(oid).copied();
            let is_empty = read.get(oid).is_some_and(|now| relation.is_emptied(now, length));
            let Some((entry, furthest)) = &mut relation.done else { continue };
            if entry.status == manifest::RelationStatus::Failed {
                if !is_empty {
                    relation.done = None;
                    continue;
                }
                ends_emptied(entry);
            }
            if !has_files(dir, &entry.files)? {
                let (schema, name) = (&entry.schema, &entry.name);
                tracing::warn!("files of relation \"{schema}.{name}\" are gone; it is read again");
                *relation =
                    EarlierRelation { killers: relation.killers.clone(), ..Default::default() };
                continue;
            }
            self.note_furthest(furthest);
            locked(&self.entries).push(entry.clone());
            self.progress.relations.fetch_add(1, Relaxed);
            self.progress.relations_done.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    fn is_done(&self, relation: &Relation) -> bool {
        locked(&self.earlier).relations.get(&relation.oid).is_some_and(|r| r.done.is_some())
    }

    fn unreadable(&self, relation: &Relation, reason: String) {
        self.progress.relations.fetch_add(1, Relaxed);
        let mut entry = described(relation, false);
        entry.status = manifest::RelationStatus::Failed;
        entry.reason = Some(reason);
        locked(&self.entries).push(entry);
    }

    /// Puts a relation into the queue, with what earlier runs have left of it.
    async fn enqueue(
        &self,
        (relation, readable, stem): (Relation, Readable, String),
        mut length: Option<u32>,
        mut cut: Vec<BlockRange>,
        missing: &Missing,
        wanted: &mut HashSet<String>,
    ) -> Result<(), RunError> {
        self.progress.relations.fetch_add(1, Relaxed);
        let earlier = locked(&self.earlier).relations.remove(&relation.oid);
        let mut earlier = earlier.unwrap_or_default();
        let same_file = earlier.is_of_file(relation.filenode);
        if !same_file {
            earlier.killers.clear();
            earlier.accused.clear();
            earlier.unchecked.clear();
        }
        let may_be = self.options.unchecked.checksums && relation.heap;
        let unchecked = may_be.then(|| std::mem::take(&mut earlier.unchecked));
        let watch = watch(&relation, missing);
        let is_emptied = earlier.is_emptied(&relation, length);
        let kept = self.keep(&relation, &stem, &watch, (&earlier, is_emptied)).await?;
        let is_kept = kept.is_some();
        let data = match &kept {
            Some(kept) if !kept.stretches.is_empty() => Some(self.generations.now().await.1),
            _ => None,
        };
        if is_kept {
            cut = earlier.ranges();
        }
        if is_kept || is_emptied {
            length = length.max(earlier.planned.map(|p| p.blocks));
        }
        let (kept, files, killers) = (kept.unwrap_or_default(), self.files(), earlier.killers);
        wanted.extend(kept.parts(&stem, &files));
        let accused = earlier.accused;
        let plan = Plan {
            relation,
            readable,
            stem,
            files,
            watch,
            cut,
            killers,
            accused,
            unchecked,
            same_file,
        };
        let relation = Arc::new(RelationRun::new(plan, kept, data)?);
        if !is_kept {
            relation.write_plan(length.unwrap_or(0))?;
        }
        if let Some(entry) = relation.finish_if_done().await? {
            return Ok(self.finished(&relation, entry).await?);
        }
        // One that a crash empties is not taken for one that had no rows, only since
        // it could not be measured.
        let least = if relation.relation.unlogged { 1 } else { 0 };
        let unknown = || relation.relation.pages_estimated.max(least);
        let blocks = u64::from(length.unwrap_or_else(unknown));
        let all = self.queue_up(&relation, relation.to_do().await, blocks).await;
        self.progress.blocks.fetch_add(all, Relaxed);
        Ok(())
    }

    /// What can be gone on with of what earlier runs have read of a relation.
    /// What cannot is taken away.
    async fn keep(
        &self,
        relation: &Relation,
        stem: &str,
        watch: &Watch,
        (earlier, is_emptied): (&EarlierRelation, bool),
    ) -> Result<Option<Kept>, RunError> {
        let Some(dir) = self.dir.as_ref().filter(|dir| dir.is_resumed()) else {
            return Ok(None);
        };
        let (snapshot, data) = self.generations.now().await;
        let snapshots = locked(&self.earlier).snapshots.clone();
        let data_of = |number: u32| {
            let taken = snapshots.iter().find(|s| s.snapshot.number == number)?;
            Some(if relation.unlogged { number } else { taken.snapshot.same_as })
        };
        let now = if relation.unlogged { snapshot } else { data };
        // Nothing can come to what was read before: any snapshot of it will do.
        let data_of = |number: u32| if is_emptied { Some(now) } else { data_of(number) };
        let errors = format!("errors/{stem}.csv");
        if dir.len(&errors)?.is_some() {
            dir.rename(&errors, &format!("{errors}.part"))?;
        }
        dir.remove(&format!("maps/{stem}.map"))?;
        // What was learnt from the rows on their way is not in the journal.
        let kept = if watch.is_idle() && fits(earlier, relation, data_of, now) {
            take_up(&self.files(), relation.oid, stem, earlier).await?
        } else {
            None
        };
        if kept.is_none() {
            for class in manifest::RowClass::ALL {
                dir.remove(&names::data_path(stem, class, self.options.codec))?;
            }
        }
        Ok(kept)
    }
}

/// A crash of the server has emptied the unlogged table since it was read: what
/// came then is all there is.
fn ends_emptied(entry: &mut manifest::Relation) {
    entry.status = manifest::RelationStatus::Salvaged;
    entry.reason = None;
    let finding = Finding {
        at: None,
        column: None,
        cause: Cause::EmptiedByCrash,
        sqlstate: String::new(),
        message: EMPTIED.to_owned(),
    };
    entry.lost.push(finding.manifest());
}

/// The entry of a relation that the catalogs are too damaged to describe. Its
/// rows cannot be asked for.
fn undescribed(relation: &Relation) -> Option<manifest::Relation> {
    let message = relation.undescribed.clone()?;
    let name = relation.display_name();
    tracing::warn!(
        event = "relation_lost",
        relation = name,
        "relation \"{name}\" is lost: {message}"
    );
    let sqlstate = String::new();
    let finding = Finding { at: None, column: None, cause: Cause::Catalog, sqlstate, message };
    Some(manifest::Relation {
        status: manifest::RelationStatus::Lost,
        reason: None,
        lost: vec![finding.manifest()],
        ..described(relation, false)
    })
}

/// What a relation weighs in the order of work: its pages and those of its
/// TOAST.
fn weight(relation: &Relation, blocks: &HashMap<u32, u32>) -> u64 {
    let heap = blocks.get(&relation.oid).copied().unwrap_or(relation.pages_estimated);
    u64::from(heap) + u64::from(relation.toast_pages_estimated)
}

/// What is to be learnt from the rows of a relation on their way.
fn watch(relation: &Relation, missing: &Missing) -> Watch {
    if relation.kind == RelationKind::LargeObjects {
        return Watch::large_objects();
    }
    let fed = missing.iter().flat_map(|m| m.feeds.iter().map(move |fed| (m, *fed)));
    let watches =
        fed.filter(|(_, (oid, _))| *oid == relation.oid).filter_map(|(m, (_, attnum))| {
            let field = relation.columns.iter().position(|c| c.attnum == attnum)?;
            Some(ColumnWatch { sequence: m.oid, field, descending: m.descending, furthest: None })
        });
    Watch::columns(watches.collect())
}
