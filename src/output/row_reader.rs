//! A finished data file, read again: whole rows, some at a time.
//!
//! The bytes on disk are hashed on their way, so that a file which is not the
//! one that was written is known for it at its end.

use super::OutputError;
use super::frame::unpacked;
use super::manifest::{FileEntry, hex};
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, ReadBuf};

/// So much is asked for at a time; a row that is longer is still given whole.
const ROWS_BYTES: usize = 256 * 1024;

/// Some whole rows, each with its newline.
#[derive(Clone, Debug)]
pub struct Rows {
    pub text: Bytes,
    pub count: u64,
}

pub struct RowReader {
    path: PathBuf,
    unpacked: Box<dyn AsyncBufRead + Send + Unpin>,
    seen: Arc<Mutex<Seen>>,
    /// Read, and not given yet.
    rest: BytesMut,
    rows: u64,
    /// Why there is no more, if not for the file's end.
    broken: Option<String>,
    at_end: bool,
}

/// The file as it lies on disk.
#[derive(Default)]
pub(super) struct Seen {
    sha256: Sha256,
    bytes: u64,
}

/// What a file holds, unpacked, and where it is noted what lies on disk.
type Opened = (Box<dyn AsyncBufRead + Send + Unpin>, Arc<Mutex<Seen>>);

pub(super) async fn open(path: &Path) -> Result<Opened, OutputError> {
    let file = tokio::fs::File::open(path).await.map_err(OutputError::io("open file", path))?;
    let seen = Arc::<Mutex<Seen>>::default();
    Ok((unpacked(path, Hashing { file, seen: seen.clone() }), seen))
}

impl RowReader {
    pub async fn open(path: &Path) -> Result<Self, OutputError> {
        let (unpacked, seen) = open(path).await?;
        let rest = BytesMut::new();
        Ok(Self {
            path: path.to_owned(),
            unpacked,
            seen,
            rest,
            rows: 0,
            broken: None,
            at_end: false,
        })
    }

    /// The next rows. What cannot be unpacked ends them, and so does a last row
    /// without its newline, which is given as [`Self::torn`].
    pub async fn next(&mut self) -> Option<Rows> {
        let mut searched = 0;
        loop {
            if let Some(last) = memchr::memrchr(b'\n', &self.rest[searched..])
                && (self.at_end || self.rest.len() >= ROWS_BYTES / 2)
            {
                let text = self.rest.split_to(searched + last + 1).freeze();
                let count = memchr::memchr_iter(b'\n', &text).count() as u64;
                self.rows += count;
                return Some(Rows { text, count });
            }
            if self.at_end {
                return None;
            }
            // Short rows that came before stay unsearched until there are enough.
            searched = if self.rest.len() >= ROWS_BYTES / 2 { self.rest.len() } else { 0 };
            self.rest.reserve(ROWS_BYTES);
            match self.unpacked.read_buf(&mut self.rest).await {
                Ok(0) => self.at_end = true,
                Ok(_) => {}
                Err(e) => {
                    self.broken = Some(e.to_string());
                    self.at_end = true;
                }
            }
            if self.at_end {
                searched = 0;
            }
        }
    }

    /// How many rows were given.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// At the end: what stands behind the last newline, a row that was cut off.
    pub fn torn(&self) -> Option<&[u8]> {
        (!self.rest.is_empty()).then_some(&self.rest[..])
    }

    /// At the end: what is not as the manifest says.
    pub fn complaint(&self, entry: &FileEntry) -> Option<String> {
        complaint(&self.path, self.broken.as_ref(), self.rows, &self.seen, entry)
    }
}

/// What is not as the manifest says, of a file that was read to its end.
/// `broken`: why it could not be.
pub(super) fn complaint(
    path: &Path,
    broken: Option<&String>,
    rows: u64,
    seen: &Mutex<Seen>,
    entry: &FileEntry,
) -> Option<String> {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let path = path.display();
    if let Some(why) = broken {
        return Some(format!(
            "file \"{path}\" cannot be unpacked to its end ({why}): {} of {} rows are missing",
            entry.rows.saturating_sub(rows),
            entry.rows
        ));
    }
    if rows != entry.rows {
        return Some(format!(
            "file \"{path}\" has {rows} rows, and {} by the manifest",
            entry.rows
        ));
    }
    if hex(&seen.sha256.clone().finalize()) != entry.sha256 {
        let bytes = seen.bytes;
        return Some(format!(
            "file \"{path}\" ({bytes} bytes) is not the one that was dumped: its sha256 is another"
        ));
    }
    None
}

/// Hashes what is read through it.
struct Hashing {
    pub(super) file: tokio::fs::File,
    pub(super) seen: Arc<Mutex<Seen>>,
}

impl AsyncRead for Hashing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.file).poll_read(cx, buf))?;
        let new = &buf.filled()[before..];
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.sha256.update(new);
        seen.bytes += new.len() as u64;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::RowClass;
    use super::*;

    fn entry(rows: u64, text: &[u8]) -> FileEntry {
        FileEntry {
            class: RowClass::Clean,
            path: "t.copy".into(),
            rows,
            bytes: text.len() as u64,
            sha256: hex(&Sha256::digest(text)),
        }
    }

    async fn read(text: &[u8]) -> (RowReader, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.copy");
        std::fs::write(&path, text).unwrap();
        let mut reader = RowReader::open(&path).await.unwrap();
        let mut all = Vec::new();
        while let Some(rows) = reader.next().await {
            assert_eq!(rows.count, rows.text.iter().filter(|b| **b == b'\n').count() as u64);
            assert!(rows.text.ends_with(b"\n"));
            all.extend_from_slice(&rows.text);
        }
        (reader, all)
    }

    #[tokio::test]
    async fn rows_come_whole_however_long_they_are() {
        for length in [0, 1, 100, ROWS_BYTES - 1, ROWS_BYTES, 3 * ROWS_BYTES] {
            let mut text = Vec::new();
            for n in 0..7 {
                text.extend(std::iter::repeat_n(b'a' + n, length * usize::from(n % 3)));
                text.push(b'\n');
            }
            let (reader, all) = read(&text).await;
            assert!(all == text, "{length}");
            assert_eq!((reader.rows(), reader.torn()), (7, None));
            assert_eq!(reader.complaint(&entry(7, &text)), None);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_the_one_that_was_dumped_is_known_for_it() {
        let (reader, all) = read(b"1\n2\n3").await;
        assert_eq!((reader.rows(), reader.torn()), (2, Some(&b"3"[..])));
        assert_eq!(all, b"1\n2\n");
        let said = reader.complaint(&entry(3, b"1\n2\n3\n")).unwrap();
        assert!(said.ends_with("has 2 rows, and 3 by the manifest"), "{said}");
        let (reader, _) = read(b"1\n2\n4\n").await;
        let said = reader.complaint(&entry(3, b"1\n2\n3\n")).unwrap();
        assert!(said.contains("its sha256 is another"), "{said}");
    }
}
