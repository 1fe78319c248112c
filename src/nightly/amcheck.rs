//! The level of amcheck: what the extension's functions say, where it is
//! installed.

use super::NightlyError;
use super::databases::Found;
use crate::output::manifest::RunStatus;
use crate::progress::Progress;
use crate::report::model::{Blocks, Level, Relation, Server, Status};
use crate::server::connect::Target;
use crate::verify::amcheck::{AmcheckOptions, Checked, Outcome, STOPPED, check};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `of`: the database's name, and what is known of the server.
pub(super) async fn check_all(
    target: Target,
    options: AmcheckOptions,
    (database, server): (&str, Server),
    progress: Arc<Progress>,
) -> Result<Found, NightlyError> {
    let checked = check(target, options, progress).await?;
    let relations = checked.relations.into_iter().map(|r| relation(r, database)).collect();
    let (notes, status) = (checked.notes, RunStatus::Clean);
    let read = BTreeMap::new();
    Ok(Found { server, pages: None, relations, notes, read, status })
}

fn relation(checked: Checked, database: &str) -> Relation {
    let is_stopped = checked.reason.as_ref().is_some_and(|why| why.starts_with(STOPPED));
    let (status, at_level) = match checked.outcome {
        Outcome::Clean => (Status::Clean, true),
        Outcome::Damaged => (Status::Damaged, true),
        Outcome::Incomplete if is_stopped => (Status::NotReached, false),
        Outcome::Incomplete => (Status::Incomplete, false),
        Outcome::NotChecked => (Status::Skipped, false),
    };
    Relation {
        oid: checked.oid,
        owner: checked.owner.map(|(schema, name)| format!("{schema}.{name}")),
        status,
        reason: checked.reason,
        levels: if at_level { vec![Level::Amcheck] } else { Vec::new() },
        blocks: Blocks { total: checked.blocks, damaged: checked.damaged_blocks, lost: 0 },
        problems: checked.problems,
        problems_omitted: checked.problems_omitted,
        advice: checked.advice,
        ..Relation::named(Some(database), &checked.schema, &checked.name, checked.kind)
    }
}
