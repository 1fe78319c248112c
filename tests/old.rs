//! PostgreSQL before 14, which has no scans of ctid ranges: large tables are
//! read by lists of TIDs, and these are bounded.
//!
//! What every version is tested for is tested on these in `whole.rs`, `damage.rs`
//! and `crash.rs`.

use crate::kit::dumped::{Dumped, check_same, dump};
use crate::kit::page_edit::XMIN_HINTS;
use crate::kit::version::is_wide;
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version};
use crate::kit::{harm, oracle, places};
use pg_salvage::heap::{BlockRange, Read};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use pg_salvage::server::sql::Readable;
use std::collections::BTreeSet;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

/// Rows of the large table: some 70 MB.
const ROWS: u32 = 200_000;

/// Blocks that one read lists, at most.
const BLOCKS_PER_READ: u32 = 64;

/// What is to be wrong with the table: pages that cannot be read, tuples of
/// forgotten transactions (which make every scan of their page fail), and tuples
/// that take the server down.
#[derive(Default)]
struct Harms {
    pages: BTreeSet<u32>,
    tuples: BTreeSet<(u32, u16)>,
    killers: BTreeSet<(u32, u16)>,
}

/// The harmed table, and its rows before.
struct Large {
    server: Server,
    rows: Vec<oracle::Row>,
    blocks: u32,
    harms: Harms,
}

async fn large(version: &Version, harms: Harms) -> Large {
    let server = Server::start(version, ServerOptions::checksums(true));
    let sql = format!(
        "CREATE TABLE large AS SELECT i, repeat(md5(i::text), 10) t FROM generate_series(1, {ROWS}) i"
    );
    server.execute(DB, &sql).await;
    let client = oracle::session(&server, DB).await;
    let columns = ["i".to_owned(), "t".to_owned()];
    let rows = oracle::rows(&client, "public.large", &columns).await;
    let of = Places::of(&client, "public.large").await;
    drop(client);
    assert_eq!(server.stop(), Stop::Clean);
    assert!(of.blocks > 8 * 1024, "{} blocks are no 64 MB", of.blocks);
    for &block in &harms.pages {
        harm(&server, &of, Harm::BadPageHeader, Place { block, offset: 1 }, ChecksumAfter::Stale);
    }
    for &(block, offset) in harms.tuples.union(&harms.killers) {
        let mut page = places::read_page(&server, &of.main, block);
        let tuple = page.tuple(offset);
        if harms.killers.contains(&(block, offset)) {
            // The second column is said to have half a gigabyte.
            page.put(tuple.data + 4, &0x8000_0000_u32.to_le_bytes());
        } else {
            page.put(tuple.xmin(), &harm::FORGOTTEN_XID.to_le_bytes());
            page.change_infomask(tuple, XMIN_HINTS, 0);
        }
        page.recompute_checksum();
        places::write_page(&server, &of.main, &page);
    }
    server.start_again();
    Large { server, rows, blocks: of.blocks, harms }
}

impl Large {
    /// Every row is where it must be, once and in order.
    async fn check(&self, dumped: &Dumped) {
        let at = format!("{}", self.server.version.major);
        let entry = dumped.relation("large");
        assert_eq!(entry.status, RelationStatus::Salvaged, "{at}");
        let Harms { pages, tuples, killers } = &self.harms;
        let bad: BTreeSet<_> = tuples.union(killers).collect();
        let beside = |block| bad.iter().any(|(b, _)| *b == block);
        let is_had =
            |r: &&oracle::Row| !pages.contains(&r.block) && !bad.contains(&(r.block, r.offset));
        let (suspect, clean): (Vec<_>, Vec<_>) =
            self.rows.iter().filter(is_had).partition(|r| beside(r.block));
        let read = dumped.lines(entry, RowClass::Clean).await;
        assert!(read.iter().eq(clean.iter().map(|r| &r.line)), "{at}: {} clean", read.len());
        let read = dumped.lines(entry, RowClass::Suspect).await;
        assert!(read.iter().eq(suspect.iter().map(|r| &r.line)), "{at}: {} suspect", read.len());
        assert_eq!(entry.blocks.lost, pages.len() as u64, "{at}");
        let lost: BTreeSet<_> = entry.lost.iter().filter_map(|l| l.ctid.as_deref()).collect();
        let bad: Vec<_> = bad.iter().map(|(b, o)| format!("({b},{o})")).collect();
        assert_eq!(lost, bad.iter().map(String::as_str).collect(), "{at}");
    }
}

/// The newest of them or the oldest; both, where all is to be tried.
fn newest_or_oldest(usual: u32) -> Vec<Version> {
    let mut versions = [Version::between(13, 13), Version::between(10, 10)].concat();
    versions.retain(|v| is_wide() || v.major == usual);
    versions
}

/// The reads of parts of the large table, by what `-vvv` shows: of how many
/// blocks each list of TIDs is, and how many reads are of single blocks' tuples.
fn reads(said: &str) -> (Vec<u32>, usize) {
    let reads = said.lines().filter(|l| l.contains("SELECT ctid") && l.contains("large"));
    let (lists, tuples): (Vec<_>, Vec<_>) = reads.partition(|l| l.contains("generate_series"));
    let blocks = lists.iter().map(|line| {
        let (_, rest) = line.split_once("generate_series(").expect("a list of blocks");
        let (first, rest) = rest.split_once("::bigint, ").expect("the first block");
        let (last, _) = rest.split_once(')').expect("the last block");
        let number = |n: &str| n.parse::<u32>().expect("a number");
        number(last) + 1 - number(first)
    });
    (blocks.collect(), tuples.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_of_a_large_table_lists_more_blocks_than_it_may() {
    for version in newest_or_oldest(10) {
        let pages: BTreeSet<_> = [0, 77, 78, 79, 1000, 2047, 2048, 5000, 7999].into();
        let tuples: BTreeSet<_> = [(3, 2), (500, 1), (501, 5), (6000, 7)].into();
        let bad = u32::try_from(pages.len() * 3 + tuples.len() * 12).expect("few");
        let large = large(&version, Harms { pages, tuples, ..Harms::default() }).await;
        let dumped = dump(PROGRAM, &large.server, DB, &["-j2", "-vvv"]);
        large.check(&dumped).await;
        let (lists, of_tuples) = reads(&dumped.said);
        assert_eq!(lists.iter().max(), Some(&BLOCKS_PER_READ), "{}", version.major);
        let all = u32::try_from(lists.len() + of_tuples).expect("few");
        let healthy = large.blocks.div_ceil(BLOCKS_PER_READ);
        assert!(all <= healthy + bad, "{}: {all} reads, not {healthy} + {bad}", version.major);
        assert!(all >= healthy - 2, "{}: only {all} reads are seen", version.major);
    }
}

/// The first crash is under a list of blocks, behind other damage.
#[tokio::test(flavor = "multi_thread")]
async fn a_tuple_that_takes_the_server_down_behind_other_damage_costs_nothing_but_itself() {
    for version in newest_or_oldest(13) {
        let pages = [5, 2000].into();
        let killers = [(7000, 4)].into();
        let large = large(&version, Harms { pages, killers, ..Harms::default() }).await;
        let options = ["-j2", "--max-crashes", "9", "--check-pages=never"];
        let dumped = dump(PROGRAM, &large.server, DB, &options);
        large.server.wait_ready();
        large.check(&dumped).await;
        assert_eq!(large.server.crashes(), 3, "{}: {}", version.major, dumped.said);
    }
}

#[tokio::test]
async fn a_list_of_tids_is_read_by_a_tid_scan() {
    for version in Version::some(10, 13) {
        let server = Server::start(&version, ServerOptions::default());
        let client = server.connect(DB).await;
        let sql = "CREATE TABLE t AS SELECT i FROM generate_series(1, 100000) i; ANALYZE t;
            SET enable_seqscan TO off";
        client.batch_execute(sql).await.expect("a table");
        let readable = Readable {
            qualified: "public.t".to_owned(),
            columns: vec!["i".to_owned()],
            encoding: "UTF8".to_owned(),
            plain: true,
            tid_ranges: false,
            tuples_max: 291,
            block_size: 8192,
            past_statistics: false,
            oids: false,
        };
        assert_eq!(readable.limits().blocks_per_read, Some(BLOCKS_PER_READ));
        let range = BlockRange::new(0, BLOCKS_PER_READ);
        let copy = readable.part(&Read::Blocks { range, tagged: true });
        let query = copy.strip_prefix("COPY (").and_then(|c| c.split_once(") TO STDOUT"));
        let explain = format!("EXPLAIN {}", query.expect("a query in a COPY").0);
        let plan = client.query(&explain, &[]).await.expect("a plan");
        let first: &str = plan[0].get(0);
        assert!(first.starts_with("Tid Scan on t"), "{}: {first}", version.major);
    }
}

fn run(large: &Large, dir: &std::path::Path, options: &[&str], die_at: Option<u32>) -> Output {
    Command::new(PROGRAM)
        .args(["dump", "--raw-rows=never", "--no-schema", "-vvv", "-d"])
        .arg(large.server.conninfo(DB))
        .arg("-f")
        .arg(dir)
        .args(options)
        .envs(die_at.map(|n| ("PG_SALVAGE_DIE_AT", n.to_string())))
        .output()
        .expect("the program starts")
}

fn said(out: &Output) -> String {
    [&out.stdout, &out.stderr].map(|b| String::from_utf8_lossy(b).into_owned()).concat()
}

/// So much damage that the journal says several times how far it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_in_a_large_table_is_gone_on_with() {
    for version in Version::between(13, 13) {
        let (pages, tuples) = ((1000..1450).collect(), [(500, 1), (6000, 7)].into());
        let large = large(&version, Harms { pages, tuples, ..Harms::default() }).await;
        let whole = tempfile::tempdir().expect("a directory");
        let out = run(&large, whole.path(), &[], None);
        assert_eq!(out.status.code(), Some(2), "{}", said(&out));
        let (all, _) = reads(&said(&out));
        let whole = Dumped::read(whole, said(&out));
        large.check(&whole).await;
        let (mut gone_on, mut die_at) = (0, 60);
        while gone_on < if is_wide() { 2 } else { 1 } {
            die_at += 60;
            let at = format!("{}, ended at write {die_at}", version.major);
            let dir = tempfile::tempdir().expect("a directory");
            let first = run(&large, dir.path(), &[], Some(die_at));
            assert!(first.status.code().is_none(), "{at}: it was not ended");
            let journal = std::fs::read_to_string(dir.path().join("journal")).unwrap_or_default();
            let is_saved = journal.lines().any(|l| l.contains(r#""record":"stretch""#));
            let out = run(&large, dir.path(), &["--resume"], None);
            assert_eq!(out.status.code(), Some(2), "{at}: {}", said(&out));
            let (rest, _) = reads(&said(&out));
            let again = said(&out).lines().any(|l| l.contains(r#"COPY \"public\".\"large\""#));
            assert_eq!(again, !is_saved, "{at}: whether it is read from its beginning");
            if is_saved {
                assert!(rest.len() < all.len(), "{at}: {} of {} reads", rest.len(), all.len());
                gone_on += 1;
            }
            check_same(&Dumped::read(dir, said(&out)), &whole, &at).await;
        }
    }
}

/// The oid of a row is a system column there, and part of the dump: it can be
/// loaded as what it was, or as a column like any other.
#[tokio::test]
async fn rows_with_oids_are_loaded_with_their_oids() {
    for version in Version::between(10, 11) {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let sql = "CREATE TABLE with_oids (id int, t text) WITH OIDS;
            INSERT INTO with_oids SELECT i, 't' || i FROM generate_series(1, 100) i;
            CREATE TABLE as_oids (LIKE with_oids) WITH OIDS";
        server.execute(DB, sql).await;
        let dumped = dump(PROGRAM, &server, DB, &[]);
        let entry = dumped.relation("with_oids");
        let columns: Vec<_> = entry.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(columns, ["oid", "id", "t"], "{}", version.major);
        let bytes = dumped.bytes(entry, RowClass::Clean).await;
        load(&server, "as_oids (id, t) FROM STDIN WITH (OIDS)", &bytes).await;
        let newest = Server::start(&Version::between(14, 18)[0], ServerOptions::default());
        newest.execute(DB, "CREATE TABLE as_oids (oid oid, id int, t text)").await;
        load(&newest, "as_oids (oid, id, t) FROM STDIN", &bytes).await;
        let rows = async |server: &Server, table: &str| {
            let sql = format!("COPY (SELECT oid, id, t FROM {table} ORDER BY id) TO STDOUT");
            let client = oracle::session(server, DB).await;
            let sql = sql.replace(table, &format!("public.{table}"));
            oracle::copy_out(&client, &sql).await.expect("the rows")
        };
        let truth = rows(&server, "with_oids").await;
        assert_eq!(oracle::lines(&truth).count(), 100);
        assert!(rows(&server, "as_oids").await == truth, "{}", version.major);
        assert!(rows(&newest, "as_oids").await == truth, "{}", version.major);
    }
}

async fn load(server: &Server, into: &str, bytes: &[u8]) {
    use futures::SinkExt;
    let client = server.connect(DB).await;
    let sink = client.copy_in::<_, bytes::Bytes>(&format!("COPY {into}")).await.expect("COPY");
    let mut sink = std::pin::pin!(sink);
    sink.send(bytes::Bytes::copy_from_slice(bytes)).await.expect("the rows");
    sink.finish().await.expect("the rows are taken");
}
