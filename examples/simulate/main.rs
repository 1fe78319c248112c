//! The reads that a salvage makes, without a server: to learn how it works, and
//! to see what damage costs. After ddrescue's test mode.
//!
//! ```text
//! cargo run --release --example simulate
//!         a table of costs on the largest heap that PostgreSQL allows
//! cargo run --example simulate -- -v --blocks 1000 --scattered 3
//!         each read of one salvage, and the map that it ends with
//! cargo run --example simulate -- -v bad.map
//!         the same, with a map that says what is bad
//! ```
//!
//! A map is what a dump leaves in `maps/` (docs/formats.md). In one that is
//! given here, lost blocks (`-`) are pages that the server cannot read, lost
//! tuples (`-` inside of a block) fail when they are read, fenced tuples (`!`)
//! take the server down, and everything else is sound.

#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod cost;
mod fake_heap;
mod told;

use fake_heap::Bad;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Kinds of damage, by the names of `--kind`.
const KINDS: [(&str, &str); 5] = [
    ("page", "a page that the server cannot read, and says which"),
    ("tuple", "a tuple that fails, the server does not say where"),
    ("toast", "a value that is stored elsewhere, and damaged there"),
    ("visibility", "a tuple whose pg_xact segment is missing"),
    ("killer", "a tuple that takes the server down"),
];

/// One bad block of this kind.
fn bad(kind: &str) -> Option<Bad> {
    Some(match kind {
        "page" => Bad::Page,
        "tuple" => Bad::Tuples(vec![50]),
        "toast" => Bad::Toast(vec![50]),
        "visibility" => Bad::Visibility(vec![50]),
        "killer" => Bad::Killers(vec![50]),
        _ => return None,
    })
}

/// Bad blocks all over the heap, at odd distances.
fn scattered(n: u32, blocks: u32, bad: &Bad) -> BTreeMap<u32, Bad> {
    let step = (blocks / n.max(1)).max(1);
    let place = |i: u32| i * step + i.wrapping_mul(2_654_435_761) % step;
    (0..n.min(blocks)).map(|i| (place(i), bad.clone())).collect()
}

/// Bad blocks side by side, in the middle.
fn contiguous(n: u32, blocks: u32, bad: &Bad) -> BTreeMap<u32, Bad> {
    let n = n.min(blocks);
    let start = (blocks - n) / 2;
    (start..start + n).map(|block| (block, bad.clone())).collect()
}

#[derive(Default)]
struct Options {
    verbose: bool,
    blocks: Option<u32>,
    scattered: u32,
    contiguous: u32,
    kind: Option<String>,
    map: Option<String>,
}

fn main() -> ExitCode {
    let done = options(std::env::args().skip(1)).and_then(|options| {
        if options.blocks.is_none() && options.map.is_none() {
            cost::table();
            return Ok(());
        }
        told::one(&options)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("simulate: error: {wrong}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("not a number: \"{text}\""));
        match arg.as_str() {
            "-v" => options.verbose = true,
            "--blocks" => options.blocks = Some(value().and_then(number)?),
            "--scattered" => options.scattered = value().and_then(number)?,
            "--contiguous" => options.contiguous = value().and_then(number)?,
            "--kind" => options.kind = Some(value()?),
            _ if arg.starts_with('-') => {
                let kinds = KINDS.map(|(kind, _)| kind).join("|");
                return Err(format!(
                    "unknown option \"{arg}\"; usage: simulate [-v] [MAP | --blocks N \
                     [--scattered K] [--contiguous K] [--kind {kinds}]]"
                ));
            }
            _ => options.map = Some(arg),
        }
    }
    if options.blocks.is_none() && (options.scattered > 0 || options.contiguous > 0) {
        return Err("--scattered and --contiguous need --blocks".to_owned());
    }
    Ok(options)
}
