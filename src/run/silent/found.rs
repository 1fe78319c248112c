//! What is missing, as it is said in the end: each loss once, whoever tells of
//! it.
//!
//! Several may know of the same: `pg_class`, an index, a segment that is left.
//! What they say of the same blocks of a file is one loss, of all these blocks.
//! Rows that are only counted are taken for those of the losses that have a
//! place, if there are such: nobody can tell whether others are among them.

use crate::dump::Cause;
use crate::output::manifest;

/// Where something is missing, of which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Missing {
    /// Blocks of the relation itself, half-open.
    Heap { start: u64, end: u64 },
    /// Rows, somewhere in it.
    Rows,
    /// Blocks of its TOAST table.
    Toast { start: u64, end: u64 },
}

/// What one of those who tell of a loss says.
#[derive(Debug)]
pub(super) struct Found {
    pub oid: u32,
    pub missing: Missing,
    /// What is so; nothing where only `told_by` is known.
    pub what: Option<String>,
    pub told_by: String,
}

/// All that is said of one loss.
struct Loss {
    oid: u32,
    missing: Missing,
    what: Option<String>,
    told_by: Vec<String>,
}

/// The words for a file whose end is missing.
pub(super) fn is_short(of_toast: bool, blocks: u64) -> String {
    let of_toast = if of_toast { " of its TOAST table" } else { "" };
    format!("the file{of_toast} has {blocks} blocks, and its end is missing")
}

/// Each loss once, with the relation that it is of: by relation, then by place.
pub(super) fn join(mut found: Vec<Found>) -> Vec<(u32, manifest::Lost)> {
    // Among equals the first that told stays the first.
    found.sort_by_key(|f| (f.oid, f.missing));
    let mut losses: Vec<Loss> = Vec::new();
    // Where the losses of the relation begin.
    let mut first = 0;
    for Found { oid, missing, what, told_by } in found {
        if losses.last().is_some_and(|l| l.oid != oid) {
            first = losses.len();
        }
        let same = match missing {
            Missing::Rows => losses.get_mut(first),
            _ => losses.last_mut().and_then(|l| (l.oid == oid && l.takes_in(missing)).then_some(l)),
        };
        match same {
            Some(loss) => loss.told_by.push(told_by),
            None => losses.push(Loss { oid, missing, what, told_by: vec![told_by] }),
        }
    }
    losses.into_iter().map(|loss| (loss.oid, loss.lost())).collect()
}

impl Loss {
    /// Whether blocks that begin no earlier are among those of this loss. It then
    /// has all of them.
    fn takes_in(&mut self, other: Missing) -> bool {
        let (end, start, more) = match (&mut self.missing, other) {
            (Missing::Heap { end, .. }, Missing::Heap { start, end: more })
            | (Missing::Toast { end, .. }, Missing::Toast { start, end: more }) => {
                (end, start, more)
            }
            _ => return false,
        };
        let is_same = start < *end;
        if is_same {
            *end = more.max(*end);
        }
        is_same
    }

    fn lost(self) -> manifest::Lost {
        let block = |b: u64| u32::try_from(b).ok();
        let (first_block, last_block) = match self.missing {
            Missing::Heap { start, end } => (block(start), block(end.saturating_sub(1))),
            Missing::Rows | Missing::Toast { .. } => (None, None),
        };
        let told_by = self.told_by.join("; ");
        manifest::Lost {
            first_block,
            last_block,
            ctid: None,
            column: None,
            cause: Cause::SilentLoss.name().to_owned(),
            sqlstate: None,
            message: self.what.map_or(told_by.clone(), |what| format!("{what}: {told_by}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(oid: u32, missing: Missing, told_by: &str) -> Found {
        let what = (missing != Missing::Rows).then(|| "something is missing".to_owned());
        Found { oid, missing, what, told_by: told_by.to_owned() }
    }

    /// Relation, first and last block, what tells of it.
    fn told(found: Vec<Found>) -> Vec<(u32, Option<u32>, Option<u32>, String)> {
        let all = join(found).into_iter().map(|(oid, lost)| {
            let told = lost.message.replace("something is missing: ", "");
            (oid, lost.first_block, lost.last_block, told)
        });
        all.collect()
    }

    #[test]
    fn each_loss_is_said_once_whoever_tells_of_it() {
        let heap = |start, end| Missing::Heap { start, end };
        let toast = |start, end| Missing::Toast { start, end };
        let said = told(vec![
            found(7, heap(77, 90), "pg_class"),
            found(7, toast(5, 9), "pg_class"),
            found(8, Missing::Rows, "a count"),
            found(7, Missing::Rows, "a count"),
            found(7, heap(3, 4), "the map"),
            found(7, heap(4, 5), "another"),
            found(7, heap(77, 95), "an index"),
            found(9, heap(77, 80), "pg_class"),
            found(7, toast(5, 7), "a segment"),
            found(7, heap(80, 85), "a segment"),
        ]);
        let one = |oid, first, last, by: &str| (oid, first, last, by.to_owned());
        assert_eq!(
            said,
            [
                one(7, Some(3), Some(3), "the map; a count"),
                one(7, Some(4), Some(4), "another"),
                one(7, Some(77), Some(94), "pg_class; an index; a segment"),
                one(7, None, None, "a segment; pg_class"),
                one(8, None, None, "a count"),
                one(9, Some(77), Some(79), "pg_class"),
            ]
        );
    }

    #[test]
    fn a_loss_in_toast_takes_no_rows_of_the_heap_in() {
        let said = told(vec![
            found(7, Missing::Toast { start: 5, end: 9 }, "pg_class"),
            found(7, Missing::Rows, "a count"),
        ]);
        let whole = |by: &str| (7, None, None, by.to_owned());
        assert_eq!(said, [whole("a count"), whole("pg_class")]);
    }
}
