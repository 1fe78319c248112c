//! How stretches that are read by several workers end as one file in heap order.
//!
//! A lane is one class of rows of one relation. The stretch whose turn it is
//! writes into the file itself; the others write pieces, which are appended
//! when their turn comes. Where frames end depends on the stretches alone, so
//! the bytes are the same however many workers there were.

use crate::output::binary::{around, header_extent};
use crate::output::journal::Extent;
use crate::output::manifest::{FileEntry, RowClass};
use crate::output::{Codec, Content, ContentHash, DumpDir, Mark, OutputError, Piece, RowWriter};
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Lane {
    place: Place,
    /// The file itself, while no stretch writes into it and it is open.
    head: Option<RowWriter>,
    /// How much of the file is of stretches before `next`, and what it begins
    /// with.
    joined: Extent,
    /// What it begins with.
    header: Extent,
    /// The stretch whose turn it is.
    next: usize,
    /// What came before its turn; none: it had no rows.
    waiting: BTreeMap<usize, Option<Piece>>,
    begun: Begun,
    rows: u64,
    /// Of all these rows. None: not of all is it known.
    hash: Option<ContentHash>,
}

/// What an earlier run has begun, and how much of it is vouched for.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    /// Of stretches before this one, the relation's file.
    pub next: usize,
    pub joined: Extent,
    /// Of that stretch itself, behind them.
    pub in_place: Extent,
    /// Of later ones, in pieces of their own: those to be gone on with, and
    /// those that are done.
    pub pieces: BTreeMap<usize, Extent>,
    pub done: BTreeMap<usize, Extent>,
}

/// Where the file is to be.
#[derive(Clone)]
struct Place {
    dir: Option<Arc<DumpDir>>,
    path: String,
    class: RowClass,
    codec: Codec,
}

/// The file of a stretch that is read before its turn, without `.part`.
pub fn piece_path(path: &str, stretch: usize) -> String {
    format!("{path}.{stretch:08}")
}

impl Place {
    /// The relation's file, or that of one stretch.
    fn path(&self, stretch: Option<usize>) -> String {
        stretch.map_or_else(|| self.path.clone(), |n| piece_path(&self.path, n))
    }

    /// Opens a file, new or from an extent of it on.
    async fn writer(
        &self,
        stretch: Option<usize>,
        from: Extent,
    ) -> Result<Option<RowWriter>, OutputError> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let path = self.path(stretch);
        if from.len > 0 {
            return RowWriter::reopen(dir, &path, self.class, self.codec, from).await.map(Some);
        }
        let mut writer = RowWriter::create(dir, &path, self.class, self.codec)?;
        let (header, _) = around(self.class);
        if stretch.is_none() && !header.is_empty() {
            writer.write(header, 0).await?;
            writer.end_frame().await?;
        }
        Ok(Some(writer))
    }
}

impl Lane {
    /// Without a directory nothing is written, and rows are only counted.
    pub fn new(
        dir: Option<Arc<DumpDir>>,
        path: String,
        class: RowClass,
        codec: Codec,
    ) -> Result<Self, OutputError> {
        Self::resumed(dir, path, class, codec, Begun::default())
    }

    /// Goes on with what an earlier run has written.
    pub fn resumed(
        dir: Option<Arc<DumpDir>>,
        path: String,
        class: RowClass,
        codec: Codec,
        begun: Begun,
    ) -> Result<Self, OutputError> {
        let waiting = begun.done.iter().map(|(&stretch, &extent)| {
            let dir = dir.as_deref().filter(|_| extent.len > 0);
            (stretch, dir.map(|d| Piece::reopen(d, &piece_path(&path, stretch), extent)))
        });
        let waiting: BTreeMap<_, _> = waiting.collect();
        let begun_rows = begun.done.values().copied().fold(begun.joined, Extent::and);
        let Extent { rows, hash, .. } = begun_rows;
        let header = header_extent(class, codec)?;
        let (next, joined) = (begun.next, header.and(begun.joined));
        let place = Place { dir, path, class, codec };
        Ok(Self { place, head: None, joined, header, next, waiting, begun, rows, hash })
    }

    /// Where a stretch writes.
    pub async fn take(&mut self, stretch: usize) -> Result<LaneWriter, OutputError> {
        let piece = self.begun.pieces.remove(&stretch);
        // What was begun in a piece is gone on with there.
        let in_place = stretch == self.next && piece.is_none();
        let (base, kept) = match in_place {
            true => (self.joined, std::mem::take(&mut self.begun.in_place)),
            false => (Extent::default(), piece.unwrap_or_default()),
        };
        let mut file = if in_place { self.head.take() } else { None };
        let from = base.and(kept);
        let header = if in_place { self.header } else { Extent::default() };
        if file.is_none() && from.len > header.len {
            file = self.place.writer((!in_place).then_some(stretch), from).await?;
        }
        if let Some(file) = &mut file {
            file.end_frame().await?;
        }
        let place = self.place.clone();
        Ok(LaneWriter { place, stretch, in_place, file, base, rows: kept.rows, hash: kept.hash })
    }

    /// Takes back what a stretch has written, and says how much it is.
    pub async fn give_back(&mut self, mut writer: LaneWriter) -> Result<Extent, OutputError> {
        self.rows += writer.rows;
        self.hash = self.hash.zip(writer.hash).map(|(all, more)| all + more);
        let extent = writer.extent().await?;
        if writer.in_place {
            self.head = writer.file;
            self.joined = self.joined.and(extent);
            self.next += 1;
        } else {
            let piece = match writer.file {
                Some(file) => Some(file.into_piece().await?),
                None => None,
            };
            self.waiting.insert(writer.stretch, piece);
        }
        Ok(extent)
    }

    /// Appends the pieces whose turn it is. They are to be discarded when it is
    /// written down that nobody needs them again.
    pub async fn join(&mut self) -> Result<Vec<Piece>, OutputError> {
        let mut joined = Vec::new();
        while let Some(piece) = self.waiting.remove(&self.next) {
            self.next += 1;
            let Some(piece) = piece else { continue };
            self.open_head().await?;
            if let Some(head) = &mut self.head {
                head.append(&piece).await?;
            }
            self.joined = self.joined.and(piece.extent());
            joined.push(piece);
        }
        Ok(joined)
    }

    async fn open_head(&mut self) -> Result<(), OutputError> {
        if self.head.is_none() {
            let is_begun = self.joined.len > self.header.len;
            let from = if is_begun { self.joined } else { Extent::default() };
            self.head = self.place.writer(None, from).await?;
        }
        Ok(())
    }

    /// The stretch whose turn it is: those before it are joined.
    pub fn next(&self) -> usize {
        self.next
    }

    /// Makes durable what is joined.
    pub async fn sync(&mut self) -> Result<(), OutputError> {
        match &mut self.head {
            Some(head) => head.sync().await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Ends the file. With `even_if_empty`, there is one although no row came.
    pub async fn finish(
        mut self,
        even_if_empty: bool,
    ) -> Result<(u64, Option<ContentHash>, Option<FileEntry>), OutputError> {
        if even_if_empty || self.joined.len > self.header.len {
            self.open_head().await?;
        }
        let (_, trailer) = around(self.place.class);
        if let Some(head) = self.head.as_mut().filter(|_| !trailer.is_empty()) {
            head.write(trailer, 0).await?;
        }
        let entry = match self.head {
            Some(head) => Some(head.finish().await?),
            None => None,
        };
        Ok((self.rows, self.hash, entry))
    }
}

/// Where one stretch writes its rows of one class.
pub struct LaneWriter {
    place: Place,
    stretch: usize,
    in_place: bool,
    /// Made with the first row.
    file: Option<RowWriter>,
    /// What lies before its rows in the file.
    base: Extent,
    rows: u64,
    /// As in [`Extent`].
    hash: Option<ContentHash>,
}

/// Rows before a mark.
pub struct LaneMark {
    file: Option<Mark>,
    rows: u64,
    hash: Option<ContentHash>,
}

impl LaneWriter {
    /// `content`: of these rows; of what is not clean, how many is enough.
    pub async fn write(&mut self, rows: &[u8], content: Content) -> Result<(), OutputError> {
        self.rows += content.rows;
        self.hash = self.hash.map(|hash| hash + content.hash);
        if self.file.is_none() {
            let stretch = (!self.in_place).then_some(self.stretch);
            self.file = self.place.writer(stretch, Extent::default()).await?;
        }
        match &mut self.file {
            Some(file) => file.write(rows, content.rows).await,
            None => Ok(()),
        }
    }

    /// A place to go back to. Ends the frame, so not for every row.
    pub async fn mark(&mut self) -> Result<LaneMark, OutputError> {
        let file = match &mut self.file {
            Some(file) => Some(file.end_frame().await?),
            None => None,
        };
        Ok(LaneMark { file, rows: self.rows, hash: self.hash })
    }

    pub async fn rollback(&mut self, mark: &LaneMark) -> Result<(), OutputError> {
        (self.rows, self.hash) = (mark.rows, mark.hash);
        match (&mut self.file, &mark.file) {
            (Some(file), Some(mark)) => file.rollback(mark).await,
            (Some(_), None) => match self.file.take() {
                Some(file) => file.discard().await,
                None => Ok(()),
            },
            (None, _) => Ok(()),
        }
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether it writes into the relation's file.
    pub fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// Bytes of rows, uncompressed, that went into its file.
    pub fn written(&self) -> u64 {
        self.file.as_ref().map_or(0, RowWriter::bytes)
    }

    /// How much it has written. Ends the frame.
    async fn extent(&mut self) -> Result<Extent, OutputError> {
        let mark = match &mut self.file {
            Some(file) => Some(file.end_frame().await?),
            None => None,
        };
        Ok(self.before(mark.as_ref()))
    }

    /// Makes all that it has written durable. Ends the frame.
    pub async fn save(&mut self) -> Result<Extent, OutputError> {
        let mark = match &mut self.file {
            Some(file) => Some(file.sync().await?),
            None => None,
        };
        Ok(self.before(mark.as_ref()))
    }

    /// Its own of what lies before a mark at the end.
    fn before(&self, mark: Option<&Mark>) -> Extent {
        let extent = match mark {
            Some(mark) => mark.extent().since(self.base),
            None => Extent { rows: self.rows, ..Extent::default() },
        };
        Extent { hash: self.hash, ..extent }
    }
}
