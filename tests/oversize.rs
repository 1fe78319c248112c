//! Rows that are too long to be sent as text: they are no damage, and had in
//! binary form.

use crate::kit::dumped::{Dumped, dump, dump_as};
use crate::kit::page_edit::XMIN_HINTS;
use crate::kit::places::{read_page, write_page};
use crate::kit::version::client_program;
use crate::kit::{Places, Server, ServerOptions, Stop, Version, oracle};
use pg_salvage::output::manifest::{RelationStatus, RowClass, RunStatus};
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

/// A long bytea, and short ones around it.
const LONG: &str = "
    CREATE TABLE long (id int PRIMARY KEY, b bytea, t text, u text);
    ALTER TABLE long ALTER t SET STORAGE EXTERNAL;
    INSERT INTO long SELECT i, '\\x00ff', 'short', NULL FROM generate_series(1, 20) i;
    UPDATE long SET b = convert_to(repeat('Long, so long. ', 37000000), 'UTF8') WHERE id = 7;
    CREATE TABLE short AS SELECT i AS id, repeat('s', 100)::bytea AS b FROM generate_series(1, 100) i";

const LONG_AS_A_WHOLE: &str = "
    UPDATE long SET t = repeat('ä', 1000000), b = convert_to(repeat('b', 300000000), 'UTF8'),
        u = repeat('u', 480000000) WHERE id = 11";

/// Of each row: its values, by their sums.
async fn sums(server: &Server) -> Vec<String> {
    let client = oracle::session(server, DB).await;
    let sql = "SELECT id || ' ' || coalesce(md5(b), '-') || ' ' || coalesce(md5(t), '-') || ' ' \
               || coalesce(md5(u), '-') FROM public.long ORDER BY id";
    let rows = client.query(sql, &[]).await.expect("the sums");
    rows.iter().map(|r| r.get(0)).collect()
}

/// Loads a file by psql, as the README says.
fn load(server: &Server, dumped: &Dumped, class: RowClass, options: &str) {
    let relation = dumped.relation("long");
    let file = relation.files.iter().find(|f| f.class == class).expect("a file of this class");
    let mut unpack = Command::new("zstd")
        .args(["-dc"])
        .arg(dumped.dir.path().join(&file.path))
        .stdout(Stdio::piped())
        .spawn()
        .expect("zstd");
    let out = Command::new(client_program("psql", 18))
        .args(["-X", "-v", "ON_ERROR_STOP=1", "-d"])
        .arg(server.conninfo(DB))
        .args(["-c", &format!("COPY long FROM STDIN{options}")])
        .env("PGCLIENTENCODING", "UTF8")
        .stdin(unpack.stdout.take().expect("a pipe"))
        .output()
        .expect("psql");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(unpack.wait().expect("zstd").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_too_long_for_text_are_had_in_binary_form_and_are_no_damage() {
    for version in Version::one_or_two() {
        let at = version.major;
        let server = Server::start(&version, ServerOptions::checksums(true));
        server.execute(DB, LONG).await;
        server.execute(DB, LONG_AS_A_WHOLE).await;
        let before = sums(&server).await;
        let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
        assert_eq!(dumped.manifest.status, RunStatus::Clean, "{at}: {}", dumped.said);
        let relation = dumped.relation("long");
        assert_eq!(relation.status, RelationStatus::Clean, "{at}: {relation:#?}");
        assert_eq!((relation.rows.clean, relation.rows.oversize), (18, 2), "{at}");
        assert!(relation.lost.is_empty() && relation.map.is_none(), "{at}: {relation:#?}");
        dumped.check_files(&at.to_string());
        assert_eq!(dumped.relation("short").rows.clean, 100, "{at}");

        server.execute(DB, "DELETE FROM long").await;
        load(&server, &dumped, RowClass::Clean, "");
        load(&server, &dumped, RowClass::Oversize, " (FORMAT binary)");
        assert_eq!(sums(&server).await, before, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_vouch_for_is_named_and_not_called_damage() {
    let version = Version::major(15);
    let server = Server::start(&version, ServerOptions::checksums(true));
    server.execute(DB, LONG).await;
    server.execute(DB, "CREATE ROLE reader LOGIN; GRANT SELECT ON long TO reader").await;
    let dumped = dump_as(PROGRAM, &server, ("reader", DB), &["-t", "long"]);
    let relation = dumped.relation("long");
    assert_eq!(relation.status, RelationStatus::Failed, "{relation:#?}");
    assert_eq!((relation.rows.clean, relation.rows.oversize), (19, 0));
    let causes: Vec<_> = relation.lost.iter().map(|l| l.cause.as_str()).collect();
    assert_eq!(causes, ["too_large"], "{relation:#?}");
}

/// A length that is damaged asks for as much memory as a long value would.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_length_is_damage_and_takes_no_server_down() {
    for version in Version::one_or_two() {
        let at = version.major;
        let server = Server::start(&version, ServerOptions::checksums(false));
        let sql = "CREATE TABLE hurt (id int, b bytea);
            ALTER TABLE hurt ALTER b SET STORAGE PLAIN;
            INSERT INTO hurt SELECT i, convert_to(repeat('x', 500), 'UTF8') FROM generate_series(1, 10) i;
            CHECKPOINT";
        server.execute(DB, sql).await;
        let client = oracle::session(&server, DB).await;
        let places = Places::of(&client, "public.hurt").await;
        drop(client);
        assert_eq!(server.stop(), Stop::Clean);
        let mut page = read_page(&server, &places.main, 0);
        let tuple = page.tuple(4);
        page.change_infomask(tuple, 0, XMIN_HINTS);
        // Behind the header of the tuple: an int, and the header of the bytea.
        let length = tuple.data + 4;
        assert_eq!(page.u32_at(length), 504 << 2);
        page.put(length, &(600_000_000u32 << 2).to_le_bytes());
        write_page(&server, &places.main, &page);
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["--check-pages=never"]);
        let relation = dumped.relation("hurt");
        assert_eq!(server.crashes(), 0, "{at}: {}", server.log());
        assert_eq!(relation.status, RelationStatus::Salvaged, "{at}: {relation:#?}");
        let rows = relation.rows;
        assert_eq!((rows.clean, rows.suspect, rows.partial), (0, 9, 1), "{at}: {relation:#?}");
        let [lost] = relation.lost.as_slice() else { panic!("{at}: {relation:#?}") };
        assert_eq!((lost.ctid.as_deref(), lost.cause.as_str()), (Some("(0,4)"), "tuple"), "{at}");
    }
}
