//! COPY's binary format, for rows that are too long as text.
//!
//! <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format".

use super::codec::Codec;
use super::error::OutputError;
use super::frame::Frame;
use super::journal::Extent;
use super::manifest::RowClass;
use std::path::Path;

/// Signature, flags (no OIDs), and the length of what else there is: nothing.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// In place of a number of fields.
pub const TRAILER: &[u8] = &[0xff, 0xff];

/// What a file of this class begins and ends with. The header is a frame of its
/// own.
pub fn around(class: RowClass) -> (&'static [u8], &'static [u8]) {
    match class {
        RowClass::Oversize => (HEADER, TRAILER),
        _ => (&[], &[]),
    }
}

/// What a file of this class begins with, compressed.
pub fn header_extent(class: RowClass, codec: Codec) -> Result<Extent, OutputError> {
    let (header, _) = around(class);
    if header.is_empty() {
        return Ok(Extent::default());
    }
    let (mut frame, mut bytes) = (Frame::new(codec), Vec::new());
    let made = frame.feed(header, &mut bytes).and_then(|()| frame.finish(&mut bytes));
    made.map_err(OutputError::io("compress", Path::new("header")))?;
    Ok(Extent { len: bytes.len() as u64, bytes: header.len() as u64, ..Extent::default() })
}
