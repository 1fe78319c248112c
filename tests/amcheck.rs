//! amcheck by the library: what it names is damaged, what lies behind damage is
//! checked, nothing that is whole is named, and nothing is installed.

mod base;
mod catalogs;
mod in_the_way;

use crate::kit::page_edit::{LinePointer, Page, XMIN_HINTS};
use crate::kit::places::{read_page, write_page};
use crate::kit::{Places, Server, ServerOptions, Stop, Version, oracle};
use crate::no_writes::statements::{complaint, statements};
use base::{DB, OBJECTS, check, checked, damaged, served};
use pg_salvage::verify::amcheck::{Amchecked, Checked, Outcome};
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wrong_with_what_is_whole_while_others_write() {
    for version in Version::some(10, 18) {
        let server = served(&version, OBJECTS).await;
        let checks = async {
            for heapallindexed in [false, true, true] {
                let found = check(&server, |o| o.heapallindexed = heapallindexed).await;
                let bad =
                    |r: &&Checked| matches!(r.outcome, Outcome::Damaged | Outcome::Incomplete);
                let wrong: Vec<_> = found.relations.iter().filter(bad).collect();
                assert!(wrong.is_empty(), "{}: {wrong:#?}", version.major);
                assert!(found.notes.is_empty() || version.major < 14, "{:?}", found.notes);
                let clean = found.relations.iter().filter(|r| r.outcome == Outcome::Clean).count();
                assert!(clean > 100, "{}: {clean} relations", version.major);
                assert_not_checked(&found, version.major);
            }
        };
        tokio::select! {
            () = checks => {}
            () = write(&server, 0) => {}
            () = write(&server, 1) => {}
        }
    }
}

/// What nobody can check is there with the reason, and nothing else is.
fn assert_not_checked(found: &Amchecked, major: u32) {
    let not: Vec<_> = found.relations.iter().filter(|r| r.outcome == Outcome::NotChecked).collect();
    let is = |name: &str| not.iter().any(|r| r.name == name);
    assert!(is("t_brin"), "{not:#?}");
    assert_eq!(is("t_gin"), major < 18);
    assert_eq!(is("t"), major < 14);
    assert_eq!(is("t_id_seq"), major < 15);
    let notes = found.notes.iter().filter(|n| n.contains("no verify_heapam")).count();
    assert_eq!(notes, usize::from(major < 14), "{:?}", found.notes);
}

/// Never ends. What is sent at once has no "; " in it.
async fn write(server: &Server, worker: u32) {
    let client = server.connect(DB).await;
    for round in 0_u32.. {
        let sql = match (worker, round % 6) {
            (0, 0) => "DELETE FROM t WHERE id > 4000; VACUUM t".to_owned(),
            (0, 1) => "CREATE INDEX CONCURRENTLY again ON t (words); DROP INDEX again".to_owned(),
            (0, 2) => "VACUUM FULL m".to_owned(),
            (0, 3) => "CREATE TABLE gone AS SELECT i FROM generate_series(1, 9999) i; DROP TABLE gone"
                .to_owned(),
            (0, 4) => "TRUNCATE shrinks; INSERT INTO shrinks SELECT i, repeat('x', 900) FROM generate_series(1, 9000) i ON CONFLICT DO NOTHING"
                .to_owned(),
            (0, _) => "VACUUM (FREEZE) t".to_owned(),
            // Rows that are locked by several, written twice, and not at all.
            (_, 1) => "BEGIN;\nSELECT id FROM t WHERE id % 90 = 1 FOR SHARE;\nSAVEPOINT s;
                UPDATE t SET n = n - 1 WHERE id % 90 = 1;\nROLLBACK TO SAVEPOINT s;\nCOMMIT"
                .to_owned(),
            (_, 2) => "BEGIN;\nUPDATE t SET words = 'never', big = repeat('z', 5000) WHERE id % 80 = 2;\nROLLBACK"
                .to_owned(),
            (_, 3) => "INSERT INTO shrinks SELECT i, 'again' FROM generate_series(1, 9000, 50) i
                ON CONFLICT (id) DO UPDATE SET x = repeat('y', 500)"
                .to_owned(),
            (_, n) => format!(
                "UPDATE t SET n = n + 1, big = repeat('y', 4000) WHERE id % 97 = {n};
                 INSERT INTO t (n, words) SELECT i, 'x' || i FROM generate_series(1, 300) i"
            ),
        };
        // Not all may be in one transaction.
        for statement in sql.split("; ") {
            let done = client.batch_execute(statement).await;
            let is_deadlock = |e: &tokio_postgres::Error| {
                e.code() == Some(&tokio_postgres::error::SqlState::T_R_DEADLOCK_DETECTED)
            };
            if let Err(error) = done {
                assert!(is_deadlock(&error), "{error:?}: {statement}");
                client.batch_execute("ROLLBACK").await.expect("an end");
            }
        }
    }
}

/// Changes a page of a file, with a checksum that is right.
fn change(server: &Server, path: &str, block: u32, edit: impl FnOnce(&mut Page)) {
    let mut page = read_page(server, path, block);
    edit(&mut page);
    page.recompute_checksum();
    write_page(server, path, &page);
}

/// Makes the checksum of a page wrong.
fn flip(server: &Server, path: &str, block: u32) {
    let mut page = read_page(server, path, block);
    page.flip(8000, 0x10);
    write_page(server, path, &page);
}

const NORMAL: u8 = 1;
const DEAD: u8 = 3;

/// What is made of each table.
fn harm(server: &Server, places: &BTreeMap<String, Places>) {
    let of = |name: &str| &places[name];
    // Two blocks of one heap that are far from each other: one that the server
    // refuses, and behind it a tuple of the future.
    flip(server, &of("t").main, 600);
    change(server, &of("t").main, 1100, |page| {
        let number = page.tuples()[3];
        make_future(page, number);
    });
    flip(server, of("a").index.as_ref().expect("a primary key"), 2);
    change(server, of("b").index.as_ref().expect("a primary key"), 2, |page| {
        let (third, fourth) = (page.line_pointer(3), page.line_pointer(4));
        page.put_line_pointer(3, fourth);
        page.put_line_pointer(4, third);
    });
    // An entry that no search gives any more.
    change(server, of("c").index.as_ref().expect("a primary key"), 2, |page| {
        let mut entry = page.line_pointer(5);
        assert_eq!(entry.flags, NORMAL);
        entry.flags = DEAD;
        page.put_line_pointer(5, entry);
    });
    // A chunk that is not there, and an index of TOAST that cannot be read.
    change(server, of("d").toast.as_ref().expect("a TOAST table"), 1, |page| {
        let chunk = LinePointer { offset: 0, flags: 0, length: 0 };
        page.put_line_pointer(2, chunk);
    });
    flip(server, of("e").toast_index.as_ref().expect("a TOAST index"), 1);
    change(server, &of("e").main, 115, |page| make_future(page, 1));
}

/// A tuple of a transaction that is still to come.
fn make_future(page: &mut Page, number: u16) {
    let tuple = page.tuple(number);
    page.put(tuple.xmin(), &2_000_000_000_u32.to_le_bytes());
    page.change_infomask(tuple, XMIN_HINTS, 0);
}

/// All that is found of one relation: cause, block and ctid of each.
type Found<'a> = Vec<(&'a str, Option<u32>, Option<&'a str>)>;

fn of<'a>(found: &'a Amchecked, name: &str) -> Found<'a> {
    let checked = checked(found, name);
    let of = |p: &'a pg_salvage::report::model::Problem| {
        (p.cause.as_str(), p.first_block, p.ctid.as_deref())
    };
    checked.problems.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_named_with_its_place_and_the_rest_is_checked() {
    for version in Version::one_or_two() {
        let server = served(&version, &base::victims()).await;
        server.execute(DB, "CHECKPOINT").await;
        let client = oracle::session(&server, DB).await;
        let mut places = BTreeMap::new();
        for name in ["t", "a", "b", "c", "d", "e"] {
            places.insert(name.to_owned(), Places::of(&client, &format!("public.{name}")).await);
        }
        drop(client);
        assert_eq!(server.stop(), Stop::Clean);
        harm(&server, &places);
        server.start_again();
        let from = server.log().len();
        let shallow = check(&server, |_| {}).await;
        assert_found(&shallow, &places, version.major);
        assert_eq!(checked(&shallow, "c_pkey").outcome, Outcome::Clean, "{}", version.major);
        let deep = check(&server, |o| o.heapallindexed = true).await;
        assert_found(&deep, &places, version.major);
        assert_no_statement_writes(&server.log()[from..]);
        let missing = of(&deep, "c_pkey");
        let [("not_in_index", None, Some(row))] = missing[..] else { panic!("{missing:?}") };
        let client = oracle::session(&server, DB).await;
        let sql = format!("SELECT 1 FROM public.c WHERE ctid = '{row}'");
        assert_eq!(client.query(&sql, &[]).await.expect("a table").len(), 1, "{row} is there");
        // The table could not be read to its end for this one.
        let index = checked(&deep, "t_pkey");
        assert_eq!(index.outcome, Outcome::Incomplete, "{index:#?}");
        assert!(index.reason.as_ref().is_some_and(|r| r.contains("elsewhere")), "{index:#?}");
        assert_eq!(checked(&shallow, "t_pkey").outcome, Outcome::Clean);
        let chosen = check(&server, |o| o.selection = base::only("public.t")).await;
        let names: Vec<&str> = chosen.relations.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names.iter().filter(|n| !n.starts_with("pg_toast_")).count(), 2, "{names:?}");
        assert_eq!(names.len(), 4, "{names:?}");
    }
}

fn assert_no_statement_writes(log: &str) {
    let sent = statements(log);
    assert!(sent.len() > 500, "{} statements", sent.len());
    let complaints: Vec<String> = sent.iter().filter_map(|sql| complaint(sql)).collect();
    assert_eq!(complaints, Vec::<String>::new());
}

/// What both look at.
fn assert_found(found: &Amchecked, places: &BTreeMap<String, Places>, major: u32) {
    let t = of(found, "t");
    let [("page", Some(600), None), ("tuple", Some(1100), Some(ctid))] = t[..] else {
        panic!("{major}: {:#?}", checked(found, "t"))
    };
    assert!(ctid.starts_with("(1100,"), "{ctid}");
    let t = checked(found, "t");
    assert_eq!((t.damaged_blocks, t.problems_omitted, &t.reason), (2, 0, &None));
    let page = &t.problems[0];
    let at = (page.file.as_deref(), page.offset);
    assert_eq!(at, (Some(places["t"].main.as_str()), Some(600 * 8192)), "{page:?}");
    assert!(!t.advice.is_empty());
    assert_eq!(of(found, "a_pkey"), [("page", Some(2), None)], "{major}");
    assert_eq!(of(found, "b_pkey"), [("index", Some(2), None)], "{major}");
    let reindex = checked(found, "b_pkey").advice.iter().any(|step| {
        step.sql.iter().any(|sql| sql.contains("REINDEX INDEX") && sql.contains("b_pkey"))
    });
    assert!(reindex);
    let [("value", Some(_), Some(_))] = of(found, "d")[..] else {
        panic!("{major}: {:#?}", checked(found, "d"))
    };
    assert_eq!(checked(found, "d").problems[0].column.as_deref(), Some("big"), "{major}");
    // After a hundred values that are not found no more are looked for.
    let e = of(found, "e");
    let blocks: Vec<Option<u32>> = (0..100).chain([115]).map(Some).collect();
    assert_eq!(e.iter().map(|p| p.1).collect::<Vec<_>>(), blocks, "{major}");
    assert!(e[..100].iter().all(|p| p.0 == "stored_elsewhere"), "{major}: {e:?}");
    assert_eq!(e[100], ("tuple", Some(115), Some("(115,1)")), "{major}");
    let e = checked(found, "e");
    assert_eq!((e.damaged_blocks, e.blocks), (101, 120));
    assert!(e.reason.as_ref().is_some_and(|r| r.contains("from block 100 on")), "{e:#?}");
    let toast_index = places["e"].oid;
    let named = found.relations.iter().find(|r| {
        r.name == format!("pg_toast_{toast_index}_index") && r.outcome == Outcome::Damaged
    });
    let named = named.unwrap_or_else(|| panic!("{major}: {:#?}", damaged(found)));
    assert_eq!(named.problems[0].first_block, Some(1), "{named:#?}");
    assert_eq!(named.owner, Some(("public".to_owned(), "e".to_owned())));
    let allowed = ["t", "a_pkey", "b_pkey", "c_pkey", "d", "e", &named.name];
    let named = damaged(found);
    assert!(named.iter().all(|name| allowed.contains(name)), "{major}: {named:?}");
    assert_eq!(found.notes, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_extension_or_the_right_nothing_is_checked_and_what_helps_is_said() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::default());
        server.create_database(DB).await;
        let none = check(&server, |_| {}).await;
        assert_eq!((none.version, none.relations.len()), (None, 0));
        assert!(none.notes[0].contains("CREATE EXTENSION amcheck;"), "{:?}", none.notes);
        let sql = "CREATE SCHEMA \"not here\"; CREATE EXTENSION amcheck SCHEMA \"not here\";
            CREATE ROLE watch LOGIN; CREATE TABLE t (id int PRIMARY KEY);
            INSERT INTO t SELECT generate_series(1, 100)";
        server.execute(DB, sql).await;
        let refused = base::check_as(&server, "watch", |_| {}).await;
        assert!(refused.relations.len() > 100);
        for r in &refused.relations {
            assert_eq!(r.outcome, Outcome::NotChecked, "{r:#?}");
        }
        assert_eq!(refused.notes.len(), 1, "{:?}", refused.notes);
        let note = &refused.notes[0];
        server.execute(DB, &note[note.find("GRANT").expect("a grant")..]).await;
        let allowed = base::check_as(&server, "watch", |_| {}).await;
        assert_eq!(allowed.notes, Vec::<String>::new());
        for name in ["t", "t_pkey", "pg_class"] {
            assert_eq!(checked(&allowed, name).outcome, Outcome::Clean, "{name}");
        }
        let stopped = base::stopped(&server).await;
        assert_eq!(stopped.relations.len(), allowed.relations.len());
        for r in stopped.relations.iter().filter(|r| r.outcome != Outcome::NotChecked) {
            assert_eq!(r.outcome, Outcome::Incomplete, "{r:#?}");
        }
        // Entries are looked for from the root, with writers locked out.
        let deep = check(&server, |o| (o.rootdescend, o.heapallindexed) = (true, true)).await;
        assert_eq!(damaged(&deep), Vec::<&str>::new());
        assert_eq!(checked(&deep, "t_pkey").outcome, Outcome::Clean);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_checked() {
    let primary = served(&Version::major(15), OBJECTS).await;
    primary.execute(DB, "CREATE UNLOGGED TABLE u (id int PRIMARY KEY)").await;
    let standby = primary.streaming_standby(&[]).await.expect("15 has its clients");
    let found = check(&standby, |o| (o.heapallindexed, o.rootdescend) = (true, true)).await;
    for name in ["t", "t_pkey", "m", "pg_class"] {
        assert_eq!(checked(&found, name).outcome, Outcome::Clean, "{name}");
    }
    for name in ["u", "u_pkey"] {
        let unlogged = checked(&found, name);
        assert_eq!(unlogged.outcome, Outcome::NotChecked, "{name}");
        assert!(unlogged.reason.as_ref().is_some_and(|r| r.contains("standby")));
    }
    assert_eq!(damaged(&found), Vec::<&str>::new());
    assert!(found.notes.len() == 1 && found.notes[0].contains("no standby"), "{:?}", found.notes);
}
