//! Loss that no read tells of: files that are shorter than they were, pages of
//! zeros, and rows that an index still knows.
//!
//! A truncated file, a zeroed page or an xmin that was changed make rows
//! vanish without an error. What can be asked is asked at the end, of relations
//! that look clean; each question has a file of its own here. The first two cost
//! nothing, and are always asked; the others cost a part of the reading, and are
//! asked by default when the run has seen damage.
//!
//! Health is never called damage: a question that others can disturb (VACUUM,
//! TRUNCATE, a checkpoint that has not come yet) is answered only by what none
//! of them leaves behind. What may be damage, and may as well be the trace of an
//! old crash, is a warning.
//!
//! Of unlogged tables no file is looked at: a crash empties them, and nothing in
//! their files tells what was before from what came after.

mod asking;
mod counts;
mod found;
mod lengths;
mod pages;
mod pointed;
mod segments;

use super::{Run, locked};
use crate::output::manifest::{self, RelationKind, RelationStatus};
use crate::server::inventory::Relation;
use crate::server::session::{ReadError, Session};
use found::{Found, Missing, is_short, join};
use std::collections::BTreeSet;

/// When the questions that cost something are asked, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckCounts {
    /// When the run has seen damage.
    Auto,
    Always,
    Never,
}

/// So many lost places of a relation are listed.
const LISTED_MAX: usize = 1000;

/// A relation that looks clean.
struct Looked {
    oid: u32,
    /// The file that was read.
    path: String,
    /// How long it was then.
    blocks: u64,
    rows: u64,
    snapshots: Vec<u32>,
    relation: Relation,
}

impl Run {
    /// Looks for silent loss in relations that look clean. Whether the server
    /// can still be asked or not, the run goes on.
    pub(super) async fn look_for_silent_loss(&self) {
        if self.progress.stopped() {
            return;
        }
        let clean = self.relations_that_look_clean();
        let mut found = self.short_files(&clean).await;
        found.extend(self.segments_behind_a_gap(&clean).await);
        if self.more_is_asked(&found) {
            let (gone, denied) = self.pages_that_are_gone(&clean).await;
            found.retain(|f| !self.is_denied(f, &clean, &denied));
            found.extend(self.counts_that_differ(&clean).await);
            found.extend(gone);
        }
        let mut entries = locked(&self.entries);
        for (oid, lost) in join(found) {
            let Some(entry) = entries.iter_mut().find(|e| e.oid == oid) else { continue };
            let relation = format!("{}.{}", entry.schema, entry.name);
            tracing::warn!(
                event = "silent_loss",
                relation,
                "relation \"{relation}\": {}",
                lost.message
            );
            entry.status = RelationStatus::Salvaged;
            if entry.lost.len() < LISTED_MAX {
                entry.lost.push(lost);
            } else {
                entry.lost_omitted += 1;
            }
        }
    }

    /// `relpages` may be too high for good, after a crash in VACUUM, or where
    /// statistics were loaded: an index knows better.
    fn is_denied(&self, found: &Found, clean: &[Looked], denied: &BTreeSet<u32>) -> bool {
        let is_denied =
            matches!(found.missing, Missing::Heap { .. }) && denied.contains(&found.oid);
        let looked = clean.iter().find(|looked| looked.oid == found.oid).filter(|_| is_denied);
        if let Some(looked) = looked {
            self.warn(format!(
                "relation \"{}\": {}, by {}; but an index has no item for a row there: nothing is \
                 missing, and ANALYZE corrects pg_class",
                looked.relation.display_name(),
                found.what.as_deref().unwrap_or_default(),
                found.told_by
            ));
        }
        looked.is_some()
    }

    fn relations_that_look_clean(&self) -> Vec<Looked> {
        let read = locked(&self.read).clone();
        let looked = |e: &manifest::Relation| {
            let is_looked_at = e.status == RelationStatus::Clean
                && matches!(e.kind, RelationKind::Table | RelationKind::Matview)
                // Of a part nobody knows what the whole had.
                && e.read.is_none_or(|read| read.from == 0);
            let relation = read.get(&e.oid).filter(|r| is_looked_at && r.heap)?;
            Some(Looked {
                oid: e.oid,
                path: e.relfilenode.clone()?,
                blocks: e.blocks.total,
                rows: e.rows.clean + e.rows.oversize,
                snapshots: e.snapshots.clone(),
                relation: relation.clone(),
            })
        };
        locked(&self.entries).iter().filter_map(looked).collect()
    }

    /// Whether the questions that cost something are asked.
    fn more_is_asked(&self, found: &[Found]) -> bool {
        let damaged = |e: &manifest::Relation| {
            matches!(e.status, RelationStatus::Salvaged | RelationStatus::Lost)
        };
        match self.options.check_counts {
            CheckCounts::Always => true,
            CheckCounts::Never => false,
            CheckCounts::Auto => !found.is_empty() || locked(&self.entries).iter().any(damaged),
        }
    }

    /// A question about a relation could not be asked. Whether the session is
    /// still of use.
    async fn not_asked(&self, session: &Session, what: &str, error: &ReadError) -> bool {
        if error.is_permission() {
            tracing::debug!("{what}: {error}");
        } else {
            self.warn(format!("{what}: {error}"));
        }
        session.leave_relation().await.is_ok()
    }
}

/// The file in which a relation is now. Another than was read holds other rows,
/// and rows of any snapshot (`REFRESH`, `COPY FREEZE`).
async fn path_now(session: &Session, oid: u32) -> Result<Option<String>, ReadError> {
    session.value(&format!("SELECT pg_catalog.pg_relation_filepath({oid})")).await
}
