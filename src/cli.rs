//! The command line: what was typed ([`Cli`]), and what it means.
//!
//! Options are those that users of pg_dump, psql and pg_amcheck know: `-h` is
//! the host, help is `--help` or `-?`.

mod amcheck;
mod choosing;
mod diff;
mod inspect;
mod locate;
mod pages;
mod report;
mod restore;
mod schema;
mod unchecked;
mod units;
mod verify;

use crate::output::Codec;
use crate::run::{CheckCounts, CheckPages, RunOptions, SchemaOptions, Unchecked};
use crate::server::connect::{ConnectError, Target};
use crate::server::inventory::Selection;
use crate::server::session::Timeouts;
use choosing::{ConnectionArgs, SelectionArgs};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
pub use diff::DiffArgs;
pub use inspect::InspectArgs;
pub use locate::LocateArgs;
pub use pages::{CompletionsArgs, ManArgs, manual};
pub use report::{FormArgs, ReportArgs};
use restore::EXAMPLES as RESTORE_EXAMPLES;
pub use restore::RestoreArgs;
use schema::SchemaArgs;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use unchecked::UncheckedArgs;
use units::{duration, size, size_or_none};
use verify::EXAMPLES as VERIFY_EXAMPLES;
pub use verify::VerifyArgs;

const EXIT_CODES: &str = "\
Exit codes:
  0  everything was read, and no damage was seen
  1  it could not be done: wrong option, no connection, output not writable
  2  the run is complete, and found damage
  3  the run is incomplete: stopped, or something could not be looked at;
     dump --resume goes on with it";

const DUMP_EXAMPLES: &str = "\
Examples:
  pg_salvage dump -d shop -f /backup/shop -j 4
  pg_salvage dump -h db1 -U postgres -d shop -f out -t 'public.order*' -Z gzip:6
  pg_salvage dump -d 'host=db1 dbname=shop sslmode=verify-full' -f out -v
  pg_salvage dump -d shop -f /backup/shop -j 4 --resume";

const LIST_EXAMPLES: &str = "\
Example:
  pg_salvage list -d shop -N 'tmp*'";

/// Reads every table of a damaged PostgreSQL database, and names what is lost.
#[derive(Parser, Debug)]
#[command(name = "pg_salvage", version, disable_help_flag = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Print help
    #[arg(long, short = '?', action = ArgAction::Help, global = true)]
    help: Option<bool>,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Read every table into its own compressed file, damage or not
    #[command(after_help = concat_help(DUMP_EXAMPLES))]
    Dump(DumpArgs),
    /// Read everything, keep nothing, report
    #[command(after_help = concat_help(VERIFY_EXAMPLES))]
    Verify(VerifyArgs),
    /// Load a dump into a database, around the rows that it does not take
    #[command(after_help = format!("{RESTORE_EXAMPLES}\n\n{}", restore::EXIT_CODES))]
    Restore(RestoreArgs),
    /// What logs say of damage: which relation and file, and what to do
    #[command(after_help = format!("{}\n\n{}", locate::EXAMPLES, locate::EXIT_CODES))]
    Locate(LocateArgs),
    /// One page: header, checksum, line pointers, tuples, bytes
    #[command(after_help = format!("{}\n\n{}", inspect::EXAMPLES, inspect::EXIT_CODES))]
    Inspect(InspectArgs),
    /// What a dump would read, with sizes and risks
    #[command(after_help = concat_help(LIST_EXAMPLES))]
    List(ListArgs),
    /// Show the report of a run again, for people or for programs, or compare two
    #[command(after_help = format!("{}\n\n{}\n\n{}", report::EXAMPLES, report::EXIT_CODES, diff::EXIT_CODES))]
    Report(ReportArgs),
    /// Write manual pages, one for each command
    #[command(after_help = format!("{}\n\n{}", pages::MAN_EXAMPLES, pages::EXIT_CODES))]
    Man(ManArgs),
    /// Print a script that completes commands and options in a shell
    #[command(after_help = format!("{}\n\n{}", pages::COMPLETIONS_EXAMPLES, pages::EXIT_CODES))]
    Completions(CompletionsArgs),
}

fn concat_help(examples: &'static str) -> String {
    format!("{examples}\n\n{EXIT_CODES}")
}

#[derive(Args, Debug)]
pub struct DumpArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    #[command(flatten)]
    unchecked: UncheckedArgs,
    #[command(flatten)]
    what: SchemaArgs,
    #[command(flatten)]
    pub showing: ShowingArgs,
    /// Directory to write to; it must not exist, or be empty
    #[arg(short, long, value_name = "DIR", help_heading = "Output")]
    pub file: PathBuf,
    /// Go on with what an earlier run has left in DIR, whatever ended it
    #[arg(long, help_heading = "Output")]
    resume: bool,
    /// Compression: zstd, gzip, lz4 or none, with a level if wanted
    #[arg(
        short = 'Z',
        long,
        value_name = "METHOD[:LEVEL]",
        default_value = "zstd",
        help_heading = "Output"
    )]
    compress: Codec,
    /// Do not wait for files to be written safely to disk
    #[arg(long, help_heading = "Output")]
    no_sync: bool,
    /// Leave so much of the file system free: do not begin where there is less,
    /// and stop before; 0: fill it
    #[arg(long, value_name = "SIZE", default_value = "100MB", value_parser = size_or_none, help_heading = "Output")]
    min_free: u64,
}

#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    pub showing: ShowingArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Reading")]
struct ReadingArgs {
    /// Read with so many connections
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Read larger relations in ranges of blocks, by several connections
    /// [default: 1GB; with -j less, where one relation is much of all]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    split_size: Option<u64>,
    /// End a read after so long, and read less at a time; 0: never
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    statement_timeout: Duration,
    /// End a read when no byte came for so long, and read less at a time; 0:
    /// never. A gigabyte of dead rows is silent for minutes on a slow disk
    #[arg(long, value_name = "DURATION", default_value = "5min", value_parser = duration)]
    read_timeout: Duration,
    /// Wait for a lock for so long at a time; 0: for ever
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    lock_timeout: Duration,
    /// When the server went down so often, read nothing again that may be why;
    /// once more, and the run stops
    #[arg(long, value_name = "N", default_value_t = 3)]
    max_crashes: u32,
    /// Wait for a server that went down for so long
    #[arg(long, value_name = "DURATION", default_value = "10min", value_parser = duration)]
    crash_wait: Duration,
    /// Count rows by index-only scans, too: auto does so once damage was seen
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, default_missing_value = "always")]
    check_counts: Option<When>,
    /// Stop at the first damage
    #[arg(long)]
    fail_fast: bool,
    /// Show progress: a bar on a terminal, else lines
    #[arg(short = 'P', long, help_heading = "Messages")]
    progress: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    Auto,
    Always,
    Never,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Messages")]
pub struct ShowingArgs {
    /// Say more; twice: every read
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// Form of the log on stderr
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Colour in the log (NO_COLOR turns it off, too)
    #[arg(long, value_enum, default_value_t = When::Auto)]
    pub color: When,
}

/// What was typed and makes no sense, on one line.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error("{0}")]
    Pattern(String),
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl ReadingArgs {
    fn timeouts(&self) -> Timeouts {
        let ms =
            |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX).min(i32::MAX as u64);
        Timeouts {
            statement_ms: ms(self.statement_timeout),
            lock_ms: ms(self.lock_timeout),
            read_ms: ms(self.read_timeout),
        }
    }

    fn options(&self, selection: &SelectionArgs, counts: When) -> Result<RunOptions, UsageError> {
        let asked = BTreeMap::from([
            ("jobs".to_owned(), json!(self.jobs)),
            ("split_size".to_owned(), json!(self.split_size)),
            ("max_crashes".to_owned(), json!(self.max_crashes)),
            ("schema".to_owned(), json!(selection.schema)),
            ("exclude_schema".to_owned(), json!(selection.exclude_schema)),
            ("table".to_owned(), json!(selection.table)),
            ("exclude_table".to_owned(), json!(selection.exclude_table)),
            ("large_objects".to_owned(), json!(selection.large_objects)),
        ]);
        Ok(RunOptions {
            dir: None,
            resume: false,
            min_free: 0,
            sync: true,
            jobs: usize::from(self.jobs),
            codec: Codec::NONE,
            selection: selection.selection()?,
            strict_names: selection.strict_names,
            split_bytes: self.split_size,
            max_crashes: self.max_crashes,
            crash_wait: self.crash_wait,
            timeouts: self.timeouts(),
            check_counts: match self.check_counts.unwrap_or(counts) {
                When::Auto => CheckCounts::Auto,
                When::Always => CheckCounts::Always,
                When::Never => CheckCounts::Never,
            },
            fail_fast: self.fail_fast,
            unchecked: Unchecked::default(),
            check_pages: CheckPages::Auto,
            schema: SchemaOptions::default(),
            catalogs: false,
            only: BTreeSet::new(),
            last_ok: BTreeMap::new(),
            begun: BTreeMap::new(),
            asked,
        })
    }
}

impl DumpArgs {
    pub fn progress(&self) -> bool {
        self.reading.progress
    }

    pub fn meant(&self) -> Result<(Target, RunOptions), UsageError> {
        let mut options = self.reading.options(&self.selection, When::Auto)?;
        options.dir = Some(self.file.clone());
        options.resume = self.resume;
        options.min_free = self.min_free;
        options.sync = !self.no_sync;
        options.codec = self.compress;
        options.asked.insert("compress".to_owned(), json!(self.compress.to_string()));
        options.asked.insert("min_free".to_owned(), json!(self.min_free));
        options.unchecked = self.unchecked.meant(&mut options.asked);
        options.check_pages = self.unchecked.check_pages(&mut options.asked);
        options.schema = self.what.meant(&mut options.asked);
        Ok((self.connection.target()?, options))
    }
}

impl ListArgs {
    pub fn meant(&self) -> Result<(Target, Selection), UsageError> {
        Ok((self.connection.target()?, self.selection.selection()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
