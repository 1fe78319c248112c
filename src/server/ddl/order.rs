//! In which order objects can be made: by what pg_depend says, and where it
//! says nothing by their kinds.

use super::{Ddl, Item, catalog};
use crate::archive::{Entry, Section};
use crate::server::copy_text::{fields, rows_in};
use crate::server::session::ReadError;
use std::collections::{BTreeSet, HashMap};

/// So many rows of pg_depend are taken in.
const ROWS_MAX: usize = 20_000_000;

/// One row of pg_depend: an object needs another.
pub(super) struct Depend {
    pub object: (u32, u32),
    pub on: (u32, u32),
    /// The column of the other, if it is a table.
    pub on_column: u32,
    pub kind: u8,
}

impl Ddl<'_> {
    /// Reads pg_depend by plain COPY: what comes before damage counts.
    pub(super) async fn read_depend(&mut self) -> Result<(), ReadError> {
        const SQL: &str = "COPY pg_catalog.pg_depend \
            (classid, objid, refclassid, refobjid, refobjsubid, deptype) TO STDOUT (ENCODING 'SQL_ASCII')";
        let came = self.copy_depend(SQL).await;
        if let Err(error) = came {
            if error.sqlstate().is_empty() {
                return Err(error);
            }
            self.session.leave_relation().await?;
            self.lose("DEPENDENCIES", "pg_depend".to_owned(), error.words());
        }
        let members = self.depends.iter().filter(|depend| depend.kind == b'e');
        self.of_extension = members.map(|depend| depend.object).collect();
        Ok(())
    }

    async fn copy_depend(&mut self, sql: &str) -> Result<(), ReadError> {
        let session = self.session;
        let mut rows = session.copy(sql).await?;
        while let Some(bytes) = rows.next().await? {
            for line in rows_in(&bytes) {
                if self.depends.len() < ROWS_MAX {
                    self.depends.extend(depend(line));
                }
            }
        }
        Ok(())
    }
}

fn depend(line: &[u8]) -> Option<Depend> {
    let mut fields = fields(line).flatten();
    let mut number = || std::str::from_utf8(&fields.next()?).ok()?.parse::<u32>().ok();
    let (object, on) = ((number()?, number()?), (number()?, number()?));
    let on_column = number()?;
    let kind = fields.next()?.first().copied()?;
    Some(Depend { object, on, on_column, kind })
}

/// The entries, each behind what it needs, with dump ids and dependencies.
pub(super) fn entries(
    items: Vec<Item>,
    depends: &[Depend],
    parts: &HashMap<(u32, u32), (u32, u32)>,
) -> Vec<Entry> {
    let at: HashMap<(u32, u32), usize> =
        items.iter().enumerate().map(|(i, item)| (key(&item.entry), i)).filter(is_object).collect();
    // A row type of a table, the default of a column: what they are a part of.
    let whole = |object: (u32, u32)| {
        let mut object = object;
        for _ in 0..4 {
            match parts.get(&object) {
                Some(whole) if !at.contains_key(&object) => object = *whole,
                _ => break,
            }
        }
        at.get(&object).copied()
    };
    let mut needs: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); items.len()];
    for depend in depends {
        if let (Some(object), Some(on)) = (whole(depend.object), whole(depend.on)) {
            needs[object].insert(on);
        }
    }
    for (i, item) in items.iter().enumerate() {
        needs[i].extend(item.needs.iter().filter_map(|object| whole(*object)));
        needs[i].remove(&i);
        // A table and a sequence that it owns: the table first.
        if item.entry.desc == "TABLE" {
            needs[i].retain(|&on| items[on].entry.desc != "SEQUENCE");
        }
    }
    let order = sorted(&items, &needs);
    let mut ids = vec![0; items.len()];
    for (id, &i) in (1..).zip(&order) {
        ids[i] = id;
    }
    let mut entries: Vec<Option<Entry>> = items.into_iter().map(|item| Some(item.entry)).collect();
    let mut ordered = Vec::new();
    for &i in &order {
        let Some(mut entry) = entries[i].take() else { continue };
        entry.dump_id = ids[i];
        // In a circle, one of them is made before what it needs.
        entry.dependencies = needs[i].iter().map(|&on| ids[on]).filter(|&id| id < ids[i]).collect();
        ordered.push(entry);
    }
    ordered
}

/// Some entries, and some rows of pg_depend, are of no object of their own.
fn is_object((key, _): &((u32, u32), usize)) -> bool {
    key.0 != 0
}

fn key(entry: &Entry) -> (u32, u32) {
    (entry.catalog, entry.oid)
}

/// Of those that need nothing more, always the first by section, kind and name;
/// where there is a circle, its first.
fn sorted(items: &[Item], needs: &[BTreeSet<usize>]) -> Vec<usize> {
    let rank = |i: usize| {
        let Item { entry, rank, .. } = &items[i];
        (entry.section == Section::PostData, *rank, &entry.namespace, &entry.tag, i)
    };
    let mut waits: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    for (i, on) in needs.iter().enumerate() {
        on.iter().for_each(|&on| needed_by[on].push(i));
    }
    let mut left: BTreeSet<_> = (0..items.len()).map(rank).collect();
    let mut ready: BTreeSet<_> = left.iter().filter(|r| waits[r.4] == 0).copied().collect();
    let mut order = Vec::with_capacity(items.len());
    while let Some(next) = ready.pop_first().or_else(|| left.first().copied()) {
        left.remove(&next);
        order.push(next.4);
        for &i in &needed_by[next.4] {
            waits[i] = waits[i].saturating_sub(1);
            if waits[i] == 0 && left.contains(&rank(i)) {
                ready.insert(rank(i));
            }
        }
    }
    order
}

/// Whether a column owns an object: the table, its column, and whether it is an
/// identity.
pub(super) fn owned_by(depends: &[Depend], sequence: u32) -> Option<(u32, u32, bool)> {
    depends.iter().find_map(|d| {
        let is_owned = d.object == (catalog::CLASS, sequence)
            && d.on.0 == catalog::CLASS
            && d.on_column > 0
            && matches!(d.kind, b'a' | b'i');
        is_owned.then_some((d.on.1, d.on_column, d.kind == b'i'))
    })
}
