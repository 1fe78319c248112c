//! The options of `report --diff`.

use super::UsageError;
use crate::compare::CompareOptions;
use crate::server::connect::{ConnectArgs, PasswordPrompt, Target};
use crate::server::pattern::Pattern;
use clap::Args;
use std::path::{Path, PathBuf};

pub(super) const EXIT_CODES: &str = "\
Exit codes of --diff:
  0  A and B have the same relations, with the same rows
  1  it could not be done: wrong option, no such run, no connection
  2  there are differences
  3  something could not be compared";

#[derive(Args, Debug)]
#[command(next_help_heading = "Comparing two runs")]
pub struct DiffArgs {
    /// Which relations have other rows in A than in B: each a directory of a
    /// dump, a manifest.json or a verify.json
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    diff: Vec<PathBuf>,
    /// Find the rows that differ, by primary keys, in both databases as they are
    /// now
    #[arg(long, requires_all = ["diff", "source", "target"])]
    keys: bool,
    /// The database of A (a connection string)
    #[arg(long, value_name = "CONNSTR", requires = "keys")]
    source: Option<String>,
    /// The database of B
    #[arg(long, value_name = "CONNSTR", requires = "keys")]
    target: Option<String>,
    /// Only rows of tables that match the pattern, also of those that could not
    /// be compared
    #[arg(short, long, value_name = "PATTERN", requires = "keys")]
    table: Vec<String>,
    /// Compare so many rows at a time
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    range_rows: u64,
    /// Write all keys that are found into this new directory, those of each table
    /// into a CSV file
    #[arg(long, value_name = "DIR", requires = "keys")]
    keys_to: Option<PathBuf>,
    /// Print JSON
    #[arg(long, requires = "diff")]
    pub json: bool,
}

impl DiffArgs {
    /// The two runs, where two are to be compared.
    pub fn runs(&self) -> Option<(&Path, &Path)> {
        match self.diff.as_slice() {
            [a, b] => Some((a, b)),
            _ => None,
        }
    }

    /// How rows are to be compared, where they are.
    pub fn of_rows(&self) -> Result<Option<CompareOptions>, UsageError> {
        let (Some(source), Some(target)) = (&self.source, &self.target) else { return Ok(None) };
        let pattern =
            |text: &String| Pattern::parse(text).map_err(|e| UsageError::Pattern(e.to_string()));
        Ok(Some(CompareOptions {
            source: connect_to(source)?,
            target: connect_to(target)?,
            tables: self.table.iter().map(pattern).collect::<Result<_, _>>()?,
            range_rows: self.range_rows,
            keys_to: self.keys_to.clone(),
        }))
    }
}

fn connect_to(conninfo: &str) -> Result<Target, UsageError> {
    let args = ConnectArgs {
        dbname: Some(conninfo.to_owned()),
        password: PasswordPrompt::Never,
        ..ConnectArgs::default()
    };
    Ok(Target::resolve(&args, &|name| std::env::var(name).ok())?)
}
