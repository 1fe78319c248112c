//! Whose crash it was, and what is kept when the server stays down.

use super::{DB, PROGRAM, oracle_name, stopped, with_a_slow_table};
use crate::kit::dumped::{dump, dump_with};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Version};
use crate::kit::{harm, oracle, sample};
use futures::StreamExt;
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use pg_salvage::server::connect::{ConnectArgs, HangUps, PasswordPrompt, Target, connect};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

const SESSIONS: u64 = 4;
const CRASHES: usize = 5;

/// None of the sessions is read from while they end, so each has rows on the
/// way, and nobody has a last word.
#[tokio::test(flavor = "multi_thread")]
async fn of_silent_sessions_the_one_that_crashed_hung_up_first() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let sql = "CREATE TABLE wide AS SELECT i, md5(i::text) FROM generate_series(1, 200000) i";
        server.execute(DB, sql).await;
        let args = ConnectArgs {
            dbname: Some(server.conninfo(DB)),
            password: PasswordPrompt::Never,
            ..ConnectArgs::default()
        };
        let target = Target::resolve(&args, &|_| None).unwrap();
        for crash in 0..CRASHES {
            let guilty = crash as u64 % SESSIONS;
            let hang_ups = HangUps::new().unwrap();
            let (mut copies, mut pid) = (Vec::new(), None);
            for number in 0..SESSIONS {
                let session = connect(&target).await.unwrap();
                hang_ups.watch(&session, number).unwrap();
                if number == guilty {
                    let asked = session.client.query_one("SELECT pg_backend_pid()", &[]).await;
                    pid = Pid::from_raw(asked.unwrap().get(0));
                }
                let copy = session.client.copy_out("COPY wide TO STDOUT").await.unwrap();
                copies.push((session, Box::pin(copy)));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(hang_ups.order(), Vec::<u64>::new(), "nobody has hung up yet");
            kill_process(pid.unwrap(), Signal::SEGV).unwrap();
            server.wait_crashes(crash + 1);
            for (session, copy) in &mut copies {
                while let Some(Ok(_)) = copy.next().await {}
                assert_eq!(session.notices.take(), [], "a backend that sends has no last words");
            }
            let order = hang_ups.order();
            assert_eq!(order.first(), Some(&guilty), "on {}", version.major);
            assert_eq!(order.len() as u64, SESSIONS, "on {}", version.major);
        }
    }
}

/// In one thread: its connection is looked at only when a statement is sent into
/// the closed socket, and what was said before that is not lost.
#[tokio::test]
async fn an_idle_session_is_told_of_the_crash_of_another() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let args = ConnectArgs {
            dbname: Some(server.conninfo(DB)),
            password: PasswordPrompt::Never,
            ..ConnectArgs::default()
        };
        let target = Target::resolve(&args, &|_| None).unwrap();
        let (mut idle, guilty) = (connect(&target).await.unwrap(), connect(&target).await.unwrap());
        let pid = guilty.client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        kill_process(Pid::from_raw(pid).unwrap(), Signal::SEGV).unwrap();
        server.wait_crashes(1);
        assert!(idle.client.batch_execute("SELECT 1").await.is_err());
        assert!((&mut idle.closed).await.is_ok());
        let said: Vec<String> = idle.notices.take().into_iter().map(|n| n.sqlstate).collect();
        assert_eq!(said, ["57P02"], "on {}", version.major);
        assert_eq!(guilty.notices.take(), [], "on {}", version.major);
    }
}

/// A killer, read after a larger unlogged table; and the truth of that.
async fn with_unlogged(version: &Version) -> (Server, Vec<oracle::Row>) {
    let server = Server::start(version, ServerOptions::checksums(false));
    sample::victims(&server, DB, &["killer"]).await;
    let sql =
        "CREATE UNLOGGED TABLE brief AS SELECT i, md5(i::text) m FROM generate_series(1, 400000) i";
    server.execute(DB, sql).await;
    let client = oracle::session(&server, DB).await;
    let killer = Places::of(&client, &oracle_name("killer")).await;
    let columns = ["i".to_owned(), "m".to_owned()];
    let rows = oracle::rows(&client, "public.brief", &columns).await;
    drop(client);
    stopped(&server);
    let at = Place::middle(killer.blocks);
    harm(&server, &killer, Harm::VarlenaLength, at, ChecksumAfter::Stale);
    server.start_again();
    (server, rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_begun_while_an_unlogged_table_is_read() {
    for (version, split) in Version::two().into_iter().zip(["1GB", "4MB"]) {
        let (server, rows) = with_unlogged(&version).await;
        let options = ["-j4", "-Z", "zstd:9", "--split-size", split, "--max-crashes", "20"];
        let dumped = dump(PROGRAM, &server, DB, &options);
        server.wait_ready();
        assert!(server.crashes() > 0, "{}", dumped.said);
        let entry = dumped.relation("brief");
        assert_eq!(entry.status, RelationStatus::Clean, "{}: {}", version.major, dumped.said);
        let lines = dumped.lines(entry, RowClass::Clean).await;
        assert!(lines.iter().eq(rows.iter().map(|r| &r.line)), "{}", version.major);
        assert_eq!(
            dumped.relation("killer").rows.clean + dumped.relation("killer").rows.suspect,
            1499
        );
    }
}

/// A killer that is read last, beside two that are well, on a server that stays
/// down after a crash.
async fn that_stays_down(version: &Version) -> Server {
    let options = ServerOptions::checksums(false).set("restart_after_crash", "off");
    let server = Server::start(version, options);
    sample::victims(&server, DB, &["killer"]).await;
    for name in ["well1", "well2"] {
        let sql = format!(
            "CREATE TABLE {name} AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i"
        );
        server.execute(DB, &sql).await;
    }
    let client = oracle::session(&server, DB).await;
    let killer = Places::of(&client, &oracle_name("killer")).await;
    drop(client);
    stopped(&server);
    let at = Place::middle(killer.blocks);
    harm(&server, &killer, Harm::VarlenaLength, at, ChecksumAfter::Stale);
    server.start_again();
    server
}

const STAYS_DOWN: &str = "stays down until somebody starts it (restart_after_crash is off)";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_down_is_waited_for_and_what_was_read_is_kept() {
    for version in Version::one_or_two() {
        let server = that_stays_down(&version).await;
        let dumped = dump(PROGRAM, &server, DB, &["-j4", "--crash-wait", "1s"]);
        let (at, said) = (version.major, &dumped.said);
        assert!(server.pid().is_none(), "{at}");
        assert_eq!(dumped.manifest.exit_code, 3, "{at}: {said}");
        let waiting = format!(
            "the server went down and {STAYS_DOWN}; waiting for that, at most 1s (--crash-wait)"
        );
        assert_eq!(said.matches(&waiting).count(), 1, "{at}: {said}");
        let errors: Vec<&str> = said.lines().filter(|l| l.contains("ERROR")).collect();
        assert_eq!(errors.len(), 1, "{at}: {said}");
        assert!(errors[0].ends_with(&format!("it went down and {STAYS_DOWN}")), "{at}: {said}");
        for name in ["well1", "well2"] {
            let entry = dumped.relation(name);
            let whole = entry.status == RelationStatus::Clean;
            assert!(whole || entry.status == RelationStatus::Failed, "{at}: {entry:#?}");
            assert_eq!(entry.rows.clean, if whole { 20000 } else { 0 }, "{at}: {entry:#?}");
            assert_eq!(dumped.lines(entry, RowClass::Clean).await.len() as u64, entry.rows.clean);
        }
        assert_eq!(dumped.relation("killer").status, RelationStatus::Failed, "{at}: {said}");
        let down = "the server went down 1 time(s) during the run";
        assert!(
            dumped.manifest.warnings.iter().any(|w| w == down),
            "{:?}",
            dumped.manifest.warnings
        );
        assert_eq!(dumped.leftovers(), Vec::<String>::new(), "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_somebody_starts_by_hand_is_gone_on_with() {
    let server = that_stays_down(&Version::newest()).await;
    let dumped = std::thread::scope(|scope| {
        let run = scope.spawn(|| dump(PROGRAM, &server, DB, &["-j2", "--max-crashes", "1"]));
        while server.pid().is_some() {
            std::thread::sleep(Duration::from_millis(10));
        }
        server.start_again();
        run.join().unwrap()
    });
    let said = &dumped.said;
    assert_eq!(dumped.manifest.exit_code, 3, "{said}");
    for name in ["well1", "well2"] {
        assert_eq!(dumped.relation(name).rows.clean, 20000, "{said}");
    }
    let killer = dumped.relation("killer");
    assert_eq!(killer.lost.len(), 1, "{killer:#?}");
    assert_eq!(killer.lost[0].cause, "not_tried", "{killer:#?}");
    assert!(killer.rows.clean > 0, "what came before the crash: {killer:#?}");
}

/// Between the crash and our coming back its file was replaced: blocks of the
/// one are not blocks of the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_replaced_after_a_crash_is_not_read_on() {
    let (server, rows) = with_a_slow_table("").await;
    let runtime = tokio::runtime::Handle::current();
    let dumped = dump_with(PROGRAM, &server, DB, &["-j2", "--split-size", "1MB"], || {
        server.stop_now();
        server.start_again();
        let replaced = server.execute(DB, "VACUUM FULL slow");
        tokio::task::block_in_place(|| runtime.block_on(replaced));
    });
    let entry = dumped.relation("slow");
    assert_eq!(
        (entry.status, dumped.manifest.exit_code),
        (RelationStatus::Failed, 3),
        "{entry:#?}"
    );
    let reason = entry.reason.clone().unwrap_or_default();
    assert!(reason.starts_with("its file was replaced while it was read"), "{reason}");
    let lines = dumped.lines(entry, RowClass::Clean).await;
    let all: std::collections::BTreeSet<&Vec<u8>> = rows.iter().collect();
    assert!(lines.iter().all(|l| all.contains(l)));
    let read: std::collections::BTreeSet<&Vec<u8>> = lines.iter().collect();
    assert!(read.len() == lines.len() && lines.len() < rows.len(), "{}", lines.len());
}
