//! What `verify_heapam` (amcheck) says of the structure of damaged pages is
//! found by the page's own check, at the same line pointer.

use crate::kit::flips::Random;
use crate::kit::places::{read_page, write_page};
use crate::kit::{Places, Server, ServerOptions, Stop, Version, oracle};
use pg_salvage::page::check::{Kind, Problem, check};
use std::collections::BTreeMap;

const DB: &str = "postgres";

/// How its words on structure begin. Transactions, TOAST and attributes are no
/// matter of the page alone.
const OF_STRUCTURE: &str = "^(line pointer (to|length)|data begins|tuple data should begin)";

/// And what the page's check says of the same.
const SAID_BY_BOTH: [&str; 4] =
    ["t_hoff", "ends behind pd_special", "not aligned", "has no length"];

#[tokio::test(flavor = "multi_thread")]
async fn what_amcheck_says_of_a_page_is_found_at_the_same_place() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(false));
        let create = "CREATE EXTENSION amcheck; CREATE TABLE t WITH (autovacuum_enabled = off) AS
            SELECT i, nullif(i % 3, 0) AS n, 'x' || i AS words FROM generate_series(1, 60000) i";
        for sql in create.split("; ").chain(["CHECKPOINT"]) {
            server.execute(DB, sql).await;
        }
        let places = Places::of(&oracle::session(&server, DB).await, "public.t").await;
        assert_eq!(server.stop(), Stop::Clean);
        let mut random = Random(u64::from(version.major));
        let mut ours: BTreeMap<u32, (u16, &'static str)> = BTreeMap::new();
        for block in 0..places.blocks {
            let mut page = read_page(&server, &places.main, block);
            let numbers = page.tuples();
            // The file is extended by several pages at a time.
            if numbers.is_empty() {
                continue;
            }
            let number = numbers[random.below(numbers.len())];
            let mut pointer = page.line_pointer(number);
            let byte = u8::try_from(random.below(256)).expect("a byte");
            match block % 4 {
                0 => page.put(page.tuple(number).hoff(), &[byte]),
                1 => pointer.offset = u16::try_from(random.below(8192)).expect("an offset"),
                2 => pointer.length = u16::try_from(random.below(8192)).expect("a length"),
                _ => page.flip(page.tuple(number).infomask(), 1),
            }
            if matches!(block % 4, 1 | 2) {
                page.put_line_pointer(number, pointer);
            }
            write_page(&server, &places.main, &page);
            match check(&page.bytes, block, Kind::Heap, false) {
                Some(Problem::Item { number: at, what }) => {
                    assert_eq!(at, number, "block {block}: {what}");
                    ours.insert(block, (at, what));
                }
                None => {}
                other => panic!("block {block}: {other:?}"),
            }
        }
        server.start_again();
        let client = oracle::session(&server, DB).await;
        let sql = format!(
            "SELECT offnum, msg FROM public.verify_heapam('public.t', startblock => $1, endblock => $1)
                WHERE msg ~ '{OF_STRUCTURE}' ORDER BY offnum LIMIT 1"
        );
        let (mut theirs, mut gave_up) = (BTreeMap::new(), 0);
        for block in 0..places.blocks {
            // It ends at a tuple whose header is garbage, by what that says of
            // transactions.
            let Ok(rows) = client.query(&sql, &[&i64::from(block)]).await else {
                gave_up += 1;
                ours.remove(&block);
                continue;
            };
            let Some(row) = rows.first() else { continue };
            let (number, words): (i32, String) = (row.get(0), row.get(1));
            let own = ours.get(&block).map(|(at, _)| i32::from(*at));
            assert_eq!(own, Some(number), "{}: block {block}: {words}", version.major);
            theirs.insert(block, words);
        }
        assert!(gave_up < places.blocks / 4, "{gave_up} of {} blocks", places.blocks);
        let both = |what: &str| SAID_BY_BOTH.iter().any(|part| what.contains(part));
        for (block, (number, what)) in ours.iter().filter(|(_, (_, what))| both(what)) {
            let said = theirs.contains_key(block);
            assert!(said, "{}: block {block}, line pointer {number}: {what}", version.major);
        }
        assert!(theirs.len() > 100, "{} of {} blocks", theirs.len(), places.blocks);
    }
}
