//! When each relation was last found clean, at which level: kept in a small file
//! from night to night, so that the oldest come first.
//!
//! The file is one JSON object; a relation is called by the OIDs of its database
//! (0: shared) and its own. It is written in place of the old one when a level of
//! a database is done, so a run that is killed loses what that level had found.

use super::NightlyError;
use crate::output::manifest::ReadBlocks;
use crate::output::one_file::{read_one, write_one};
use crate::report::model::{Level, Oldest, Relation, Status};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const FORMAT_VERSION: u32 = 1;

/// A file that is longer is none of ours: a relation takes some 300 bytes.
const BYTES_MAX: u64 = 1 << 30;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    format_version: u32,
    /// Of the cluster that it is about.
    system_identifier: Option<String>,
    relations: BTreeMap<String, Seen>,
}

/// A relation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    database: Option<String>,
    schema: String,
    name: String,
    levels: BTreeMap<Level, Times>,
}

/// Of one level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Times {
    /// When it was known to be there.
    first_seen: Timestamp,
    last_ok: Option<Timestamp>,
    /// What was found clean of it, before the time was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<Begun>,
}

/// A part of a relation, from its beginning on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Begun {
    /// When the first of it was looked at: it is as old as that.
    at: Timestamp,
    read: ReadBlocks,
}

impl Times {
    /// Takes in what came of it, and what was looked at in a row.
    fn take(&mut self, status: Status, read: Option<&ReadBlocks>, now: Timestamp) {
        let went_on =
            |begun: &Begun| read.is_some_and(|r| r.from > 0 && r.filenode == begun.read.filenode);
        let begun_at = self.begun.as_ref().filter(|b| went_on(b)).map_or(now, |begun| begun.at);
        match (status, read) {
            (Status::Clean, _) => (self.last_ok, self.begun) = (Some(begun_at), None),
            (Status::NotReached, Some(&read)) if read.to > read.from => {
                let read = ReadBlocks { from: 0, ..read };
                self.begun = Some(Begun { at: begun_at, read });
            }
            // It was left alone, or there was no time for more.
            (Status::NotReached, _) => {}
            _ => self.begun = None,
        }
    }

    /// Since when it is not known to be clean.
    fn since(&self) -> Timestamp {
        self.last_ok.unwrap_or(self.first_seen)
    }
}

impl State {
    /// Of a file; an empty one where there is none yet.
    pub(super) fn read(path: &Path) -> Result<Self, NightlyError> {
        let wrong = |why: String| NightlyError::File { path: path.to_owned(), why };
        let state = match read_one(path, BYTES_MAX) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            state => state.map_err(|e| wrong(e.to_string()))?,
        };
        let state: Self = serde_json::from_slice(&state).map_err(|e| wrong(e.to_string()))?;
        match state.format_version {
            FORMAT_VERSION => Ok(state),
            other => Err(wrong(format!("it has format version {other}"))),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), NightlyError> {
        let wrong = |why: String| NightlyError::File { path: path.to_owned(), why };
        let json = serde_json::to_vec(self).map_err(|e| wrong(e.to_string()))?;
        write_one(path, &json).map_err(|e| wrong(e.to_string()))
    }

    /// It must be of this cluster: OIDs mean nothing in another.
    pub(super) fn claim(&mut self, cluster: Option<&str>, path: &Path) -> Result<(), NightlyError> {
        if let (Some(own), Some(other)) = (&self.system_identifier, cluster)
            && own != other
        {
            let why = format!("it is of another cluster ({own}) than the server ({other})");
            return Err(NightlyError::File { path: path.to_owned(), why });
        }
        self.format_version = FORMAT_VERSION;
        self.system_identifier = cluster.map(str::to_owned).or(self.system_identifier.take());
        Ok(())
    }

    /// When relations of a database were last found clean at a level, by OID.
    pub(super) fn last_ok(&self, database: u32, level: Level) -> BTreeMap<u32, Timestamp> {
        let of = self
            .of(database)
            .filter_map(|(oid, seen)| Some((oid, seen.levels.get(&level)?.last_ok?)));
        of.collect()
    }

    /// Since when a relation of a database is not known to be clean at a level.
    /// None: something was never looked at.
    pub(super) fn oldest_of(&self, database: u32, level: Level) -> Option<Timestamp> {
        let mut times = self.of(database).filter_map(|(_, seen)| seen.levels.get(&level));
        let first = times.next()?.last_ok?;
        times.try_fold(first, |oldest, times| Some(oldest.min(times.last_ok?)))
    }

    /// What was read of relations of a database, that is not to be read again.
    pub(super) fn begun(&self, database: u32, level: Level) -> BTreeMap<u32, ReadBlocks> {
        let of = self.of(database);
        let of = of.filter_map(|(oid, s)| Some((oid, s.levels.get(&level)?.begun.as_ref()?.read)));
        of.collect()
    }

    fn of(&self, database: u32) -> impl Iterator<Item = (u32, &Seen)> {
        let prefixes = [format!("{database}/"), "0/".to_owned()];
        self.relations.iter().filter_map(move |(key, seen)| {
            let oid = prefixes.iter().find_map(|prefix| key.strip_prefix(prefix.as_str()))?;
            Some((oid.parse().ok()?, seen))
        })
    }

    /// Takes in what came of a level of a database, of which all relations that
    /// have it are listed, but for those that no relation is known of.
    pub(super) fn note(
        &mut self,
        (database, level): (u32, Level),
        (relations, read): (&[Relation], &BTreeMap<u32, ReadBlocks>),
        now: Timestamp,
    ) {
        let mut listed = BTreeSet::new();
        for r in relations.iter().filter(|r| r.oid > 0 && r.status != Status::Skipped) {
            let key = format!("{}/{}", if r.database.is_some() { database } else { 0 }, r.oid);
            let seen = self.relations.entry(key.clone()).or_insert_with(|| Seen {
                database: r.database.clone(),
                schema: String::new(),
                name: String::new(),
                levels: BTreeMap::new(),
            });
            (seen.schema, seen.name) = (r.schema.clone(), r.name.clone());
            let unknown = || Times { first_seen: now, last_ok: None, begun: None };
            let times = seen.levels.entry(level).or_insert_with(unknown);
            times.take(r.status, read.get(&r.oid), now);
            listed.insert(key);
        }
        // The others are gone.
        let prefix = format!("{database}/");
        for (key, seen) in &mut self.relations {
            if key.starts_with(&prefix) && !listed.contains(key) {
                seen.levels.remove(&level);
            }
        }
        self.relations.retain(|_, seen| !seen.levels.is_empty());
    }

    /// When a relation was last found clean at all of these levels that it has.
    pub(super) fn last_ok_at(
        &self,
        (database, oid): (u32, u32),
        levels: &[Level],
    ) -> Option<Timestamp> {
        let seen = self.relations.get(&format!("{database}/{oid}"))?;
        let mut times = levels.iter().filter_map(|level| seen.levels.get(level));
        let first = times.next()?.last_ok?;
        times.try_fold(first, |oldest, times| Some(oldest.min(times.last_ok?)))
    }

    /// The relation that was not found clean for longest, at these levels.
    pub(super) fn oldest(&self, levels: &[Level]) -> Option<Oldest> {
        let all = self.relations.values().flat_map(|seen| {
            let times = levels.iter().filter_map(|level| seen.levels.get(level));
            times.map(move |times| (seen, times))
        });
        let (seen, times) =
            all.min_by_key(|(_, times)| (times.since(), times.last_ok.is_some()))?;
        Some(Oldest {
            database: seen.database.clone(),
            schema: seen.schema.clone(),
            name: seen.name.clone(),
            since: times.since(),
            never: times.last_ok.is_none(),
        })
    }

    /// Forgets databases that are gone.
    pub(super) fn keep_databases(&mut self, oids: &BTreeSet<u32>) {
        let database = |key: &str| key.split_once('/').and_then(|(oid, _)| oid.parse().ok());
        self.relations
            .retain(|key, _| database(key).is_some_and(|oid| oid == 0 || oids.contains(&oid)));
    }
}

#[cfg(test)]
mod tests;
