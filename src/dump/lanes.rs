//! Where the rows of one stretch go: a lane for each class, and before that the
//! rows of one block that are held back until it is known what they are worth.

use super::LaneWriter;
use super::held::{Held, HeldMark};
use crate::heap::{self, BlockNumber};
use crate::output::OutputError;
use crate::output::journal::Extent;
use crate::output::manifest::RowClass;
use std::path::Path;

pub struct Lanes {
    /// By class.
    writers: Vec<LaneWriter>,
    /// Rows that will be clean or suspect.
    held: Held,
    /// Of the same block: what goes to the other classes, whatever those are.
    aside: [(RowClass, Held); ASIDE.len()],
}

/// The classes that a row does not come to by what its block is worth.
const ASIDE: [RowClass; 3] = [RowClass::Partial, RowClass::ToastChunks, RowClass::Oversize];

/// Of all that is held back.
pub(super) type HeldMarks = [HeldMark; ASIDE.len() + 1];

impl Lanes {
    /// `writers`: of all classes, in order. `folder`: where what is held may be
    /// written, if there is much of it.
    pub fn new(writers: Vec<LaneWriter>, folder: Option<&Path>) -> Self {
        let aside = ASIDE.map(|class| (class, Held::new(folder)));
        Self { writers, held: Held::new(folder), aside }
    }

    pub fn of(&mut self, class: RowClass) -> &mut LaneWriter {
        &mut self.writers[class as usize]
    }

    pub fn clean(&mut self) -> &mut LaneWriter {
        self.of(RowClass::Clean)
    }

    pub fn writers(self) -> Vec<LaneWriter> {
        self.writers
    }

    /// All rows that were written.
    pub fn rows(&self) -> u64 {
        self.writers.iter().map(LaneWriter::rows).sum()
    }

    /// Bytes of rows, uncompressed, that were written.
    pub fn written(&self) -> u64 {
        self.writers.iter().map(LaneWriter::written).sum()
    }

    /// Makes all that was written durable. Ends the frames.
    pub async fn save(&mut self) -> Result<[Extent; RowClass::COUNT], OutputError> {
        let mut files = [Extent::default(); RowClass::COUNT];
        for (file, writer) in files.iter_mut().zip(&mut self.writers) {
            *file = writer.save().await?;
        }
        Ok(files)
    }

    /// Holds a row of a block back.
    pub fn hold(&mut self, block: BlockNumber, row: &[u8]) -> Result<(), OutputError> {
        self.held.push(block, row)
    }

    /// Holds back what goes to a class of its own when the block is settled.
    pub fn hold_aside(
        &mut self,
        class: RowClass,
        block: BlockNumber,
        row: &[u8],
    ) -> Result<(), OutputError> {
        match self.aside.iter_mut().find(|(c, _)| *c == class) {
            Some((_, held)) => held.push(block, row),
            None => self.held.push(block, row),
        }
    }

    /// Holds back a row of a block that comes in pieces; the first counts it.
    pub(super) fn hold_oversize(
        &mut self,
        block: BlockNumber,
        (is_first, bytes): (bool, &[u8]),
    ) -> Result<(), OutputError> {
        let held = self.aside.iter_mut().find(|(class, _)| *class == RowClass::Oversize);
        held.map_or(Ok(()), |(_, held)| held.push_some(block, u64::from(is_first), bytes))
    }

    /// The block of which something is held.
    pub fn held_block(&self) -> Option<BlockNumber> {
        self.held.block().or_else(|| self.aside.iter().find_map(|(_, held)| held.block()))
    }

    /// How many rows are held.
    pub fn held_rows(&self) -> u64 {
        let rows = self.aside.iter().filter(|(class, _)| *class != RowClass::ToastChunks);
        self.held.rows() + rows.map(|(_, held)| held.rows()).sum::<u64>()
    }

    pub fn clear_held(&mut self) {
        self.held.clear();
        self.aside.iter_mut().for_each(|(_, held)| held.clear());
    }

    /// A place to go back to, while nothing is written.
    pub(super) fn mark_held(&self) -> HeldMarks {
        let [(_, partial), (_, chunks), (_, oversize)] = &self.aside;
        [&self.held, partial, chunks, oversize].map(Held::mark)
    }

    /// Forgets what was held back after the mark.
    pub(super) fn rollback_held(&mut self, marks: &HeldMarks) -> Result<(), OutputError> {
        let aside = self.aside.iter_mut().map(|(_, held)| held);
        for (held, mark) in std::iter::once(&mut self.held).chain(aside).zip(marks) {
            held.rollback(mark)?;
        }
        Ok(())
    }

    /// Writes what is held back: its rows are of this class.
    pub async fn flush(&mut self, class: heap::RowClass) -> Result<(), OutputError> {
        let class = match class {
            heap::RowClass::Clean => RowClass::Clean,
            heap::RowClass::Suspect => RowClass::Suspect,
        };
        write_held(&mut self.held, &mut self.writers[class as usize]).await?;
        for (class, held) in &mut self.aside {
            write_held(held, &mut self.writers[*class as usize]).await?;
        }
        Ok(())
    }
}

async fn write_held(held: &mut Held, writer: &mut LaneWriter) -> Result<(), OutputError> {
    let mut content = held.content();
    if content.rows == 0 {
        return Ok(());
    }
    held.rewind()?;
    loop {
        let bytes = held.next_bytes()?;
        // The rows are counted once, with the first bytes.
        writer.write(&bytes, std::mem::take(&mut content)).await?;
        if bytes.is_empty() {
            break;
        }
    }
    held.clear();
    Ok(())
}
