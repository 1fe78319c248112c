//! What a look at all pages came to: as data, and for a person.

use super::File;
use super::advised::{Advice, Relations};
use crate::report::{grouped, sized};
use crate::server::files::{FileOf, ForkFile, segment_path};
use crate::server::session::ServerFacts;
use crate::server::words::one_line;
use serde::Serialize;
use std::fmt::Write as _;

/// So many damaged blocks of a file are listed.
const LISTED_MAX: usize = 1000;

/// So many are shown to a person.
const SHOWN_MAX: usize = 5;

/// Of the report as JSON.
const FORMAT_VERSION: u32 = 1;

const EXIT_CLEAN: u8 = 0;
const EXIT_DAMAGED: u8 = 2;
const EXIT_INCOMPLETE: u8 = 3;

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    pub format_version: u32,
    pub started: jiff::Timestamp,
    pub finished: jiff::Timestamp,
    /// 0: nothing is wrong; 2: something is; 3: not all was looked at.
    pub exit_code: u8,
    pub server_version: String,
    pub in_recovery: bool,
    /// Empty: the server was not asked, and the files are those of all databases.
    pub database: String,
    /// Whether pages carry checksums: else only their structure was looked at.
    pub data_checksums: bool,
    pub block_size: u32,
    pub files: u64,
    pub blocks: u64,
    pub bytes: u64,
    /// Pages of zeros: extended and never written, as far as pages tell.
    pub zero_pages: u64,
    pub damaged_blocks: u64,
    /// Files with something wrong, or that were not looked at to their end.
    pub damaged: Vec<FileReport>,
    pub notes: Vec<String>,
}

/// A fork of a relation.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// From the data directory on, of its first segment.
    pub path: String,
    /// `main`, `fsm`, `vm` or `init`.
    pub fork: &'static str,
    /// None: no relation that is known has this file.
    pub oid: Option<u32>,
    pub schema: Option<String>,
    pub name: Option<String>,
    /// `table`, `index`, `TOAST table`, ...
    pub kind: Option<&'static str>,
    /// The OID of the relation that an index or a TOAST table belongs to.
    pub owner: Option<u32>,
    pub blocks: u64,
    pub damaged_blocks: u64,
    /// The first of them.
    pub listed: Vec<DamagedBlock>,
    /// What is wrong with the lengths of its segments.
    pub lengths: Vec<String>,
    /// Why not all of it was looked at.
    pub not_looked_at: Option<String>,
    /// What to do next, the first thing first.
    pub advice: Vec<Advice>,
}

#[derive(Clone, Debug, Serialize)]
pub struct DamagedBlock {
    pub block: u32,
    /// The segment that it is in, from the data directory on.
    pub file: String,
    /// Where it begins there, in bytes.
    pub offset: u64,
    pub what: String,
}

pub(super) fn report(
    server: &ServerFacts,
    started: jiff::Timestamp,
    files: Vec<File>,
    notes: Vec<String>,
) -> Verified {
    let sum = |of: fn(&File) -> u64| files.iter().map(of).sum();
    let (blocks, zero_pages): (u64, u64) =
        (sum(|f| f.seen.blocks.into()), sum(|f| f.seen.zeros.into()));
    let damaged_blocks = sum(|f| f.seen.damaged.len() as u64);
    let (bytes, count) = (sum(|f| f.fork.bytes()), files.len() as u64);
    let is_incomplete = files.iter().any(|f| f.left.is_some());
    let is_damaged = |f: &File| !f.seen.damaged.is_empty() || !f.problems.is_empty();
    let exit_code = match (is_incomplete, files.iter().any(is_damaged)) {
        (true, _) => EXIT_INCOMPLETE,
        (_, true) => EXIT_DAMAGED,
        _ => EXIT_CLEAN,
    };
    let relations = Relations::new(files.iter().filter_map(|f| f.of.as_ref()));
    let named = |f: &File| is_damaged(f) || f.left.is_some();
    let damaged: Vec<FileReport> =
        files.into_iter().filter(named).map(|f| of_file(f, server, &relations)).collect();
    Verified {
        format_version: FORMAT_VERSION,
        started,
        finished: jiff::Timestamp::now(),
        exit_code,
        server_version: server.version_text.clone(),
        in_recovery: server.in_recovery,
        database: server.database.clone(),
        data_checksums: server.data_checksums,
        block_size: server.block_size,
        files: count,
        blocks,
        bytes,
        zero_pages,
        damaged_blocks,
        damaged,
        notes,
    }
}

fn of_file(file: File, server: &ServerFacts, relations: &Relations) -> FileReport {
    let (_, fork) = file.fork.fork();
    let of = file.of.as_ref();
    let damaged_blocks = file.seen.damaged.len() as u64;
    let listed = file.seen.damaged.into_iter().take(LISTED_MAX).map(|(block, what)| {
        let (file, offset) = place(&file.fork, block, server);
        DamagedBlock { block, file, offset, what }
    });
    FileReport {
        advice: relations.advice(&file.fork, of, server),
        fork,
        oid: of.map(|f| f.oid),
        schema: of.map(|f| f.schema.clone()),
        name: of.map(|f| f.name.clone()),
        kind: of.map(kind),
        owner: of.and_then(|f| f.owner),
        blocks: file.seen.blocks.into(),
        damaged_blocks,
        listed: listed.collect(),
        lengths: file.problems,
        not_looked_at: file.left,
        path: file.fork.path,
    }
}

/// In which segment a block is, and where it begins there.
fn place(fork: &ForkFile, block: u32, server: &ServerFacts) -> (String, u64) {
    let per_segment = server.segment_blocks.max(1);
    let (segment, within) = (block / per_segment, block % per_segment);
    (segment_path(&fork.path, segment), u64::from(within) * u64::from(server.block_size))
}

pub(super) fn kind(of: &FileOf) -> &'static str {
    match of.relkind {
        'r' => "table",
        't' => "TOAST table",
        'm' => "materialised view",
        'i' => "index",
        'S' => "sequence",
        _ => "relation",
    }
}

impl FileReport {
    fn title(&self, offline: bool) -> String {
        let fork = match self.fork {
            "main" => String::new(),
            "fsm" => ", free space map".to_owned(),
            "vm" => ", visibility map".to_owned(),
            fork => format!(", fork {fork}"),
        };
        match (&self.schema, &self.name, self.kind) {
            (Some(schema), Some(name), Some(kind)) => {
                let name = format!("{schema}.{name}").escape_debug().to_string();
                format!("{kind} \"{name}\"{fork} ({})", self.path)
            }
            _ if offline => format!("file {}{fork}", self.path),
            _ => format!("file {}{fork}, which no relation that is known has", self.path),
        }
    }
}

/// For a person.
pub fn text(verified: &Verified) -> String {
    let mut out = String::new();
    let offline = verified.database.is_empty();
    for file in &verified.damaged {
        let _ = writeln!(
            out,
            "{}: {} of {} blocks damaged",
            file.title(offline),
            file.damaged_blocks,
            file.blocks
        );
        for length in &file.lengths {
            let _ = writeln!(out, "  {length}");
        }
        for b in file.listed.iter().take(SHOWN_MAX) {
            let _ =
                writeln!(out, "  block {}: {} (byte {} of {})", b.block, b.what, b.offset, b.file);
        }
        let more = file.damaged_blocks.saturating_sub(SHOWN_MAX as u64);
        if more > 0 {
            let _ =
                writeln!(out, "  and {} more; --json has {LISTED_MAX} of each file", grouped(more));
        }
        if let Some(why) = &file.not_looked_at {
            let _ = writeln!(out, "  not looked at to its end: {why}");
        }
        if file.damaged_blocks > 0 || !file.lengths.is_empty() {
            for (number, step) in file.advice.iter().enumerate() {
                let _ = writeln!(out, "  {}. {}", number + 1, step.text);
                let lines = step.sql.iter().chain(&step.shell);
                lines.for_each(|line| {
                    let _ = writeln!(out, "       {}", one_line(line));
                });
            }
        }
        let _ = writeln!(out);
    }
    let _ = writeln!(
        out,
        "{} files, {} blocks, {}: {} blocks damaged",
        grouped(verified.files),
        grouped(verified.blocks),
        sized(verified.bytes),
        grouped(verified.damaged_blocks)
    );
    if !verified.data_checksums {
        let _ = writeln!(
            out,
            "NOTE: the cluster has no checksums: only what breaks the structure of a page was seen"
        );
    }
    for note in &verified.notes {
        let _ = writeln!(out, "NOTE: {note}");
    }
    let end = match verified.exit_code {
        EXIT_CLEAN => "Every page was looked at, and nothing is wrong with any.",
        EXIT_DAMAGED => {
            "There is damage. Write nothing more to this server, copy its data directory before any \
             repair, and look for a standby that is sound; then follow the advice above."
        }
        _ => "NOT every page was looked at: see above.",
    };
    let _ = writeln!(out, "\n{end}");
    out
}
