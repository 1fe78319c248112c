//! The options of `locate`.

use super::choosing::ServerArgs;
use super::units::size;
use super::{ShowingArgs, UsageError};
use crate::locate::{Asked, Input, LocateOptions, is_path, parse_blocks};
use crate::server::connect::Target;
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "\
Examples:
  pg_salvage locate -d shop /var/log/postgresql/postgresql-15-main.log
  pg_salvage locate --pgdata /var/lib/postgresql/15/main < server.log
  pg_salvage locate -d shop base/16384/99454 335458
  pg_dump shop 2>&1 >/dev/null | pg_salvage locate -d shop --script advice.sql";

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  no message of damage was found
  1  it could not be done: wrong option, file not readable, script there already
  2  messages of damage were found";

#[derive(Args, Debug)]
pub struct LocateArgs {
    /// Logs (stderr, csvlog, jsonlog), or texts with error messages; - is
    /// standard input, also if nothing is given. Or a relation's file as messages
    /// name it, and blocks: base/16384/99454 335458
    #[arg(value_name = "FILE")]
    words: Vec<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    files: FilesArgs,
    /// Write the advice as a script for psql, which is not run; the file must not
    /// exist
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    script: Option<PathBuf>,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    #[command(flatten)]
    pub showing: ShowingArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Files")]
pub(super) struct FilesArgs {
    /// Data directory of the server, which may be down
    #[arg(long, value_name = "DIR")]
    pub(super) pgdata: Option<PathBuf>,
    /// Size of a block [default: the server's, or 8kB]
    #[arg(long, value_name = "SIZE", value_parser = block_size)]
    pub(super) block_size: Option<u32>,
    /// Size of a segment of a relation [default: the server's, or 1GB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) segment_size: Option<u64>,
}

/// Those that PostgreSQL can be built with.
fn block_size(text: &str) -> Result<u32, String> {
    let sizes = [1, 2, 4, 8, 16, 32].map(|kb: u32| kb << 10);
    let given = text.parse::<u64>().or_else(|_| size(text))?;
    let known = sizes.into_iter().find(|known| u64::from(*known) == given);
    known.ok_or_else(|| "a block has 1, 2, 4, 8, 16 or 32 kB".to_owned())
}

impl LocateArgs {
    pub fn meant(&self) -> Result<(Option<Target>, LocateOptions), UsageError> {
        let target = match self.server.has_database() {
            true => Some(self.server.target(None)?),
            false => None,
        };
        let inputs = self.inputs()?;
        let files = &self.files;
        let options = LocateOptions {
            inputs,
            pgdata: files.pgdata.clone(),
            block_size: files.block_size,
            segment_bytes: files.segment_size,
            script: self.script.clone(),
        };
        Ok((target, options))
    }

    fn inputs(&self) -> Result<Vec<Input>, UsageError> {
        let mut inputs = Vec::new();
        for word in &self.words {
            let text = word.to_str().unwrap_or_default();
            let asks = text.split_ascii_whitespace().next().is_some_and(is_path);
            match (asks && !word.exists(), inputs.last_mut()) {
                (true, _) => {
                    let (path, blocks) = text.split_once(' ').unwrap_or((text, ""));
                    let mut asked =
                        Asked { path: path.trim_matches('"').to_owned(), blocks: Vec::new() };
                    for word in blocks.split_ascii_whitespace() {
                        let blocks = parse_blocks(word).ok_or_else(|| no_block(word))?;
                        asked.blocks.extend(blocks);
                    }
                    inputs.push(Input::Asked(asked));
                }
                (false, _) if text == "-" => inputs.push(Input::Stdin),
                (false, Some(Input::Asked(asked))) if !word.exists() => {
                    asked.blocks.extend(parse_blocks(text).ok_or_else(|| no_block(text))?);
                }
                (false, _) => inputs.push(Input::File(word.clone())),
            }
        }
        if inputs.is_empty() {
            if std::io::stdin().is_terminal() {
                return Err(UsageError::Pattern(
                    "give a log, a relation's file and block as messages name them, or - for \
                     standard input"
                        .to_owned(),
                ));
            }
            inputs.push(Input::Stdin);
        }
        Ok(inputs)
    }
}

fn no_block(word: &str) -> UsageError {
    UsageError::Pattern(format!("\"{word}\" is neither a file nor a number of a block"))
}
