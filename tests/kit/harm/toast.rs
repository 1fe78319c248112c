//! Harms of a victim's TOAST table, or of the index of that.

use super::super::Server;
use super::super::page_edit::{BLOCK_SIZE, LinePointer, Page};
use super::super::places::{self, Places, read_page, read_pages};
use super::super::victim;
use super::{Changed, ChecksumAfter, Harm, Harmed, Place, edit, whole_page};
use std::collections::BTreeMap;

/// A chunk of a value holds so many bytes, but for the last.
const CHUNK_MAX: usize = 1996;

/// Does the harm, and notes the tuples that use what was touched.
pub fn harm(server: &Server, places: &Places, done: &mut Harmed, at: Place, sum: ChecksumAfter) {
    let toast = places.toast.as_deref().expect("a TOAST table");
    let index = places.toast_index.as_deref().expect("the index of a TOAST table");
    let users = victim::toast_users(&read_pages(server, &places.main));
    let all = || users.values().copied().collect();
    match done.harm {
        Harm::RemoveToastFile => {
            places::remove(server, toast, 0);
            done.tuples = all();
        }
        // Block 0 is the meta page; 1 is the first leaf, or the root.
        Harm::ToastIndexZeroBlock => {
            edit(server, index, 1, sum, |page| whole_page(page, Harm::ZeroBlock));
            done.tuples = all();
        }
        Harm::ToastIndexBadPageHeader | Harm::ToastIndexMetaPage => {
            let block = u32::from(done.harm == Harm::ToastIndexBadPageHeader);
            edit(server, index, block, sum, |page| whole_page(page, Harm::BadPageHeader));
            done.tuples = all();
        }
        _ => {
            let on_page = victim::values_on(&read_page(server, toast, at.block));
            let mut changed = BTreeMap::new();
            edit(server, toast, at.block, sum, |page| changed = change(page, done.harm, at.offset));
            let stale = server.options.checksums && sum == ChecksumAfter::Stale;
            // With a stale checksum the whole page cannot be read.
            let whole_page = stale || changed.is_empty();
            let touched = on_page.iter().filter(|value| whole_page || changed.contains_key(value));
            done.tuples = touched.filter_map(|value| users.get(value).copied()).collect();
            let users = |(value, change)| Some((*users.get(&value)?, change));
            done.changed = changed.into_iter().filter_map(users).collect();
        }
    }
}

/// Changes a page of the TOAST table. Gives the values changed; none: all.
fn change(page: &mut Page, harm: Harm, number: u16) -> BTreeMap<u32, Changed> {
    let of_one = match harm {
        Harm::ToastChunkData => {
            let chunk = victim::chunk(page, number);
            page.put(chunk.data, b"HARMED");
            Changed::Value(sequence(page, number) * CHUNK_MAX, b"HARMED".to_vec())
        }
        Harm::ToastCompressed => {
            let chunk = victim::chunk(page, number);
            page.put(chunk.data + 8, &[0xFF; 64]);
            Changed::Value(sequence(page, number) * CHUNK_MAX + 8, vec![0xFF; 64])
        }
        Harm::ToastChunkSequence => {
            let chunk = victim::chunk(page, number);
            page.put(chunk.sequence_at, &77_u32.to_le_bytes());
            Changed::ChunkGone
        }
        Harm::ToastChunkMissing => {
            let value = victim::chunk(page, number).value_id;
            page.put_line_pointer(number, LinePointer { offset: 0, flags: 0, length: 0 });
            return BTreeMap::from([(value, Changed::ChunkGone)]);
        }
        Harm::ToastTornPage => {
            let torn = torn(page);
            whole_page(page, Harm::TornPage);
            return torn;
        }
        harm => {
            whole_page(page, harm);
            return BTreeMap::new();
        }
    };
    BTreeMap::from([(victim::chunk(page, number).value_id, of_one)])
}

fn sequence(page: &Page, number: u16) -> usize {
    usize::try_from(page.u32_at(victim::chunk(page, number).sequence_at)).expect("a small number")
}

/// What becomes of the values on a page of which the second half is zeroed.
fn torn(page: &Page) -> BTreeMap<u32, Changed> {
    const HALF: usize = BLOCK_SIZE / 2;
    let mut torn = BTreeMap::new();
    for number in page.tuples() {
        let chunk = victim::chunk(page, number);
        let pointer = page.line_pointer(number);
        let (from, end) =
            (usize::from(pointer.offset), usize::from(pointer.offset + pointer.length));
        if from >= HALF {
            torn.insert(chunk.value_id, Changed::ChunkGone);
        } else if end > HALF {
            assert!(chunk.data < HALF, "the header of {number} is torn");
            let at = sequence(page, number) * CHUNK_MAX + HALF - chunk.data;
            let zeros = Changed::Value(at, vec![0; end - HALF]);
            torn.entry(chunk.value_id).or_insert(zeros);
        }
    }
    torn
}
