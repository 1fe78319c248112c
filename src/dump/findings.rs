//! What was found wrong with a relation: places lost, and every error on the
//! way, which goes to the error log at once.

use super::Cause;
use crate::heap::{
    BlockNumber, BlockRange, Ctid, Loss, OffsetNumber, Place, Read, Recorded, Status,
};
use crate::output::error_log::{ErrorLine, ErrorLog, FOR_NOW, IN_BINARY};
use crate::output::manifest;
use crate::page::insane::Insane;
use crate::server::fault::Words;
use std::sync::{Arc, Mutex, PoisonError};

/// So many lost places of a relation are listed; the map has them all. Each
/// stretch of it has its share.
const FINDINGS_MAX: usize = 100_000;

/// A place that was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// None: the relation as a whole.
    pub at: Option<Lost>,
    /// None: all columns.
    pub column: Option<String>,
    pub cause: Cause,
    pub sqlstate: String,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    Blocks(BlockRange),
    Tuple(Ctid),
}

impl Lost {
    /// `Tuples` is by blocks: it is what was left of one.
    pub fn of(loss: Loss) -> Self {
        match loss {
            Loss::Block(block) | Loss::Tuples(block, ..) => {
                Self::Blocks(BlockRange::new(block, block + 1))
            }
            Loss::Tuple(at) => Self::Tuple(at),
        }
    }
}

impl Finding {
    /// What an earlier run has found.
    pub fn of(lost: &manifest::Lost) -> Option<Self> {
        let at = match (lost.first_block, lost.last_block, &lost.ctid) {
            (Some(first), Some(last), _) => {
                Some(Lost::Blocks(BlockRange::new(first, last.checked_add(1)?)))
            }
            (_, _, Some(ctid)) => Some(Lost::Tuple(ctid.parse().ok()?)),
            _ => None,
        };
        Some(Self {
            at,
            column: lost.column.clone(),
            cause: Cause::of(lost)?,
            sqlstate: lost.sqlstate.clone().unwrap_or_default(),
            message: lost.message.clone(),
        })
    }

    pub fn manifest(&self) -> manifest::Lost {
        let blocks = match self.at {
            Some(Lost::Blocks(range)) => Some((range.start, range.end.saturating_sub(1))),
            _ => None,
        };
        manifest::Lost {
            first_block: blocks.map(|b| b.0),
            last_block: blocks.map(|b| b.1),
            ctid: match self.at {
                Some(Lost::Tuple(ctid)) => Some(ctid.to_string()),
                _ => None,
            },
            column: self.column.clone(),
            cause: self.cause.name().to_owned(),
            sqlstate: Some(self.sqlstate.clone()).filter(|s| !s.is_empty()),
            message: self.message.clone(),
        }
    }
}

/// The error log of a relation, shared by the stretches of it. None: nothing is
/// written, and errors are only counted.
#[derive(Clone)]
pub struct Log {
    /// The lines begin with whose they are.
    pub relation: ErrorLine,
    pub file: Arc<Mutex<(u64, Option<ErrorLog>)>>,
}

impl Log {
    fn line(&self, line: ErrorLine) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.0 += 1;
        if let Some(log) = &mut file.1
            && let Err(e) = log.record(line)
        {
            // The manifest has the losses; a log that cannot be written must
            // not end the reading.
            tracing::error!("{e}");
        }
    }
}

/// The findings of one stretch.
pub struct Findings {
    pub list: Vec<Finding>,
    /// Lost places that are not listed.
    pub omitted: u64,
    list_max: usize,
    log: Log,
}

/// A column that could not be read, of a tuple or of all.
pub struct LostColumn {
    /// Its place in the rows, from 0.
    pub column: usize,
    pub cause: Cause,
    pub words: Box<Words>,
    /// What is left of the value in TOAST, as rows of its chunks.
    pub chunks: Vec<Vec<u8>>,
}

impl LostColumn {
    pub fn new(column: usize, cause: Cause, words: Words) -> Self {
        Self { column, cause, words: Box::new(words), chunks: Vec::new() }
    }
}

impl Findings {
    /// Of one of so many stretches of a relation.
    pub fn new(log: Log, stretches: usize) -> Self {
        let list_max = FINDINGS_MAX.div_ceil(stretches.max(1));
        Self { list: Vec::new(), omitted: 0, list_max, log }
    }

    /// An error of the server that means damage, where, and whether its page is
    /// now to be read unchecked.
    pub fn error(
        &mut self,
        read: &Read,
        (place, unchecked): (Place, bool),
        words: &Words,
        recorded: &Recorded,
    ) {
        let action = match recorded.loss {
            Some(_) => "given up",
            None if unchecked && matches!(place, Place::Page(_)) => "reading unchecked",
            None => "reading narrower",
        };
        self.log_error(Some(read), Some(place), words, action);
        if let Some(loss) = recorded.loss {
            let cause = match (loss, place) {
                (Loss::Block(_) | Loss::Tuples(..), _) => Cause::Page,
                (Loss::Tuple(_), Place::Elsewhere) => Cause::StoredElsewhere,
                (Loss::Tuple(_), _) => Cause::Tuple,
            };
            self.lost(loss, cause, words);
        }
    }

    /// The server went down under a read that was the only one.
    pub fn crash(&mut self, read: &Read, words: &Words, recorded: &Recorded) {
        let action = match recorded.loss {
            Some(_) => "given up",
            None => "reading in single places",
        };
        self.log_error(Some(read), None, words, action);
        if let Some(loss) = recorded.loss {
            self.lost(loss, Cause::ServerCrash, words);
        }
    }

    /// Something that is no damage kept a read from its end. Only what is lost
    /// by it is an error.
    pub fn hindered(&mut self, cause: Cause, read: &Read, words: &Words, recorded: &Recorded) {
        if let Some(loss) = recorded.loss {
            self.log_error(Some(read), None, words, FOR_NOW);
            self.lost(loss, cause, words);
        }
    }

    /// A row that the server could not send as text, and did in binary form: no
    /// damage.
    pub fn in_binary(&mut self, read: &Read, words: &Words) {
        self.log_error(Some(read), None, words, IN_BINARY);
    }

    /// A tuple that took the server down in an earlier read.
    pub fn killer(&mut self, at: Ctid, message: &str) {
        let words = Words { message: message.to_owned(), ..Words::default() };
        self.push(Some(Lost::Tuple(at)), Cause::ServerCrash, &words);
    }

    /// A tuple that took the server down was had all the same. Returns what was said of
    /// it, and its place in the list.
    pub(super) fn found(&mut self, at: Ctid) -> Option<(String, usize)> {
        let of = |f: &Finding| f.at == Some(Lost::Tuple(at)) && f.cause == Cause::ServerCrash;
        let index = self.list.iter().position(of)?;
        Some((self.list.remove(index).message, index))
    }

    /// What was seen in the bytes of a block, before any of it was read.
    /// `had`: what tuples are that are left out, lost or not.
    pub fn insane(
        &mut self,
        block: BlockNumber,
        insane: &Insane,
        had: impl Fn(OffsetNumber) -> Status,
    ) {
        let Insane { fenced, doubtful } = insane;
        let fenced = fenced.iter().map(|(number, what)| (*number, what, Some(had(*number))));
        let doubtful = doubtful.iter().map(|(number, what)| (*number, what, None));
        for (number, what, left_out) in fenced.chain(doubtful) {
            let message = match number {
                0 => what.to_string(),
                _ => format!("line pointer {number}: {what}"),
            };
            let words = Words { message, ..Words::default() };
            let read = Read::Tuples { block, first: number, last: number };
            let action = match left_out {
                None => "reading its tuples by themselves",
                Some(Status::Lost) => "not read",
                Some(_) => "decoded from its bytes",
            };
            self.log_error(Some(&read), None, &words, action);
            if left_out == Some(Status::Lost) {
                self.push(Some(Lost::Tuple(Ctid::new(block, number))), Cause::Structure, &words);
            }
        }
    }

    /// An error that is about the relation as a whole.
    pub fn whole(&mut self, cause: Cause, words: &Words) {
        self.log_error(None, None, words, "given up");
        self.push(None, cause, words);
    }

    /// Blocks that are not tried.
    pub fn not_tried(&mut self, blocks: BlockRange, words: &Words) {
        self.push(Some(Lost::Blocks(blocks)), Cause::NotTried, words);
    }

    fn lost(&mut self, loss: Loss, cause: Cause, words: &Words) {
        match loss {
            Loss::Block(block) => {
                let blocks = BlockRange::new(block, block + 1);
                self.push(Some(Lost::Blocks(blocks)), cause, words);
            }
            Loss::Tuple(at) => self.push(Some(Lost::Tuple(at)), cause, words),
            Loss::Tuples(block, first, last) => {
                for offset in first..=last {
                    self.push(Some(Lost::Tuple(Ctid::new(block, offset))), cause, words);
                }
            }
        }
    }

    /// A tuple of a page that was decoded from its bytes.
    pub(super) fn lose_tuple(&mut self, at: Ctid, cause: Cause, words: &Words) {
        self.push(Some(Lost::Tuple(at)), cause, words);
    }

    /// Adds a finding; lost blocks in a row with the same cause are one.
    fn push(&mut self, at: Option<Lost>, cause: Cause, words: &Words) {
        let alike =
            self.list.last_mut().filter(|f| f.cause == cause && f.sqlstate == words.sqlstate);
        if let (Some(Lost::Blocks(range)), Some(last)) = (at, alike)
            && let Some(Lost::Blocks(before)) = &mut last.at
            && before.end == range.start
        {
            before.end = range.end;
            return;
        }
        if self.list.len() == self.list_max {
            self.omitted += 1;
            return;
        }
        let (sqlstate, message) = (words.sqlstate.clone(), words.one_line());
        self.list.push(Finding { at, column: None, cause, sqlstate, message });
    }

    /// A column of a tuple. `names`: of all columns.
    pub fn column(&mut self, names: &[String], ctid: Ctid, lost: &LostColumn) {
        self.lose_column(names, Some(ctid), lost);
    }

    /// A column of all tuples.
    pub fn whole_column(&mut self, names: &[String], lost: &LostColumn) {
        self.lose_column(names, None, lost);
    }

    fn lose_column(&mut self, names: &[String], ctid: Option<Ctid>, lost: &LostColumn) {
        let LostColumn { column, cause, words, .. } = lost;
        let name = names.get(*column).cloned();
        let place = Some(Place::Elsewhere).filter(|_| *cause == Cause::StoredElsewhere);
        let read = ctid.map(|c| Read::Tuples { block: c.block, first: c.offset, last: c.offset });
        let action = if cause.is_passing() { FOR_NOW } else { "column given up" };
        let line = self.error_line(read.as_ref(), place, words, action);
        let cause_name = Some(cause.name().to_owned());
        self.log.line(ErrorLine { column: name.clone(), cause: cause_name, ..line });
        if self.list.len() == self.list_max {
            self.omitted += 1;
            return;
        }
        let (sqlstate, message) = (words.sqlstate.clone(), words.one_line());
        let at = ctid.map(Lost::Tuple);
        self.list.push(Finding { at, column: name, cause: *cause, sqlstate, message });
    }

    pub(super) fn log_error(
        &self,
        read: Option<&Read>,
        place: Option<Place>,
        words: &Words,
        action: &str,
    ) {
        self.log.line(self.error_line(read, place, words, action));
    }

    fn error_line(
        &self,
        read: Option<&Read>,
        place: Option<Place>,
        words: &Words,
        action: &str,
    ) -> ErrorLine {
        let text = read.map_or_else(|| "relation".to_owned(), Read::to_string);
        let (blocks, offset) = match read {
            Some(Read::Blocks { range, .. }) => {
                (Some((range.start, range.end.saturating_sub(1))), None)
            }
            Some(Read::Tuples { block, first, last }) => {
                (Some((*block, *block)), (first == last).then_some(*first))
            }
            None => (None, None),
        };
        let blocks = match place {
            Some(Place::Page(block)) => Some((block, block)),
            _ => blocks,
        };
        let some = |s: &str| Some(s.to_owned()).filter(|s| !s.is_empty());
        ErrorLine {
            fork: (place != Some(Place::Elsewhere)).then(|| "main".to_owned()),
            first_block: blocks.map(|b| b.0),
            last_block: blocks.map(|b| b.1),
            offset,
            sqlstate: some(&words.sqlstate),
            severity: some(&words.severity),
            routine: words.routine.clone(),
            source_file: words.file.clone(),
            source_line: words.line,
            message: some(&words.message),
            detail: words.detail.clone(),
            hint: words.hint.clone(),
            context: words.context.clone(),
            read: Some(text),
            action: some(action),
            ..self.log.relation.clone()
        }
    }
}
