//! A dump whose rows a sound target does not take as they are: each is loaded or
//! in the rejects, and what the schema has after data is made around them.

#![allow(clippy::unwrap_used)]

use super::way_back::{WayBack, dump, restore};
use crate::binary::Dump;
use crate::kit::{Server, ServerOptions, Version, oracle};
use pg_salvage::output::manifest::{Manifest, RowClass};
use pg_salvage::output::restored::{RelationStatus, Status};
use sha2::{Digest, Sha256};
use std::path::Path;

const ROWS: usize = 3000;

/// Two tables with every kind of rule that a row may break.
const TABLES: &str = "CREATE TABLE parent (id int PRIMARY KEY, name text NOT NULL, price numeric CHECK (price > 0),
        code text, upper_code text GENERATED ALWAYS AS (upper(code)) STORED);
    CREATE UNIQUE INDEX parent_code ON parent (lower(code)) WHERE id > 10;
    CREATE INDEX parent_name ON parent (name);
    CREATE TABLE child (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent int REFERENCES parent, at date);
    CREATE VIEW both_of_them AS SELECT p.name, c.at FROM parent p JOIN child c ON c.parent = p.id;
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM child;
    INSERT INTO parent SELECT i, 'name ' || i, i, 'c' || i FROM generate_series(1, 3000) i;
    INSERT INTO child (parent, at) SELECT i, '2020-01-01'::date + i FROM generate_series(1, 3000) i;
    REFRESH MATERIALIZED VIEW counted;
    SELECT lo_from_bytea(7001, convert_to(rpad('clean', 2048, '.'), 'UTF8'))";

async fn server_of(version: &Version) -> Server {
    let server = Server::start(version, ServerOptions::checksums(true));
    server.create_database("was").await;
    server.execute("was", TABLES).await;
    server
}

/// Changes the lines of a file (which is not compressed), and the manifest with
/// them.
pub(super) fn change(dump: &Dump, name: &str, class: RowClass, change: impl Fn(&mut Vec<Vec<u8>>)) {
    let path = dump.dir.join("manifest.json");
    let mut manifest = Manifest::from_json(&std::fs::read(&path).unwrap()).unwrap();
    let relation = manifest.relations.iter_mut().find(|r| r.name == name).unwrap();
    let mut clean = relation.files.iter().find(|f| f.class == RowClass::Clean).unwrap().clone();
    clean.class = class;
    if class != RowClass::Clean {
        let name = if class == RowClass::Suspect { ".suspect.copy" } else { ".oversize.binary" };
        clean.path = clean.path.replace(".copy", name);
        std::fs::write(dump.dir.join(&clean.path), b"").unwrap();
        relation.files.push(clean);
    }
    let file = relation.files.iter_mut().find(|f| f.class == class).unwrap();
    let at = dump.dir.join(&file.path);
    let text = std::fs::read(&at).unwrap();
    let mut lines: Vec<Vec<u8>> =
        text.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    change(&mut lines);
    let text = lines.concat();
    file.rows = lines.len() as u64;
    file.bytes = text.len() as u64;
    file.sha256 = Sha256::digest(&text).iter().map(|b| format!("{b:02x}")).collect();
    let rows = file.rows;
    match class {
        RowClass::Suspect => relation.rows.suspect = rows,
        _ => relation.rows.clean = rows,
    }
    std::fs::write(at, text).unwrap();
    std::fs::write(path, manifest.to_json()).unwrap();
}

fn line(text: &str) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}

/// Of the parent: rows that cannot be loaded, two old versions that live again,
/// one of them under another key of an index on an expression, and ten rows that
/// are gone.
fn damage(dump: &Dump) {
    change(dump, "parent", RowClass::Clean, |lines| {
        lines.drain(1000..1010);
        lines.insert(100, b"5001\tcaf\xe9\t1\tx\n".to_vec());
        lines.insert(101, line("5002\t\\N\t1\tx2"));
        lines.insert(900, line("5003\tname\t-1\tx3"));
        lines.insert(2000, line("5004\tname\tnot a number\tx4"));
        lines.insert(2001, line("too few"));
        lines.insert(2002, line("\\."));
        lines.insert(2003, line("5005\tname\t1\tx5\ttoo many"));
        lines.push(line("7\tan old version\t7\tc7"));
        lines.push(line("6001\tthe same code\t7\tC20"));
    });
}

fn rejected(back: &WayBack, at: &str) {
    let lines = back.rejects("public.parent.csv");
    let of = |class: &str| lines.iter().filter(|l| l.class == class).collect::<Vec<_>>();
    let said: Vec<(Option<u64>, &str, &str)> =
        of("clean").iter().map(|l| (l.line, l.sqlstate.as_str(), l.column.as_str())).collect();
    // The byte is no UTF-8; NOT NULL; CHECK; no number; fields missing; the end
    // mark; too many fields.
    let expected = [
        (Some(101), "22021", ""),
        (Some(102), "23502", "name"),
        (Some(901), "23514", ""),
        (Some(2001), "22P02", "price"),
        (Some(2002), "22P02", "id"),
        (Some(2003), "", ""),
        (Some(2004), "22P04", ""),
    ];
    let codes = |list: &[(Option<u64>, &str, &str)]| -> Vec<(Option<u64>, String)> {
        list.iter().map(|(line, code, _)| (*line, (*code).to_owned())).collect()
    };
    // What the server says of the end mark is another thing in 18.
    let without_mark = |mut list: Vec<(Option<u64>, String)>| {
        list.retain(|(line, _)| *line != Some(2003));
        list
    };
    assert_eq!(without_mark(codes(&said)), without_mark(codes(&expected)), "{at}: {said:?}");
    assert_eq!(said.len(), 7, "{at}");
    assert_eq!(said[1].2, "name", "{at}");
    assert_eq!(said[3].2, "price", "{at}");
    assert_eq!(of("clean")[0].row, b"5001\tcaf\xe9\t1\tx", "{at}");
    let duplicates = of("duplicate");
    let rows: Vec<&[u8]> = duplicates.iter().map(|l| l.row.as_slice()).collect();
    assert_eq!(rows, [&b"7\tan old version\t7\tc7"[..], b"6001\tthe same code\t7\tC20"], "{at}");
    assert!(duplicates.iter().all(|l| l.kept.starts_with('(')), "{at}: {duplicates:?}");
    assert_eq!(duplicates[0].constraint, "parent_pkey", "{at}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_target_refuses_are_rejected_and_all_others_are_loaded() {
    for version in Version::one_or_two() {
        let at = format!("PostgreSQL {}", version.major);
        let server = server_of(&version).await;
        let dumped = dump(&server, "was", &["-Z", "none"]);
        damage(&dumped);
        let back = restore(&server, "is", &dumped.dir, &["--create", "-j2", "--check"]);
        let said = format!("{at}: {}\n{}", back.ran.stdout, back.ran.stderr);
        assert_eq!(back.ran.code, 2, "{said}");
        assert_eq!(back.report().status, Status::WithRejects, "{at}");
        back.assert_counts(&at);
        let parent = back.relation("parent");
        assert_eq!(parent.status, RelationStatus::WithRejects, "{at}");
        assert_eq!((parent.files[0].loaded, parent.files[0].rejected), (2992, 7), "{said}");
        assert_eq!(parent.duplicates, 2, "{said}");
        rejected(&back, &at);
        for name in ["parent", "child"] {
            let check = back.relation(name).check.clone().expect("a check");
            assert!(check.equal, "{at}: {name}: {check:?}");
        }
        // Everything was made but the foreign key, which is there and not valid.
        assert_eq!(back.report().not_made, [], "{at}");
        let [key] = back.report().not_valid.as_slice() else { panic!("{said}") };
        assert_eq!((key.tag.as_str(), key.rows), ("child child_parent_fkey", Some(10)), "{at}");
        assert_eq!(key.keys.len(), 10, "{at}");
        assert!(key.keys.contains(&"1005".to_owned()), "{at}: {:?}", key.keys);
        assert!(back.ran.stdout.contains("VALIDATE CONSTRAINT"), "{said}");
        let client = server.connect("is").await;
        let one = |sql: &'static str| {
            let client = &client;
            async move { client.query_one(sql, &[]).await.expect(sql).get::<_, i64>(0) }
        };
        assert_eq!(one("SELECT count(*) FROM parent").await, 2990, "{at}");
        assert_eq!(one("SELECT count(*) FROM child").await, ROWS as i64, "{at}");
        assert_eq!(one("SELECT count FROM counted").await, ROWS as i64, "{at}");
        let kept = client.query_one("SELECT name FROM parent WHERE id = 7", &[]).await.unwrap();
        assert_eq!(kept.get::<_, &str>(0), "name 7", "{at}: the first in heap order");
        let valid = "SELECT count(*) FROM pg_constraint WHERE conname = 'child_parent_fkey' AND NOT convalidated";
        assert_eq!(one(valid).await, 1, "{at}");
        let indexes =
            "SELECT count(*) FROM pg_index WHERE indrelid = 'parent'::regclass AND indisvalid";
        assert_eq!(one(indexes).await, 3, "{at}");
    }
}

/// Suspect rows are loaded if that is asked for, and it is said; of two rows with
/// one key the clean one is kept.
#[tokio::test(flavor = "multi_thread")]
async fn suspect_rows_are_loaded_only_when_asked_for() {
    let server = server_of(&Version::newest()).await;
    let dumped = dump(&server, "was", &["-Z", "none"]);
    change(&dumped, "child", RowClass::Suspect, |lines| {
        lines.extend([
            line("8000\t17\t2024-01-01"),
            line("5\t5\t2024-01-01"),
            b"8001\t\xff\t\\N\n".to_vec(),
        ]);
    });
    let count = async |dbname: &str, condition: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM child WHERE {condition}");
        server.connect(dbname).await.query_one(&sql, &[]).await.unwrap().get(0)
    };
    // An old version of the first page, and a page that is nowhere else.
    change(&dumped, "pg_largeobject", RowClass::Suspect, |lines| {
        lines.extend([line("7001\t0\t\\\\x6f6c64"), line("7001\t1\t\\\\x6d6f7265")]);
    });
    let back = restore(&server, "without", &dumped.dir, &["--create"]);
    assert_eq!(back.ran.code, 0, "{}", back.ran.stderr);
    assert_eq!(count("without", "id >= 8000").await, 0);
    std::fs::remove_dir_all(&back.folder).unwrap();
    let options = ["--create", "--include", "suspect,partial", "--check"];
    let back = restore(&server, "with", &dumped.dir, &options);
    let said = format!("{}\n{}", back.ran.stdout, back.ran.stderr);
    assert_eq!(back.ran.code, 2, "{said}");
    back.assert_counts("suspect");
    let loud = "WARNING: SUSPECT ROWS are loaded, for which nobody vouches, into \"public.child\"";
    assert!(back.ran.stdout.contains(loud), "{said}");
    assert_eq!(count("with", "id >= 8000").await, 1);
    assert_eq!(count("with", "id = 5 AND at < '2024-01-01'").await, 1);
    assert_eq!(back.relation("child").duplicates, 1);
    assert!(back.relation("child").check.as_ref().is_some_and(|c| c.equal), "{said}");
    let objects = back.relation("pg_largeobject");
    assert!(objects.check.as_ref().is_some_and(|c| c.equal), "{said}");
    let [page] = &back.rejects("pg_catalog.pg_largeobject.csv")[..] else { panic!("{said}") };
    assert_eq!((page.class.as_str(), page.line), ("suspect", Some(1)), "{said}");
    let sql = "SELECT convert_from(lo_get(7001, 0, 5), 'UTF8') || convert_from(lo_get(7001, 2048, 9), 'UTF8')";
    let found = server.connect("with").await.query_one(sql, &[]).await.unwrap();
    assert_eq!(found.get::<_, &str>(0), "cleanmore", "{said}");
}

/// Rows that are too long as text are in COPY's binary format: they are loaded
/// one by one.
#[tokio::test(flavor = "multi_thread")]
async fn rows_in_binary_form_are_loaded_and_rejected_one_by_one() {
    let server = server_of(&Version::newest()).await;
    let dumped = dump(&server, "was", &["-Z", "none"]);
    let sql =
        "COPY (SELECT CASE WHEN n = 2 THEN NULL ELSE 9000 + n END, 1 + n::int, '2024-01-01'::date
        FROM generate_series(1::bigint, 3) n) TO STDOUT (FORMAT binary)";
    let client = server.connect("was").await;
    let rows = oracle::copy_out(&client, sql).await.expect("rows in binary form");
    change(&dumped, "child", RowClass::Oversize, |lines| *lines = vec![rows.clone()]);
    let path = dumped.dir.join("manifest.json");
    let mut manifest = Manifest::from_json(&std::fs::read(&path).unwrap()).unwrap();
    let child = manifest.relations.iter_mut().find(|r| r.name == "child").unwrap();
    child.rows.oversize = 3;
    child.files.iter_mut().find(|f| f.class == RowClass::Oversize).unwrap().rows = 3;
    std::fs::write(&path, manifest.to_json()).unwrap();
    let back = restore(&server, "is", &dumped.dir, &["--create", "--check"]);
    let said = format!("{}\n{}", back.ran.stdout, back.ran.stderr);
    assert_eq!(back.ran.code, 2, "{said}");
    back.assert_counts("binary");
    let files = &back.relation("child").files;
    let file = files.iter().find(|f| f.class == RowClass::Oversize).expect("the file");
    assert_eq!((file.loaded, file.rejected, &file.complaint), (2, 1, &None), "{said}");
    let [line] = &back.rejects("public.child.csv")[..] else { panic!("{said}") };
    assert_eq!((line.class.as_str(), line.line, line.column.as_str()), ("oversize", Some(2), "id"));
    let sql = "SELECT count(*) FROM child WHERE id IN (9001, 9003)";
    let client = server.connect("is").await;
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 2);
    assert!(back.relation("child").check.as_ref().is_some_and(|c| c.equal), "{said}");
    client.execute("UPDATE child SET at = '2024-01-02' WHERE id = 9003", &[]).await.unwrap();
    let other = restore(&server, "is", &dumped.dir, &["--check-only"]);
    let check = other.relation("child").check.clone().expect("a check");
    assert_eq!((check.equal, check.failed), (false, None), "{}", other.ran.stdout);
    assert_eq!(check.expected, check.found, "{}", other.ran.stdout);
}

/// A file that is cut short, changed, not to be unpacked, or gone costs what it
/// lacks, and nothing of the other tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_what_the_manifest_says_ends_nothing_else() {
    let server = server_of(&Version::newest()).await;
    type Harm = fn(&Path);
    let cut: Harm = |path| {
        let text = std::fs::read(path).unwrap();
        std::fs::write(path, &text[..text.len() / 2]).unwrap();
    };
    let gone: Harm = |path| std::fs::remove_file(path).unwrap();
    let changed: Harm = |path| {
        let mut text = std::fs::read(path).unwrap();
        text.swap(20, 21);
        std::fs::write(path, text).unwrap();
    };
    let cases: [(&str, &str, Harm, &str); 4] = [
        ("none", "data/public.child.copy", cut, "rows, and 3000 by the manifest"),
        ("zstd", "data/public.child.copy.zst", cut, "cannot be unpacked to its end"),
        ("none", "data/public.child.copy", gone, "No such file"),
        ("none", "data/public.child.copy", changed, "its sha256 is another"),
    ];
    for (n, (codec, file, harm, complaint)) in cases.into_iter().enumerate() {
        let dumped = dump(&server, "was", &["-Z", codec]);
        harm(&dumped.dir.join(file));
        let back = restore(&server, &format!("is_{n}"), &dumped.dir, &["--create", "-j2"]);
        let said = format!("{n}: {}\n{}", back.ran.stdout, back.ran.stderr);
        assert_eq!(back.ran.code, 2, "{said}");
        back.assert_counts(file);
        let entry = &back.relation("child").files[0];
        assert!(entry.complaint.as_ref().is_some_and(|c| c.contains(complaint)), "{said}");
        assert!(back.ran.stdout.contains(complaint), "{said}");
        let count = "SELECT count(*) FROM child";
        let there: i64 =
            server.connect(&format!("is_{n}")).await.query_one(count, &[]).await.unwrap().get(0);
        assert_eq!(there as u64, entry.loaded, "{said}");
        assert_eq!(back.relation("parent").files[0].loaded, ROWS as u64, "{said}");
    }
}
