//! Rows of one block that are held back until it is known what they are worth.
//!
//! A page has few tuples, but their TOASTed values may be of any size: beyond a
//! limit the rows wait in a file that has no name.

use crate::heap::BlockNumber;
use crate::output::{Content, OutputError};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// So many bytes are held in memory.
const HELD_IN_MEMORY_MAX: usize = 16 * 1024 * 1024;

/// What is given back of the file at a time.
const STEP: usize = 256 * 1024;

pub(super) struct Held {
    /// Where a file may be made; none: the rows are only counted.
    folder: Option<PathBuf>,
    block: Option<BlockNumber>,
    content: Content,
    memory: Vec<u8>,
    file: Option<File>,
    /// How much is in the file.
    spilled: u64,
}

/// Rows before a mark.
pub(super) struct HeldMark {
    content: Content,
    len: u64,
}

impl Held {
    pub(super) fn new(folder: Option<&Path>) -> Self {
        let folder = folder.map(Path::to_owned);
        Self {
            folder,
            block: None,
            content: Content::default(),
            memory: Vec::new(),
            file: None,
            spilled: 0,
        }
    }

    /// The block whose rows are held, if there are any.
    pub(super) fn block(&self) -> Option<BlockNumber> {
        self.block
    }

    pub(super) fn rows(&self) -> u64 {
        self.content.rows
    }

    /// Without the hashes of rows that came in pieces.
    pub(super) fn content(&self) -> Content {
        self.content
    }

    pub(super) fn push(&mut self, block: BlockNumber, row: &[u8]) -> Result<(), OutputError> {
        self.content.add(row.strip_suffix(b"\n").unwrap_or(row));
        self.push_some(block, 0, row)
    }

    /// A piece of a row, or several rows, of which no hash is taken.
    pub(super) fn push_some(
        &mut self,
        block: BlockNumber,
        rows: u64,
        row: &[u8],
    ) -> Result<(), OutputError> {
        self.block = Some(block);
        self.content.rows += rows;
        let Some(folder) = &self.folder else { return Ok(()) };
        self.memory.extend_from_slice(row);
        if self.memory.len() > HELD_IN_MEMORY_MAX {
            let failed = OutputError::io("write file", folder);
            let mut spill = || {
                let file = match &mut self.file {
                    Some(file) => file,
                    none => none.insert(unnamed(folder)?),
                };
                file.write_all(&self.memory)
            };
            spill().map_err(failed)?;
            self.spilled += self.memory.len() as u64;
            self.memory = Vec::new();
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        (self.block, self.content, self.file, self.spilled) = (None, Content::default(), None, 0);
        self.memory.clear();
    }

    /// A place to go back to, while nothing is given.
    pub(super) fn mark(&self) -> HeldMark {
        HeldMark { content: self.content, len: self.spilled + self.memory.len() as u64 }
    }

    /// Forgets the rows that came after the mark.
    pub(super) fn rollback(&mut self, mark: &HeldMark) -> Result<(), OutputError> {
        if mark.content.rows == 0 {
            self.clear();
        }
        // They were given meanwhile, with those before the mark.
        if self.content.rows <= mark.content.rows {
            return Ok(());
        }
        self.content = mark.content;
        let kept = mark.len.saturating_sub(self.spilled);
        self.memory.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        if mark.len < self.spilled
            && let (Some(file), Some(folder)) = (&mut self.file, &self.folder)
        {
            let mut cut = || {
                file.set_len(mark.len)?;
                file.seek(SeekFrom::End(0))
            };
            cut().map_err(OutputError::io("write file", folder))?;
            self.spilled = mark.len;
        }
        Ok(())
    }

    /// The first bytes not given yet; empty at the end. Before the first call,
    /// [`Self::rewind`].
    pub(super) fn next_bytes(&mut self) -> Result<Vec<u8>, OutputError> {
        if let (Some(file), Some(folder)) = (&mut self.file, &self.folder) {
            let mut bytes = Vec::new();
            Read::by_ref(file)
                .take(STEP as u64)
                .read_to_end(&mut bytes)
                .map_err(OutputError::io("read file", folder))?;
            if !bytes.is_empty() {
                return Ok(bytes);
            }
        }
        Ok(std::mem::take(&mut self.memory))
    }

    pub(super) fn rewind(&mut self) -> Result<(), OutputError> {
        if let (Some(file), Some(folder)) = (&mut self.file, &self.folder) {
            file.seek(SeekFrom::Start(0)).map_err(OutputError::io("read file", folder))?;
        }
        Ok(())
    }
}

/// A file that goes away with its last handle, whatever happens to us.
fn unnamed(folder: &Path) -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    if let Ok(fd) = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        return Ok(fd.into());
    }
    // Not every file system has those: make one, and take its name away.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    let pid = rustix::process::getpid().as_raw_nonzero();
    let path = folder.join(format!("held.{pid}.{number}.part"));
    let fd = rustix::fs::open(
        &path,
        OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )?;
    std::fs::remove_file(&path)?;
    Ok(fd.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_went_in_however_many_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let row = vec![b'x'; 3_000_000];
        for count in [0, 1, 5, 20] {
            let mut held = Held::new(Some(folder.path()));
            for _ in 0..count {
                held.push(7, &row).unwrap();
                assert!(held.memory.len() <= HELD_IN_MEMORY_MAX);
            }
            assert_eq!((held.rows(), held.block()), (count, (count > 0).then_some(7)));
            held.rewind().unwrap();
            let mut back = 0;
            loop {
                let bytes = held.next_bytes().unwrap();
                if bytes.is_empty() {
                    break;
                }
                back += bytes.len() as u64;
            }
            assert_eq!(back, count * 3_000_000);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_came_after_a_mark_can_be_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let row = |byte| vec![byte; 3_000_000];
        for (before, after) in [(0, 3), (1, 1), (1, 7), (7, 1), (7, 9), (6, 0)] {
            let mut held = Held::new(Some(folder.path()));
            (0..before).for_each(|_| held.push(7, &row(b'a')).unwrap());
            let mark = held.mark();
            (0..after).for_each(|_| held.push(7, &row(b'b')).unwrap());
            held.rollback(&mark).unwrap();
            held.push(7, &row(b'c')).unwrap();
            assert_eq!(held.rows(), before as u64 + 1);
            held.rewind().unwrap();
            let mut back = Vec::new();
            loop {
                match held.next_bytes().unwrap() {
                    bytes if bytes.is_empty() => break,
                    bytes => back.extend(bytes),
                }
            }
            let expected = [row(b'a').repeat(before), row(b'c')].concat();
            assert!(back == expected, "{before} and {after}");
        }
    }
}
