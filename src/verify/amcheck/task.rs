//! One relation on its way through the checks: what is known of it, what is left
//! to do, and what was found.

use super::asking::{About, Layout};
use super::ranges::Ranges;
use crate::report::model::{Level, PROBLEMS_MAX, Problem};
use crate::server::catalog::Checkable;
use crate::server::fault::{is_missing_file, is_missing_in_index, is_shared_key, names_file};
use crate::server::files::place_of_block;
use crate::server::words::Words;

pub(super) struct Task {
    pub object: Checkable,
    /// `table "public.t"`.
    pub title: String,
    /// For the order of work; then as it is on disk.
    pub blocks: u32,
    pub path: Option<String>,
    /// Its TOAST table and the index of that, and their files.
    pub toast_oids: Vec<u32>,
    pub toast_paths: Vec<String>,
    /// None: it was not begun.
    pub ranges: Option<Ranges>,
    pub problems: Vec<Problem>,
    pub problems_omitted: u64,
    pub damaged_blocks: u64,
    /// Why not all of it was checked.
    pub reason: Option<String>,
    /// For that reason nothing of it can be.
    pub refused: bool,
    /// There is no such relation any more.
    pub gone: bool,
    /// Whether values are looked for in TOAST.
    pub toast: bool,
    /// Blocks of which a check failed, or a value was not found in TOAST, or that
    /// hung.
    pub failures: u32,
    pub toast_failures: u32,
    pub hung: u32,
    pub notes: Vec<String>,
}

impl Task {
    pub(super) fn new(object: Checkable, kind: &str, blocks: u32) -> Self {
        let name = format!("{}.{}", object.schema, object.name);
        Self {
            title: format!("{kind} \"{}\"", name.escape_debug()),
            object,
            blocks,
            path: None,
            toast_oids: Vec::new(),
            toast_paths: Vec::new(),
            ranges: None,
            problems: Vec::new(),
            problems_omitted: 0,
            damaged_blocks: 0,
            reason: None,
            refused: false,
            gone: false,
            toast: true,
            failures: 0,
            toast_failures: 0,
            hung: 0,
            notes: Vec::new(),
        }
    }

    pub(super) fn refuse(&mut self, why: String) {
        self.reason = Some(why);
        self.refused = true;
    }

    pub(super) fn about(&self) -> About {
        About {
            oid: self.object.oid,
            title: self.title.clone(),
            path: self.path.clone(),
            is_toast: self.object.schema == "pg_toast",
        }
    }

    /// Something else is damaged that a check with its values needs.
    pub(super) fn do_without_toast(&mut self, words: &Words) {
        self.toast = false;
        self.reason =
            Some(format!("the check ended at what is damaged elsewhere: {}", in_full(words)));
    }

    /// Whether words tell of its values in TOAST.
    pub(super) fn is_of_toast(&self, words: &Words) -> bool {
        let names = |path: &String| names_file(words, path);
        words.message.contains("pg_toast_") || self.toast_paths.iter().any(names)
    }

    /// Whether all problems that are listed are there.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    pub(super) fn add(&mut self, problem: Problem) {
        if self.is_full() {
            self.problems_omitted += 1;
        } else {
            self.problems.push(problem);
        }
    }

    /// A problem of a block, or of the whole relation.
    pub(super) fn problem(
        &self,
        cause: &str,
        block: Option<u32>,
        message: String,
        layout: Layout,
    ) -> Problem {
        let sizes = (layout.block_size, layout.segment_blocks);
        let place = block.zip(self.path.as_ref());
        let (file, offset) = place.map(|(block, path)| place_of_block(path, block, sizes)).unzip();
        Problem {
            fork: Some("main".to_owned()),
            first_block: block,
            last_block: block,
            file,
            offset,
            ..Problem::new(Level::Amcheck, cause, message)
        }
    }
}

/// The server's words in one line, with the detail, which has the places.
pub(super) fn in_full(words: &Words) -> String {
    let detail = words.detail.as_deref().unwrap_or_default();
    let detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
    match detail.is_empty() {
        true => words.one_line(),
        false => format!("{} ({})", words.one_line(), detail.trim_end_matches('.')),
    }
}

/// What the check of an index was stopped by, in one word.
pub(super) fn cause_of_index(words: &Words, is_page: bool) -> &'static str {
    match () {
        () if is_page => "page",
        () if is_missing_file(words) => "missing_file",
        () if is_missing_in_index(words) => "not_in_index",
        () if is_shared_key(words) => "not_unique",
        () => "index",
    }
}

/// The block of an index that words name: `block=7`, `tid=(7,2)`, `block 7`.
pub(super) fn block_of_index(words: &Words) -> Option<u32> {
    let text = format!("{} {}", words.message, words.detail.as_deref().unwrap_or_default());
    let marks = ["tid=(", "block=", "block "];
    let first = marks.iter().filter_map(|mark| text.match_indices(mark).next()).min()?;
    let digits: String =
        text[first.0 + first.1.len()..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The row that words name: `(7,2)`, as that which an index has not.
pub(super) fn row_of(words: &Words) -> Option<String> {
    let (_, rest) = words.message.split_once('(')?;
    let (ctid, _) = rest.split_once(')')?;
    let (block, offset) = ctid.split_once(',')?;
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    (is_number(block) && is_number(offset)).then(|| format!("({ctid})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(message: &str, detail: &str) -> Words {
        let detail = Some(detail.to_owned()).filter(|d| !d.is_empty());
        Words { message: message.to_owned(), detail, ..Words::default() }
    }

    #[test]
    fn places_are_taken_from_words_and_no_words_make_that_panic() {
        for (message, detail, block) in [
            (
                "item order invariant violated for index \"i\"",
                "Lower index tid=(3,4) higher",
                Some(3),
            ),
            ("down-link lower bound", "Parent block=7 child index tid=(2,1)", Some(7)),
            ("block 12 fell off the end of index \"i\"", "", Some(12)),
            ("block ", "tid=(", None),
            ("tid=(99999999999)", "", None),
        ] {
            assert_eq!(block_of_index(&words(message, detail)), block, "{message}");
        }
        let lacks = "heap tuple (3,17) from table \"t\" lacks matching index tuple";
        assert_eq!(row_of(&words(lacks, "")).as_deref(), Some("(3,17)"));
        for message in ["", "(", "()", "(a,b)", ")(", "(1,2"] {
            assert_eq!(row_of(&words(message, "")), None, "{message}");
        }
        assert_eq!(in_full(&words("a", "b\n c.")), "a (b c)");
    }
}
