//! The database itself, for `--create`: made as empty as can be, with the
//! encoding and, where this server has it, the locale of the one that was dumped.

use super::RestoreError;
use super::plan::Plan;
use crate::server::connect::Target;
use crate::server::restoring::{Refusal, TargetSession};
use crate::server::session::OpenError;
use crate::server::sql::{ident, literal};

/// Databases that are there as a rule, to connect to meanwhile.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// Makes the database. Returns what is to be said of it.
pub(super) async fn database(
    target: &Target,
    plan: &Plan,
    resume: bool,
) -> Result<Option<String>, RestoreError> {
    let session = maintenance(target).await?;
    let name = target.dbname();
    let sql = format!("SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}", literal(name));
    if session.value(&sql).await?.is_some() {
        return match resume {
            true => Ok(None),
            false => Err(RestoreError::Usage(format!(
                "database \"{name}\" exists already: give another name, or leave out --create"
            ))),
        };
    }
    let encoding = literal(plan.encoding());
    let plain = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING {encoding}", ident(name));
    let mut first: Option<Refusal> = None;
    let as_it_was = as_it_was(plan).map(|rest| format!("CREATE DATABASE {} {rest}", ident(name)));
    let without_locale = format!("{plain} LC_COLLATE 'C' LC_CTYPE 'C'");
    let had_locale = as_it_was.is_some();
    for (n, sql) in as_it_was.into_iter().chain([plain, without_locale]).enumerate() {
        match session.execute(&sql).await {
            Ok(()) if n > 0 && had_locale => {
                let why = first.map(|f| f.to_string()).unwrap_or_default();
                return Ok(Some(format!(
                    "database \"{name}\" has not the locale of the one that was dumped: {why}"
                )));
            }
            Ok(()) => return Ok(None),
            Err(refusal) if refusal.is_lost() => return Err(refusal.into()),
            Err(refusal) => {
                first.get_or_insert(refusal);
            }
        }
    }
    let why = first.map(|f| f.to_string()).unwrap_or_default();
    Err(RestoreError::Usage(format!("could not create database \"{name}\": {why}")))
}

async fn maintenance(target: &Target) -> Result<TargetSession, OpenError> {
    let [first, second] = MAINTENANCE;
    match TargetSession::open(&target.with_dbname(first)).await {
        Err(e) if !e.is_transient() => {
            TargetSession::open(&target.with_dbname(second)).await.map_err(|_| e)
        }
        opened => opened,
    }
}

/// What pg_dump says of the database, after its name. Its tablespace may not be
/// there, so it is left out with what follows.
fn as_it_was(plan: &Plan) -> Option<String> {
    let archive = plan.archive.as_ref()?;
    let entry = archive.entries.iter().find(|e| e.desc == "DATABASE")?;
    let text = std::str::from_utf8(entry.definition()).ok()?;
    let at = text.find(" WITH TEMPLATE = template0")?;
    let rest = text[at..].trim().trim_end_matches(';');
    Some(rest.split(" TABLESPACE = ").next()?.to_owned())
}
