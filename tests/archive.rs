//! A dump directory as an archive of `pg_dump`: its table of contents, and what
//! `pg_restore` makes of it.

mod described;
mod process;
mod restored;
mod toc;

use crate::kit::dumped::Dumped;
use crate::kit::oracle;
use crate::kit::server::Server;
use crate::kit::version::client_program;
use pg_salvage::output::manifest::Manifest;
use std::collections::BTreeMap;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "shop";

/// A dump with its schema, by the client of this major version.
fn dump(server: &Server, client: u32, options: &[&str]) -> Dumped {
    let pg_dump = client_program("pg_dump", client);
    let out = command(server, &["--pg-dump", pg_dump.to_str().expect("UTF-8")], options);
    let (dir, out) = out;
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    let dumped = Dumped::read(dir, said);
    assert_eq!(out.status.code(), Some(i32::from(dumped.manifest.exit_code)), "{}", dumped.said);
    dumped.check_files("the dump");
    dumped
}

fn command(server: &Server, schema: &[&str], options: &[&str]) -> (tempfile::TempDir, Output) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut program = Command::new(PROGRAM);
    program.args(["dump", "--no-sync", "-j2", "-d"]).arg(server.conninfo(DB));
    program.arg("-f").arg(dir.path()).args(schema).args(options);
    let out = program.output().expect("the program starts");
    (dir, out)
}

fn schema_of(manifest: &Manifest) -> &pg_salvage::output::manifest::Schema {
    manifest.schema.as_ref().expect("the manifest speaks of the schema")
}

/// A client program against a database of this server.
fn client(name: &str, major: u32, server: &Server, dbname: &str) -> Command {
    let mut command = Command::new(client_program(name, major));
    command.env("PGHOST", server.socket_dir()).env("PGPORT", server.port().to_string());
    command.env("PGUSER", "postgres").env("LC_ALL", "C").args(["-d", dbname]);
    command
}

fn succeeds(mut command: Command) -> String {
    let out = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The schema as `pg_dump` writes it, but for what is another each time.
fn pg_dump_schema(server: &Server, major: u32, dbname: &str) -> String {
    let mut command = client("pg_dump", major, server, dbname);
    command.arg("-s");
    let text = succeeds(command);
    let is_same =
        |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
    text.lines().filter(is_same).flat_map(|line| [line, "\n"]).collect()
}

/// The rows of each relation, in an order of their own.
async fn rows(server: &Server, dbname: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
    let database = oracle::database(server, dbname).await.into_iter();
    let sorted = database.map(|(relation, rows)| {
        let mut lines: Vec<Vec<u8>> = rows.into_iter().map(|row| row.line).collect();
        lines.sort();
        (relation.quoted(), lines)
    });
    sorted.collect()
}

/// The values of all sequences, and the contents, owners and rights of all large
/// objects.
async fn others(server: &Server, dbname: &str) -> Vec<String> {
    let client = oracle::session(server, dbname).await;
    let sequences = "SELECT pg_catalog.format('%I.%I', schemaname, sequencename) FROM pg_catalog.pg_sequences ORDER BY 1";
    let mut found = Vec::new();
    for row in client.query(sequences, &[]).await.expect("sequences") {
        let name: String = row.get(0);
        let sql = format!("SELECT pg_catalog.concat_ws(' ', last_value, is_called) FROM {name}");
        let value: String = client.query_one(&sql, &[]).await.expect("a sequence").get(0);
        found.push(format!("{name} {value}"));
    }
    let objects = "SELECT pg_catalog.concat_ws(' ', oid, pg_catalog.md5(pg_catalog.lo_get(oid)), \
         lomowner::pg_catalog.regrole, lomacl) FROM pg_catalog.pg_largeobject_metadata ORDER BY oid";
    let rows = client.query(objects, &[]).await.expect("large objects");
    found.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    found
}

/// Holds a database against the one that it was made from.
async fn assert_same_contents(server: &Server, dbname: &str, at: &str) {
    let (was, is) = (rows(server, DB).await, rows(server, dbname).await);
    assert_eq!(is.keys().collect::<Vec<_>>(), was.keys().collect::<Vec<_>>(), "{at}");
    for (name, rows) in &was {
        assert!(is.get(name) == Some(rows), "{at}: rows of {name}");
    }
    assert_eq!(others(server, dbname).await, others(server, DB).await, "{at}");
}
