//! The worst day of a database: a private server is damaged in a dozen ways at
//! once, `pg_salvage dump` reads it, and what came out is held against the
//! truth row by row.
//!
//! ```text
//! cargo build --release && cargo run --release --example worst_day
//! ... -- --major 15          another PostgreSQL than the newest found
//! ... -- --no-checksums      a server without data checksums
//! ... -- --scale 1           45 MB in place of 300
//! ```
//!
//! The server lives in a temporary folder and is gone at the end. The exit code
//! is 0 only if nothing that must hold is broken; see `score.rs` for what must.

#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

#[path = "../../tests/kit/mod.rs"]
mod kit;
mod score;
mod shop;
mod truth;
mod wounds;

use kit::{Server, ServerOptions, Stop, Version};
use pg_salvage::output::manifest::Manifest;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

const DATABASE: &str = "shop";

/// One row is made so that reading it takes the server down; to find out which
/// costs three crashes.
const MAX_CRASHES: &str = "6";

struct Options {
    version: Version,
    checksums: bool,
    scale: u32,
    /// The pg_salvage to try.
    program: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("worst_day: error: {wrong}");
            return ExitCode::FAILURE;
        }
    };
    let day = Instant::now();
    let said = |text: &str| println!("[{:5.1} s] {text}", day.elapsed().as_secs_f64());

    let major = options.version.major;
    let sums = if options.checksums { "with" } else { "WITHOUT" };
    said(&format!("starting a private PostgreSQL {major} {sums} data checksums"));
    let wishes = ServerOptions { on_disk: true, ..ServerOptions::checksums(options.checksums) };
    let server = Server::start(&options.version, wishes);
    shop::create(&server, DATABASE, options.scale).await;
    let size = shop::size(&server, DATABASE).await;
    said(&format!("made a database of {size}: a shop, and one of everything PostgreSQL has"));

    let places = wounds::places(&server, DATABASE, options.checksums).await;
    let truth = truth::take(&server, DATABASE).await;
    said(&format!(
        "remembered the truth: {} rows of {} relations",
        score::grouped(truth.rows()),
        truth.relations.len()
    ));
    assert_eq!(server.stop(), Stop::Clean, "only then its files hold everything");

    let wounds = wounds::inflict(&server, &places);
    said("stopped the server, and damaged its files:");
    for wound in &wounds {
        println!("            {:28} {}", wound.relation, wound.what);
    }
    // What pg_dump reads it may also change: it gets a copy.
    let copy = server.copy();
    pg_dump(&copy, major, &said);
    drop(copy);

    server.start_again();
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!();
    let begun = Instant::now();
    let code = salvage(&options.program, &server, folder.path());
    let took = begun.elapsed();
    said(&format!("pg_salvage ended with exit code {code} after {:.1} s", took.as_secs_f64()));

    let dir = folder.path().join("dump");
    let manifest = std::fs::read(dir.join("manifest.json")).expect("manifest.json");
    let manifest = Manifest::from_json(&manifest).expect("a manifest");
    let score = score::of(&truth, &wounds, &manifest, &dir, options.checksums, code).await;
    said("held every row of the dump against the truth");
    println!();
    score.print();
    if score.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        version: Version::newest(),
        checksums: true,
        scale: 10,
        program: beside_this_program(),
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--major" => {
                let major = value()?.parse().map_err(|_| "--major needs a number, as in 15")?;
                options.version = Version::major(major);
            }
            "--no-checksums" => options.checksums = false,
            "--scale" => {
                let scale = value()?.parse().ok().filter(|s| (1..=1000).contains(s));
                options.scale = scale.ok_or("--scale needs a number from 1 to 1000")?;
            }
            "--program" => options.program = value()?.into(),
            _ => {
                return Err(format!(
                    "unknown option \"{arg}\"; there are --major N, --no-checksums, --scale N and --program PATH"
                ));
            }
        }
    }
    options.program = options.program.canonicalize().map_err(|e| {
        let program = options.program.display();
        format!("there is no {program} ({e}); build it first: cargo build --release")
    })?;
    Ok(options)
}

/// `target/release/pg_salvage`, if this is `target/release/examples/worst_day`.
fn beside_this_program() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    let folder = this.parent().and_then(Path::parent).expect("two folders above");
    folder.join("pg_salvage")
}

/// How far pg_dump comes.
fn pg_dump(server: &Server, major: u32, said: &impl Fn(&str)) {
    let Some(program) = kit::version::find_client_program("pg_dump", major) else {
        said("there is no pg_dump for this server here, so it is not tried");
        return;
    };
    server.start_again();
    let output = Command::new(program)
        .arg("--verbose")
        .args(["--format=custom", "--file=/dev/null", "--dbname"])
        .arg(server.conninfo(DATABASE))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .expect("pg_dump can be run");
    let words = String::from_utf8_lossy(&output.stderr);
    let reached = words.lines().filter(|l| l.contains("dumping contents of table")).count();
    let errors = ["error: ", "Error message from server: ", "connection to server was lost"];
    let first = words.lines().find(|line| errors.iter().any(|e| line.contains(e)));
    let first = first.unwrap_or("(it had nothing to say)");
    said(&format!("pg_dump, on a copy, ended with {}:", output.status));
    println!("            {first}");
    // The one at which it stopped is not in its archive, either.
    let done = if output.status.success() { reached } else { reached.saturating_sub(1) };
    println!("            it had finished {done} tables by then, and never got to the others");
}

/// Runs the program in this folder as an operator would, and shows what it says.
fn salvage(program: &Path, server: &Server, folder: &Path) -> i32 {
    println!("$ pg_salvage dump -d {DATABASE} -f dump -j2 --max-crashes {MAX_CRASHES}");
    let output = Command::new(program)
        .args(["dump", "-j2", "--max-crashes", MAX_CRASHES, "-d"])
        .arg(server.conninfo(DATABASE))
        .args(["-f", "dump"])
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("pg_salvage can be run");
    for words in [&output.stderr, &output.stdout] {
        for line in String::from_utf8_lossy(words).lines() {
            println!("  {line}");
        }
    }
    println!();
    output.status.code().unwrap_or(-1)
}
