//! Rows in COPY's binary format, read again one by one. Each may be longer than a
//! gigabyte, so none is ever whole in memory.

use super::OutputError;
use super::binary::HEADER;
use super::manifest::FileEntry;
use super::row_reader::{Seen, complaint, open};
use bytes::{BufMut, Bytes, BytesMut};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufRead, AsyncReadExt};

/// So much of a value is given at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// Of the header; flags follow, which are passed over, and the length of an
/// extension, of which there is to be none.
const SIGNATURE: &[u8] = HEADER.split_at(11).0;

pub struct BinaryRows {
    path: PathBuf,
    unpacked: Box<dyn AsyncBufRead + Send + Unpin>,
    seen: Arc<Mutex<Seen>>,
    /// Of the row that is being read: fields that have not begun, and bytes that
    /// are left of the one that has.
    fields: u16,
    left: usize,
    /// The number of fields, which has not been given.
    head: Option<Bytes>,
    rows: u64,
    broken: Option<String>,
}

impl BinaryRows {
    pub async fn open(path: &Path) -> Result<Self, OutputError> {
        let (unpacked, seen) = open(path).await?;
        let (fields, left, head) = (0, 0, None);
        let path = path.to_owned();
        let mut rows = Self { path, unpacked, seen, fields, left, head, rows: 0, broken: None };
        rows.broken = rows.header().await.err().map(|e| e.to_string());
        Ok(rows)
    }

    async fn header(&mut self) -> io::Result<()> {
        let mut header = [0; HEADER.len()];
        self.unpacked.read_exact(&mut header).await?;
        if !header.starts_with(SIGNATURE) || header[HEADER.len() - 4..] != [0; 4] {
            return Err(io::Error::other("it is not in COPY's binary format"));
        }
        Ok(())
    }

    /// Goes to the next row. False: there is none, or it cannot be read.
    pub async fn next_row(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        match self.unpacked.read_i16().await {
            Ok(count) => match u16::try_from(count) {
                Ok(fields) => {
                    self.fields = fields;
                    self.head = Some(Bytes::copy_from_slice(&count.to_be_bytes()));
                    self.rows += 1;
                    true
                }
                // -1: the end. What follows is hashed, too.
                Err(_) => {
                    let rest = self.unpacked.read_buf(&mut BytesMut::with_capacity(16)).await;
                    self.broken = rest.err().map(|e| e.to_string());
                    false
                }
            },
            Err(e) => {
                self.broken = Some(e.to_string());
                false
            }
        }
    }

    /// The next piece of the row; none at its end, or if it breaks off
    /// ([`Self::is_broken`]).
    pub async fn piece(&mut self) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        match self.read_piece().await {
            Ok(piece) => piece,
            Err(e) => {
                self.broken = Some(e.to_string());
                self.rows -= 1;
                None
            }
        }
    }

    async fn read_piece(&mut self) -> io::Result<Option<Bytes>> {
        let mut piece = BytesMut::new();
        if self.left == 0 {
            if self.fields == 0 {
                return Ok(None);
            }
            self.fields -= 1;
            let length = self.unpacked.read_i32().await?;
            piece.put_i32(length);
            // -1 is NULL.
            self.left = usize::try_from(length).unwrap_or(0);
        }
        let begin = piece.len();
        piece.resize(begin + self.left.min(PIECE_BYTES), 0);
        self.unpacked.read_exact(&mut piece[begin..]).await?;
        self.left -= piece.len() - begin;
        Ok(Some(piece.freeze()))
    }

    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// How many rows were begun, but for one that breaks off.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// At the end: what is not as the manifest says.
    pub fn complaint(&self, entry: &FileEntry) -> Option<String> {
        complaint(&self.path, self.broken.as_ref(), self.rows, &self.seen, entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
        let mut bytes = BytesMut::from(SIGNATURE);
        bytes.put_slice(&[0; 8]);
        for row in rows {
            bytes.put_i16(i16::try_from(row.len()).unwrap());
            for field in *row {
                bytes.put_i32(field.map_or(-1, |f| i32::try_from(f.len()).unwrap()));
                bytes.put_slice(field.unwrap_or_default());
            }
        }
        bytes.put_i16(-1);
        bytes.to_vec()
    }

    async fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, BinaryRows) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.binary");
        std::fs::write(&path, bytes).unwrap();
        let mut rows = BinaryRows::open(&path).await.unwrap();
        let mut all = Vec::new();
        while rows.next_row().await {
            let mut row = Vec::new();
            while let Some(piece) = rows.piece().await {
                row.extend_from_slice(&piece);
            }
            if !rows.is_broken() {
                all.push(row);
            }
        }
        (all, rows)
    }

    #[tokio::test]
    async fn rows_come_one_by_one_however_long_their_values_are() {
        let long = vec![7; 3 * PIECE_BYTES];
        let bytes = file(&[&[Some(b"a"), None, Some(&long)], &[], &[Some(b"")]]);
        let (rows, end) = read(&bytes).await;
        assert_eq!((rows.len(), end.rows(), end.is_broken()), (3, 3, false));
        assert_eq!([&bytes[..19], &rows.concat(), &[0xff, 0xff]].concat(), bytes);
    }

    #[tokio::test]
    async fn a_row_that_breaks_off_is_none() {
        let bytes = file(&[&[Some(b"a")], &[Some(b"bcdef")]]);
        for end in 0..bytes.len() {
            let (rows, at) = read(&bytes[..end]).await;
            assert_eq!(rows.len() as u64, at.rows(), "{end}");
            assert!(at.is_broken(), "{end}");
        }
        assert!(read(b"PGCOPX\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xff").await.1.is_broken());
    }
}
