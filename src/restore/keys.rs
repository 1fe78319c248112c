//! Rows that have one key, where only one may have it: a damaged row can bring an
//! old version of itself back to life.
//!
//! The unique index is tried first, since it seldom fails, and looking for
//! duplicates costs as much as making it. Where it fails, all rows of a key but
//! the first in heap order are taken out of the target, into the rejects. What
//! was loaded first is first, so a clean row is kept before a suspect one. What
//! the key is, the server says, of the same index on an empty table.

use super::load::take_up;
use super::plan::Table;
use super::post::{made, not_made};
use super::shared::{CommitError, Problem, Shared};
use super::{RestoreError, load, schema};
use crate::archive::Entry;
use crate::output::manifest::RelationKind;
use crate::output::restore_dir::{Moved, Step};
use crate::output::{OutputError, Rejected, Rejects};
use crate::server::copy_text::{fields, rows_in};
use crate::server::restoring::sql::{self, Key};
use crate::server::restoring::{Refusal, TargetSession};

const REASON: &str = "duplicate key: the row that is first in the table was kept";

/// An empty table of the same shape.
const TWIN: &str = "pg_temp.pg_salvage_twin";

/// Takes duplicates out, and makes the entry.
pub(super) async fn make_unique(
    shared: &Shared,
    session: &TargetSession,
    entry: &Entry,
    refusal: Refusal,
) -> Result<Step, CommitError> {
    let Some((table, on_twin)) = dissect(shared, entry) else {
        return Ok(not_made(entry, &refusal));
    };
    session.save().await?;
    let moved = match move_away(shared, session, &table, &on_twin, &refusal).await {
        Ok(moved) => moved,
        Err(Problem::Refused(again)) if again.is_lost() => return Err(again.into()),
        // With the first refusal, which has a key in it.
        Err(Problem::Refused(again)) => {
            tracing::warn!("could not look for duplicates: {again}");
            session.undo().await?;
            take_up(shared, &table).map_err(of_stop)?;
            return Ok(not_made(entry, &refusal));
        }
        Err(Problem::Output(error)) => return Err(error.into()),
    };
    match schema::make(shared, session, entry).await {
        Ok(owner) => {
            session.keep();
            tracing::warn!(
                "{} rows of {} had the key of another: they are in the rejects",
                moved.rows,
                table.qualified
            );
            match made(entry, owner) {
                Step::Entries { made, not_made, not_valid, .. } => {
                    Ok(Step::Entries { made, not_made, not_valid, moved: Some(moved) })
                }
                other => Ok(other),
            }
        }
        Err(again) if again.is_lost() => Err(again.into()),
        // They stay where they were; their lines in the rejects do not count.
        Err(again) => {
            session.undo().await?;
            take_up(shared, &table).map_err(of_stop)?;
            Ok(not_made(entry, &again))
        }
    }
}

fn of_stop(stop: load::Stop) -> CommitError {
    match stop {
        load::Stop::Fatal(error) => error.into(),
        load::Stop::Refused(refusal, _) | load::Stop::Lost(refusal) => refusal.into(),
        load::Stop::Interrupted => RestoreError::Usage("stopped".to_owned()).into(),
    }
}

async fn move_away(
    shared: &Shared,
    session: &TargetSession,
    table: &Table,
    on_twin: &str,
    refusal: &Refusal,
) -> Result<Moved, Problem> {
    let key = key(session, table, on_twin).await?;
    session.execute(&sql::find_duplicates(&table.qualified, &key)).await?;
    let (len, count) = shared.rejects_of(table.relation.oid);
    let mut rejects = Rejects::take_up(shared.dir.path(), &table.stem, len, count)?;
    let before = rejects.count();
    let copy = sql::copy_duplicates(&table.qualified, &table.columns, shared.plan.encoding());
    let mut failed = None;
    session
        .copy_out(&copy, |rows| {
            for line in rows_in(rows) {
                if failed.is_none() {
                    failed = record(&mut rejects, line, table.columns.is_empty(), refusal).err();
                }
            }
        })
        .await?;
    if let Some(error) = failed {
        return Err(Problem::Output(error));
    }
    session.execute(&sql::delete_duplicates(&table.qualified)).await?;
    let rejects_len = rejects.sync()?;
    Ok(Moved {
        oid: table.relation.oid,
        rows: rejects.count() - before,
        file: rejects.file().unwrap_or_default(),
        rejects_len,
        rejects: rejects.count(),
    })
}

/// A line has the place, the place of the row that is kept, the key, and the row.
fn record(
    rejects: &mut Rejects,
    line: &[u8],
    no_columns: bool,
    refusal: &Refusal,
) -> Result<(), OutputError> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let tags: Vec<Option<String>> =
        fields(line).take(3).map(|f| f.map(|text| text.to_string())).collect();
    let row = match no_columns {
        true => &[][..],
        false => line.splitn(4, |b| *b == b'\t').nth(3).unwrap_or_default(),
    };
    let tag = |n: usize| tags.get(n).cloned().flatten();
    rejects.record(&Rejected {
        class: "duplicate",
        ctid: tag(0),
        kept: tag(1),
        key: tag(2),
        sqlstate: refusal.words.sqlstate.clone(),
        constraint: refusal.constraint.clone(),
        reason: REASON.to_owned(),
        row,
        ..Rejected::default()
    })
}

/// The key of an index, as the server understands it.
async fn key(session: &TargetSession, table: &Table, on_twin: &str) -> Result<Key, Refusal> {
    let generated = if session.version() >= 120_000 { " INCLUDING GENERATED" } else { "" };
    let create = format!(
        "DROP TABLE IF EXISTS {TWIN}; CREATE TEMPORARY TABLE pg_salvage_twin (LIKE {}{generated})",
        table.qualified
    );
    session.execute(&create).await?;
    session.execute(on_twin).await?;
    let nulls = match session.version() {
        150_000.. => "i.indnullsnotdistinct",
        _ => "false",
    };
    let sql = format!(
        "SELECT i.indnkeyatts, {nulls}, pg_catalog.pg_get_expr(i.indpred, i.indrelid), i.indexrelid \
         FROM pg_catalog.pg_index i WHERE i.indrelid = '{TWIN}'::pg_catalog.regclass AND i.indisunique"
    );
    let rows = session.rows(&sql).await?;
    let [Some(count), Some(nulls), condition, Some(index)] =
        rows.first().map(Vec::as_slice).unwrap_or_default()
    else {
        return Err(Refusal::ours("the key of the index is not known"));
    };
    let columns = format!(
        "SELECT pg_catalog.pg_get_indexdef({index}, n, false) \
         FROM pg_catalog.generate_series(1, {count}) n ORDER BY n"
    );
    let columns = session.rows(&columns).await?.into_iter().flatten().flatten().collect();
    session.execute(&format!("DROP TABLE {TWIN}")).await?;
    Ok(Key { columns, condition: condition.clone(), nulls_are_equal: nulls == "t" })
}

/// Which table an entry makes unique, and the statement that makes an empty twin
/// of the table so.
fn dissect(shared: &Shared, entry: &Entry) -> Option<(Table, String)> {
    let statement = std::str::from_utf8(entry.definition()).ok()?.trim();
    let statement = statement.split(";\n").next()?.trim_end_matches(';');
    let (schema, name, on_twin) = on_twin(statement)?;
    let is_it = |t: &&Table| t.relation.schema == schema && t.relation.name == name;
    let table = shared.plan.tables.iter().find(is_it)?;
    (table.relation.kind == RelationKind::Table).then(|| (table.clone(), on_twin))
}

/// Schema and name of the table that a statement of `pg_dump` makes unique, and
/// the statement with the twin in its place.
fn on_twin(statement: &str) -> Option<(String, String, String)> {
    const INDEX: &str = "CREATE UNIQUE INDEX ";
    const TABLE: &str = "ALTER TABLE ";
    if let Some(rest) = statement.strip_prefix(INDEX) {
        let (_, rest) = identifier(rest)?;
        let rest = rest.strip_prefix(" ON ")?;
        let (schema, name, rest) = qualified(rest.strip_prefix("ONLY ").unwrap_or(rest))?;
        return Some((schema, name, format!("{INDEX}pg_salvage_key ON {TWIN}{rest}")));
    }
    let rest = statement.strip_prefix(TABLE)?;
    let (schema, name, rest) = qualified(rest.strip_prefix("ONLY ").unwrap_or(rest))?;
    Some((schema, name, format!("{TABLE}{TWIN}{rest}")))
}

fn qualified(text: &str) -> Option<(String, String, &str)> {
    let (schema, rest) = identifier(text)?;
    let (name, rest) = identifier(rest.strip_prefix('.')?)?;
    Some((schema, name, rest))
}

/// The identifier that a text begins with, and the rest.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'));
        let (name, rest) = text.split_at(end.unwrap_or(text.len()));
        return (!name.is_empty()).then(|| (name.to_owned(), rest));
    };
    let mut name = String::new();
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_a_key_is_found_however_it_is_called() {
        let cases = [
            (
                "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (id)",
                (
                    "public",
                    "t",
                    "ALTER TABLE pg_temp.pg_salvage_twin\n    ADD CONSTRAINT t_pkey PRIMARY KEY (id)",
                ),
            ),
            (
                "CREATE UNIQUE INDEX \"i \"\"x\" ON \"s.x\".\"t ON u\" USING btree (lower(a)) WHERE (b > 0)",
                (
                    "s.x",
                    "t ON u",
                    "CREATE UNIQUE INDEX pg_salvage_key ON pg_temp.pg_salvage_twin USING btree (lower(a)) WHERE (b > 0)",
                ),
            ),
        ];
        for (statement, (schema, name, twin)) in cases {
            let (s, n, t) = on_twin(statement).unwrap();
            assert_eq!((s.as_str(), n.as_str(), t.as_str()), (schema, name, twin));
        }
        assert_eq!(on_twin("CREATE INDEX i ON s.t USING btree (a)"), None);
        assert_eq!(on_twin("ALTER TABLE t ADD"), None);
    }
}
