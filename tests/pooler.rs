//! PgBouncer between us and the server: what cannot be used is refused before
//! anything is changed, and what can is used.

use crate::binary::{Dump, dump, run, truth};
use crate::kit::pooler::Pooler;
use crate::kit::{Server, ServerOptions, Version, sample};

const DB: &str = "sample";
const REFUSED: &str = "there is a connection pooler in between that gives each transaction \
                       another session (transaction pooling)";

async fn server(version: &Version) -> Server {
    let server = Server::start(version, ServerOptions::checksums(true));
    sample::create(&server, DB, 1).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_pooling_is_refused_and_leaves_no_setting_behind() {
    for version in [Version::newest(), Version::major(15)] {
        let server = server(&version).await;
        for mode in ["transaction", "statement"] {
            let pooler = Pooler::start(&server, mode);
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("dump");
            let conninfo = pooler.conninfo(DB);
            for command in
                [&["dump", "--no-schema", "-f", dir.to_str().unwrap()][..], &["verify"], &["list"]]
            {
                let ran = run([command, &["-w", "-d", &conninfo]].concat());
                let case = format!("{mode}, {command:?}: {}{}", ran.stderr, pooler.log());
                assert_eq!((ran.code, ran.stderr.lines().count()), (1, 1), "{case}");
                assert!(ran.stderr.contains(REFUSED), "{case}");
                assert!(!dir.exists(), "{case}");
            }
            // The sessions that we had, as the next one finds them.
            let (client, connection) =
                tokio_postgres::connect(&conninfo, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            let changed = "SELECT name || '=' || setting FROM pg_settings WHERE source = 'session'
                AND name NOT IN ('application_name', 'client_encoding')";
            let rows = client.simple_query(changed).await.unwrap();
            let rows: Vec<_> = rows
                .iter()
                .filter_map(|m| match m {
                    tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                    _ => None,
                })
                .collect();
            assert_eq!(rows, Vec::<&str>::new(), "{mode}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_pooling_is_as_good_as_none() {
    let server = server(&Version::newest()).await;
    let truth = truth::of(&server, DB).await;
    let pooler = Pooler::start(&server, "session");
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("dump");
    let conninfo = pooler.conninfo(DB);
    let ran = run([
        "dump",
        "--no-schema",
        "-w",
        "-d",
        &conninfo,
        "-f",
        dir.to_str().unwrap(),
        "-j3",
        "--no-sync",
    ]);
    let dump = Dump::read(dump::case(&server, "session pooling"), ran, dir, Some(folder));
    dump.assert_clean();
    dump.assert_equals(&truth).await;
}

/// So it costs a direct connection nothing: not another connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_direct_connection_is_known_at_once() {
    for version in [Version::newest(), Version::major(15)] {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let pooler = Pooler::start(&server, "session");
        let seen = |conninfo: &str| {
            let ran = run(["list", "-w", "-v", "-v", "-d", conninfo]);
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            ran.stderr.contains("there is a connection pooler in between")
        };
        assert!(seen(&pooler.conninfo("postgres")));
        assert!(!seen(&server.conninfo("postgres")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_a_pooler_does_not_take_are_said_to_be_its_doing() {
    let server = server(&Version::newest()).await;
    let pooler = Pooler::start(&server, "session");
    let conninfo = format!("{} options='-c work_mem=1MB'", pooler.conninfo(DB));
    let ran = run(["list", "-w", "-d", &conninfo]);
    // Later ones than 1.19 take some.
    if ran.code != 0 {
        assert_eq!((ran.code, ran.stderr.lines().count()), (1, 1), "{}", ran.stderr);
        let said = "a connection pooler in between does not take it";
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}
