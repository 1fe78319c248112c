//! Loss that no read tells of: a file that is shorter than it was, and rows
//! that an index still knows.
//!
//! A truncated file, a zeroed page or an xmin that was changed make rows
//! vanish without an error. What can be asked for little is asked at the end,
//! of relations that look clean:
//!
//! * Is the file shorter than `pg_class.relpages` says? Always asked; confirmed
//!   in a session that sees the catalogs as they are now, since VACUUM may have
//!   truncated the file meanwhile.
//! * Does an index-only scan count more rows than were read? On all-visible
//!   pages it does not look at the heap. In the snapshot of the rows, so a
//!   healthy relation gives the same number. By default only when the run has
//!   seen damage, since it costs a part of the reading.

use super::{Run, locked};
use crate::dump::Cause;
use crate::output::manifest::{self, RelationKind, RelationStatus};
use crate::server::relation::readable;
use crate::server::session::{OpenError, ReadError, Session};
use std::collections::BTreeSet;
use std::time::Duration;

/// When rows are counted by an index, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckCounts {
    /// When the run has seen damage.
    Auto,
    Always,
    Never,
}

/// Between two looks at a file that seems short.
const VACUUM_PATIENCE: Duration = Duration::from_secs(2);

/// An index-only scan is worth it where so many of ten pages are all-visible.
const ALL_VISIBLE_TENTHS: u64 = 9;

/// What an index knows of a relation.
struct Counted {
    index: String,
    known: u64,
    read: u64,
}

/// A relation of which rows are missing.
struct Found {
    oid: u32,
    lost: manifest::Lost,
}

impl Run {
    /// Looks for silent loss in relations that look clean. Whether the server
    /// can still be asked or not, the run goes on.
    pub(super) async fn look_for_silent_loss(&self) {
        if self.progress.stopped() {
            return;
        }
        let mut found = self.short_files().await;
        if self.counts_wanted() {
            let short: BTreeSet<u32> = found.iter().map(|f| f.oid).collect();
            found.extend(self.counts_that_differ(&short).await);
        }
        let mut entries = locked(&self.entries);
        for Found { oid, lost } in found {
            let Some(entry) = entries.iter_mut().find(|e| e.oid == oid) else { continue };
            tracing::warn!("relation \"{}.{}\": {}", entry.schema, entry.name, lost.message);
            entry.status = RelationStatus::Salvaged;
            entry.lost.push(lost);
        }
    }

    fn counts_wanted(&self) -> bool {
        let damaged = |e: &manifest::Relation| {
            matches!(e.status, RelationStatus::Salvaged | RelationStatus::Lost)
        };
        match self.options.check_counts {
            CheckCounts::Always => true,
            CheckCounts::Never => false,
            CheckCounts::Auto => locked(&self.entries).iter().any(damaged),
        }
    }

    /// Files that are shorter than pg_class says.
    async fn short_files(&self) -> Vec<Found> {
        let read = locked(&self.read).clone();
        let suspects: Vec<(u32, u64)> = locked(&self.entries)
            .iter()
            .filter(|e| e.status == RelationStatus::Clean && has_heap(e.kind))
            .filter(|e| {
                read.get(&e.oid).is_some_and(|r| u64::from(r.pages_estimated) > e.blocks.total)
            })
            .map(|e| (e.oid, e.blocks.total))
            .collect();
        if suspects.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (oid, blocks) in suspects {
            match self.is_short(oid, blocks).await {
                Ok(Some(lost)) => found.push(Found { oid, lost }),
                Ok(None) => {}
                Err(e) => self.warn(format!(
                    "the file of relation {oid} was not compared with pg_class: {e}"
                )),
            }
        }
        found
    }

    /// Whether a file is short, asked twice: VACUUM truncates a file a moment
    /// before it says so in pg_class. Each time in a session of its own, which
    /// sees the catalogs as they are then.
    async fn is_short(&self, oid: u32, blocks: u64) -> Result<Option<manifest::Lost>, OpenError> {
        let mut answer = None;
        for pause in [Duration::ZERO, VACUUM_PATIENCE] {
            tokio::time::sleep(pause).await;
            let session = self.generations.session_of_now().await?;
            answer =
                pages_now(&session, oid).await?.filter(|(said, now)| said > now && *now <= blocks);
            if answer.is_none() {
                break;
            }
        }
        Ok(answer.map(|(said, now)| short_file(said, now)))
    }

    /// Relations of which an index knows more rows than were read.
    async fn counts_that_differ(&self, but: &BTreeSet<u32>) -> Vec<Found> {
        let read = locked(&self.read).clone();
        let worth_it = |e: &manifest::Relation| {
            e.status == RelationStatus::Clean
                && has_heap(e.kind)
                && e.blocks.total > 0
                && !but.contains(&e.oid)
                && read.get(&e.oid).is_some_and(|r| {
                    u64::from(r.all_visible_estimated) * 10 >= e.blocks.total * ALL_VISIBLE_TENTHS
                })
        };
        let asked: Vec<(u32, u64, Vec<u32>, Option<String>)> = locked(&self.entries)
            .iter()
            .filter(|e| worth_it(e))
            .map(|e| (e.oid, e.rows.clean, e.snapshots.clone(), e.relfilenode.clone()))
            .collect();
        let mut found = Vec::new();
        let numbered = match self.generations.session(true).await {
            Ok(numbered) => numbered,
            Err(e) => {
                self.warn(format!("rows were not counted by indexes: {e}"));
                return found;
            }
        };
        for (oid, rows, snapshots, path) in asked {
            // Rows of another snapshot may be others.
            let rows = Some(rows).filter(|_| snapshots == [numbered.snapshot]);
            match self.count(&numbered.session, oid, rows, path).await {
                Ok(Some(Counted { index, known, read })) if known > read => {
                    let message =
                        format!("index \"{index}\" knows {known} rows, and {read} can be read");
                    found.push(Found { oid, lost: silent(None, message) });
                }
                Ok(_) => {}
                Err(e) => {
                    self.warn(format!("rows of relation {oid} could not be counted: {e}"));
                    if numbered.session.leave_relation().await.is_err() {
                        return found;
                    }
                }
            }
        }
        found
    }

    /// The rows that an index-only scan counts; none where none would be used.
    /// What was read in another snapshot is counted again in this one.
    async fn count(
        &self,
        session: &Session,
        oid: u32,
        read: Option<u64>,
        path: Option<String>,
    ) -> Result<Option<Counted>, ReadError> {
        // REFRESH and COPY FREEZE make files whose rows every snapshot sees:
        // those of another file than was read are others.
        let file = format!("SELECT pg_catalog.pg_relation_filepath({oid})");
        if session.value(&file).await? != path {
            return Ok(None);
        }
        let Some(name) = self.qualified(session, oid) else { return Ok(None) };
        let count = format!("SELECT pg_catalog.count(*) FROM ONLY {name}");
        let number = |v: Option<String>| v.and_then(|v| v.parse::<u64>().ok());
        // The one allows such paths, the other makes them cheap.
        let index = "SET LOCAL enable_indexonlyscan TO on; SET LOCAL enable_indexscan TO on";
        session.execute(index).await?;
        let plan = session.rows(&format!("EXPLAIN {count}")).await?;
        let mut lines = plan.into_iter().filter_map(|row| row.into_iter().next().flatten());
        let index = lines.find_map(|line| {
            let (_, rest) = line.split_once("Index Only Scan using ")?;
            Some(rest.split(" on ").next()?.trim_matches('"').to_owned())
        });
        let Some(index) = index else {
            session.leave_relation().await?;
            return Ok(None);
        };
        let known = number(session.value_of_all(&count).await?);
        session.leave_relation().await?;
        let read = match read {
            Some(read) => Some(read),
            None => {
                let heap = "SET LOCAL enable_seqscan TO on";
                session.execute(heap).await?;
                let read = number(session.value_of_all(&count).await?);
                session.leave_relation().await?;
                read
            }
        };
        if session.value(&file).await? != path {
            return Ok(None);
        }
        Ok(known.zip(read).map(|(known, read)| Counted { index, known, read }))
    }

    fn qualified(&self, session: &Session, oid: u32) -> Option<String> {
        let relations = locked(&self.read).clone();
        let relation = relations.get(&oid)?;
        readable(session, relation).ok().map(|r| r.qualified)
    }
}

fn has_heap(kind: RelationKind) -> bool {
    matches!(kind, RelationKind::Table | RelationKind::Matview)
}

/// `relpages` and the length of the file, both as they are now.
async fn pages_now(session: &Session, oid: u32) -> Result<Option<(u64, u64)>, ReadError> {
    let block_size = session.server().block_size;
    let row = session
        .row(&format!(
            "SELECT relpages, pg_catalog.pg_relation_size(oid, 'main') / {block_size} \
             FROM pg_catalog.pg_class WHERE oid = {oid}"
        ))
        .await?;
    let number = |i: usize| row.get(i).cloned().flatten().and_then(|n| n.parse().ok());
    Ok(number(0).zip(number(1)))
}

fn short_file(said: u64, now: u64) -> manifest::Lost {
    let message =
        format!("the file has {now} blocks, and pg_class says {said}: its end is missing");
    silent(Some((now, said - 1)), message)
}

fn silent(blocks: Option<(u64, u64)>, message: String) -> manifest::Lost {
    let block = |b: u64| u32::try_from(b).ok();
    manifest::Lost {
        first_block: blocks.and_then(|b| block(b.0)),
        last_block: blocks.and_then(|b| block(b.1)),
        ctid: None,
        column: None,
        cause: Cause::SilentLoss.name().to_owned(),
        sqlstate: None,
        message,
    }
}
