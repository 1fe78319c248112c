//! Dumps of damaged databases, as they come: every row of a file is loaded or
//! rejected, and every key holds that can.

use super::way_back::{dump, restore};
use crate::binary::Dump;
use crate::kit::oracle::quote;
use crate::kit::sample::TOASTED_EVERY;
use crate::kit::{Plan, Version, Ward};
use pg_salvage::output::manifest::{RelationKind, RowClass};
use pg_salvage::output::restored::{File, RelationStatus};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_had_of_a_damaged_database_is_loaded_without_work_by_hand() {
    for (n, version) in Version::one_or_two().into_iter().enumerate() {
        let plan = Plan::new(n == 0);
        let ward = Ward::open(&version, plan).await;
        let server = &ward.server;
        let dumped = dump(server, ward.dbname, &["-j2", "--max-crashes", "100"]);
        let manifest = &dumped.manifest;
        assert!(manifest.totals.rows.partial > 0, "nothing of it is partial");
        for (dbname, include) in [("clean", "clean"), ("all", "partial,suspect")] {
            let at = format!("PostgreSQL {}, {include}", version.major);
            let options = ["--create", "-j2", "--include", include, "--check"];
            let back = restore(server, dbname, &dumped.dir, &options);
            let said = format!("{at}: {}\n{}", back.ran.stdout, back.ran.stderr);
            assert!([0, 2].contains(&back.ran.code), "{said}");
            back.assert_counts(&at);
            assert_eq!(back.report().not_made, [], "{said}");
            assert_eq!(back.report().not_valid, [], "{said}");
            let mut tables = 0;
            for relation in &back.report().relations {
                let Some(check) = &relation.check else { continue };
                assert!(check.equal, "{}: {check:?}\n{said}", relation.name);
                assert_ne!(relation.status, RelationStatus::NotLoaded, "{said}");
                tables += 1;
                let clean = relation.files.iter().find(|f| f.class == RowClass::Clean);
                let clean = clean.expect("a file of clean rows");
                assert_eq!((clean.read, &clean.complaint), (clean.rows, &None), "{said}");
                // Without checksums a damaged NULL bitmap makes NULLs without a word.
                assert!(clean.rejected == 0 || !plan.checksums, "{said}");
            }
            assert!(tables + 2 >= ward.harmed.len(), "{tables} tables: {said}");
            let sql = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
                WHERE i.indisprimary AND i.indisvalid AND c.relnamespace = 'public'::regnamespace";
            let client = server.connect(dbname).await;
            let keys: i64 = client.query_one(sql, &[]).await.expect("keys").get(0);
            assert_eq!(keys, i64::try_from(ward.harmed.len()).expect("a few"), "{said}");
            std::fs::remove_dir_all(&back.folder).expect("the folder");
        }
        if plan.checksums {
            nothing_that_is_lost_may_be_null(&ward, &dumped, &said_of(&version)).await;
        }
    }
}

fn said_of(version: &Version) -> String {
    format!("PostgreSQL {}, what is lost may not be null", version.major)
}

/// Into tables that take no partial row of those whose values are lost: what is
/// rejected and what is loaded are together what the files have.
async fn nothing_that_is_lost_may_be_null(ward: &Ward, dumped: &Dump, at: &str) {
    let server = &ward.server;
    let first = restore(server, "strict", &dumped.dir, &["--create", "--section", "pre-data"]);
    assert_eq!(first.ran.code, 0, "{}", first.ran.stderr);
    std::fs::remove_dir_all(&first.folder).expect("the folder");
    let strict = format!(
        "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT oid FROM pg_class
             WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
         EXECUTE format('ALTER TABLE %s ALTER squeezed SET NOT NULL,
             ADD CHECK (id % {TOASTED_EVERY} <> 0 OR big IS NOT NULL)', t); END LOOP; END $$"
    )
    .replace("id % ", "id %% ");
    server.execute("strict", &strict).await;
    let options =
        ["--section", "data", "--section", "post-data", "--include", "partial,suspect", "--check"];
    let back = restore(server, "strict", &dumped.dir, &options);
    let said = format!("{at}: {}\n{}", back.ran.stdout, back.ran.stderr);
    assert_eq!(back.ran.code, 2, "{said}");
    back.assert_counts(at);
    let client = server.connect("strict").await;
    let (mut partial, mut rejected) = (0, 0);
    for relation in &back.report().relations {
        if relation.kind != RelationKind::Table {
            continue;
        }
        assert!(relation.check.as_ref().is_some_and(|c| c.equal), "{}: {said}", relation.name);
        let sum = |of: fn(&File) -> u64| relation.files.iter().map(of).sum::<u64>();
        let entry = dumped.relation(&relation.name);
        let rows = entry.rows.clean + entry.rows.partial + entry.rows.suspect;
        assert_eq!(sum(|f| f.loaded) + sum(|f| f.rejected), rows, "{}: {said}", relation.name);
        let sql = format!("SELECT count(*) FROM {}", quote(&relation.name));
        let there: i64 = client.query_one(&sql, &[]).await.expect("a number").get(0);
        let loaded = sum(|f| f.loaded) - relation.duplicates;
        assert_eq!(there.unsigned_abs(), loaded, "{}: {said}", relation.name);
        partial += entry.rows.partial;
        let Some(file) = &relation.rejects else { continue };
        for line in back.rejects(file).iter().filter(|l| l.class == "partial") {
            assert!(line.ctid.starts_with('('), "{line:?}");
            rejected += 1;
        }
    }
    assert!(partial > 0 && rejected == partial, "{rejected} of {partial}: {said}");
}
