//! Every harm of the test kit on real servers: what the server then does is
//! what the other tests may rely on.
//!
//! With `PG_SALVAGE_OBSERVED=FILE` the words of each version are written there
//! as a Markdown table: docs/harm-observed.md is made so.

use crate::kit::observe::{self, Seen};
use crate::kit::{
    At, ChecksumAfter, Expect, Harm, Harmed, Place, Places, Plan, Server, ServerOptions,
};
use crate::kit::{Stop, Version, Ward, harm, oracle, places, random_flips, sample};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// What was seen, and on which versions.
static OBSERVED: Mutex<BTreeMap<String, Vec<u32>>> = Mutex::new(BTreeMap::new());

/// Keeps one line of the table of what was observed.
fn note(major: u32, harm: Harm, plan: Plan, seen: &[&Seen]) {
    let sums = match (plan.checksums, plan.sum) {
        (false, _) => "none",
        (true, ChecksumAfter::Stale) => "stale",
        (true, ChecksumAfter::Recomputed) => "fit",
    };
    let state = if plan.fresh { "fresh" } else { "all-visible" };
    let seen: Vec<String> = seen.iter().map(|seen| without_numbers(&seen.to_string())).collect();
    let line = format!("| {harm:?} | {sums} | {state} | {} |", seen.join(" | "));
    OBSERVED.lock().expect("no panic while locked").entry(line).or_default().push(major);
}

/// Numbers that differ from run to run become `N`, and the one routine that
/// has another name in each version becomes all of them.
fn without_numbers(words: &str) -> String {
    let number = regex::Regex::new(r#""?base/\d+/\d+"?|pg_toast_\d+|toast value \d+"#);
    let name = |found: &regex::Captures<'_>| {
        let word: String = found[0].chars().filter(|c| !c.is_ascii_digit() && *c != '"').collect();
        word.replace("base//", "base/N/N").replace("toast_", "toast_N").replace("value ", "value N")
    };
    let words = number.expect("a regex").replace_all(words, name).into_owned();
    ["ReadBuffer_common", "WaitReadBuffers", "buffer_readv_report"]
        .iter()
        .fold(words, |words, routine| words.replace(&format!("{routine}:"), "[page check]:"))
}

const OBSERVED_HEAD: &str = "# What servers say about each harm

Made by `PG_SALVAGE_WIDE=1 PG_SALVAGE_OBSERVED=docs/harm-observed.md cargo test --test all kit_harm::`.
A victim has 1,500 rows in 31 blocks of 49; the harm is in block 15, its tuple is the second there (the first row with a TOAST value for `ToastPointer`), and in the middle of the TOAST table for TOAST harms.
`checksum`: the cluster has none, or the harmed page's is stale, or fits again.
`fresh` tables were never vacuumed; the pages of the others are all-visible.
`[page check]` is the routine `ReadBuffer_common` up to 16, `WaitReadBuffers` on 17, `buffer_readv_report` on 18; 18 puts the file in quotes.
The rows of `others by ctid` are all that the harm should leave alone: without a stale checksum the touched tuple's neighbours are among them.

| harm | checksum | table | whole COPY | touched tuple by ctid | others by ctid | versions |
|---|---|---|---|---|---|---|
";

fn write_observed() {
    let Some(file) = std::env::var_os("PG_SALVAGE_OBSERVED") else { return };
    let mut table = String::from(OBSERVED_HEAD);
    for (line, majors) in OBSERVED.lock().expect("no panic while locked").iter() {
        let mut majors = majors.clone();
        majors.sort_unstable();
        let majors: Vec<String> = majors.iter().map(u32::to_string).collect();
        table.push_str(&format!("{line} {} |\n", majors.join(" ")));
    }
    std::fs::write(file, table).expect("the file for what is observed");
}

/// Reads one victim in three ways and compares with what was foretold.
async fn check_victim(ward: &Ward, plan: Plan, each: Harm, harmed: &Harmed) {
    let Ward { server, dbname, columns, before, .. } = ward;
    let major = server.version.major;
    let name = plan.quoted(each);
    let whole = observe::relation(server, dbname, &name, columns, before).await;
    let touched = before.iter().find(|row| !harmed.leaves_tuple_alone(row.block, row.offset));
    let touched = touched.map(|row| (row.block, row.offset)).expect("a touched tuple");
    let alone = observe::tuple(server, dbname, &name, columns, touched, before).await;
    // Without checksums a tuple's neighbours on its page are to be had.
    let pages_can_be_read = !plan.is_checked();
    let wanted = |block, offset| {
        harmed.leaves_alone(block, offset)
            || pages_can_be_read && harmed.leaves_tuple_alone(block, offset)
    };
    let others = observe::tuples(server, dbname, &name, columns, before, wanted).await;
    if plan.at == At::Middle {
        note(major, each, plan, &[&whole, &alone, &others]);
    }
    let case = format!("{each:?} on {major}, {plan:?}: whole {whole}; alone {alone}");
    if each != Harm::RemoveFile {
        assert_eq!(others, Seen::Same, "{case}");
    }
    if plan.at != At::Middle && each.depends_on_neighbours() {
        return;
    }
    // A range scan of an all-visible page does not look at who made a row.
    if plan.fresh || plan.is_checked() {
        assert!(whole.is(harmed.expect), "{case}; expected {:?}", harmed.expect);
    }
}

async fn check_all(plan: Plan) {
    for version in Version::few(13, 18) {
        let ward = Ward::open(&version, plan).await;
        for (each, harmed) in &ward.harmed {
            check_victim(&ward, plan, *each, harmed).await;
        }
    }
    write_observed();
}

#[tokio::test]
async fn harms_without_checksums_on_pages_not_all_visible() {
    check_all(Plan { fresh: true, ..Plan::new(false) }).await;
}

#[tokio::test]
async fn harms_without_checksums_on_all_visible_pages() {
    check_all(Plan::new(false)).await;
}

#[tokio::test]
async fn harms_that_leave_a_stale_checksum() {
    check_all(Plan::new(true)).await;
}

#[tokio::test]
async fn harms_under_a_fitting_checksum() {
    check_all(Plan { sum: ChecksumAfter::Recomputed, fresh: true, ..Plan::new(true) }).await;
}

#[tokio::test]
async fn harms_at_the_first_and_the_last_block() {
    for at in [At::First, At::Last] {
        let plan = Plan { fresh: true, at, ..Plan::new(false) };
        let ward = Ward::open(&Version::newest(), plan).await;
        for (each, harmed) in &ward.harmed {
            check_victim(&ward, plan, *each, harmed).await;
        }
    }
}

#[tokio::test]
async fn a_harmed_sequence_cannot_be_read() {
    for version in Version::few(13, 18) {
        let server = Server::start(&version, ServerOptions::default());
        let create = "CREATE SEQUENCE magic; CREATE SEQUENCE header; SELECT nextval('magic')";
        server.execute("postgres", create).await;
        let client = server.connect("postgres").await;
        let magic = Places::of(&client, "magic").await;
        let header = Places::of(&client, "header").await;
        assert_eq!(server.stop(), Stop::Clean);
        let at = Place::first();
        harm(&server, &magic, Harm::SequenceMagic, at, ChecksumAfter::Stale);
        harm(&server, &header, Harm::SequenceBadPageHeader, at, ChecksumAfter::Stale);
        server.start_again();
        let client = server.connect("postgres").await;
        let code = |error: tokio_postgres::Error| {
            let db = error.as_db_error().expect("the server's words");
            format!("{} {}", db.code().code(), db.routine().unwrap_or_default())
        };
        let error = client.simple_query("SELECT nextval('magic')").await.expect_err("harmed");
        assert_eq!(code(error), "XX000 read_seq_tuple");
        // A plain SELECT does not look at the magic number.
        client.simple_query("SELECT last_value FROM magic").await.expect("not looked at");
        let error = client.simple_query("SELECT * FROM header").await.expect_err("harmed");
        assert!(code(error).starts_with("XX001"));
    }
}

#[tokio::test]
async fn page_harms_serve_for_any_relation() {
    let version = Version::newest();
    let server = Server::start(&version, ServerOptions::checksums(true));
    sample::create(&server, "sample", 1).await;
    let client = server.connect("sample").await;
    let relations = ["public.matview", "pg_catalog.pg_largeobject", "public.by_range_2024"];
    let mut all = Vec::new();
    for relation in relations {
        all.push(Places::of(&client, relation).await);
    }
    assert_eq!(server.stop(), Stop::Clean);
    for places in &all {
        // A file's last pages may be empty ones, so it is the first.
        let at = Place::first();
        harm(&server, places, Harm::BadPageHeader, at, ChecksumAfter::Recomputed);
    }
    server.start_again();
    let client = server.connect("sample").await;
    for relation in relations {
        let sql = format!("SELECT count(*) FROM (SELECT * FROM {relation} OFFSET 0) everything");
        let error = client.simple_query(&sql).await.expect_err(relation);
        assert_eq!(
            error.code().map(tokio_postgres::error::SqlState::code),
            Some("XX001"),
            "{relation}"
        );
    }
}

#[tokio::test]
async fn a_lost_second_segment_goes_unnoticed() {
    for checksums in [false, true] {
        let server = Server::start(&Version::newest(), ServerOptions::checksums(checksums));
        sample::victims(&server, "postgres", &["victim"]).await;
        let client = oracle::session(&server, "postgres").await;
        let places = Places::of(&client, "public.victim").await;
        let columns = oracle::columns(&client, "public.victim").await;
        let before = oracle::rows(&client, "public.victim", &columns).await;
        assert_eq!(server.stop(), Stop::Clean);
        let block = places::grow_second_segment(&server, &places);
        server.start_again();
        let client = oracle::session(&server, "postgres").await;
        let grown = oracle::rows(&client, "public.victim", &columns).await;
        let (second, first): (Vec<_>, Vec<_>) =
            grown.into_iter().partition(|row| row.block == block);
        assert_eq!(first, before);
        assert!(!second.is_empty());
        assert_eq!(server.stop(), Stop::Clean);
        let at = Place { block, offset: 1 };
        let harmed = harm(&server, &places, Harm::RemoveSegment, at, ChecksumAfter::Stale);
        assert_eq!((harmed.blocks, harmed.expect), (vec![block], Expect::Silent));
        server.start_again();
        let seen = observe::relation(&server, "postgres", "public.victim", &columns, &before).await;
        assert_eq!(seen, Seen::Same);
    }
}

#[tokio::test]
async fn random_flips_are_found_by_checksums_and_are_the_same_for_a_seed() {
    let server = Server::start(&Version::newest(), ServerOptions::checksums(true));
    sample::victims(&server, "postgres", &["victim"]).await;
    let client = oracle::session(&server, "postgres").await;
    let places = Places::of(&client, "public.victim").await;
    assert_eq!(server.stop(), Stop::Clean);
    let copy = server.copy();
    let flips = random_flips(&server, 7, 20, &[&places.main]);
    assert_eq!(random_flips(&copy, 7, 20, &[&places.main]), flips);
    for page in places::read_pages(&server, &places.main) {
        let touched = flips.iter().any(|flip| flip.block == page.block);
        assert_eq!(page.checksum() != page.correct_checksum(), touched, "block {}", page.block);
    }
}
