//! Ten tables, of which three take the server down, read by four at a time.
//!
//! The killers are the largest, so they are begun first, in the company of each
//! other and of healthy ones. Each crash is blamed on one killer at least (the
//! session that hung up first), so three crashes are enough to know all three,
//! and the healthy ones are read to their end with no more than that.

use super::{DB, NEVER, PROGRAM, oracle_name, stopped};
use crate::kit::dumped::{Dumped, dump};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Version};
use crate::kit::{harm, oracle, sample};
use pg_salvage::output::manifest::{Relation, RelationStatus, RowClass};
use std::collections::BTreeMap;

const KILLERS: [&str; 3] = ["killer1", "killer2", "killer3"];
const WELL: [&str; 7] = ["well1", "well2", "well3", "well4", "well5", "well6", "well7"];
const WELL_ROWS: usize = 200_000;
/// So many copies of each row of a killer are added, on pages that are almost
/// empty, so that it is larger than a healthy table.
const KILLER_COPIES: u32 = 6;

/// The rows of each table, and the guilty tuple of each killer.
struct Ten {
    server: Server,
    well: Vec<oracle::Row>,
    killers: BTreeMap<&'static str, (Vec<oracle::Row>, Place)>,
}

async fn ten(version: &Version) -> Ten {
    let server = Server::start(version, ServerOptions::checksums(false));
    sample::victims(&server, DB, &KILLERS).await;
    for name in KILLERS {
        let sql = format!(
            "ALTER TABLE {name} DROP CONSTRAINT {name}_pkey; ALTER TABLE {name} SET (fillfactor = 10);
             INSERT INTO {name} SELECT id, n, at, note, squeezed, NULL
             FROM {name}, generate_series(1, {KILLER_COPIES})"
        );
        server.execute(DB, &sql).await;
    }
    for name in WELL {
        let sql = match name {
            "well1" => format!("SELECT i, md5(i::text) t FROM generate_series(1, {WELL_ROWS}) i"),
            _ => "TABLE well1".to_owned(),
        };
        server.execute(DB, &format!("CREATE TABLE {name} AS {sql}")).await;
    }
    server.execute(DB, "CHECKPOINT").await;
    let client = oracle::session(&server, DB).await;
    let (mut places, mut killers) = (Vec::new(), BTreeMap::new());
    let columns = sample::VICTIM_COLUMNS.map(str::to_owned);
    for (i, name) in KILLERS.into_iter().enumerate() {
        let name_in_sql = oracle_name(name);
        let of = Places::of(&client, &name_in_sql).await;
        // In the beginning, in the middle, and towards the end.
        let block = [5, of.blocks / 2, of.blocks - 10][i];
        places.push((of, Place { block, offset: 2 }));
        let rows = oracle::rows(&client, &name_in_sql, &columns).await;
        killers.insert(name, (rows, places[i].1));
    }
    let columns = ["i".to_owned(), "t".to_owned()];
    let well_blocks = Places::of(&client, "public.well1").await.blocks;
    assert!(places.iter().all(|(of, _)| of.blocks > well_blocks), "killers are read first");
    let well = oracle::rows(&client, "public.well1", &columns).await;
    assert_eq!(well.len(), WELL_ROWS);
    drop(client);
    stopped(&server);
    for (of, at) in &places {
        harm(&server, of, Harm::VarlenaLength, *at, ChecksumAfter::Stale);
    }
    server.start_again();
    Ten { server, well, killers }
}

/// A dump, and how often the server went down under it.
fn dump_of(ten: &Ten, limit: &str) -> (Dumped, usize) {
    let before = ten.server.crashes();
    let options = ["-j4", "-Z", "lz4", "--max-crashes", limit, NEVER];
    let dumped = dump(PROGRAM, &ten.server, DB, &options);
    ten.server.wait_ready();
    (dumped, ten.server.crashes() - before)
}

async fn assert_well(ten: &Ten, dumped: &Dumped, at: &str) {
    for name in WELL {
        let entry = dumped.relation(name);
        assert_eq!(entry.status, RelationStatus::Clean, "{at}: {name}: {:?}", entry.reason);
        assert!(
            dumped.lines(entry, RowClass::Clean).await.iter().eq(lines(&ten.well)),
            "{at}: {name}"
        );
    }
}

fn lines(rows: &[oracle::Row]) -> impl Iterator<Item = &Vec<u8>> {
    rows.iter().map(|r| &r.line)
}

fn causes(entry: &Relation) -> Vec<&str> {
    entry.lost.iter().map(|l| l.cause.as_str()).collect()
}

/// Everything but the guilty tuple, each row once.
async fn assert_all_but_one(ten: &Ten, dumped: &Dumped, at: &str) {
    for (name, (rows, guilty)) in &ten.killers {
        let entry = dumped.relation(name);
        assert_eq!(causes(entry), ["server_crash"], "{at}: {name}");
        let ctid = format!("({},{})", guilty.block, guilty.offset);
        assert_eq!(entry.lost[0].ctid.as_ref(), Some(&ctid), "{at}: {name}");
        let (suspect, clean): (Vec<_>, Vec<_>) = rows
            .iter()
            .filter(|r| (r.block, r.offset) != (guilty.block, guilty.offset))
            .partition(|r| r.block == guilty.block);
        let read = dumped.lines(entry, RowClass::Clean).await;
        assert!(read.iter().eq(clean.iter().map(|r| &r.line)), "{at}: {name}, clean");
        let read = dumped.lines(entry, RowClass::Suspect).await;
        assert!(read.iter().eq(suspect.iter().map(|r| &r.line)), "{at}: {name}, suspect");
    }
}

/// Everything up to the fence, which is near the guilty tuple; what is behind
/// is named, to the last block.
async fn assert_up_to_the_fence(ten: &Ten, dumped: &Dumped, at: &str) {
    for (name, (rows, guilty)) in &ten.killers {
        let entry = dumped.relation(name);
        assert_eq!(entry.status, RelationStatus::Failed, "{at}: {name}");
        assert_eq!(causes(entry), ["not_tried"], "{at}: {name}");
        let blocks = u32::try_from(entry.blocks.total).unwrap();
        let fence = entry.lost[0].first_block.unwrap();
        assert_eq!(entry.lost[0].last_block, Some(blocks - 1), "{at}: {name}");
        assert_eq!(rows.last().map(|r| r.block + 1), Some(blocks), "{at}: {name}");
        assert!(fence <= guilty.block, "{at}: {name} {fence}");
        // The server's send buffer, of two rows, is lost.
        assert!(fence + 3 > guilty.block, "{at}: {name}: {fence}, but {}", guilty.block);
        let before: Vec<_> = rows.iter().filter(|r| r.block < fence).collect();
        let read = dumped.lines(entry, RowClass::Clean).await;
        assert!(read.iter().eq(before.iter().map(|r| &r.line)), "{at}: {name}");
        assert_eq!(entry.rows.suspect, 0, "{at}: {name}");
        let map = std::fs::read_to_string(dumped.dir.path().join(entry.map.as_ref().unwrap()));
        let fenced = format!("({fence},0) ({blocks},0) !\n");
        assert!(map.unwrap().ends_with(&fenced), "{at}: {name}");
    }
}

/// No crash can be foreseen: after the first one nothing is read any more. What
/// was done is kept, and all else is named.
async fn assert_stopped(ten: &Ten, dumped: &Dumped, at: &str) {
    for name in WELL {
        let entry = dumped.relation(name);
        let read = dumped.lines(entry, RowClass::Clean).await;
        let whole = entry.status == RelationStatus::Clean;
        assert!(read.iter().eq(lines(&ten.well).take(read.len())), "{at}: {name}");
        assert_eq!(whole, read.len() == WELL_ROWS, "{at}: {name}");
        assert!(whole || entry.reason.is_some(), "{at}: {name}");
    }
    for name in KILLERS {
        let entry = dumped.relation(name);
        assert_eq!(entry.status, RelationStatus::Failed, "{at}: {name}");
        assert!(entry.reason.is_some(), "{at}: {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_ten_tables_that_crash_the_server_cost_the_others_nothing() {
    for version in Version::one_or_two() {
        let ten = ten(&version).await;
        for (limit, code) in [("20", 2), ("3", 3), ("0", 3)] {
            let at = format!("--max-crashes {limit} on {}", version.major);
            let (dumped, crashes) = dump_of(&ten, limit);
            assert_eq!(dumped.manifest.exit_code, code, "{at}: {}", dumped.said);
            assert_eq!(dumped.leftovers(), Vec::<String>::new(), "{at}");
            match limit {
                "0" => {
                    assert_eq!(crashes, 1, "{at}: {}", dumped.said);
                    assert_stopped(&ten, &dumped, &at).await;
                }
                "3" => {
                    assert!((1..=3).contains(&crashes), "{at}: {crashes}: {}", dumped.said);
                    assert_well(&ten, &dumped, &at).await;
                    assert_up_to_the_fence(&ten, &dumped, &at).await;
                }
                _ => {
                    assert!((3..=20).contains(&crashes), "{at}: {crashes}: {}", dumped.said);
                    assert_well(&ten, &dumped, &at).await;
                    assert_all_but_one(&ten, &dumped, &at).await;
                }
            }
        }
    }
}
