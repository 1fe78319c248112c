//! Values in TOAST that the server cannot give: those whose chunks are all there
//! are put together, and of the others what is left is kept.

use crate::kit::dumped::{Dumped, dump, dump_as};
use crate::kit::oracle::Row;
use crate::kit::places::{read_page, remove, write_page};
use crate::kit::{Places, Server, ServerOptions, Stop, Version, oracle};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use std::collections::{BTreeMap, BTreeSet};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

/// Values of many types and lengths, in TOAST compressed and not; some are NULL,
/// some in the tuple itself.
const VALUES: &str = "CREATE DOMAIN word AS text;
    CREATE TABLE v (id int, dropped int, t text, b bytea, j jsonb, w word, a text[], n numeric, x xml);
    ALTER TABLE v DROP COLUMN dropped;
    ALTER TABLE v ALTER t SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL;
    INSERT INTO v SELECT i,
        CASE WHEN i % 7 > 0 THEN (SELECT string_agg(md5((i * k)::text), chr(9) || E'\\\\') FROM generate_series(1, i % 300) k) END,
        decode((SELECT string_agg(md5((i + k)::text), '') FROM generate_series(1, i * 13 % 700) k), 'hex'),
        (SELECT jsonb_object_agg('k' || k, jsonb_build_array(md5((k * i)::text), k / 3.0, NULL, true)) FROM generate_series(1, i % 90) k),
        repeat(md5(i::text) || E'\\n', i % 600),
        (SELECT array_agg(md5((k - i)::text) || '\"') FROM generate_series(1, i % 200) k),
        repeat('123456789', i % 900)::numeric / 7,
        xmlelement(name e, repeat(md5(i::text), i % 150))
        FROM generate_series(1, 600) i";

async fn rows_of(server: &Server, table: &str) -> (Places, Vec<Row>) {
    let client = oracle::session(server, DB).await;
    let columns = oracle::columns(&client, table).await;
    let rows = oracle::rows(&client, table, &columns).await;
    (Places::of(&client, table).await, rows)
}

fn stopped(server: &Server) {
    assert_eq!(server.stop(), Stop::Clean);
}

fn zero(server: &Server, path: &str, block: u32) {
    let mut page = read_page(server, path, block);
    page.bytes.fill(0);
    write_page(server, path, &page);
}

async fn clean_rows(dumped: &Dumped, table: &str) -> Vec<Vec<u8>> {
    dumped.lines(dumped.relation(table), RowClass::Clean).await
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_are_put_together_where_the_index_is_damaged() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        server.execute(DB, VALUES).await;
        let (places, rows) = rows_of(&server, "public.v").await;
        assert!(places.toast_blocks > 300, "much of it is in TOAST: {places:?}");
        stopped(&server);
        let index = places.toast_index.as_deref().expect("an index");
        // The root, and all leaves.
        for block in 1..6 {
            zero(&server, index, block);
        }
        server.start_again();
        for options in [&["-j1"][..], &["-j3", "--split-size", "64kB"]] {
            let dumped = dump(PROGRAM, &server, DB, options);
            let relation = dumped.relation("v");
            let clean = clean_rows(&dumped, "v").await;
            let differ = clean.iter().zip(&rows).position(|(c, r)| *c != r.line);
            assert_eq!(differ, None, "{}: {relation:#?}", version.major);
            assert_eq!(clean.len(), rows.len(), "{}: {relation:#?}", version.major);
            assert_eq!(relation.status, RelationStatus::Salvaged);
            assert!(relation.reason.as_ref().is_some_and(|r| r.contains("TOAST")), "{relation:#?}");
            assert_eq!(dumped.manifest.exit_code, 2);
            dumped.check_files("put together");
        }
    }
}

/// Chunks of a TOAST relation: value and number, with block and data.
async fn chunks(server: &Server, places: &Places) -> BTreeMap<(u32, u32), (u32, String)> {
    let client = oracle::session(server, DB).await;
    let toast = format!(
        "SELECT ctid::text, chunk_id::text, chunk_seq, chunk_data::text FROM pg_toast.pg_toast_{}",
        places.oid
    );
    let rows = client.query(&toast, &[]).await.expect("the TOAST relation");
    let chunk = |r: &tokio_postgres::Row| {
        let tid: String = r.get(0);
        let block = tid[1..].split(',').next().expect("a block").parse().expect("a number");
        let id: String = r.get(1);
        let seq: i32 = r.get(2);
        ((id.parse().expect("an OID"), seq.unsigned_abs()), (block, r.get::<_, String>(3)))
    };
    rows.iter().map(chunk).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_value_with_a_missing_chunk_the_others_are_kept() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(false));
        let sql = "CREATE TABLE w (id int, t text STORAGE EXTERNAL);
            INSERT INTO w SELECT i, (SELECT string_agg(md5((i * k)::text), '') FROM generate_series(1, 200) k)
            FROM generate_series(1, 40) i";
        let sql = match version.major {
            16.. => sql.to_owned(),
            _ => sql
                .replace(" STORAGE EXTERNAL", "")
                .replace("INSERT", "ALTER TABLE w ALTER t SET STORAGE EXTERNAL; INSERT"),
        };
        server.execute(DB, &sql).await;
        let (places, rows) = rows_of(&server, "public.w").await;
        let all = chunks(&server, &places).await;
        stopped(&server);
        let block = places.toast_blocks / 2;
        zero(&server, places.toast.as_deref().expect("TOAST"), block);
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
        let relation = dumped.relation("w");
        let lost: BTreeSet<u32> =
            all.iter().filter(|(_, (b, _))| *b == block).map(|((value, _), _)| *value).collect();
        assert!(!lost.is_empty());
        let values: BTreeSet<u32> = all.keys().map(|(value, _)| *value).collect();
        // Values were stored in the order of the rows.
        let of_row: BTreeMap<u32, &Row> = values.iter().copied().zip(&rows).collect();
        let partial: Vec<Vec<u8>> = lost
            .iter()
            .map(|value| {
                let id = of_row[value].line.split(|&b| b == b'\t').next().expect("id");
                [id, b"\t\\N"].concat()
            })
            .collect();
        assert_eq!(dumped.lines(relation, RowClass::Partial).await, partial, "{relation:#?}");
        let kept: Vec<Vec<u8>> = all
            .iter()
            .filter(|((value, _), (b, _))| lost.contains(value) && *b != block)
            .map(|((value, seq), (_, data))| {
                let Row { block, offset, .. } = of_row[value];
                format!("({block},{offset})\tt\t{value}\t{seq}\t\\{data}").into_bytes()
            })
            .collect();
        assert_eq!(dumped.lines(relation, RowClass::ToastChunks).await, kept, "{relation:#?}");
        for (value, missing) in relation.lost.iter().zip(&lost) {
            assert_eq!(value.column.as_deref(), Some("t"));
            let name = format!("TOAST value {missing} in");
            assert!(value.message.contains(&name), "{}", value.message);
            assert!(value.message.contains("are missing:"), "{}", value.message);
        }
        assert_eq!(relation.lost.len(), lost.len());
        dumped.check_files("kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_without_their_toast_values_cost_no_search_for_each() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(false));
        let sql = "CREATE TABLE m (id int, t text, u text);
            INSERT INTO m SELECT i, (SELECT string_agg(md5((i * k)::text), '') FROM generate_series(1, 80) k), 'u' || i
            FROM generate_series(1, 5000) i;
            CREATE ROLE owner LOGIN; ALTER TABLE m OWNER TO owner";
        server.execute(DB, sql).await;
        let (places, rows) = rows_of(&server, "public.m").await;
        stopped(&server);
        remove(&server, places.toast.as_deref().expect("TOAST"), 0);
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
        let relation = dumped.relation("m");
        let expected: Vec<Vec<u8>> = rows
            .iter()
            .map(|r| {
                let f: Vec<&[u8]> = r.line.split(|&b| b == b'\t').collect();
                [f[0], b"\t\\N\t", f[2]].concat()
            })
            .collect();
        assert!(dumped.lines(relation, RowClass::Partial).await == expected, "{relation:#?}");
        // One line for each value that is lost, and few reads beside.
        let errors = relation.errors.as_ref().map_or(0, |e| e.count);
        assert!(errors < 5000 + 100, "{errors} errors");
        assert_eq!(relation.lost.len() as u64 + relation.lost_omitted, 5000);
        assert_eq!(relation.status, RelationStatus::Salvaged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_look_the_other_columns_are_had_all_the_same() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(false));
        let sql = "CREATE TABLE m (id int, t text);
            INSERT INTO m SELECT i, (SELECT string_agg(md5((i * k)::text), '') FROM generate_series(1, 80) k)
            FROM generate_series(1, 500) i;
            CREATE ROLE owner LOGIN; ALTER TABLE m OWNER TO owner";
        server.execute(DB, sql).await;
        let (places, rows) = rows_of(&server, "public.m").await;
        stopped(&server);
        zero(&server, places.toast_index.as_deref().expect("an index"), 1);
        server.start_again();
        let dumped = dump_as(PROGRAM, &server, ("owner", DB), &[]);
        let relation = dumped.relation("m");
        // One leaf of the index is damaged: values of the others are had.
        assert_eq!(relation.rows.clean + relation.rows.partial, rows.len() as u64);
        assert!(relation.rows.partial > 100, "{relation:#?}");
        assert_eq!(dumped.manifest.exit_code, 2, "{}", dumped.said);
        // And with it all is there.
        let dumped = dump(PROGRAM, &server, DB, &[]);
        assert!(clean_rows(&dumped, "m").await.iter().eq(rows.iter().map(|r| &r.line)));
    }
}

/// The file of a table may be behind what the server has in memory, with another
/// row at the same place: its value is not that of the row that is there now.
#[tokio::test(flavor = "multi_thread")]
async fn no_row_gets_the_value_of_another_that_was_at_its_place() {
    for version in Version::one_or_two() {
        let options = ServerOptions::checksums(true)
            .set("bgwriter_lru_maxpages", "0")
            .set("checkpoint_timeout", "1h")
            .set("autovacuum", "off");
        let server = Server::start(&version, options);
        let create = "CREATE TABLE v (id int, n int, b bytea);
            ALTER TABLE v ALTER b SET STORAGE EXTERNAL;
            INSERT INTO v SELECT i, 0, decode(repeat(md5(i::text), 150), 'hex') FROM generate_series(1, 5) i";
        server.execute(DB, create).await;
        server.execute(DB, "UPDATE v SET n = 1 WHERE id = 1").await;
        let (places, rows) = rows_of(&server, "public.v").await;
        stopped(&server);
        zero(&server, places.toast_index.as_deref().expect("an index"), 1);
        server.start_again();
        // The first row moves on, and the second comes to where it was: in memory.
        server.execute(DB, "UPDATE v SET n = 2 WHERE id = 1").await;
        server.execute(DB, "VACUUM (INDEX_CLEANUP OFF, PROCESS_TOAST OFF) v").await;
        server.execute(DB, "UPDATE v SET n = 2 WHERE id = 2").await;
        let client = server.connect(DB).await;
        let at = client.query_one("SELECT ctid::text FROM v WHERE id = 2", &[]).await;
        assert_eq!(at.expect("a row").get::<_, String>(0), "(0,6)");
        let dumped = dump(PROGRAM, &server, DB, &["-j1"]);
        let relation = dumped.relation("v");
        // The others are as they are in the file, and are put together.
        let others = rows.iter().filter(|r| (3..=5).contains(&r.offset)).map(|r| &r.line);
        assert!(clean_rows(&dumped, "v").await.iter().eq(others), "{relation:#?}");
        let lost = [&b"1\t2\t\\N"[..], b"2\t2\t\\N"];
        let mut partial = dumped.lines(relation, RowClass::Partial).await;
        partial.sort_unstable();
        assert_eq!(partial, lost, "{}", version.major);
    }
}
