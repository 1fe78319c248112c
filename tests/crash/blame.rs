//! Whose crash it was.

use super::kit::dumped::dump;
use super::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Version};
use super::kit::{harm, oracle, sample};
use super::{DB, PROGRAM, oracle_name, stopped, two};
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
    for version in two() {
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
    for version in two() {
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
    for (version, split) in two().into_iter().zip(["1GB", "4MB"]) {
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
