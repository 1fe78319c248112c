//! Rows of which a column was lost are named by their keys, and no row beside them.

use super::{Pair, csv, dumped, keys, named};
use crate::kit::Version;
use crate::kit::places::remove;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn of_a_table_without_its_toast_values_only_the_rows_that_had_some_are_named() {
    for version in Version::one_or_two() {
        let sql = "CREATE TABLE t (id int PRIMARY KEY, big text);
            ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
            INSERT INTO t SELECT i, repeat('x', CASE WHEN i % 10 = 0 THEN 3000 ELSE 100 END)
            FROM generate_series(1, 3000) i";
        let pair = Pair::new(&version, true, &[sql, "VACUUM (ANALYZE) t"]).await;
        let places = pair.places("t").await;
        remove(&pair.server, places.toast.as_deref().expect("a TOAST table"), 0);
        let dumped = dumped(&pair, &["-j2"]);
        let rows = &dumped.relation("t").rows;
        assert_eq!((rows.clean, rows.partial), (2700, 300), "{}", dumped.said);
        let keys = keys(&dumped, "t");
        let truth: BTreeSet<i32> = (1..=300).map(|i| i * 10).collect();
        assert_eq!(named(&csv(&dumped, keys)), [BTreeSet::new(), truth], "{keys:#?}");
    }
}
