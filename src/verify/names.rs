//! What the catalogs call the files, and which of them were chosen.

use super::VerifyError;
use crate::server::catalog;
use crate::server::files::{FileOf, names};
use crate::server::inventory::Selection;
use crate::server::session::Session;
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Names {
    /// By the path of the main fork.
    pub known: BTreeMap<String, FileOf>,
    /// The relations that were chosen, with their TOAST tables and indexes;
    /// none: all files are looked at, whoever they belong to.
    pub chosen: Option<BTreeSet<u32>>,
}

pub(super) async fn of_files(
    session: &Session,
    selection: &Selection,
    notes: &mut Vec<String>,
) -> Result<Names, VerifyError> {
    let known = match names(session).await {
        Ok(known) => known,
        Err(e) if session.is_closed() => return Err(e.into()),
        Err(e) => {
            notes.push(format!("files have no names here, since catalogs could not be read: {e}"));
            session.renew_snapshot().await?;
            BTreeMap::new()
        }
    };
    let owners: Vec<(u32, Option<u32>)> = known.values().map(|f| (f.oid, f.owner)).collect();
    Ok(Names { chosen: chosen(session, selection, &owners).await?, known })
}

/// The relations that are chosen, with what belongs to them. `owners`: all
/// relations, each with that which it belongs to.
pub(super) async fn chosen(
    session: &Session,
    selection: &Selection,
    owners: &[(u32, Option<u32>)],
) -> Result<Option<BTreeSet<u32>>, VerifyError> {
    if selection.is_everything() {
        return Ok(None);
    }
    session.renew_snapshot().await?;
    session.save().await?;
    let inventory =
        catalog::read(session).await.map_err(|e| VerifyError::Selection(e.to_string()))?;
    if let Some(unmatched) = selection.unmatched(&inventory)
        && !selection.matches_any(&inventory)
    {
        return Err(VerifyError::Selection(unmatched));
    }
    let mut chosen: BTreeSet<u32> =
        inventory.relations.iter().filter(|r| selection.takes(r)).map(|r| r.oid).collect();
    // A TOAST table belongs to a table, and its index to that.
    for _ in 0..2 {
        let belongs = |(_, owner): &&(u32, Option<u32>)| owner.is_some_and(|o| chosen.contains(&o));
        let more: Vec<u32> = owners.iter().filter(belongs).map(|(oid, _)| *oid).collect();
        chosen.extend(more);
    }
    Ok(Some(chosen))
}
