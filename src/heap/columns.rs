//! The columns of a tuple that fails as a whole: which to read next, and which
//! of them can be trusted.
//!
//! Columns are numbered in physical order, from 0. A column that fails by
//! itself is lost. If what failed is stored elsewhere (TOAST), or is no damage
//! of the tuple at all (the type's library is missing), the columns behind it
//! are as good as those before. Else where they begin is not known: they would
//! come out as garbage, without an error, so none of them is read.

use super::narrow::Narrow;
use std::ops::Range;

/// A search through the columns of one tuple.
#[derive(Clone, Debug)]
pub struct Columns {
    todo: Narrow,
    /// Columns from this one on are not trusted.
    trusted_end: u32,
    all: u32,
}

impl Columns {
    /// A tuple with so many columns that failed when all of them were read.
    pub fn new(columns: u32) -> Self {
        Self { todo: Narrow::failing(0..columns), trusted_end: columns, all: columns }
    }

    /// What to read next, none when each column was read or given up.
    pub fn next_read(&self) -> Option<Range<u32>> {
        self.todo.next_read().filter(|read| read.start < self.trusted_end)
    }

    /// These columns were read.
    pub fn complete(&mut self) {
        self.todo.complete();
    }

    /// Reading them failed. `elsewhere`: and not for damage in the tuple.
    /// Returns the column that is lost, if it was read alone.
    pub fn failed(&mut self, elsewhere: bool) -> Option<u32> {
        let read = self.next_read()?;
        let lost = self.todo.failed_from(read.start)?;
        if !elsewhere {
            self.trusted_end = lost + 1;
        }
        Some(lost)
    }

    /// Columns that are lost since one before them is damaged.
    pub fn untrusted(&self) -> Range<u32> {
        self.trusted_end..self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn every_column_before_damage_is_read_once_and_none_behind_it(
            all in 1u32..40,
            elsewhere in prop::collection::btree_set(0u32..40, 0..4),
            damaged in prop::option::of(0u32..40),
        ) {
            let mut columns = Columns::new(all);
            let (mut had, mut lost, mut reads) = (Vec::new(), BTreeSet::new(), 0);
            while let Some(read) = columns.next_read() {
                reads += 1;
                let fails = |c: &u32| elsewhere.contains(c) || damaged == Some(*c);
                prop_assert!(damaged.is_none_or(|d| read.start <= d), "read behind damage");
                match read.clone().find(fails) {
                    None => {
                        had.extend(read);
                        columns.complete();
                    }
                    Some(at) => lost.extend(columns.failed(damaged != Some(at))),
                }
            }
            let end = damaged.map_or(all, |d| all.min(d + 1));
            let bad: BTreeSet<u32> =
                (0..end).filter(|c| elsewhere.contains(c) || damaged == Some(*c)).collect();
            prop_assert_eq!(columns.untrusted(), end..all);
            prop_assert_eq!(&lost, &bad);
            prop_assert_eq!(had, (0..end).filter(|c| !bad.contains(c)).collect::<Vec<_>>());
            prop_assert!(reads <= 20 + 20 * bad.len(), "{} reads", reads);
        }
    }
}
