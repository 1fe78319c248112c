//! What there is to be checked, the largest first, and what nobody can check.

use super::AmcheckOptions;
use super::index::GIN;
use super::task::Task;
use crate::server::amcheck::{Amcheck, Deep, Function};
use crate::server::catalog::{Checkable, Checks};
use crate::server::files::FileOf;
use crate::server::relation::sizes;
use crate::server::session::{ServerFacts, Session};
use crate::verify::VerifyError;
use crate::verify::names::chosen;
use crate::verify::report::kind;
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

/// `HEAP_TABLE_AM_OID`; before PostgreSQL 12 there was no other, and no number.
const HEAP: u32 = 2;

/// `BTREE_AM_OID`.
const BTREE: u32 = 403;

/// Sequences are heaps to `verify_heapam` since this version of the server.
const SEQUENCES: u32 = 150_000;

pub(super) struct Listed {
    pub todo: VecDeque<Task>,
    pub not_checked: Vec<Task>,
    /// All relations of the database, chosen or not.
    pub all: Vec<FileOf>,
}

pub(super) async fn list(
    session: &Session,
    found: Checks,
    amcheck: &Amcheck,
    deep: Deep,
    options: &AmcheckOptions,
) -> Result<Listed, VerifyError> {
    let owners: Vec<_> = found.relations.iter().map(|r| (r.oid, r.owner)).collect();
    let chosen = chosen(session, &options.selection, &owners).await?;
    let all: Vec<FileOf> = found.relations.iter().map(file_of).collect();
    let is_chosen = |r: &Checkable| chosen.as_ref().is_none_or(|c| c.contains(&r.oid));
    let relations: Vec<Checkable> = found.relations.into_iter().filter(is_chosen).collect();
    session.renew_snapshot().await?;
    session.save().await?;
    let oids: Vec<u32> = relations.iter().map(|r| r.oid).collect();
    let sizes: BTreeMap<u32, u32> = sizes(session, &oids).await?.into_iter().collect();
    let mut toast: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let owned = |r: &FileOf| r.owner.map(|owner| (owner, r.oid));
    let index_of: BTreeMap<u32, u32> = all
        .iter()
        .filter(|r| r.schema == "pg_toast" && r.relkind == 'i')
        .filter_map(owned)
        .collect();
    for (owner, oid) in all.iter().filter(|r| r.relkind == 't').filter_map(owned) {
        toast
            .entry(owner)
            .or_default()
            .extend([oid].into_iter().chain(index_of.get(&oid).copied()));
    }
    let mut todo = Vec::new();
    let mut not_checked = Vec::new();
    for relation in relations {
        let why = not_checkable(&relation, amcheck, deep, session.server());
        let blocks = sizes.get(&relation.oid).copied().unwrap_or(relation.pages_estimated);
        let kind = kind(&file_of(&relation));
        let mut task = Task::new(relation, kind, blocks);
        task.toast_oids = toast.remove(&task.object.oid).unwrap_or_default();
        match why {
            None => todo.push(task),
            Some(why) => {
                task.refuse(why);
                not_checked.push(task);
            }
        }
    }
    todo.sort_by_key(|task| {
        let oid = task.object.oid;
        (options.last_ok.get(&oid).copied(), Reverse(task.blocks), oid)
    });
    Ok(Listed { todo: todo.into(), not_checked, all })
}

pub(super) fn file_of(relation: &Checkable) -> FileOf {
    FileOf {
        oid: relation.oid,
        schema: relation.schema.clone(),
        name: relation.name.clone(),
        relkind: relation.relkind,
        access_method: relation.access_method,
        owner: relation.owner,
    }
}

/// Why a relation cannot be checked, if it cannot.
fn not_checkable(
    relation: &Checkable,
    amcheck: &Amcheck,
    deep: Deep,
    server: &ServerFacts,
) -> Option<String> {
    let is_index = relation.relkind == 'i';
    let b_tree = if deep.rootdescend { Function::BTreeParent } else { Function::BTree };
    let method = relation.access_method;
    let function = match (is_index, method) {
        (true, BTREE) => b_tree,
        (true, GIN) => Function::Gin,
        (true, _) => {
            return Some(format!("amcheck checks no indexes of kind {}", relation.method));
        }
        (false, 0 | HEAP) => Function::Heap,
        (false, _) => {
            let method = &relation.method;
            return Some(format!("amcheck checks no tables with access method {method}"));
        }
    };
    if relation.unlogged && server.in_recovery {
        return Some("unlogged: a standby does not have its rows".to_owned());
    }
    if !amcheck.has(function) {
        let (version, name) = (&amcheck.version, amcheck.name(function));
        return Some(format!("version {version} of amcheck has no {name}"));
    }
    if !amcheck.may(function) {
        return Some(format!("this role may not call {}", amcheck.name(function)));
    }
    if relation.relkind == 'S' && server.version < SEQUENCES {
        return Some("before PostgreSQL 15 amcheck checks no sequences".to_owned());
    }
    let not_valid = "not valid: it was not made to its end, and no query uses it";
    (!relation.valid).then(|| not_valid.to_owned())
}
