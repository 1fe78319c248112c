//! What is read, and in which order.

use super::entry::described;
use super::job::Job;
use super::relation::RelationRun;
use super::sequences::Missing;
use super::{Run, RunError, locked};
use crate::dump::{ColumnWatch, Watch};
use crate::heap::{BlockRange, stretches};
use crate::output::{manifest, names};
use crate::server::inventory::{Inventory, Relation, RelationKind};
use crate::server::relation::{readable, sizes};
use crate::server::session::Session;
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Run {
    /// The relations that this run is about.
    pub(super) fn select(&self, inventory: Inventory) -> Vec<Relation> {
        let selection = &self.options.selection;
        inventory.relations.into_iter().filter(|r| selection.takes(r)).collect()
    }

    /// Fills the queue. What has no rows gets its entry at once.
    pub(super) async fn plan(
        &self,
        session: &Session,
        selected: Vec<Relation>,
        missing: &Missing,
    ) -> Result<(), RunError> {
        let stems =
            names::assign(selected.iter().map(|r| (r.oid, r.schema.as_slice(), r.name.as_slice())));
        let in_recovery = session.server().in_recovery;
        let (read, rest): (Vec<_>, Vec<_>) = selected
            .into_iter()
            .filter(|r| r.kind != RelationKind::Sequence)
            .partition(|r| r.kind.has_rows() && r.not_read(in_recovery).is_none());
        locked(&self.entries).extend(rest.iter().map(|r| described(r, in_recovery)));
        let oids: Vec<u32> = read.iter().map(|r| r.oid).collect();
        let blocks: HashMap<u32, u32> = sizes(session, &oids).await?.into_iter().collect();
        let mut order: Vec<(u64, Relation)> = read
            .into_iter()
            .filter(|r| !self.is_empty_large_objects(r, &blocks))
            .map(|r| (weight(&r, &blocks), r))
            .collect();
        order.sort_by_key(|(weight, r)| (Reverse(r.unlogged), Reverse(*weight), r.oid));
        *locked(&self.read) = Arc::new(order.iter().map(|(_, r)| (r.oid, r.clone())).collect());
        let mut queue = VecDeque::new();
        for (_, relation) in order {
            let stem = stems.get(&relation.oid).cloned().unwrap_or_default();
            self.enqueue(session, relation, stem, &blocks, missing, &mut queue).await?;
        }
        self.progress.blocks.store(queue.iter().map(|j| j.blocks).sum(), Relaxed);
        self.queue.fill(queue);
        Ok(())
    }

    /// Large objects are in the catalogs of every database; where there are
    /// none, nobody wants to hear of them (or of the right to read them).
    fn is_empty_large_objects(&self, relation: &Relation, blocks: &HashMap<u32, u32>) -> bool {
        let pages = blocks.get(&relation.oid).copied().unwrap_or(relation.pages_estimated);
        relation.kind.is_large_objects() && pages == 0
    }

    async fn enqueue(
        &self,
        session: &Session,
        relation: Relation,
        stem: String,
        blocks: &HashMap<u32, u32>,
        missing: &Missing,
        queue: &mut VecDeque<Job>,
    ) -> Result<(), RunError> {
        self.progress.relations.fetch_add(1, Relaxed);
        let length = blocks.get(&relation.oid).copied();
        let readable = match readable(session, &relation) {
            Ok(readable) => readable,
            Err(reason) => {
                let mut entry = described(&relation, false);
                entry.status = manifest::RelationStatus::Failed;
                entry.reason = Some(reason);
                locked(&self.entries).push(entry);
                return Ok(());
            }
        };
        let whole_max = self.options.split_bytes / u64::from(session.server().block_size.max(1));
        let whole_max = u32::try_from(whole_max).unwrap_or(u32::MAX);
        let cut = match length {
            Some(length) if relation.heap && readable.tid_ranges && length > whole_max => {
                if self.can_plan(session, &readable.probe()).await? {
                    stretches(length, whole_max)
                } else {
                    Vec::new()
                }
            }
            _ => Vec::new(),
        };
        let watch = watch(&relation, missing);
        let count = cut.len().max(1);
        let relation =
            Arc::new(RelationRun::new(relation, readable, stem, self.files(), watch, count)?);
        let job = |index, range: Option<BlockRange>, blocks| Job {
            relation: relation.clone(),
            index,
            range,
            stretch: None,
            tries: 0,
            blocks,
        };
        if cut.is_empty() {
            queue.push_back(job(0, None, u64::from(length.unwrap_or(0))));
        }
        for (index, range) in cut.into_iter().enumerate() {
            queue.push_back(job(index, Some(range), u64::from(range.len())));
        }
        Ok(())
    }

    /// Whether a read of a part can be planned at all: not where pg_statistic
    /// is damaged, and then plain COPY of everything is all there is.
    async fn can_plan(&self, session: &Session, probe: &str) -> Result<bool, RunError> {
        let tried = async {
            let mut copy = session.copy(probe).await?;
            while copy.next().await?.is_some() {}
            Ok(())
        };
        match tried.await {
            Ok(()) => Ok(true),
            Err(e) if crate::server::session::ReadError::sqlstate(&e).is_empty() => Err(e.into()),
            Err(_) => {
                session.leave_relation().await?;
                Ok(false)
            }
        }
    }
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
    let columns = missing.iter().filter(|m| m.owner.is_some_and(|(oid, _)| oid == relation.oid));
    let watches = columns.filter_map(|m| {
        let (_, attnum) = m.owner?;
        let field = relation.columns.iter().position(|c| c.attnum == attnum)?;
        Some(ColumnWatch { sequence: m.oid, field, descending: m.descending, furthest: None })
    });
    Watch::columns(watches.collect())
}
