//! Dumps of damaged databases, as they come: every row of a file is loaded or
//! rejected, and every key holds that can.

use super::way_back::{dump, restore};
use crate::kit::{Plan, Version, Ward};
use pg_salvage::output::manifest::RowClass;
use pg_salvage::output::restored::RelationStatus;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_had_of_a_damaged_database_is_loaded_without_work_by_hand() {
    for (n, version) in Version::two().into_iter().enumerate() {
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
    }
}
