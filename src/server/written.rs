//! How much a server has written: its place in the WAL, and the next
//! transaction id. What changes between two looks may be ours (reading sets hint
//! bits, and cleans up pages) or anybody's.

use super::session::{ReadError, Session};

/// Everyone may ask for it. On a standby, how far it has replayed; it may be
/// promoted between two looks.
const POSITION: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
     THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// As the server writes it; empty if it was not to be had.
    pub position: String,
    /// The next transaction id, with its epoch.
    next_xid: Option<u64>,
}

impl Written {
    /// Looks, in a session whose snapshot is of now. `sees`: what that can see.
    pub async fn so_far(session: &Session, sees: &str) -> Result<Self, ReadError> {
        let position = session.wish(POSITION).await?.unwrap_or_default();
        let next_xid = sees.split(':').nth(1).and_then(|xid| xid.parse().ok());
        Ok(Self { position, next_xid })
    }

    /// Bytes of WAL since an earlier look, and transaction ids.
    pub fn since(&self, earlier: &Self) -> Option<(u64, Option<u64>)> {
        let bytes = bytes(&self.position)?.checked_sub(bytes(&earlier.position)?)?;
        let xids =
            self.next_xid.zip(earlier.next_xid).and_then(|(now, then)| now.checked_sub(then));
        Some((bytes, xids))
    }
}

/// A `pg_lsn`: two halves in hexadecimal.
fn bytes(position: &str) -> Option<u64> {
    let (high, low) = position.split_once('/')?;
    let half = |text| u32::from_str_radix(text, 16).ok().map(u64::from);
    Some(half(high)? << 32 | half(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_has_no_difference() {
        let look = |position: &str, next_xid| Written { position: position.into(), next_xid };
        for (before, after, difference) in [
            (look("0/FFFFFFF8", Some(7)), look("1/8", Some(9)), Some((16, Some(2)))),
            (look("0/10", Some(7)), look("0/10", None), Some((0, None))),
            (look("", Some(7)), look("0/10", Some(7)), None),
            // Another server, or one that was put back.
            (look("1/0", Some(7)), look("0/10", Some(7)), None),
            (look("0/8", Some(7)), look("0/100000000", Some(7)), None),
        ] {
            assert_eq!(after.since(&before), difference, "{before:?} {after:?}");
        }
    }
}
