//! What is right as it is typed, and cannot be done: one line on stderr, exit
//! code 1, and nothing left behind.

use crate::binary::dump::names_in;
use crate::binary::{Ran, command, words_as};
use crate::kit::{Server, ServerOptions, Version};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Runs, and says the one line without what differs from run to run.
fn refused(mut command: Command, hidden: &[&Path]) -> String {
    let case = format!("{command:?}");
    let ran = Ran::of(command.output().expect("the binary can be run"));
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{case}: {}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{case}: {}", ran.stderr);
    let line = ran.stderr.strip_prefix("pg_salvage: error: ").expect("it begins with our name");
    let names = ["TEMP", "SERVER"];
    let hide = |line: String, (path, name): (&&Path, &str)| {
        line.replace(&path.display().to_string(), name)
    };
    hidden.iter().zip(names).fold(line.trim_end().to_owned(), hide)
}

fn dump_to(dir: &Path, connection: &[&str]) -> Command {
    let mut command = command(["dump", "-f"]);
    command.arg(dir).args(connection).arg("-w");
    command
}

#[test]
fn a_server_that_is_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("dump");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("an address").port().to_string();
    drop(free);
    let cases: [(&[&str], String); 3] = [
        (
            &["-d", "x", "-U", "u", "-h", "127.0.0.1", "-p", &port],
            format!("could not connect to server on host \"127.0.0.1\", port {port}: connection refused"),
        ),
        (
            &["-d", "x", "-U", "u", "-h", "/nonexistent", "-p", "1"],
            "could not connect to server on socket \"/nonexistent/.s.PGSQL.1\": no such file or directory"
                .to_owned(),
        ),
        (
            &["-d", "x", "-U", "u", "-h", "no-such-host.invalid"],
            "could not connect to server on host \"no-such-host.invalid\", port 5432: could not translate host \
             name \"no-such-host.invalid\" to address: "
                .to_owned(),
        ),
    ];
    for (connection, expected) in cases {
        let said = refused(dump_to(&dir, connection), &[]);
        // Why a name is not known differs from system to system.
        assert!(
            said == expected || expected.ends_with(": ") && said.starts_with(&expected),
            "{said}"
        );
        assert!(!dir.exists(), "{said}: a directory is left behind");
    }
}

#[tokio::test]
async fn a_server_that_says_no() {
    let hba = "local all postgres trust\nlocal all all scram-sha-256\n".to_owned();
    let options = ServerOptions { hba: Some(hba), ..ServerOptions::default() };
    let server = Server::start(&Version::newest(), options);
    server
        .execute("postgres", "CREATE ROLE guarded LOGIN PASSWORD 'right'; CREATE TABLE t (i int)")
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("dump");
    let hidden = [folder.path(), server.socket_dir()];
    let at = "could not connect to server on socket \"SERVER/.s.PGSQL.5432\": ";
    let cases = [
        (
            "guarded",
            "postgres",
            Some("wrong"),
            "FATAL: password authentication failed for user \"guarded\"",
        ),
        ("guarded", "postgres", None, "no password supplied"),
        (
            "nobody_knows",
            "postgres",
            Some("any"),
            "FATAL: password authentication failed for user \"nobody_knows\"",
        ),
        (
            "postgres",
            "no such database",
            None,
            "FATAL: database \"no such database\" does not exist",
        ),
    ];
    for word in ["dump", "verify", "list"] {
        for (user, dbname, password, expected) in cases {
            let mut command = command(words_as(word, &server, dbname, user));
            command.envs(password.map(|password| ("PGPASSWORD", password)));
            if word == "dump" {
                command.arg("-f").arg(&dir);
            }
            let said = refused(command, &hidden);
            assert_eq!(said.strip_prefix(at), Some(expected), "{word}: {said}");
            assert!(!dir.exists(), "{word}: {said}: a directory is left behind");
        }
    }
    // With the right one it works, so it was the password.
    let mut right = command(words_as("list", &server, "postgres", "guarded"));
    assert!(right.env("PGPASSWORD", "right").output().expect("it runs").status.success());
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_stays_as_it_was() {
    let server = Server::start(&Version::newest(), ServerOptions::default());
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("used")).expect("a folder");
    std::fs::write(at("used/something"), "kept").expect("a file");
    std::fs::write(at("file"), "kept").expect("a file");
    std::fs::set_permissions(at("used"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let cases = [
        (
            "used",
            "directory \"TEMP/used\" is not empty (it has \"something\"); give the name of a new directory",
        ),
        ("file", "\"TEMP/file\" exists and is not a directory; give the name of a new directory"),
        (
            "no/parent",
            "could not create directory \"TEMP/no/parent\": there is no directory \"TEMP/no\" to create it in",
        ),
    ];
    let run = |dir: &Path| {
        let mut command = command(words_as("dump", &server, "postgres", "postgres"));
        command.arg("-f").arg(dir);
        command
    };
    for (name, expected) in cases {
        assert_eq!(refused(run(&at(name)), &[folder.path()]), expected);
    }
    // The kernel itself lets nobody make anything there, root neither.
    let said = refused(run(Path::new("/proc/dump")), &[]);
    assert!(said.starts_with("could not create directory \"/proc/dump\": "), "{said}");
    assert_eq!(names_in(folder.path()), ["file", "used"]);
    assert_eq!(names_in(&at("used")), ["something"]);
    let mode = std::fs::metadata(at("used")).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "the mode of a directory that was refused");
    assert_eq!(std::fs::read(at("file")).expect("a file"), b"kept");
}

#[tokio::test]
async fn an_empty_directory_is_used_and_closed_to_others() {
    let server = Server::start(&Version::newest(), ServerOptions::default());
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("chmod");
    let mut command = command(words_as("dump", &server, "postgres", "postgres"));
    let status = command.arg("-f").arg(folder.path()).output().expect("it runs").status;
    assert!(status.success());
    let mode = std::fs::metadata(folder.path()).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_report_of_what_is_no_dump() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = || {
        let mut command = command(["report"]);
        command.arg(folder.path());
        refused(command, &[folder.path()])
    };
    let path = "could not read \"TEMP/manifest.json\"";
    assert_eq!(report(), format!("{path}: No such file or directory (os error 2)"));
    let cases = [
        ("", "the manifest cannot be read: EOF while parsing a value at line 1 column 0"),
        ("{\"format", "the manifest cannot be read: EOF while parsing a string at line 1 column 8"),
        ("{}", "the manifest cannot be read: missing field `format_version` at line 1 column 2"),
        (
            "{\"format_version\": 1}",
            "the manifest cannot be read: missing field `tool` at line 1 column 21",
        ),
        (
            "{\"format_version\": 2}",
            "the manifest has format version 2, and this program reads version 1",
        ),
    ];
    for (text, expected) in cases {
        std::fs::write(folder.path().join("manifest.json"), text).expect("a file");
        assert_eq!(report(), format!("{path}: {expected}"));
    }
    assert_eq!(names_in(folder.path()), ["manifest.json"]);
}

/// Of a good dump, `report` says what the run said.
#[tokio::test]
async fn a_report_is_what_the_run_has_printed() {
    let server = Server::start(&Version::newest(), ServerOptions::default());
    server
        .execute("postgres", "CREATE TABLE t AS SELECT 1 AS one; CREATE VIEW v AS SELECT 1 AS one")
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("dump");
    let mut dump = command(words_as("dump", &server, "postgres", "postgres"));
    let dumped = Ran::of(dump.arg("-f").arg(&dir).output().expect("it runs"));
    let report = Ran::of(command(["report"]).arg(&dir).output().expect("it runs"));
    assert_eq!((dumped.code, report.code, report.stderr.as_str()), (0, 0, ""));
    assert_eq!(report.stdout, dumped.stdout);
}
