//! One of everything, on every version, with and without checksums.

use crate::binary::{Dump, Ran, command, dump, run, truth, words};
use crate::kit::{Server, ServerOptions, Version, sample};
use pg_salvage::output::manifest::MissingPages;
use pg_salvage::report::model::Report;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Does this for every version with checksums off and on, several at a time.
fn on_every_version(test: impl AsyncFn(&Version, bool) + Sync) {
    let cases = Version::some(10, 18).into_iter().flat_map(|v| [(v.clone(), false), (v, true)]);
    let queue = Mutex::new(cases.collect::<Vec<_>>());
    let worker = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        loop {
            let next = queue.lock().expect("no panic while locked").pop();
            let Some((version, checksums)) = next else { break };
            runtime.block_on(test(&version, checksums));
        }
    };
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..workers {
            scope.spawn(worker);
        }
    });
}

#[test]
fn one_of_everything_comes_out_as_copy_gives_it() {
    on_every_version(async |version, checksums| {
        let server = Server::start(version, ServerOptions::checksums(checksums));
        sample::create(&server, "sample", 1).await;
        let truth = truth::of(&server, "sample").await;
        let dump = Dump::of(&server, "sample", &["-j2"]);
        dump.assert_clean();
        dump.assert_equals(&truth).await;
        large_objects_are_counted_and_their_holes_listed(&dump);
        what_the_server_is_said_to_be(&dump, version, checksums);
        unlogged_tables_are_read_first(&server);
        verify_finds_the_same(&server, &dump);
    });
}

/// The sample has four: of several pages, with a hole, empty, of one byte.
fn large_objects_are_counted_and_their_holes_listed(dump: &Dump) {
    let entry = dump.relation("pg_largeobject");
    let found = entry.large_objects.as_ref();
    let found = found.unwrap_or_else(|| panic!("{}: nothing of large objects", dump.case));
    // The empty one has no page, and so is not among these.
    assert_eq!((found.count, found.pages), (3, entry.rows.clean), "{}", dump.case);
    let hole = MissingPages { loid: 900_002, first_page: 1, last_page: 4 };
    assert_eq!(found.missing, [hole], "{}", dump.case);
    assert_eq!(dump.relation("pg_largeobject_metadata").rows.clean, 4, "{}", dump.case);
}

fn what_the_server_is_said_to_be(dump: &Dump, version: &Version, checksums: bool) {
    let server = &dump.manifest.server;
    assert_eq!(server.version_num / 10_000, version.major, "{}", dump.case);
    assert_eq!(server.data_checksums, Some(checksums), "{}", dump.case);
    assert_eq!(server.encoding, "UTF8", "{}", dump.case);
    assert!(!server.in_recovery, "{}", dump.case);
    assert_eq!(dump.manifest.database.name, "sample", "{}", dump.case);
}

/// By what is sent, in order: `-vvv` shows it.
fn unlogged_tables_are_read_first(server: &Server) {
    let mut args = words("verify", server, "sample");
    args.extend(["--no-pages", "-vvv"].map(str::to_owned));
    let ran = run(args);
    let case = dump::case(server, "verify -vvv");
    let is_read = |line: &&str| line.contains("COPY") && !line.contains("COPY pg_");
    let first = ran.stderr.lines().find(is_read);
    let first = first.unwrap_or_else(|| panic!("{case}: no read is shown:\n{}", ran.stderr));
    assert!(first.contains("unlogged"), "{case}: first was {first}");
}

/// Each relation has as many rows as the dump, with the same contents.
fn verify_finds_the_same(server: &Server, dump: &Dump) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = command(words("verify", server, "sample"));
    command.args(["-j2", "--no-pages", "--format", "json"]);
    command.current_dir(&folder).env("TMPDIR", folder.path());
    let ran = Ran::of(command.output().expect("the binary can be run"));
    let case = dump::case(server, "verify -j2");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{case}");
    let report = Report::from_json(ran.stdout.as_bytes()).expect("a report");
    let found: BTreeMap<_, _> =
        report.relations.iter().map(|r| ((&r.schema, &r.name), r)).collect();
    for read in dump.manifest.relations.iter().filter(|r| !r.files.is_empty()) {
        let relation = found.get(&(&read.schema, &read.name));
        let relation = relation.unwrap_or_else(|| panic!("{case}: no {}", read.name));
        assert_eq!(relation.rows, Some(read.rows), "{case}: {}", read.name);
        let hash = read.content_hash.map(|hash| hash.to_string());
        assert_eq!(relation.content_hash, hash, "{case}: {}", read.name);
    }
    assert_eq!(dump::names_in(folder.path()), [""; 0], "{case}: what it wrote");
}
