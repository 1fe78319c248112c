//! One `*.part` file: compressed frames, their checksum, and large writes.
//!
//! Blocking, so it runs on the blocking pool; `rows` is its asynchronous face.
//! Frames come into being in memory and are written when enough of them is
//! there. A write that fails leaves both as they were, so after a full disk
//! one can cut back to a mark and go on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::codec::Codec;
use super::error::OutputError;
use super::fault_point::{fault_point, is_durable, torn_write};
use super::frame::Frame;
use super::space::Space;

/// Files are written in pieces of at least this size.
const WRITE_BYTES: usize = 512 * 1024;
const COPY_BYTES: usize = 1024 * 1024;

pub(super) struct PartFile {
    path: PathBuf,
    file: File,
    codec: Codec,
    frame: Option<Frame>,
    /// What is not in the file yet; its place there is `written`.
    pending: Vec<u8>,
    written: u64,
    /// How much of the file is known to be on the disk.
    synced: u64,
    /// Of all that is written and pending.
    sha256: Sha256,
    space: Option<Arc<Space>>,
}

impl PartFile {
    pub(super) fn create(path: PathBuf, codec: Codec, replace: bool) -> Result<Self, OutputError> {
        if replace {
            // Never the same file: a writer that was dropped may still be at it.
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(OutputError::io("remove file", &path)(error));
                }
                _ => {}
            }
        }
        fault_point("create rows");
        let file = OpenOptions::new()
            .write(true)
            .read(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(OutputError::io("create file", &path))?;
        let part = Self::new(path, file, codec);
        is_durable(&part.file, 0);
        part.lock();
        Ok(part)
    }

    /// Opens the file of an earlier run and cuts it back to `len` bytes.
    pub(super) fn reopen(path: PathBuf, codec: Codec, len: u64) -> Result<Self, OutputError> {
        let file = OpenOptions::new()
            .write(true)
            .read(true)
            .open(&path)
            .map_err(OutputError::io("open file", &path))?;
        let mut part = Self::new(path, file, codec);
        part.lock();
        let found = part.file.metadata().map_err(OutputError::io("read file", &part.path))?.len();
        if found < len {
            return Err(OutputError::TooShort { path: part.path, found, expected: len });
        }
        fault_point("cut rows back");
        part.file.set_len(len).map_err(OutputError::io("truncate file", &part.path))?;
        is_durable(&part.file, len);
        let mut bytes = vec![0; COPY_BYTES];
        while part.written < len {
            let read =
                (&part.file).read(&mut bytes).map_err(OutputError::io("read file", &part.path))?;
            if read == 0 {
                return Err(OutputError::TooShort {
                    path: part.path,
                    found: part.written,
                    expected: len,
                });
            }
            part.sha256.update(&bytes[..read]);
            part.written += read as u64;
        }
        part.synced = len;
        Ok(part)
    }

    pub(super) fn new(path: PathBuf, file: File, codec: Codec) -> Self {
        Self {
            path,
            file,
            codec,
            frame: None,
            pending: Vec::new(),
            written: 0,
            synced: 0,
            sha256: Sha256::new(),
            space: None,
        }
    }

    /// Takes in rows only as long as there is space.
    pub(super) fn within(self, space: Arc<Space>) -> Self {
        Self { space: Some(space), ..self }
    }

    /// Waits for a writer that was dropped in the middle of its work. Where
    /// there are no locks, there is nobody to wait for but ourselves.
    fn lock(&self) {
        let _ = flock(&self.file, FlockOperation::LockExclusive);
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next byte will come to lie.
    pub(super) fn len(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    pub(super) fn sha256(&self) -> &Sha256 {
        &self.sha256
    }

    /// Compresses `bytes` into the open frame, or into a new one.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.space.as_ref().map_or(Ok(()), |space| space.allow())?;
        let start = self.pending.len();
        let frame = self.frame.get_or_insert_with(|| Frame::new(self.codec));
        frame.feed(bytes, &mut self.pending).map_err(OutputError::io("compress", &self.path))?;
        self.sha256.update(&self.pending[start..]);
        self.write_if_large()
    }

    /// Ends the open frame, if there is one.
    pub(super) fn end_frame(&mut self) -> Result<(), OutputError> {
        let Some(frame) = self.frame.take() else { return Ok(()) };
        let start = self.pending.len();
        frame.finish(&mut self.pending).map_err(OutputError::io("compress", &self.path))?;
        self.sha256.update(&self.pending[start..]);
        self.write_if_large()
    }

    /// A file of nothing at all would not be accepted by zstd and the like.
    pub(super) fn write_empty_frame(&mut self) -> Result<(), OutputError> {
        self.frame = Some(Frame::new(self.codec));
        self.end_frame()
    }

    /// Drops the open frame and all that follows `len`.
    pub(super) fn truncate(&mut self, len: u64, sha256: Sha256) -> Result<(), OutputError> {
        self.frame = None;
        let pending = len.saturating_sub(self.written);
        self.pending.truncate(usize::try_from(pending).unwrap_or(usize::MAX));
        self.written = self.written.min(len);
        self.synced = self.synced.min(len);
        self.sha256 = sha256;
        fault_point("truncate rows");
        // Also when nothing was written after it: a write may have failed half-way.
        self.file.set_len(self.written).map_err(OutputError::io("truncate file", &self.path))
    }

    /// Appends a whole file of finished frames.
    pub(super) fn append(&mut self, path: &Path, len: u64) -> Result<(), OutputError> {
        let mut file = File::open(path).map_err(OutputError::io("open file", path))?.take(len);
        let mut bytes = vec![0; COPY_BYTES];
        let mut copied = 0;
        loop {
            let read = match file.read(&mut bytes) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(OutputError::io("read file", path)(error)),
            };
            self.sha256.update(&bytes[..read]);
            self.pending.extend_from_slice(&bytes[..read]);
            copied += read as u64;
            self.write_if_large()?;
        }
        if copied < len {
            let path = path.to_owned();
            return Err(OutputError::TooShort { path, found: copied, expected: len });
        }
        Ok(())
    }

    fn write_if_large(&mut self) -> Result<(), OutputError> {
        if self.pending.len() < WRITE_BYTES { Ok(()) } else { self.write() }
    }

    /// Writes what is pending to the file.
    pub(super) fn write(&mut self) -> Result<(), OutputError> {
        let write = |bytes: &[u8]| self.file.write_all_at(bytes, self.written);
        let written =
            torn_write("write rows", &self.pending, write).and_then(|()| write(&self.pending));
        if let Err(error) = written {
            // Where the disk is full, half a write would take the room that the
            // manifest needs. If this fails, too, it is no worse than before.
            let _ = self.file.set_len(self.written);
            return Err(OutputError::io("write file", &self.path)(error));
        }
        if let Some(space) = &self.space {
            space.wrote(self.pending.len() as u64);
        }
        self.written = self.len();
        self.pending.clear();
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), OutputError> {
        self.write()?;
        fault_point("sync rows");
        self.file.sync_all().map_err(OutputError::io("sync file", &self.path))?;
        self.synced = self.written;
        is_durable(&self.file, self.synced);
        Ok(())
    }
}

/// Copies `len` bytes from `offset` on into a new file.
pub(super) fn carve(
    from: &Path,
    offset: u64,
    len: u64,
    to: &Path,
    sync: bool,
) -> Result<(), OutputError> {
    fault_point("carve rows");
    let source = File::open(from).map_err(OutputError::io("open file", from))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)
        .map_err(OutputError::io("create file", to))?;
    let copied = (&source)
        .seek(SeekFrom::Start(offset))
        .and_then(|_| io::copy(&mut source.take(len), &mut file))
        .map_err(OutputError::io("write file", to))?;
    if copied < len {
        let (path, found, expected) = (from.to_owned(), offset + copied, offset + len);
        return Err(OutputError::TooShort { path, found, expected });
    }
    if sync {
        file.sync_all().map_err(OutputError::io("sync file", to))?;
        is_durable(&file, len);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_full_disk_one_can_cut_back_to_a_mark_and_go_on() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("t.part");
        let mut part = PartFile::create(path.clone(), Codec::NONE, false).unwrap();
        part.feed(b"1\n").unwrap();
        part.write().unwrap();
        part.feed(b"2\n").unwrap();
        let (len, sha256) = (part.len(), part.sha256().clone());

        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let disk = std::mem::replace(&mut part.file, full);
        let error = part.feed(&vec![b'x'; WRITE_BYTES]).unwrap_err();
        assert!(error.is_disk_full(), "{error}");

        part.file = disk;
        // What a write left that did not come to its end.
        part.file.write_all_at(b"2\nxxxx", 2).unwrap();
        part.truncate(len, sha256).unwrap();
        part.feed(b"3\n").unwrap();
        part.sync().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n2\n3\n");
        assert_eq!(part.sha256().clone().finalize(), Sha256::digest(b"1\n2\n3\n"));
    }
}
