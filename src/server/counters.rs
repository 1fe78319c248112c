//! What the cumulative statistics have counted: to tell whether somebody has
//! written to a relation between two looks.
//!
//! A session may keep what it has counted for a while (up to a minute from 15 on,
//! and before that until its next statement), so equal counters are a strong hint
//! that nobody wrote, and no proof. A standby counts no writes.

use super::session::{ReadError, Session};
use std::collections::BTreeMap;

/// Of one relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Rows inserted, updated and deleted.
    pub rows: u64,
    /// The file's number.
    pub relfilenode: Option<u32>,
}

#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub relations: BTreeMap<u32, Counted>,
    /// When the database's statistics were reset, as the server writes it.
    pub reset: Option<String>,
}

const RELATIONS: &str = "SELECT c.oid, c.relfilenode, \
     pg_catalog.pg_stat_get_tuples_inserted(c.oid) + pg_catalog.pg_stat_get_tuples_updated(c.oid) \
     + pg_catalog.pg_stat_get_tuples_deleted(c.oid) \
     FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'm')";

const RESET: &str = "SELECT pg_catalog.pg_stat_get_db_stat_reset_time(oid) \
     FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()";

/// Everyone may ask for it.
pub async fn counters(session: &Session) -> Result<Counters, ReadError> {
    let relations = session.rows(RELATIONS).await?;
    let relations = relations.into_iter().filter_map(|row| {
        let [oid, relfilenode, rows] = <[Option<String>; 3]>::try_from(row).ok()?;
        let relfilenode = relfilenode?.parse().ok().filter(|&node| node > 0);
        Some((oid?.parse().ok()?, Counted { rows: rows?.parse().ok()?, relfilenode }))
    });
    Ok(Counters { relations: relations.collect(), reset: session.value(RESET).await? })
}
