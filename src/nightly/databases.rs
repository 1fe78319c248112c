//! Which databases there are, and what a turn has found in one.

use super::{Nightly, NightlyError, Turn};
use crate::output::manifest::{ReadBlocks, RunStatus};
use crate::report::model::{self, Database, Level, Pages, Relation, Status};
use crate::server::catalog;
use crate::server::session::{ServerFacts, Session};
use crate::verify::{Looked, VerifyError};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Relations that all databases have in common: the same in each.
const SHARED: &str = "SELECT oid FROM pg_catalog.pg_class WHERE relisshared";

/// A database that is to be looked at.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub oid: u32,
    pub name: String,
    pub allows_connections: bool,
}

impl Asked {
    /// Without a connection there are only files.
    pub(super) fn has(&self, level: Level) -> bool {
        self.allows_connections || level == Level::Pages
    }
}

/// What came of a turn.
pub(super) struct Found {
    pub server: model::Server,
    pub pages: Option<Pages>,
    pub relations: Vec<Relation>,
    pub notes: Vec<String>,
    /// Of relations that are large, by OID: which blocks were looked at in a row.
    pub read: BTreeMap<u32, ReadBlocks>,
    /// Whether something that is no relation could not be looked at, or is
    /// damaged.
    pub status: RunStatus,
}

impl From<Looked> for Found {
    fn from(looked: Looked) -> Self {
        let server = of_server(&looked.server);
        let Looked { pages, relations, mut notes, read, .. } = looked;
        notes.extend(gone_on_with(&relations, &read));
        Self { server, pages: Some(pages), relations, notes, read, status: RunStatus::Clean }
    }
}

/// A note for each relation of which only a part was looked at, since the rest was
/// before.
pub(super) fn gone_on_with(
    relations: &[Relation],
    read: &BTreeMap<u32, ReadBlocks>,
) -> Vec<String> {
    let part = |relation: &Relation| {
        let from = read.get(&relation.oid).map(|read| read.from).filter(|&from| from > 0)?;
        Some(format!(
            "relation \"{}\" was read from block {from} on: what lies before was read earlier",
            relation.title()
        ))
    };
    relations.iter().filter_map(part).collect()
}

pub(super) fn of_server(server: &ServerFacts) -> model::Server {
    model::Server {
        version: server.version_text.clone(),
        host: String::new(),
        port: None,
        in_recovery: server.in_recovery,
        data_checksums: Some(server.data_checksums),
        block_size: server.block_size,
        system_identifier: server.system_identifier.clone(),
    }
}

fn database(name: &str, oid: u32) -> Database {
    let (name, status, pages, notes) = (name.to_owned(), RunStatus::Clean, None, Vec::new());
    Database { name, oid, status, pages, notes }
}

/// All databases of a server that was not asked.
pub(super) fn nameless() -> Database {
    database("", 0)
}

impl Nightly {
    /// Asks the server which databases there are.
    pub(super) async fn find_databases(&mut self) -> Result<(), NightlyError> {
        let session = Session::open(&self.target, self.options.rows.timeouts, None).await?;
        let server = session.server().clone();
        self.server = Some(of_server(&server));
        match session.rows(SHARED).await {
            Ok(oids) => {
                let oids = oids.into_iter().flatten().flatten();
                self.shared_oids = oids.filter_map(|oid| oid.parse().ok()).collect();
            }
            // Each database then seems to have its own.
            Err(_) => session.renew_snapshot().await?,
        }
        if let Some(path) = &self.options.window.state {
            self.state.claim(server.system_identifier.as_deref(), path)?;
            self.save_state()?;
        }
        self.asked = vec![Asked {
            oid: server.database_oid,
            name: server.database.clone(),
            allows_connections: true,
        }];
        if self.options.all {
            session.save().await?;
            let (all, damaged) =
                catalog::databases(&session).await.map_err(crate::run::RunError::from)?;
            self.notes.extend(damaged.iter().map(ToString::to_string));
            let of = |d: catalog::DatabaseOf| {
                let catalog::DatabaseOf { oid, name, allows_connections } = d;
                Asked { oid, name, allows_connections }
            };
            self.asked = all.into_iter().map(of).collect();
            if damaged.is_empty() {
                let oids: BTreeSet<u32> = self.asked.iter().map(|asked| asked.oid).collect();
                self.state.keep_databases(&oids);
            }
        }
        self.databases = self.asked.iter().map(|d| database(&d.name, d.oid)).collect();
        Ok(())
    }

    pub(super) fn take_in(&mut self, turn: Turn, found: Found) {
        let Found { server, pages, mut relations, notes, read, status } = found;
        for relation in relations.iter_mut().filter(|r| self.shared_oids.contains(&r.oid)) {
            relation.database = None;
        }
        if turn.level != Level::Rows {
            log(turn.level, &relations);
        }
        self.server.get_or_insert(server);
        let database = &mut self.databases[turn.database];
        database.pages = database.pages.or(pages);
        database.status = worst(database.status, status);
        database.notes.extend(notes);
        self.state.note((database.oid, turn.level), (&relations, &read), Timestamp::now());
        self.relations.add_all(relations);
    }

    pub(super) fn not_reached(&mut self, turn: Turn) {
        let database = &mut self.databases[turn.database];
        database.notes.push(format!("level {} was not reached", word(turn.level)));
        self.missed = true;
        self.relations.not_reached(&database.name, turn.level);
    }

    /// A turn could not be begun, or not be done. Returns the error, unless that
    /// was to be expected.
    pub(super) fn failed(&mut self, turn: Turn, error: NightlyError) -> Option<NightlyError> {
        let database = &mut self.databases[turn.database];
        let is_right = matches!(&error, NightlyError::Pages(VerifyError::Forbidden(_)));
        let is_alone = self.options.levels.len() == 1;
        let note = format!("level {} was left out: {error}", word(turn.level));
        if is_right && !is_alone {
            // Who may not read files is told so, and has all the rest.
            let notes = if self.options.all { &mut database.notes } else { &mut self.notes };
            notes.push(note);
            return None;
        }
        tracing::info!("database \"{}\": {note}", database.name);
        database.notes.push(note);
        database.status = worst(database.status, RunStatus::Incomplete);
        Some(error)
    }

    /// As it was when databases were asked for.
    pub(super) fn server(&self) -> model::Server {
        self.server.clone().unwrap_or_else(|| of_server(&ServerFacts::default()))
    }

    pub(super) fn save_state(&self) -> Result<(), NightlyError> {
        match &self.options.window.state {
            Some(path) => self.state.write(path),
            None => Ok(()),
        }
    }
}

/// Logs what is wrong with relations, one by one. Who reads rows does so while it
/// reads them.
fn log(level: Level, relations: &[Relation]) {
    let level = word(level);
    for found in relations {
        let (relation, problems) = (found.title(), found.problems_count());
        match found.status {
            Status::Damaged => tracing::warn!(
                event = "relation_damaged",
                relation,
                level,
                "relation \"{relation}\" is damaged, by its {level}: {problems} problems"
            ),
            Status::Incomplete => tracing::warn!(
                event = "relation_not_read",
                relation,
                level,
                "relation \"{relation}\" was not looked at to its end ({level}): {}",
                found.reason.as_deref().unwrap_or_default()
            ),
            Status::Skipped | Status::Clean | Status::NotReached => {}
        }
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Pages => "pages",
        Level::Rows => "rows",
        Level::Amcheck => "amcheck",
    }
}

/// Incomplete is worse than damaged: there may be more.
pub(super) fn worst(one: RunStatus, other: RunStatus) -> RunStatus {
    use RunStatus::{Clean, Damaged, Incomplete};
    match (one, other) {
        (Incomplete, _) | (_, Incomplete) => Incomplete,
        (Damaged, _) | (_, Damaged) => Damaged,
        _ => Clean,
    }
}

/// As a run would call it.
pub(super) fn of_relation(status: Status) -> RunStatus {
    match status {
        Status::Skipped | Status::Clean => RunStatus::Clean,
        Status::NotReached | Status::Incomplete => RunStatus::Incomplete,
        Status::Damaged => RunStatus::Damaged,
    }
}
