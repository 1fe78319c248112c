//! A server whose files were harmed in known places, and which has met all of it.

use super::{blocks, of};
use crate::kit::page_edit::XMIN_HINTS;
use crate::kit::places::{grow_second_segment, read_page, truncate, write_page};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Version, harm, owner};
use serde_json::Value;
use std::time::{Duration, Instant};

pub(super) const DB: &str = "base";

/// A transaction long past, the file of which is not there.
const FORGOTTEN: u32 = 0xC000_0000;

pub(super) struct Base {
    pub(super) server: Server,
    orders: Places,
    pkey: Places,
    tall: Places,
    away: Places,
}

const TABLES: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, note text);
    INSERT INTO orders SELECT i, repeat('x', 500) FROM generate_series(1, 3000) i;
    CREATE TABLE \"Spaced Out\" (id int, big text);
    ALTER TABLE \"Spaced Out\" ALTER big SET STORAGE EXTERNAL;
    INSERT INTO \"Spaced Out\" SELECT i, repeat('y', 6000) FROM generate_series(1, 40) i;
    CREATE TABLE short (id int PRIMARY KEY, note text);
    INSERT INTO short SELECT i, repeat('x', 500) FROM generate_series(1, 300) i;
    CREATE TABLE gone (id int); INSERT INTO gone VALUES (1);
    CREATE TABLE forgotten (id int); INSERT INTO forgotten VALUES (1);
    CREATE TABLE killer (id int, note text); INSERT INTO killer SELECT i, 'x' FROM generate_series(1, 9) i;
    CREATE TABLE tall (id int); INSERT INTO tall VALUES (1);
    CREATE TABLE away (id int, note text) TABLESPACE elsewhere;
    INSERT INTO away SELECT i, repeat('x', 500) FROM generate_series(1, 300) i;
    CHECKPOINT";

impl Base {
    pub(super) async fn new(version: &Version) -> Base {
        let options = ServerOptions::checksums(true)
            .set("logging_collector", "on")
            .set(
                "log_destination",
                if version.major >= 15 { "stderr,csvlog,jsonlog" } else { "stderr,csvlog" },
            )
            .set("log_directory", "log")
            .set("log_filename", "x.log")
            .set("log_line_prefix", "%m [%p] %q%u@%d ");
        let server = Server::start(version, options);
        let elsewhere = server.socket_dir().join("elsewhere");
        std::fs::create_dir(&elsewhere).expect("a folder");
        owner::give(&elsewhere);
        let tablespace = format!("CREATE TABLESPACE elsewhere LOCATION '{}'", elsewhere.display());
        server.execute("postgres", &tablespace).await;
        server.create_database(DB).await;
        server.execute(DB, TABLES).await;
        let client = server.connect(DB).await;
        let mut all = Vec::new();
        for name in [
            "orders",
            "orders_pkey",
            "\"Spaced Out\"",
            "short",
            "gone",
            "forgotten",
            "killer",
            "tall",
            "away",
        ] {
            all.push(Places::of(&client, name).await);
        }
        drop(client);
        server.stop();
        let [orders, pkey, spaced, short, gone, forgotten, killer, tall, away] =
            <[Places; 9]>::try_from(all).expect("nine of them");
        for block in [7, 8, 11] {
            wrong_checksum(&server, &orders, block);
        }
        harm(
            &server,
            &pkey,
            Harm::BadPageHeader,
            Place { block: 3, offset: 1 },
            ChecksumAfter::Stale,
        );
        edit(&server, spaced.toast.as_deref().expect("a TOAST table"), 2, |page| {
            let pointer = page.line_pointer(2);
            page.put_line_pointer(2, crate::kit::page_edit::LinePointer { flags: 0, ..pointer });
        });
        truncate(&server, &short.main, short.blocks - 1);
        std::fs::remove_file(server.data_dir().join(&gone.main)).expect("it is there");
        edit(&server, &forgotten.main, 0, |page| {
            let tuple = page.tuple(1);
            page.put(tuple.xmin(), &FORGOTTEN.to_le_bytes());
            page.change_infomask(tuple, XMIN_HINTS, 0);
        });
        // A varlena of half a gigabyte.
        edit(&server, &killer.main, 0, |page| {
            let tuple = page.tuple(3);
            page.put(tuple.data + 4, &0x8000_0000_u32.to_le_bytes());
        });
        let second = grow_second_segment(&server, &tall);
        wrong_checksum(&server, &tall, second);
        wrong_checksum(&server, &away, 4);
        server.start_again();
        let base = Base { server, orders, pkey, tall, away };
        base.meet().await;
        base
    }

    /// Has the server meet all of it, and what only looks like it.
    async fn meet(&self) {
        for sql in [
            "SELECT count(*) FROM orders",
            "SELECT count(*) FROM orders WHERE ctid = '(8,1)'",
            "SELECT count(*) FROM orders WHERE ctid = '(11,1)'",
            "SET enable_seqscan = off; SELECT id FROM orders WHERE id BETWEEN 1 AND 2900 ORDER BY id DESC",
            "SELECT sum(length(big || 'x')) FROM \"Spaced Out\"",
            "SET enable_seqscan = off; SELECT note FROM short WHERE id = 300",
            "SELECT * FROM gone",
            "SELECT * FROM forgotten",
            "SELECT * FROM tall WHERE ctid = '(131072,1)'",
            "SELECT count(note) FROM away",
            "SELECT 'x\nERROR:  invalid page in block 5 of relation base/1/2'::int",
            "SELECT note FROM killer ORDER BY note",
        ] {
            let client = self.server.connect(DB).await;
            let met = client.simple_query(sql).await;
            assert!(
                met.is_err(),
                "PostgreSQL {}: nothing failed: {sql}",
                self.server.version.major
            );
        }
        // It comes back after the crash; the first connection may still be to the old one.
        let log = self.server.data_dir().join("log/x.log");
        let is_back = || {
            let said = std::fs::read(&log).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let crash = said.rfind("was terminated by signal");
            crash.is_some() && said.rfind("ready to accept") > crash
        };
        let begun = Instant::now();
        while !is_back() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the server did not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// All that was harmed is in it, in its place, and nothing else.
    pub(super) fn check(&self, all: &Value, at: &str) {
        for (name, places, wanted, kind) in [
            ("orders", Some(&self.orders), &[(7, 8), (11, 11)][..], "invalid_page"),
            ("orders_pkey", Some(&self.pkey), &[(3, 3)], "invalid_page"),
            ("tall", Some(&self.tall), &[(131_072, 131_072)], "invalid_page"),
            ("away", Some(&self.away), &[(4, 4)], "invalid_page"),
            ("gone", None, &[], "missing_file"),
        ] {
            let object = of(all, name);
            assert_eq!(blocks(object), wanted, "{at}: {name}: {object:#}");
            assert!(object["kinds"][kind].as_u64() > Some(0), "{at}: {name}: {object:#}");
            assert_eq!(object["database"], DB, "{at}: {name}");
            if let Some(places) = places {
                assert_eq!(object["relation"]["oid"], places.oid, "{at}: {name}");
                assert_eq!(object["subject"]["path"], places.main, "{at}: {name}");
            }
        }
        let table = &of(all, "orders_pkey")["relation"]["table"];
        assert_eq!(
            (&table["schema"], &table["name"]),
            (&"public".into(), &"orders".into()),
            "{at}"
        );
        let tall = &of(all, "tall")["blocks"][0];
        assert_eq!(
            (&tall["segment"], &tall["page"], &tall["byte"]),
            (&1.into(), &0.into(), &0.into())
        );
        assert_eq!(tall["file"], format!("{}.1", self.tall.main));
        self.check_checksums(all, at);
        let short = of(all, "short");
        // PostgreSQL 18 says it twice.
        assert!(short["kinds"]["read_failed"].as_u64() > Some(0), "{at}: {short:#}");
        let toast = all["objects"]
            .as_array()
            .expect("objects")
            .iter()
            .find(|o| o["subject"]["kind"] == "toast");
        let toast = toast.expect("a TOAST relation");
        assert_eq!(toast["relation"]["table"]["name"], "Spaced Out", "{at}: {toast:#}");
        let subject = |kind: &str| {
            let objects = all["objects"].as_array().expect("objects");
            objects.iter().filter(|o| o["subject"]["kind"] == kind).collect::<Vec<_>>()
        };
        let forgotten = subject("transaction_status");
        assert_eq!(forgotten[0]["files"][0], "pg_xact/0C00", "{at}: {forgotten:?}");
        assert_eq!(forgotten[0]["transactions"][0], FORGOTTEN, "{at}");
        let crashed = subject("process");
        assert!(crashed.len() == 1 && crashed[0]["kinds"]["crash"] == 1, "{at}: {crashed:?}");
        assert_eq!(all["objects"].as_array().map(Vec::len), Some(9), "{at}: {all:#}");
    }

    /// Those that the pages have, and should have.
    fn check_checksums(&self, all: &Value, at: &str) {
        let object = of(all, "orders");
        let told = object["checksums"].as_array().expect("checksums");
        assert_eq!(told.len(), 3, "{at}: {object:#}");
        for sums in told {
            let block = u32::try_from(sums["block"].as_u64().expect("a block")).expect("a block");
            let file =
                std::fs::read(self.server.data_dir().join(&self.orders.main)).expect("a file");
            let bytes = file.chunks(8192).nth(block as usize).expect("a page").to_vec();
            let page = crate::kit::page_edit::Page { bytes, block };
            assert_eq!(
                (&sums["stored"], &sums["computed"]),
                (&page.checksum().into(), &page.correct_checksum().into()),
                "{at}"
            );
        }
    }
}

fn wrong_checksum(server: &Server, places: &Places, block: u32) {
    harm(server, places, Harm::Checksum, Place { block, offset: 1 }, ChecksumAfter::Stale);
}

/// Changes a page so that its checksum fits.
fn edit(
    server: &Server,
    path: &str,
    block: u32,
    change: impl FnOnce(&mut crate::kit::page_edit::Page),
) {
    let mut page = read_page(server, path, block);
    page.assert_sound();
    change(&mut page);
    page.recompute_checksum();
    write_page(server, path, &page);
}
