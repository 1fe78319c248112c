//! Small relations, which are loaded several to a transaction.

use super::damaged::change;
use super::way_back::{WayBack, contents, dump, restore};
use super::{again::number, way_back::die_at};
use crate::binary::Dump;
use crate::kit::{Server, ServerOptions, Version};
use pg_salvage::output::manifest::RowClass;
use pg_salvage::output::restored::RelationStatus;

const TABLES: i64 = 24;

async fn server_of(version: &Version) -> Server {
    let server = Server::start(version, ServerOptions::checksums(true));
    server.create_database("many").await;
    for i in 0..TABLES {
        // Some have no row.
        let table = format!(
            "CREATE TABLE small_{i} (id int PRIMARY KEY, note text NOT NULL);
            INSERT INTO small_{i} SELECT g, 'note ' || g FROM generate_series(1, {}) g",
            i % 6 * 50
        );
        server.execute("many", &table).await;
    }
    server
}

/// How many transactions have written the rows of all tables.
async fn transactions(server: &Server, dbname: &str) -> i64 {
    let of = |i: i64| format!("SELECT xmin::text FROM small_{i}");
    let all: Vec<String> = (0..TABLES).map(of).collect();
    let sql = format!("SELECT count(DISTINCT xmin) FROM ({}) AS x", all.join(" UNION ALL "));
    number(server, dbname, &sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn small_tables_are_loaded_in_few_transactions() {
    for version in Version::one_or_two() {
        let server = server_of(&version).await;
        let dumped = dump(&server, "many", &[]);
        let back = restore(&server, "new", &dumped.dir, &["--create", "--check", "-j2"]);
        let said = format!("{}\n{}", back.ran.stdout, back.ran.stderr);
        assert_eq!(back.ran.code, 0, "{said}");
        back.assert_counts(&said);
        assert!(contents(&server, "new").await == contents(&server, "many").await, "{said}");
        let used = transactions(&server, "new").await;
        assert!((2..TABLES / 2).contains(&used), "{used} transactions");
    }
}

/// A dump in which a row of one table will be refused, and a file is not whole.
fn dump_with_faults(server: &Server) -> Dump {
    let dumped = dump(server, "many", &["-Z", "none"]);
    change(&dumped, "small_5", RowClass::Clean, |lines| lines.insert(7, b"9000\t\\N\n".to_vec()));
    let cut = dumped.dir.join(&dumped.relation("small_9").files[0].path);
    let text = std::fs::read(&cut).expect("a file");
    std::fs::write(&cut, &text[..text.len() - 3]).expect("a file");
    dumped
}

/// What became of each table, and how many rows it has, by its number and the rows
/// of the dump.
async fn assert_loaded(
    server: &Server,
    back: &WayBack,
    expected: impl Fn(i64, u64) -> (RelationStatus, u64),
) {
    let said = format!("{}\n{}", back.ran.stdout, back.ran.stderr);
    assert_eq!(back.ran.code, 2, "{said}");
    back.assert_counts(&said);
    for i in 0..TABLES {
        let relation = back.relation(&format!("small_{i}"));
        let (status, loaded) = expected(i, i as u64 % 6 * 50);
        assert_eq!((relation.status, relation.files[0].loaded), (status, loaded), "{i}: {said}");
        if status != RelationStatus::NotLoaded {
            let count = number(server, "new", &format!("SELECT count(*) FROM small_{i}")).await;
            assert_eq!(count as u64, loaded, "{i}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_one_of_a_group_costs_the_others_nothing() {
    let server = server_of(&Version::newest()).await;
    let dumped = dump_with_faults(&server);
    let back = restore(&server, "new", &dumped.dir, &["--create", "-j2"]);
    assert_loaded(&server, &back, |i, rows| match i {
        5 => (RelationStatus::WithRejects, rows),
        9 => (RelationStatus::WithRejects, rows - 1),
        _ => (RelationStatus::Loaded, rows),
    })
    .await;
}

/// A row that is refused, rows that a trigger leaves out, a table that is gone, and
/// a file that is not whole.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_one_small_table_costs_the_others_nothing() {
    let server = server_of(&Version::newest()).await;
    let dumped = dump_with_faults(&server);
    let made = restore(&server, "new", &dumped.dir, &["--create", "--schema-only"]);
    assert_eq!(made.ran.code, 0, "{}", made.ran.stderr);
    std::fs::remove_dir_all(&made.folder).expect("its folder");
    let wrong = "DROP TABLE small_11;
        CREATE FUNCTION no_odd() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RETURN CASE WHEN NEW.id % 2 = 0 THEN NEW END; END $$;
        CREATE TRIGGER no_odd BEFORE INSERT ON small_17 FOR EACH ROW EXECUTE FUNCTION no_odd()";
    server.execute("new", wrong).await;
    let back = restore(&server, "new", &dumped.dir, &["--data-only"]);
    assert_loaded(&server, &back, |i, rows| match i {
        5 => (RelationStatus::WithRejects, rows),
        9 => (RelationStatus::WithRejects, rows - 1),
        11 => (RelationStatus::NotLoaded, 0),
        17 => (RelationStatus::WithRejects, rows / 2),
        _ => (RelationStatus::Loaded, rows),
    })
    .await;
}

/// One table's type is not restored: it alone is not made, nor loaded.
#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_by_several_sessions_and_one_that_cannot_be_costs_itself() {
    let server = server_of(&Version::newest()).await;
    let moody = "CREATE SCHEMA other; CREATE TYPE other.mood AS ENUM ('glad');
        CREATE TABLE moody (id serial, mood other.mood); INSERT INTO moody (mood) VALUES ('glad')";
    server.execute("many", moody).await;
    let dumped = dump(&server, "many", &[]);
    let back = restore(&server, "new", &dumped.dir, &["--create", "-n", "public", "-j3"]);
    let said = format!("{}\n{}", back.ran.stdout, back.ran.stderr);
    assert_eq!(back.ran.code, 2, "{said}");
    back.assert_counts(&said);
    let not_made: Vec<(&str, &str)> =
        back.report().not_made.iter().map(|n| (n.desc.as_str(), n.tag.as_str())).collect();
    assert!(not_made.contains(&("TABLE", "moody")), "{not_made:?}");
    assert!(not_made.iter().all(|(_, tag)| tag.starts_with("moody")), "{not_made:?}");
    assert_eq!(back.relation("moody").status, RelationStatus::NotLoaded, "{said}");
    for i in 0..TABLES {
        assert_eq!(back.relation(&format!("small_{i}")).status, RelationStatus::Loaded, "{said}");
    }
    // Those beside it were made again, each behind a savepoint of its own.
    let makers = "SELECT count(DISTINCT xmin::text) FROM pg_type WHERE typname ~ '^small_[0-9]+$'";
    let makers = number(&server, "new", makers).await;
    assert!((3..TABLES / 2).contains(&makers), "{makers}: {said}");
}

/// Ended by kill -9 at writes all over the run.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_small_tables_that_was_killed_loads_every_row_once() {
    /// Of the writes at which it can be ended, each so many-th.
    const EVERY: usize = 3;
    let server = server_of(&Version::newest()).await;
    let dumped = dump(&server, "many", &[]);
    let expected = contents(&server, "many").await;
    let mut ended = 0;
    for at in (1..).step_by(EVERY) {
        let dbname = format!("killed_{at}");
        server.create_database(&dbname).await;
        if !die_at(&server, &dbname, &dumped.dir, &["--section=pre-data", "--section=data"], at) {
            break;
        }
        ended += 1;
        // As of a row that was refused, in a transaction that was not committed.
        let stale = dumped.dir.join("rejects/public.small_23.csv");
        if at == 1 {
            std::fs::write(&stale, "no row is this").expect("a file");
        }
        let options = ["--section=pre-data", "--section=data", "--resume", "--check"];
        let back = restore(&server, &dbname, &dumped.dir, &options);
        let said = format!("ended at {at}: {}\n{}", back.ran.stdout, back.ran.stderr);
        assert_eq!(back.ran.code, 0, "{said}");
        back.assert_counts(&said);
        assert!(contents(&server, &dbname).await == expected, "{said}");
        assert!(!stale.exists(), "{said}");
        server.execute("postgres", &format!("DROP DATABASE {dbname}")).await;
        std::fs::remove_dir_all(&back.folder).expect("its folder");
    }
    assert!(ended > 5, "{ended}");
}
