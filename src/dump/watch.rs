//! What is learnt from the clean rows on their way: the largest value of a
//! column that feeds a sequence, and the pages of large objects.

use crate::server::copy_text::raw_fields;
use std::collections::BTreeMap;

/// Of large objects so many runs of pages are remembered (some 48 MB); most
/// have one.
const PAGE_RUNS_MAX: usize = 2_000_000;

/// So many rows that may yet be undone are remembered.
const FRESH_PAGES_MAX: usize = 1_000_000;

/// A column that feeds a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnWatch {
    pub sequence: u32,
    /// Which field of the row.
    pub field: usize,
    /// The sequence goes down: the smallest value counts.
    pub descending: bool,
    pub furthest: Option<i64>,
}

/// Pages of large objects (`pg_largeobject`: loid, pageno, data).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LargeObjectWatch {
    /// Runs of pages: OID and first page, to the page after the last.
    runs: BTreeMap<(u32, u32), u32>,
    /// There were too many to remember: nothing is known of missing pages.
    pub too_many: bool,
}

/// Watches rows. What is seen counts only once it is kept.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    columns: Vec<ColumnWatch>,
    large_objects: Option<LargeObjectWatch>,
    /// Seen since the last [`Watch::keep`] or [`Watch::forget`].
    fresh: Vec<Option<i64>>,
    fresh_pages: Vec<(u32, u32)>,
}

impl Watch {
    pub fn columns(columns: Vec<ColumnWatch>) -> Self {
        let fresh = vec![None; columns.len()];
        Self { columns, fresh, ..Self::default() }
    }

    pub fn large_objects() -> Self {
        Self { large_objects: Some(LargeObjectWatch::default()), ..Self::default() }
    }

    /// Whether there is nothing to be learnt.
    pub fn is_idle(&self) -> bool {
        self.columns.is_empty() && self.large_objects.is_none()
    }

    /// Looks at a row.
    pub fn row(&mut self, row: &[u8]) {
        if self.is_idle() {
            return;
        }
        for (watch, fresh) in self.columns.iter().zip(&mut self.fresh) {
            let field = raw_fields(row).nth(watch.field);
            if let Some(value) = field.and_then(|f| std::str::from_utf8(f).ok()?.parse().ok()) {
                *fresh = Some(further(watch.descending, *fresh, value));
            }
        }
        if self.large_objects.is_some() {
            let mut fields = raw_fields(row).map(|f| std::str::from_utf8(f).ok()?.parse().ok());
            if let (Some(Some(loid)), Some(Some(page))) = (fields.next(), fields.next()) {
                self.fresh_pages.push((loid, page));
                // Kept in any case when there are this many: what would be
                // forgotten is one read's worth.
                if self.fresh_pages.len() >= FRESH_PAGES_MAX {
                    self.keep();
                }
            }
        }
    }

    /// The rows seen since the last call are clean.
    pub fn keep(&mut self) {
        for (watch, fresh) in self.columns.iter_mut().zip(&mut self.fresh) {
            if let Some(value) = fresh.take() {
                watch.furthest = Some(further(watch.descending, watch.furthest, value));
            }
        }
        if let Some(watch) = &mut self.large_objects {
            for (loid, page) in self.fresh_pages.drain(..) {
                watch.add(loid, page, page.saturating_add(1));
            }
        }
    }

    /// The rows seen since the last call do not count.
    pub fn forget(&mut self) {
        self.fresh.fill(None);
        self.fresh_pages.clear();
    }

    /// Takes in what another stretch of the relation has seen.
    pub fn join(&mut self, other: Self) {
        for (watch, seen) in self.columns.iter_mut().zip(other.columns) {
            if let Some(value) = seen.furthest {
                watch.furthest = Some(further(watch.descending, watch.furthest, value));
            }
        }
        if let (Some(watch), Some(seen)) = (&mut self.large_objects, other.large_objects) {
            watch.too_many |= seen.too_many;
            for ((loid, first), end) in seen.runs {
                watch.add(loid, first, end);
            }
        }
    }

    /// How far each sequence must be, as far as it is known.
    pub fn furthest(&self) -> impl Iterator<Item = (u32, i64)> {
        self.columns.iter().filter_map(|c| Some((c.sequence, c.furthest?)))
    }

    pub fn pages(&self) -> Option<&LargeObjectWatch> {
        self.large_objects.as_ref()
    }
}

fn further(descending: bool, old: Option<i64>, new: i64) -> i64 {
    old.map_or(new, |old| if descending { old.min(new) } else { old.max(new) })
}

impl LargeObjectWatch {
    /// Adds the pages `first..end` of a large object, joined to its neighbours.
    fn add(&mut self, loid: u32, mut first: u32, mut end: u32) {
        if let Some((&(_, start), before)) =
            self.runs.range_mut((loid, 0)..=(loid, first)).next_back()
            && *before >= first
        {
            (first, end) = (start, end.max(*before));
        }
        if let Some(after) = self.runs.remove(&(loid, end)) {
            end = after;
        }
        if self.runs.len() >= PAGE_RUNS_MAX && !self.runs.contains_key(&(loid, first)) {
            self.too_many = true;
            return;
        }
        self.runs.insert((loid, first), end);
    }

    /// How many large objects have pages.
    pub fn objects(&self) -> u64 {
        let mut last = None;
        self.runs.keys().filter(|(loid, _)| last.replace(*loid) != Some(*loid)).count() as u64
    }

    pub fn pages(&self) -> u64 {
        self.runs.iter().map(|((_, first), end)| u64::from(end - first)).sum()
    }

    /// Pages that are not there, although a later one of the same large object
    /// is: OID, first and last.
    pub fn missing(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        let mut expected = (0, 0);
        self.runs.iter().filter_map(move |(&(loid, first), &end)| {
            let from = if expected.0 == loid { expected.1 } else { 0 };
            expected = (loid, end);
            (from < first).then(|| (loid, from, first - 1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_that_are_kept_count() {
        let watch = |descending| ColumnWatch { sequence: 7, field: 1, descending, furthest: None };
        let mut up = Watch::columns(vec![watch(false), watch(true)]);
        up.row(b"a\t5\n");
        up.row(b"a\t\\N\n");
        up.keep();
        up.row(b"a\t99\n");
        up.forget();
        up.row(b"a\t-3\tx\n");
        up.keep();
        assert_eq!(up.furthest().collect::<Vec<_>>(), [(7, 5), (7, -3)]);
    }

    #[test]
    fn large_objects_with_missing_pages_are_named() {
        let mut watch = Watch::large_objects();
        for row in ["1\t0\tx\n", "1\t1\tx\n", "2\t1\tx\n", "3\t0\tx\n", "3\t5\tx\n"] {
            watch.row(row.as_bytes());
        }
        watch.keep();
        let pages = watch.pages().unwrap();
        assert_eq!((pages.objects(), pages.pages()), (3, 5));
        assert_eq!(pages.missing().collect::<Vec<_>>(), [(2, 0, 0), (3, 1, 4)]);
    }

    #[test]
    fn pages_may_come_in_any_order() {
        let mut watch = LargeObjectWatch::default();
        for page in [5, 3, 4, 0, 2, 8, 5] {
            watch.add(9, page, page + 1);
        }
        assert_eq!(watch.missing().collect::<Vec<_>>(), [(9, 1, 1), (9, 6, 7)]);
        assert_eq!((watch.objects(), watch.pages()), (1, 6));
    }
}
