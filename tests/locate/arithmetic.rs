//! What `locate` says without a server.

use crate::binary::run;
use expect_test::expect;
use serde_json::Value;

#[test]
fn the_example_of_the_field_comes_out_right() {
    let ran = run(["locate", "base/16384/99454", "335458"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(!ran.stdout.contains("REINDEX"));
    expect![[r#"
        relation "base/16384/99454"
          file base/16384/99454
          named by: SELECT pg_catalog.pg_filenode_relation(1663, 99454); -- in the database with OID 16384
          block 335458: segment 2 (base/16384/99454.2), page 73314, byte 600588288 (0x23cc4000)
          HINT: find what it is in: connect with -d, or read everything
            $ pg_salvage verify -d DBNAME

        NOTE: with a connection (-d DBNAME) this would name the relations, and the tables that indexes and TOAST relations belong to; blocks are taken to be 8192 bytes, segments to have 131072 of them (--block-size, --segment-size)

        Before anything else, in this order:
          1. contain: keep writers away, stop nightly jobs, and keep every backup that there is; run no VACUUM, no pg_resetwal and no zero_damaged_pages on the only copy
          2. copy the files first: stop the server, copy the whole data directory with its tablespaces, and work on the copy
          3. look for a healthy standby, or restore a backup elsewhere and roll it forward: where one has the data, failing over to it beats any repair
          4. then follow the hints above
    "#]].assert_eq(&ran.stdout);
    let line = "2026-11-28 16:52:12 UTC [7] ERROR:  invalid page in block 335458 of relation base/16384/99454\n";
    let log = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(log.path(), line).expect("it is written");
    let path = log.path().display().to_string();
    let ran = run(["locate", "--json", &path]);
    assert_eq!((ran.code, ran.stderr.as_str()), (2, ""));
    let all: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let block = &all["objects"][0]["blocks"][0];
    for (field, value) in [("segment", 2), ("page", 73_314), ("byte", 600_588_288)] {
        assert_eq!(block[field], value);
    }
    assert_eq!(all["objects"][0]["first_seen"], "2026-11-28 16:52:12 UTC");
}

#[test]
fn other_sizes_of_blocks_and_segments_are_taken() {
    let place = |more: &[&str]| {
        let ran = run([&["locate", "--json", "base/5/16468.1", "40000"], more].concat());
        let all: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let block = &all["objects"][0]["blocks"][0];
        [&block["first"], &block["segment"], &block["page"], &block["byte"]]
            .map(|v| v.as_u64().expect("a number"))
    };
    // Within the segment that is named.
    assert_eq!(place(&[]), [171_072, 1, 40_000, 327_680_000]);
    // Too many for one of these segments: of the relation.
    assert_eq!(place(&["--block-size", "32kB"]), [40_000, 1, 7_232, 236_978_176]);
    assert_eq!(place(&["--segment-size", "64MB"]), [40_000, 4, 7_232, 59_244_544]);
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let mut said = String::new();
    for words in [
        "locate /nonexistent.log",
        "locate base/5/16468 x",
        "locate base/5/16468 99999999999",
        "locate --block-size 7kB x",
        "locate -d x -w -W x",
    ] {
        let ran = run(words.split(' '));
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{words}");
        said.push_str(&format!(
            "$ pg_salvage {words}\n{}\n",
            ran.stderr.lines().next().unwrap_or_default()
        ));
    }
    // Nothing at all was read.
    let ran = run(["locate"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    expect![[r#"
        $ pg_salvage locate /nonexistent.log
        pg_salvage: error: could not read "/nonexistent.log": No such file or directory (os error 2)
        $ pg_salvage locate base/5/16468 x
        pg_salvage: error: "x" is neither a file nor a number of a block
        $ pg_salvage locate base/5/16468 99999999999
        pg_salvage: error: "99999999999" is neither a file nor a number of a block
        $ pg_salvage locate --block-size 7kB x
        error: invalid value '7kB' for '--block-size <SIZE>': a block has 1, 2, 4, 8, 16 or 32 kB
        $ pg_salvage locate -d x -w -W x
        error: the argument '--no-password' cannot be used with '--password'
    "#]]
    .assert_eq(&said);
}
