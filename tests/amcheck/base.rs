//! A server with amcheck, and what is asked of it.

use crate::kit::{Server, ServerOptions, Version};
use pg_salvage::progress::Progress;
use pg_salvage::server::connect::{ConnectArgs, Target};
use pg_salvage::server::inventory::Selection;
use pg_salvage::server::pattern::Pattern;
use pg_salvage::server::session::Timeouts;
use pg_salvage::verify::amcheck::{AmcheckOptions, Amchecked, Checked, Outcome};
use std::sync::Arc;

pub(super) const DB: &str = "checked";

/// A table with TOAST and indexes, one that shrinks, and a materialised view.
pub(super) const OBJECTS: &str =
    "CREATE TABLE t (id serial PRIMARY KEY, n int, words text, tags int[], big text);
    ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
    INSERT INTO t (n, words, tags, big) SELECT i % 50, 'w' || i, ARRAY[i % 9],
        CASE WHEN i % 20 = 0 THEN repeat(md5(i::text), 90) END FROM generate_series(1, 4000) i;
    CREATE UNIQUE INDEX t_words ON t ((words || '-' || id)) WHERE n > 3;
    CREATE INDEX t_brin ON t USING brin (id);
    CREATE INDEX t_gin ON t USING gin (tags);
    CREATE TABLE shrinks (id int PRIMARY KEY, x text);
    INSERT INTO shrinks SELECT i, repeat('x', 900) FROM generate_series(1, 9000) i;
    CREATE MATERIALIZED VIEW m AS SELECT * FROM t WHERE n < 10;
    DELETE FROM t WHERE id % 3 = 0;";

/// One table for each harm. The first has more than a thousand blocks.
pub(super) fn victims() -> String {
    let mut sql = "CREATE TABLE t (id int PRIMARY KEY, x text, big text);
        INSERT INTO t SELECT i, repeat('x', 900) FROM generate_series(1, 9600) i;"
        .to_owned();
    for name in ["a", "b", "c"] {
        sql.push_str(&format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, x text);
             INSERT INTO {name} SELECT i, 'x' FROM generate_series(1, 3000) i;"
        ));
    }
    sql.push_str(
        "CREATE TABLE d (id int PRIMARY KEY, big text);
        ALTER TABLE d ALTER big SET STORAGE EXTERNAL;
        INSERT INTO d SELECT i, repeat(md5(i::text), 150) FROM generate_series(1, 200) i;
        CREATE TABLE e (id int PRIMARY KEY, room text, big text);
        ALTER TABLE e ALTER room SET STORAGE PLAIN, ALTER big SET STORAGE EXTERNAL;
        INSERT INTO e SELECT i, repeat('r', 5000), repeat(md5(i::text), 150)
            FROM generate_series(1, 120) i;",
    );
    sql
}

pub(super) async fn served(version: &Version, objects: &str) -> Server {
    let options = ServerOptions::checksums(true).set("log_statement", "all");
    let server = Server::start(version, options);
    server.create_database(DB).await;
    server.execute(DB, "CREATE EXTENSION amcheck").await;
    server.execute(DB, objects).await;
    server.execute(DB, "VACUUM ANALYZE").await;
    server
}

pub(super) fn only(table: &str) -> Selection {
    let table = Pattern::parse(table).expect("a pattern");
    Selection { tables: vec![table], ..Selection::default() }
}

pub(super) async fn check(server: &Server, options: impl FnOnce(&mut AmcheckOptions)) -> Amchecked {
    check_as(server, "postgres", options).await
}

pub(super) async fn check_as(
    server: &Server,
    role: &str,
    change: impl FnOnce(&mut AmcheckOptions),
) -> Amchecked {
    let progress = Arc::new(Progress::default());
    let found = run(server, role, change, progress.clone()).await;
    if found.version.is_some() {
        let count = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(count(&progress.relations_done), count(&progress.relations));
    }
    found
}

/// Told to stop before it begins.
pub(super) async fn stopped(server: &Server) -> Amchecked {
    let progress = Arc::new(Progress::default());
    progress.stop();
    run(server, "postgres", |_| {}, progress).await
}

async fn run(
    server: &Server,
    role: &str,
    change: impl FnOnce(&mut AmcheckOptions),
    progress: Arc<Progress>,
) -> Amchecked {
    let conninfo = server.conninfo(DB).replace("user=postgres", &format!("user={role}"));
    let args = ConnectArgs { dbname: Some(conninfo), ..ConnectArgs::default() };
    let target = Target::resolve(&args, &|_| None).expect("a target");
    let timeouts = Timeouts { statement_ms: 0, lock_ms: 10_000, read_ms: 300_000 };
    let mut options = AmcheckOptions {
        jobs: 2,
        selection: Selection::default(),
        timeouts,
        heapallindexed: false,
        rootdescend: false,
        last_ok: Default::default(),
    };
    change(&mut options);
    let found = pg_salvage::verify::amcheck::check(target, options, progress).await;
    found.unwrap_or_else(|error| panic!("{}: {error}", server.version.major))
}

pub(super) fn checked<'a>(found: &'a Amchecked, name: &str) -> &'a Checked {
    let checked = found.relations.iter().find(|r| r.name == name);
    checked.unwrap_or_else(|| panic!("{name} is not there"))
}

/// Which relations are damaged.
pub(super) fn damaged(found: &Amchecked) -> Vec<&str> {
    let damaged = found.relations.iter().filter(|r| r.outcome == Outcome::Damaged);
    damaged.map(|r| r.name.as_str()).collect()
}
