//! Servers that do not answer: a disk that sticks, a backend that is stopped. A
//! read that hangs costs what it was to read, and nothing else waits for it.

use crate::kit::disk::Healing;
use crate::kit::dumped::{Dumped, dump, dump_with, go_on};
use crate::kit::fuse::Ill as Block;
use crate::kit::{Disk, FuseFile, Server, ServerOptions, Stop, Version, oracle};
use pg_salvage::output::manifest::{Lost, RelationStatus, RowClass};
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

/// A server with tables on a disk of our own, nothing of them in its memory.
struct Ill<D = Disk> {
    server: Server,
    disk: D,
}

const ROWS: u32 = 30_000;

impl Ill {
    async fn with(version: &Version, tables: &[&str]) -> Ill {
        let disk = Disk::new();
        let server = Server::start(version, disk.under(ServerOptions::checksums(true)));
        Ill::on(server, disk, tables).await
    }
}

impl<D> Ill<D> {
    async fn on(server: Server, disk: D, tables: &[&str]) -> Ill<D> {
        for name in tables {
            let sql = format!(
                "CREATE TABLE {name} AS SELECT i, md5(i::text) m FROM generate_series(1, {ROWS}) i"
            );
            server.execute(DB, &sql).await;
            server.execute(DB, &format!("VACUUM (ANALYZE) {name}")).await;
        }
        assert_eq!(server.stop(), Stop::Clean);
        server.start_again();
        Ill { server, disk }
    }

    async fn file(&self, name: &str) -> String {
        let client = self.server.connect(DB).await;
        let sql = format!("SELECT pg_relation_filepath('{name}')");
        client.query_one(&sql, &[]).await.expect("a path").get(0)
    }

    /// Its rows, while the disk is well.
    async fn truth(&self, name: &str) -> Vec<oracle::Row> {
        let client = oracle::session(&self.server, DB).await;
        let columns = ["i".to_owned(), "m".to_owned()];
        oracle::rows(&client, &format!("public.{name}"), &columns).await
    }

    /// Nothing of the tables is in the server's memory any more.
    fn restart(&self) {
        assert_eq!(self.server.stop(), Stop::Clean);
        self.server.start_again();
    }
}

async fn assert_all_but_blocks(dumped: &Dumped, name: &str, truth: &[oracle::Row], but: &[u32]) {
    let entry = dumped.relation(name);
    let lines = dumped.lines(entry, RowClass::Clean).await;
    let left = truth.iter().filter(|r| !but.contains(&r.block)).map(|r| r.line.as_slice());
    assert!(lines.iter().map(Vec::as_slice).eq(left), "{name}: {entry:#?}\n{}", dumped.said);
    let causes: Vec<(Option<u32>, Option<u32>, &str)> =
        entry.lost.iter().map(|l| (l.first_block, l.last_block, l.cause.as_str())).collect();
    let expected: Vec<(Option<u32>, Option<u32>, &str)> =
        but.iter().map(|&b| (Some(b), Some(b), "hung")).collect();
    assert_eq!(causes, expected, "{name}");
    let status = if but.is_empty() { RelationStatus::Clean } else { RelationStatus::Failed };
    assert_eq!(entry.status, status, "{name}: {entry:#?}");
    assert_eq!(entry.rows.suspect, 0);
}

/// The read sleeps inside of the server, and no signal ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_sticks_is_lost_alone() {
    for version in Version::one_or_two() {
        let ill = Ill::with(&version, &["stuck", "well"]).await;
        let (stuck, well) = (ill.truth("stuck").await, ill.truth("well").await);
        ill.restart();
        let healing = Healing(&ill.disk);
        ill.disk.does(&[(&ill.file("stuck").await, 100..101, "stick")]);
        assert_block_100_is_lost_until(&ill, &stuck, &well, || drop(healing)).await;
    }
}

/// It is told to hang in "stuck", and is healed when the first run is over.
async fn assert_block_100_is_lost_until<D>(
    ill: &Ill<D>,
    stuck: &[oracle::Row],
    well: &[oracle::Row],
    heal: impl FnOnce(),
) {
    let options = ["-j2", "--read-timeout", "1s"];
    let dumped = dump(PROGRAM, &ill.server, DB, &options);
    heal();
    assert_all_but_blocks(&dumped, "stuck", stuck, &[100]).await;
    assert_all_but_blocks(&dumped, "well", well, &[]).await;
    assert_eq!(dumped.manifest.exit_code, 3);
    assert_eq!(dumped.manifest.snapshots.len(), 1, "{:?}", dumped.manifest.warnings);
    assert_eq!(dumped.leftovers(), Vec::<String>::new());
    // The disk answers again, and a later run reads the block, and little else.
    let again = go_on(PROGRAM, &ill.server, DB, dumped, &options);
    assert_all_but_blocks(&again, "stuck", stuck, &[]).await;
    assert_all_but_blocks(&again, "well", well, &[]).await;
    assert_eq!((again.manifest.exit_code, again.manifest.resumed.len()), (0, 1));
    again.check_files("resumed");
}

/// Its reads hang in the kernel: uninterruptible (state D) once a signal came,
/// as the server's own workers, which read for others on 18, get none.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_a_fuse_disk_does_not_give_is_lost_alone_and_is_damage_if_it_says_so() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let ill = Ill::on(server, (), &["stuck", "well"]).await;
        let (stuck, well) = (ill.truth("stuck").await, ill.truth("well").await);
        let path = ill.server.data_dir().join(ill.file("stuck").await);
        assert_eq!(ill.server.stop(), Stop::Clean);
        // Made after the server, and gone before it, which can end then.
        let Some(disk) = FuseFile::instead_of(&path) else { return };
        ill.server.start_again();
        disk.does(100, Block::Sticks);
        let mut states = Vec::new();
        assert_block_100_is_lost_until(&ill, &stuck, &well, || states = disk.heal()).await;
        assert!(!states.is_empty() && !states.contains(&'X'), "{states:?}");
        assert!(version.major >= 18 || states.iter().all(|&s| s == 'D'), "{states:?}");
        ill.restart();
        disk.does(77, Block::Fails);
        let dumped = dump(PROGRAM, &ill.server, DB, &[]);
        assert_is_damage(&dumped, "stuck", &stuck, 77).await;
        assert_all_but_blocks(&dumped, "well", &well, &[]).await;
        disk.heal();
        assert_eq!(ill.server.stop(), Stop::Clean);
    }
}

/// To look at pages hangs as to read them does; it is not tried for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_pages_that_hangs_keeps_no_row_from_being_read() {
    let server = Server::start(&Version::major(15), ServerOptions::checksums(true));
    let ill = Ill::on(server, (), &["stuck"]).await;
    let stuck = ill.truth("stuck").await;
    let path = ill.server.data_dir().join(ill.file("stuck").await);
    assert_eq!(ill.server.stop(), Stop::Clean);
    let Some(disk) = FuseFile::instead_of(&path) else { return };
    ill.server.start_again();
    disk.does(100, Block::Sticks);
    let options = ["-j1", "--read-timeout", "1s", "--check-pages=always"];
    let dumped = dump(PROGRAM, &ill.server, DB, &options);
    disk.heal();
    assert_all_but_blocks(&dumped, "stuck", &stuck, &[100]).await;
    assert_eq!(dumped.manifest.exit_code, 3);
    assert_eq!(ill.server.stop(), Stop::Clean);
}

/// A disk that sticks in many places. (Not on 18, whose three IO workers are then
/// stuck, and with them every read of everybody.)
#[tokio::test(flavor = "multi_thread")]
async fn reads_of_a_relation_hang_only_so_often() {
    let ill = Ill::with(&Version::major(15), &["stuck"]).await;
    let truth = ill.truth("stuck").await;
    ill.restart();
    let healing = Healing(&ill.disk);
    let file = ill.file("stuck").await;
    let parts: Vec<_> = (2..20).map(|n| (file.as_str(), n * 10..n * 10 + 1, "stick")).collect();
    ill.disk.does(&parts);
    let dumped = dump(PROGRAM, &ill.server, DB, &["--read-timeout", "400ms"]);
    drop(healing);
    let entry = dumped.relation("stuck");
    let (rest, hung) = entry.lost.split_last().unwrap();
    assert!(hung.len() >= 5 && hung.len() < 12, "{:#?}", entry.lost);
    let blocks: Vec<u32> = hung.iter().filter_map(|l| l.first_block).collect();
    let alone = |l: &Lost| l.cause == "hung" && l.first_block == l.last_block;
    assert!(hung.iter().all(alone), "{hung:#?}");
    assert!(blocks.iter().enumerate().all(|(n, &b)| b as usize == 20 + n * 10), "{blocks:?}");
    assert_eq!(rest.cause, "not_tried", "{rest:#?}");
    let end = rest.first_block.unwrap();
    assert!(*blocks.last().unwrap() < end && end <= blocks.last().unwrap() + 10, "{rest:#?}");
    let lines = dumped.lines(entry, RowClass::Clean).await;
    let left = truth.iter().filter(|r| r.block < end && !blocks.contains(&r.block));
    assert!(lines.iter().map(Vec::as_slice).eq(left.map(|r| r.line.as_slice())), "{entry:#?}");
    assert_eq!((entry.status, dumped.manifest.exit_code), (RelationStatus::Failed, 3));
}

/// A disk that says that it cannot is no disk that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_the_disk_will_not_give_is_damage() {
    for version in Version::one_or_two() {
        let ill = Ill::with(&version, &["t"]).await;
        let truth = ill.truth("t").await;
        ill.restart();
        ill.disk.does(&[(&ill.file("t").await, 77..78, "eio")]);
        let dumped = dump(PROGRAM, &ill.server, DB, &[]);
        assert_is_damage(&dumped, "t", &truth, 77).await;
    }
}

async fn assert_is_damage(dumped: &Dumped, name: &str, truth: &[oracle::Row], block: u32) {
    let entry = dumped.relation(name);
    let lines = dumped.lines(entry, RowClass::Clean).await;
    let left = truth.iter().filter(|r| r.block != block).map(|r| r.line.as_slice());
    assert!(lines.iter().map(Vec::as_slice).eq(left), "{entry:#?}");
    assert_eq!((entry.status, dumped.manifest.exit_code), (RelationStatus::Salvaged, 2));
    let [lost] = entry.lost.as_slice() else { panic!("{entry:#?}") };
    assert_eq!((lost.first_block, lost.cause.as_str()), (Some(block), "page"));
    assert_eq!(lost.sqlstate.as_deref(), Some("58030"));
}

/// Nothing of the table stays in the server's memory, so each read of it is slow.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_timeout_narrows_and_loses_nothing() {
    for version in Version::one_or_two() {
        let disk = Disk::new();
        let options = ServerOptions::checksums(true).set("shared_buffers", "1MB");
        let server = Server::start(&version, disk.under(options));
        let ill = Ill::on(server, disk, &["t"]).await;
        let truth = ill.truth("t").await;
        ill.restart();
        ill.disk.does(&[(&ill.file("t").await, 0..1000, "slow")]);
        let dumped = dump(PROGRAM, &ill.server, DB, &["--statement-timeout", "250ms"]);
        let cancelled = "canceling statement due to statement timeout";
        assert!(ill.server.log().matches(cancelled).count() >= 2, "it was never slow");
        assert_all_but_blocks(&dumped, "t", &truth, &[]).await;
        assert_eq!(dumped.manifest.exit_code, 0, "{}", dumped.said);
    }
}

/// Its value is had from the column that it feeds; but it was not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_sticks_keeps_nothing_else_from_being_read() {
    let ill = Ill::with(&Version::major(15), &["t"]).await;
    let sql = "CREATE SEQUENCE well; CREATE SEQUENCE stuck OWNED BY t.i; SELECT setval('stuck', 7)";
    ill.server.execute(DB, sql).await;
    let truth = ill.truth("t").await;
    ill.restart();
    let healing = Healing(&ill.disk);
    ill.disk.does(&[(&ill.file("stuck").await, 0..1, "stick")]);
    let dumped = dump(PROGRAM, &ill.server, DB, &["--read-timeout", "1s"]);
    drop(healing);
    assert_all_but_blocks(&dumped, "t", &truth, &[]).await;
    assert_eq!(dumped.relation("well").status, RelationStatus::Clean);
    let stuck = dumped.relation("stuck");
    assert_eq!(
        (stuck.status, dumped.manifest.exit_code),
        (RelationStatus::Failed, 3),
        "{stuck:#?}"
    );
    assert_eq!(stuck.lost[0].cause, "hung");
    let value = stuck.sequence.as_ref().map(|s| (s.last_value, s.derived));
    assert_eq!(value, Some((i64::from(ROWS), true)));
}

/// A process that is stopped with SIGSTOP, until this goes.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: i32) -> Stopped {
        let pid = Pid::from_raw(pid).expect("a process id");
        kill_process(pid, Signal::STOP).expect("a backend");
        Stopped(pid)
    }

    /// Waits until this signal was sent to it.
    fn wait_for(&self, signal: Signal) {
        let begun = Instant::now();
        let bit = 1u64 << (signal.as_raw() - 1);
        let path = format!("/proc/{}/status", self.0.as_raw_nonzero());
        loop {
            let status = std::fs::read_to_string(&path).expect("a process");
            let pending = status.lines().find_map(|l| l.strip_prefix("ShdPnd:"));
            let pending = pending.and_then(|p| u64::from_str_radix(p.trim(), 16).ok());
            if pending.expect("pending signals") & bit != 0 {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no signal: {status}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Rows of a table that is read for some seconds, and its server.
async fn with_a_slow_table() -> (Server, Vec<Vec<u8>>) {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    let sql = "CREATE TABLE slow AS SELECT i, md5(i::text) m FROM generate_series(1, 400000) i";
    server.execute(DB, sql).await;
    let client = oracle::session(&server, DB).await;
    let columns = ["i".to_owned(), "m".to_owned()];
    let rows = oracle::rows(&client, "public.slow", &columns).await;
    (server, rows.into_iter().map(|r| r.line).collect())
}

/// The process id of the backend for which this holds in pg_stat_activity.
fn backend(runtime: &tokio::runtime::Handle, server: &Server, condition: &str) -> i32 {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid()
         AND {condition}"
    );
    tokio::task::block_in_place(|| {
        runtime.block_on(async {
            server.connect(DB).await.query_one(&sql, &[]).await.expect("one backend").get(0)
        })
    })
}

const READS: &str = "query LIKE 'COPY%slow%' AND state = 'active'";
const CANCELLED: &str = "canceling statement due to user request";
const TERMINATED: &str = "terminating connection due to administrator command";

async fn assert_all(dumped: &Dumped, rows: &[Vec<u8>]) {
    let entry = dumped.relation("slow");
    assert!(dumped.lines(entry, RowClass::Clean).await == rows, "{entry:#?}");
    assert_eq!((entry.status, dumped.manifest.exit_code), (RelationStatus::Clean, 0), "{entry:#?}");
    assert_eq!(dumped.leftovers(), Vec::<String>::new());
}

/// While it is stopped, neither the one signal nor the other has an effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_does_not_end_is_left_alone() {
    let (server, rows) = with_a_slow_table().await;
    let runtime = tokio::runtime::Handle::current();
    let mut stopped = None;
    let dumped = dump_with(PROGRAM, &server, DB, &["--read-timeout", "1s"], || {
        stopped = Some(Stopped::new(backend(&runtime, &server, READS)));
    });
    let stopped = stopped.unwrap();
    stopped.wait_for(Signal::INT);
    stopped.wait_for(Signal::TERM);
    assert!(!server.log().contains(CANCELLED) && !server.log().contains(TERMINATED));
    assert_all(&dumped, &rows).await;
    assert_eq!(dumped.manifest.snapshots.len(), 1, "{:?}", dumped.manifest.warnings);
    assert_eq!(dumped.manifest.warnings, [""; 0]);
}

/// What hangs is first cancelled; where that helps, the session goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_hangs_is_cancelled_and_then_its_backend_terminated() {
    let (server, rows) = with_a_slow_table().await;
    let runtime = tokio::runtime::Handle::current();
    for (signal, said, not_said) in
        [(Signal::INT, CANCELLED, TERMINATED), (Signal::TERM, TERMINATED, CANCELLED)]
    {
        let log = server.log().len();
        let dumped = dump_with(PROGRAM, &server, DB, &["--read-timeout", "2s"], || {
            let stopped = Stopped::new(backend(&runtime, &server, READS));
            stopped.wait_for(signal);
        });
        let since = server.log()[log..].to_owned();
        assert!(since.contains(said) && !since.contains(not_said), "{since}");
        assert_all(&dumped, &rows).await;
        assert_eq!(dumped.manifest.warnings, [""; 0]);
    }
}

/// Asked whether the server is well, the session that holds the snapshot does
/// not answer: that is no crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_holder_hangs_is_taken_again() {
    let (server, rows) = with_a_slow_table().await;
    let runtime = tokio::runtime::Handle::current();
    let options = ["--read-timeout", "1s", "--max-crashes", "0"];
    let mut stopped = None;
    let dumped = dump_with(PROGRAM, &server, DB, &options, || {
        stopped = Some(Stopped::new(backend(&runtime, &server, "state = 'idle in transaction'")));
        let reader = backend(&runtime, &server, READS);
        let sql = format!("SELECT pg_terminate_backend({reader})");
        tokio::task::block_in_place(|| runtime.block_on(server.execute(DB, &sql)));
    });
    assert_all(&dumped, &rows).await;
    assert_eq!(dumped.manifest.snapshots.len(), 2);
    assert_eq!(dumped.manifest.warnings, [""; 0]);
}
