//! Unchecked reads that take the server down, or are ended in the middle.

use super::*;
use crate::kit::version::is_wide;
use std::process::Command;

/// What takes the server down is found by reading it.
const NEVER: &str = "--check-pages=never";

const KILLER: [(&str, Harm); 2] = [("killer", Harm::VarlenaLength), ("stale", Harm::Checksum)];

fn causes(dumped: &Dumped, table: &str) -> Vec<String> {
    dumped.relation(table).lost.iter().map(|l| l.cause.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_under_an_unchecked_read_costs_the_tuple_that_is_to_blame() {
    for version in Version::one_or_two() {
        for standby in [false, true] {
            let hurt = hurt(&version, options(), &KILLER, standby).await;
            let options = ["-j2", UNCHECKED, "--allow-on-primary", "--max-crashes", "20", NEVER];
            let dumped = dump(PROGRAM, &hurt.server, DB, &options);
            hurt.server.wait_ready();
            let at = format!("{} standby {standby}: {}", version.major, dumped.said);
            hurt.check(&dumped, &at).await;
            assert_eq!(causes(&dumped, "killer"), ["server_crash"], "{at}");
            assert_eq!(hurt.server.crashes(), 3, "{at}");
        }
    }
}

/// Where no other try is allowed it costs the block, and nothing behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_under_an_unchecked_read_never_costs_more_than_its_block() {
    for version in Version::one_or_two() {
        let hurt = hurt(&version, options(), &KILLER, false).await;
        let options = ["-j2", UNCHECKED, "--allow-on-primary", "--max-crashes", "1", NEVER];
        let dumped = dump(PROGRAM, &hurt.server, DB, &options);
        hurt.server.wait_ready();
        assert_eq!(hurt.server.crashes(), 1, "{}", dumped.said);
        assert_eq!(dumped.manifest.exit_code, 3, "{}", dumped.said);
        let bad = hurt.bad_blocks("killer");
        let entry = dumped.relation("killer");
        let clean = dumped.lines(entry, RowClass::Clean).await;
        assert!(clean == hurt.lines(|r| !bad.contains(&r.block)), "{entry:#?}");
        assert_eq!(causes(&dumped, "killer"), ["not_tried"], "{entry:#?}");
        hurt.check_images(&dumped, "killer", "one crash");
        dumped.check_files("one crash");
    }
}

/// The page of a tuple that takes the server down is had as bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_takes_the_server_down_has_its_image() {
    let options = ServerOptions::checksums(false);
    let hurt = hurt(&Version::newest(), options, &KILLER[..1], false).await;
    let dumped = dump(PROGRAM, &hurt.server, DB, &["--max-crashes", "20", NEVER]);
    hurt.server.wait_ready();
    assert_eq!(causes(&dumped, "killer"), ["server_crash"], "{}", dumped.said);
    hurt.check_images(&dumped, "killer", "killer");
    dumped.check_files("killer");
}

/// Ended at any write and gone on with, with the bad pages in the server's cache:
/// their rows are suspect all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_gone_on_with_trusts_no_page_that_was_read_unchecked() {
    let hurt = hurt(&Version::newest(), options(), &HARMS[..3], true).await;
    let run = |dir: &std::path::Path, die: Option<u64>, more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command
            .args(["dump", "--raw-rows=never", "--no-schema", "-d"])
            .arg(hurt.server.conninfo(DB))
            .arg("-f")
            .arg(dir);
        command.args(["--split-size", "64kB"]).args(more);
        if let Some(n) = die {
            command.env("PG_SALVAGE_DIE_AT", n.to_string());
        }
        let out = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!said.contains("panicked"), "{said}");
        (out.status.code(), said)
    };
    let mut ended = 0;
    for n in (10..1000).step_by(if is_wide() { 7 } else { 17 }) {
        hurt.server.restart();
        let dir = tempfile::tempdir().expect("a folder");
        let (code, said) = run(dir.path(), Some(n), &[UNCHECKED]);
        if code.is_some() {
            assert_eq!(code, Some(2), "{said}");
            break;
        }
        ended += 1;
        let (code, said) = run(dir.path(), None, &[UNCHECKED, "--resume"]);
        assert_eq!(code, Some(2), "{n}: {said}");
        hurt.check(&Dumped::read(dir, said), &format!("ended at {n}")).await;
    }
    assert!(ended > 3, "ended {ended} times");
    // A later run cannot ask for less: it would not know what to make of them.
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(run(dir.path(), Some(60), &[UNCHECKED]).0, None);
    let (code, said) = run(dir.path(), None, &["--resume"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("begun with --ignore-checksum-failure true"), "{said}");
}
