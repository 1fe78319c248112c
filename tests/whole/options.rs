//! Options that change how tables are read or packed, and never what comes out.

use crate::binary::{Dump, dump, run, truth, words};
use crate::kit::{Server, ServerOptions, sample};
use std::collections::BTreeMap;

/// The bytes of every data file, by its name.
fn files(dump: &Dump) -> BTreeMap<String, Vec<u8>> {
    let relations = dump.manifest.relations.iter();
    let files = relations.flat_map(|r| &r.files);
    files
        .map(|f| (f.path.clone(), std::fs::read(dump.dir.join(&f.path)).expect("a file")))
        .collect()
}

#[tokio::test]
async fn files_are_the_same_for_any_number_of_jobs() {
    for version in crate::kit::Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::create(&server, "sample", 3).await;
        sample_with_large_table(&server).await;
        let truth = truth::of(&server, "sample").await;
        let split = ["--split-size", "64kB"];
        let first = Dump::of(&server, "sample", &[&["-j1"], &split[..]].concat());
        first.assert_clean();
        first.assert_equals(&truth).await;
        let in_ranges = first.manifest.relations.iter().filter(|r| r.blocks.total > 8).count();
        assert!(in_ranges >= 5, "{}: {in_ranges} relations of several ranges", first.case);
        ranges_were_read(&server);
        let expected = files(&first);
        // More than once, as the order in which ranges end is left to chance.
        for jobs in ["-j2", "-j4", "-j4", "-j9"] {
            let dump = Dump::of(&server, "sample", &[&[jobs], &split[..]].concat());
            dump.assert_clean();
            let found = files(&dump);
            assert_eq!(
                found.keys().collect::<Vec<_>>(),
                expected.keys().collect::<Vec<_>>(),
                "{}",
                dump.case
            );
            for (path, bytes) in &found {
                assert!(*bytes == expected[path], "{}: {path} has other bytes", dump.case);
            }
        }
        let unsplit = Dump::of(&server, "sample", &["-j4"]);
        unsplit.assert_clean();
        unsplit.assert_equals(&truth).await;
    }
}

/// By what is sent: `-vvv` shows it.
fn ranges_were_read(server: &Server) {
    let mut args = words("verify", server, "sample");
    args.extend(["-vvv", "--split-size=64kB", "-t", "large"].map(str::to_owned));
    let ran = run(args);
    let of_range = |line: &&str| line.contains("\"large\\\" WHERE ctid >= ");
    let count = ran.stderr.lines().filter(of_range).count();
    let case = dump::case(server, "verify -t large");
    assert!(count > 10, "{case}: {count} ranges were read:\n{}", ran.stderr);
}

/// TOASTed values, blocks without rows, more ranges than jobs, and a child whose
/// rows are not its parent's.
async fn sample_with_large_table(server: &Server) {
    let sql = "CREATE TABLE large (id int, t text, wide text);
        INSERT INTO large SELECT i, md5(i::text), CASE WHEN i % 500 = 0
            THEN (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 200) j) END
        FROM generate_series(1, 20000) i;
        DELETE FROM large WHERE id BETWEEN 5000 AND 9000;
        CREATE TABLE large_child () INHERITS (large);
        INSERT INTO large_child SELECT i, 'child' FROM generate_series(1, 5000) i";
    server.execute("sample", sql).await;
}

#[tokio::test]
async fn every_compression_unpacks_to_the_same() {
    for version in crate::kit::Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(false));
        sample::create(&server, "sample", 1).await;
        let truth = truth::of(&server, "sample").await;
        let codecs = [
            ("zstd", ".zst"),
            ("zstd:1", ".zst"),
            ("zstd:19", ".zst"),
            ("gzip", ".gz"),
            ("gzip:1", ".gz"),
            ("lz4", ".lz4"),
            ("none", ".copy"),
        ];
        for (codec, suffix) in codecs {
            let dump = Dump::of(&server, "sample", &["-j2", "-Z", codec, "--split-size=128kB"]);
            dump.assert_clean();
            dump.assert_equals(&truth).await;
            for path in files(&dump).keys() {
                assert!(path.ends_with(suffix), "{}: {path}", dump.case);
            }
            let asked = dump.manifest.options["compress"].as_str();
            assert_eq!(asked, Some(codec), "{}", dump.case);
        }
    }
}

/// What a system tool makes of the files, for our own decoder might agree with
/// our own mistakes.
#[tokio::test]
async fn gzip_itself_unpacks_a_file_of_several_frames() {
    let version = crate::kit::Version::newest();
    let server = Server::start(&version, ServerOptions::default());
    server.create_database("sample").await;
    sample_with_large_table(&server).await;
    let dump = Dump::of(&server, "sample", &["-j2", "-Z", "gzip", "--split-size=64kB"]);
    dump.assert_clean();
    let large = dump.relation("large");
    let output = std::process::Command::new("gzip")
        .args(["-dc"])
        .arg(dump.dir.join(&large.files[0].path))
        .output()
        .expect("gzip can be run");
    assert!(output.status.success(), "{}: {output:?}", dump.case);
    truth::assert_same(&dump.case, &output.stdout, &dump.clean_rows(large).await);
    let truth = truth::of(&server, "sample").await;
    dump.assert_equals(&truth).await;
}
