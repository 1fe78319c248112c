//! Rows of pages that the server refuses, decoded from the pages' bytes: what
//! they were is what the server wrote before the harm.

mod hurt;
mod killers;

use crate::kit::dumped::{Dumped, dump, dump_as};
use crate::kit::oracle::{self, Row};
use crate::kit::places::{read_page, write_page};
use crate::kit::{
    ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version, harm, sample,
};
use crate::pages::values;
use hurt::{Hurt, ids};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use pg_salvage::page::datum;
use std::collections::{BTreeMap, BTreeSet};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "sample";
const RAW: &str = "--raw-rows=auto";

/// Of each dumped column, whether its values can be written here.
async fn known(client: &tokio_postgres::Client, relation: &str) -> Vec<bool> {
    let generated = "attgenerated = ''";
    let sql = format!(
        "SELECT CASE WHEN typtype = 'd' THEN typbasetype ELSE atttypid END, typtype = 'e'
         FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_type ON pg_type.oid = atttypid
         WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND {generated}
         ORDER BY attnum"
    );
    let rows = client.query(&sql, &[&relation]).await.expect("pg_attribute");
    rows.iter().map(|row| datum::is_known(row.get(0)) || row.get(1)).collect()
}

/// A row without the values that cannot be written; none, if there are none.
fn partial(line: &[u8], known: &[bool]) -> Option<Vec<u8>> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b'\t').collect();
    let is_lost = |(field, known): (&&[u8], &bool)| !known && **field != b"\\N"[..];
    if !fields.iter().zip(known).any(is_lost) {
        return None;
    }
    let left = fields.iter().zip(known).map(|(f, known)| if *known { *f } else { b"\\N" });
    Some(left.collect::<Vec<_>>().join(&b'\t'))
}

/// Makes the checksum of every page wrong, and nothing else.
fn spoil_all(server: &Server, places: &Places) {
    for block in 0..places.blocks {
        let mut page = read_page(server, &places.main, block);
        if !page.is_zero() {
            page.flip(8, 0x55);
            write_page(server, &places.main, &page);
        }
    }
}

/// The whole sample: every type, dropped columns, columns that are newer than their
/// rows, generated ones, values of every way of storage, rows with a past.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_refused_pages_is_what_the_server_would_have_written() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let all = version.major == Version::newest().major;
        if all {
            sample::create(&server, DB, 1).await;
        } else {
            server.create_database(DB).await;
            server.execute(DB, "CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'e\\f')").await;
        }
        let client = oracle::session(&server, DB).await;
        if !all {
            values::create(&client, version.major, 99, values::LONG).await;
        }
        let sql = "CREATE TABLE public.many AS SELECT i AS id, i / 7.0 AS n, md5(i::text) AS t,
            '2020-01-01'::timestamptz + i * interval '1 min' AS at, ARRAY[i, NULL] AS a,
            jsonb_build_object('i', i) AS j, (enum_range(NULL::public.mood))[1 + i % 3] AS m
            FROM generate_series(1, 20000) i";
        client.batch_execute(sql).await.expect("a table");
        let mut truth: Vec<(oracle::Relation, Vec<Row>, Vec<bool>, Places)> = Vec::new();
        for relation in oracle::relations(&client).await {
            let name = relation.quoted();
            let columns = oracle::columns(&client, &name).await;
            let rows = oracle::rows(&client, &name, &columns).await;
            let known = known(&client, &name).await;
            let places = Places::of(&client, &name).await;
            truth.push((relation, rows, known, places));
        }
        drop(client);
        assert_eq!(server.stop(), Stop::Clean);
        for (.., places) in &truth {
            spoil_all(&server, places);
        }
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j2", RAW]);
        dumped.check_files("all");
        let mut compared = 0;
        for (relation, rows, known, _) in &truth {
            let at = format!("{} {}", version.major, relation.quoted());
            let entry = dumped.relation_of(&relation.schema, &relation.name);
            let whole = |r: &&Row| partial(&r.line, known).is_none();
            let suspect: Vec<&[u8]> = rows.iter().filter(whole).map(|r| &r.line[..]).collect();
            let lost: Vec<Vec<u8>> = rows.iter().filter_map(|r| partial(&r.line, known)).collect();
            compare(&dumped.lines(entry, RowClass::Suspect).await, &suspect, &at);
            let lost: Vec<&[u8]> = lost.iter().map(|l| &l[..]).collect();
            compare(&dumped.lines(entry, RowClass::Partial).await, &lost, &at);
            assert_eq!((entry.rows.clean, entry.lost_omitted), (0, 0), "{at}: {entry:#?}");
            assert!(entry.lost.iter().all(|l| l.column.is_some()), "{at}: {:#?}", entry.lost);
            compared += rows.len();
        }
        assert!(compared > 20_000, "{compared} rows");
        if all {
            check_kept(&dumped).await;
        }
    }
}

fn compare(found: &[Vec<u8>], wanted: &[&[u8]], at: &str) {
    let differs = found.iter().zip(wanted).find(|(found, wanted)| &found[..] != **wanted);
    if let Some((found, wanted)) = differs {
        let [found, wanted] = [found, *wanted].map(|l| String::from_utf8_lossy(l).into_owned());
        panic!("{at}:\nfound  {found}\nwanted {wanted}");
    }
    assert_eq!(found.len(), wanted.len(), "{at}");
}

/// The bytes of values that cannot be written are kept.
async fn check_kept(dumped: &Dumped) {
    let entry = dumped.relation("all_types");
    let chunks = dumped.lines(entry, RowClass::ToastChunks).await;
    let of: Vec<String> = chunks.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    let money = |l: &&String| l.contains("\ta_money\t\\N\t\\N\t\\\\x");
    let first = of.iter().find(money).expect("a value of money");
    // One unit is a hundred hundredths.
    assert!(first.ends_with("\\\\x6400000000000000"), "{first}");
    let lost = entry.lost.iter().filter(|l| l.column.is_some()).count();
    assert_eq!(of.len(), lost, "each lost value is kept");
}

/// What is had of every kind of damage.
#[tokio::test(flavor = "multi_thread")]
async fn untouched_tuples_are_had_once_and_none_that_is_dead() {
    let mut versions = Version::one_or_two();
    // Without ranges of ctids.
    versions.extend(Version::between(10, 10));
    for version in versions {
        let hurt = Hurt::new(&version, version.major == 15).await;
        for options in [&["-j1", RAW][..], &["-j2", "--split-size", "64kB", RAW]] {
            let at = format!("{} {options:?}", version.major);
            let dumped = dump(PROGRAM, &hurt.server, DB, options);
            hurt.check(&dumped, &at).await;
        }
    }
}

/// With both, what the bytes give is not read unchecked, and the rest is.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_bytes_do_not_give_is_read_unchecked() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        server.create_database(DB).await;
        // Money cannot be written here.
        let sql = "CREATE TABLE paid (id int PRIMARY KEY, what text, paid money);
            INSERT INTO paid SELECT i, 'w' || i, CASE WHEN i % 3 = 0 THEN i::money END
            FROM generate_series(1, 2000) i";
        server.execute(DB, sql).await;
        let client = oracle::session(&server, DB).await;
        let columns = oracle::columns(&client, "public.paid").await;
        let rows = oracle::rows(&client, "public.paid", &columns).await;
        let places = Places::of(&client, "public.paid").await;
        drop(client);
        assert_eq!(server.stop(), Stop::Clean);
        for block in [2, 3] {
            let at = Place { block, offset: 1 };
            harm(&server, &places, Harm::Checksum, at, ChecksumAfter::Stale);
        }
        let at = Place { block: 5, offset: 1 };
        harm(&server, &places, Harm::BadPageHeader, at, ChecksumAfter::Stale);
        server.start_again();
        let options = [RAW, "--ignore-checksum-failure", "--allow-on-primary"];
        let dumped = dump(PROGRAM, &server, DB, &options);
        dumped.check_files("both");
        let entry = dumped.relation("paid");
        let lines = |wanted: &dyn Fn(&Row) -> bool| -> BTreeSet<Vec<u8>> {
            rows.iter().filter(|r| wanted(r)).map(|r| r.line.clone()).collect()
        };
        let paid = |r: &Row| !r.line.ends_with(b"\\N");
        let suspect = dumped.lines(entry, RowClass::Suspect).await;
        let wanted = lines(&|r| [2, 3].contains(&r.block) || r.block == 5 && !paid(r));
        assert_eq!(suspect.len(), wanted.len(), "{entry:#?}");
        assert!(suspect.into_iter().collect::<BTreeSet<_>>() == wanted, "{entry:#?}");
        let clean = dumped.lines(entry, RowClass::Clean).await;
        let wanted = lines(&|r| ![2, 3, 5].contains(&r.block));
        assert!(clean.into_iter().collect::<BTreeSet<_>>() == wanted, "{entry:#?}");
        // Unchecked reads do not help a bad header.
        let in_part = rows.iter().filter(|r| r.block == 5 && paid(r)).count() as u64;
        assert_eq!(entry.rows.partial, in_part, "{entry:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_files_loses_the_blocks_as_before() {
    for version in Version::one_or_two() {
        let hurt = Hurt::new(&version, false).await;
        let sql = "CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader";
        hurt.server.execute(DB, sql).await;
        let with = |role, option| dump_as(PROGRAM, &hurt.server, (role, DB), &[option]);
        let (may_not, never) = (with("reader", RAW), with("postgres", "--raw-rows=never"));
        let essence = |dumped: &Dumped| {
            let entry = dumped.relation("moved");
            format!("{:?} {:?} {:?}", entry.rows, entry.blocks, entry.lost)
        };
        assert_eq!(essence(&may_not), essence(&never), "{}", version.major);
        let entry = may_not.relation("moved");
        assert_eq!(entry.status, RelationStatus::Salvaged);
        assert_eq!(entry.rows.suspect, 0, "{entry:#?}");
        let read = ids(&may_not.lines(entry, RowClass::Clean).await);
        let bad = hurt.bad_blocks();
        let wanted = hurt.rows.iter().filter(|r| !bad.contains(&r.block));
        let wanted: BTreeMap<i32, usize> = wanted.map(|r| (hurt::id(&r.line), 1)).collect();
        assert_eq!(read, wanted);
    }
}
