//! One b-tree, read from its file from the first page to the last: what it
//! knows of rows in lost places, and where else it knows rows of the same key.

use super::heap::Visibility;
use super::places::{Loss, Places};
use crate::heap::Ctid;
use crate::output::lost_keys::Value;
use crate::page::btree::{self, Item, Tid};
use crate::page::{Attribute, Found, Varlena, checksum, datum};
use crate::server::catalog::Index;
use crate::server::inventory::Relation;
use crate::server::pages::Fork;
use crate::server::session::ReadError;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Lost rows that are named for each relation: what is known of each is kept in
/// memory, some hundred bytes.
pub(super) const KEYS_MAX: usize = 500_000;

/// A longer value, which an index can hold only compressed, is not unpacked.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// A page that is being written while it is read makes no sense; a moment later
/// it does.
const TORN_PATIENCE: Duration = Duration::from_millis(100);

/// Damaged pages of an index that are read again, one by one.
const TORN_MAX: usize = 100;

/// So many blocks are looked for behind the end, time and again, since entries
/// move there when pages are split.
const ADDED_BLOCKS: u32 = 1024;

/// Entries of one key may go on over the edge of a page: so many pages are gone
/// to for all keys of a relation.
const NEIGHBOURS_MAX: u32 = 10_000;

/// How values of a column are stored, and what they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    /// The place of the column in a row of the file; none for an expression.
    slot: Option<usize>,
    attribute: Attribute,
    /// 0: a type whose values are not understood.
    type_oid: u32,
}

/// What is known of a lost row.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub values: Vec<Value>,
    pub certain: bool,
    /// Other places of which the identifying index says that they have its key.
    pub others: BTreeSet<Tid>,
}

/// What is known of all lost rows of a relation.
#[derive(Default)]
pub(super) struct Keys {
    pub rows: BTreeMap<Ctid, Known>,
    /// Found dead by a reader, when their pages were still there.
    dead: BTreeSet<Ctid>,
    /// How many more there were than are kept.
    pub omitted: u64,
}

/// What an index is read for.
pub(super) struct Wanted<'a> {
    pub places: &'a Places,
    pub visibility: &'a Visibility,
    /// Of each attribute of the index.
    pub stored: Vec<Stored>,
    /// How many columns a row has in the file.
    pub slots: usize,
    /// So many attributes of the index identify a row: other places of the same
    /// are wanted. None: they do not.
    pub identify: Option<usize>,
    pub checksums: bool,
    pub block_size: usize,
}

/// Entries of one key that may go on in the neighbour of a page.
struct Edge {
    at: Ctid,
    key: Vec<u8>,
    right: bool,
    block: u32,
}

/// How an index was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Read {
    pub blocks: u32,
    /// Blocks that are no sound page.
    pub damaged: u64,
}

/// The columns of an index, as rows of the file and the relation have them.
pub(super) fn stored(index: &Index, relation: &Relation, slots: &[i16]) -> Vec<Stored> {
    let columns = index.columns.iter().zip(&index.attributes);
    let stored = columns.map(|(&attnum, &attribute)| {
        let of_table = relation.physical.iter().find(|a| a.attnum == attnum);
        // Indexes store names as C strings; what else they store otherwise than
        // the table does is not known.
        let is_same = |len| len == attribute.len || attribute.len == -2;
        let type_oid = of_table.filter(|a| is_same(a.len)).map_or(0, |a| a.type_oid);
        Stored { slot: slots.iter().position(|&s| s == attnum), attribute, type_oid }
    });
    stored.collect()
}

/// Reads a whole index: so many blocks as it has, and what was added meanwhile.
pub(super) async fn scan(
    file: &Fork<'_>,
    blocks: u32,
    wanted: &Wanted<'_>,
    keys: &mut Keys,
) -> Result<Read, ReadError> {
    let mut read = Read::default();
    let (mut edges, mut torn) = (Vec::new(), Vec::new());
    let (mut omitted, omitted_before) = (0, keys.omitted);
    let mut count = blocks.max(ADDED_BLOCKS);
    loop {
        let begun = read.blocks;
        let mut pieces = file.pieces(begun, count);
        while let Some((first, bytes)) = pieces.next().await? {
            for (block, page) in (first..).zip(bytes.chunks_exact(wanted.block_size)) {
                read.blocks = block + 1;
                if wanted.is_sound(page, block) {
                    omitted += page_of(page, wanted, keys, &mut edges);
                    continue;
                }
                read.damaged += 1;
                if torn.len() < TORN_MAX {
                    torn.push(block);
                }
            }
        }
        if read.blocks == begun {
            break;
        }
        count = ADDED_BLOCKS;
    }
    if !torn.is_empty() {
        tokio::time::sleep(TORN_PATIENCE).await;
    }
    for block in torn {
        let again = file.read(block, 1).await?;
        if wanted.is_sound(&again, block) {
            omitted += page_of(&again, wanted, keys, &mut edges);
            read.damaged -= 1;
        }
    }
    // Each index knows the same rows, so they are not counted twice.
    keys.omitted = omitted_before.max(omitted);
    follow(file, wanted, keys, edges).await?;
    Ok(read)
}

impl Wanted<'_> {
    fn is_sound(&self, page: &[u8], block: u32) -> bool {
        let carried = page.get(8..10).map(|sum| u16::from_le_bytes([sum[0], sum[1]]));
        let fits =
            || page.iter().all(|b| *b == 0) || carried == Some(checksum::checksum(page, block));
        page.len() == self.block_size && btree::is_sound(page) && (!self.checksums || fits())
    }

    /// What identifies the rows of an item: equal bytes for equal values, but
    /// for the few types of which one value has several forms.
    fn key(&self, item: &Item<'_>) -> Vec<u8> {
        let keys = self.identify.unwrap_or(0);
        let attributes = attributes(self.stored.get(..keys).unwrap_or_default());
        let mut key = Vec::new();
        for found in item.values(&attributes) {
            match found {
                Found::Bytes(bytes) => {
                    key.extend_from_slice(&bytes.len().to_le_bytes());
                    key.extend_from_slice(bytes);
                }
                _ => key.push(0xFF),
            }
        }
        key
    }

    /// Takes in the other places of this item's key, as far as the page goes,
    /// and gives the edges where it may go on.
    fn same_key(
        &self,
        items: &[Item<'_>],
        i: usize,
        at: Ctid,
        known: &mut Known,
        page: &[u8],
    ) -> Vec<Edge> {
        let own = self.key(&items[i]);
        let alike = |item: &&Item<'_>| self.key(item) == own;
        let before: Vec<_> = items[..i].iter().rev().take_while(alike).collect();
        let behind: Vec<_> = items[i..].iter().take_while(alike).collect();
        known.others.extend(before.iter().chain(&behind).flat_map(|item| item.tids()));
        let Some(siblings) = btree::siblings(page) else { return Vec::new() };
        let left = siblings.left.filter(|_| before.len() == i);
        let right = siblings.right.filter(|_| behind.len() == items.len() - i);
        let ends = [(false, left), (true, right)].into_iter();
        let edge = |(right, block): (bool, Option<u32>)| {
            Some(Edge { at, key: own.clone(), right, block: block? })
        };
        ends.filter_map(edge).collect()
    }
}

/// Takes in what a leaf knows; returns how many rows were left out.
fn page_of(page: &[u8], wanted: &Wanted<'_>, keys: &mut Keys, edges: &mut Vec<Edge>) -> u64 {
    let items = || btree::leaf_items(page).into_iter().flatten();
    // Most pages know of no lost place, and are done with here.
    let mut places = items().flat_map(|item| item.tids());
    if places.all(|(block, offset)| wanted.places.loss(Ctid::new(block, offset)).is_none()) {
        return 0;
    }
    let items: Vec<Item<'_>> = items().collect();
    let mut omitted = 0;
    for (i, item) in items.iter().enumerate() {
        let mut values = None;
        for (block, offset) in item.tids() {
            let Some(loss) = wanted.places.loss(Ctid::new(block, offset)) else { continue };
            let (at, silent) = match loss {
                Loss::Block { silent } => (Ctid::new(block, offset), silent),
                Loss::Tuple(lost) => (lost, false),
            };
            let certain = wanted.visibility.is_all_visible(block);
            if item.dead && !certain && !silent {
                keys.dead.insert(at);
                continue;
            }
            if keys.rows.len() >= KEYS_MAX && !keys.rows.contains_key(&at) {
                omitted += 1;
                continue;
            }
            let known = keys.rows.entry(at).or_insert_with(|| Known {
                values: vec![Value::Unknown; wanted.slots],
                certain,
                others: BTreeSet::new(),
            });
            let values = values.get_or_insert_with(|| item.values(&attributes(&wanted.stored)));
            for (stored, value) in wanted.stored.iter().zip(values.iter()) {
                let slot = stored.slot.and_then(|slot| known.values.get_mut(slot));
                if let Some(slot) = slot.filter(|v| **v == Value::Unknown) {
                    *slot = stored.value(*value);
                }
            }
            if !certain && wanted.identify.is_some() {
                edges.extend(wanted.same_key(&items, i, at, known, page));
            }
        }
    }
    omitted
}

fn attributes(stored: &[Stored]) -> Vec<Attribute> {
    stored.iter().map(|s| s.attribute).collect()
}

/// Goes on over the edges of pages.
async fn follow(
    file: &Fork<'_>,
    wanted: &Wanted<'_>,
    keys: &mut Keys,
    edges: Vec<Edge>,
) -> Result<(), ReadError> {
    let mut left = NEIGHBOURS_MAX;
    for Edge { at, key, right, block } in edges {
        let mut next = Some(block);
        while let Some(block) = next.filter(|_| left > 0) {
            left -= 1;
            next = None;
            let page = file.read(block, 1).await?;
            if !wanted.is_sound(&page, block) {
                break;
            }
            // An emptied page has neighbours, and no items.
            let items: Vec<Item<'_>> = btree::leaf_items(&page).into_iter().flatten().collect();
            let alike = |item: &&Item<'_>| wanted.key(item) == key;
            let same: Vec<&Item<'_>> = match right {
                true => items.iter().take_while(alike).collect(),
                false => items.iter().rev().take_while(alike).collect(),
            };
            if let Some(known) = keys.rows.get_mut(&at) {
                known.others.extend(same.iter().flat_map(|item| item.tids()));
            }
            if same.len() == items.len() {
                let siblings = btree::siblings(&page);
                next = siblings.and_then(|s| if right { s.right } else { s.left });
            }
        }
    }
    Ok(())
}

impl Stored {
    pub(super) fn is_understood(&self) -> bool {
        datum::is_known(self.type_oid)
    }

    fn value(&self, found: Found<'_>) -> Value {
        let bytes = match found {
            Found::Null => return Value::Null,
            Found::Absent | Found::Broken => return Value::Unknown,
            Found::Bytes(bytes) => bytes,
        };
        match self.attribute.len {
            -2 => Value::Text(bytes.strip_suffix(b"\0").unwrap_or(bytes).to_vec()),
            -1 => match Varlena::parse(bytes).and_then(|v| v.inline(VALUE_BYTES_MAX)) {
                Some(payload) => self.text(&payload),
                None => Value::Unknown,
            },
            _ => self.text(bytes),
        }
    }

    fn text(&self, bytes: &[u8]) -> Value {
        let text = datum::to_text(self.type_oid, bytes);
        text.map_or_else(|| Value::Raw(bytes.to_vec()), Value::Text)
    }
}

impl Keys {
    /// When all indexes were read: without rows that one of them calls dead.
    pub(super) fn bury(&mut self) {
        let dead = std::mem::take(&mut self.dead);
        self.rows.retain(|at, known| known.certain || !dead.contains(at));
    }
}
