//! A database that has one of everything, made the same on every version.
//!
//! The statements are in `sample/*.sql`; what only some versions or builds
//! have is here. Contents depend on the scale alone, so two databases of one
//! version are equal.

use super::{Server, oracle};
use tokio_postgres::Client;

const PARTS: [&str; 4] = [
    include_str!("sample/types.sql"),
    include_str!("sample/history.sql"),
    include_str!("sample/shapes.sql"),
    include_str!("sample/names.sql"),
];

/// Creates the database and fills it. At scale 1 it has about ten thousand
/// rows in seventy tables.
pub async fn create(server: &Server, dbname: &str, scale: u32) {
    server.create_database(dbname).await;
    let client = server.connect(dbname).await;
    run(&client, "SET timezone = 'UTC'; SET extra_float_digits = 1").await;
    for part in PARTS {
        let part = of_version(part, server.version.major).replace(":scale", &scale.to_string());
        for statements in in_transactions(&part) {
            run(&client, &statements).await;
        }
    }
    what_some_versions_have(server, &client).await;
    // After the rest, and each on its own: VACUUM takes no transaction.
    run(&client, "VACUUM (FREEZE, ANALYZE) frozen").await;
    run(&client, "VACUUM (ANALYZE) all_types").await;
    run(&client, "CHECKPOINT").await;
}

async fn what_some_versions_have(server: &Server, client: &Client) {
    let major = server.version.major;
    if major >= 14 {
        run(
            client,
            "CREATE TABLE multiranges (id int, m int4multirange, d datemultirange);
             INSERT INTO multiranges SELECT i, int4multirange(int4range(i, i + 2), int4range(i + 5, NULL)), '{}'
             FROM generate_series(1, 20) i",
        )
        .await;
    }
    if major >= 15 {
        run(
            client,
            "CREATE UNLOGGED SEQUENCE unlogged_sequence; SELECT nextval('unlogged_sequence')",
        )
        .await;
    }
    if major >= 18 {
        run(
            client,
            "CREATE TABLE generated_virtual (a int, tripled int GENERATED ALWAYS AS (a * 3) VIRTUAL, b text);
             INSERT INTO generated_virtual (a, b) SELECT i, 'b' || i FROM generate_series(1, 50) i",
        )
        .await;
    }
    if major >= 14 && has_lz4(client).await {
        run(
            client,
            "CREATE TABLE wide_lz4 (id int, t text COMPRESSION lz4);
             INSERT INTO wide_lz4 SELECT i, repeat('compressible by lz4 ' || i, 50 * (i % 40))
             FROM generate_series(1, 100) i",
        )
        .await;
    }
    in_place_tablespace(client).await;
    if client.simple_query("SELECT '<a/>'::xml").await.is_ok() {
        run(
            client,
            "CREATE TABLE xmls (id int, x xml);
             INSERT INTO xmls SELECT i, xmlparse(CONTENT '<a b=\"' || i || '\">&lt;text&gt;</a>')
             FROM generate_series(1, 20) i",
        )
        .await;
    }
}

/// A table in a tablespace that lies inside of the data directory, so that it
/// is copied with it. The tablespace belongs to the whole server.
async fn in_place_tablespace(client: &Client) {
    run(client, "SET allow_in_place_tablespaces = on").await;
    let sql = "SELECT FROM pg_tablespace WHERE spcname = 'elsewhere'";
    if client.query_opt(sql, &[]).await.expect("pg_tablespace").is_none() {
        run(client, "CREATE TABLESPACE elsewhere LOCATION ''").await;
    }
    run(
        client,
        "CREATE TABLE in_tablespace (id int, t text) TABLESPACE elsewhere;
         INSERT INTO in_tablespace SELECT i, 'elsewhere ' || i FROM generate_series(1, 100) i",
    )
    .await;
}

/// A database whose texts and names are not all UTF-8: `LATIN1`, where each is
/// legal, or `SQL_ASCII`, where nobody knows what they are.
pub async fn create_encoded(server: &Server, dbname: &str, encoding: &str) {
    let name = oracle::quote(dbname);
    let create = format!(
        "CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    );
    server.execute("postgres", &create).await;
    let client = server.connect(dbname).await;
    run(
        &client,
        "CREATE TABLE plain (id int, t text);
         INSERT INTO plain SELECT i, 'caf' || chr(233) || i FROM generate_series(1, 50) i;
         DO $$ BEGIN EXECUTE format('CREATE TABLE %I (%I int, t text)', 'caf' || chr(233), 'n' || chr(176)); END $$;
         DO $$ BEGIN EXECUTE format('INSERT INTO %I SELECT 1, %L', 'caf' || chr(233), chr(255) || chr(128)); END $$",
    )
    .await;
}

/// Whether this server was built with lz4 for TOAST.
pub async fn has_lz4(client: &Client) -> bool {
    let sql =
        "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'";
    client.query_opt(sql, &[]).await.expect("pg_settings").is_some_and(|row| row.get(0))
}

/// `n` tables `bulk_0`, `bulk_1`, … of `rows` mixed rows each, and one narrow
/// table `bulk_narrow` of `narrow_rows`, for benches.
pub async fn bulk(server: &Server, dbname: &str, n: u32, rows: u64, narrow_rows: u64) {
    server.create_database(dbname).await;
    let client = server.connect(dbname).await;
    for i in 0..n {
        run(
            &client,
            &format!(
                "CREATE TABLE bulk_{i} (id bigint, at timestamptz, amount numeric, note text, filler text);
                 INSERT INTO bulk_{i} SELECT g, '2020-01-01 UTC'::timestamptz + g * interval '1 s', g / 100.0,
                     md5(g::text), repeat('filler ', (g % 10)::int) FROM generate_series(1, {rows}) g"
            ),
        )
        .await;
    }
    run(
        &client,
        &format!(
            "CREATE TABLE bulk_narrow (a int, b int);
             INSERT INTO bulk_narrow SELECT g, g % 1000 FROM generate_series(1, {narrow_rows}) g"
        ),
    )
    .await;
    run(&client, "VACUUM (ANALYZE)").await;
    run(&client, "CHECKPOINT").await;
}

/// How many rows each table of `victims` has: enough for thirty blocks.
pub const VICTIM_ROWS: i32 = 1500;
/// Every so many rows of a victim have an out-of-line value.
pub const TOASTED_EVERY: i32 = 10;
pub const VICTIM_COLUMNS: [&str; 6] = ["id", "n", "at", "note", "squeezed", "big"];

/// Equal tables of these names, each to be harmed in one way: columns of fixed
/// width first, then one short value, one compressed in place and, in every
/// tenth row, one out of line (never compressed, of three chunks; compressed, of
/// two, where the name ends in `Compressed`). Vacuumed, so that every page is
/// all-visible and carries its hint bits, unless the name begins with `fresh`.
pub async fn victims(server: &Server, dbname: &str, names: &[&str]) {
    let client = server.connect(dbname).await;
    let (first, others) = names.split_first().expect("a name");
    run(&client, &create_victim(first)).await;
    let rows = format!(
        "SELECT i, i * 1000003::bigint, '2020-01-01'::timestamp + i * interval '1 min',
             'note ' || i || ' ' || md5(i::text), repeat('abcdefghij' || i, 250),
             CASE WHEN i % {TOASTED_EVERY} = 0
                 THEN (SELECT string_agg(repeat(md5(i::text || j), 2), '' ORDER BY j) FROM generate_series(1, 75) j) END
         FROM generate_series(1, {VICTIM_ROWS}) i"
    );
    run(&client, &format!("INSERT INTO {} {rows}", oracle::quote(first))).await;
    for name in others {
        run(&client, &create_victim(name)).await;
        // Copied, so that nothing is compressed twice.
        let (to, from) = (oracle::quote(name), oracle::quote(first));
        run(&client, &format!("INSERT INTO {to} SELECT * FROM {from}")).await;
    }
    for name in names.iter().filter(|name| !name.starts_with("fresh")) {
        run(&client, &format!("VACUUM (ANALYZE) {}", oracle::quote(name))).await;
    }
    run(&client, "CHECKPOINT").await;
}

fn create_victim(name: &str) -> String {
    let table = oracle::quote(name);
    let storage = if name.ends_with("Compressed") { "EXTENDED" } else { "EXTERNAL" };
    format!(
        "CREATE TABLE {table} (id int PRIMARY KEY, n bigint NOT NULL, at timestamp NOT NULL,
             note text NOT NULL, squeezed text, big text);
         ALTER TABLE {table} ALTER big SET STORAGE {storage}"
    )
}

async fn run(client: &Client, statements: &str) {
    let Err(error) = client.batch_execute(statements).await else { return };
    let mut place = statements;
    let db = error.as_db_error();
    if let Some(tokio_postgres::error::ErrorPosition::Original(at)) =
        db.and_then(|db| db.position())
    {
        // In characters, but a message may be inexact.
        let at = usize::try_from(*at).expect("a position").saturating_sub(40);
        place = statements.get(at..).unwrap_or(place);
    }
    let place: String = place.chars().take(200).collect();
    let message = db.map_or_else(
        || format!("{error:?}"),
        |db| format!("{db} {}", db.detail().unwrap_or_default()),
    );
    panic!("{message}\nat: {place}");
}

/// Leaves out the lines that another version is to have: `-- since 12` or
/// `-- before 12` is at their ends.
fn of_version(part: &str, major: u32) -> String {
    let is_there = |line: &&str| match line.rsplit_once(" -- ").map(|(_, note)| note) {
        Some(note) => {
            let number = |word| note.strip_prefix(word).and_then(|n| n.parse::<u32>().ok());
            number("since ").is_none_or(|n| major >= n)
                && number("before ").is_none_or(|n| major < n)
        }
        None => true,
    };
    part.lines().filter(is_there).flat_map(|line| [line, "\n"]).collect()
}

/// A batch is one transaction, so a part with `BEGIN` and `ROLLBACK` of its own
/// is cut before and after those.
fn in_transactions(part: &str) -> Vec<String> {
    let mut batches = vec![String::new()];
    for line in part.lines() {
        if line == "BEGIN;" {
            batches.push(String::new());
        }
        let last = batches.last_mut().expect("never empty");
        last.push_str(line);
        last.push('\n');
        if line == "ROLLBACK;" || line == "COMMIT;" {
            batches.push(String::new());
        }
    }
    batches
}
