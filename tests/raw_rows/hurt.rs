//! A table of rows with a past, some of whose pages are harmed in several ways.

use super::{DB, Dumped};
use crate::kit::harm::FORGOTTEN_XID;
use crate::kit::oracle::{self, Row};
use crate::kit::page_edit::{LinePointer, Page, XMIN_HINTS};
use crate::kit::places::{read_page, write_page};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version, harm};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use std::collections::{BTreeMap, BTreeSet};

const CREATE: &str = "CREATE TABLE moved (id int PRIMARY KEY, gone int, note text, big text)
        WITH (fillfactor = 80);
    ALTER TABLE moved ALTER big SET STORAGE EXTERNAL;
    INSERT INTO moved SELECT i, i, 'note ' || i || md5(i::text), CASE WHEN i % 10 = 0
        THEN (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 150) j) END
        FROM generate_series(1, 3000) i;
    ALTER TABLE moved DROP gone, ADD late numeric DEFAULT 1.50";

/// Updated in place and to other pages, deleted, taken back, locked, by a
/// MultiXactId.
const PAST: [&str; 8] = [
    "UPDATE moved SET note = 'new ' || note WHERE id % 5 = 0",
    "UPDATE moved SET note = note || repeat('longer ', 40) WHERE id % 9 = 0",
    "DELETE FROM moved WHERE id % 11 = 0",
    "BEGIN; UPDATE moved SET note = 'never' WHERE id % 6 = 0; DELETE FROM moved WHERE id % 13 = 0;
     INSERT INTO moved SELECT i, 'aborted' FROM generate_series(10001, 10300) i; ROLLBACK",
    "BEGIN; SELECT count(*) FROM (SELECT FROM moved WHERE id % 7 = 0 FOR UPDATE) x; COMMIT",
    "BEGIN; SELECT count(*) FROM (SELECT FROM moved WHERE id % 17 = 0 FOR KEY SHARE) x;
     SAVEPOINT s; UPDATE moved SET note = 'by a multi ' || id WHERE id % 17 = 0; COMMIT",
    "INSERT INTO moved SELECT i, 'late ' || i, NULL, i FROM generate_series(3001, 3300) i",
    "BEGIN; INSERT INTO moved SELECT i, 'not yet' FROM generate_series(20001, 20300) i;
     DELETE FROM moved WHERE id % 19 = 0; UPDATE moved SET note = 'not yet' WHERE id % 23 = 0;
     PREPARE TRANSACTION 'p'",
];

/// What is done to the table.
pub(super) struct Hurt {
    pub(super) server: Server,
    pub(super) rows: Vec<Row>,
    /// Blocks whose headers make no sense.
    headers: Vec<u32>,
    /// Blocks of which one tuple was changed.
    changed: Vec<(u32, u16)>,
}

pub(super) fn id(line: &[u8]) -> i32 {
    let field = line.split(|&b| b == b'\t').next().expect("a field");
    std::str::from_utf8(field).expect("a number").parse().expect("a number")
}

/// How often each is there.
pub(super) fn ids(lines: &[Vec<u8>]) -> BTreeMap<i32, usize> {
    let mut ids = BTreeMap::new();
    lines.iter().for_each(|line| *ids.entry(id(line)).or_insert(0) += 1);
    ids
}

impl Hurt {
    /// `toast_index`: the index of TOAST is damaged, too.
    pub(super) async fn new(version: &Version, toast_index: bool) -> Self {
        let options = ServerOptions::checksums(true).set("autovacuum", "off");
        let options = options.set("max_prepared_transactions", "5");
        let server = Server::start(version, options);
        server.create_database(DB).await;
        server.execute(DB, CREATE).await;
        for sql in PAST {
            server.execute(DB, sql).await;
        }
        server.execute(DB, "CHECKPOINT").await;
        assert_eq!(server.stop(), Stop::Clean);
        // Whoever reads them sets hint bits: so rows are read in a copy.
        let copy = server.copy();
        copy.start_again();
        let client = oracle::session(&copy, DB).await;
        let columns = oracle::columns(&client, "public.moved").await;
        let rows = oracle::rows(&client, "public.moved", &columns).await;
        let places = Places::of(&client, "public.moved").await;
        drop(client);
        let last = places.blocks - 2;
        let mut hurt = Self { server, rows, headers: vec![1, 2, 12, last], changed: Vec::new() };
        for &block in &hurt.headers {
            let at = Place { block, offset: 1 };
            harm(&hurt.server, &places, Harm::BadPageHeader, at, ChecksumAfter::Stale);
        }
        if toast_index {
            let path = places.toast_index.as_ref().expect("it has TOAST");
            let mut page = read_page(&hurt.server, path, 1);
            page.put(12, &[0xF0, 0x1F, 0x20, 0x00, 0xAD, 0xDE]);
            write_page(&hurt.server, path, &page);
        }
        // A byte of a value, a header, an xmin of long ago, one that is to come, a line
        // pointer that leads into another tuple, and one that is gone.
        let ways: [fn(&mut Page, u16); 6] = [
            |page, offset| page.flip(page.tuple(offset).data + 12, 0x02),
            |page, offset| page.flip(page.tuple(offset).hoff(), 0x40),
            |page, offset| xmin(page, offset, FORGOTTEN_XID),
            |page, offset| xmin(page, offset, 0x4000_0000),
            |page, offset| {
                let mut pointer = page.line_pointer(offset);
                pointer.offset += 48;
                page.put_line_pointer(offset, pointer);
            },
            |page, offset| {
                let unused = LinePointer { offset: 0, flags: 0, length: 0 };
                page.put_line_pointer(offset, unused);
            },
        ];
        for (block, way) in (4..).step_by(3).map(|b| if b >= 12 { b + 1 } else { b }).zip(ways) {
            let of_block = hurt.rows.iter().filter(|r| r.block == block);
            let offset = of_block.map(|r| r.offset).nth(5).expect("some rows");
            let mut page = read_page(&hurt.server, &places.main, block);
            way(&mut page, offset);
            write_page(&hurt.server, &places.main, &page);
            hurt.changed.push((block, offset));
        }
        hurt.server.start_again();
        hurt
    }

    pub(super) fn bad_blocks(&self) -> BTreeSet<u32> {
        let changed = self.changed.iter().map(|(block, _)| *block);
        changed.chain(self.headers.iter().copied()).collect()
    }

    fn is_changed(&self, row: &Row) -> bool {
        self.changed.contains(&(row.block, row.offset))
    }

    /// A dump has every row that was not touched, once, and none that was dead.
    pub(super) async fn check(&self, dumped: &Dumped, at: &str) {
        dumped.check_files(at);
        let bad = self.bad_blocks();
        let entry = dumped.relation("moved");
        assert_eq!(entry.status, RelationStatus::Salvaged, "{at}");
        let of = |in_bad: bool| -> Vec<Vec<u8>> {
            let rows = self.rows.iter().filter(|r| bad.contains(&r.block) == in_bad);
            rows.filter(|r| !self.is_changed(r)).map(|r| r.line.clone()).collect()
        };
        let clean = dumped.lines(entry, RowClass::Clean).await;
        assert!(clean == of(false), "{at}: {} clean", clean.len());
        let changed: BTreeSet<i32> =
            self.rows.iter().filter(|r| self.is_changed(r)).map(|r| id(&r.line)).collect();
        assert_eq!(changed.len(), 6);
        let suspect = dumped.lines(entry, RowClass::Suspect).await;
        let partial = ids(&dumped.lines(entry, RowClass::Partial).await);
        let untouched: Vec<Vec<u8>> =
            suspect.iter().filter(|l| !changed.contains(&id(l))).cloned().collect();
        let wanted = of(true);
        for (found, wanted) in untouched.iter().zip(&wanted) {
            let [found, wanted] = [found, wanted].map(|l| String::from_utf8_lossy(l));
            assert_eq!(found, wanted, "{at}");
        }
        assert_eq!(untouched.len(), wanted.len(), "{at}: {entry:#?}");
        let mut all = ids(&[clean, suspect].concat());
        partial.iter().for_each(|(id, count)| *all.entry(*id).or_insert(0) += count);
        assert!(all.values().all(|count| *count == 1), "{at}: {all:?}");
        let truth: BTreeSet<i32> = self.rows.iter().map(|r| id(&r.line)).collect();
        let had: BTreeSet<i32> = all.keys().copied().collect();
        let missing: Vec<_> = truth.difference(&had).copied().collect();
        assert!(had.is_subset(&truth), "{at}");
        assert!(missing.iter().all(|id| changed.contains(id)), "{at}: {missing:?}");
        // A header, an xmin to come, two line pointers; of an xmin of long ago nobody
        // knows any more what became of it.
        assert_eq!(missing.len(), 4, "{at}: {missing:?} of {changed:?}: {entry:#?}");
        self.check_keys(dumped, &missing, &had, at);
    }

    /// Every row that is missing is named, and none that is in a file.
    fn check_keys(&self, dumped: &Dumped, missing: &[i32], had: &BTreeSet<i32>, at: &str) {
        let keys = dumped.relation("moved").lost_keys.as_ref().expect("lost places");
        let csv = keys.path.as_ref().expect("a list");
        let csv = std::fs::read_to_string(dumped.dir.path().join(csv)).expect("a list");
        let of_line = |l: &str| l.split(',').nth(3).map(|id| id.trim_matches('"').parse::<i32>());
        let named: BTreeSet<i32> = csv.lines().skip(1).filter_map(|l| of_line(l)?.ok()).collect();
        for id in missing {
            assert!(named.contains(id), "{at}: {id} is not in {csv}");
        }
        let wrong: Vec<_> = named.intersection(had).collect();
        assert!(wrong.is_empty(), "{at}: {wrong:?} of {csv}");
    }
}

/// Writes another xmin, and takes its hint bits away.
fn xmin(page: &mut Page, offset: u16, xid: u32) {
    let tuple = page.tuple(offset);
    page.put(tuple.xmin(), &xid.to_le_bytes());
    page.change_infomask(tuple, XMIN_HINTS, 0);
}
