//! The binary as its users have it: run, with what it printed and its exit
//! code, and its dump directory held against a database.
//!
//! Tests take it in beside the kit: `#[path = "binary/mod.rs"] mod binary;`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod dump;
pub mod truth;

pub use dump::Dump;

use crate::kit::Server;
use std::ffi::OsStr;
use std::process::{Child, Command, Output, Stdio};

/// What a run of the binary came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The binary with these arguments, in an environment that has nothing to say
/// about PostgreSQL.
pub fn command<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pg_salvage"));
    command.args(args).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    command.env("COLUMNS", "80").stdin(Stdio::null()).current_dir("/");
    command
}

/// Runs it to its end.
pub fn run<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Ran {
    Ran::of(command(args).output().expect("the binary can be run"))
}

/// Begins a run that goes on beside the test; [`Ran::wait`] takes it in.
pub fn begin<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Child {
    let mut command = command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary can be run")
}

impl Ran {
    pub fn of(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the binary prints UTF-8");
        let code = output.status.code().expect("the binary was not killed");
        Ran { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub fn wait(child: Child) -> Ran {
        Ran::of(child.wait_with_output().expect("the binary ends"))
    }
}

/// The words that a command begins with, for the superuser of this server.
pub fn words(command: &str, server: &Server, dbname: &str) -> Vec<String> {
    words_as(command, server, dbname, "postgres")
}

/// The same for any user.
pub fn words_as(command: &str, server: &Server, dbname: &str, user: &str) -> Vec<String> {
    let host = server.socket_dir().display().to_string();
    let port = server.port().to_string();
    ["-d", dbname, "-h", &host, "-p", &port, "-U", user, "-w"].iter().fold(
        vec![command.to_owned()],
        |mut words, word| {
            words.push((*word).to_owned());
            words
        },
    )
}
