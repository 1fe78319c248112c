//! What the extension amcheck says of the relations of a database, where it is
//! installed: `verify_heapam` of heaps, `bt_index_check` of b-trees, and
//! `gin_index_check` of GIN indexes, as far as its version has them.
//!
//! Nothing is installed and nothing written, and each question is a transaction
//! of its own, so that no old snapshot is held. What the server says is sorted by
//! [`crate::server::fault`]: only what tells of damage is damage, and what was
//! found must be there a moment later. See `docs/amcheck.md`.

mod asking;
mod heap;
mod index;
mod list;
mod ranges;
mod task;
mod told;
mod work;

use super::VerifyError;
use crate::progress::Progress;
use crate::report::model::{Problem, Step};
use crate::server::amcheck::{Amcheck, Deep, EXTENSION, Function};
use crate::server::catalog::{Checks, checks};
use crate::server::connect::Target;
use crate::server::inventory::Selection;
use crate::server::life::Life;
use crate::server::session::{OpenError, ServerFacts, Session, Timeouts};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use work::Work;

/// How the reason begins why a relation was not checked, or not to its end, when
/// we were told to stop.
pub const STOPPED: &str = "stopped before";

/// Whoever looks for damage does not want it passed by without a word.
const PAST_INDEXES: &str = "the indexes of system catalogs were not used to look up what they \
    say, since one that every session needs is damaged";

/// What is asked of amcheck.
#[derive(Clone, Debug)]
pub struct AmcheckOptions {
    pub jobs: usize,
    pub selection: Selection,
    pub timeouts: Timeouts,
    /// Whether each row of a table is looked for in its b-trees.
    pub heapallindexed: bool,
    /// Whether each entry of a b-tree is looked for from its root, which locks
    /// writers out of its table meanwhile. Not on a standby.
    pub rootdescend: bool,
    /// As in [`super::VerifyOptions`].
    pub last_ok: BTreeMap<u32, jiff::Timestamp>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Amchecked {
    /// Of the extension; none: it is not installed, and nothing was checked.
    pub version: Option<String>,
    /// All that were chosen, by schema and name, but for those that were dropped
    /// meanwhile.
    pub relations: Vec<Checked>,
    pub notes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Checked to its end, and nothing is wrong.
    Clean,
    /// Something is wrong; if there is a reason, not all was looked at.
    Damaged,
    /// Not checked to its end, for the reason that is given.
    Incomplete,
    /// For the reason that is given nobody can check it, or not this role.
    NotChecked,
}

/// One relation.
#[derive(Clone, Debug)]
pub struct Checked {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// `table`, `index`, `TOAST table`, ...
    pub kind: &'static str,
    /// The table that an index or a TOAST table belongs to: schema and name.
    pub owner: Option<(String, String)>,
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub blocks: u64,
    /// Blocks that a problem names.
    pub damaged_blocks: u64,
    pub problems: Vec<Problem>,
    pub problems_omitted: u64,
    pub advice: Vec<Step>,
}

/// Checks all that is chosen. `Err`: it could not be begun.
pub async fn check(
    target: Target,
    options: AmcheckOptions,
    progress: Arc<Progress>,
) -> Result<Amchecked, VerifyError> {
    let (session, target) = open(target, options.timeouts).await?;
    session.save().await?;
    let found = match checks(&session, EXTENSION).await {
        Ok(found) => found,
        Err(e) => return Err(e.source.into()),
    };
    let mut notes: Vec<String> = found.damaged.iter().map(ToString::to_string).collect();
    if target.is_past_system_indexes() {
        notes.insert(0, PAST_INDEXES.to_owned());
    }
    let server = session.server().clone();
    let Some(installed) = &found.extension else {
        notes.push(not_installed(&server, &found));
        return Ok(Amchecked { version: None, relations: Vec::new(), notes });
    };
    session.renew_snapshot().await?;
    let amcheck = Amcheck::of(&session, installed).await?;
    let deep = deep(&amcheck, &options, &server, &mut notes);
    rights(&session, &amcheck, deep, &mut notes).await?;
    let listed = list::list(&session, found, &amcheck, deep, &options).await?;
    let version = Some(amcheck.version.clone());
    let life = Life::of(&session).await?;
    progress.relations.store(listed.todo.len() as u64, Relaxed);
    progress.blocks.store(listed.todo.iter().map(|t| u64::from(t.blocks)).sum(), Relaxed);
    let work = Arc::new(Work::new(
        (target, options.timeouts),
        (amcheck, deep),
        asking::Layout { block_size: server.block_size, segment_blocks: server.segment_blocks },
        asking::Server::new(life),
        progress,
        listed.todo,
    ));
    let mut tasks = work::all(&work, options.jobs, session, &mut notes).await;
    tasks.extend(listed.not_checked);
    let relations = told::told(tasks, &listed.all, &server, &mut notes);
    Ok(Amchecked { version, relations, notes })
}

/// A session, and how more are had: past the indexes of system catalogs, where no
/// other can be had.
async fn open(target: Target, timeouts: Timeouts) -> Result<(Session, Target), VerifyError> {
    let damaged = match Session::open(&target, timeouts, None).await {
        Err(e) if e.is_damage() => e,
        opened => return Ok((opened?, target)),
    };
    let past = target.past_system_indexes(true);
    match Session::open(&past, timeouts, None).await {
        Ok(session) => Ok((session, past)),
        Err(_) => Err(OpenError::NoSession(damaged.into()).into()),
    }
}

fn not_installed(server: &ServerFacts, found: &Checks) -> String {
    let where_to = if server.in_recovery { ", on the primary" } else { "" };
    match found.damaged.iter().any(|d| d.catalog == "pg_extension") {
        true => "whether amcheck is installed is not known: nothing was checked by it".to_owned(),
        false => format!(
            "amcheck is not installed in database \"{}\", and nothing was checked by it; a \
             superuser can install it there{where_to}: CREATE EXTENSION amcheck;",
            server.database
        ),
    }
}

/// What is asked of b-trees. What cannot be is noted.
fn deep(
    amcheck: &Amcheck,
    options: &AmcheckOptions,
    server: &ServerFacts,
    notes: &mut Vec<String>,
) -> Deep {
    let version = &amcheck.version;
    let can = amcheck.can(Function::BTreeParent);
    let rootdescend = options.rootdescend && can.rootdescend && !server.in_recovery;
    if options.rootdescend && !rootdescend {
        notes.push(match server.in_recovery {
            true => {
                "entries were not looked for from the roots of b-trees: that takes a lock that \
                     no standby has"
                    .to_owned()
            }
            false => format!(
                "entries were not looked for from the roots of b-trees: version {version} of \
                 amcheck cannot"
            ),
        });
    }
    let function = if rootdescend { Function::BTreeParent } else { Function::BTree };
    let can = amcheck.can(function);
    if options.heapallindexed && !can.heapallindexed {
        notes.push(format!(
            "rows were not looked for in b-trees: version {version} of amcheck cannot"
        ));
    }
    let heapallindexed = options.heapallindexed && can.heapallindexed;
    Deep { heapallindexed, rootdescend, checkunique: can.checkunique }
}

/// Notes what is not there, and what this role may not call.
async fn rights(
    session: &Session,
    amcheck: &Amcheck,
    deep: Deep,
    notes: &mut Vec<String>,
) -> Result<(), VerifyError> {
    if !amcheck.has(Function::Heap) {
        let update = match session.server().version {
            140_000.. => "; a superuser can update it: ALTER EXTENSION amcheck UPDATE;",
            _ => ": it came with PostgreSQL 14",
        };
        notes.push(format!(
            "no table was checked, since version {} of amcheck has no verify_heapam{update}",
            amcheck.version
        ));
    }
    let b_tree = if deep.rootdescend { Function::BTreeParent } else { Function::BTree };
    let wanted = [Function::Heap, b_tree, Function::Gin];
    let role = session.value("SELECT current_user").await?.unwrap_or_default();
    if let Some(grants) = amcheck.grants(&wanted, &role) {
        notes.push(format!(
            "role \"{role}\" may not call all functions of amcheck; a superuser can allow it, in \
             this database: {grants}"
        ));
    }
    Ok(())
}
