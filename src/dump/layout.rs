//! How the tuples of a relation are laid out, as far as its catalogs say: what is
//! needed to walk through them as the executor does.

use crate::heap::OffsetNumber;
use crate::page::insane::{Insane, pointing};
use crate::page::{Align, Attribute, Page};
use crate::server::inventory::{self, Relation};
use std::collections::BTreeSet;
use tokio::sync::OnceCell;

/// How the tuples of a relation are laid out, as far as its catalogs say.
pub struct Layout {
    /// Of another file they say nothing.
    filenode: Option<u32>,
    pub(super) attributes: Option<Vec<Attribute>>,
    /// Of each attribute, which column of the rows it is, if it is one.
    columns: Vec<Option<usize>>,
    /// The OID of the TOAST relation.
    pub(super) toast: Option<u32>,
    /// Its values that the server must not be asked for, once somebody looked.
    pub(super) astray: OnceCell<BTreeSet<u32>>,
}

impl Layout {
    /// None: its pages are not those of a heap.
    pub fn of(relation: &Relation) -> Option<Self> {
        let makes_sense = |(i, a): (i16, &inventory::Attribute)| {
            a.attnum == i && (a.len > 0 || matches!(a.len, -1 | -2))
        };
        let is_known = usize::from(relation.attributes) == relation.physical.len()
            && (1..).zip(&relation.physical).all(makes_sense);
        let column = |attnum| relation.columns.iter().position(|c| c.attnum == attnum);
        relation.heap.then(|| Self {
            filenode: relation.filenode,
            attributes: relation.layout().filter(|_| is_known),
            columns: relation.physical.iter().map(|a| column(a.attnum)).collect(),
            toast: relation.toast,
            astray: OnceCell::new(),
        })
    }

    /// That of every TOAST relation: `chunk_id`, `chunk_seq`, `chunk_data`.
    pub(super) fn of_toast() -> Self {
        let int = |len| Attribute { len, align: Align::Int };
        Self {
            filenode: None,
            attributes: Some([4, 4, -1].map(int).to_vec()),
            columns: Vec::new(),
            toast: None,
            astray: OnceCell::new(),
        }
    }

    /// Tuples of a page with values that the server must not be asked for, but for
    /// those that are not read at all.
    pub(super) fn astray_on(
        &self,
        page: Page<'_>,
        insane: &Insane,
    ) -> Vec<(OffsetNumber, Vec<usize>)> {
        let bad = self.astray.get().filter(|bad| !bad.is_empty());
        let Some((bad, attributes)) = bad.zip(self.attributes.as_ref()) else { return Vec::new() };
        let mut found = pointing(page, attributes, |value| bad.contains(&value));
        found.retain(|(number, _)| insane.fenced.iter().all(|(fenced, _)| fenced != number));
        let column = |place: usize| self.columns.get(place).copied().flatten();
        let columns = |(number, places): (_, Vec<usize>)| {
            let columns: Vec<usize> = places.into_iter().filter_map(column).collect();
            (!columns.is_empty()).then_some((number, columns))
        };
        found.into_iter().filter_map(columns).collect()
    }

    /// Whether the server must not be asked for this value of the TOAST relation, as
    /// far as somebody has looked.
    pub(super) fn is_astray(&self, value: u32) -> bool {
        self.astray.get().is_some_and(|bad| bad.contains(&value))
    }

    /// Whether it is that of this file.
    pub(super) fn is_of(&self, path: &str) -> bool {
        let file = path.rsplit('/').next().and_then(|file| file.parse().ok());
        self.filenode.is_none() || self.filenode == file
    }
}
