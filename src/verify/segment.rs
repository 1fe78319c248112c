//! One segment of a fork, page by page, as its file is on disk.
//!
//! The server reads the file, not its cache, while others write to it: a page
//! may come half old and half new. So what looks wrong here is only suspected.

use crate::page::Page;
use crate::page::check::{Kind, Problem, check};
use crate::progress::Throttle;
use crate::server::pages::Fork;
use crate::server::session::{ReadError, Session};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What is to be looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// The number of the file in the list.
    pub file: usize,
    pub path: String,
    pub kind: Kind,
    /// Ranges of blocks, counted through all segments: the first of each, and how
    /// many they are.
    pub ranges: Vec<(u32, u32)>,
    /// Whether it is known that a page of it was written before the last
    /// checkpoint.
    pub settled: bool,
    /// Where the last checkpoint began: what was changed before is on disk. 0:
    /// nobody knows.
    pub redo: u64,
}

impl Task {
    pub(super) fn blocks(&self) -> u32 {
        self.ranges.iter().map(|(_, count)| count).sum()
    }

    /// Only what seems to be damaged.
    pub(super) fn again(&self, seen: &Seen) -> Self {
        let ranges = runs(seen.damaged.keys().copied());
        Self { ranges, settled: true, ..self.clone() }
    }
}

/// What was found in it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    pub blocks: u32,
    /// Pages of zeros: extended, and never written, as far as anybody can tell.
    pub zeros: u32,
    /// Whether there is a page that was written before the last checkpoint.
    pub settled: bool,
    /// Whether the first page is zeros, which is wrong if another is settled.
    pub begins_with_zeros: bool,
    /// What is wrong with which blocks.
    pub damaged: BTreeMap<u32, Wrong>,
}

/// What is wrong with a page: a word for scripts, and a line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wrong {
    pub cause: Cow<'static, str>,
    pub what: String,
}

impl From<Problem> for Wrong {
    fn from(problem: Problem) -> Self {
        let cause = match problem {
            Problem::Checksum { .. } => "checksum",
            _ => "page",
        };
        Self { cause: cause.into(), what: problem.to_string() }
    }
}

/// Looks at pages of a segment.
pub(super) async fn look(
    session: &Session,
    task: &Task,
    throttle: &Throttle,
) -> Result<Seen, ReadError> {
    let fork = Fork::new(session, task.path.as_str());
    let mut seen = Seen::of(task);
    for &(first, count) in &task.ranges {
        let (mut next, end) = (first, first.saturating_add(count));
        while next < end {
            let range = (&mut next, end);
            let Err(error) = pages(&fork, task, range, &mut seen, throttle).await else { break };
            // Where a piece cannot be read at all, its blocks are read one by one.
            go_on(session, error).await?;
            let piece = end.min(next.saturating_add(fork.piece()));
            for block in next..piece {
                one(&fork, task, block, &mut seen).await?;
            }
            next = piece;
        }
    }
    seen.judge_the_beginning();
    Ok(seen)
}

/// Reads pages from `next` on, which is moved on.
async fn pages(
    fork: &Fork<'_>,
    task: &Task,
    (next, end): (&mut u32, u32),
    seen: &mut Seen,
    throttle: &Throttle,
) -> Result<(), ReadError> {
    let size = fork.session().server().block_size.max(1) as usize;
    let checksums = fork.session().server().data_checksums;
    let mut pieces = fork.pieces(*next, end - *next);
    while let Some((first, bytes)) = pieces.next().await? {
        // What is less than a page at the end of a file is no page.
        for (block, page) in (first..end).zip(bytes.chunks_exact(size)) {
            *next = block + 1;
            seen.page(page, block, task, checksums);
        }
        throttle.pay(bytes.len()).await;
    }
    Ok(())
}

/// Reads one page; one that cannot be read is damaged.
async fn one(fork: &Fork<'_>, task: &Task, block: u32, seen: &mut Seen) -> Result<(), ReadError> {
    let server = fork.session().server();
    match fork.read(block, 1).await {
        Ok(bytes) if bytes.len() == server.block_size as usize => {
            seen.page(&bytes, block, task, server.data_checksums);
        }
        // The file ends before it.
        Ok(_) => {}
        Err(error) => {
            let words = error.words().one_line();
            go_on(fork.session(), error).await?;
            seen.unreadable(block, words);
        }
    }
    Ok(())
}

/// After an error of the server: a new transaction. What ends the session, or
/// is no matter of the file, is handed on.
async fn go_on(session: &Session, error: ReadError) -> Result<(), ReadError> {
    let is_of_file = matches!(error, ReadError::Server { .. }) && !error.is_shortage();
    if session.is_closed() || !is_of_file || error.is_permission() {
        return Err(error);
    }
    session.renew_snapshot().await
}

impl Seen {
    /// Nothing yet, of this task.
    pub(super) fn of(task: &Task) -> Self {
        Self { settled: task.settled, ..Self::default() }
    }

    pub(super) fn unreadable(&mut self, block: u32, words: String) {
        self.blocks += 1;
        self.damaged.insert(block, Wrong { cause: "unreadable".into(), what: words });
    }

    /// With what was found in more of it.
    pub(super) fn add(&mut self, more: Self) {
        self.blocks += more.blocks;
        self.zeros += more.zeros;
        self.settled |= more.settled;
        self.begins_with_zeros |= more.begins_with_zeros;
        self.damaged.extend(more.damaged);
    }

    /// When all pages were looked at. A file that was made a moment ago is zeros
    /// as long as its pages are in the server's memory.
    pub(super) fn judge_the_beginning(&mut self) {
        if self.begins_with_zeros && self.settled {
            self.damaged.insert(0, Problem::Zeros.into());
        }
    }

    pub(super) fn page(&mut self, page: &[u8], block: u32, task: &Task, checksums: bool) {
        self.blocks += 1;
        let is_new = || Page::new(page).is_new();
        match check(page, block, task.kind, checksums) {
            Some(Problem::Zeros) => self.begins_with_zeros = true,
            Some(problem) => {
                self.damaged.insert(block, problem.into());
            }
            None if is_new() => self.zeros += 1,
            None => self.settled |= (2..task.redo).contains(&Page::new(page).lsn()),
        }
    }
}

/// Numbers in a row as the first, and how many.
fn runs(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == number => *count += 1,
            _ => runs.push((number, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_are_one_run() {
        assert_eq!(runs([1, 2, 3, 7, 9, 10].into_iter()), [(1, 3), (7, 1), (9, 2)]);
        assert_eq!(runs(std::iter::empty()), []);
    }
}
