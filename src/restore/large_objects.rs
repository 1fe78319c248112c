//! Large objects: made under their own OIDs, and filled page by page with the
//! functions that any role may call.
//!
//! One that the target has already is not touched. Of a page that is missing the
//! target makes zeros, as it does when one is read.

use super::load::{Loader, Stop, Way, commit, stop, take_up};
use super::plan::{Table, is_included, untouched_file};
use super::shared::Shared;
use super::workers::{is_done, not_loaded};
use super::{RestoreError, schema};
use crate::archive::Entry;
use crate::output::manifest::{FileEntry, RelationKind, RowClass};
use crate::output::restore_dir::Step;
use crate::output::restored::{NotMade, RelationStatus};
use crate::server::restoring::{Meaning, TargetSession, sql};
use crate::server::sql::ident;
use bstr::ByteSlice;

/// `LOBLKSIZE` is a fourth of a block.
const PAGES_PER_BLOCK: u32 = 4;

/// How much is in a page, by the size of a server's blocks.
pub(super) fn page_bytes(block_size: u32) -> u32 {
    block_size / PAGES_PER_BLOCK
}

const IS_THERE: &str = "the target has a large object of this number, or this page of it, already";

/// What takes pages and metadata in, and which objects are ours.
const TABLES: &str = "CREATE TEMPORARY TABLE pg_salvage_new \
    (loid oid NOT NULL, pageno int4 NOT NULL, data bytea NOT NULL) ON COMMIT DROP; \
    CREATE TEMPORARY TABLE pg_salvage_objects (loid oid PRIMARY KEY) ON COMMIT DROP";

/// Makes the objects that are not there, and remembers them. Whoever made one is
/// its owner.
const MAKE: &str = "INSERT INTO pg_temp.pg_salvage_objects \
    SELECT pg_catalog.lo_create(n.loid) FROM (SELECT DISTINCT loid FROM pg_temp.pg_salvage_new) n \
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata m WHERE m.oid = n.loid)";

/// Puts pages of objects that are ours into place: a row for each.
fn put(page_bytes: u32) -> String {
    format!(
        "SELECT pg_catalog.lo_put(n.loid, n.pageno::bigint * {page_bytes}, n.data) \
         FROM pg_temp.pg_salvage_new n JOIN pg_temp.pg_salvage_objects o ON o.loid = n.loid"
    )
}

/// Which pages have come: a suspect one may be an old version of another, which
/// it must not overwrite. Two in one batch are refused by the index.
const TRACK: &str = "CREATE UNIQUE INDEX ON pg_temp.pg_salvage_new (loid, pageno); \
    CREATE TEMPORARY TABLE pg_salvage_pages \
    (loid oid, pageno int4, PRIMARY KEY (loid, pageno)) ON COMMIT DROP";
const PASS_OVER: &str = "DELETE FROM pg_temp.pg_salvage_new n USING pg_temp.pg_salvage_pages p \
    WHERE p.loid = n.loid AND p.pageno = n.pageno";
const HAVE_COME: &str =
    "INSERT INTO pg_temp.pg_salvage_pages SELECT loid, pageno FROM pg_temp.pg_salvage_new";

/// A row for each that is of an object that is ours.
const COUNT: &str = "SELECT FROM pg_temp.pg_salvage_new n \
    JOIN pg_temp.pg_salvage_objects o ON o.loid = n.loid";

pub(super) async fn load(shared: &Shared) -> Result<(), RestoreError> {
    let Some(table) = &shared.plan.large_objects else { return Ok(()) };
    if !is_done(shared, table) {
        let session = shared.session_again().await?;
        match all(shared, &session, table).await {
            Ok(()) | Err(Stop::Interrupted) => {}
            Err(Stop::Fatal(error)) => return Err(error),
            Err(Stop::Refused(refusal, meaning)) => {
                not_loaded(shared, table, &refusal, meaning)?;
            }
            Err(Stop::Lost(refusal)) => {
                not_loaded(shared, table, &refusal, Meaning::SessionLost)?;
            }
        }
    }
    if shared.options.owners && !shared.progress.stopped() {
        owners(shared).await?;
    }
    Ok(())
}

async fn all(shared: &Shared, session: &TargetSession, table: &Table) -> Result<(), Stop> {
    let xid = session.begin().await.map_err(stop)?;
    match step(shared, session, table).await {
        Ok(step) => commit(shared, session, xid, step, None).await,
        Err(Stop::Lost(refusal)) => Err(Stop::Lost(refusal)),
        Err(stop) => {
            session.abandon().await;
            Err(stop)
        }
    }
}

/// The objects by their metadata, since some have no pages, and then the pages.
async fn step(shared: &Shared, session: &TargetSession, table: &Table) -> Result<Step, Stop> {
    session.execute(TABLES).await.map_err(stop)?;
    let (encoding, include) = (shared.plan.encoding(), shared.options.include);
    let metadata = shared.plan.manifest.relations.iter();
    let metadata = metadata.filter(|r| r.kind == RelationKind::LargeObjectMetadata);
    let mut files = Vec::new();
    let mut loader = Loader {
        shared,
        session,
        table,
        way: Way::Through(Vec::new()),
        copy: String::new(),
        named: sql::NEW_NAME.to_owned(),
        left_out_is_refused: (!shared.options.skip_conflicts).then_some(IS_THERE),
        rejects: take_up(shared, table)?,
    };
    for relation in metadata {
        let columns: Vec<String> = relation.columns.iter().map(|c| c.name.clone()).collect();
        // The owner and the rights of each are text here: they come by the schema.
        let create = format!(
            "CREATE TEMPORARY TABLE pg_salvage_metadata ({}) ON COMMIT DROP",
            columns.iter().map(|c| format!("{} text", ident(c))).collect::<Vec<_>>().join(", ")
        );
        session.execute(&create).await.map_err(stop)?;
        let take = "INSERT INTO pg_temp.pg_salvage_new \
            SELECT oid::oid, 0, '' FROM pg_temp.pg_salvage_metadata";
        let clear = "TRUNCATE pg_temp.pg_salvage_metadata";
        loader.copy = sql::copy_in("pg_temp.pg_salvage_metadata", &columns, encoding);
        loader.named = "pg_salvage_metadata".to_owned();
        let statements = [take, clear, MAKE, COUNT];
        loader.way = Way::Through(statements.map(str::to_owned).to_vec());
        for file in relation.files.iter().filter(|f| is_included(f.class, include)) {
            files.push(loader.file(file).await?);
        }
    }
    loader.copy = sql::copy_in(sql::NEW, &table.columns, encoding);
    loader.named = sql::NEW_NAME.to_owned();
    let page_bytes = shared.plan.page_bytes();
    let mut statements = vec![MAKE.to_owned(), put(page_bytes)];
    let is_doubtful = |f: &FileEntry| f.class != RowClass::Clean && f.rows > 0;
    if table.included(include).any(is_doubtful) {
        session.execute(TRACK).await.map_err(stop)?;
        statements.splice(0..0, [PASS_OVER, HAVE_COME].map(str::to_owned));
    }
    loader.way = Way::Through(statements);
    for file in table.included(include) {
        files.push(loader.file(file).await?);
    }
    let others = table.relation.files.iter().filter(|f| !is_included(f.class, include));
    files.extend(others.map(untouched_file));
    loader.finish(files)
}

/// Who owns them, by the schema, if it says so.
async fn owners(shared: &Shared) -> Result<(), RestoreError> {
    let is_object = |e: &&Entry| e.desc == "BLOB" || e.desc == "BLOB METADATA";
    let entries: Vec<&Entry> = shared.plan.entries().filter(is_object).collect();
    let is_loaded = shared.plan.large_objects.as_ref().is_some_and(|t| {
        let results = shared.results();
        let loaded = results.relations.get(&t.relation.oid);
        loaded.is_some_and(|l| l.relation.status != RelationStatus::NotLoaded)
    });
    if entries.is_empty() || !is_loaded {
        return Ok(());
    }
    let session = shared.session_again().await?;
    for entry in entries {
        if shared.results().entries.contains(&entry.dump_id) {
            continue;
        }
        let mut not_made: Option<NotMade> = None;
        for sql in owner_of(entry) {
            if let Err(refusal) = session.execute(&sql).await {
                if refusal.is_lost() {
                    return Err(refusal.into());
                }
                not_made.get_or_insert_with(|| schema::owner_refused(shared, entry, &refusal));
            }
        }
        let made = if not_made.is_none() { vec![entry.dump_id] } else { Vec::new() };
        let not_made = not_made.into_iter().collect();
        shared.done(Step::entries(made, not_made))?;
    }
    Ok(())
}

/// One object by its name, or a group by the list that the entry has.
fn owner_of(entry: &Entry) -> Vec<String> {
    let Some(owner) = entry.owner.as_ref().filter(|o| !o.is_empty()).and_then(|o| o.to_str().ok())
    else {
        return Vec::new();
    };
    let numbers: Vec<u32> = match entry.desc == "BLOB" {
        true => entry.tag.to_str().ok().and_then(|t| t.parse().ok()).into_iter().collect(),
        false => {
            let lines = entry.definition().lines();
            lines.filter_map(|l| l.trim().to_str().ok()?.parse().ok()).collect()
        }
    };
    let sql = |n: u32| format!("ALTER LARGE OBJECT {n} OWNER TO {}", ident(owner));
    numbers.into_iter().map(sql).collect()
}
