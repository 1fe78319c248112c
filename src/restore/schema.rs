//! The schema, by the entries of `toc.dat`: each as `pg_restore` would restore
//! it, but that one which is refused ends nothing else.
//!
//! Statements are the dump's own. What is added is what `pg_restore` adds: the
//! tablespace and the access method to make a table with, and the owner.

use super::shared::{CommitError, Shared};
use super::{RestoreError, tables};
use crate::archive::{Entry, Pass, Section};
use crate::output::restore_dir::Step;
use crate::output::restored::NotMade;
use crate::server::fault;
use crate::server::restoring::{Meaning, Refusal, TargetSession};
use crate::server::sql::{ident, literal};
use bstr::ByteSlice;
use std::sync::Arc;

/// So many entries are made in one transaction: each may hold locks to its end,
/// and a server has some thousands of them. And each table takes longer to make
/// than the one before it in the same transaction: the hundredth four times as long.
pub(super) const ENTRIES_PER_TRANSACTION: usize = 32;

/// These say something of the session, or are dealt with apart.
const APART: &[&str] = &[
    "ENCODING",
    "STDSTRINGS",
    "SEARCHPATH",
    "TABLE DATA",
    "SEQUENCE SET",
    "BLOBS",
    "BLOB",
    "BLOB METADATA",
    "BLOB COMMENTS",
];

/// When an entry is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    PreData,
    PostData,
    Rights,
    Last,
    Never,
}

/// The entries of one step, in order.
pub(super) fn entries(shared: &Shared, when: When) -> Vec<Entry> {
    let mut section = Section::PreData;
    let mut taken = Vec::new();
    for entry in shared.plan.entries() {
        // What has no section goes with what stands before it.
        if entry.section != Section::None {
            section = entry.section;
        }
        let is_refresh = entry.desc == "MATERIALIZED VIEW DATA";
        let asked = shared.options.sections;
        let is_wanted = if is_refresh { asked.data } else { asked.has(section) };
        if is_wanted && when_of(entry, section) == when && is_allowed(shared, entry) {
            taken.push(entry.clone());
        }
    }
    taken
}

fn when_of(entry: &Entry, section: Section) -> When {
    let is_apart = APART.iter().any(|desc| entry.desc == *desc);
    match (entry.pass(), section) {
        _ if is_apart || entry.is_of_database() => When::Never,
        (Pass::Last, _) => When::Last,
        (Pass::Rights, _) => When::Rights,
        (_, Section::PostData) => When::PostData,
        // Comments on large objects.
        (_, Section::Data) => When::Rights,
        _ => When::PreData,
    }
}

fn is_allowed(shared: &Shared, entry: &Entry) -> bool {
    entry.pass() != Pass::Rights || shared.options.privileges
}

pub(super) async fn pre_data(shared: &Arc<Shared>) -> Result<(), RestoreError> {
    let mut todo = entries(shared, When::PreData);
    todo.retain(|e| !shared.results().entries.contains(&e.dump_id));
    let mut in_order: Vec<Entry> = Vec::new();
    for run in todo.chunk_by(|a, b| tables::is_one(a) == tables::is_one(b)) {
        if tables::is_one(&run[0]) && run.len() >= tables::RUN_MIN {
            in_groups(shared, std::mem::take(&mut in_order)).await?;
            tables::try_all(shared, run).await?;
        }
        // Of what was made just now nothing is left then.
        in_order.extend_from_slice(run);
    }
    in_groups(shared, in_order).await
}

/// Rights, then what comes after everything.
pub(super) async fn last(shared: &Shared) -> Result<(), RestoreError> {
    in_groups(shared, entries(shared, When::Rights)).await?;
    in_groups(shared, entries(shared, When::Last)).await
}

/// Makes entries one after the other, some in each transaction.
async fn in_groups(shared: &Shared, mut entries: Vec<Entry>) -> Result<(), RestoreError> {
    entries.retain(|e| !shared.results().entries.contains(&e.dump_id));
    if entries.is_empty() || shared.progress.stopped() {
        return Ok(());
    }
    let mut session = shared.session_again().await?;
    for group in entries.chunks(ENTRIES_PER_TRANSACTION) {
        if shared.progress.stopped() {
            return Ok(());
        }
        match make_group(shared, &session, group).await {
            Ok(()) => {}
            // The target went away: once more, with a new session.
            Err(CommitError::Refused(refusal)) if refusal.is_lost() => {
                tracing::warn!("{refusal}");
                session = shared.session_again().await?;
                make_group(shared, &session, group).await.map_err(fatal)?;
            }
            Err(error) => return Err(fatal(error)),
        }
    }
    Ok(())
}

pub(super) fn fatal(error: CommitError) -> RestoreError {
    match error {
        CommitError::Refused(refusal) => refusal.into(),
        CommitError::Fatal(error) => error,
    }
}

async fn make_group(
    shared: &Shared,
    session: &TargetSession,
    group: &[Entry],
) -> Result<(), CommitError> {
    let xid = session.begin().await?;
    let (mut made, mut not_made) = (Vec::new(), Vec::new());
    for entry in group {
        // One behind the other, without waiting for the savepoint.
        let (saved, done) = tokio::join!(session.save(), make(shared, session, entry));
        saved?;
        match done {
            Ok(owner) => {
                session.keep();
                made.push(entry.dump_id);
                not_made.extend(owner);
            }
            // It may be better later, and a run that goes on tries again.
            Err(refusal) if is_for_now(&refusal) => return Err(refusal.into()),
            Err(refusal) => {
                session.undo().await?;
                if is_made_already(shared, entry, &refusal) {
                    made.push(entry.dump_id);
                } else {
                    not_made.push(refused(entry, &refusal));
                }
            }
        }
    }
    let step = Step::entries(made, not_made);
    shared.commit(session, xid, step, None).await
}

/// Whether a refusal is no word about what was to be made.
pub(super) fn is_for_now(refusal: &Refusal) -> bool {
    matches!(refusal.meaning(""), Meaning::SessionLost | Meaning::Environment)
}

/// Every database has a schema "public"; and an earlier run whose journal was
/// not durable may have made more.
pub(super) fn is_made_already(shared: &Shared, entry: &Entry, refusal: &Refusal) -> bool {
    let is_public = entry.desc == "SCHEMA" && entry.tag == "public";
    (is_public || !shared.resumed.is_empty()) && fault::is_there_already(&refusal.words.sqlstate)
}

/// What could not be made, for the report.
pub(super) fn report(entry: &Entry, refusal: &Refusal) -> NotMade {
    NotMade {
        dump_id: entry.dump_id,
        desc: entry.desc.to_string(),
        schema: entry.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
        tag: entry.tag.to_string(),
        sqlstate: refusal.words.sqlstate.clone(),
        message: refusal.words.message.clone(),
        keys: refusal.words.detail.iter().cloned().collect(),
        rows: None,
    }
}

/// An owner that could not be set. Where one is refused all are, as a rule: it is
/// logged once.
pub(super) fn owner_refused(shared: &Shared, entry: &Entry, refusal: &Refusal) -> NotMade {
    let not_set = report(entry, refusal).owner_of();
    let is_new = shared.results().owners_refused.insert(not_set.message.clone());
    if is_new {
        tracing::warn!("the owner of \"{}\" could not be set: {refusal}", entry.tag);
    }
    not_set
}

/// The same, and it is logged.
pub(super) fn refused(entry: &Entry, refusal: &Refusal) -> NotMade {
    tracing::warn!(
        "{} \"{}\" could not be made: {}",
        entry.desc.to_str_lossy().to_lowercase(),
        entry.tag,
        refusal.words.one_line()
    );
    report(entry, refusal)
}

/// Sends what makes one entry, in the transaction that there is. Returns why it
/// has not its owner, where it could not be given one.
pub(super) async fn make(
    shared: &Shared,
    session: &TargetSession,
    entry: &Entry,
) -> Result<Option<NotMade>, Refusal> {
    let mut before = String::new();
    if let Some(tablespace) = entry.tablespace.as_ref().map(ToString::to_string) {
        let is_there = tablespace.is_empty() || shared.tablespaces.contains(&tablespace);
        if !is_there {
            let tag = &entry.tag;
            shared.warn(format!(
                "there is no tablespace \"{tablespace}\" that may be used: \"{tag}\" is made in the \
                 default one"
            ));
        }
        let name = if is_there { tablespace.as_str() } else { "" };
        before.push_str(&format!("SET LOCAL default_tablespace TO {}; ", literal(name)));
    }
    if let Some(method) = entry.table_am.as_ref().filter(|m| !m.is_empty())
        && session.version() >= 120_000
    {
        let method = literal(&method.to_string());
        before.push_str(&format!("SET LOCAL default_table_access_method TO {method}; "));
    }
    let encoding = shared.plan.schema_encoding();
    let owner = owner(entry).filter(|_| shared.options.owners);
    // One behind the other, without waiting: in the order in which they are here.
    let (set, made, owned) = tokio::join!(
        session.execute_if_any(&before),
        session.execute_bytes(entry.definition(), encoding),
        set_owner(session, owner.as_deref(), encoding)
    );
    set.and(made)?;
    match owned {
        Ok(()) => Ok(None),
        Err(refusal) if refusal.is_lost() => Err(refusal),
        Err(refusal) => {
            session.execute("ROLLBACK TO SAVEPOINT owner").await?;
            Ok(Some(owner_refused(shared, entry, &refusal)))
        }
    }
}

/// Behind a savepoint, since what is made stays without its owner, too.
async fn set_owner(
    session: &TargetSession,
    sql: Option<&[u8]>,
    encoding: &str,
) -> Result<(), Refusal> {
    let Some(sql) = sql else { return Ok(()) };
    let (saved, owned, released) = tokio::join!(
        session.execute("SAVEPOINT owner"),
        session.execute_bytes(sql, encoding),
        // Else all that follows would be nested in it.
        session.execute("RELEASE SAVEPOINT owner")
    );
    saved.and(owned).and(released)
}

/// `ALTER ... OWNER TO`, by the statement that would drop it.
fn owner(entry: &Entry) -> Option<Vec<u8>> {
    let owner = entry.owner.as_ref().filter(|o| !o.is_empty())?;
    if !entry.is_owned() {
        return None;
    }
    let drop = entry.drop_stmt.as_ref()?.trim();
    let what = drop.strip_prefix(b"DROP ")?.strip_suffix(b";")?;
    let what = what.strip_prefix(b"IF EXISTS ").unwrap_or(what);
    let owner = owner.to_str().map(ident).ok()?;
    Some([b"ALTER ", what, b" OWNER TO ", owner.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_set_of_what_can_have_one() {
        let mut entry = Entry::new(7, "TABLE", "t", Section::PreData);
        assert_eq!(owner(&entry), None);
        entry.owner = Some("it's \"me\"".into());
        assert_eq!(owner(&entry), None);
        entry.drop_stmt = Some("DROP TABLE public.\"T\";\n".into());
        let sql = owner(&entry).unwrap();
        assert_eq!(sql.as_bstr(), "ALTER TABLE public.\"T\" OWNER TO \"it's \"\"me\"\"\"");
        entry.desc = "INDEX".into();
        assert_eq!(owner(&entry), None);
    }
}
