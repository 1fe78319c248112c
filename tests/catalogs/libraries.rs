//! Types whose library is missing.

use super::base::{DB, PROGRAM};
use crate::kit::dumped::dump;
use crate::kit::{Server, ServerOptions, Version, oracle, owner};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use std::path::PathBuf;

/// The library of hstore, as this version has it.
fn library(version: &Version) -> PathBuf {
    let places = ["lib/postgresql/hstore.so", "lib/hstore.so"].map(|at| version.home.join(at));
    places.into_iter().find(|p| p.exists()).expect("the library of hstore")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_without_its_library_costs_its_column_alone() {
    for version in Version::one_or_two() {
        let server = Server::start(&version, ServerOptions::default());
        // A library of our own, since the installation is everybody's.
        let own = server.socket_dir().join("hstore");
        let file = own.with_extension("so");
        std::fs::copy(library(&version), &file).expect("a copy of the library");
        owner::give(&file);
        let own = own.display();
        server
            .execute(
                DB,
                &format!(
                    "CREATE EXTENSION hstore;
                     UPDATE pg_proc SET probin = '{own}' WHERE probin LIKE '%hstore%';
                     CREATE TABLE pairs (id int, h hstore, t text);
                     INSERT INTO pairs SELECT g, hstore('k', g::text), 'row ' || g FROM generate_series(1, 500) g;
                     CREATE TABLE beside (id int, t text);
                     INSERT INTO beside SELECT g, 'beside ' || g FROM generate_series(1, 500) g"
                ),
            )
            .await;
        let client = oracle::session(&server, DB).await;
        let columns = ["id", "t"].map(str::to_owned);
        let others = oracle::rows(&client, "public.pairs", &columns).await;
        let beside = oracle::rows(&client, "public.beside", &columns).await;
        drop(client);
        server.stop();
        std::fs::remove_file(&file).expect("the library is removed");
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j2"]);
        let at = format!("{}: {}", version.major, dumped.said);
        let lines = dumped.lines(dumped.relation("beside"), RowClass::Clean).await;
        assert!(lines.iter().eq(beside.iter().map(|r| &r.line)), "{at}");
        let entry = dumped.relation("pairs");
        assert_eq!(entry.status, RelationStatus::Salvaged, "{at}");
        assert_eq!((entry.rows.clean, entry.rows.suspect, entry.rows.partial), (0, 0, 500), "{at}");
        let without = |line: &[u8]| {
            let fields: Vec<&[u8]> = line.split(|&b| b == b'\t').collect();
            [fields[0], &b"\\N"[..], fields[1]].join(&b'\t')
        };
        let partial = dumped.lines(entry, RowClass::Partial).await;
        assert!(partial.into_iter().eq(others.iter().map(|r| without(&r.line))), "{at}");
        let lost: Vec<_> =
            entry.lost.iter().map(|l| (l.column.as_deref(), l.cause.as_str())).collect();
        assert_eq!(lost, [(Some("h"), "missing_library")], "{at}");
        assert_eq!(dumped.manifest.exit_code, 2, "{at}");
    }
}
