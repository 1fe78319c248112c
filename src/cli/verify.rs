//! The options of `pg_salvage verify`.

use super::amcheck::AmcheckArgs;
use super::choosing::{ConnectionArgs, SelectionArgs};
use super::units::{duration, size};
use super::{ReadingArgs, ShowingArgs, UsageError, When};
use crate::nightly::{NightlyOptions, Window};
use crate::report::Format;
use crate::report::model::Level;
use crate::server::connect::Target;
use crate::verify::{FilesFrom, VerifyOptions};
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(super) const EXAMPLES: &str = "\
Examples:
  pg_salvage verify -d shop -j 2
  pg_salvage verify -d shop --pages -j 2 -P
  pg_salvage verify -a --amcheck --format json
  pg_salvage verify -a --amcheck --max-duration 4h --max-rate 50MB \\
      --since-last-ok /var/lib/pg_salvage/state.json \\
      --baseline /var/lib/pg_salvage/last.json -o /var/lib/pg_salvage/last.json";

/// Where nobody says which database to ask for the list of all.
const MAINTENANCE_DATABASE: &str = "postgres";

#[derive(Args, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    /// All databases, and what they share
    #[arg(short, long, conflicts_with_all = ["schema", "table"], help_heading = "Selection")]
    all: bool,
    #[command(flatten)]
    level: LevelArgs,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    baseline: BaselineArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Form of the report that is printed: text, json, csv, junit, openmetrics or html
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        default_value = "text",
        hide_possible_values = true,
        help_heading = "Output"
    )]
    pub format: Format,
    /// Write the report to FILE, too, in the form that its name asks for: .txt,
    /// .json, .csv, .xml (JUnit), .prom (OpenMetrics) or .html; as often as wanted
    #[arg(short, long, value_name = "FILE", value_parser = output, help_heading = "Output")]
    pub output: Vec<(Format, PathBuf)>,
    #[command(flatten)]
    pub showing: ShowingArgs,
}

/// A file, and the form that its name asks for.
fn output(name: &str) -> Result<(Format, PathBuf), String> {
    let path = PathBuf::from(name);
    let form = Format::of_file(&path);
    let form = form.ok_or("end its name in .txt, .json, .csv, .xml, .prom or .html")?;
    Ok((form, path))
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Level")]
struct LevelArgs {
    /// Look at the pages of all files only: checksums and structure of tables,
    /// indexes, TOAST, sequences, catalogs and their maps
    #[arg(long, conflicts_with_all = ["no_pages", "rows", "amcheck"])]
    pages: bool,
    /// Pages, where the role may read files, and then all rows [default]
    #[arg(long)]
    rows: bool,
    #[command(flatten)]
    amcheck: AmcheckArgs,
    /// Leave pages out
    #[arg(long)]
    no_pages: bool,
    /// Read the files there, without the server: its data directory, on this host. It
    /// is found by itself by who may read it and connects by a Unix socket
    #[arg(long, value_name = "DIR", conflicts_with = "no_pages")]
    pgdata: Option<PathBuf>,
    /// Have the server read its files and send them, wherever they are
    #[arg(long, conflicts_with_all = ["pgdata", "no_pages"])]
    no_pgdata: bool,
    /// The server is down: look at the files of all its databases, by their paths
    #[arg(long, requires_all = ["pages", "pgdata"])]
    offline: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Window")]
struct WindowArgs {
    /// Begin nothing more after so long, and say what was not reached
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_duration: Option<Duration>,
    /// Read so many bytes per second at most, all connections together
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_rate: Option<u64>,
    /// Keep in FILE when each relation was last found clean, and begin with those
    /// of which that is longest ago
    #[arg(long, value_name = "FILE")]
    since_last_ok: Option<PathBuf>,
    /// Exit with 3 if a relation was not found clean for so long
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "since_last_ok")]
    max_age: Option<Duration>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Baseline")]
struct BaselineArgs {
    /// Compare with an earlier report (JSON); none there is no error
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Exit with 2 only if there is damage that the baseline does not have
    #[arg(long, requires = "baseline")]
    only_new: bool,
    /// Say where rows are fewer than in the baseline by more than so many percent
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    rows_fell: u8,
}

impl LevelArgs {
    fn levels(&self) -> Vec<Level> {
        let rows = !self.pages;
        let all = [
            (Level::Pages, !self.no_pages),
            (Level::Rows, rows),
            (Level::Amcheck, rows && self.amcheck.amcheck),
        ];
        all.into_iter().filter(|(_, wanted)| *wanted).map(|(level, _)| level).collect()
    }

    fn files(&self) -> FilesFrom {
        match &self.pgdata {
            Some(dir) => FilesFrom::DataDirectory(dir.clone()),
            None if self.no_pgdata => FilesFrom::Server,
            None => FilesFrom::Found,
        }
    }
}

impl VerifyArgs {
    pub fn progress(&self) -> bool {
        self.reading.progress
    }

    pub fn meant(&self) -> Result<(Target, NightlyOptions), UsageError> {
        let mut target = self.connection.target()?;
        if self.all && !self.connection.has_database() {
            target = target.with_dbname(MAINTENANCE_DATABASE);
        }
        let mut rows = self.reading.options(&self.selection, When::Always)?;
        rows.catalogs = true;
        let pages = VerifyOptions {
            jobs: rows.jobs,
            selection: rows.selection.clone(),
            timeouts: rows.timeouts,
            files: self.level.files(),
            hanging: Arc::default(),
            offline: self.level.offline,
            shared: true,
            of_other: None,
            last_ok: BTreeMap::new(),
            begun: BTreeMap::new(),
        };
        let amcheck = self.level.amcheck.meant(rows.jobs, rows.selection.clone(), rows.timeouts);
        let WindowArgs { max_duration, max_rate, since_last_ok, max_age } = &self.window;
        let options = NightlyOptions {
            levels: self.level.levels(),
            all: self.all,
            pages,
            rows,
            amcheck,
            window: Window {
                max_duration: *max_duration,
                max_rate: *max_rate,
                state: since_last_ok.clone(),
                max_age: *max_age,
            },
            baseline: self.baseline.baseline.clone(),
            only_new: self.baseline.only_new,
            rows_fell_percent: self.baseline.rows_fell,
        };
        Ok((target, options))
    }
}
