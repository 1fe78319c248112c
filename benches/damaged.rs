//! What damage costs: `pg_salvage dump -j2` of a table of some 1 GB with 0, 1,
//! 10, 100 and 1,000 scattered damaged blocks, each time beside the same table
//! undamaged; and what two kinds of script of the field need for the same.
//!
//! `cargo bench --bench damaged` prints two tables: of pages that cannot be
//! read, and of single values that cannot. `PG_SALVAGE_BENCH_MB` sets the size
//! of the table (default 1000), `-- --runs N` the pairs of runs, `--major N` the
//! PostgreSQL, `--scripts 0` leaves the scripts out. Nothing is asserted of
//! speed; that what was damaged was found, is.
//!
//! Two servers take turns: one is damaged more and more, the other is not.

#![allow(clippy::print_stdout)] // It is what a benchmark is for.

#[path = "../tests/kit/mod.rs"]
mod kit;
#[path = "timing.rs"]
mod timing;

use futures::TryStreamExt;
use kit::page_edit::Page;
use kit::places::{read_page, write_page};
use kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version};
use kit::{harm, oracle, sample};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use timing::{median, option};
use tokio_postgres::Client;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "bench";
const TABLE: &str = "public.bulk_0";
/// Rows of the table in a megabyte.
const ROWS_PER_MB: u64 = 8_600;
/// So many blocks are damaged, and so much longer the dump may take.
const LEVELS: [(u32, f64); 5] = [(0, 1.0), (1, 1.05), (10, 1.05), (100, 1.1), (1000, 1.5)];
/// The row-by-row script is given one block in so many.
const FRACTION: u32 = 50;

fn megabytes() -> u64 {
    std::env::var("PG_SALVAGE_BENCH_MB").ok().and_then(|v| v.parse().ok()).unwrap_or(1000)
}

/// How the blocks of a series are damaged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Series {
    /// Bad page headers: the server says which block.
    Pages,
    /// A value that cannot be unpacked, in the middle of the page: the server
    /// does not say where.
    Values,
}

impl Series {
    fn describe(self) -> &'static str {
        match self {
            Self::Pages => "pages that cannot be read",
            Self::Values => "pages with one value that cannot be unpacked",
        }
    }
}

/// Scattered evenly, but not in step with anything.
fn place(number: u32, of: u32, blocks: u32) -> u32 {
    let step = u64::from(blocks) * u64::from(number) / u64::from(of);
    let within = u64::from(number) * 7919 % u64::from((blocks / of).max(1));
    u32::try_from(step + within).expect("a block").min(blocks - 1)
}

/// Makes the damaged blocks `count` in all, of which `before` are there.
fn damage(server: &Server, places: &Places, series: Series, before: u32, count: u32) {
    let last = LEVELS[LEVELS.len() - 1].0;
    let all: Vec<u32> = (0..last).map(|n| place(n, last, places.blocks)).collect();
    // 1, 10, 100 of the 1,000, each spread over all of the table; the one in its
    // middle.
    let is_in = |n: u32, count: u32| count > 0 && (n + last / 2).is_multiple_of(last / count);
    for n in (0..last).filter(|&n| is_in(n, count) && !(before > 0 && is_in(n, before))) {
        let block = all[n as usize];
        match series {
            Series::Pages => {
                let at = Place { block, offset: 1 };
                harm(server, places, Harm::BadPageHeader, at, ChecksumAfter::Stale);
            }
            Series::Values => {
                let mut page = read_page(server, &places.main, block);
                garble(&mut page);
                page.recompute_checksum();
                write_page(server, &places.main, &page);
            }
        }
    }
}

/// Makes the `note` of a tuple in the middle, 32 hexadecimal digits, say that it
/// is compressed, which it is not.
fn garble(page: &mut Page) {
    let tuples = page.tuples();
    let tuple = page.tuple(tuples[tuples.len() / 2]);
    // Behind two columns of 8 bytes each and the header of a numeric.
    let note = (tuple.data + 17..tuple.data + 40).find(|&at| {
        page.bytes[at] == 33 << 1 | 1
            && page.bytes[at + 1..at + 33].iter().all(u8::is_ascii_hexdigit)
    });
    let note = note.expect("a note");
    page.put(note, &(33_u32 << 2 | 2).to_le_bytes());
    page.put(note + 4, &1000_u32.to_le_bytes());
    page.bytes[note + 8..note + 33].fill(0xFF);
}

/// What a dump took, in seconds: by the clock, and of processors, the server's
/// included. The second is the same whatever else the machine does.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    processor: f64,
}

/// Of a process and of those that it has waited for: clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, fields) = stat.rsplit_once(')').expect("its name");
    fields.split_whitespace().skip(11).take(4).map(|f| f.parse::<u64>().expect("ticks")).sum()
}

fn dump(server: &Server, folder: &Path, damaged: u32) -> Took {
    let dir = folder.join("dump");
    let pids = [server.pid().expect("it runs"), std::process::id()];
    let before: u64 = pids.map(ticks).iter().sum();
    let begun = Instant::now();
    let status = Command::new(PROGRAM)
        .args(["dump", "-j2", "-d"])
        .arg(server.conninfo(DB))
        .arg("-f")
        .arg(&dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the program starts");
    let wall = begun.elapsed().as_secs_f64();
    // The backends end a moment after their clients.
    std::thread::sleep(Duration::from_millis(300));
    let ticks = pids.map(ticks).iter().sum::<u64>() - before;
    assert_eq!(status.code(), Some(if damaged > 0 { 2 } else { 0 }), "{damaged} damaged blocks");
    let manifest = std::fs::read(dir.join("manifest.json")).expect("a manifest");
    let manifest = pg_salvage::output::manifest::Manifest::from_json(&manifest).expect("one");
    let blocks = manifest.totals.blocks;
    assert_eq!(blocks.damaged + blocks.lost, u64::from(damaged));
    std::fs::remove_dir_all(&dir).expect("our own directory");
    // USER_HZ is 100 everywhere.
    Took { wall, processor: ticks as f64 / 100.0 }
}

/// Every ctid by itself, with an exception block around it, as the functions do
/// that are handed around. It is given the first part of the table.
async fn row_by_row(client: &Client, blocks: u32, offsets: u32) -> Duration {
    let function = format!(
        "CREATE OR REPLACE FUNCTION pg_temp.one_by_one(blocks int) RETURNS SETOF {TABLE} LANGUAGE plpgsql AS $$
         DECLARE r {TABLE};
         BEGIN
           FOR b IN 0 .. blocks - 1 LOOP
             FOR o IN 1 .. {offsets} LOOP
               BEGIN
                 SELECT * INTO r FROM ONLY {TABLE} t WHERE t.ctid = ('(' || b || ',' || o || ')')::tid;
                 IF FOUND THEN PERFORM length(r::text); RETURN NEXT r; END IF;
               EXCEPTION WHEN OTHERS THEN NULL;
               END;
             END LOOP;
           END LOOP;
         END $$"
    );
    client.batch_execute(&function).await.expect("a function");
    let begun = Instant::now();
    let copy = format!("COPY (SELECT * FROM pg_temp.one_by_one({})) TO STDOUT", blocks / FRACTION);
    oracle::copy_out(client, &copy).await.expect("rows");
    begun.elapsed() * FRACTION
}

/// Halves what fails until it is a single row. What a failed read gave is thrown
/// away, and so is what a good one gives.
async fn bisecting(client: &Client, blocks: u32, offsets: u32) -> Duration {
    let begun = Instant::now();
    let whole = u64::from(offsets) + 1;
    let mut todo = vec![(0, u64::from(blocks) * whole)];
    while let Some((from, to)) = todo.pop() {
        let tid = |n: u64| format!("'({},{})'", n / whole, n % whole);
        let sql = format!(
            "COPY (SELECT * FROM ONLY {TABLE} WHERE ctid >= {} AND ctid < {}) TO STDOUT",
            tid(from),
            tid(to)
        );
        let read = async { client.copy_out(&sql).await?.try_for_each(async |_| Ok(())).await };
        if read.await.is_err() && to - from > 1 {
            // Where blocks are left, they are not cut.
            let half = match (to - from) / 2 {
                half if half > whole => half / whole * whole,
                half => half,
            };
            todo.extend([(from + half, to), (from, from + half)]);
        }
    }
    begun.elapsed()
}

async fn session(server: &Server) -> Client {
    let client = server.connect(DB).await;
    client
        .batch_execute("SET jit = off; SET max_parallel_workers_per_gather = 0")
        .await
        .expect("SET");
    client
}

struct Bench {
    healthy: Server,
    places: Places,
    /// The most rows of a page.
    offsets: u32,
    runs: u64,
    scripts: bool,
}

impl Bench {
    async fn series(&self, series: Series) {
        println!("\n{}\n", series.describe());
        println!(
            "| damaged blocks | undamaged, s | damaged, s | ratio | ratio of processor time | aim \
             | row by row, s | bisecting, s |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        assert_eq!(self.healthy.stop(), Stop::Clean);
        let damaged = self.healthy.copy();
        self.healthy.start_again();
        let folder = tempfile::Builder::new().tempdir_in("/tmp").expect("a temporary directory");
        let mut before = 0;
        for (count, aim) in LEVELS {
            if damaged.pid().is_some() {
                assert_eq!(damaged.stop(), Stop::Clean);
            }
            damage(&damaged, &self.places, series, before, count);
            before = count;
            damaged.start_again();
            let (mut undamaged, mut harmed) = (vec![], vec![]);
            let (mut ratios, mut processor) = (vec![], vec![]);
            // The first pair warms up and does not count.
            for pair in 0..=self.runs {
                // Whoever is second may find the machine warmer.
                let (a, b) = if pair % 2 == 0 {
                    let a = dump(&self.healthy, folder.path(), 0);
                    (a, dump(&damaged, folder.path(), count))
                } else {
                    let b = dump(&damaged, folder.path(), count);
                    (dump(&self.healthy, folder.path(), 0), b)
                };
                if pair > 0 {
                    undamaged.push(a.wall);
                    harmed.push(b.wall);
                    ratios.push(b.wall / a.wall);
                    processor.push(b.processor / a.processor);
                }
            }
            let undamaged = median(undamaged);
            let mut scripts = [String::from("-"), String::from("-")];
            if self.scripts {
                let client = session(&damaged).await;
                let of = |took: Duration| format!("{:.1}", took.as_secs_f64());
                scripts = [
                    of(row_by_row(&client, self.places.blocks, self.offsets).await),
                    of(bisecting(&client, self.places.blocks, self.offsets).await),
                ];
            }
            println!(
                "| {count} | {undamaged:.2} | {:.2} | {:.3} | {:.3} | {aim} | {} | {} |",
                median(harmed),
                median(ratios),
                median(processor),
                scripts[0],
                scripts[1]
            );
        }
    }
}

fn main() {
    let version = Version::major(u32::try_from(option("--major", 15)).expect("a major version"));
    let options = ServerOptions { on_disk: true, ..ServerOptions::checksums(true) };
    let options = options.set("shared_buffers", "256MB").set("log_min_messages", "log");
    let healthy = Server::start(&version, options);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        sample::bulk(&healthy, DB, 1, megabytes() * ROWS_PER_MB, 1).await;
        healthy.execute(DB, "ALTER TABLE bulk_0 ADD PRIMARY KEY (id)").await;
        healthy.execute(DB, "VACUUM ANALYZE bulk_0").await;
        healthy.execute(DB, "CHECKPOINT").await;
        let client = oracle::session(&healthy, DB).await;
        let places = Places::of(&client, TABLE).await;
        let sql = format!("SELECT count(*) FROM {TABLE} WHERE ctid < '(500,0)'");
        let rows: i64 = client.query_one(&sql, &[]).await.expect("a count").get(0);
        drop(client);
        let (runs, scripts) = (option("--runs", 3), option("--scripts", 1) == 1);
        println!(
            "PostgreSQL {}, {} blocks ({} MB); medians of {runs} pairs of runs; the row-by-row script \
             reads 1/{FRACTION} of the table, and its time is multiplied",
            version.major,
            places.blocks,
            places.blocks / 128
        );
        let offsets = u32::try_from(rows / 500 * 5 / 4).expect("few");
        let bench = Bench { healthy, places, offsets, runs, scripts };
        bench.series(Series::Pages).await;
        bench.series(Series::Values).await;
    });
}
