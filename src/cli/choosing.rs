//! Where to connect, and what of a database is chosen: options that several
//! commands have.

use super::UsageError;
use crate::server::connect::{ConnectArgs, PasswordPrompt, Target};
use crate::server::inventory::Selection;
use crate::server::pattern::{Pattern, PatternError};
use clap::Args;

#[derive(Args, Debug)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The same, as pg_dump takes it
    #[arg(value_name = "DBNAME", conflicts_with = "dbname")]
    database: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Connection")]
pub(super) struct ServerArgs {
    /// Server host or socket directory
    #[arg(short = 'h', long, value_name = "HOSTNAME")]
    host: Option<String>,
    /// Server port
    #[arg(short, long, value_name = "PORT")]
    port: Option<String>,
    /// User to connect as
    #[arg(short = 'U', long, value_name = "USERNAME")]
    username: Option<String>,
    /// Database: a name, a connection string or a URI
    #[arg(short, long, value_name = "DBNAME")]
    dbname: Option<String>,
    /// Never ask for a password
    #[arg(short = 'w', long, conflicts_with = "password")]
    no_password: bool,
    /// Ask for a password before connecting
    #[arg(short = 'W', long)]
    password: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Selection")]
pub(super) struct SelectionArgs {
    /// Only schemas that match the pattern
    #[arg(short = 'n', long, value_name = "PATTERN")]
    pub(super) schema: Vec<String>,
    /// No schemas that match the pattern
    #[arg(short = 'N', long, value_name = "PATTERN")]
    pub(super) exclude_schema: Vec<String>,
    /// Only tables, views, sequences that match the pattern
    #[arg(short = 't', long, value_name = "PATTERN")]
    pub(super) table: Vec<String>,
    /// None that match the pattern
    #[arg(short = 'T', long, value_name = "PATTERN")]
    pub(super) exclude_table: Vec<String>,
    /// Large objects too, although schemas or tables were chosen
    #[arg(short = 'b', long)]
    pub(super) large_objects: bool,
    /// Every pattern of -n and -t must match something
    #[arg(long)]
    pub(super) strict_names: bool,
}

impl ConnectionArgs {
    pub(super) fn target(&self) -> Result<Target, UsageError> {
        self.server.target(self.database.as_ref())
    }

    /// Whether a database was named, here or in the environment.
    pub(super) fn has_database(&self) -> bool {
        let named = self.server.has_database() || self.database.is_some();
        named || std::env::var_os("PGDATABASE").is_some()
    }
}

impl ServerArgs {
    pub(super) fn has_database(&self) -> bool {
        self.dbname.is_some()
    }

    /// `database` counts where none was given by `-d`.
    pub(super) fn target(&self, database: Option<&String>) -> Result<Target, UsageError> {
        let args = ConnectArgs {
            host: self.host.clone(),
            port: self.port.clone(),
            user: self.username.clone(),
            dbname: self.dbname.clone().or_else(|| database.cloned()),
            password: match (self.no_password, self.password) {
                (true, _) => PasswordPrompt::Never,
                (_, true) => PasswordPrompt::Force,
                _ => PasswordPrompt::Auto,
            },
        };
        Ok(Target::resolve(&args, &|name| std::env::var(name).ok())?)
    }
}

impl SelectionArgs {
    pub(super) fn selection(&self) -> Result<Selection, UsageError> {
        type Parse = fn(&str) -> Result<Pattern, PatternError>;
        let all = |patterns: &[String], parse: Parse| {
            let parsed = patterns.iter().map(|p| parse(p));
            parsed.collect::<Result<Vec<_>, _>>().map_err(|e| UsageError::Pattern(e.to_string()))
        };
        Ok(Selection {
            schemas: all(&self.schema, Pattern::parse_schema)?,
            not_schemas: all(&self.exclude_schema, Pattern::parse_schema)?,
            tables: all(&self.table, Pattern::parse)?,
            not_tables: all(&self.exclude_table, Pattern::parse)?,
            large_objects: self.large_objects,
        })
    }
}
