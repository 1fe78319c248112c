//! How stretches that are read by several workers end as one file in heap order.
//!
//! A lane is one class of rows of one relation. The stretch whose turn it is
//! writes into the file itself; the others write pieces, which are appended
//! when their turn comes. Where frames end depends on the stretches alone, so
//! the bytes are the same however many workers there were.

use crate::output::manifest::{FileEntry, RowClass};
use crate::output::{Codec, DumpDir, Mark, OutputError, Piece, RowWriter};
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Lane {
    place: Place,
    /// The file itself, while no stretch writes into it.
    head: Option<RowWriter>,
    /// The stretch whose turn it is.
    next: usize,
    /// What came before its turn; none: it had no rows.
    waiting: BTreeMap<usize, Option<Piece>>,
    rows: u64,
}

/// Where the file is to be.
#[derive(Clone)]
struct Place {
    dir: Option<Arc<DumpDir>>,
    path: String,
    class: RowClass,
    codec: Codec,
}

impl Place {
    fn writer(&self, stretch: Option<usize>) -> Result<Option<RowWriter>, OutputError> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let path = match stretch {
            None => self.path.clone(),
            Some(n) => format!("{}.{n:08}", self.path),
        };
        RowWriter::create(dir, &path, self.class, self.codec).map(Some)
    }
}

impl Lane {
    /// Without a directory nothing is written, and rows are only counted.
    pub fn new(dir: Option<Arc<DumpDir>>, path: String, class: RowClass, codec: Codec) -> Self {
        let place = Place { dir, path, class, codec };
        Self { place, head: None, next: 0, waiting: BTreeMap::new(), rows: 0 }
    }

    /// Where a stretch writes.
    pub async fn take(&mut self, stretch: usize) -> Result<LaneWriter, OutputError> {
        let mut writer = LaneWriter {
            place: self.place.clone(),
            stretch,
            in_place: stretch == self.next,
            file: None,
            mark: None,
            rows: 0,
        };
        if writer.in_place {
            writer.file = self.head.take();
        }
        if let Some(file) = &mut writer.file {
            writer.mark = Some(file.end_frame().await?);
        }
        Ok(writer)
    }

    /// Takes back what a stretch has written, all of it.
    pub async fn give_back(&mut self, writer: LaneWriter) -> Result<(), OutputError> {
        self.rows += writer.rows;
        if writer.in_place {
            self.head = writer.file;
            if let Some(head) = &mut self.head {
                head.end_frame().await?;
            }
            self.next += 1;
        } else {
            let piece = match writer.file {
                Some(file) => Some(file.into_piece().await?),
                None => None,
            };
            self.waiting.insert(writer.stretch, piece);
        }
        while let Some(piece) = self.waiting.remove(&self.next) {
            self.next += 1;
            let Some(piece) = piece else { continue };
            if self.head.is_none() {
                self.head = self.place.writer(None)?;
            }
            if let Some(head) = &mut self.head {
                head.append(piece).await?;
            }
        }
        Ok(())
    }

    /// Ends the file. With `even_if_empty`, there is one although no row came.
    pub async fn finish(
        mut self,
        even_if_empty: bool,
    ) -> Result<(u64, Option<FileEntry>), OutputError> {
        if self.head.is_none() && even_if_empty {
            self.head = self.place.writer(None)?;
        }
        let entry = match self.head {
            Some(head) => Some(head.finish().await?),
            None => None,
        };
        Ok((self.rows, entry))
    }
}

/// Where one stretch writes its rows of one class.
pub struct LaneWriter {
    place: Place,
    stretch: usize,
    in_place: bool,
    /// Made with the first row.
    file: Option<RowWriter>,
    /// What an undo goes back to.
    mark: Option<Mark>,
    rows: u64,
}

/// Rows before a mark.
pub struct LaneMark {
    file: Option<Mark>,
    rows: u64,
}

impl LaneWriter {
    pub async fn write(&mut self, rows: &[u8], count: u64) -> Result<(), OutputError> {
        self.rows += count;
        if self.file.is_none() {
            self.file = self.place.writer((!self.in_place).then_some(self.stretch))?;
        }
        match &mut self.file {
            Some(file) => file.write(rows, count).await,
            None => Ok(()),
        }
    }

    /// A place to go back to. Ends the frame, so not for every row.
    pub async fn mark(&mut self) -> Result<LaneMark, OutputError> {
        let file = match &mut self.file {
            Some(file) => Some(file.end_frame().await?),
            None => None,
        };
        Ok(LaneMark { file, rows: self.rows })
    }

    pub async fn rollback(&mut self, mark: &LaneMark) -> Result<(), OutputError> {
        self.rows = mark.rows;
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

    /// Nothing of it counts.
    pub async fn discard(self) -> Result<(), OutputError> {
        match self.file {
            Some(file) => file.discard().await,
            None => Ok(()),
        }
    }
}
