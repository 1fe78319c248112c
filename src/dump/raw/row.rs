//! One tuple as a row of COPY's text.

use super::catalog::Catalog;
use super::{Column, Interrupted, RawLayout};
use crate::dump::columns::{Field, line};
use crate::dump::findings::LostColumn;
use crate::dump::{Cause, Reading};
use crate::heap::Ctid;
use crate::page::{self, Found, Tuple, Varlena, datum};
use crate::server::fault::Words;
use std::fmt::Write as _;

/// A value that was compressed in its tuple is no longer than this.
const VALUE_BYTES_MAX: usize = 512 << 20;

pub(super) struct RawRow {
    pub(super) at: Ctid,
    pub(super) fields: Vec<Option<Field>>,
    pub(super) lost: Vec<LostColumn>,
}

impl RawRow {
    pub(super) fn line(&self) -> Vec<u8> {
        line(&self.fields)
    }
}

/// What a value came to, if it is not a field.
enum Not {
    /// Its bytes are no value of its type.
    Sane,
    /// The type is one that is not written here: its bytes, as far as they are known.
    Known(Vec<u8>),
    Lost(LostColumn),
}

pub(super) async fn decode(
    at: &Reading<'_>,
    layout: &RawLayout,
    ctid: Ctid,
    tuple: Tuple<'_>,
) -> Result<RawRow, Interrupted> {
    let found = tuple.attributes(&layout.attributes);
    let broken = broken_from(layout, tuple, &found);
    let mut row = RawRow { at: ctid, fields: Vec::new(), lost: Vec::new() };
    let mut is_behind = false;
    for (i, column) in layout.columns.iter().enumerate() {
        let lost = |cause, message: &str| {
            let words = Words { message: message.to_owned(), ..Words::default() };
            LostColumn::new(i, cause, words)
        };
        let field = if broken.is_some_and(|from| from <= column.place) {
            let (cause, why) = match is_behind {
                false => (Cause::Tuple, "where it ends cannot be told"),
                true => (Cause::Untrusted, "it lies behind a column whose end cannot be told"),
            };
            is_behind = true;
            Err(Not::Lost(lost(cause, why)))
        } else {
            value(at, layout, (ctid, i, column), found[column.place]).await?
        };
        let not = match field {
            Ok(field) => {
                row.fields.push(Some(field));
                continue;
            }
            Err(not) => not,
        };
        row.fields.push(None);
        row.lost.push(match not {
            Not::Sane => lost(Cause::Page, "its bytes are no value of its type"),
            Not::Lost(column) => column,
            Not::Known(bytes) => {
                let why = "values of its type cannot be written here: its bytes are in the file of \
                           the class toast_chunks";
                let mut column = lost(Cause::Page, why);
                column.chunks.push(kept(at, ctid, i, &bytes));
                column
            }
        });
    }
    Ok(row)
}

/// The first attribute of which nobody knows where it ends, if there is one. Where the
/// attributes do not fill the tuple, some length is wrong: none is trusted then.
fn broken_from(layout: &RawLayout, tuple: Tuple<'_>, found: &[Found<'_>]) -> Option<usize> {
    let broken = found.iter().position(|f| *f == Found::Broken);
    if broken.is_some() || tuple.is_filled_by(&layout.attributes) {
        return broken;
    }
    let has_length =
        |(f, a): (&Found<'_>, &page::Attribute)| a.len < 0 && matches!(f, Found::Bytes(_));
    Some(found.iter().zip(&layout.attributes).position(has_length).unwrap_or(0))
}

async fn value(
    at: &Reading<'_>,
    layout: &RawLayout,
    (ctid, i, column): (Ctid, usize, &Column),
    found: Found<'_>,
) -> Result<Result<Field, Not>, Interrupted> {
    let bytes = match found {
        Found::Null => return Ok(Ok(b"\\N".to_vec())),
        Found::Broken => return Ok(Err(Not::Sane)),
        Found::Absent => {
            let catalog = Catalog::of(at, layout).await?;
            return Ok(catalog.missing(column.attnum).ok_or_else(|| {
                let message = "its value for tuples that are older cannot be told".to_owned();
                let words = Words { message, ..Words::default() };
                Not::Lost(LostColumn::new(i, Cause::Page, words))
            }));
        }
        Found::Bytes(bytes) => bytes,
    };
    if layout.attributes[column.place].len != -1 {
        return text(at, layout, column, bytes).await;
    }
    let Some(varlena) = Varlena::parse(bytes) else { return Ok(Err(Not::Sane)) };
    if let Varlena::External(pointer) = varlena {
        let message = "it is stored in TOAST, and could not be had from there".to_owned();
        let words = Words { message, ..Words::default() };
        let lost = LostColumn::new(i, Cause::StoredElsewhere, words);
        let value = at.doctor.of_page(at, &pointer, (ctid, i, column.type_oid)).await?;
        return Ok(value.instead_of(lost).map_err(Not::Lost));
    }
    match varlena.inline(VALUE_BYTES_MAX) {
        Some(payload) => text(at, layout, column, &payload).await,
        None => Ok(Err(Not::Sane)),
    }
}

/// The text of a value, detoasted, as COPY has it.
async fn text(
    at: &Reading<'_>,
    layout: &RawLayout,
    column: &Column,
    datum: &[u8],
) -> Result<Result<Field, Not>, Interrupted> {
    let type_oid = column.type_oid;
    if !datum::is_known(type_oid) {
        let catalog = Catalog::of(at, layout).await?;
        return Ok(match catalog.is_enum(type_oid) {
            true => catalog.label(type_oid, datum).ok_or(Not::Sane),
            false => Err(Not::Known(datum.to_vec())),
        });
    }
    // Before 12 floating point numbers had other digits than we write.
    if at.session.server().version < 120_000 && datum::has_floats(type_oid) {
        return Ok(Err(Not::Known(datum.to_vec())));
    }
    // No text has a NUL in it.
    let text = datum::to_text(type_oid, datum).filter(|text| memchr::memchr(0, text).is_none());
    Ok(text.ok_or(Not::Sane).map(|text| {
        let mut field = Vec::with_capacity(text.len());
        page::copy::escape(&text, &mut field);
        field
    }))
}

/// The bytes of a value, as a row of the file of chunks that are of no TOAST value.
fn kept(at: &Reading<'_>, ctid: Ctid, column: usize, bytes: &[u8]) -> Vec<u8> {
    let mut row = format!("{ctid}\t").into_bytes();
    let name = at.column_names.get(column).map_or("", String::as_str);
    page::copy::escape(name.as_bytes(), &mut row);
    let mut hex = "\t\\N\t\\N\t\\\\x".to_owned();
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    row.extend_from_slice(hex.as_bytes());
    row.push(b'\n');
    row
}
