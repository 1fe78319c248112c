//! Roles that may not read everything: what they may not read has failed, in
//! the server's words, and the rest is complete.

use crate::binary::{Dump, dump, run, truth, words_as};
use crate::kit::{Server, ServerOptions, sample};
use pg_salvage::output::manifest::{Relation, RelationStatus, RunStatus};

/// Failed for this reason, with nothing of it kept.
fn assert_failed(dump: &Dump, relation: &Relation, reason: &str) {
    let case = format!("{}, relation \"{}\"", dump.case, relation.name);
    assert_eq!(relation.status, RelationStatus::Failed, "{case}");
    assert_eq!(relation.reason.as_deref(), Some(reason), "{case}");
    assert_eq!(relation.rows.clean, 0, "{case}: rows");
    assert_eq!(relation.advice.len(), 1, "{case}: {:?}", relation.advice);
}

#[tokio::test]
async fn row_security_hides_no_rows_in_silence() {
    for version in crate::kit::Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::create(&server, "sample", 1).await;
        // The owner of one of the two tables: only FORCE makes policies hold
        // for owners.
        let grants = "CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader;
            CREATE ROLE owner LOGIN; GRANT pg_read_all_data TO owner;
            ALTER TABLE row_security OWNER TO owner; ALTER TABLE row_security_forced OWNER TO owner;
            CREATE ROLE bypasser LOGIN BYPASSRLS; GRANT pg_read_all_data TO bypasser";
        server.execute("sample", grants).await;
        let truth = truth::of(&server, "sample").await;
        let words = |table: &str| {
            format!(
                "ERROR: query would be affected by row-level security policy for table \"{table}\""
            )
        };
        let both = ["row_security", "row_security_forced"];
        for (role, failed) in [("reader", &both[..]), ("owner", &both[1..]), ("bypasser", &[])] {
            let mut dump = Dump::as_user(&server, role, "sample", &["-j2"]);
            dump.case = format!("{}, role {role}", dump.case);
            assert_eq!(dump.with_status(RelationStatus::Failed), failed, "{}", dump.case);
            for table in failed {
                assert_failed(&dump, dump.relation(table), &words(table));
            }
            let expected = if failed.is_empty() { 0 } else { 3 };
            assert_eq!(dump.ran.code, expected, "{}", dump.case);
            others_are_complete(&dump, &truth).await;
        }
    }
}

async fn others_are_complete(dump: &Dump, truth: &std::collections::BTreeMap<u32, truth::Truth>) {
    for relation in &dump.manifest.relations {
        if relation.status != RelationStatus::Failed {
            dump.assert_relation(relation, &truth[&relation.oid]).await;
        }
    }
    assert_eq!(dump.manifest.relations.len(), truth.len(), "{}: the relations", dump.case);
    dump.assert_tidy();
}

#[tokio::test]
async fn what_a_role_may_not_read_has_failed_and_the_rest_is_complete() {
    for version in crate::kit::Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        server.create_database("some").await;
        let sql = "CREATE ROLE reader LOGIN;
            CREATE TABLE allowed (id serial, t text); CREATE TABLE forbidden (id serial, t text);
            CREATE TABLE one_column (a int, b int);
            INSERT INTO allowed (t) SELECT 'a' || i FROM generate_series(1, 5000) i;
            INSERT INTO forbidden (t) SELECT 'f' || i FROM generate_series(1, 5000) i;
            INSERT INTO one_column SELECT i, i FROM generate_series(1, 10) i;
            CREATE SCHEMA closed; CREATE TABLE closed.inside (i int);
            INSERT INTO closed.inside SELECT generate_series(1, 100);
            GRANT SELECT ON allowed, closed.inside TO reader; GRANT SELECT (a) ON one_column TO reader;
            GRANT SELECT ON SEQUENCE allowed_id_seq TO reader";
        server.execute("some", sql).await;
        let truth = truth::of(&server, "some").await;
        for options in [&["-j1"][..], &["-j3", "--split-size=64kB"]] {
            let dump = Dump::as_user(&server, "reader", "some", options);
            assert_eq!((dump.ran.code, dump.manifest.status), (3, RunStatus::Incomplete));
            let failed = ["inside", "forbidden", "forbidden_id_seq", "one_column"];
            assert_eq!(dump.with_status(RelationStatus::Failed), failed, "{}", dump.case);
            let denied = |what: &str| format!("ERROR: permission denied for {what}");
            assert_failed(&dump, dump.relation("inside"), &denied("schema closed"));
            assert_failed(&dump, dump.relation("forbidden"), &denied("table forbidden"));
            assert_failed(&dump, dump.relation("one_column"), &denied("table one_column"));
            let sequence = denied("sequence forbidden_id_seq");
            assert_failed(&dump, dump.relation("forbidden_id_seq"), &sequence);
            others_are_complete(&dump, &truth).await;
        }
        verify_says_the_same(&server);
    }
}

fn verify_says_the_same(server: &Server) {
    let ran = run(words_as("verify", server, "some", "reader"));
    let case = dump::case(server, "verify");
    assert_eq!(ran.code, 3, "{case}: {}", ran.stderr);
    for what in
        ["schema closed", "table forbidden", "table one_column", "sequence forbidden_id_seq"]
    {
        let reason = format!("\n  ERROR: permission denied for {what}\n");
        assert!(ran.stdout.contains(&reason), "{case}: {what}\n{}", ran.stdout);
    }
}
