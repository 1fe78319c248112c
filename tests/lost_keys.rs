//! Lost rows by name: what the files of a dump say of them is held against the
//! rows as they were, and the statements are run on the undamaged copy.

mod in_part;
mod index_only;

use crate::kit::dumped::{Dumped, dump, go_on};
use crate::kit::page_edit::XMIN_HINTS;
use crate::kit::places::{read_page, write_page};
use crate::kit::version::client_program;
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version};
use crate::kit::{harm, oracle};
use pg_salvage::output::manifest::{LostKeys, RowClass};
use std::collections::BTreeSet;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

/// The versions whose index pages differ: without and with posting lists, and
/// the newest.
fn versions() -> Vec<Version> {
    let mut versions = Version::between(13, 18);
    versions.retain(|v| matches!(v.major, 13 | 15 | 18));
    assert!(!versions.is_empty(), "run tests/kit/fetch-servers first");
    versions
}

/// A server to be harmed, and a copy of it that stays as it is.
struct Pair {
    server: Server,
    copy: Server,
}

impl Pair {
    async fn new(version: &Version, checksums: bool, statements: &[&str]) -> Pair {
        let server = Server::start(version, ServerOptions::checksums(checksums));
        for sql in statements {
            server.execute(DB, sql).await;
        }
        server.execute(DB, "CHECKPOINT").await;
        assert_eq!(server.stop(), Stop::Clean);
        let copy = server.copy();
        copy.start_again();
        Pair { server, copy }
    }

    async fn places(&self, table: &str) -> Places {
        Places::of(&oracle::session(&self.copy, DB).await, &format!("public.{table}")).await
    }

    /// What PostgreSQL writes of these rows, as the file of lost keys should.
    async fn csv(&self, table: &str, columns: &str, condition: &str) -> String {
        let client = oracle::session(&self.copy, DB).await;
        let place = |i: u8| format!("(ctid::text::point)[{i}]::bigint");
        let (block, offset) = (place(0), place(1));
        let sql = format!(
            "COPY (SELECT {block} AS block, {offset} AS \"offset\", true AS certain, {columns}, NULL AS note
                FROM ONLY public.{table} WHERE {condition} ORDER BY 1, 2)
             TO STDOUT (FORMAT csv, FORCE_QUOTE ({columns}))"
        );
        let text = oracle::copy_out(&client, &sql).await.expect("the truth");
        let names: Vec<String> = columns.split(", ").map(|c| format!("\"{c}\"")).collect();
        let head = format!("block,offset,certain,{},note\n", names.join(","));
        head + &String::from_utf8(text).expect("UTF-8")
    }

    /// The rows of a table that this is true of, as lines of COPY.
    async fn rows(&self, table: &str, condition: &str) -> BTreeSet<String> {
        let client = oracle::session(&self.copy, DB).await;
        let columns = oracle::columns(&client, &format!("public.{table}")).await;
        let columns: Vec<String> = columns.iter().map(|c| oracle::quote(c)).collect();
        let sql = format!(
            "COPY (SELECT {} FROM ONLY public.{table} WHERE {condition}) TO STDOUT",
            columns.join(", ")
        );
        lines(&oracle::copy_out(&client, &sql).await.expect("the truth"))
    }

    /// What the statements of a dump fetch from the undamaged copy.
    fn fetched(&self, dumped: &Dumped, keys: &LostKeys) -> BTreeSet<String> {
        let script = dumped.dir.path().join(keys.sql.as_ref().expect("statements"));
        let out = Command::new(client_program("psql", self.copy.version.major))
            .args(["-qX", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(self.copy.conninfo(DB))
            .arg("-f")
            .arg(script)
            .output()
            .expect("psql starts");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let all = lines(&out.stdout);
        let count = out.stdout.iter().filter(|b| **b == b'\n').count();
        assert_eq!(all.len(), count, "a row was fetched twice");
        all
    }
}

fn lines(text: &[u8]) -> BTreeSet<String> {
    oracle::lines(text).map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

fn keys<'a>(dumped: &'a Dumped, table: &str) -> &'a LostKeys {
    let relation = dumped.relation(table);
    relation.lost_keys.as_ref().unwrap_or_else(|| panic!("{relation:#?}\n{}", dumped.said))
}

fn csv(dumped: &Dumped, keys: &LostKeys) -> String {
    let path = keys.path.as_ref().unwrap_or_else(|| panic!("{keys:#?}"));
    std::fs::read_to_string(dumped.dir.path().join(path)).expect("the list")
}

/// The column after `certain` of each record, by whether it is. Of a row that
/// may be lost, an index may know two versions.
fn named(csv: &str) -> [BTreeSet<i32>; 2] {
    let mut named = [BTreeSet::new(), BTreeSet::new()];
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    for record in reader.records().map(|r| r.expect("CSV")) {
        let id = record[3].parse().expect("a number");
        let certain = &record[2] == "t";
        assert!(named[usize::from(certain)].insert(id) || !certain, "{id} is named twice");
    }
    named
}

fn spoil(pair: &Pair, places: &Places, block: u32) {
    let place = Place { block, offset: 1 };
    harm(&pair.server, places, Harm::BadPageHeader, place, ChecksumAfter::Stale);
}

fn in_block(block: u32) -> String {
    format!("(ctid::text::point)[0] = {block}")
}

fn dumped(pair: &Pair, options: &[&str]) -> Dumped {
    pair.server.start_again();
    let dumped = dump(PROGRAM, &pair.server, DB, options);
    dumped.check_files("lost keys");
    dumped
}

const TYPES: &str = "CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE TABLE types (at timestamptz NOT NULL, u uuid NOT NULL, n numeric UNIQUE, t text, f float8,
        nm name, b bytea, d date, v varchar(20), c char(8), a int[], dom positive, ok bool, small int2, loose text,
        PRIMARY KEY (u, at));
    CREATE INDEX ON types (t DESC NULLS LAST, f);
    CREATE INDEX ON types (nm, b) WHERE ok;
    CREATE INDEX ON types (d) INCLUDE (v, c);
    CREATE INDEX ON types (a, (n + 1), dom, ok, small);
    INSERT INTO types SELECT '2020-01-01 UTC'::timestamptz + i * interval '1.000001 s', md5(i::text)::uuid,
        CASE WHEN i % 7 > 0 THEN i / 3.0 END,
        CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN repeat('long ' || i, 150) ELSE 'it''s \"' || i || E'\"\\n,\\\\' END,
        CASE WHEN i % 3 > 0 THEN i / 7.0::float8 END, 'name ' || i, decode(md5(i::text), 'hex'),
        date '2020-01-01' + i, 'v' || i, 'c' || i % 10, ARRAY[i, NULL, -i], i, true, i % 100, 'loose ' || i
    FROM generate_series(1, 3000) i";

#[tokio::test(flavor = "multi_thread")]
async fn every_lost_row_is_named_by_all_its_indexed_columns() {
    for version in versions() {
        let pair = Pair::new(&version, true, &[TYPES, "VACUUM types"]).await;
        let places = pair.places("types").await;
        let block = places.blocks / 2;
        spoil(&pair, &places, block);
        let dumped = dumped(&pair, &["-j2"]);
        let keys = keys(&dumped, "types").clone();
        let columns = "u, at, n, t, f, nm, b, d, v, c, a, dom, ok, small";
        let list = csv(&dumped, &keys);
        assert_eq!(list, pair.csv("types", columns, &in_block(block)).await);
        let rows = pair.rows("types", &in_block(block)).await;
        assert!(rows.len() > 10);
        assert_eq!(keys.rows, rows.len() as u64);
        assert_eq!((keys.certain, keys.omitted), (keys.rows, 0));
        assert_eq!(keys.notes, Vec::<String>::new());
        assert_eq!(pair.fetched(&dumped, &keys), rows);
        let advice = &dumped.relation("types").advice;
        assert!(advice.iter().any(|a| a.contains("lost-keys.sql")), "{advice:?}");
        // A run that goes on finds the same.
        let again = go_on(PROGRAM, &pair.server, DB, dumped, &["-j2"]);
        again.check_files("gone on with");
        assert_eq!(again.relation("types").lost_keys.as_ref(), Some(&keys));
        assert_eq!(csv(&again, &keys), list);
    }
}

const MOVED: &str =
    "CREATE TABLE moved (id int PRIMARY KEY, grp int, note text) WITH (fillfactor = 80);
    CREATE INDEX ON moved (grp);
    INSERT INTO moved SELECT i, i % 50, md5(i::text) FROM generate_series(1, 6000) i";
/// In place, to other pages, taken back, and deleted.
const MOVES: [&str; 5] = [
    "UPDATE moved SET note = 'new ' || note WHERE id % 5 = 0",
    "UPDATE moved SET grp = grp + 100 WHERE id % 4 = 0",
    "DELETE FROM moved WHERE id % 11 = 0",
    "BEGIN; UPDATE moved SET grp = -1 WHERE id % 6 = 0; DELETE FROM moved WHERE id % 13 = 0; ROLLBACK",
    "INSERT INTO moved SELECT i, i, 'late' FROM generate_series(6001, 6500) i",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_row_that_was_read_is_called_lost_and_none_that_was_lost_is_missed() {
    for version in versions() {
        for vacuumed in [false, true] {
            let mut statements = vec![MOVED];
            statements.extend(MOVES);
            statements.extend(vacuumed.then_some("VACUUM moved"));
            let pair = Pair::new(&version, true, &statements).await;
            let places = pair.places("moved").await;
            let blocks = [places.blocks / 3, places.blocks / 2, places.blocks - 1];
            let lost = blocks.map(in_block).join(" OR ");
            for block in blocks {
                spoil(&pair, &places, block);
            }
            let dumped = dumped(&pair, &["-j2"]);
            let at = format!("{} (vacuumed: {vacuumed})", version.major);
            let keys = keys(&dumped, "moved");
            assert_eq!(keys.notes, Vec::<String>::new(), "{at}");
            let rows = pair.rows("moved", &lost).await;
            let id = |row: &str| row.split('\t').next().unwrap().parse::<i32>().unwrap();
            let truth: BTreeSet<i32> = rows.iter().map(|row| id(row)).collect();
            let [may_be, certain] = named(&csv(&dumped, keys));
            if vacuumed {
                assert!(may_be.is_empty(), "{at}: {may_be:?}");
                assert_eq!(certain, truth, "{at}");
            } else {
                // Nobody has said that all of a page can be seen.
                assert!(certain.is_empty(), "{at}: {certain:?}");
                let missed: Vec<_> = truth.difference(&may_be).collect();
                assert!(missed.is_empty(), "{at}: {missed:?}");
                let others: Vec<_> = may_be.difference(&truth).collect();
                assert!(others.iter().all(|id| **id % 11 == 0), "{at}: not deleted: {others:?}");
                assert!(!others.is_empty(), "{at}: deleted rows cannot be told from lost ones");
            }
            let clean = dumped.lines(dumped.relation("moved"), RowClass::Clean).await;
            let read: BTreeSet<i32> =
                clean.iter().map(|l| id(&String::from_utf8_lossy(l))).collect();
            assert!(read.is_disjoint(&may_be) && read.is_disjoint(&certain), "{at}");
            assert_eq!(pair.fetched(&dumped, keys), rows, "{at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_tuple_is_named_wherever_its_chain_of_updates_begins() {
    for version in versions() {
        let statements = [
            "CREATE TABLE single (id int PRIMARY KEY, note text) WITH (fillfactor = 40);
             INSERT INTO single SELECT i, md5(i::text) FROM generate_series(1, 1000) i;
             CREATE TABLE roots AS SELECT id, ctid AS at FROM single",
            "UPDATE single SET note = 'new ' || note WHERE id % 2 = 0",
            "BEGIN; UPDATE single SET note = 'never' WHERE id = 805; ROLLBACK",
        ];
        let pair = Pair::new(&version, false, &statements).await;
        let places = pair.places("single").await;
        let client = oracle::session(&pair.copy, DB).await;
        // One as it was written, a new version, one that was replaced, and what
        // follows one whose update was taken back.
        let mut harmed = BTreeSet::new();
        for (table, column, id) in [
            ("single", "ctid", 201),
            ("single", "ctid", 402),
            ("roots", "at", 604),
            ("roots", "at", 805),
        ] {
            let sql = format!("SELECT {column}::text FROM public.{table} WHERE id = {id}");
            let at: String = client.query_one(&sql, &[]).await.unwrap().get(0);
            let (block, mut offset) = oracle::parse_tid(&at);
            let mut page = read_page(&pair.server, &places.main, block);
            if id == 805 {
                // The offset in its t_ctid.
                offset = page.u16_at(page.tuple(offset).at + 16);
            }
            let tuple = page.tuple(offset);
            page.put(tuple.xmin(), &0xC000_0000_u32.to_le_bytes());
            page.change_infomask(tuple, XMIN_HINTS, 0);
            write_page(&pair.server, &places.main, &page);
            harmed.insert(format!("({block},{offset})"));
        }
        let dumped = dumped(&pair, &["-j2"]);
        let relation = dumped.relation("single");
        let lost: BTreeSet<String> = relation.lost.iter().filter_map(|l| l.ctid.clone()).collect();
        assert_eq!(lost, harmed, "{}: {relation:#?}", version.major);
        let keys = keys(&dumped, "single");
        assert_eq!(named(&csv(&dumped, keys)), [BTreeSet::from([201, 402]), BTreeSet::new()]);
        let list = csv(&dumped, keys);
        for place in list.lines().skip(1).map(|l| l.splitn(3, ',').take(2).collect::<Vec<_>>()) {
            assert!(harmed.contains(&format!("({})", place.join(","))), "{list}");
        }
        assert_eq!(pair.fetched(&dumped, keys), pair.rows("single", "id IN (201, 402)").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_behind_the_end_of_a_short_file_and_of_one_that_is_gone_are_named() {
    for version in versions() {
        let table = |name: &str| {
            format!(
                "CREATE TABLE {name} (id int PRIMARY KEY, note text);
                 INSERT INTO {name} SELECT i, md5(i::text) FROM generate_series(1, 5000) i"
            )
        };
        let (cut, gone) = (table("cut"), table("gone"));
        let statements = [cut.as_str(), gone.as_str(), "VACUUM (ANALYZE)"];
        let pair = Pair::new(&version, true, &statements).await;
        let (cut, gone) = (pair.places("cut").await, pair.places("gone").await);
        let at = Place { block: cut.blocks - 3, offset: 1 };
        harm(&pair.server, &cut, Harm::TruncateAt, at, ChecksumAfter::Stale);
        harm(&pair.server, &gone, Harm::RemoveFile, at, ChecksumAfter::Stale);
        let dumped = dumped(&pair, &["-j2"]);
        let behind = format!("(ctid::text::point)[0] >= {}", at.block);
        for (name, condition) in [("cut", behind.as_str()), ("gone", "true")] {
            let keys = keys(&dumped, name);
            assert_eq!(csv(&dumped, keys), pair.csv(name, "id", condition).await);
            let rows = pair.rows(name, condition).await;
            assert_eq!((keys.rows, keys.certain), (rows.len() as u64, rows.len() as u64));
            assert_eq!(pair.fetched(&dumped, keys), rows, "{name} on {}", version.major);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_key_is_unique_each_lost_row_is_named_all_the_same() {
    for version in versions() {
        let sql = "CREATE TABLE twins (g int, h text, note text); CREATE INDEX ON twins (g, h);
            INSERT INTO twins SELECT nullif(i % 20, 7), nullif('h' || i % 3, 'h1'), md5(i::text)
            FROM generate_series(1, 9000) i";
        let pair = Pair::new(&version, true, &[sql, "VACUUM twins"]).await;
        let places = pair.places("twins").await;
        spoil(&pair, &places, 7);
        let dumped = dumped(&pair, &["-j2"]);
        let keys = keys(&dumped, "twins");
        assert_eq!(csv(&dumped, keys), pair.csv("twins", "g, h", &in_block(7)).await);
        // What has the same key is fetched with them.
        let sql = dumped.dir.path().join(keys.sql.as_ref().unwrap());
        let sql = std::fs::read_to_string(sql).unwrap();
        assert!(sql.contains("(\"g\" IS NULL AND \"h\" = 'h0')"), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_damaged_index_cannot_tell_another_one_does() {
    for version in versions() {
        let sql = "CREATE TABLE halved (id int PRIMARY KEY, n int UNIQUE);
            INSERT INTO halved SELECT i, 10000 - i FROM generate_series(1, 5000) i";
        let pair = Pair::new(&version, true, &[sql, "VACUUM halved"]).await;
        let places = pair.places("halved").await;
        let index = pair.places("halved_pkey").await;
        spoil(&pair, &places, 9);
        for block in 1..index.blocks {
            spoil(&pair, &index, block);
        }
        let dumped = dumped(&pair, &["-j2"]);
        let keys = keys(&dumped, "halved");
        let list = csv(&dumped, keys);
        let rows = pair.rows("halved", &in_block(9)).await;
        assert_eq!(keys.rows, rows.len() as u64);
        assert!(list.lines().skip(1).all(|l| l.ends_with("\"not known: id\"")), "{list}");
        let said = format!(
            "index \"halved_pkey\": {} of its {} pages are damaged",
            index.blocks - 1,
            index.blocks
        );
        assert_eq!(keys.notes, [said]);
        assert_eq!(pair.fetched(&dumped, keys), rows);
    }
}
