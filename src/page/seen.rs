//! Who may see a tuple, by its hint bits and by what became of its transactions
//! (`heapam_visibility.c`), as a snapshot of the server sees that.

use super::Tuple;
use super::tuple::FROZEN;

const XMAX_EXCL_LOCK: u16 = 0x0040;
/// With what else says that xmax locks.
const XMAX_LOCKS: u16 = 0x1050;
const XMAX_LOCK_ONLY: u16 = 0x0080;
const XMIN_COMMITTED: u16 = 0x0100;
const XMIN_INVALID: u16 = 0x0200;
const XMAX_COMMITTED: u16 = 0x0400;
const XMAX_INVALID: u16 = 0x0800;
const XMAX_IS_MULTI: u16 = 0x1000;
/// By a VACUUM FULL before 9.0.
const MOVED: u16 = 0xC000;

/// `FirstNormalTransactionId`: those before it are committed.
const FIRST_NORMAL: u32 = 3;

/// What `pg_current_snapshot` says, in numbers that never come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The first that had not begun.
    pub xmax: u64,
    /// Those that were under way.
    running: Vec<u64>,
}

impl Snapshot {
    /// `xmin:xmax:xip,xip`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (_, xmax, list) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        let running = list.split(',').filter(|x| !x.is_empty()).map(|x| x.parse().ok());
        Some(Self { xmax, running: running.collect::<Option<_>>()? })
    }

    /// The one of this number that is closest. None: it was before the first.
    pub fn full(&self, xid: u32) -> Option<u64> {
        let low = self.xmax.to_le_bytes();
        let low = u32::from_le_bytes([low[0], low[1], low[2], low[3]]);
        self.xmax.checked_add_signed(i64::from(xid.wrapping_sub(low).cast_signed()))
    }

    /// Whether it had ended when the snapshot was taken.
    pub fn has_ended(&self, full: u64) -> bool {
        full < self.xmax && !self.running.contains(&full)
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Committed,
    /// It was taken back, or had not ended when the snapshot was taken.
    Not,
    /// There has been no such transaction yet.
    NeverBegun,
    /// The server does not know any more.
    Unknown,
}

/// What is to be known of a tuple's transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// A transaction, and whether a hint bit says that it was committed.
    Xid(u32, bool),
    /// The one that has deleted or updated the tuple, of a MultiXactId.
    Multi(u32),
}

/// Whether the snapshot sees a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    Visible,
    Not,
    /// As far as anybody knows.
    Perhaps,
    /// Its xmin is of no transaction.
    Insane,
}

/// By which transaction the tuple was made: none, if nobody need be asked; the
/// error: it was taken back.
fn maker(tuple: Tuple<'_>) -> Result<Option<Asked>, ()> {
    let mask = tuple.infomask();
    match mask & FROZEN {
        _ if tuple.xmin() < FIRST_NORMAL => Ok(None),
        FROZEN => Ok(None),
        XMIN_INVALID => Err(()),
        hint => Ok(Some(Asked::Xid(tuple.xmin(), hint == XMIN_COMMITTED))),
    }
}

/// By which it was deleted or replaced, if by any.
fn ender(tuple: Tuple<'_>) -> Option<Asked> {
    let (mask, xmax) = (tuple.infomask(), tuple.xmax());
    let only_locks = mask & XMAX_LOCK_ONLY != 0 || mask & XMAX_LOCKS == XMAX_EXCL_LOCK;
    if xmax == 0 || mask & XMAX_INVALID != 0 || only_locks {
        None
    } else if mask & XMAX_IS_MULTI != 0 {
        Some(Asked::Multi(xmax))
    } else {
        Some(Asked::Xid(xmax, mask & XMAX_COMMITTED != 0))
    }
}

/// What must be known to tell whether the tuple is seen.
pub fn asked(tuple: Tuple<'_>) -> impl Iterator<Item = Asked> {
    let maker = maker(tuple);
    let ender = ender(tuple).filter(|_| maker.is_ok());
    maker.ok().flatten().into_iter().chain(ender)
}

/// Whether it is seen; `fate` tells of what [`asked`] asks.
pub fn sight(tuple: Tuple<'_>, fate: impl Fn(Asked) -> Fate) -> Sight {
    let mut seen = Sight::Visible;
    match maker(tuple).map(|asked| asked.map(&fate)) {
        Err(()) | Ok(Some(Fate::Not)) => return Sight::Not,
        Ok(Some(Fate::NeverBegun)) => return Sight::Insane,
        Ok(Some(Fate::Unknown)) => seen = Sight::Perhaps,
        Ok(None | Some(Fate::Committed)) => {}
    }
    match ender(tuple).map(fate) {
        Some(Fate::Committed) => Sight::Not,
        Some(Fate::Unknown | Fate::NeverBegun) => Sight::Perhaps,
        _ if tuple.infomask() & MOVED != 0 => Sight::Perhaps,
        None | Some(Fate::Not) => seen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(xmin: u32, xmax: u32, infomask: u16, fate: impl Fn(Asked) -> Fate) -> Sight {
        let mut bytes = vec![0; 24];
        bytes[..4].copy_from_slice(&xmin.to_le_bytes());
        bytes[4..8].copy_from_slice(&xmax.to_le_bytes());
        bytes[20..22].copy_from_slice(&infomask.to_le_bytes());
        sight(Tuple::new(&bytes).unwrap(), fate)
    }

    fn nobody(asked: Asked) -> Fate {
        panic!("{asked:?}")
    }

    #[test]
    fn hint_bits_tell_without_asking() {
        assert_eq!(seen(900, 0, FROZEN, nobody), Sight::Visible);
        assert_eq!(seen(2, 0, XMAX_INVALID, nobody), Sight::Visible);
        assert_eq!(seen(900, 901, XMIN_INVALID, nobody), Sight::Not);
        assert_eq!(seen(900, 901, FROZEN | XMAX_INVALID, nobody), Sight::Visible);
        assert_eq!(seen(900, 901, FROZEN | XMAX_LOCK_ONLY, nobody), Sight::Visible);
        assert_eq!(seen(900, 901, FROZEN | XMAX_EXCL_LOCK, nobody), Sight::Visible);
    }

    #[test]
    fn what_is_dead_aborted_or_not_yet_there_is_not_seen() {
        let is = |fate| move |_| fate;
        assert_eq!(seen(900, 0, 0, is(Fate::Committed)), Sight::Visible);
        assert_eq!(seen(900, 0, XMIN_COMMITTED, is(Fate::Not)), Sight::Not);
        assert_eq!(seen(900, 0, 0, is(Fate::NeverBegun)), Sight::Insane);
        assert_eq!(seen(900, 0, 0, is(Fate::Unknown)), Sight::Perhaps);
        let deleted = |fate| seen(900, 901, FROZEN, is(fate));
        assert_eq!(deleted(Fate::Committed), Sight::Not);
        assert_eq!(deleted(Fate::Not), Sight::Visible);
        assert_eq!(deleted(Fate::Unknown), Sight::Perhaps);
        let multi = seen(900, 5, FROZEN | XMAX_IS_MULTI, |asked| {
            assert_eq!(asked, Asked::Multi(5));
            Fate::Committed
        });
        assert_eq!(multi, Sight::Not);
    }

    #[test]
    fn a_snapshot_knows_what_had_ended_also_across_the_end_of_the_numbers() {
        let low = (1_u64 << 32) + 5;
        let snapshot = Snapshot::parse(&format!("{}:{low}:{},{}", low - 9, low - 9, low - 2));
        let snapshot = snapshot.unwrap();
        assert_eq!(snapshot.full(5), Some(low));
        assert_eq!(snapshot.full(u32::MAX), Some(low - 6));
        let ended: Vec<u64> = (low - 10..low + 2).filter(|x| snapshot.has_ended(*x)).collect();
        let wanted = [low - 10, low - 8, low - 7, low - 6, low - 5, low - 4, low - 3, low - 1];
        assert_eq!(ended, wanted);
        assert_eq!(Snapshot::parse("3:7:").unwrap().full(u32::MAX), None);
        assert_eq!(Snapshot::parse("3:x:"), None);
    }
}
