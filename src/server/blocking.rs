//! Who has the lock that a relation could not be read for.

use super::session::Session;
use super::sql::ident;

/// Who holds, or waits before us for, the one lock that keeps readers out, of
/// the relation, its TOAST table or an index of either.
fn who(oid: u32) -> String {
    // In a transaction, who is there is remembered; so that is forgotten first.
    format!(
        "SELECT pg_catalog.pg_stat_clear_snapshot(); \
         WITH heap AS (SELECT {oid}::pg_catalog.oid AS oid UNION ALL \
         SELECT reltoastrelid FROM pg_catalog.pg_class WHERE oid = {oid}), \
         locked AS (SELECT oid FROM heap UNION ALL \
         SELECT indexrelid FROM pg_catalog.pg_index WHERE indrelid IN (SELECT oid FROM heap)) \
         SELECT l.pid, l.granted, l.mode, \
         CASE WHEN l.relation <> {oid} THEN l.relation::pg_catalog.regclass END, \
         coalesce(a.usename, p.owner), a.application_name, a.state, \
         pg_catalog.to_char(coalesce(a.state_change, p.prepared) AT TIME ZONE 'UTC', \
         'YYYY-MM-DD HH24:MI:SS \"UTC\"'), \
         p.gid, pg_catalog.array_to_string(pg_catalog.pg_blocking_pids(l.pid), ', ') \
         FROM pg_catalog.pg_locks l \
         LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
         LEFT JOIN pg_catalog.pg_prepared_xacts p ON l.pid IS NULL AND p.transaction = \
         (SELECT x.transactionid FROM pg_catalog.pg_locks x WHERE x.pid IS NULL \
         AND x.locktype = 'transactionid' AND x.virtualtransaction = l.virtualtransaction) \
         WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' \
         AND l.database = (SELECT oid FROM pg_catalog.pg_database \
         WHERE datname = pg_catalog.current_database()) \
         AND l.relation IN (SELECT oid FROM locked) \
         AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() \
         ORDER BY l.granted DESC, a.state_change LIMIT 1"
    )
}

/// Why the relation could not be locked, in one line. None: nobody is in the way
/// (any more), or it is not to be known. Leaves the relation.
pub async fn why_locked(session: &Session, oid: u32, name: &str) -> Option<String> {
    let found = session.rows(&who(oid)).await;
    if let Err(e) = &found {
        tracing::debug!("who holds the lock is not known: {e}");
    }
    session.leave_relation().await.ok()?;
    // The first statement has a row of its own.
    let row = found.ok()?.into_iter().find(|row| row.len() > 1)?;
    Some(format!("could not lock relation \"{name}\": {}", told(&row)))
}

/// `process 4711 (role "a", application "psql", idle in transaction since ...)
/// holds AccessExclusiveLock`.
fn told(row: &[Option<String>]) -> String {
    let field = |i: usize| row.get(i).and_then(Option::as_deref).filter(|f| !f.is_empty());
    let holder = match (field(0), field(8)) {
        (Some(pid), _) => format!("process {pid}"),
        (None, Some(gid)) => format!("prepared transaction '{}'", gid.replace('\'', "''")),
        (None, None) => "a prepared transaction".to_owned(),
    };
    let since = field(7).map(|at| format!("since {at}"));
    let state = [field(6).map(str::to_owned), since].into_iter().flatten().collect::<Vec<_>>();
    let facts = [
        field(4).map(|role| format!("role {}", ident(role))),
        field(5).map(|application| format!("application {}", ident(application))),
        Some(state.join(" ")).filter(|s| !s.is_empty()),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
    let verb = if field(1) == Some("t") { "holds" } else { "waits for" };
    let mode = field(2).unwrap_or("a lock");
    let on = field(3).map(|other| format!(" on {other}")).unwrap_or_default();
    let behind = match (field(1), field(9)) {
        (Some("f"), Some(pids)) => format!(", behind process {pids}"),
        _ => String::new(),
    };
    let ends = match field(0) {
        None => "; COMMIT PREPARED or ROLLBACK PREPARED ends it",
        Some(_) => "",
    };
    format!("{holder}{facts} {verb} {mode}{on}{behind}{ends}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: [&str; 10]) -> Vec<Option<String>> {
        fields.map(|f| Some(f.to_owned()).filter(|f| !f.is_empty())).to_vec()
    }

    #[test]
    fn who_is_in_the_way_is_told_in_one_line() {
        let holder = ["7", "t", "AccessExclusiveLock", "", "a\"b", "psql", "idle", "now", "", ""];
        assert_eq!(
            told(&row(holder)),
            "process 7 (role \"a\"\"b\", application \"psql\", idle since now) holds AccessExclusiveLock"
        );
        let waiter = ["7", "f", "AccessExclusiveLock", "t_idx", "", "", "", "", "", "8, 9"];
        assert_eq!(
            told(&row(waiter)),
            "process 7 waits for AccessExclusiveLock on t_idx, behind process 8, 9"
        );
        let prepared = ["", "t", "AccessExclusiveLock", "", "r", "", "", "then", "o'x", ""];
        assert_eq!(
            told(&row(prepared)),
            "prepared transaction 'o''x' (role \"r\", since then) holds AccessExclusiveLock; \
             COMMIT PREPARED or ROLLBACK PREPARED ends it"
        );
        assert_eq!(
            told(&[]),
            "a prepared transaction waits for a lock; COMMIT PREPARED or ROLLBACK PREPARED ends it"
        );
    }
}
