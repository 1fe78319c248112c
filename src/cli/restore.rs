//! The options of `restore`; those that `pg_restore` has mean the same here.

use super::choosing::{SelectionArgs, ServerArgs};
use super::{ShowingArgs, UsageError};
use crate::restore::{Checking, Include, RestoreOptions, Sections};
use crate::server::connect::{ConnectArgs, Target};
use clap::{ArgAction, Args, ValueEnum};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "\
Examples:
  pg_salvage restore /backup/shop -d shop_new --create -j 4
  pg_salvage restore /backup/shop -d shop_new --create --include partial,suspect
  pg_salvage restore /backup/shop -d shop --data-only --on-conflict skip --dry-run
  pg_salvage restore /backup/shop -d shop_new -j 4 --resume";

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  all rows that were to be loaded are, and everything was made
  1  it could not be done: wrong option, no connection, no dump
  2  rows were rejected, or something could not be made; the rest is there
  3  the restore is incomplete; --resume goes on with it";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SectionName {
    PreData,
    Data,
    PostData,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClassName {
    Clean,
    Partial,
    Suspect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnConflict {
    Reject,
    Skip,
}

#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// Directory of a dump
    dir: PathBuf,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    pub showing: ShowingArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "What is restored")]
struct WhatArgs {
    /// Make the database first
    #[arg(short = 'C', long)]
    create: bool,
    /// Only rows, into tables that are there; their triggers fire
    #[arg(short = 'a', long, conflicts_with_all = ["schema_only", "section", "create"])]
    data_only: bool,
    /// No rows
    #[arg(short = 's', long, conflicts_with = "section")]
    schema_only: bool,
    /// Only this section; may be given again
    #[arg(long, value_enum, value_name = "SECTION")]
    section: Vec<SectionName>,
    /// Rows to load beside the clean ones: partial, suspect, or clean for none
    #[arg(
        long,
        value_enum,
        value_name = "CLASSES",
        value_delimiter = ',',
        default_value = "partial"
    )]
    include: Vec<ClassName>,
    /// Do not set owners
    #[arg(short = 'O', long)]
    no_owner: bool,
    /// Do not grant and revoke
    #[arg(short = 'x', long, visible_alias = "no-acl")]
    no_privileges: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "How")]
struct HowArgs {
    /// Load, and make indexes, with so many connections
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// A row whose key is there already: reject it, or leave it out
    #[arg(long, value_enum, value_name = "HOW", default_value = "reject")]
    on_conflict: OnConflict,
    /// Triggers of the tables do not fire (superusers only)
    #[arg(long)]
    disable_triggers: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Then compare all rows with those of the dump
    #[arg(long)]
    check: bool,
    /// Only compare
    #[arg(long, conflicts_with_all = ["check", "create", "resume", "dry_run"])]
    check_only: bool,
    /// Compare with this database (a connection string) instead of the dump
    #[arg(long, value_name = "CONNSTR")]
    source: Option<String>,
    /// Where rejected rows and the report go [default: DIR/rejects]
    #[arg(long, value_name = "DIR")]
    rejects: Option<PathBuf>,
    /// Go on with a restore that was ended, whatever ended it
    #[arg(long)]
    resume: bool,
    /// Do not wait for files to be written safely to disk
    #[arg(long)]
    no_sync: bool,
    /// Show progress: a bar on a terminal, else lines
    #[arg(short = 'P', long, action = ArgAction::SetTrue, help_heading = "Messages")]
    progress: bool,
}

impl RestoreArgs {
    pub fn progress(&self) -> bool {
        self.how.progress
    }

    pub fn meant(&self) -> Result<(Target, RestoreOptions), UsageError> {
        if !self.server.has_database() {
            return Err(UsageError::Pattern(
                "say which database to restore into: -d DBNAME".to_owned(),
            ));
        }
        let target = self.server.target(None)?;
        let source = match &self.how.source {
            Some(conninfo) => Some(source(conninfo)?),
            None => None,
        };
        let (what, how) = (&self.what, &self.how);
        let has = |class| what.include.contains(&class);
        let include =
            Include { partial: has(ClassName::Partial), suspect: has(ClassName::Suspect) };
        let checking = match (how.check || source.is_some(), how.check_only) {
            (_, true) => Checking::Only,
            (true, _) => Checking::After,
            _ => Checking::Never,
        };
        let sections = self.sections();
        let selection = &self.selection;
        let asked = BTreeMap::from([
            ("sections".to_owned(), json!(named(sections))),
            ("include_partial".to_owned(), json!(include.partial)),
            ("include_suspect".to_owned(), json!(include.suspect)),
            ("on_conflict_skip".to_owned(), json!(how.on_conflict == OnConflict::Skip)),
            ("disable_triggers".to_owned(), json!(how.disable_triggers)),
            ("no_owner".to_owned(), json!(what.no_owner)),
            ("no_privileges".to_owned(), json!(what.no_privileges)),
            ("schema".to_owned(), json!(selection.schema)),
            ("exclude_schema".to_owned(), json!(selection.exclude_schema)),
            ("table".to_owned(), json!(selection.table)),
            ("exclude_table".to_owned(), json!(selection.exclude_table)),
            ("large_objects".to_owned(), json!(selection.large_objects)),
        ]);
        let options = RestoreOptions {
            dir: self.dir.clone(),
            rejects: how.rejects.clone(),
            resume: how.resume,
            sync: !how.no_sync,
            create: what.create,
            jobs: usize::from(how.jobs),
            selection: selection.selection()?,
            strict_names: selection.strict_names,
            sections,
            include,
            skip_conflicts: how.on_conflict == OnConflict::Skip,
            disable_triggers: how.disable_triggers,
            owners: !what.no_owner,
            privileges: !what.no_privileges,
            dry_run: how.dry_run,
            checking,
            source,
            asked,
        };
        Ok((target, options))
    }

    fn sections(&self) -> Sections {
        let what = &self.what;
        if what.data_only {
            return Sections::DATA;
        }
        if what.schema_only {
            return Sections::SCHEMA;
        }
        let has = |name| what.section.is_empty() || what.section.contains(&name);
        Sections {
            pre_data: has(SectionName::PreData),
            data: has(SectionName::Data),
            post_data: has(SectionName::PostData),
        }
    }
}

fn named(sections: Sections) -> Vec<&'static str> {
    let all = [
        (sections.pre_data, "pre-data"),
        (sections.data, "data"),
        (sections.post_data, "post-data"),
    ];
    all.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, name)| name).collect()
}

fn source(conninfo: &str) -> Result<Target, UsageError> {
    let args = ConnectArgs { dbname: Some(conninfo.to_owned()), ..ConnectArgs::default() };
    Ok(Target::resolve(&args, &|name| std::env::var(name).ok())?)
}
