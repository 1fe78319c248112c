//! Manual pages and completions, as they are written.

use crate::binary::run;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn there_is_a_manual_page_for_each_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let ran = run(["man", dir.path().to_str().expect("UTF-8")]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", ""));
    for name in ["pg_salvage", "pg_salvage-dump", "pg_salvage-report", "pg_salvage-man"] {
        let page = std::fs::read_to_string(dir.path().join(format!("{name}.1")));
        let page = page.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(page.contains(&format!(".TH {} 1", name.to_uppercase())), "{page}");
    }
    let ran = run(["man", "/nonexistent"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("could not write \"/nonexistent/"), "{}", ran.stderr);
}

#[test]
fn completions_are_a_script_that_the_shell_takes() {
    let ran = run(["completions", "bash"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let mut shell = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash");
    let mut stdin = shell.stdin.take().expect("a pipe");
    stdin.write_all(ran.stdout.as_bytes()).expect("it is read");
    drop(stdin);
    assert!(shell.wait().expect("it ends").success());
}
