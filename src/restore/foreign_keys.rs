//! Foreign keys that do not hold, since rows they refer to are lost: they are
//! there all the same, for every row that is written from now on, and what does
//! not hold is listed.

use super::post::{made, not_made};
use super::schema::report;
use super::shared::{CommitError, Shared};
use crate::archive::Entry;
use crate::output::restore_dir::Step;
use crate::server::restoring::{Refusal, TargetSession};
use crate::server::sql::ident;

/// So many keys are listed; all are counted.
const KEYS_MAX: usize = 20;

/// The foreign key that was made last: its tables, and columns on both sides.
const LAST_MADE: &str = "SELECT k.conrelid::pg_catalog.regclass, k.confrelid::pg_catalog.regclass, \
    (SELECT pg_catalog.string_agg(a.attname, E'\\t' ORDER BY c.n) FROM \
     pg_catalog.unnest(k.conkey) WITH ORDINALITY c (attnum, n) JOIN pg_catalog.pg_attribute a \
     ON a.attrelid = k.conrelid AND a.attnum = c.attnum), \
    (SELECT pg_catalog.string_agg(a.attname, E'\\t' ORDER BY c.n) FROM \
     pg_catalog.unnest(k.confkey) WITH ORDINALITY c (attnum, n) JOIN pg_catalog.pg_attribute a \
     ON a.attrelid = k.confrelid AND a.attnum = c.attnum) \
    FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND NOT k.convalidated \
    AND k.conparentid = 0 ORDER BY k.oid DESC LIMIT 1";

pub(super) async fn make_not_valid(
    shared: &Shared,
    session: &TargetSession,
    entry: &Entry,
    refusal: Refusal,
) -> Result<Step, CommitError> {
    let mut not_valid = entry.clone();
    let definition = String::from_utf8_lossy(entry.definition()).into_owned();
    let statement = definition.trim().trim_end_matches(';');
    not_valid.defn = Some(format!("{statement} NOT VALID").into());
    session.save().await?;
    match super::schema::make(shared, session, &not_valid).await {
        Ok(_) => session.keep(),
        Err(again) if again.is_lost() => return Err(again.into()),
        Err(_) => {
            session.undo().await?;
            return Ok(not_made(entry, &refusal));
        }
    }
    let mut said = report(entry, &refusal);
    tracing::warn!("foreign key \"{}\" is NOT VALID: {}", entry.tag, refusal.words.one_line());
    session.save().await?;
    match orphans(session).await {
        Ok((keys, rows)) => {
            session.keep();
            said.keys = keys;
            said.rows = Some(rows);
        }
        Err(again) if again.is_lost() => return Err(again.into()),
        // The one that the server named stays.
        Err(_) => session.undo().await?,
    }
    match made(entry, None) {
        Step::Entries { made, not_made, moved, .. } => {
            Ok(Step::Entries { made, not_made, not_valid: vec![said], moved })
        }
        other => Ok(other),
    }
}

/// Keys that refer to no row, the first of them, and how many rows have such.
async fn orphans(session: &TargetSession) -> Result<(Vec<String>, u64), Refusal> {
    let rows = session.rows(LAST_MADE).await?;
    let [Some(from), Some(to), Some(columns), Some(others)] =
        rows.first().map(Vec::as_slice).unwrap_or_default()
    else {
        return Err(Refusal::ours("the foreign key is not known"));
    };
    let columns: Vec<String> = columns.split('\t').map(ident).collect();
    let others: Vec<String> = others.split('\t').map(ident).collect();
    let pairs: Vec<String> =
        columns.iter().zip(&others).map(|(c, o)| format!("p.{o} = c.{c}")).collect();
    let given: Vec<String> = columns.iter().map(|c| format!("c.{c} IS NOT NULL")).collect();
    let list: Vec<String> = columns.iter().map(|c| format!("c.{c}")).collect();
    let list = list.join(", ");
    let orphans = format!(
        "SELECT pg_catalog.concat_ws(', ', {list}) AS key, pg_catalog.count(*) AS n FROM {from} c \
         WHERE {} AND NOT EXISTS (SELECT FROM {to} p WHERE {}) GROUP BY {list} ORDER BY {list}",
        given.join(" AND "),
        pairs.join(" AND ")
    );
    let sum = format!("SELECT COALESCE(pg_catalog.sum(n), 0) FROM ({orphans}) o");
    let rows = session.value(&sum).await?.and_then(|n| n.parse().ok()).unwrap_or(0);
    let first = format!("SELECT key FROM ({orphans}) o LIMIT {KEYS_MAX}");
    let keys = session.rows(&first).await?.into_iter().flatten().flatten().collect();
    Ok((keys, rows))
}
