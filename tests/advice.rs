//! What is advised in `advice.sql` of a dump is what mends a copy.

use crate::kit::dumped::dump;
use crate::kit::harm::FORGOTTEN_XID;
use crate::kit::oracle;
use crate::kit::page_edit::XMIN_HINTS;
use crate::kit::places::{read_page, write_page};
use crate::kit::{Places, Server, ServerOptions, Stop, Version};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";

/// The statements that stand in it as comments.
fn calls(script: &str) -> Vec<&str> {
    script.lines().filter_map(|line| line.strip_prefix("-- $ ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tuples_of_unknown_transactions_are_named_for_pg_surgery() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        let name = "public.\"it's a \"\"table\"\"\"";
        let create = format!(
            "CREATE TABLE {name} WITH (autovacuum_enabled = off) AS
             SELECT i, md5(i::text) FROM generate_series(1, 2000) i"
        );
        server.execute(DB, &create).await;
        server.execute(DB, "CREATE TABLE healthy AS SELECT 1").await;
        server.execute(DB, "CHECKPOINT").await;
        let places = Places::of(&oracle::session(&server, DB).await, name).await;
        let clean = dump(PROGRAM, &server, DB, &[]);
        assert!(!clean.dir.path().join("advice.sql").exists());
        assert_eq!(server.stop(), Stop::Clean);
        for (block, offset) in [(1, 7), (3, 2)] {
            let mut page = read_page(&server, &places.main, block);
            let tuple = page.tuple(offset);
            page.put(tuple.xmin(), &FORGOTTEN_XID.to_le_bytes());
            page.change_infomask(tuple, XMIN_HINTS, 0);
            page.recompute_checksum();
            write_page(&server, &places.main, &page);
        }
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &[]);
        let script = dumped.dir.path().join("advice.sql");
        let script = std::fs::read_to_string(script).expect("advice");
        assert!(script.contains("\\quit") && script.contains("WARNING"), "{script}");
        assert!(!script.contains("healthy\""), "{script}");
        let called = calls(&script);
        let kill = called.iter().find(|call| call.contains("heap_force_kill"));
        let kill = kill.unwrap_or_else(|| panic!("{script}\n{}", dumped.said));
        assert!(kill.contains("ARRAY['(1,7)', '(3,2)']"), "{kill}");
        assert!(called.iter().any(|call| call.contains("heap_force_freeze")), "{script}");
        // Done on this copy, as it says.
        for sql in ["CREATE EXTENSION pg_surgery", kill] {
            server.execute(DB, sql).await;
        }
        let mended = dump(PROGRAM, &server, DB, &[]);
        assert_eq!(mended.manifest.exit_code, 0, "{}", mended.said);
        let rows: u64 = mended.manifest.relations.iter().map(|r| r.rows.clean).sum();
        assert_eq!(rows, 2000 - 2 + 1);
    }
}
