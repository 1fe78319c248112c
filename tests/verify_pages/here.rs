//! Files that are read on this host, without the server, where its data directory is
//! found here.

use super::{PROGRAM, list, named_relations, paths, report_of};
use crate::kit::fuse::Ill;
use crate::kit::{FuseFile, Server, ServerOptions, Stop, Version};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Command, Stdio};
use std::time::Duration;

const DB: &str = "postgres";

/// The server is asked for its files unless they are here, by a Unix socket.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_here_where_the_data_directory_is_found() {
    for version in Version::one_or_two() {
        let options = ServerOptions { tcp: true, ..ServerOptions::checksums(true) };
        let server = Server::start(&version, options.set("log_statement", "all"));
        server.execute("postgres", "CREATE TABLE t AS SELECT 1 FROM generate_series(1, 999)").await;
        let unix = server.conninfo("postgres");
        let tcp = unix.replace(&server.socket_dir().display().to_string(), "127.0.0.1");
        for (conninfo, options, is_here) in
            [(&unix, &[][..], true), (&unix, &["--no-pgdata"], false), (&tcp, &[], false)]
        {
            let from = server.log().len();
            let out = Command::new(PROGRAM)
                .args(["verify", "--pages", "-d", conninfo])
                .args(options)
                .output()
                .expect("the program starts");
            assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
            let asked = server.log()[from..].contains("pg_ls_dir");
            assert_eq!(asked, !is_here, "{}, {conninfo} {options:?}", version.major);
        }
    }
}

/// The process that reads it is left alone: who waits for a disk cannot be ended, not
/// even by SIGKILL.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_sticks_keeps_no_other_file_from_being_looked_at() {
    let server = Server::start(&Version::major(15), ServerOptions::checksums(true));
    for name in ["stuck", "other"] {
        let sql = format!(
            "CREATE TABLE {name} AS SELECT i, md5(i::text) m FROM generate_series(1, 30000) i"
        );
        server.execute(DB, &sql).await;
    }
    let (path, blocks) = paths(&server, DB, &["SELECT 'stuck'::regclass"]).await.remove(0);
    assert!(blocks > 200, "{blocks}");
    assert_eq!(server.stop(), Stop::Clean);
    let Some(disk) = FuseFile::instead_of(&server.data_dir().join(path)) else { return };
    server.start_again();
    // One that it says that it cannot give is damaged, alone.
    disk.does(7, Ill::Fails);
    for options in [&[][..], &["--no-pgdata"]] {
        let named = named_relations(&report_of(&server, DB, options));
        assert_eq!(named, [("stuck".to_owned(), [7].into())].into(), "{options:?}");
    }
    disk.heal();
    disk.does(100, Ill::Sticks);
    let found = report_of(&server, DB, &["-j1", "--read-timeout", "1s"]);
    assert_eq!(found["exit_code"], 3, "{found:#}");
    for relation in list(&found["relations"]) {
        let expected = if relation["name"] == "stuck" { "incomplete" } else { "clean" };
        assert_eq!(relation["status"], expected, "{found:#}");
    }
    let reason = list(&found["relations"]).iter().find_map(|r| r["reason"].as_str());
    assert!(reason.is_some_and(|why| why.contains("did not answer for 1s")), "{reason:?}");
    disk.heal();
    assert_eq!(report_of(&server, DB, &[])["exit_code"], 0);
    assert_eq!(server.stop(), Stop::Clean);
}

/// One that is told to stop with all of a service goes on, and one that was killed is
/// replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_reads_files_may_be_interrupted_or_killed() {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    let all = report_of(&server, DB, &[]);
    for signal in [Signal::INT, Signal::KILL] {
        let conninfo = server.conninfo(DB);
        let child = Command::new(PROGRAM)
            .args(["verify", "--pages", "-j1", "--max-rate", "4MB", "--format", "json"])
            .args(["-d", &conninfo])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        std::thread::sleep(Duration::from_millis(900));
        let mut signalled = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs") {
            let children = task.expect("a thread").path().join("children");
            let children = std::fs::read_to_string(children).unwrap_or_default();
            for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                kill_process(Pid::from_raw(pid).expect("a process"), signal).expect("it runs");
                signalled += 1;
            }
        }
        assert!(signalled > 0, "nobody reads");
        let out = child.wait_with_output().expect("it ends");
        assert_eq!(out.status.code(), Some(0), "{signal:?}");
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).expect("a report");
        let blocks = |report: &serde_json::Value| report["databases"][0]["pages"]["blocks"].clone();
        assert_eq!(blocks(&report), blocks(&all), "{signal:?}");
    }
}
