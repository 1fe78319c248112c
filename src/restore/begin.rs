//! Before anything is written: whether the target can be what it is to be, and
//! what an earlier run has done.

use super::earlier::{Earlier, earlier};
use super::plan::{Plan, Table};
use super::shared::{Results, Shared};
use super::{Checking, RestoreError, RestoreOptions, create, open_folder, text};
use crate::output::manifest::{RelationKind, RunStatus};
use crate::output::restore_dir::{JOURNAL, Record, Run};
use crate::output::restored::TargetServer;
use crate::progress::Progress;
use crate::server::connect::Target;
use crate::server::restoring::TargetSession;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

/// So many names are listed in a complaint.
const NAMED_MAX: usize = 3;

pub(super) struct Begun {
    pub shared: Shared,
    pub target_server: TargetServer,
}

/// Makes the database if asked to, looks at what is in it, and opens the folder.
pub(super) async fn begin(
    target: Target,
    options: RestoreOptions,
    plan: Plan,
    progress: Arc<Progress>,
) -> Result<Begun, RestoreError> {
    let mut warnings = said_first(&plan, &options);
    if options.create && options.checking != Checking::Only {
        warnings.extend(create::database(&target, &plan, options.resume).await?);
    }
    let session = TargetSession::open(&target).await?;
    let target_server = server(&session, &target).await?;
    if session.value("SELECT pg_catalog.pg_is_in_recovery()").await?.as_deref() == Some("t") {
        return Err(RestoreError::Usage(
            "the target is a standby: nothing can be written to it".to_owned(),
        ));
    }
    let only_check = options.checking == Checking::Only;
    if options.disable_triggers && !only_check {
        may_disable_triggers(&session).await?;
    }
    let goes_on = options.resume && options.folder().join(JOURNAL).is_file();
    if !goes_on || only_check {
        look_at_relations(&session, &plan, &options).await?;
    }
    let options_of_folder =
        RestoreOptions { resume: options.resume || only_check, ..options.clone() };
    let (dir, records) = open_folder(&options_of_folder)?;
    let earlier = earlier(records, &session).await?;
    // It was ended before it had begun.
    if goes_on && earlier.runs.is_empty() {
        look_at_relations(&session, &plan, &options).await?;
    }
    let run = this_run(&session, &target, &plan, &options).await?;
    let (started, resumed) = earlier.times(run.started);
    if !only_check {
        earlier.check(&run, &options)?;
        dir.append(&Record::Run(run), true)?;
    }
    let results = Mutex::new(Results::of(Earlier { runs: Vec::new(), steps: earlier.steps }));
    progress.blocks.store(plan.rows(options.include), Relaxed);
    progress.relations.store(plan.tables.len() as u64, Relaxed);
    let tablespaces = tablespaces(&session).await?;
    let shared =
        Shared { target, options, plan, dir, progress, started, resumed, tablespaces, results };
    warnings.into_iter().for_each(|w| shared.warn(w));
    Ok(Begun { shared, target_server })
}

/// Else each table would be refused for it.
async fn may_disable_triggers(session: &TargetSession) -> Result<(), RestoreError> {
    let set = format!("BEGIN; {}; ROLLBACK", super::load::NO_TRIGGERS);
    match session.execute(&set).await {
        Err(refusal) if !refusal.is_lost() => {
            let why = &refusal.words.message;
            Err(RestoreError::Usage(format!("--disable-triggers: {why}")))
        }
        other => Ok(other?),
    }
}

async fn tablespaces(session: &TargetSession) -> Result<BTreeSet<String>, RestoreError> {
    let usable = "SELECT spcname FROM pg_catalog.pg_tablespace \
        WHERE pg_catalog.has_tablespace_privilege(oid, 'CREATE')";
    let rows = session.rows(usable).await?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

async fn server(session: &TargetSession, target: &Target) -> Result<TargetServer, RestoreError> {
    let encoding = session.value("SHOW server_encoding").await?.unwrap_or_default();
    let database = target.dbname().to_owned();
    Ok(TargetServer { version_num: session.version(), database, encoding })
}

async fn this_run(
    session: &TargetSession,
    target: &Target,
    plan: &Plan,
    options: &RestoreOptions,
) -> Result<Run, RestoreError> {
    let oid =
        "SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()";
    let oid = session.value(oid).await?.and_then(|oid| oid.parse().ok()).unwrap_or(0);
    let system = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
    let system_identifier = match session.value(system).await {
        Err(refusal) if refusal.is_lost() => return Err(refusal.into()),
        other => other.ok().flatten(),
    };
    Ok(Run {
        started: jiff::Timestamp::now(),
        dump: (plan.manifest.started, plan.manifest.relations.len()),
        database: target.dbname().to_owned(),
        database_oid: oid,
        system_identifier,
        asked: options.asked.clone(),
    })
}

/// What is known before anything is done.
fn said_first(plan: &Plan, options: &RestoreOptions) -> Vec<String> {
    let mut warnings = Vec::new();
    if plan.manifest.status == RunStatus::Incomplete {
        warnings.push(
            "the dump is incomplete: what it has is restored (pg_salvage dump --resume goes on \
             with it)"
                .to_owned(),
        );
    }
    let wants_schema = options.sections.pre_data || options.sections.post_data;
    if wants_schema && plan.archive.is_none() {
        warnings.push(format!(
            "the dump has no schema (there is no \"{}\"): rows are loaded into the tables that are \
             there",
            super::plan::TOC
        ));
    }
    let lost = plan.manifest.schema.iter().flat_map(|schema| &schema.lost);
    let lost: Vec<String> = lost.map(|l| format!("{} \"{}\"", l.kind, l.name)).collect();
    if wants_schema && plan.archive.is_some() && !lost.is_empty() {
        warnings.push(format!(
            "the dump's schema is not whole: {} objects could not be described: {}{}",
            lost.len(),
            lost[..lost.len().min(NAMED_MAX)].join(", "),
            if lost.len() > NAMED_MAX { ", and more: manifest.json" } else { "" }
        ));
    }
    let named = |is_one: &dyn Fn(&Table) -> bool| -> Option<String> {
        let tables = plan.tables.iter().chain(&plan.large_objects).filter(|t| is_one(t));
        let names = tables.map(|t| format!("\"{}.{}\"", t.relation.schema, t.relation.name));
        Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
    };
    if let Some(tables) = named(&|t| options.include.suspect && t.relation.rows.suspect > 0) {
        warnings.push(format!("SUSPECT ROWS are loaded, for which nobody vouches, into {tables}"));
    }
    if let Some(tables) = named(&|t| options.sections.data && t.with_oids) {
        warnings.push(format!(
            "rows are loaded without the OIDs that they had, which are in the files alone: {tables}"
        ));
    }
    if !options.sections.pre_data && !options.disable_triggers && options.checking != Checking::Only
    {
        tracing::info!(
            "triggers of the target fire for each row (--disable-triggers: they do not)"
        );
    }
    warnings
}

/// Which relations of the dump are in the target, by schema and name.
async fn there(session: &TargetSession, plan: &Plan) -> Result<Vec<String>, RestoreError> {
    let sql = "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind IN ('r', 'p', 'm', 'v', 'S', 'f')";
    let mut found = BTreeSet::new();
    for row in session.rows(sql).await? {
        if let [Some(schema), Some(name)] = row.as_slice() {
            found.insert((schema.clone(), name.clone()));
        }
    }
    let is_there = |r: &&crate::output::manifest::Relation| {
        !matches!(r.kind, RelationKind::LargeObjects | RelationKind::LargeObjectMetadata)
            && plan.is_chosen(r)
            && found.contains(&(r.schema.clone(), r.name.clone()))
    };
    let relations = plan.manifest.relations.iter().filter(is_there);
    Ok(relations.map(|r| format!("\"{}.{}\"", r.schema, r.name)).collect())
}

/// Tables are made where there are none, or filled where they are: anything else
/// is a mistake.
async fn look_at_relations(
    session: &TargetSession,
    plan: &Plan,
    options: &RestoreOptions,
) -> Result<(), RestoreError> {
    let there = there(session, plan).await?;
    let database = session.value("SELECT pg_catalog.current_database()").await?.unwrap_or_default();
    let makes =
        options.sections.pre_data && plan.archive.is_some() && options.checking != Checking::Only;
    if makes && !there.is_empty() {
        let more = there.len().saturating_sub(NAMED_MAX);
        let mut named = there[..there.len().min(NAMED_MAX)].join(", ");
        if more > 0 {
            named.push_str(&format!(" and {more} more"));
        }
        return Err(RestoreError::Usage(format!(
            "database \"{database}\" has {named} already: restore into an empty one (--create \
             makes it), or give --data-only to load rows into the tables that are there"
        )));
    }
    if !makes && there.is_empty() && !plan.tables.is_empty() {
        return Err(RestoreError::Usage(format!(
            "database \"{database}\" has no table of the dump: is it the right one?"
        )));
    }
    Ok(())
}

/// What would be done. Nothing is written, here or there.
pub(super) async fn dry_run(
    target: &Target,
    options: &RestoreOptions,
    plan: &Plan,
) -> Result<String, RestoreError> {
    let mut rows_there = BTreeMap::new();
    if !options.create {
        let session = TargetSession::open(target).await?;
        session.execute("BEGIN READ ONLY").await?;
        look_at_relations(&session, plan, options).await?;
        if !options.sections.pre_data || plan.archive.is_none() {
            for table in &plan.tables {
                let sql = format!("SELECT EXISTS (SELECT FROM ONLY {})", table.qualified);
                session.save().await?;
                match session.value(&sql).await {
                    Ok(has_rows) => {
                        session.keep();
                        rows_there
                            .insert(table.relation.oid, Some(has_rows.as_deref() == Some("t")));
                    }
                    Err(refusal) if refusal.is_lost() => return Err(refusal.into()),
                    Err(_) => {
                        session.undo().await?;
                        rows_there.insert(table.relation.oid, None);
                    }
                }
            }
        }
        session.rollback().await?;
    }
    let warnings = said_first(plan, options);
    Ok(text::dry_run(target.dbname(), options, plan, &rows_there, &warnings))
}
