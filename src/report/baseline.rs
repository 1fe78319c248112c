//! What is different from an earlier report: damage that is new, damage that is
//! gone, and what else nobody may have noticed.
//!
//! A run that has not come to a relation knows no better than the last one that
//! has: damage that was found then is kept ([`carry`]), and is neither new nor
//! healed.

use super::model::{Baseline, Change, ChangeKind, Level, Problem, Relation, Report, Status};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What tells relations apart.
type Key<'a> = (Option<&'a str>, &'a str, &'a str);

/// What tells problems apart: their words may differ from run to run.
type Place<'a> = (Level, Option<&'a str>, Option<u32>, Option<&'a str>, Option<&'a str>, &'a str);

/// What is asked of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// A relation may have lost so many of a hundred rows.
    pub rows_fell_percent: u8,
    /// Whether the later report lists all relations of its databases: else one
    /// that it does not list may still be there.
    pub lists_all: bool,
}

/// Takes damage over that an earlier report has, of relations that were not
/// looked at since, at the level that found it. `lists_all`: as in [`Compared`].
pub fn carry(now: &mut Report, then: &Report, lists_all: bool) {
    let owned = |r: &Relation| (r.database.clone(), r.schema.clone(), r.name.clone());
    let known: BTreeMap<_, &Relation> = then.relations.iter().map(|r| (owned(r), r)).collect();
    let when = then.finished.unwrap_or(then.started);
    let unlisted: Vec<Relation> = {
        let (found, listed) = (by_key(now), Listed::of(now, lists_all));
        let is_open = |r: &&Relation| {
            r.status == Status::Damaged && !found.contains_key(&r.key()) && !listed.has_all_like(r)
        };
        then.relations.iter().filter(is_open).map(unread).collect()
    };
    now.relations.extend(unlisted);
    now.relations.sort_by(|a, b| (a.key(), a.oid).cmp(&(b.key(), b.oid)));
    for relation in &mut now.relations {
        if let Some(earlier) = known.get(&owned(relation)) {
            carry_one(relation, earlier, when);
        }
    }
}

/// As it is listed before anybody has looked at it.
fn unread(earlier: &Relation) -> Relation {
    let Relation { database, schema, name, kind, .. } = earlier;
    Relation {
        oid: earlier.oid,
        owner: earlier.owner.clone(),
        blocks: earlier.blocks,
        bytes: earlier.bytes,
        last_ok: earlier.last_ok,
        ..Relation::named(database.as_deref(), schema, name, kind)
    }
}

fn carry_one(relation: &mut Relation, earlier: &Relation, when: Timestamp) {
    let is_open = |p: &&Problem| !relation.levels.contains(&p.level);
    let open: Vec<Problem> = earlier.problems.iter().filter(is_open).cloned().collect();
    if earlier.status != Status::Damaged || open.is_empty() {
        return;
    }
    if relation.status != Status::Damaged {
        relation.status = Status::Damaged;
        relation.reason = Some(match &earlier.reason {
            Some(reason) if reason.starts_with(CARRIED) => reason.clone(),
            _ => format!("{CARRIED}, and not looked at since, by the run that ended {when}"),
        });
        relation.blocks.damaged = relation.blocks.damaged.max(earlier.blocks.damaged);
        relation.blocks.lost = relation.blocks.lost.max(earlier.blocks.lost);
        relation.map.clone_from(&earlier.map);
        relation.advice.clone_from(&earlier.advice);
    }
    open.into_iter().for_each(|problem| relation.add_problem(problem));
    relation.problems_omitted = relation.problems_omitted.max(earlier.problems_omitted);
}

/// Of which databases a report lists all relations that have a level.
struct Listed<'a>(BTreeSet<(Option<&'a str>, Level)>);

impl<'a> Listed<'a> {
    /// `lists_all`: as in [`Compared`].
    fn of(report: &'a Report, lists_all: bool) -> Self {
        let levels = |r: &'a Relation| r.levels.iter().map(|l| (r.database.as_deref(), *l));
        let relations = report.relations.iter().filter(|_| lists_all);
        Self(relations.flat_map(levels).collect())
    }

    /// Whether it would be listed, were it still there.
    fn has_all_like(&self, earlier: &Relation) -> bool {
        let database = earlier.database.as_deref();
        earlier.levels.iter().any(|&level| self.0.contains(&(database, level)))
    }
}

/// Why a relation is damaged that this run has not looked at.
const CARRIED: &str = "damage was found";

/// Compares two reports, after damage was taken over ([`carry`]).
pub fn compare(now: &Report, then: &Report, how: Compared) -> Baseline {
    let (known, found) = (by_key(then), by_key(now));
    let mut changes = Vec::new();
    for relation in &now.relations {
        let earlier = known.get(&relation.key()).copied();
        let mut note = |kind, message| changes.push(change(kind, relation, message));
        if let Some(message) = new_damage(relation, earlier) {
            note(ChangeKind::NewDamage, message);
        }
        let Some(earlier) = earlier else { continue };
        if earlier.status == Status::Damaged && relation.status == Status::Clean {
            note(ChangeKind::Healed, "it was damaged, and is not any more".to_owned());
        }
        if let Some(message) = rows_fell(relation, earlier, how.rows_fell_percent) {
            note(ChangeKind::RowsFell, message);
        }
        if !now.server.in_recovery && !then.server.in_recovery && is_changed(relation, earlier) {
            let message = "its contents are others, although the statistics know of no write";
            note(ChangeKind::ContentChanged, message.to_owned());
        }
    }
    let listed = Listed::of(now, how.lists_all);
    let is_gone = |r: &&Relation| {
        // Files and TOAST tables come and go with what they are of.
        let has_name = r.oid > 0 && r.schema != "pg_toast";
        has_name && !found.contains_key(&r.key()) && listed.has_all_like(r)
    };
    let gone = then.relations.iter().filter(is_gone);
    changes
        .extend(gone.map(|r| change(ChangeKind::Gone, r, "it is not there any more".to_owned())));
    changes.sort_by(|a, b| {
        (a.kind, &a.database, &a.schema, &a.name).cmp(&(b.kind, &b.database, &b.schema, &b.name))
    });
    Baseline { started: then.started, changes }
}

fn by_key(report: &Report) -> BTreeMap<Key<'_>, &Relation> {
    report.relations.iter().map(|r| (r.key(), r)).collect()
}

fn change(kind: ChangeKind, of: &Relation, message: String) -> Change {
    let (database, schema, name) = (of.database.clone(), of.schema.clone(), of.name.clone());
    Change { kind, database, schema, name, message }
}

fn new_damage(now: &Relation, then: Option<&Relation>) -> Option<String> {
    if now.status != Status::Damaged {
        return None;
    }
    let count = Relation::problems_count;
    let Some(then) = then.filter(|r| r.status == Status::Damaged) else {
        return Some(format!("it is damaged: {} places", count(now)));
    };
    let known: BTreeSet<Place<'_>> = then.problems.iter().map(place).collect();
    // What was not listed may be any of these.
    let new = match then.problems_omitted {
        0 => now.problems.iter().filter(|p| !known.contains(&place(p))).count() as u64,
        _ => count(now).saturating_sub(count(then)),
    };
    (new > 0).then(|| format!("{new} places are damaged that were not"))
}

fn place(p: &Problem) -> Place<'_> {
    let (fork, ctid, column) = (p.fork.as_deref(), p.ctid.as_deref(), p.column.as_deref());
    (p.level, fork, p.first_block, ctid, column, &p.cause)
}

fn rows_fell(now: &Relation, then: &Relation, percent: u8) -> Option<String> {
    if now.status != Status::Clean {
        return None;
    }
    let count = |r: &Relation| {
        let rows = r.rows.filter(|_| r.levels.contains(&Level::Rows))?;
        Some(rows.total())
    };
    let (now, then) = (count(now)?, count(then)?);
    let least = u128::from(then) * u128::from(100 - percent.min(100)) / 100;
    (u128::from(now) < least).then(|| format!("it has {now} rows, and had {then}"))
}

fn is_changed(now: &Relation, then: &Relation) -> bool {
    let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
    let (Some(written), Some(before)) = (&now.written, &then.written) else { return false };
    // Counted before the earlier rows were read, and after the later ones were.
    let same = written.after == before.before
        && written.reset == before.reset
        && written.relfilenode == before.relfilenode;
    same && differ(&now.content_hash, &then.content_hash)
}

#[cfg(test)]
mod tests;
