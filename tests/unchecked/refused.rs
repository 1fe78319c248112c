//! What is refused, and what it takes.

use super::*;
use std::path::Path;
use std::process::Command;

/// The exit code, and what was said.
fn run(server: &Server, user: &str, dir: &Path, options: &[&str]) -> (Option<i32>, String) {
    let conninfo = server.conninfo(DB).replace("user=postgres", &format!("user={user}"));
    let out = Command::new(PROGRAM)
        .args(["dump", "--raw-rows=never", "--no-schema", "--no-sync", "-d", &conninfo, "-f"])
        .arg(dir)
        .args(options)
        .output()
        .expect("the program starts");
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

/// Refused with this line, and nothing is made.
fn assert_refused(server: &Server, user: &str, options: &[&str], line: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("dump");
    let (code, said) = run(server, user, &dir, options);
    assert_eq!((code, said), (Some(1), format!("pg_salvage: error: {line}\n")), "{options:?}");
    assert!(!dir.exists());
}

const CHANGES: &str = "changes evidence on a primary: the server may set hint bits on a bad page \
    that it has read, or prune it, and then writes it back with a checksum that fits, after which \
    nothing tells that it was bad; start a copy of the data directory as a standby (with a file \
    standby.signal) and read that, or add --allow-on-primary";

#[tokio::test(flavor = "multi_thread")]
async fn on_a_primary_it_takes_consent() {
    for version in Version::one_or_two() {
        let hurt = hurt(&version, options(), &HARMS, false).await;
        for option in [UNCHECKED, "--zero-damaged-pages"] {
            assert_refused(&hurt.server, "postgres", &[option], &format!("{option} {CHANGES}"));
        }
        let dumped = dump(PROGRAM, &hurt.server, DB, &["-j2", UNCHECKED, "--allow-on-primary"]);
        hurt.check(&dumped, "with consent").await;
        let told = "bad pages are read unchecked on a primary (--allow-on-primary): the server may \
                    write them back changed, with checksums that fit; pages/ has them as they were";
        assert!(dumped.manifest.warnings.contains(&told.to_owned()), "{}", dumped.said);
        let given = |name: &str| dumped.manifest.options.get(name).cloned();
        assert_eq!(given("allow_on_primary"), Some(true.into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_damaged_pages_is_said_to_be_of_no_use_and_changes_nothing() {
    let hurt = hurt(&Version::newest(), options(), &HARMS[..1], true).await;
    let plain = dump(PROGRAM, &hurt.server, DB, &[]);
    let dumped = dump(PROGRAM, &hurt.server, DB, &["--zero-damaged-pages"]);
    let told = |w: &String| w.starts_with("--zero-damaged-pages is not used: a page of zeros has");
    assert!(dumped.manifest.warnings.iter().any(told), "{}", dumped.said);
    crate::kit::dumped::check_same(&dumped, &plain, "zeros").await;
}

/// The one case in which zeroed pages give more: plain COPY is all there is, and
/// ends at the first damaged page. Without the index nothing is missed.
#[tokio::test(flavor = "multi_thread")]
async fn only_where_an_index_has_no_first_page_zeros_would_give_more() {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    let sql = "CREATE TABLE t (i int PRIMARY KEY, x text);
        INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 1500) i";
    server.execute(DB, sql).await;
    server.execute(DB, "CHECKPOINT").await;
    let client = oracle::session(&server, DB).await;
    let table = Places::of(&client, "public.t").await;
    let index = Places::of(&client, "public.t_pkey").await;
    drop(client);
    assert_eq!(server.stop(), Stop::Clean);
    let copy = server.copy();
    for server in [&server, &copy] {
        let at = Place { block: 20, offset: 1 };
        harm(server, &table, Harm::BadPageHeader, at, ChecksumAfter::Stale);
        harm(server, &index, Harm::BadPageHeader, Place::first(), ChecksumAfter::Stale);
        server.start_again();
    }
    let options = ["--zero-damaged-pages", "--allow-on-primary"];
    let failed = dump(PROGRAM, &server, DB, &options);
    let entry = failed.relation("t");
    assert_eq!(entry.status, RelationStatus::Failed, "{}", failed.said);
    let client = server.connect(DB).await;
    client.batch_execute("SET zero_damaged_pages = on").await.expect("a superuser");
    let zeroed = oracle::copy_out(&client, "COPY t TO STDOUT").await.expect("all other pages");
    let zeroed = zeroed.iter().filter(|b| **b == b'\n').count() as u64;
    assert!(entry.rows.clean + entry.rows.suspect < zeroed, "{zeroed}: {entry:#?}");
    copy.execute(DB, "ALTER TABLE t DROP CONSTRAINT t_pkey").await;
    let dumped = dump(PROGRAM, &copy, DB, &[]);
    assert_eq!(dumped.relation("t").rows.clean, zeroed, "{}", dumped.said);
    assert_eq!(dumped.relation("t").blocks.lost, 1, "{}", dumped.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_checksums_it_has_no_effect() {
    let options = ServerOptions::checksums(false);
    let hurt = hurt(&Version::newest(), options, &HARMS[4..], false).await;
    // No consent is needed for what does nothing.
    let dumped = dump(PROGRAM, &hurt.server, DB, &[UNCHECKED]);
    let told = "--ignore-checksum-failure has no effect: the server has no data checksums";
    assert!(dumped.manifest.warnings.contains(&told.to_owned()), "{}", dumped.said);
    assert_eq!(dumped.relation("header").blocks.lost, 3);
    hurt.check_images(&dumped, "header", "no checksums");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_the_right_is_told_what_would_give_it() {
    for version in Version::some(14, 18) {
        let hurt = hurt(&version, options(), &HARMS, false).await;
        let server = &hurt.server;
        let role = "CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader";
        server.execute(DB, role).await;
        let options = [UNCHECKED, "--allow-on-primary"];
        if version.major == 14 {
            let line = "role \"reader\" may not use --ignore-checksum-failure: before PostgreSQL \
                        15 only a superuser may set ignore_checksum_failure";
            assert_refused(server, "reader", &options, line);
            continue;
        }
        let set = "GRANT SET ON PARAMETER ignore_checksum_failure TO \"reader\"";
        let read = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text, bigint, \
                    bigint, boolean) TO \"reader\"";
        let told = "role \"reader\" may not use --ignore-checksum-failure; a superuser can allow \
                    it, in this database:";
        assert_refused(server, "reader", &options, &format!("{told} {set}; {read}"));
        server.execute(DB, set).await;
        assert_refused(server, "reader", &options, &format!("{told} {read}"));
        server.execute(DB, read).await;
        let dir = tempfile::tempdir().expect("a folder");
        let (code, said) = run(server, "reader", dir.path(), &options);
        assert_eq!(code, Some(2), "{}: {said}", version.major);
        hurt.check(&Dumped::read(dir, said), "with the grants").await;
    }
}

/// That images cannot be had is said once, and loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_read_no_files_gets_no_images_and_everything_else() {
    for version in Version::one_or_two() {
        let hurt = hurt(&version, options(), &HARMS, false).await;
        let role = "CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader";
        hurt.server.execute(DB, role).await;
        let with = dump(PROGRAM, &hurt.server, DB, &[]);
        let dir = tempfile::tempdir().expect("a folder");
        let (code, said) = run(&hurt.server, "reader", dir.path(), &["-j2"]);
        assert_eq!(code, Some(2), "{said}");
        let dumped = Dumped::read(dir, said);
        crate::kit::dumped::check_same(&dumped, &with, "without images").await;
        let told = "no images of damaged pages could be saved: ERROR: permission denied for \
                    function pg_read_binary_file";
        let keys = "lost rows are not named: ERROR: permission denied for function \
                    pg_read_binary_file";
        let warnings = &dumped.manifest.warnings;
        let is_of_keys = |w: &&String| w.starts_with(keys);
        assert!(warnings.iter().filter(is_of_keys).count() > 0, "{}", dumped.said);
        let others: Vec<&String> = warnings.iter().filter(|w| !is_of_keys(w)).collect();
        assert_eq!(others, [told], "{}", dumped.said);
        assert!(!dumped.dir.path().join("pages").exists());
    }
}
