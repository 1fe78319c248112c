//! Lost rows by name for a role that may not read files: the server is asked for
//! the keys that an index-only scan gives and the readable places do not.
//!
//! On an all-visible page such a scan does not look at the heap; on another one
//! it does, and fails there if that page is damaged. The plan is looked at before
//! it is run: nothing but the index, and places that were read before.
//!
//! Where a row was is not known of these keys, nor whether its page was
//! all-visible, so none of them is certain.

use super::places::{Part, Places};
use super::scan::KEYS_MAX;
use super::{Named, Search, check};
use crate::heap::Ctid;
use crate::output::lost_keys::{LostKey, Value};
use crate::server::catalog::Index;
use crate::server::copy_text::{fields, rows_in};
use crate::server::session::{ReadError, Session};
use crate::server::sql::literal;

/// It is worth it where so many of ten pages are all-visible: else the heap is
/// visited for many rows, damage is met, and index entries are marked as dead.
const ALL_VISIBLE_TENTHS: u64 = 9;

/// PostgreSQL 14: ranges of blocks can be scanned.
const TID_RANGES: u32 = 140_000;

/// Nodes of a plan that read nothing themselves.
const READ_NOTHING: &[&str] = &[
    "Append",
    "HashSetOp",
    "Incremental Sort",
    "Merge Append",
    "Result",
    "SetOp",
    "Sort",
    "Subquery Scan",
];

/// Nodes that read places which are named in the statement.
const BY_PLACE: &[&str] = &["Tid Range Scan on", "Tid Scan on"];

const BY_INDEX: &str = "Index Only Scan using ";

/// Keys that are missing.
#[derive(Default)]
struct Missing {
    keys: Vec<LostKey>,
    /// How many more there were.
    omitted: u64,
}

impl<'a> Search<'a> {
    /// What the first unique index gives that can be read. `refused`: why files
    /// cannot. The error says why there is nothing.
    pub(super) async fn by_index_only_scan(
        mut self,
        session: &Session,
        places: &Places,
        refused: &ReadError,
    ) -> Result<Named<'a>, String> {
        let mut why = vec![refused.to_string()];
        if let Err(reason) = self.may_be_scanned(session) {
            why.push(reason);
            return Err(why.join("; "));
        }
        let unique = self.indexes.iter().filter(|i| i.unique && self.slots_of(i).len() == i.keys);
        let unique: Vec<&Index> = unique.copied().collect();
        if unique.is_empty() {
            why.push("it has no unique index of columns alone".to_owned());
        }
        for index in unique {
            let missing = match self.missing(session, index, places).await {
                Ok(missing) => missing,
                Err(e) => Err(e.to_string()),
            };
            session.leave_relation().await.map_err(|e| e.to_string())?;
            match missing {
                Ok(Missing { keys, omitted }) => {
                    let note = format!(
                        "by an index-only scan of index \"{}\", without places: {refused}",
                        index.name
                    );
                    self.slots = index.columns[..index.keys].to_vec();
                    self.indexes = vec![index];
                    self.notes.push(note);
                    self.notes.extend(why.drain(1..));
                    return Ok(Named { keys, search: self, omitted });
                }
                Err(reason) => why.push(format!("index \"{}\": {reason}", index.name)),
            }
        }
        Err(why.join("; "))
    }

    fn may_be_scanned(&self, session: &Session) -> Result<(), String> {
        if !self.crash_allowed {
            return Err("the server has gone down as often as it may (--max-crashes)".to_owned());
        }
        if session.server().version < TID_RANGES {
            return Err("before PostgreSQL 14 no ranges of blocks can be scanned".to_owned());
        }
        let all = u64::from(self.relation.pages_estimated);
        let visible = u64::from(self.relation.all_visible_estimated);
        if all == 0 || visible * 10 < all * ALL_VISIBLE_TENTHS {
            return Err(format!(
                "an index-only scan would visit the heap: {visible} of {all} pages are all-visible"
            ));
        }
        Ok(())
    }

    /// The keys that this index has and the places that were read do not.
    async fn missing(
        &self,
        session: &Session,
        index: &Index,
        places: &Places,
    ) -> Result<Result<Missing, String>, ReadError> {
        let key = self.key_of(index);
        let Some(parts) = places.parts_read() else {
            return Ok(Err("the damage is in too many places".to_owned()));
        };
        let select = statement(&key, places, &parts);
        // The one allows such paths, the other makes them cheap.
        let index = "SET LOCAL enable_indexonlyscan TO on; SET LOCAL enable_indexscan TO on";
        session.execute(index).await?;
        let plan = session.rows(&format!("EXPLAIN {select}")).await?;
        let plan: Vec<String> = plan.into_iter().flatten().flatten().collect();
        if let Err(node) = reads_places_and_index(&plan) {
            return Ok(Err(format!("the server would read the heap otherwise ({node})")));
        }
        let sql = format!("COPY ({select}) TO STDOUT (ENCODING {})", literal(key.encoding));
        let (mut copy, mut missing, mut rows) = (session.copy(&sql).await?, Missing::default(), 0);
        while let Some(bytes) = copy.next().await? {
            for row in rows_in(&bytes) {
                rows += 1;
                if missing.keys.len() >= KEYS_MAX {
                    missing.omitted += 1;
                    continue;
                }
                let value =
                    |v: Option<bstr::BString>| v.map_or(Value::Null, |v| Value::Text(v.into()));
                let values = fields(row).map(value).collect();
                missing.keys.push(LostKey { at: None, certain: false, values });
            }
        }
        copy.check(rows)?;
        Ok(Ok(missing))
    }
}

/// All keys, less those of the parts that were read, in order. `OFFSET 0` has each
/// part planned by itself: else an index might be scanned for its order, and the
/// heap be visited by that.
fn statement(key: &check::Key<'_>, places: &Places, parts: &[Part]) -> String {
    let columns = key.columns.join(", ");
    let all = format!("SELECT {columns} FROM ONLY {}", key.qualified);
    let of = |part: &Part| {
        let condition = match part {
            Part::Blocks(range) => {
                let (start, end) = (Ctid::start_of(range.start), Ctid::start_of(range.end));
                format!("ctid >= '{start}' AND ctid < '{end}'")
            }
            Part::Tuples(block) => {
                format!("ctid = ANY ('{{{}}}')", key.readable_of(places, &[*block])?)
            }
        };
        Some(format!("SELECT {columns} FROM ({all} WHERE {condition} OFFSET 0) part"))
    };
    let read: Vec<String> = parts.iter().filter_map(of).collect();
    let order: Vec<String> = (1..=key.columns.len()).map(|n| n.to_string()).collect();
    let less = match read.as_slice() {
        [] => String::new(),
        read => format!(" EXCEPT ALL ({})", read.join(" UNION ALL ")),
    };
    format!("{all}{less} ORDER BY {}", order.join(", "))
}

/// Whether by this plan an index is scanned once, and else only what is named by
/// its place. The error is the node that does otherwise.
fn reads_places_and_index(plan: &[String]) -> Result<(), String> {
    let nodes = plan.iter().enumerate().filter_map(|(i, line)| match line.split_once("->  ") {
        Some((_, node)) => Some(node),
        None => (i == 0).then_some(line.as_str()),
    });
    let mut by_index = 0;
    for node in nodes {
        let is = |names: &[&str]| names.iter().any(|name| node.starts_with(name));
        if node.starts_with(BY_INDEX) {
            by_index += 1;
        } else if !is(READ_NOTHING) && !is(BY_PLACE) {
            return Err(node.split("  (").next().unwrap_or_default().to_owned());
        }
    }
    if by_index == 1 { Ok(()) } else { Err(format!("{by_index} index-only scans")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_reads_the_heap_is_refused() {
        let plan = |lines: &[&str]| {
            reads_places_and_index(&lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>())
        };
        let good = [
            "Sort  (cost=1.00..2.00 rows=5 width=4)",
            "  Sort Key: \"*SELECT* 1\".id",
            "  ->  HashSetOp Except All  (cost=1.00..2.00 rows=5 width=4)",
            "        ->  Append  (cost=1.00..2.00 rows=5 width=4)",
            "              ->  Subquery Scan on \"*SELECT* 1\"  (cost=1.00..2.00 rows=5 width=4)",
            "                    ->  Index Only Scan using t_pkey on t  (cost=1.00..2.00 rows=5 width=4)",
            "              ->  Tid Range Scan on t t_1  (cost=1.00..2.00 rows=5 width=4)",
            "                    TID Cond: (ctid < '(9,0)'::tid)",
        ];
        assert_eq!(plan(&good), Ok(()));
        assert_eq!(plan(&["Index Only Scan using t_pkey on t  (cost=1.00)"]), Ok(()));
        assert_eq!(plan(&good[..4]), Err("0 index-only scans".to_owned()));
        let seq = [good[5], "  ->  Seq Scan on t  (cost=1.00..2.00 rows=5 width=4)"];
        assert_eq!(plan(&seq), Err("Seq Scan on t".to_owned()));
        let index = [good[5], "  ->  Index Scan using t_pkey on t  (cost=1.00..2.00)"];
        assert_eq!(plan(&index), Err("Index Scan using t_pkey on t".to_owned()));
        assert!(plan(&[good[5], good[5]]).is_err());
    }
}
