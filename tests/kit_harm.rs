//! Every harm of the test kit on real servers: what the server then says is
//! what the other tests may rely on.
//!
//! With `PG_SALVAGE_OBSERVED=FILE` the words of each version are written to
//! that file as a Markdown table.

#[path = "kit/mod.rs"]
mod kit;

use kit::observe::{self, Seen};
use kit::oracle::{self, Row};
use kit::{
    ChecksumAfter, Harm, Harmed, Place, Places, Server, ServerOptions, Stop, Version, harm, sample,
};
use std::collections::BTreeMap;
use std::io::Write as _;

const DB: &str = "postgres";

/// A server with one victim for each harm, harmed and started again.
struct Ward {
    server: Server,
    before: Vec<Row>,
    columns: Vec<String>,
    harmed: BTreeMap<Harm, Harmed>,
}

fn table(harm: Harm, fresh: &str) -> String {
    format!("public.\"{fresh}{harm:?}\"")
}

/// `fresh` is `""` for vacuumed victims, `"fresh"` for others.
async fn ward(version: &Version, checksums: bool, sum: ChecksumAfter, fresh: &str) -> Ward {
    let server = Server::start(version, ServerOptions::checksums(checksums));
    let harms: Vec<Harm> = Harm::of_victims()
        .into_iter()
        .filter(|each| *each != Harm::Checksum || checksums && sum == ChecksumAfter::Stale)
        .collect();
    let names: Vec<String> = harms.iter().map(|each| format!("{fresh}{each:?}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    sample::victims(&server, DB, &names).await;
    let client = oracle::session(&server, DB).await;
    let columns = oracle::columns(&client, &table(harms[0], fresh)).await;
    let before = oracle::rows(&client, &table(harms[0], fresh), &columns).await;
    let mut places = Vec::new();
    for each in &harms {
        places.push(Places::of(&client, &table(*each, fresh)).await);
    }
    assert_eq!(server.stop(), Stop::Clean);
    let mut harmed = BTreeMap::new();
    for (each, places) in harms.into_iter().zip(&places) {
        let blocks = if Harm::TOAST.contains(&each) { places.toast_blocks } else { places.blocks };
        harmed.insert(each, harm(&server, places, each, Place::middle(blocks), sum));
    }
    server.start_again();
    Ward { server, before, columns, harmed }
}

/// A row of the table of what was observed.
fn note(line: &str) {
    println!("{line}");
    if let Some(file) = std::env::var_os("PG_SALVAGE_OBSERVED") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
        writeln!(file.expect("the file for what is observed"), "{line}").expect("written");
    }
}

async fn observe_all(version: &Version, checksums: bool, sum: ChecksumAfter, fresh: &str) {
    let ward = ward(version, checksums, sum, fresh).await;
    for (each, harmed) in &ward.harmed {
        let (server, columns, before) = (&ward.server, &ward.columns, &ward.before);
        let name = table(*each, fresh);
        let touched =
            ward.before.iter().find(|row| !harmed.leaves_tuple_alone(row.block, row.offset));
        let touched = touched.map(|row| (row.block, row.offset)).expect("a touched tuple");
        let neighbour = ward
            .before
            .iter()
            .find(|row| row.block == touched.0 && harmed.leaves_tuple_alone(row.block, row.offset));
        let whole = observe::relation(server, DB, &name, columns, before).await;
        let alone = observe::tuple(server, DB, &name, columns, touched, before).await;
        let beside = match neighbour {
            Some(row) => {
                let at = (row.block, row.offset);
                observe::tuple(server, DB, &name, columns, at, before).await.to_string()
            }
            None => String::from("-"),
        };
        let sums = if checksums { format!("{sum:?}") } else { String::from("none") };
        let state = if fresh.is_empty() { "vacuumed" } else { fresh };
        let major = version.major;
        note(&format!("| {each:?} | {major} | {sums} | {state} | {whole} | {alone} | {beside} |"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_harms() {
    note(
        "| harm | version | checksums | table | whole COPY | the tuple by ctid | its neighbour by ctid |",
    );
    note("|---|---|---|---|---|---|---|");
    for version in Version::all() {
        observe_all(&version, false, ChecksumAfter::Stale, "").await;
        observe_all(&version, false, ChecksumAfter::Stale, "fresh").await;
        observe_all(&version, true, ChecksumAfter::Stale, "").await;
    }
}
