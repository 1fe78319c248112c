//! One value from its chunks, or what is wrong with it.

use super::Value;
use super::scan::{Interrupted, ToastRelation, read_chunks};
use super::window::missing;
use crate::dump::Reading;
use crate::heap::Ctid;
use crate::page::{self, ToastPointer, datum, varlena};
use std::fmt::Write as _;

/// A longer value is not put together: it would have to be held in memory.
const VALUE_BYTES_MAX: u32 = 512 * 1024 * 1024;

/// So many bytes of chunks are kept of a value that is not whole.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Puts a value together from its chunks.
pub(super) async fn put_together(
    at: &Reading<'_>,
    toast: &ToastRelation,
    pointer: &ToastPointer,
    places: Option<Vec<(u32, Ctid)>>,
    of: (Ctid, usize, u32),
) -> Result<Value, Interrupted> {
    let name = format!("TOAST value {} in {}", pointer.value_id, toast.readable.qualified);
    let Some(places) = places else {
        let message = format!("{name}: two of its chunks have the same number");
        return Ok(Value::Broken { message, chunks: Vec::new() });
    };
    if is_too_long(pointer) {
        let message = format!("{name}: it is longer than {VALUE_BYTES_MAX} bytes");
        return Ok(Value::Broken { message, chunks: Vec::new() });
    }
    let chunks = read_chunks(at, toast, pointer.value_id, &places).await?;
    Ok(of_chunks(at, toast, pointer, &chunks, of))
}

pub(super) fn is_too_long(pointer: &ToastPointer) -> bool {
    pointer.raw_size.max(pointer.stored_size) > VALUE_BYTES_MAX
}

/// How many chunks a value has.
pub(super) fn chunks_of(toast: &ToastRelation, pointer: &ToastPointer) -> u32 {
    pointer.stored_size.div_ceil(toast.readable.toast_chunk_max())
}

/// What those chunks come to that were read.
pub(super) fn of_chunks(
    at: &Reading<'_>,
    toast: &ToastRelation,
    pointer: &ToastPointer,
    chunks: &[(u32, Vec<u8>)],
    (ctid, column, type_oid): (Ctid, usize, u32),
) -> Value {
    let name = format!("TOAST value {} in {}", pointer.value_id, toast.readable.qualified);
    let all = chunks_of(toast, pointer);
    let bytes = chunks.iter().fold(Vec::new(), |mut bytes, (_, data)| {
        bytes.extend_from_slice(data);
        bytes
    });
    let in_order = chunks.iter().map(|(seq, _)| *seq).eq(0..all);
    let payload = if in_order { varlena::unpack_external(pointer, &bytes) } else { None };
    // Before 12 floating point numbers had other digits than we write.
    let as_now = at.session.server().version >= 120_000 || !datum::has_floats(type_oid);
    let text = payload.as_ref().filter(|_| as_now).and_then(|p| datum::to_text(type_oid, p));
    if let Some(text) = text {
        let mut field = Vec::with_capacity(text.len());
        page::copy::escape(&text, &mut field);
        return Value::Whole(field);
    }
    let numbers: Vec<(u32, Ctid)> = chunks.iter().map(|(seq, _)| (*seq, ctid)).collect();
    let wrong = match payload {
        Some(_) => "all of it is there, but values of its type cannot be written here".to_owned(),
        None => what_is_wrong(&numbers, all),
    };
    let message = format!("{name}: {wrong}");
    Value::Broken { message, chunks: kept(at, (ctid, column), pointer.value_id, chunks) }
}

/// In words.
fn what_is_wrong(chunks: &[(u32, Ctid)], all: u32) -> String {
    /// So many runs are listed.
    const RUNS_MAX: usize = 10;
    let runs = missing(chunks, all);
    if runs.is_empty() {
        return format!("its {} chunks are there, and do not make the value", chunks.len());
    }
    let mut list = String::new();
    for (first, last) in runs.iter().take(RUNS_MAX) {
        let comma = if list.is_empty() { "" } else { ", " };
        let range = if first == last { first.to_string() } else { format!("{first}..{last}") };
        // Writing to a String cannot fail.
        let _ = write!(list, "{comma}{range}");
    }
    let more = if runs.len() > RUNS_MAX { ", ..." } else { "" };
    format!("of its {all} chunks, from 0 on, these are missing: {list}{more}")
}

/// Chunks as rows: ctid, column, value, number, data.
fn kept(
    at: &Reading<'_>,
    (ctid, column): (Ctid, usize),
    value: u32,
    chunks: &[(u32, Vec<u8>)],
) -> Vec<Vec<u8>> {
    let mut name = Vec::new();
    let column = at.column_names.get(column).map_or("", String::as_str);
    page::copy::escape(column.as_bytes(), &mut name);
    let mut left = KEPT_BYTES_MAX;
    let mut fits = |data: &Vec<u8>| match left.checked_sub(data.len()) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    let rows = chunks.iter().take_while(|(_, data)| fits(data)).map(|(seq, data)| {
        let mut rest = format!("\t{value}\t{seq}\t\\\\x");
        for byte in data {
            let _ = write!(rest, "{byte:02x}");
        }
        [format!("{ctid}\t").as_bytes(), &name, rest.as_bytes(), b"\n"].concat()
    });
    rows.collect()
}
