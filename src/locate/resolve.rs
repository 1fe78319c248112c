//! Names for what was found, from the catalogs of the server; each database that
//! the findings are of is asked once.

use super::group::{Group, Subject};
use super::path::GLOBAL_TABLESPACE;
use crate::server::connect::Target;
use crate::server::session::{Session, Timeouts};
use crate::server::whose_file::{self, Owner, Wanted};
use std::collections::BTreeMap;

/// So many objects are looked up. More are damaged only where all is.
const LOOKED_UP_MAX: usize = 2000;

/// Sessions in so many other databases are begun.
const DATABASES_MAX: usize = 50;

/// What the server knows of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    pub database: Option<String>,
    /// Several, where only a bare name is known, and several relations have it.
    pub owners: Vec<Owner>,
    /// Why there is no name, or why it may be another.
    pub note: Option<String>,
}

/// Looks up all of them. Nothing that fails here ends anything.
pub(super) async fn resolve(
    target: &Target,
    timeouts: Timeouts,
    session: &Session,
    groups: &[Group],
) -> Vec<Resolved> {
    let databases: BTreeMap<u32, String> = match whose_file::databases(session).await {
        Ok(databases) => databases.into_iter().collect(),
        Err(_) => {
            let _ = session.leave_relation().await;
            BTreeMap::new()
        }
    };
    let here = session.server().database.clone();
    let mut resolved = vec![Resolved::default(); groups.len()];
    let mut elsewhere: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, group) in groups.iter().enumerate().take(LOOKED_UP_MAX) {
        let database = match &group.subject {
            Subject::File(file) if file.database == 0 => Some(here.clone()),
            Subject::File(file) => match databases.get(&file.database) {
                Some(name) => Some(name.clone()),
                None => {
                    let oid = file.database;
                    resolved[i].note = Some(format!("there is no database with OID {oid} now"));
                    continue;
                }
            },
            Subject::Toast { database, .. } | Subject::Named { database, .. } => {
                Some(database.clone().unwrap_or_else(|| here.clone()))
            }
            _ => None,
        };
        let Some(database) = database else { continue };
        if database == here {
            look_up(session, group, &mut resolved[i]).await;
        } else {
            elsewhere.entry(database.clone()).or_default().push(i);
        }
        let is_shared = matches!(&group.subject, Subject::File(file) if file.database == 0);
        resolved[i].database = (!is_shared).then_some(database);
    }
    for (n, (database, members)) in elsewhere.into_iter().enumerate() {
        let opened = match n < DATABASES_MAX {
            true => whose_file::open(&target.with_dbname(&database), timeouts)
                .await
                .map_err(|e| e.to_string()),
            false => Err("too many databases to ask each: give it with -d".to_owned()),
        };
        for i in members {
            match &opened {
                Ok(session) => look_up(session, &groups[i], &mut resolved[i]).await,
                Err(e) => resolved[i].note = Some(e.clone()),
            }
        }
    }
    resolved
}

async fn look_up(session: &Session, group: &Group, resolved: &mut Resolved) {
    let wanted = match &group.subject {
        Subject::File(file) => Wanted::File {
            tablespace: file.tablespace,
            filenode: file.filenode,
            is_temporary: file.backend.is_some(),
        },
        Subject::Toast { table, .. } => Wanted::ToastOf(*table),
        Subject::Named { name, .. } => Wanted::Named(name),
        _ => return,
    };
    match whose_file::owners(session, wanted).await {
        Ok(owners) => resolved.owners = owners,
        Err(e) => resolved.note = Some(format!("could not look it up: {}", e.words().one_line())),
    }
    if resolved.note.is_some() {
        return;
    }
    resolved.note = match (&group.subject, resolved.owners.len()) {
        (Subject::File(file), 0) if file.backend.is_some() => {
            Some("a temporary relation of a session that has ended".to_owned())
        }
        (Subject::File(file), 0) => {
            let of = if file.tablespace == GLOBAL_TABLESPACE {
                "no shared relation"
            } else {
                "no relation of this database"
            };
            Some(format!(
                "{of} has this file now: it was dropped, or written anew since, or its catalog row is lost"
            ))
        }
        (_, 0) => Some("no relation of this database has this name or OID now".to_owned()),
        (Subject::Named { .. }, n) if n > 1 => {
            Some(format!("{n} relations have this name: the first is shown"))
        }
        _ => None,
    };
}
