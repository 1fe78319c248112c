//! Which kind of object a finding is of, for the advice.

use super::group::{Group, Subject};
use super::path::{Fork, RelationFile, catalog_of_initdb};
use super::wording::Kind;
use crate::advice::object::Object;
use crate::server::whose_file::{FIRST_NORMAL_OID, Owner, STATISTIC_OID};

/// SIGKILL.
const KILL: u32 = 9;

/// What initdb calls the files of `pg_statistic` and of what belongs to it.
const STATISTIC_FILES: [u32; 4] = [STATISTIC_OID, 2696, 2840, 2841];

pub(super) fn object(group: &Group, owner: Option<&Owner>) -> Object {
    match &group.subject {
        Subject::File(file) => of_file(file, owner),
        Subject::Toast { table, .. } if *table == STATISTIC_OID => Object::Statistic,
        Subject::Toast { .. } => Object::Toast,
        Subject::Named { .. } if owner.is_none() => match () {
            () if group.has(Kind::IndexDamage) => Object::Index,
            () if group.has(Kind::SequenceDamage) => Object::Sequence,
            () => Object::Heap,
        },
        Subject::Named { .. } => of_owner(owner),
        Subject::Slru(_) => Object::TransactionStatus,
        Subject::Wal => Object::Wal,
        Subject::Process(KILL) => Object::Killed,
        Subject::Process(_) => Object::Crash,
        Subject::Unnamed(Kind::AllocSize | Kind::CompressedData | Kind::PagePointers) => {
            Object::Length
        }
        Subject::Unnamed(_) => Object::Unknown,
    }
}

fn of_file(file: &RelationFile, owner: Option<&Owner>) -> Object {
    if file.backend.is_some() {
        return Object::Temporary;
    }
    match (file.fork, owner) {
        (Fork::VisibilityMap | Fork::FreeSpaceMap, _) => Object::Map,
        (Fork::Init, _) => Object::Init,
        (Fork::Main, Some(_)) => of_owner(owner),
        (Fork::Main, None) if STATISTIC_FILES.contains(&file.filenode) => Object::Statistic,
        (Fork::Main, None) if is_index_of_initdb(file.filenode) => Object::CatalogIndex,
        (Fork::Main, None) if file.filenode < FIRST_NORMAL_OID => Object::Catalog,
        // It may be an index or a table: the advice differs.
        (Fork::Main, None) => Object::Unknown,
    }
}

fn is_index_of_initdb(filenode: u32) -> bool {
    catalog_of_initdb(filenode).is_some_and(|name| name.ends_with("_index"))
}

fn of_owner(owner: Option<&Owner>) -> Object {
    let Some(owner) = owner else { return Object::Unknown };
    let belongs_to = owner.table.as_ref().unwrap_or(&owner.relation);
    match owner.kind {
        _ if belongs_to.oid == STATISTIC_OID => Object::Statistic,
        'i' | 'I' if owner.is_catalog() => Object::CatalogIndex,
        'i' | 'I' if owner.is_toast => Object::ToastIndex,
        'i' | 'I' if owner.is_exclusion => Object::ExclusionIndex,
        'i' | 'I' => Object::Index,
        _ if owner.persistence == 't' => Object::Temporary,
        _ if owner.is_catalog() => Object::Catalog,
        't' => Object::Toast,
        'S' => Object::Sequence,
        _ => Object::Heap,
    }
}
