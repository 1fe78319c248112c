//! Loss that no read tells of is looked for, found where something tells of it,
//! and never made up where a server is well.

mod items;

use crate::kit::dumped::{Dumped, dump};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version};
use crate::kit::{harm, oracle, page_edit, places, sample};
use pg_salvage::output::manifest::{Relation, RelationStatus};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";
const ALL: &[&str] = &["-j2", "--check-counts=always"];

/// Five thousand rows in some hundred blocks.
const ROWS: &str = "SELECT i, repeat(md5(i::text), 5) t FROM generate_series(1, 5000) i";

async fn execute(server: &Server, statements: &[String]) {
    for statement in statements {
        server.execute(DB, statement).await;
    }
}

fn table(name: &str, primary_key: bool) -> String {
    let key = if primary_key { " PRIMARY KEY" } else { "" };
    format!("CREATE TABLE {name} (i int{key}, t text); INSERT INTO {name} {ROWS}")
}

async fn places_of(server: &Server, names: &[&str]) -> Vec<Places> {
    let client = oracle::session(server, DB).await;
    let mut all = Vec::new();
    for name in names {
        all.push(Places::of(&client, &format!("public.{name}")).await);
    }
    all
}

fn stopped(server: &Server) {
    assert_eq!(server.stop(), Stop::Clean);
}

/// The places of silent loss, with what is said of them.
fn found(entry: &Relation) -> Vec<(Option<u32>, Option<u32>, &str)> {
    let silent = entry.lost.iter().filter(|l| l.cause == "silent_loss");
    silent.map(|l| (l.first_block, l.last_block, l.message.as_str())).collect()
}

fn assert_found(dumped: &Dumped, name: &str, blocks: (u32, u32), words: &str, at: &str) {
    let entry = dumped.relation(name);
    let (first, last) = (Some(blocks.0), Some(blocks.1));
    let is_there =
        |f: &(Option<u32>, Option<u32>, &str)| (f.0, f.1) == (first, last) && f.2.contains(words);
    assert!(
        found(entry).iter().any(is_there),
        "{at}: not {blocks:?} but {entry:#?} {}",
        dumped.said
    );
    assert_eq!(entry.status, RelationStatus::Salvaged, "{at}: {name}");
    assert_eq!(dumped.manifest.exit_code, 2, "{at}");
}

/// Nothing is found, and nothing is said of pages of zeros.
fn assert_well(dumped: &Dumped, at: &str) {
    for entry in &dumped.manifest.relations {
        assert_eq!(found(entry), [], "{at}: {} {}", entry.name, dumped.said);
    }
    let said = &dumped.manifest.warnings;
    assert!(!said.iter().any(|w| w.contains("zeros")), "{at}: {said:?}");
    assert_eq!(dumped.manifest.exit_code, 0, "{at}: {}", dumped.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_cut_short_is_found_by_pg_class_or_by_an_index() {
    for version in Version::few(14, 18) {
        let at = format!("on {}", version.major);
        let server = Server::start(&version, ServerOptions::checksums(true));
        let names = ["vacuumed", "indexed", "twice", "neither", "well"];
        let create = names.map(|n| table(n, !matches!(n, "vacuumed" | "neither")));
        execute(&server, &create).await;
        execute(&server, &["VACUUM vacuumed", "VACUUM twice", "CHECKPOINT"].map(str::to_owned))
            .await;
        let all = places_of(&server, &names).await;
        stopped(&server);
        for places in &all[..4] {
            let cut = Place { block: 77, offset: 1 };
            harm(&server, places, Harm::TruncateAt, cut, ChecksumAfter::Stale);
        }
        server.start_again();
        // The short file of one is damage that was seen: more is asked of all.
        for options in [&["-j2"][..], ALL] {
            let dumped = dump(PROGRAM, &server, DB, options);
            let last = all[0].blocks - 1;
            assert_found(&dumped, "vacuumed", (77, last), "pg_class says", &at);
            assert_found(&dumped, "twice", (77, last), "pg_class says", &at);
            assert_found(&dumped, "twice", (77, last), "has items for rows in block", &at);
            assert_found(&dumped, "indexed", (77, last), "has items for rows in block", &at);
            assert_found(&dumped, "twice", (77, last), "knows 5000 rows", &at);
            for name in ["vacuumed", "indexed", "twice"] {
                // One loss, whoever tells of it.
                assert_eq!(found(dumped.relation(name)).len(), 1, "{at}: {name}");
            }
            assert_eq!(dumped.relation("neither").status, RelationStatus::Clean, "{at}");
            assert_eq!(dumped.relation("well").status, RelationStatus::Clean, "{at}");
        }
        let dumped = dump(PROGRAM, &server, DB, &["-t", "indexed", "--check-counts=never"]);
        assert_eq!(dumped.manifest.exit_code, 0, "{at}: nobody asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_zeros_are_found_by_the_visibility_map_or_by_an_index_and_named() {
    for version in Version::few(14, 18) {
        for checksums in [true, false] {
            let at = format!("on {}, checksums {checksums}", version.major);
            let server = Server::start(&version, ServerOptions::checksums(checksums));
            let names = ["visible", "indexed", "neither", "last", "well"];
            execute(&server, &names.map(|n| table(n, matches!(n, "indexed" | "last")))).await;
            let rest = [
                "VACUUM visible",
                "VACUUM last",
                "CREATE ROLE reader LOGIN IN ROLE pg_read_all_data",
                "CHECKPOINT",
            ];
            execute(&server, &rest.map(str::to_owned)).await;
            let all = places_of(&server, &names).await;
            stopped(&server);
            let zero = |places: &Places, block| {
                let at = Place { block, offset: 1 };
                harm(&server, places, Harm::ZeroBlock, at, ChecksumAfter::Stale);
            };
            for places in &all[..3] {
                [30, 31, 32, 50].into_iter().for_each(|block| zero(places, block));
            }
            zero(&all[3], all[3].blocks - 1);
            server.start_again();
            let dumped = dump(PROGRAM, &server, DB, ALL);
            for (name, words) in
                [("visible", "the visibility map says"), ("indexed", "has items for rows there")]
            {
                assert_found(&dumped, name, (30, 32), words, &at);
                assert_found(&dumped, name, (50, 50), words, &at);
                assert_eq!(found(dumped.relation(name)).len(), 2, "{at}");
            }
            // The last page may have been cut off and given again: only rows tell.
            let last = dumped.relation("last");
            assert!(last.lost[0].message.contains("knows 5000 rows"), "{at}: {last:#?}");
            let warned = |name: &str| {
                let name = format!("\"public.{name}\"");
                dumped.manifest.warnings.iter().filter(|w| w.contains(&name)).count()
            };
            assert_eq!(
                (warned("neither"), warned("visible"), warned("indexed")),
                (1, 0, 0),
                "{at}"
            );
            for name in ["neither", "well"] {
                assert_eq!(dumped.relation(name).status, RelationStatus::Clean, "{at}: {name}");
            }
            // Who may not read files is not told of it.
            let conninfo = server.conninfo(DB).replace("user=postgres", "user=reader");
            let dir = tempfile::tempdir().expect("a folder");
            let out = std::process::Command::new(PROGRAM)
                .args([
                    "dump",
                    "--no-schema",
                    "-t",
                    "visible",
                    "--no-sync",
                    "--check-counts=always",
                    "-d",
                    &conninfo,
                ])
                .arg("-f")
                .arg(dir.path())
                .output()
                .expect("it starts");
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert_eq!(out.status.code(), Some(0), "{at}: {said}");
            assert!(!said.contains("permission denied"), "{at}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_vanish_from_an_all_visible_page_are_counted_by_an_index() {
    for version in Version::few(14, 18) {
        let at = format!("on {}", version.major);
        let server = Server::start(&version, ServerOptions::checksums(true));
        // The partial index knows fewer, and is not asked.
        let sql = [
            table("t", true),
            "CREATE INDEX ON t (i) WHERE i > 4000".to_owned(),
            "VACUUM t".to_owned(),
            "CHECKPOINT".to_owned(),
        ];
        execute(&server, &sql).await;
        let places = places_of(&server, &["t"]).await.remove(0);
        stopped(&server);
        let mut page = places::read_page(&server, &places.main, 40);
        let flags = page.u16_at(10) & !4;
        page.put(10, &flags.to_le_bytes());
        let xmin = page.u32_at(page.tuple(3).xmin());
        for number in [3, 4] {
            let tuple = page.tuple(number);
            page.put(tuple.xmax(), &xmin.to_le_bytes());
            page.change_infomask(tuple, page_edit::XMAX_INVALID, page_edit::XMAX_COMMITTED);
        }
        page.recompute_checksum();
        places::write_page(&server, &places.main, &page);
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, ALL);
        let entry = dumped.relation("t");
        let words = "index \"t_pkey\" knows 5000 rows, and 4998 can be read";
        assert_eq!(found(entry), [(None, None, words)], "{at}: {}", dumped.said);
        assert_eq!((entry.rows.clean, dumped.manifest.exit_code), (4998, 2), "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_behind_a_short_one_and_a_short_toast_file_are_found() {
    for version in Version::few(14, 18) {
        let at = format!("on {}", version.major);
        let server = Server::start(&version, ServerOptions::checksums(true));
        let toasted = "CREATE TABLE toasted (i int, t text); ALTER TABLE toasted ALTER t SET STORAGE EXTERNAL;
            INSERT INTO toasted SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 100) i";
        let sql = [
            table("cut", false),
            table("well", false),
            toasted.to_owned(),
            "VACUUM toasted".to_owned(),
            // Their values are still there, and nobody reads them.
            "DELETE FROM toasted WHERE i > 50".to_owned(),
            "CHECKPOINT".to_owned(),
        ];
        execute(&server, &sql).await;
        let all = places_of(&server, &["cut", "toasted"]).await;
        stopped(&server);
        let second = places::grow_second_segment(&server, &all[0]);
        places::truncate(&server, &all[0].main, all[0].blocks);
        let toast = all[1].toast.as_deref().expect("a TOAST table");
        places::truncate(&server, toast, all[1].toast_blocks - 5);
        server.start_again();
        // Always asked.
        let dumped = dump(PROGRAM, &server, DB, &["-j2", "--check-counts=never"]);
        assert_found(&dumped, "cut", (all[0].blocks, second), "segment 1 is there", &at);
        let words = format!(
            "the file of its TOAST table has {} blocks, and its end is missing: pg_class says {}",
            all[1].toast_blocks - 5,
            all[1].toast_blocks
        );
        let entry = dumped.relation("toasted");
        assert_eq!(found(entry), [(None, None, words.as_str())], "{at}: {}", dumped.said);
        assert_eq!((entry.rows.clean, dumped.relation("cut").rows.clean), (50, 5000), "{at}");
        assert_eq!(dumped.relation("well").status, RelationStatus::Clean, "{at}");
    }
}

/// What changes files and has not come to disk, or never will.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_busy_server_does_is_no_loss() {
    for version in Version::few(14, 18) {
        let at = format!("on {}", version.major);
        let server = Server::start(&version, ServerOptions::checksums(version.major % 2 == 0));
        let names = ["cut", "regrown", "emptied", "extended", "fresh", "truncated", "rewritten"];
        execute(&server, &names.map(|n| table(n, true))).await;
        let unlogged = "CREATE UNLOGGED TABLE unlogged (i int PRIMARY KEY, t text)";
        let settled = [
            unlogged.to_owned(),
            format!("INSERT INTO unlogged {ROWS}"),
            "VACUUM".to_owned(),
            "CHECKPOINT".to_owned(),
        ];
        execute(&server, &settled).await;
        // No checkpoint from here on: files are behind.
        let busy = [
            "DELETE FROM cut WHERE i > 3000",
            "VACUUM cut",
            "DELETE FROM regrown WHERE i > 100",
            "VACUUM regrown",
            "INSERT INTO regrown SELECT i, repeat(md5(i::text), 5) FROM generate_series(20000, 20900) i",
            "DELETE FROM emptied",
            "VACUUM emptied",
            "TRUNCATE truncated",
            "VACUUM FULL rewritten",
            "CREATE TABLE new (i int PRIMARY KEY, t text)",
        ];
        execute(&server, &busy.map(str::to_owned)).await;
        let client = server.connect(DB).await;
        let open = format!(
            "BEGIN; INSERT INTO new {ROWS}; INSERT INTO extended SELECT i + 10000, t FROM ({ROWS}) r"
        );
        client.batch_execute(&open).await.expect("a transaction");
        assert_well(&dump(PROGRAM, &server, DB, ALL), &format!("{at}, with open transactions"));
        server.execute(DB, "CHECKPOINT").await;
        client.batch_execute("INSERT INTO fresh SELECT i + 10000, t FROM new").await.expect("rows");
        assert_well(&dump(PROGRAM, &server, DB, ALL), &format!("{at}, after a checkpoint"));
        // Their rows never were, and what was extended for them may be zeros.
        server.stop_now();
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, ALL);
        assert_eq!(dumped.manifest.exit_code, 0, "{at}, after a crash: {}", dumped.said);
    }
}

/// Another session vacuums, truncates and fills meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_during_a_run_is_no_loss() {
    for version in Version::one_or_two() {
        let at = format!("on {}", version.major);
        let server = Server::start(&version, ServerOptions::checksums(true));
        let names: Vec<String> = (0..6).map(|i| format!("t{i}")).collect();
        let create: Vec<String> = names.iter().map(|n| table(n, true)).collect();
        execute(&server, &create).await;
        execute(&server, &["VACUUM".to_owned(), "CHECKPOINT".to_owned()]).await;
        let stop = std::sync::atomic::AtomicBool::new(false);
        let client = server.connect(DB).await;
        client.batch_execute("SET lock_timeout = '1s'").await.expect("a setting");
        let meddle = async {
            let mut round = 0;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let name = &names[round % names.len()];
                let sql = match round % 4 {
                    0 => format!("DELETE FROM {name} WHERE i > {}", 500 + round % 7 * 500),
                    1 => format!("VACUUM {name}"),
                    2 => format!("INSERT INTO {name} {ROWS} ON CONFLICT DO NOTHING"),
                    _ => "CHECKPOINT".to_owned(),
                };
                // In a run's way it fails, and comes again.
                let _ = client.batch_execute(&sql).await;
                round += 5;
            }
            round
        };
        let dumps = async {
            for _ in 0..6 {
                let conninfo = server.conninfo(DB);
                let out = tokio::task::spawn_blocking(move || {
                    std::process::Command::new(PROGRAM)
                        .args(["verify", "-j2", "-d", &conninfo])
                        .output()
                        .expect("it starts")
                });
                let out = out.await.expect("no panic");
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                assert_eq!(out.status.code(), Some(0), "{at}: {said}");
            }
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
        };
        let (rounds, ()) = tokio::join!(meddle, dumps);
        assert!(rounds > 20, "{at}: {rounds} rounds");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_sample_is_well_before_and_after_a_crash() {
    for version in Version::few(14, 18) {
        let at = format!("on {}", version.major);
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::create(&server, "sample", 1).await;
        assert_well(&dump(PROGRAM, &server, "sample", ALL), &at);
        server.stop_now();
        server.start_again();
        let dumped = dump(PROGRAM, &server, "sample", ALL);
        assert_eq!(dumped.manifest.exit_code, 0, "{at}, after a crash: {}", dumped.said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_well_is_well_and_one_that_is_not_is_not() {
    for version in Version::few(14, 18) {
        let at = format!("on a standby of {}", version.major);
        let server = Server::start(&version, ServerOptions::checksums(true));
        let names = ["well", "cut", "zeroed"];
        execute(&server, &names.map(|n| table(n, true))).await;
        sample::victims(&server, DB, &["victim", "fresh"]).await;
        let all = places_of(&server, &names).await;
        stopped(&server);
        let standby = server.copy_as_standby();
        let harmed = server.copy_as_standby();
        for (places, what) in all[1..].iter().zip([Harm::TruncateAt, Harm::ZeroBlock]) {
            harm(&harmed, places, what, Place { block: 60, offset: 1 }, ChecksumAfter::Stale);
        }
        server.start_again();
        standby.start_again();
        server.execute(DB, &format!("INSERT INTO well SELECT i + 10000, t FROM ({ROWS}) r")).await;
        assert_well(&dump(PROGRAM, &standby, DB, ALL), &at);
        harmed.start_again();
        let dumped = dump(PROGRAM, &harmed, DB, ALL);
        let last = all[1].blocks - 1;
        assert_found(&dumped, "cut", (60, last), "has items for rows in block", &at);
        assert_found(&dumped, "zeroed", (60, 60), "has items for rows there", &at);
        for name in ["well", "victim", "fresh"] {
            assert_eq!(dumped.relation(name).status, RelationStatus::Clean, "{at}: {name}");
        }
    }
}
