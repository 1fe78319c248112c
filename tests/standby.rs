//! A real streaming standby is read: as it is, and while it is in conflict with
//! what it replays, promoted, restarted, or left alone by its primary.
//!
//! PostgreSQL 15 only, which comes with pg_basebackup; `environment.rs` reads
//! standbys of other versions.

use crate::binary::{Dump, Ran, begin, dump, truth};
use crate::kit::{Server, ServerOptions, Version, oracle};
use pg_salvage::output::manifest::{Persistence, RelationStatus};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use truth::Truth;

const DB: &str = "shop";
const PATIENCE: Duration = Duration::from_secs(120);
const OPTIONS: [&str; 5] = ["-j2", "-Z", "zstd:15", "--max-crashes", "0"];

struct Pair {
    primary: Server,
    standby: Server,
    /// What a dump of the standby must hold.
    truth: BTreeMap<u32, Truth>,
}

/// The slow table is read first.
async fn pair(settings: &[(&str, &str)]) -> Pair {
    let options = ServerOptions::checksums(true);
    let primary = Server::start(&Version::major(15), options);
    primary.create_database(DB).await;
    let sql = "CREATE TABLE slow AS SELECT i, md5(i::text) AS t, 0 AS v FROM generate_series(1, 400000) i;
        CREATE TABLE other (id serial PRIMARY KEY, t text);
        INSERT INTO other (t) SELECT md5(i::text) FROM generate_series(1, 20000) i;
        CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM other;
        CREATE UNLOGGED TABLE unlogged AS SELECT i FROM generate_series(1, 1000) i;
        CREATE UNLOGGED SEQUENCE unlogged_sequence;
        SELECT lo_from_bytea(0, convert_to(repeat('large', 10000), 'UTF8'));";
    primary.execute(DB, sql).await;
    let standby = primary.streaming_standby(settings).await.expect("15 has its clients");
    let mut truth = truth::of(&primary, DB).await;
    // A sequence is some values ahead there, lest one be given twice.
    let client = oracle::session(&standby, DB).await;
    let sql = "SELECT 'public.other_id_seq'::regclass::oid, last_value, is_called FROM public.other_id_seq";
    let row = client.query_one(sql, &[]).await.expect("a sequence");
    truth.get_mut(&row.get(0)).expect("it is there").sequence = Some((row.get(1), row.get(2)));
    Pair { primary, standby, truth }
}

impl Pair {
    /// Dumps the standby; `meanwhile` happens while the slow table is read.
    async fn dump_while(&self, options: &[&str], meanwhile: impl AsyncFnOnce(&Pair)) -> Dump {
        let (folder, dir, words) = Dump::words(&self.standby, "postgres", DB, options);
        let mut child = begin(words);
        let part = dir.join("data/public.slow.copy.zst.part");
        let begun = Instant::now();
        while !std::fs::metadata(&part).is_ok_and(|m| m.len() > 100_000) {
            assert!(child.try_wait().expect("it is ours").is_none(), "it was over before");
            assert!(begun.elapsed() < PATIENCE, "the slow table was not begun");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        meanwhile(self).await;
        assert!(child.try_wait().expect("it is ours").is_none(), "it was over before all happened");
        let ran = tokio::task::spawn_blocking(|| Ran::wait(child)).await.expect("no panic");
        Dump::read(dump::case(&self.standby, &options.join(" ")), ran, dir, Some(folder))
    }

    /// All is there, but for what cannot be read in recovery, and that is said.
    async fn assert_whole(&self, dump: &Dump) {
        let case = &dump.case;
        assert_eq!(dump.ran.code, 0, "{case}: {}", dump.ran.stderr);
        let oids: Vec<u32> = dump.manifest.relations.iter().map(|r| r.oid).collect();
        assert!(self.truth.keys().all(|oid| oids.contains(oid)), "{case}");
        let mut skipped = 0;
        for entry in &dump.manifest.relations {
            if entry.persistence == Persistence::Unlogged {
                assert_eq!(entry.status, RelationStatus::Skipped, "{case}: {}", entry.name);
                assert!(
                    entry.reason.as_deref().is_some_and(|r| r.contains("standby")),
                    "{entry:#?}"
                );
                assert_eq!(entry.files, [], "{case}: {}", entry.name);
                skipped += 1;
            } else {
                dump.assert_relation(entry, &self.truth[&entry.oid]).await;
            }
        }
        assert_eq!(skipped, 2, "{case}");
        self.assert_no_crash(dump);
        dump.assert_tidy();
    }

    fn assert_no_crash(&self, dump: &Dump) {
        let down = dump.manifest.warnings.iter().any(|w| w.contains("went down"));
        assert!(!down, "{}: {:?}", dump.case, dump.manifest.warnings);
    }
}

/// Of each snapshot, whether it was taken in recovery.
fn recoveries(dump: &Dump) -> Vec<bool> {
    dump.manifest.snapshots.iter().map(|s| s.in_recovery).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streaming_standby_is_read_whole() {
    let pair = pair(&[]).await;
    for options in [&["-j1"][..], &["-j3", "--split-size=1MB"]] {
        let dump = Dump::of(&pair.standby, DB, options);
        pair.assert_whole(&dump).await;
        assert!(dump.manifest.server.in_recovery, "{}", dump.case);
        assert_eq!(recoveries(&dump), [true], "{}", dump.case);
    }
}

/// Rows are paired: in every state that was ever committed, all are there and
/// `v` adds up to nothing.
const CHANGE: &str = "UPDATE slow SET v = v + CASE WHEN i <= 200000 THEN 1 ELSE -1 END
    WHERE i % 1000 = 7; VACUUM slow";

async fn assert_one_state(dump: &Dump) {
    let entry = dump.relation("slow");
    let rows = dump.clean_rows(entry).await;
    let (mut ids, mut sum) = (Vec::new(), 0);
    for line in oracle::lines(&rows) {
        let fields: Vec<&str> = std::str::from_utf8(line).expect("UTF-8").split('\t').collect();
        ids.push(fields[0].parse::<u32>().expect("a number"));
        sum += fields[2].parse::<i64>().expect("a number");
    }
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(1..=400_000), "{}: every row once", dump.case);
    assert_eq!(sum, 0, "{}: of one state", dump.case);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_conflicts_with_recovery_once_is_read_again() {
    let pair = pair(&[("max_standby_streaming_delay", "0")]).await;
    for options in [&OPTIONS[..], &["-j1", "-Z", "zstd:15"]] {
        let dump = pair
            .dump_while(options, async |pair| {
                for sql in CHANGE.split("; ") {
                    pair.primary.execute(DB, sql).await;
                }
            })
            .await;
        assert!(recoveries(&dump).len() > 1, "{}: there was no conflict", dump.case);
        assert_eq!(dump.ran.code, 0, "{}: {}", dump.case, dump.ran.stderr);
        assert_one_state(&dump).await;
        pair.assert_no_crash(&dump);
    }
}

/// A table for which there is never time enough fails, with the reason; the run
/// comes to an end, and what there is time for is read.
#[tokio::test(flavor = "multi_thread")]
async fn what_conflicts_with_recovery_all_the_time_fails_with_that_reason() {
    let pair = pair(&[("max_standby_streaming_delay", "0")]).await;
    let mut writer = None;
    let dump = pair
        .dump_while(&OPTIONS, async |pair| {
            let client = pair.primary.connect(DB).await;
            writer = Some(tokio::spawn(async move {
                loop {
                    for sql in CHANGE.split("; ") {
                        client.batch_execute(sql).await.expect("the primary is well");
                    }
                }
            }));
        })
        .await;
    writer.expect("it was begun").abort();
    let slow = dump.relation("slow");
    assert_eq!((slow.status, dump.ran.code), (RelationStatus::Failed, 3), "{slow:#?}");
    let reason = slow.reason.clone().unwrap_or_default();
    assert!(reason.contains("conflict with recovery"), "{}: {reason}", dump.case);
    for entry in &dump.manifest.relations {
        assert_eq!(entry.lost, [], "{}: \"{}\"", dump.case, entry.name);
        let harmed = matches!(entry.status, RelationStatus::Salvaged | RelationStatus::Lost);
        assert!(!harmed, "{}: \"{}\"", dump.case, entry.name);
    }
    let other = dump.relation("other");
    dump.assert_relation(other, &pair.truth[&other.oid]).await;
    pair.assert_no_crash(&dump);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_promoted_meanwhile_is_read_as_it_was() {
    let pair = pair(&[]).await;
    let dump = pair
        .dump_while(&OPTIONS, async |pair| {
            pair.standby.promote().await;
            let sql =
                "DELETE FROM slow WHERE i % 2 = 0; UPDATE other SET t = 'changed'; CHECKPOINT";
            pair.standby.execute(DB, sql).await;
            pair.standby.execute(DB, "VACUUM slow").await;
        })
        .await;
    pair.assert_whole(&dump).await;
    assert_eq!(recoveries(&dump), [true], "{}", dump.case);
}

/// Nothing was written in between, so both snapshots see the same.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_lost_after_a_promotion_are_renewed_on_the_new_primary() {
    let pair = pair(&[]).await;
    let options = [&OPTIONS[..], &["--split-size=1MB"]].concat();
    let dump = pair
        .dump_while(&options, async |pair| {
            pair.standby.promote().await;
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
            pair.standby.execute("postgres", sql).await;
        })
        .await;
    pair.assert_whole(&dump).await;
    assert_eq!(recoveries(&dump), [true, false], "{}", dump.case);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_whose_primary_goes_away_is_read_on() {
    let pair = pair(&[]).await;
    let dump = pair.dump_while(&OPTIONS, async |pair| pair.primary.stop_now()).await;
    pair.assert_whole(&dump).await;
    assert_eq!(recoveries(&dump), [true], "{}", dump.case);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_restarted_is_read_on() {
    let pair = pair(&[]).await;
    for immediate in [false, true] {
        let options = [&OPTIONS[..], &["--split-size=1MB"]].concat();
        let dump = pair
            .dump_while(&options, async |pair| {
                if immediate {
                    pair.standby.stop_now();
                    pair.standby.start_again();
                } else {
                    pair.standby.restart();
                }
            })
            .await;
        pair.assert_whole(&dump).await;
        assert_eq!(recoveries(&dump), [true, true], "{}", dump.case);
    }
}
