//! The options of `report`, and the form of a report, which others ask for, too.

use super::{DiffArgs, ShowingArgs};
use crate::report::Format;
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "\
Examples:
  pg_salvage report /backup/shop
  pg_salvage report /backup/shop --format html -o shop.html
  pg_salvage report verify.json --format junit -o verify.xml
  pg_salvage report --diff /backup/shop /backup/shop_new
  pg_salvage report --diff primary.json standby.json --keys \\
      --source 'host=db1 dbname=shop' --target 'host=db2 dbname=shop'";

pub(super) const EXIT_CODES: &str = "\
Exit codes are those of the run that it tells of:
  0  everything was read, and no damage was seen
  1  it could not be done: nothing to report of, or the output not writable
  2  the run is complete, and found damage
  3  the run is incomplete: stopped, or something could not be looked at";

#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Directory of a dump, its manifest.json, or a report as JSON (verify.json)
    #[arg(
        id = "run",
        value_name = "SOURCE",
        required_unless_present = "diff",
        conflicts_with = "diff"
    )]
    pub source: Option<PathBuf>,
    #[command(flatten)]
    pub form: FormArgs,
    #[command(flatten)]
    pub diff: DiffArgs,
    #[command(flatten)]
    pub showing: ShowingArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub struct FormArgs {
    /// Form of the report: text for a terminal, json, csv for a spreadsheet,
    /// junit for CI, openmetrics for Prometheus, html for a browser or a mail
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        default_value = "text",
        hide_possible_values = true
    )]
    pub format: Format,
    /// Write it to FILE, which is replaced as a whole, instead of printing it
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}
