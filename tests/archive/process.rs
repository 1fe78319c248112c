//! The program that is asked for the schema: what it is given, and how it ends.
//!
//! A script stands in for it, since a real one shows neither.

use super::{DB, PROGRAM};
use crate::kit::{Server, ServerOptions, Version};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// Says that it is a new pg_dump; writes down its process id, its arguments and
/// its password; then does this.
fn script(folder: &Path, then: &str) -> PathBuf {
    let path = folder.join("pg_dump");
    let told = folder.join("told").display().to_string();
    let text = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'pg_dump (PostgreSQL) 99.1'; exit; fi\n\
         {{ echo $$; echo \"$@\"; echo \"$PGPASSWORD\"; }} > {told}.part\nmv {told}.part {told}\n{then}\n"
    );
    std::fs::write(&path, text).expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    path
}

fn begin(server: &Server, folder: &Path, then: &str) -> std::process::Child {
    let conninfo = format!("{} password=secret1", server.conninfo(DB));
    let mut program = Command::new(PROGRAM);
    program.args(["dump", "--no-sync", "-d", &conninfo, "-f"]).arg(folder.join("dump"));
    program.arg("--pg-dump").arg(script(folder, then));
    program.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

async fn server() -> Server {
    let server = Server::start(&Version::major(15), ServerOptions::default());
    server.create_database(DB).await;
    server.execute(DB, "CREATE TABLE t AS SELECT 1 AS id").await;
    server
}

#[tokio::test]
async fn it_is_given_the_password_out_of_sight_and_what_it_says_is_kept() {
    let server = server().await;
    let folder = tempfile::tempdir().expect("a folder");
    let then = "echo 'pg_dump: error: no' >&2; echo 'pg_dump: hint: nor so' >&2; exit 1";
    let out = begin(&server, folder.path(), then).wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let told = std::fs::read_to_string(folder.path().join("told")).expect("it was run");
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told[2], "secret1");
    assert!(!told[1].contains("secret1") && told[1].contains("--schema-only"), "{}", told[1]);
    assert!(told[1].contains("--snapshot=") && told[1].contains("--encoding=UTF8"), "{}", told[1]);
    let said = String::from_utf8_lossy(&out.stderr);
    let line = said.lines().find(|line| line.contains("error: no; hint: nor so"));
    assert!(line.is_some(), "{said}");
    assert!(folder.path().join("dump/toc.dat").exists(), "it was described by other words");
}

#[tokio::test]
async fn a_run_that_is_stopped_ends_it() {
    let server = server().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = begin(&server, folder.path(), "exec sleep 1000");
    let begun = Instant::now();
    let told = folder.path().join("told");
    while !told.exists() {
        assert!(begun.elapsed() < PATIENCE, "it was not run");
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = |id: u32| rustix::process::Pid::from_raw(i32::try_from(id).expect("a process id"));
    let ours = pid(child.id()).expect("a process id");
    rustix::process::kill_process(ours, rustix::process::Signal::INT).expect("it runs");
    let code = child.wait().expect("it ends").code();
    assert!(begun.elapsed() < PATIENCE, "it took {:?}", begun.elapsed());
    assert_eq!(code, Some(3));
    let told = std::fs::read_to_string(told).expect("it was run");
    let id: u32 = told.lines().next().expect("a line").parse().expect("a process id");
    assert!(!Path::new(&format!("/proc/{id}")).exists(), "it runs still");
    let left = std::fs::read_dir(folder.path().join("dump/schema")).into_iter().flatten().count();
    assert_eq!(left, 0, "what it wrote is left");
}
