//! Values and names that are large or not UTF-8.

use crate::binary::{Dump, truth};
use crate::kit::{Server, ServerOptions, oracle, sample};
use pg_salvage::output::manifest::RelationStatus;

/// Three hundred million characters; as bytea, each byte is two.
#[tokio::test]
async fn a_value_of_hundreds_of_megabytes_comes_out_whole() {
    for version in crate::kit::Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        server.create_database("huge").await;
        let sql = "CREATE TABLE texts (id int, t text); CREATE TABLE byteas (id int, b bytea);
            INSERT INTO texts SELECT 1, repeat('0123456789', 30000000);
            INSERT INTO texts SELECT 2, 'small';
            INSERT INTO byteas SELECT 1, decode(repeat('00ff', 150000000), 'hex')";
        server.execute("huge", sql).await;
        for options in [&["-j2"][..], &["-j1", "-Z", "none"]] {
            let dump = Dump::of(&server, "huge", options);
            dump.assert_clean();
            let texts = dump.clean_rows(dump.relation("texts")).await;
            let expected =
                [b"1\t", &b"0123456789".repeat(30_000_000)[..], b"\n2\tsmall\n"].concat();
            assert!(texts == expected, "{}, relation \"texts\": {} bytes", dump.case, texts.len());
            let byteas = dump.clean_rows(dump.relation("byteas")).await;
            let expected = [b"1\t\\\\x", &b"00ff".repeat(150_000_000)[..], b"\n"].concat();
            assert!(
                byteas == expected,
                "{}, relation \"byteas\": {} bytes",
                dump.case,
                byteas.len()
            );
        }
    }
}

#[tokio::test]
async fn a_latin1_database_comes_out_in_latin1() {
    for version in crate::kit::Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::create_encoded(&server, "latin1", "LATIN1").await;
        let truth = truth::of(&server, "latin1").await;
        let dump = Dump::of(&server, "latin1", &["-j2"]);
        dump.assert_clean();
        dump.assert_equals(&truth).await;
        assert_eq!(dump.manifest.database.encoding, "LATIN1", "{}", dump.case);
        let plain = dump.clean_rows(dump.relation("plain")).await;
        assert!(plain.starts_with(b"1\tcaf\xe91\n"), "{}: {plain:?}", dump.case);
        assert!(dump.has("café"), "{}", dump.case);
    }
}

#[tokio::test]
async fn in_sql_ascii_bytes_stay_as_they_are_and_names_that_cannot_be_sent_fail_alone() {
    for version in crate::kit::Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::create_encoded(&server, "ascii", "SQL_ASCII").await;
        let dump = Dump::of(&server, "ascii", &["-j2"]);
        let case = &dump.case;
        assert_eq!(dump.ran.code, 3, "{case}: {}", dump.ran.stderr);
        // Beyond the client library, which wants UTF-8: straight from the server.
        let client = oracle::session(&server, "ascii").await;
        let sql = "COPY (SELECT id, t FROM ONLY plain) TO STDOUT (ENCODING 'SQL_ASCII')";
        let plain = oracle::copy_out(&client, &sql.replace("plain", "public.plain")).await;
        let plain = plain.expect("the rows");
        let entry = dump.relation("plain");
        assert_eq!((entry.status, entry.rows.clean), (RelationStatus::Clean, 50), "{case}");
        truth::assert_same(case, &dump.clean_rows(entry).await, &plain);
        assert!(plain.starts_with(b"1\tcaf\xe91\n"), "{case}: {plain:?}");
        assert_eq!(dump.with_status(RelationStatus::Failed), ["caf\u{FFFD}"], "{case}");
        let entry = dump.relation("caf\u{FFFD}");
        assert_eq!(entry.name_hex.as_deref(), Some("636166e9"), "{case}");
        assert_eq!(entry.columns[0].name_hex.as_deref(), Some("6eb0"), "{case}");
        let reason = "the name of relation \"caf\u{FFFD}\" is not valid UTF-8, and cannot be sent in a statement";
        assert_eq!(entry.reason.as_deref(), Some(reason), "{case}");
        dump.assert_tidy();
    }
}

/// A name that the server itself cannot translate: WIN1252 has no letter 0x81.
/// As in SQL_ASCII, it fails alone.
#[tokio::test]
async fn a_name_that_cannot_be_translated_fails_alone() {
    for version in crate::kit::Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::create_encoded(&server, "win", "WIN1252").await;
        let sql = "DO $$ BEGIN EXECUTE format('CREATE TABLE %I AS SELECT 1 AS one', 'odd' || chr(129)); END $$";
        server.execute("win", sql).await;
        let dump = Dump::of(&server, "win", &["-j2"]);
        assert_eq!(dump.ran.code, 3, "{}: {}", dump.case, dump.ran.stderr);
        let failed = dump.with_status(RelationStatus::Failed);
        assert_eq!(failed, ["caf\u{FFFD}", "odd\u{FFFD}"], "{}", dump.case);
        let entry = dump.relation("plain");
        assert_eq!((entry.status, entry.rows.clean), (RelationStatus::Clean, 50), "{}", dump.case);
        dump.assert_tidy();
    }
}
