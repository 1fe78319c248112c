//! Options for the schema.

use crate::run::SchemaOptions;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(next_help_heading = "Schema")]
pub(super) struct SchemaArgs {
    /// Ask this pg_dump for the schema, and not the newest that is found
    #[arg(long, value_name = "PATH", conflicts_with = "no_schema")]
    pg_dump: Option<PathBuf>,
    /// Leave the schema out; pg_restore cannot load the dump then
    #[arg(long)]
    no_schema: bool,
}

impl SchemaArgs {
    /// What is meant. What was given is noted in `asked`.
    pub(super) fn meant(&self, asked: &mut BTreeMap<String, Value>) -> SchemaOptions {
        if self.no_schema {
            asked.insert("no_schema".to_owned(), json!(true));
        }
        SchemaOptions { left_out: self.no_schema, pg_dump: self.pg_dump.clone() }
    }
}
