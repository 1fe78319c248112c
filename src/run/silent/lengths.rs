//! Is a file shorter than `pg_class.relpages` says? Of tables, materialised
//! views, and their TOAST tables. A file that is missing is one of no length:
//! the server says so without an error.
//!
//! Confirmed in sessions that see the catalogs as they are then, since VACUUM
//! may have truncated the file meanwhile.

use super::{Found, Looked, Missing, Run, is_short};
use crate::server::relation::sizes;
use crate::server::session::{OpenError, ReadError, Session};
use std::collections::HashMap;
use std::time::Duration;

/// Between two looks at a file that seems short.
const VACUUM_PATIENCE: Duration = Duration::from_secs(2);

/// A file that may be short.
struct Suspect {
    /// Of the file.
    oid: u32,
    /// The relation that it is of, or whose values it holds.
    of: u32,
    blocks: u64,
}

impl Run {
    pub(super) async fn short_files(&self, clean: &[Looked]) -> Vec<Found> {
        let mut suspects: Vec<Suspect> = clean
            .iter()
            .filter(|r| !r.relation.unlogged)
            .filter(|r| u64::from(r.relation.pages_estimated) > r.blocks)
            .map(|r| Suspect { oid: r.oid, of: r.oid, blocks: r.blocks })
            .collect();
        match self.short_toast_files(clean).await {
            Ok(toast) => suspects.extend(toast),
            Err(e) => self.warn(format!("files of TOAST tables were not looked at: {e}")),
        }
        let mut found = Vec::new();
        for Suspect { oid, of, blocks } in suspects {
            match self.is_short(oid, blocks).await {
                Ok(Some((said, now))) => {
                    let missing = match oid == of {
                        true => Missing::Heap { start: now, end: said },
                        false => Missing::Toast { start: now, end: said },
                    };
                    let what = Some(is_short(oid != of, now));
                    found.push(Found {
                        oid: of,
                        missing,
                        what,
                        told_by: format!("pg_class says {said}"),
                    });
                }
                Ok(None) => {}
                Err(e) => self.warn(format!(
                    "the file of relation {oid} was not compared with pg_class: {e}"
                )),
            }
        }
        found
    }

    async fn short_toast_files(&self, clean: &[Looked]) -> Result<Vec<Suspect>, OpenError> {
        let toast = |r: &Looked| {
            let pages = u64::from(r.relation.toast_pages_estimated);
            Some((r.relation.toast?, (r.oid, pages))).filter(|_| pages > 0 && !r.relation.unlogged)
        };
        let said: HashMap<u32, (u32, u64)> = clean.iter().filter_map(toast).collect();
        if said.is_empty() {
            return Ok(Vec::new());
        }
        let session = self.generations.session_of_now().await?;
        session.save().await?;
        let oids: Vec<u32> = said.keys().copied().collect();
        let mut suspects: Vec<Suspect> = sizes(&session, &oids)
            .await?
            .into_iter()
            .filter_map(|(oid, blocks)| {
                let &(of, pages) = said.get(&oid)?;
                let blocks = u64::from(blocks);
                (pages > blocks).then_some(Suspect { oid, of, blocks })
            })
            .collect();
        suspects.sort_by_key(|s| s.oid);
        Ok(suspects)
    }

    /// Whether a file is short, and what is said and what there is: asked twice,
    /// since VACUUM truncates a file a moment before it says so in pg_class.
    async fn is_short(&self, oid: u32, blocks: u64) -> Result<Option<(u64, u64)>, OpenError> {
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
        Ok(answer)
    }
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
