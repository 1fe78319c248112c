//! `pg_salvage list`: what a dump would read, with sizes and risks.

use crate::report::{grouped, sized};
use crate::run::RunError;
use crate::server::catalog;
use crate::server::connect::Target;
use crate::server::inventory::{Relation, Selection};
use crate::server::relation::{readable, sizes};
use crate::server::session::{Session, Timeouts};
use crate::server::whose_file;
use std::collections::HashMap;
use std::fmt::Write as _;

/// One line for each relation, in the order in which a dump reads them.
pub async fn list(
    target: &Target,
    selection: &Selection,
    timeouts: Timeouts,
) -> Result<String, RunError> {
    let session = whose_file::open(target, timeouts).await?;
    let inventory = catalog::read(&session).await?;
    inventory.damaged.iter().for_each(|damage| tracing::warn!("{damage}"));
    let mut relations: Vec<Relation> =
        inventory.relations.into_iter().filter(|r| selection.takes(r)).collect();
    let oids: Vec<u32> = relations.iter().filter(|r| r.kind.has_rows()).map(|r| r.oid).collect();
    let blocks: HashMap<u32, u32> = sizes(&session, &oids).await?.into_iter().collect();
    let block_size = u64::from(session.server().block_size);
    let size = |r: &Relation| {
        let heap = blocks.get(&r.oid).copied().unwrap_or(r.pages_estimated);
        (u64::from(heap) + u64::from(r.toast_pages_estimated)) * block_size
    };
    relations.retain(|r| !(r.kind.is_large_objects() && size(r) == 0));
    relations.sort_by_key(|r| (!r.unlogged, std::cmp::Reverse(size(r)), r.oid));
    let mut out = String::new();
    let name = |r: &Relation| r.display_name().escape_debug().to_string();
    let width = relations.iter().map(|r| name(r).chars().count()).max().unwrap_or(8).max(8);
    let _ = writeln!(
        out,
        "{:width$}  {:21}  {:>10}  {:>14}  remarks",
        "relation", "kind", "size", "rows (about)"
    );
    for r in &relations {
        let rows = match r.rows_estimated {
            0 => String::new(),
            rows => grouped(rows),
        };
        let (size, kind) = (sized(size(r)), r.kind.name());
        let line = format!(
            "{:width$}  {kind:21}  {size:>10}  {rows:>14}  {}",
            name(r),
            remarks(&session, r)
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    Ok(out)
}

fn remarks(session: &Session, r: &Relation) -> String {
    let mut remarks: Vec<String> = Vec::new();
    if let Some(why) = r.not_read(session.server().in_recovery) {
        remarks.push(format!("not read: {why}"));
    }
    if r.unlogged && r.not_read(session.server().in_recovery).is_none() && r.kind.has_rows() {
        remarks.push("unlogged: a server crash empties it".to_owned());
    }
    if r.row_security {
        remarks.push("row security: needs a role that bypasses it".to_owned());
    }
    if r.extension {
        remarks.push("belongs to an extension".to_owned());
    }
    if !r.heap {
        remarks.push("not a heap: can only be read as a whole".to_owned());
    }
    if let Err(why) = readable(session, r) {
        remarks.push(why);
    }
    if let Some(why) = &r.undescribed {
        remarks.push(format!("cannot be read: {why}"));
    }
    remarks.join("; ")
}
