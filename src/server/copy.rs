//! The rows of one COPY, as the server sends them, and how many it says they are.
//!
//! A COPY that came to its end says how many rows it had. Rows that were lost
//! between the server and us are missed by that, and by nothing else.

use super::fault::{self, Words};
use super::session::{ReadError, Session};
use super::silence::Silence;
use bytes::Bytes;
use futures::TryStreamExt;
use std::pin::{Pin, pin};
use std::time::Instant;
use tokio_postgres::CopyOutStream;

/// Whole rows, each with its newline.
pub struct CopyRows<'a> {
    stream: Pin<Box<CopyOutStream>>,
    session: &'a Session,
    silence: Silence,
    begun: Instant,
}

impl Session {
    /// Begins a COPY to us.
    pub async fn copy(&self, sql: &str) -> Result<CopyRows<'_>, ReadError> {
        tracing::trace!(sql, "read");
        let (begun, mut silence) = (Instant::now(), Silence::after(self.timeouts.read()));
        let copy = pin!(self.connected.client.copy_out(sql));
        let stream = Box::pin(self.answer(copy, &mut silence, begun).await?);
        Ok(CopyRows { stream, session: self, silence, begun })
    }
}

/// What comes before the first row of a binary COPY: signature, flags and the
/// length of what may follow, which nothing does.
const BINARY_HEADER: usize = 19;
/// Number of fields, and the length of the only one.
const FIELD_HEADER: usize = 6;
/// What comes in place of the number of fields when there are no more rows.
const BINARY_END: &[u8] = &(-1_i16).to_be_bytes();

/// The only field of each row of a binary COPY.
pub struct BinaryFields<'a> {
    copy: CopyRows<'a>,
    rows: u64,
    begun: bool,
}

impl Session {
    /// The only field of the only row of a binary COPY; `None` for NULL. A row
    /// that does not come is an error.
    pub async fn binary_field(&self, sql: &str) -> Result<Option<Bytes>, ReadError> {
        let mut fields = self.binary_fields(sql).await?;
        let only = fields.next().await?;
        while fields.next().await?.is_some() {}
        only.ok_or_else(no_row)
    }

    /// Begins a binary COPY of one column.
    pub async fn binary_fields(&self, sql: &str) -> Result<BinaryFields<'_>, ReadError> {
        Ok(BinaryFields { copy: self.copy(sql).await?, rows: 0, begun: false })
    }
}

impl BinaryFields<'_> {
    /// The field of the next row, and `None` within it for NULL; `None` at the
    /// end, when as many rows have come as the server has sent.
    pub async fn next(&mut self) -> Result<Option<Option<Bytes>>, ReadError> {
        while let Some(message) = self.copy.next().await? {
            // The server sends the header with the first row or, where there is
            // none, with the end.
            let header = if self.begun { 0 } else { BINARY_HEADER };
            self.begun = true;
            let row = message.get(header..).ok_or_else(no_row)?;
            if row == BINARY_END {
                continue;
            }
            self.rows += 1;
            let field = only_field(row).ok_or_else(no_row)?;
            return Ok(Some(field.map(|bytes| message.slice_ref(bytes))));
        }
        self.copy.check(self.rows)?;
        Ok(None)
    }
}

fn no_row() -> ReadError {
    let message = "the row did not come in binary form".to_owned();
    let words = Words { message, ..Words::default() };
    ReadError::Miscounted { words: words.into() }
}

/// The only field of a row; none if it is not there, and within that none if it
/// is NULL.
fn only_field(row: &[u8]) -> Option<Option<&[u8]>> {
    let length = row.get(2..FIELD_HEADER)?.try_into().ok().map(i32::from_be_bytes)?;
    match usize::try_from(length) {
        Ok(length) => row.get(FIELD_HEADER..)?.get(..length).map(Some),
        Err(_) => Some(None),
    }
}

impl CopyRows<'_> {
    /// The next rows, in text format one or more; `None` at the end, which the
    /// server has then said. What a silent server still sends when it is
    /// cancelled comes, too: the last row then tells the place.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let next = self.stream.try_next();
        let rows = self.session.answer(next, &mut self.silence, self.begun).await?;
        if rows.is_none() {
            self.end().await?;
        }
        Ok(rows)
    }

    /// The server says after the last row how many there were. The client
    /// library reads no further than that row; asked once more it waits for
    /// what follows, and calls it unexpected.
    async fn end(&mut self) -> Result<(), ReadError> {
        let next = self.stream.try_next();
        match self.session.answer(next, &mut self.silence, self.begun).await {
            Err(ReadError::Server { source, .. }) if is_unexpected(&source) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// After the end: whether as many rows came as the server says that it has
    /// sent. (Whoever takes rows in counts them, many at a time.)
    pub fn check(&self, came: u64) -> Result<(), ReadError> {
        match self.session.connected.copied.rows() {
            Some(sent) if sent != came => {
                let message = format!("the server has sent {sent} rows, and {came} came");
                let sqlstate = fault::MISCOUNTED.to_owned();
                let words = Words { message, sqlstate, ..Words::default() };
                Err(ReadError::Miscounted { words: words.into() })
            }
            _ => Ok(()),
        }
    }
}

/// Whether it is no error of the server or of the connection.
fn is_unexpected(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_none() && !error.is_closed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_of_a_binary_copy_is_cut_out() {
        assert_eq!(only_field(b"\0\x01\0\0\0\x03abc"), Some(Some(&b"abc"[..])));
        assert_eq!(only_field(b"\0\x01\xff\xff\xff\xff"), Some(None));
        assert_eq!(only_field(b"\0\x01\0\0\0\x09abc"), None);
        assert_eq!(only_field(b"\0\x01\0"), None);
    }
}
