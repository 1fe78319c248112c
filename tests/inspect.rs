//! `pg_salvage inspect`: what it says of pages of real servers is what
//! `pageinspect` says of them, and damage is named.

use crate::binary::{Ran, run, words};
use crate::kit::page_edit::Page;
use crate::kit::places::{read_page, write_page};
use crate::kit::{Places, Server, ServerOptions, Version};
use serde_json::{Value, json};
use tokio_postgres::Client;

const DB: &str = "base";

/// Rows that were updated, deleted, locked and rolled back; an index; a table in
/// which no row is left.
const TABLES: &str = "
    CREATE EXTENSION pageinspect;
    CREATE TABLE t (id int PRIMARY KEY, n int, note text);
    INSERT INTO t SELECT i, i, repeat('x', 50) FROM generate_series(1, 500) i;
    INSERT INTO t VALUES (501, NULL, repeat('a long one ', 1000));
    UPDATE t SET n = -n WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 0;
    CREATE SEQUENCE s;
    CREATE TABLE vacuumed (id int); INSERT INTO vacuumed SELECT generate_series(1, 300);
    UPDATE vacuumed SET id = -id WHERE id < 20; DELETE FROM vacuumed WHERE id > 250;
    VACUUM vacuumed; CHECKPOINT";

fn inspect(server: &Server, more: &[&str]) -> (Value, i32) {
    let more = more.iter().map(|w| (*w).to_owned()).chain(["--json".to_owned()]);
    let ran = run(words("inspect", server, DB).into_iter().chain(more));
    (parsed(&ran), ran.code)
}

fn parsed(ran: &Ran) -> Value {
    assert!(ran.stderr.is_empty() && matches!(ran.code, 0 | 2), "{}{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).expect("JSON")
}

/// What pageinspect says of the same block, in the same form.
async fn by_pageinspect(client: &Client, relation: &str, block: u32, is_heap: bool) -> Value {
    let page = on_disk(relation, block);
    let header = format!(
        "SELECT json_build_object('lsn', lsn::text, 'checksum', checksum::int & 65535, 'flags', flags, 'lower', lower,
            'upper', upper, 'special', special, 'pagesize', pagesize, 'version', version,
            'prune_xid', prune_xid::text::bigint)::text,
            page_checksum({page}, {block})::int & 65535 FROM page_header({page})"
    );
    let row = client.query_one(&header, &[]).await.expect("a header");
    let header: Value = serde_json::from_str(row.get(0)).expect("JSON");
    let computed: i32 = row.get(1);
    let items = format!(
        "SELECT coalesce(json_agg(json_build_object('lp', lp, 'lp_off', lp_off, 'lp_len', lp_len,
            'lp_flags', (ARRAY['unused','normal','redirect','dead'])[lp_flags + 1],
            'tuple', CASE WHEN t_xmin IS NOT NULL THEN json_build_object(
                't_xmin', t_xmin::text::bigint, 't_xmax', t_xmax::text::bigint, 't_field3', t_field3::bigint,
                't_ctid', t_ctid::text, 't_infomask2', t_infomask2, 't_infomask', t_infomask,
                't_hoff', t_hoff, 'flags', (SELECT array_agg(f ORDER BY f COLLATE \"C\") FROM unnest(
                    (heap_tuple_infomask_flags(t_infomask, t_infomask2)).raw_flags) f)) END)
            ORDER BY lp), '[]')::text FROM heap_page_items({page})"
    );
    let items: Value = match is_heap {
        true => {
            let row = client.query_one(&items, &[]).await.expect("items");
            serde_json::from_str(row.get(0)).expect("JSON")
        }
        false => Value::Null,
    };
    json!({ "header": header, "computed": computed, "items": items })
}

/// Of what we say, that which pageinspect says, too.
fn as_pageinspect(page: &Value, is_heap: bool) -> Value {
    let mut header = page["header"].clone();
    for own in ["flag_names", "insane"] {
        header.as_object_mut().expect("an object").remove(own);
    }
    let mut items = page["items"].clone();
    for item in items.as_array_mut().expect("items") {
        item.as_object_mut().expect("an object").remove("insane");
        if let Some(tuple) = item["tuple"].as_object_mut() {
            ["insane", "words", "natts"].iter().for_each(|own| drop(tuple.remove(*own)));
            let flags = tuple["flags"].as_array().expect("flags");
            let mut flags: Vec<String> =
                flags.iter().map(|f| f.as_str().expect("a name").to_owned()).collect();
            flags.sort();
            tuple["flags"] = if flags.is_empty() { Value::Null } else { json!(flags) };
        }
    }
    let items = if is_heap { items } else { Value::Null };
    json!({ "header": header, "computed": page["checksum"]["computed"], "items": items })
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_told_as_pageinspect_tells_them() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        server.create_database(DB).await;
        for statement in TABLES.split(';') {
            let client = server.connect(DB).await;
            client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{e:?}: {statement}"));
        }
        let client = server.connect(DB).await;
        client
            .batch_execute("BEGIN; SELECT * FROM t WHERE id < 10 FOR KEY SHARE; COMMIT")
            .await
            .expect("it locks");
        client
            .batch_execute("BEGIN; UPDATE t SET n = 1 WHERE id = 13; ROLLBACK")
            .await
            .expect("it rolls back");
        client.batch_execute("CHECKPOINT").await.expect("it is written");
        let mut compared = 0;
        for (relation, is_heap) in [
            ("t", true),
            ("vacuumed", true),
            ("pg_class", true),
            ("pg_proc", true),
            ("t_pkey", false),
            ("s", false),
        ] {
            let sql = format!("SELECT (pg_relation_size('{relation}') / 8192)::int");
            let blocks: i32 = client.query_one(&sql, &[]).await.expect("a size").get(0);
            for block in (0..blocks.unsigned_abs()).take(4) {
                let theirs = by_pageinspect(&client, relation, block, is_heap).await;
                let (ours, code) = inspect(&server, &[relation, &block.to_string()]);
                let at = format!("{} {relation} {block}", version.major);
                assert_eq!(code, 0, "{at}: {ours:#}");
                // Somebody may have written it in between.
                if ours["hex"] == hex_of(&client, relation, block).await {
                    assert_eq!(as_pageinspect(&ours, is_heap), theirs, "{at}");
                    compared += 1;
                }
            }
        }
        assert!(compared >= 8, "only {compared} pages were compared");
    }
}

/// A page as it is in its file: in memory the checksum is not up to date.
fn on_disk(relation: &str, block: u32) -> String {
    format!("pg_read_binary_file(pg_relation_filepath('{relation}'), {block}::bigint * 8192, 8192)")
}

async fn hex_of(client: &Client, relation: &str, block: u32) -> String {
    let sql = format!("SELECT encode({}, 'hex')", on_disk(relation, block));
    client.query_one(&sql, &[]).await.expect("a page").get(0)
}

/// A table of some pages, and its server, stopped.
async fn stopped(checksums: bool) -> (Server, Places) {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(checksums));
    server.create_database(DB).await;
    server
        .execute(
            DB,
            "CREATE TABLE t (id int, note text);
             INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 1500) i; CHECKPOINT",
        )
        .await;
    let places = Places::of(&server.connect(DB).await, "t").await;
    server.stop();
    (server, places)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_is_named_by_a_server_from_its_files_and_from_an_image() {
    let (server, places) = stopped(true).await;
    let mut page = read_page(&server, &places.main, 1);
    page.flip(5000, 0x10);
    write_page(&server, &places.main, &page);
    let sums = (page.checksum(), page.correct_checksum());
    let check = |page: &Value, code: i32| {
        let sum = &page["checksum"];
        assert_eq!((code, &sum["wrong"]), (2, &json!(true)), "{page:#}");
        assert_eq!((&sum["stored"], &sum["computed"]), (&json!(sums.0), &json!(sums.1)));
        let bits = sum["single_bits"].as_array().expect("bits");
        assert!(bits.contains(&json!({ "byte": 5000, "bit": 4 })), "{bits:?}");
        assert_eq!((&page["block"], &page["header"]["insane"]), (&json!(1), &Value::Null));
    };
    let pgdata = server.data_dir().display().to_string();
    let ran = run(["inspect", "--pgdata", &pgdata, &places.main, "1", "--json"]);
    check(&parsed(&ran), ran.code);
    let image = tempfile::Builder::new().suffix(".1.page").tempfile().expect("a file");
    std::fs::write(image.path(), &page.bytes).expect("it is written");
    let image = image.path().display().to_string();
    let ran = run(["inspect", &image, "--json"]);
    check(&parsed(&ran), ran.code);
    let ran = run(["inspect", &format!("{pgdata}/{}", places.main), "1", "--json"]);
    check(&parsed(&ran), ran.code);
    // The text: where it is, the lines to look with, and no colours but where they are asked for.
    let ran = run(["inspect", "--pgdata", &pgdata, &places.main, "1"]);
    let file = format!("{pgdata}/{}", places.main);
    for line in [
        format!("segment 0, page 1, byte 8192 (0x2000) of {file}\n"),
        format!("  $ dd if={file} of=block.1.page bs=8192 skip=1 count=1\n"),
        format!("  $ xxd -s 8192 -l 8192 {file}\n"),
        format!("  pd_checksum          {} (0x{:04x}), computed", sums.0, sums.0),
        "bit 4 of byte 5000".to_owned(),
        "no xmax".to_owned(),
    ] {
        assert!(ran.stdout.contains(&line), "{line}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\x1b'));
    assert!(run(["inspect", &image, "--color", "always"]).stdout.contains("\x1b[33m"));
    server.start_again();
    for relation in ["t", "public.t", places.main.as_str()] {
        let (page, code) = inspect(&server, &[relation, "1"]);
        check(&page, code);
        assert_eq!(page["what"], "table \"public.t\"");
    }
    let ran =
        run(words("inspect", &server, DB).into_iter().chain(["t".to_owned(), "99".to_owned()]));
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("ends before block 99"), "{}", ran.stderr);
}

/// Without checksums: what is insane on the page is all that tells.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_sound_page_has_is_named() {
    type Change = fn(&mut Page);
    let changes: [(&str, Change); 6] = [
        ("pd_lower is above pd_upper", |page| page.put(12, &[0xF0, 0x1F])),
        ("pd_flags has bits that do not exist", |page| page.put(10, &[0, 0x10])),
        ("it points to before pd_upper, where no tuples are", |page| {
            let pointer = page.line_pointer(3);
            page.put_line_pointer(3, crate::kit::page_edit::LinePointer { offset: 64, ..pointer });
        }),
        ("the tuple has more attributes than its relation", |page| {
            let at = page.tuple(3).infomask2();
            page.put(at, &[0xFF, 0x07]);
        }),
        ("t_hoff does not fit the number of attributes", |page| {
            let at = page.tuple(3).hoff();
            page.put(at, &[32]);
        }),
        ("", |page| page.bytes.fill(0)),
    ];
    let (server, places) = stopped(false).await;
    let sound = read_page(&server, &places.main, 0);
    let pages: Vec<Page> = changes
        .iter()
        .map(|(_, change)| {
            let mut page = sound.clone();
            change(&mut page);
            page
        })
        .collect();
    for (page, block) in pages.iter().zip(0..) {
        write_page(&server, &places.main, &Page { block, ..page.clone() });
    }
    server.start_again();
    for ((insane, _), block) in changes.iter().zip(0..) {
        let block: u32 = block;
        let ran = run(words("inspect", &server, DB)
            .into_iter()
            .chain(["t".to_owned(), block.to_string()]));
        assert_eq!(ran.stderr, "");
        if insane.is_empty() {
            assert_eq!(ran.code, 0);
            assert!(ran.stdout.contains("all of the page is zeros"), "{}", ran.stdout);
        } else {
            assert_eq!(ran.code, 2, "{insane}: {}", ran.stdout);
            assert!(ran.stdout.contains(&format!("INSANE: {insane}")), "{insane}: {}", ran.stdout);
        }
    }
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    for (typed, says) in [
        ("inspect", "required arguments were not provided"),
        ("inspect t 7", "\"t\" is no file: give -d to ask a server, or --pgdata"),
        ("inspect --pgdata /nonexistent t 7", "give the file as the server names it"),
        ("inspect --pgdata /nonexistent base/5/1", "give the number of the block"),
        ("inspect --pgdata /nonexistent base/5/1 7", "could not read \"/nonexistent/base/5/1\""),
        ("inspect --fork x t 7", "invalid value 'x'"),
    ] {
        let ran = run(typed.split(' '));
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{typed}");
        assert!(ran.stderr.contains(says), "{typed}: {}", ran.stderr);
    }
}
