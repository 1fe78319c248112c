//! A dump with its schema, a restore of it, and what the two databases are then.

#![allow(unreachable_pub)]

use crate::binary::{Dump, Ran, command, run};
use crate::kit::json_schema::assert_keeps_to;
use crate::kit::version::client_program;
use crate::kit::{Server, oracle};
use pg_salvage::output::restored::{self, Restored};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct WayBack {
    pub ran: Ran,
    pub folder: PathBuf,
    /// None where nothing came of it.
    pub report: Option<Restored>,
}

/// Dumps a database with its schema.
pub fn dump(server: &Server, dbname: &str, options: &[&str]) -> Dump {
    let (folder, dir, mut args) = Dump::words(server, "postgres", dbname, options);
    args.retain(|word| word != "--no-schema");
    let clients = client_program("pg_dump", server.version.major);
    let mut command = command(args);
    command.env("PATH", format!("{}:/usr/bin:/bin", clients.parent().expect("a folder").display()));
    let ran = Ran::of(command.output().expect("the binary can be run"));
    let dump = Dump::read(format!("PostgreSQL {}", server.version.major), ran, dir, Some(folder));
    assert!(dump.dir.join("toc.dat").exists(), "{}: {}", dump.case, dump.ran.stderr);
    dump
}

pub fn client(server: &Server, program: &str, dbname: &str) -> Command {
    let mut command = Command::new(client_program(program, server.version.major));
    command.arg("-d").arg(server.conninfo(dbname));
    command
}

/// The words of a restore into a database of this server.
pub fn words(server: &Server, dbname: &str, dir: &Path, options: &[&str]) -> Vec<String> {
    let mut words = crate::binary::words("restore", server, dbname);
    words.extend([dir.display().to_string(), "--no-sync".to_owned()]);
    words.extend(options.iter().map(|word| (*word).to_owned()));
    words
}

/// Restores into a database of this server; the rejects are in the dump.
pub fn restore(server: &Server, dbname: &str, dir: &Path, options: &[&str]) -> WayBack {
    WayBack::of(run(words(server, dbname, dir, options)), dir.join("rejects"))
}

/// The same, ended by itself at the n-th write of a file.
pub fn die_at(server: &Server, dbname: &str, dir: &Path, options: &[&str], at: u64) -> bool {
    let mut command = command(words(server, dbname, dir, options));
    let out = command.env("PG_SALVAGE_DIE_AT", at.to_string()).output().expect("it runs");
    out.status.code().is_none()
}

impl WayBack {
    pub fn of(ran: Ran, folder: PathBuf) -> WayBack {
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        let json = std::fs::read(folder.join("restore.json")).ok();
        let report = json.map(|json| read_report(&json));
        WayBack { ran, folder, report }
    }

    pub fn report(&self) -> &Restored {
        let report = self.report.as_ref();
        report.unwrap_or_else(|| panic!("no restore.json: {}", self.ran.stderr))
    }

    pub fn relation(&self, name: &str) -> &restored::Relation {
        let mut found = self.report().relations.iter().filter(|r| r.name == name);
        found.next().unwrap_or_else(|| panic!("no entry \"{name}\""))
    }

    /// Every row that was read is somewhere, and every row of the files was read.
    pub fn assert_counts(&self, case: &str) {
        let mut rejected = BTreeMap::new();
        for relation in &self.report().relations {
            for file in relation.files.iter().filter(|f| f.included) {
                let name = &file.path;
                let all = file.loaded + file.rejected + file.skipped;
                assert_eq!(all, file.read, "{case}: {name}");
                let was_read = relation.status != restored::RelationStatus::NotLoaded;
                if file.complaint.is_none() && was_read {
                    assert_eq!(file.read, file.rows, "{case}: {name}");
                }
            }
            let of = relation.files.iter().map(|f| f.rejected).sum::<u64>() + relation.duplicates;
            if of > 0 {
                let file = relation.rejects.clone().expect("a file of rejects");
                rejected.insert(file, of);
            }
        }
        for (file, rows) in rejected {
            let lines = self.rejects(&file);
            let lines = lines.iter().filter(|l| l.class != "torn").count();
            assert_eq!(lines as u64, rows, "{case}: {file}");
        }
    }

    pub fn rejects(&self, file: &str) -> Vec<Line> {
        let path = self.folder.join(file);
        let mut reader = csv::Reader::from_path(&path).expect("a file of rejects");
        let header = "class,line,ctid,kept,sqlstate,column,constraint,reason,key,row";
        let found: Vec<&str> = reader.headers().expect("a header").iter().collect();
        assert_eq!(found.join(","), header);
        let field = |record: &csv::ByteRecord, n: usize| {
            String::from_utf8_lossy(record.get(n).expect("a field")).into_owned()
        };
        let line = |record: csv::Result<csv::ByteRecord>| {
            let record = record.expect("a line");
            Line {
                class: field(&record, 0),
                line: field(&record, 1).parse().ok(),
                ctid: field(&record, 2),
                kept: field(&record, 3),
                sqlstate: field(&record, 4),
                column: field(&record, 5),
                constraint: field(&record, 6),
                row: record.get(9).expect("a row").to_vec(),
            }
        };
        reader.byte_records().map(line).collect()
    }
}

/// A report that keeps to its schema.
fn read_report(json: &[u8]) -> Restored {
    let schema = include_str!("../../docs/restore.schema.json");
    let value: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    assert_keeps_to(schema, &value, "the report of a restore");
    Restored::from_json(json).expect("a report")
}

/// A rejected row.
#[derive(Debug)]
pub struct Line {
    pub class: String,
    pub line: Option<u64>,
    pub ctid: String,
    pub kept: String,
    pub sqlstate: String,
    pub column: String,
    pub constraint: String,
    pub row: Vec<u8>,
}

/// The schema of a database as statements, without what differs from run to run.
pub fn schema_of(server: &Server, dbname: &str) -> String {
    let out = client(server, "pg_dump", dbname).arg("-s").output().expect("pg_dump can be run");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let stays = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
    text.lines().filter(stays).collect::<Vec<_>>().join("\n")
}

/// All rows of a database, by relation, in an order of their own; large objects
/// and the values of sequences, too.
pub async fn contents(server: &Server, dbname: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut all = BTreeMap::new();
    for (relation, rows) in oracle::database(server, dbname).await {
        let mut lines: Vec<Vec<u8>> = rows.into_iter().map(|row| row.line).collect();
        lines.sort_unstable();
        all.insert(relation.quoted(), lines);
    }
    let client = oracle::session(server, dbname).await;
    let objects =
        "COPY (SELECT loid, pageno, data FROM pg_catalog.pg_largeobject ORDER BY 1, 2) TO STDOUT";
    let owners = "COPY (SELECT oid, lomowner, lomacl FROM pg_catalog.pg_largeobject_metadata ORDER BY 1) TO STDOUT";
    for sql in [objects, owners] {
        let text = oracle::copy_out(&client, sql).await.expect("large objects");
        all.insert(sql.to_owned(), vec![text]);
    }
    let sql = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S'";
    for row in client.query(sql, &[]).await.expect("sequences") {
        let name: String = row.get(0);
        let sql = format!("SELECT last_value, is_called FROM {name}");
        let row = client.query_one(&sql, &[]).await.expect("a sequence");
        let text = format!("{} {}", row.get::<_, i64>(0), row.get::<_, bool>(1));
        all.insert(name, vec![text.into_bytes()]);
    }
    all
}
