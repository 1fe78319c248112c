//! What is asked of the extension amcheck, by `pg_salvage verify`.

use crate::server::inventory::Selection;
use crate::server::session::Timeouts;
use crate::verify::amcheck::AmcheckOptions;
use clap::Args;
use std::collections::BTreeMap;

#[derive(Args, Debug)]
#[command(next_help_heading = "Level")]
pub(super) struct AmcheckArgs {
    /// Check tables and b-trees by the functions of the extension amcheck, where
    /// it is installed in the database: verify_heapam (PostgreSQL 14 and later),
    /// bt_index_check, gin_index_check (18). Nothing is installed
    #[arg(long)]
    pub(super) amcheck: bool,
    /// Look for each row of a table in its b-trees, too: that reads every table
    /// once for each index
    #[arg(long, requires = "amcheck")]
    heapallindexed: bool,
    /// Look for each entry of a b-tree from its root, too: nobody can write to its
    /// table meanwhile; not on a standby
    #[arg(long, requires = "amcheck")]
    rootdescend: bool,
}

impl AmcheckArgs {
    pub(super) fn meant(
        &self,
        jobs: usize,
        selection: Selection,
        timeouts: Timeouts,
    ) -> AmcheckOptions {
        AmcheckOptions {
            jobs,
            selection,
            timeouts,
            heapallindexed: self.heapallindexed,
            rootdescend: self.rootdescend,
            last_ok: BTreeMap::new(),
        }
    }
}
