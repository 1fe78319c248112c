//! The options of `inspect`.

use super::choosing::ServerArgs;
use super::locate::FilesArgs;
use super::{ShowingArgs, UsageError, When};
use crate::inspect::InspectOptions;
use crate::locate::Fork;
use crate::server::connect::Target;
use clap::{Args, ValueEnum};

pub(super) const EXAMPLES: &str = "\
Examples:
  pg_salvage inspect -d shop public.orders 335458
  pg_salvage inspect -d shop base/16384/99454 335458 --json
  pg_salvage inspect --pgdata /var/lib/postgresql/15/main base/16384/99454 335458
  pg_salvage inspect /backup/shop/pages/public.orders/main.100.page";

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  nothing on the page is as on no sound page
  1  it could not be done: wrong option, no connection, no such block
  2  something on the page is damaged";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ForkName {
    Main,
    Fsm,
    Vm,
    Init,
}

#[derive(Args, Debug)]
pub struct InspectArgs {
    /// A relation as SQL writes it (-d), its file as messages name it, or a file
    /// that has the page
    relation: String,
    /// Number of the block in the relation; a saved page has it in its name
    block: Option<u32>,
    /// Fork of the relation [default: main]
    #[arg(long, value_enum, value_name = "FORK")]
    fork: Option<ForkName>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    files: FilesArgs,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    #[command(flatten)]
    pub showing: ShowingArgs,
}

impl InspectArgs {
    pub fn meant(&self) -> Result<(Option<Target>, InspectOptions), UsageError> {
        let target = match self.server.has_database() {
            true => Some(self.server.target(None)?),
            false => None,
        };
        let fork = self.fork.map(|fork| match fork {
            ForkName::Main => Fork::Main,
            ForkName::Fsm => Fork::FreeSpaceMap,
            ForkName::Vm => Fork::VisibilityMap,
            ForkName::Init => Fork::Init,
        });
        let options = InspectOptions {
            relation: self.relation.clone(),
            block: self.block,
            fork,
            pgdata: self.files.pgdata.clone(),
            block_size: self.files.block_size,
            segment_bytes: self.files.segment_size,
        };
        Ok((target, options))
    }

    /// Whether what is printed has colours.
    pub fn colour(&self, is_terminal: bool) -> bool {
        match self.showing.color {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }
}
