//! The way back: a dump into a database, whole or damaged.

mod again;
mod chosen;
mod damaged;
mod described;
mod rights;
mod together;
mod wards;
mod way_back;

use crate::kit::version::is_wide;
use crate::kit::{Server, ServerOptions, Version, sample};
use way_back::{contents, dump, restore, schema_of};

/// Statements and rows that are not UTF-8.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_another_encoding_comes_back() {
    let version = Version::newest();
    let server = Server::start(&version, ServerOptions::checksums(true));
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let (was, is) = (format!("was_{encoding}"), format!("is_{encoding}"));
        sample::create_encoded(&server, &was, encoding).await;
        let dumped = dump(&server, &was, &[]);
        let back = restore(&server, &is, &dumped.dir, &["--create", "--check"]);
        let said = format!("{encoding}: {}\n{}", back.ran.stdout, back.ran.stderr);
        back.assert_counts(&said);
        assert_eq!(back.report().not_made, [], "{said}");
        assert!(back.relation("plain").check.as_ref().is_some_and(|c| c.equal), "{said}");
        let sql = "SELECT string_agg(encode(convert_to(relname, getdatabaseencoding()), 'hex'), ' ' ORDER BY relname)
            || getdatabaseencoding() FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
        let names = async |dbname: &str| -> String {
            server.connect(dbname).await.query_one(sql, &[]).await.expect("names").get(0)
        };
        assert_eq!(names(&was).await, names(&is).await, "{said}");
    }
}

/// Schema, rows, sequences and large objects are what they were.
#[tokio::test(flavor = "multi_thread")]
async fn an_undamaged_database_comes_back_as_it_was() {
    let versions = if is_wide() { Version::between(14, 18) } else { Version::two() };
    for version in versions {
        let at = format!("PostgreSQL {}", version.major);
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::create(&server, "sample", 1).await;
        let dumped = dump(&server, "sample", &["-j2"]);
        let back = restore(&server, "again", &dumped.dir, &["--create", "-j2", "--check"]);
        let said = format!("{at}: {}\n{}", back.ran.stdout, back.ran.stderr);
        assert_eq!(back.ran.code, 0, "{said}");
        back.assert_counts(&at);
        let tables = back.report().relations.iter().filter(|r| r.check.is_some()).count();
        assert!(tables > 50, "{at}: {tables} tables were compared");
        let objects = back.relation("pg_largeobject").check.as_ref();
        assert!(objects.is_some_and(|c| c.equal && c.found == 4), "{said}");
        let (was, is) = (schema_of(&server, "sample"), schema_of(&server, "again"));
        for (was, is) in was.lines().zip(is.lines()) {
            assert_eq!(was, is, "{at}: the schema");
        }
        assert_eq!(was.len(), is.len(), "{at}: the schema");
        let (was, is) = (contents(&server, "sample").await, contents(&server, "again").await);
        for (name, rows) in &was {
            assert!(is.get(name) == Some(rows), "{at}: {name} is another");
        }
        assert_eq!(was.len(), is.len(), "{at}");
    }
}
