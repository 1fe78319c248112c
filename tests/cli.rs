//! The binary as it is typed: help, and what is said when it cannot be done.
//!
//! Texts stand here as they are printed; `UPDATE_EXPECT=1 cargo test --test all cli::`
//! writes them anew.

mod help;
mod help_of_report;
mod help_of_restore;
mod help_of_verify;
mod pages;
mod refused;

use crate::binary::run;
use expect_test::expect;

#[test]
fn the_version_is_the_crates() {
    for option in ["--version", "-V"] {
        let ran = run([option]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{option}");
        assert_eq!(ran.stdout, format!("pg_salvage {}\n", env!("CARGO_PKG_VERSION")), "{option}");
    }
}

/// All exit with 1 and print nothing to stdout; of stderr the first lines.
#[test]
fn what_makes_no_sense_is_said_in_one_line() {
    let typed = [
        "nonsense",
        "--nonsense",
        "dump",
        "dump -f",
        "dump -f x --nonsense",
        "dump -f x a b",
        "dump -f x -d a b",
        "dump -f x -w -W",
        "dump -f x -n",
        "dump -f x -Z bzip2",
        "dump -f x -Z zstd:99",
        "dump -f x -j 0",
        "dump -f x -j 257",
        "dump -f x -j many",
        "dump -f x --split-size 7",
        "dump -f x --split-size 1XB",
        "dump -f x --lock-timeout 7",
        "dump -f x --statement-timeout -1s",
        "dump -f x --crash-wait soon",
        "dump -f x --max-crashes -1",
        "dump -f x --color blue",
        "dump -f x --log-format xml",
        "dump -f x -t a.b.c.d",
        "dump -f x -n a.b.c",
        "dump -f x -t a(b",
        "dump -f x -p seven",
        "dump -f x -p 99999",
        "dump -f x -d postgres://x?nonsense=1",
        "verify -f x",
        "list -j 2",
        "report",
        "report a b",
        "report a --format pdf",
    ];
    let mut said = String::new();
    for words in typed {
        let ran = run(words.split(' '));
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{words}: {}", ran.stderr);
        let first: Vec<&str> = ran.stderr.lines().take_while(|line| !line.is_empty()).collect();
        said.push_str(&format!("$ pg_salvage {words}\n{}\n", first.join("\n")));
    }
    assert!(!std::path::Path::new("/x").exists());
    expect![[r#"
        $ pg_salvage nonsense
        error: unrecognized subcommand 'nonsense'
        $ pg_salvage --nonsense
        error: unexpected argument '--nonsense' found
        $ pg_salvage dump
        error: the following required arguments were not provided:
          --file <DIR>
        $ pg_salvage dump -f
        error: a value is required for '--file <DIR>' but none was supplied
        $ pg_salvage dump -f x --nonsense
        error: unexpected argument '--nonsense' found
        $ pg_salvage dump -f x a b
        error: unexpected argument 'b' found
        $ pg_salvage dump -f x -d a b
        error: the argument '--dbname <DBNAME>' cannot be used with '[DBNAME]'
        $ pg_salvage dump -f x -w -W
        error: the argument '--no-password' cannot be used with '--password'
        $ pg_salvage dump -f x -n
        error: a value is required for '--schema <PATTERN>' but none was supplied
        $ pg_salvage dump -f x -Z bzip2
        error: invalid value 'bzip2' for '--compress <METHOD[:LEVEL]>': invalid compression "bzip2": expected zstd, gzip, lz4 or none, with an optional level as in zstd:6 (zstd -131072 to 22, default 3; gzip 1 to 9, default 6; lz4 1 to 12, default 1)
        $ pg_salvage dump -f x -Z zstd:99
        error: invalid value 'zstd:99' for '--compress <METHOD[:LEVEL]>': invalid compression "zstd:99": expected zstd, gzip, lz4 or none, with an optional level as in zstd:6 (zstd -131072 to 22, default 3; gzip 1 to 9, default 6; lz4 1 to 12, default 1)
        $ pg_salvage dump -f x -j 0
        error: invalid value '0' for '--jobs <N>': 0 is not in 1..=256
        $ pg_salvage dump -f x -j 257
        error: invalid value '257' for '--jobs <N>': 257 is not in 1..=256
        $ pg_salvage dump -f x -j many
        error: invalid value 'many' for '--jobs <N>': invalid digit found in string
        $ pg_salvage dump -f x --split-size 7
        error: invalid value '7' for '--split-size <SIZE>': write it with a unit, as in 512kB, 64MB, 1GB
        $ pg_salvage dump -f x --split-size 1XB
        error: invalid value '1XB' for '--split-size <SIZE>': write it with a unit, as in 512kB, 64MB, 1GB
        $ pg_salvage dump -f x --lock-timeout 7
        error: invalid value '7' for '--lock-timeout <DURATION>': write it with a unit, as in 500ms, 10s, 5min, 4h
        $ pg_salvage dump -f x --statement-timeout -1s
        error: unexpected argument '-1' found
        $ pg_salvage dump -f x --crash-wait soon
        error: invalid value 'soon' for '--crash-wait <DURATION>': write it with a unit, as in 500ms, 10s, 5min, 4h
        $ pg_salvage dump -f x --max-crashes -1
        error: unexpected argument '-1' found
        $ pg_salvage dump -f x --color blue
        error: invalid value 'blue' for '--color <COLOR>'
          [possible values: auto, always, never]
        $ pg_salvage dump -f x --log-format xml
        error: invalid value 'xml' for '--log-format <LOG_FORMAT>'
          [possible values: text, json]
        $ pg_salvage dump -f x -t a.b.c.d
        pg_salvage: error: improper qualified name (too many dotted names): a.b.c.d
        $ pg_salvage dump -f x -n a.b.c
        pg_salvage: error: improper qualified name (too many dotted names): a.b.c
        $ pg_salvage dump -f x -t a(b
        pg_salvage: error: invalid regular expression in pattern "a(b": unclosed group
        $ pg_salvage dump -f x -p seven
        pg_salvage: error: invalid integer value "seven" for connection option "port"
        $ pg_salvage dump -f x -p 99999
        pg_salvage: error: invalid port number: "99999"
        $ pg_salvage dump -f x -d postgres://x?nonsense=1
        pg_salvage: error: invalid URI query parameter: "nonsense"
        $ pg_salvage verify -f x
        error: unexpected argument '-f' found
        $ pg_salvage list -j 2
        error: unexpected argument '-j' found
        $ pg_salvage report
        error: the following required arguments were not provided:
          <SOURCE>
        $ pg_salvage report a b
        error: unexpected argument 'b' found
        $ pg_salvage report a --format pdf
        error: invalid value 'pdf' for '--format <FORM>'
          [possible values: text, json, csv, junit, openmetrics, html]
    "#]].assert_eq(&said);
}

#[test]
fn without_a_command_the_help_is_shown_and_nothing_is_done() {
    let ran = run([""; 0]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_eq!(ran.stderr, run(["--help"]).stdout);
}
