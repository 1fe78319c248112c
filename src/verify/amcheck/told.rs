//! What came of each relation, with what to do next.

use super::list::file_of;
use super::task::Task;
use super::{Checked, Outcome};
use crate::server::files::{FileOf, ForkFile};
use crate::server::session::ServerFacts;
use crate::verify::advised::Relations;
use crate::verify::report::kind;
use std::collections::BTreeMap;

pub(super) fn told(
    tasks: Vec<Task>,
    all: &[FileOf],
    server: &ServerFacts,
    notes: &mut Vec<String>,
) -> Vec<Checked> {
    let relations = Relations::new(all.iter());
    let mut told = Vec::new();
    for task in tasks.into_iter().filter(|task| !task.gone) {
        let of = file_of(&task.object);
        let outcome = outcome(&task);
        let advice = match outcome {
            Outcome::Damaged => {
                // The advice does not depend on where the file is.
                let path = task.path.clone().unwrap_or_default();
                let fork = ForkFile { path, segments: BTreeMap::new() };
                relations.advice(&fork, Some(&of), server)
            }
            _ => Vec::new(),
        };
        notes.extend(task.notes);
        told.push(Checked {
            oid: of.oid,
            kind: kind(&of),
            owner: relations.owner_of(&of).map(|t| (t.schema.clone(), t.name.clone())),
            schema: of.schema,
            name: of.name,
            outcome,
            reason: task.reason,
            blocks: task.blocks.into(),
            damaged_blocks: task.damaged_blocks,
            problems: task.problems,
            problems_omitted: task.problems_omitted,
            advice,
        });
    }
    told.sort_by(|a, b| (&a.schema, &a.name, a.oid).cmp(&(&b.schema, &b.name, b.oid)));
    told
}

fn outcome(task: &Task) -> Outcome {
    match (task.problems.is_empty(), &task.reason) {
        (false, _) => Outcome::Damaged,
        (true, None) => Outcome::Clean,
        (true, Some(_)) if task.refused => Outcome::NotChecked,
        (true, Some(_)) => Outcome::Incomplete,
    }
}
