//! Runs that are ended in the middle, at every write and in every way, and gone
//! on with: what comes out is what a run gives that nobody disturbed.

mod ended;
mod every_write;
mod seams;

use crate::kit::dumped::{Dumped, check_same};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version};
use crate::kit::{harm, oracle, sample};
use pg_salvage::output::manifest::RowClass;
use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";
/// What takes the server down is found by reading it.
const NEVER: &str = "--check-pages=never";

/// A dump into a directory, with variables in its environment.
fn run(server: &Server, dir: &Path, options: &[&str], env: &[(&str, String)]) -> Output {
    Command::new(PROGRAM)
        .args(["dump", "--raw-rows=never", "--no-schema", "--split-size", "64kB", "-d"])
        .arg(server.conninfo(DB))
        .arg("-f")
        .arg(dir)
        .args(options)
        .envs(env.iter().map(|(name, value)| (*name, value)))
        .output()
        .expect("the program starts")
}

fn said(out: &Output) -> String {
    let said = [&out.stdout, &out.stderr].map(|b| String::from_utf8_lossy(b).into_owned()).concat();
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// A database with tables that are well, damaged, small, empty.
async fn damaged(version: &Version, harms: &[(&str, Harm)]) -> Server {
    let server = Server::start(version, ServerOptions::checksums(true));
    let client = server.connect(DB).await;
    client
        .batch_execute(
            "CREATE TABLE empty (i int); CREATE TABLE none (); CREATE UNLOGGED TABLE unlogged (i int);
             INSERT INTO unlogged SELECT generate_series(1, 1000);
             CREATE TABLE small1 AS SELECT i FROM generate_series(1, 10) i;
             CREATE TABLE small2 (s serial); INSERT INTO small2 DEFAULT VALUES",
        )
        .await
        .expect("it works");
    let names: Vec<&str> = harms.iter().map(|(name, _)| *name).collect();
    sample::victims(&server, DB, &[&["well"], &names[..]].concat()).await;
    let mut places = Vec::new();
    for (name, _) in harms {
        places.push(Places::of(&client, &format!("public.{}", oracle::quote(name))).await);
    }
    drop(client);
    assert_eq!(server.stop(), Stop::Clean);
    for (places, (_, what)) in places.iter().zip(harms) {
        let at = Place::middle(places.blocks);
        let after = match what {
            Harm::BadPageHeader | Harm::Checksum => ChecksumAfter::Stale,
            _ => ChecksumAfter::Recomputed,
        };
        harm(&server, places, *what, at, after);
    }
    server.start_again();
    server
}
