//! Every example runs, and prints what the documents say.

use std::path::Path;
use std::process::{Command, Output};

/// Runs an example as `cargo run` does, built as this test is.
fn example(name: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["run", "--quiet", "--example", name]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.arg("--").args(args).output().expect("cargo can be run")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_example_is_tried_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .expect("the examples")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, ["demo", "simulate", "worst_day"]);
}

/// docs/salvage.md shows this run.
#[test]
fn a_salvage_is_told_read_by_read() {
    let map = tempfile::NamedTempFile::new().expect("a temporary file");
    let bad = "# pg_salvage map, version 1\n(0,0) (5,0) +\n(5,0) (6,0) -\n\
               (6,0) (9,3) +\n(9,3) (9,4) -\n(9,4) (20,0) +\n";
    std::fs::write(map.path(), bad).expect("the map is written");
    let output = example("simulate", &["-v", map.path().to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    let shown = std::fs::read_to_string("docs/salvage.md").expect("docs/salvage.md");
    for line in stdout(&output).lines() {
        assert!(shown.contains(line.trim_end()), "docs/salvage.md does not show: {line}");
    }
    assert!(stdout(&output).ends_with("2 places lost; 2 blocks damaged, 1 of them lost\n"));
}

#[test]
fn damage_can_be_simulated_in_every_kind() {
    for kind in ["page", "tuple", "toast", "visibility", "killer"] {
        let args = ["--blocks", "500", "--scattered", "3", "--contiguous", "5", "--kind", kind];
        let output = example("simulate", &args);
        assert!(output.status.success(), "{kind}: {output:?}");
        assert!(stdout(&output).contains("500 blocks, 8 of them bad: "), "{}", stdout(&output));
    }
    let output = example("simulate", &["--kin", "page"]);
    assert_eq!(output.status.code(), Some(1));
}

/// What the README says of the demonstration, on a small database.
#[test]
fn on_the_worst_day_nothing_undamaged_is_lost_and_all_that_is_named_is_damaged() {
    let output =
        example("worst_day", &["--scale", "1", "--program", env!("CARGO_BIN_EXE_pg_salvage")]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let score = text.lines().last().expect("a last line");
    for part in
        ["SCORE ok: ", "; 0 undamaged missing, 0 altered; ", "11 of 11 damaged", ", 0 wrongly"]
    {
        assert!(score.contains(part), "{part}: {score}");
    }
}
