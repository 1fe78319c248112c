//! Rows in COPY text format, compressed into one file that can be cut back.
//!
//! A file is a sequence of frames (see `frame`). Between two frames lies a
//! [`Mark`]: the writer can go back to it, and a run that comes later can go on
//! from it. Workers that share a relation each write a [`Piece`], and the
//! pieces are appended in heap order.
//!
//! The bytes of a file depend on the rows, on where frames were ended and on
//! the codec, and on nothing else: the compressor is fed slices of one size
//! however the rows came, and a frame is the same in its place and in a piece.
//!
//! Compression and writing run on the blocking pool, one slice behind the
//! caller. No method may be cancelled halfway, except that [`RowWriter::rollback`]
//! afterwards puts things right, as it does after an error.

use std::io;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tokio::task::{JoinHandle, spawn_blocking};

use super::codec::Codec;
use super::dir::DumpDir;
use super::error::OutputError;
use super::fault_point::fault_point;
use super::journal::Extent;
use super::manifest::{FileEntry, RowClass, hex};
use super::part::{self, PartFile};

/// The compressor is fed this much at a time.
const FEED_BYTES: usize = 256 * 1024;

/// A place between two frames.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Offset in the compressed file.
    pub offset: u64,
    /// How many rows lie before it.
    pub rows: u64,
    /// How long these are, uncompressed.
    pub bytes: u64,
    sha256: Sha256,
}

/// A file of finished frames that is to be appended to another.
#[derive(Clone, Debug)]
#[must_use = "a piece is appended or discarded"]
pub struct Piece {
    path: PathBuf,
    extent: Extent,
}

impl Mark {
    /// All that lies before it; what the hash is of, the writer does not know.
    pub fn extent(&self) -> Extent {
        Extent { len: self.offset, rows: self.rows, bytes: self.bytes, hash: None }
    }
}

pub struct RowWriter {
    class: RowClass,
    /// The final name, from the dump directory on.
    relative: String,
    directory: PathBuf,
    sync: bool,
    /// Rows that the compressor has not been given yet.
    batch: Vec<u8>,
    frame_is_open: bool,
    rows: u64,
    bytes: u64,
    part: Part,
    /// After an error, what it was; only a rollback helps then.
    failed: Option<Failure>,
}

/// The file is either here or at work on the blocking pool.
enum Part {
    Idle {
        file: Box<PartFile>,
        spare: Vec<u8>,
    },
    Busy(JoinHandle<Done>),
    /// A job panicked or the runtime went down.
    Gone,
}

struct Done {
    file: Box<PartFile>,
    spare: Vec<u8>,
    result: Result<(), OutputError>,
}

struct Failure {
    kind: io::ErrorKind,
    errno: Option<i32>,
}

impl RowWriter {
    /// Creates `relative` with `.part` appended; [`RowWriter::finish`] gives it
    /// its final name.
    pub fn create(
        dir: &DumpDir,
        relative: &str,
        class: RowClass,
        codec: Codec,
    ) -> Result<Self, OutputError> {
        let file = PartFile::create(part_path(dir, relative), codec, dir.is_resumed())?;
        Ok(Self::new(dir, relative, class, file))
    }

    /// Goes on with the file of an earlier run, from one of its marks. What
    /// follows the mark is cut off. Reads all that lies before it.
    pub async fn reopen(
        dir: &DumpDir,
        relative: &str,
        class: RowClass,
        codec: Codec,
        Extent { len, rows, bytes, .. }: Extent,
    ) -> Result<Self, OutputError> {
        let path = part_path(dir, relative);
        let file = joined(spawn_blocking(move || PartFile::reopen(path, codec, len)).await)
            .map_err(OutputError::io("open file", &part_path(dir, relative)))??;
        Ok(Self { rows, bytes, ..Self::new(dir, relative, class, file) })
    }

    fn new(dir: &DumpDir, relative: &str, class: RowClass, file: PartFile) -> Self {
        Self {
            class,
            relative: relative.to_owned(),
            directory: dir.path().to_owned(),
            sync: dir.sync(),
            batch: Vec::new(),
            frame_is_open: false,
            rows: 0,
            bytes: 0,
            part: Part::Idle { file: Box::new(file.within(dir.space())), spare: Vec::new() },
            failed: None,
        }
    }

    /// How many rows the file holds.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How long these are, uncompressed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends `row_count` whole rows. An error may be that of an earlier call.
    pub async fn write(&mut self, mut rows: &[u8], row_count: u64) -> Result<(), OutputError> {
        self.check()?;
        self.rows += row_count;
        self.bytes += rows.len() as u64;
        self.frame_is_open |= !rows.is_empty();
        while !rows.is_empty() {
            let (now, later) = rows.split_at(rows.len().min(FEED_BYTES - self.batch.len()));
            self.batch.extend_from_slice(now);
            rows = later;
            if self.batch.len() == FEED_BYTES {
                self.feed().await?;
            }
        }
        Ok(())
    }

    /// Ends the compression frame, unless nothing was written since the last.
    pub async fn end_frame(&mut self) -> Result<Mark, OutputError> {
        self.check()?;
        if self.frame_is_open {
            if !self.batch.is_empty() {
                self.feed().await?;
            }
            self.run(PartFile::end_frame).await?;
            self.frame_is_open = false;
        }
        let (rows, bytes) = (self.rows, self.bytes);
        let file = self.file().await?;
        Ok(Mark { offset: file.len(), rows, bytes, sha256: file.sha256().clone() })
    }

    /// Ends the frame and makes all before the mark durable.
    pub async fn sync(&mut self) -> Result<Mark, OutputError> {
        let mark = self.end_frame().await?;
        let sync = self.sync;
        self.run(move |file| if sync { file.sync() } else { file.write() }).await?;
        Ok(mark)
    }

    /// Takes back all that was written or appended after `mark`.
    pub async fn rollback(&mut self, mark: &Mark) -> Result<(), OutputError> {
        // What went wrong after the mark does not matter any more.
        let _ = self.settle().await;
        self.failed = None;
        self.batch.clear();
        self.frame_is_open = false;
        (self.rows, self.bytes) = (mark.rows, mark.bytes);
        let (offset, sha256) = (mark.offset, mark.sha256.clone());
        self.run(move |file| file.truncate(offset, sha256)).await
    }

    /// Ends the frame and appends the frames of `piece`, whose file is left to
    /// whoever knows that nobody will need it again.
    pub async fn append(&mut self, piece: &Piece) -> Result<(), OutputError> {
        self.end_frame().await?;
        let Piece { path, extent } = piece.clone();
        self.run(move |file| file.append(&path, extent.len)).await?;
        self.rows += extent.rows;
        self.bytes += extent.bytes;
        Ok(())
    }

    /// Ends the frame and closes the file, for another writer to append.
    pub async fn into_piece(mut self) -> Result<Piece, OutputError> {
        let mark = self.end_frame().await?;
        self.run(PartFile::write).await?;
        let path = self.file().await?.path().to_owned();
        Ok(Piece { path, extent: mark.extent() })
    }

    /// Ends the frame, syncs the file and gives it its final name. The name is
    /// durable after [`DumpDir::sync_names`].
    pub async fn finish(mut self) -> Result<FileEntry, OutputError> {
        if self.end_frame().await?.offset == 0 {
            self.run(PartFile::write_empty_frame).await?;
        }
        let end = self.sync().await?;
        let path = self.directory.join(&self.relative);
        self.run(move |file| {
            fault_point("rename rows");
            std::fs::rename(file.path(), &path).map_err(OutputError::io("rename file", &path))
        })
        .await?;
        Ok(FileEntry {
            class: self.class,
            path: self.relative,
            rows: end.rows,
            bytes: end.offset,
            sha256: hex(&end.sha256.finalize()),
        })
    }

    /// Deletes the file.
    pub async fn discard(mut self) -> Result<(), OutputError> {
        let _ = self.settle().await;
        self.run(|file| {
            fault_point("remove rows");
            std::fs::remove_file(file.path()).map_err(OutputError::io("remove file", file.path()))
        })
        .await
    }

    fn check(&self) -> Result<(), OutputError> {
        match &self.failed {
            None => Ok(()),
            Some(failure) => Err(self.error("write file", failure.again())),
        }
    }

    fn error(&self, doing: &'static str, source: io::Error) -> OutputError {
        OutputError::io(doing, &self.directory.join(&self.relative))(source)
    }

    /// Hands the batch to the compressor, once that is done with the last one.
    async fn feed(&mut self) -> Result<(), OutputError> {
        self.settle().await?;
        let batch = std::mem::replace(&mut self.batch, self.part.take_spare());
        self.start(batch, PartFile::feed)
    }

    /// Does `job` and waits for its end.
    async fn run<F>(&mut self, job: F) -> Result<(), OutputError>
    where
        F: FnOnce(&mut PartFile) -> Result<(), OutputError> + Send + 'static,
    {
        self.settle().await?;
        let spare = self.part.take_spare();
        self.start(spare, |file, _| job(file))?;
        self.settle().await
    }

    fn start<F>(&mut self, mut batch: Vec<u8>, job: F) -> Result<(), OutputError>
    where
        F: FnOnce(&mut PartFile, &[u8]) -> Result<(), OutputError> + Send + 'static,
    {
        let Part::Idle { mut file, .. } = std::mem::replace(&mut self.part, Part::Gone) else {
            return Err(self.interrupted());
        };
        self.part = Part::Busy(spawn_blocking(move || {
            let result = job(&mut file, &batch);
            batch.clear();
            Done { file, spare: batch, result }
        }));
        Ok(())
    }

    /// Waits until the file is idle, and says what became of its last job.
    async fn settle(&mut self) -> Result<(), OutputError> {
        let Part::Busy(job) = &mut self.part else { return Ok(()) };
        let done = joined(job.await);
        self.part = Part::Gone;
        let Done { file, spare, result } =
            done.map_err(|source| self.error("write file", source))?;
        self.part = Part::Idle { file, spare };
        self.failed = result.as_ref().err().map(Failure::of);
        result
    }

    async fn file(&mut self) -> Result<&PartFile, OutputError> {
        self.settle().await?;
        match &self.part {
            Part::Idle { file, .. } => Ok(file),
            Part::Busy(_) | Part::Gone => Err(self.interrupted()),
        }
    }

    fn interrupted(&self) -> OutputError {
        self.error("write file", io::Error::other("the writer was interrupted"))
    }
}

impl Part {
    fn take_spare(&mut self) -> Vec<u8> {
        match self {
            Self::Idle { spare, .. } => std::mem::take(spare),
            Self::Busy(_) | Self::Gone => Vec::new(),
        }
    }
}

impl Piece {
    /// Rows in the piece.
    pub fn rows(&self) -> u64 {
        self.extent.rows
    }

    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Takes up a piece that an earlier run left, from one of its marks.
    pub fn reopen(dir: &DumpDir, relative: &str, extent: Extent) -> Self {
        Self { path: part_path(dir, relative), extent }
    }

    /// Copies frames out of the middle of a relation's file: `len` bytes from
    /// `offset` on. What was there under the name is replaced.
    pub async fn carve(
        dir: &DumpDir,
        from: &str,
        offset: u64,
        relative: &str,
        len: u64,
    ) -> Result<(), OutputError> {
        let (from, path, sync) = (part_path(dir, from), part_path(dir, relative), dir.sync());
        let to = path.clone();
        let carving = spawn_blocking(move || part::carve(&from, offset, len, &to, sync));
        joined(carving.await).map_err(OutputError::io("write file", &path))?
    }

    /// Deletes its file.
    pub async fn discard(self) -> Result<(), OutputError> {
        let Self { path, .. } = self;
        fault_point("remove piece");
        tokio::fs::remove_file(&path).await.map_err(OutputError::io("remove file", &path))
    }
}

impl Failure {
    fn of(error: &OutputError) -> Self {
        match error {
            OutputError::Io { source, .. } => {
                Self { kind: source.kind(), errno: source.raw_os_error() }
            }
            _ => Self { kind: io::ErrorKind::Other, errno: None },
        }
    }

    fn again(&self) -> io::Error {
        self.errno.map_or_else(|| self.kind.into(), io::Error::from_raw_os_error)
    }
}

/// A panic goes on where it is waited for; a job that the runtime dropped on
/// its way down is an error.
fn joined<T>(result: Result<T, tokio::task::JoinError>) -> io::Result<T> {
    result.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(cancelled) => io::Error::other(cancelled),
    })
}

fn part_path(dir: &DumpDir, relative: &str) -> PathBuf {
    dir.path().join(format!("{relative}.part"))
}

#[cfg(test)]
mod tests;
