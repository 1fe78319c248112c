use super::super::samples::{full, nasty};
use super::*;
use expect_test::expect;

#[test]
fn a_report_as_a_person_sees_it() {
    expect![[r#"
        pg_salvage verify: the run is not complete; damage was found in 2 of 26 relations so far
        server PostgreSQL 15.18; host db1.example:5432; database shop
        looked at pages, rows, amcheck; began 2026-03-01 02:00:00 UTC; ended 2026-03-01 02:08:44 UTC, after 8 min 44 s
        data checksums on

        relation                    kind   levels            rows  blocks  damaged  status
        --------------------------  -----  -------------  -------  ------  -------  ----------
        shop.public.orders          table  pages          371,420   4,919       40  damaged
        shop.public.orders_pkey     index  pages                    1,100        1  damaged
        shop.public.invoices        table  pages                0     800           incomplete
        pg_catalog.pg_authid        table  pages rows          12       1           clean
        shop.public.addresses       table  pages rows       1,000      20           clean
        shop.public.basket_items    table  pages rows      75,000   1,500           clean
        shop.public.baskets         table  pages rows      38,000     760           clean
        shop.public.carriers        table  pages rows      11,000     220           clean
        shop.public.categories      table  pages rows      48,000     960           clean
        shop.public.coupons         table  pages rows      85,000   1,700           clean
        shop.public.currencies      table  pages rows      21,000     420           clean
        shop.public.customers       table  pages rows     120,000   2,100           clean
        shop.public.customers_pkey  index  pages amcheck              332           clean
        shop.public.events          table  pages rows      58,000   1,160           clean
        shop.public.images          table  pages rows      95,000   1,900           clean
        shop.public.order_items     table  pages rows      31,000     620           clean
        shop.public.payments        table  pages rows      68,000   1,360           clean
        shop.public.prices          table  pages rows       4,000      80           clean
        shop.public.products        table  pages rows      41,000     820           clean
        shop.public.returns         table  pages rows      78,000   1,560           clean
        shop.public.shipments       table  pages rows      14,000     280           clean
        shop.public.stock           table  pages rows      51,000   1,020           clean
        shop.public.suppliers       table  pages rows      88,000   1,760           clean
        shop.public.tags            table  pages rows      24,000     480           clean
        shop.public.taxes           table  pages rows      61,000   1,220           clean
        shop.public.users           table  pages rows      98,000   1,960           clean
        1 relation not reached

        23 relations clean; 2 relations damaged; 1 relation incomplete; 1 relation not reached; 1,481,432 rows (212 suspect, 3 partial); 29,052 blocks, 41 damaged, 29 of them lost; 227 MB
        NOTE: file base/16384/99454 (81 MB) belongs to no relation
        NOTE: database "shop": amcheck: the extension is not there in 2 schemas

        table shop.public.orders: damaged
          the time ended before its last 29 blocks
          block 511, file base/16384/16400 at byte 4186112: wrong checksum: 60981 is computed, 61053 is on the page (checksum)
          block 511: ERROR: invalid page in block 511 of relation base/16384/16400 (page, SQLSTATE XX001)
          tuple (311,7), column "note": ERROR: missing chunk number 0 for toast value 16721 in pg_toast_16400 (stored elsewhere, SQLSTATE XX001)
          blocks 3075..3092, file base/16384/16400 at byte 25190400: the page is all zeros, and pages behind it are not (page)
          block 0, fork vm, file base/16384/16400_vm at byte 0: wrong checksum: 1182 is computed, 0 is on the page (checksum)
          and 9 more
          HINT: save what can be read of it, before anything else
            $ pg_salvage dump -d shop -t public.orders -f /backup/orders
          HINT: fetch the rows of the lost places from a standby or a restored backup
            SELECT * FROM public.orders
             WHERE ctid >= '(511,0)' AND ctid < '(512,0)';
            SELECT * FROM public.orders
             WHERE ctid >= '(3075,0)' AND ctid < '(3093,0)';
          HINT: look at the suspect rows before restoring them: their blocks were damaged

        index shop.public.orders_pkey of public.orders: damaged
          block 73, file base/16384/16408 at byte 598016: wrong checksum: 7 is computed, 9 is on the page (checksum)
          ERROR: item order invariant violated for index "orders_pkey" (amcheck, SQLSTATE XX002)
          HINT: when the table can be read, make the index anew: nothing is in it that the table has not
            REINDEX INDEX CONCURRENTLY public.orders_pkey;

        table shop.public.invoices: incomplete
          could not lock it within 10 s: process 4211 (nightly) holds AccessExclusiveLock
          HINT: run again when nobody holds a lock on it, or with a longer --lock-timeout
            $ pg_salvage verify -d shop -t public.invoices --lock-timeout 5min

        What has changed since the report of 2026-02-28 02:00:00 UTC:
          new damage: shop.public.orders: 13 damaged blocks that the earlier report does not have
          healed: shop.public.stock: 2 blocks were damaged, and none is
          fewer rows: shop.public.tags: from 31,204 rows to 30,000: 3.9 % fewer
          gone: shop.public.tmp_import: it was there, and is not
          other contents: shop.public.taxes: the statistics know of no write

        NOTE: the time ended before the work
        NOTE: longest without a look: shop.archive.orders_2019, last found clean 2026-02-21 02:00:09 UTC

        Exit code 3: the run is incomplete: it was stopped, or something could not be looked at, or not for too long.
        What to do next:
          1. When what was in the way is mended, run it again.
          2. Write nothing more to this server; copy its data directory before any repair.
          3. Save what can be read (pg_salvage dump), and look for the rest on a standby or in a backup.
          4. Then follow the advice for each relation, the first thing first.
    "#]].assert_eq(&text(&full(), false));
}

#[test]
fn nothing_reaches_the_terminal_that_it_obeys() {
    for verbose in [false, true] {
        let text = text(&nasty(), verbose);
        let is_plain = |c: char| c == '\n' || c == '\t' || !c.is_control();
        assert!(text.chars().all(|c| is_plain(c) && c != '\u{202e}'), "{text:?}");
    }
}

#[test]
fn of_many_relations_those_that_are_not_clean_are_shown_and_the_rest_is_counted() {
    let mut report = full();
    let find = |name: &str| report.relations.iter().find(|r| r.name == name).unwrap().clone();
    let (clean, damaged) = (find("customers"), find("orders"));
    let many = |of: &Relation, count| {
        let named = |n| Relation { name: format!("{}_{n}", of.name), ..of.clone() };
        (0..count).map(named).collect::<Vec<_>>()
    };
    report.relations = [many(&clean, 60), many(&damaged, 50)].concat();
    let short = text(&report, false);
    for part in ["and 10 relations not clean", "and 60 relations clean", "orders_39"] {
        assert!(short.contains(part), "{part}: {short}");
    }
    assert!(!short.contains("customers_1") && !short.contains("orders_40"), "{short}");
    let long = text(&report, true);
    assert!(long.contains("customers_59") && long.contains("orders_49"), "{long}");
}
