//! Options for reading what is known to be bad.

use super::When;
use crate::run::{CheckPages, Unchecked};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RawRows {
    Auto,
    Never,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Damaged pages")]
pub(super) struct UncheckedArgs {
    /// Look at pages as bytes before they are read, and leave out what could take
    /// the server down: auto does so once it went down
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = When::Auto)]
    check_pages: When,
    /// Decode rows of pages that the server refuses from the pages' bytes, where the
    /// role may read files; they are suspect
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = RawRows::Auto)]
    raw_rows: RawRows,
    /// Read pages whose checksums are wrong, too, after an image of each was
    /// saved; their rows are suspect
    #[arg(long)]
    ignore_checksum_failure: bool,
    /// Accepted, and not used: damaged pages are skipped anyway, and every
    /// session of the server would get the zeros
    #[arg(long)]
    zero_damaged_pages: bool,
    /// Do so on a primary, too, where it changes evidence, not on a standby only
    #[arg(long)]
    allow_on_primary: bool,
}

impl UncheckedArgs {
    /// When pages are looked at before they are read.
    pub(super) fn check_pages(&self, asked: &mut BTreeMap<String, Value>) -> CheckPages {
        let (name, meant) = match self.check_pages {
            When::Auto => return CheckPages::Auto,
            When::Always => ("always", CheckPages::Always),
            When::Never => ("never", CheckPages::Never),
        };
        asked.insert("check_pages".to_owned(), json!(name));
        meant
    }

    /// What is meant. What was given is noted in `asked`.
    pub(super) fn meant(&self, asked: &mut BTreeMap<String, Value>) -> Unchecked {
        let named = [
            ("ignore_checksum_failure", self.ignore_checksum_failure),
            ("zero_damaged_pages", self.zero_damaged_pages),
            ("allow_on_primary", self.allow_on_primary),
        ];
        let given = named.into_iter().filter(|(_, is_given)| *is_given);
        asked.extend(given.map(|(name, _)| (name.to_owned(), json!(true))));
        if self.raw_rows == RawRows::Never {
            asked.insert("raw_rows".to_owned(), json!("never"));
        }
        Unchecked {
            checksums: self.ignore_checksum_failure,
            zeros: self.zero_damaged_pages,
            on_primary: self.allow_on_primary,
            raw: self.raw_rows == RawRows::Auto,
        }
    }
}
