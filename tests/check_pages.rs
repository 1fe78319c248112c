//! `--check-pages`: what would lead the server astray is not read, and all else
//! is, row for row.

mod garbage;
mod healthy;

use crate::kit::dumped::{Dumped, check_same, dump};
use crate::kit::flips::Random;
use crate::kit::places::{read_page, read_pages, write_page};
use crate::kit::{ChecksumAfter, Harm, Place, Places, Server, ServerOptions, Stop, Version};
use crate::kit::{harm, oracle, sample, victim};
use garbage::{garbage, garbage_in_toast};
use oracle::Row;
use pg_salvage::output::manifest::{Relation, RowClass};
use std::collections::BTreeSet;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";
const ALWAYS: &str = "--check-pages=always";
const NEVER: &str = "--check-pages=never";
const RAW: &str = "--raw-rows=auto";

type Tuples = BTreeSet<(u32, u16)>;

/// A table, its rows before anything was done to it, and the tuples that were
/// done something to.
struct Table {
    name: String,
    rows: Vec<Row>,
    touched: Tuples,
}

/// Equal victims on a server without checksums, stopped, of which each is damaged
/// in its own way.
async fn damaged(
    version: &Version,
    names: &[&str],
    mut damage: impl FnMut(&Server, &Places) -> Tuples,
) -> (Server, Vec<Table>) {
    let server = Server::start(version, ServerOptions::checksums(false));
    sample::victims(&server, DB, names).await;
    let client = oracle::session(&server, DB).await;
    let (mut tables, mut places) = (Vec::new(), Vec::new());
    for name in names {
        let quoted = format!("public.{}", oracle::quote(name));
        let columns = oracle::columns(&client, &quoted).await;
        let rows = oracle::rows(&client, &quoted, &columns).await;
        places.push(Places::of(&client, &quoted).await);
        tables.push(Table { name: (*name).to_owned(), rows, touched: Tuples::new() });
    }
    drop(client);
    assert_eq!(server.stop(), Stop::Clean);
    for (table, places) in tables.iter_mut().zip(&places) {
        table.touched = damage(&server, places);
    }
    (server, tables)
}

/// Garbage in each third page of a table.
fn scattered(server: &Server, places: &Places, random: &mut Random) -> Tuples {
    let mut touched = Tuples::new();
    for block in (1..places.blocks).step_by(3) {
        let mut page = read_page(server, &places.main, block);
        let of_page = garbage(&mut page, random);
        touched.extend(of_page.into_iter().map(|number| (block, number)));
        write_page(server, &places.main, &page);
    }
    touched
}

/// Garbage in each third page of a table's TOAST table: in one chunk, or in some.
/// The tuples with these values.
fn scattered_in_toast(server: &Server, places: &Places, random: &mut Random) -> Tuples {
    let users = victim::toast_users(&read_pages(server, &places.main));
    let toast = places.toast.as_deref().expect("a TOAST table");
    let mut touched = Tuples::new();
    for block in (1..places.toast_blocks).step_by(3) {
        let mut page = read_page(server, toast, block);
        let values = garbage_in_toast(&mut page, random);
        touched.extend(values.iter().map(|value| users[value]));
        write_page(server, toast, &page);
    }
    touched
}

/// The tuples that are named as lost for what their bytes are.
fn fenced(entry: &Relation) -> Tuples {
    let of = entry.lost.iter().filter(|lost| lost.cause == "structure");
    let tuples = of.map(|lost| {
        assert!(lost.message.starts_with("line pointer ") && lost.sqlstate.is_none(), "{lost:?}");
        oracle::parse_tid(lost.ctid.as_deref().expect("a tuple"))
    });
    tuples.collect()
}

/// The tuples of which only columns are lost.
fn decoded(entry: &Relation) -> Tuples {
    let of = entry.lost.iter().filter(|lost| lost.column.is_some());
    of.map(|lost| oracle::parse_tid(lost.ctid.as_deref().expect("a tuple"))).collect()
}

impl Table {
    /// Of rows that only columns are lost of, each other column is as it was.
    async fn check_decoded(&self, dumped: &Dumped, at: &str) {
        let entry = dumped.relation(&self.name);
        let of = decoded(entry);
        let before = self.rows.iter().filter(|r| of.contains(&(r.block, r.offset)));
        let fields = |line: &[u8]| line.split(|&b| b == b'\t').map(<[u8]>::to_vec).collect();
        let mut before: Vec<Vec<Vec<u8>>> = before.map(|row| fields(&row.line)).collect();
        let mut had: Vec<Vec<Vec<u8>>> =
            dumped.lines(entry, RowClass::Partial).await.iter().map(|row| fields(row)).collect();
        before.sort_unstable();
        had.sort_unstable();
        assert_eq!(had.len(), before.len(), "{at}: {entry:#?}");
        for (had, before) in had.iter().zip(&before) {
            assert_eq!(had[0], before[0], "{at}: the key lies before all damage");
            let is_had = |(h, b): (&Vec<u8>, &Vec<u8>)| h == b || h == b"\\N";
            assert!(had.iter().zip(before).all(is_had), "{at}: {had:?}");
            assert!(had.contains(&b"\\N".to_vec()), "{at}: {had:?}");
        }
    }

    /// Every row that nothing was done to is there, and only others are fenced.
    async fn check(&self, dumped: &Dumped, at: &str) {
        let entry = dumped.relation(&self.name);
        let about = format!("{at}: {}: {:?}: {}", self.name, entry.lost, dumped.said);
        let mut had: BTreeSet<Vec<u8>> = BTreeSet::new();
        for class in [RowClass::Clean, RowClass::Suspect] {
            had.extend(dumped.lines(entry, class).await);
        }
        for row in self.rows.iter().filter(|r| !self.touched.contains(&(r.block, r.offset))) {
            assert!(had.contains(&row.line), "({},{}) is missing: {about}", row.block, row.offset);
        }
        let fenced = fenced(entry);
        assert!(fenced.is_subset(&self.touched), "{:?}: {about}", &fenced - &self.touched);
    }
}

/// A dump of a copy of a stopped server, and how often that went down.
fn dump_copy(server: &Server, options: &[&str]) -> (Server, Dumped, usize) {
    let copy = server.copy();
    copy.start_again();
    let dumped = dump(PROGRAM, &copy, DB, options);
    copy.wait_ready();
    let crashes = copy.crashes();
    (copy, dumped, crashes)
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_where_the_server_believes_it_takes_it_down_only_if_nobody_looks() {
    for version in Version::one_or_two() {
        let mut random = Random(20_261_128);
        let names = ["one", "two", "freshthree", "stored"];
        let (server, tables) =
            damaged(&version, &names, |server, places| match places.relation.contains("stored") {
                true => scattered_in_toast(server, places, &mut random),
                false => scattered(server, places, &mut random),
            })
            .await;
        let (_, dumped, crashes) = dump_copy(&server, &["-j2", ALWAYS, RAW]);
        let at = format!("always, {}", version.major);
        assert_eq!(crashes, 0, "{at}: {}", dumped.said);
        let mut count = 0;
        for table in &tables {
            table.check(&dumped, &at).await;
            let entry = dumped.relation(&table.name);
            count += (&fenced(entry) | &decoded(entry)).len();
        }
        assert!(count > 10, "{at}: {count} are fenced: {}", dumped.said);
        dumped.check_files(&at);
        // Of what is stored elsewhere only the value itself is lost.
        let stored = dumped.relation("stored");
        assert_eq!((stored.rows.clean + stored.rows.partial, stored.rows.suspect), (1500, 0));
        assert!(stored.rows.partial > 20, "{at}: {stored:#?}");

        let (_, dumped, crashes) = dump_copy(&server, &["-j1", "--max-crashes", "20"]);
        let at = format!("auto, {}", version.major);
        assert_eq!(crashes, 1, "{at}: {}", dumped.said);
        for table in &tables {
            table.check(&dumped, &at).await;
        }
        let (_, dumped, crashes) = dump_copy(&server, &["-j1", NEVER, "--max-crashes", "1"]);
        assert!(crashes > 0, "never, {}: {}", version.major, dumped.said);
        assert!(tables.iter().all(|t| fenced(dumped.relation(&t.name)).is_empty()));
    }
}

/// Each harm of the kit that changes a page, in a table of its own.
#[tokio::test(flavor = "multi_thread")]
async fn no_harm_of_a_page_takes_the_server_down_where_pages_are_looked_at() {
    let harms =
        [&Harm::TUPLE[..], &[Harm::TornPage, Harm::ZeroBlock, Harm::BadPageHeader]].concat();
    let names: Vec<String> = harms.iter().map(|h| format!("{h:?}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for version in Version::one_or_two() {
        let (mut kinds, mut harmed) = (harms.iter(), Vec::new());
        let (server, tables) = damaged(&version, &names, |server, places| {
            let kind = *kinds.next().expect("one for each");
            let at = Place::middle(places.blocks);
            harmed.push(harm(server, places, kind, at, ChecksumAfter::Stale));
            Tuples::new()
        })
        .await;
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j2", ALWAYS, RAW]);
        server.wait_ready();
        assert_eq!(server.crashes(), 0, "{}: {}", version.major, dumped.said);
        for (mut table, harmed) in tables.into_iter().zip(harmed) {
            let touched = |r: &&Row| match harmed.harm {
                Harm::TornPage => harmed.changed.contains_key(&(r.block, r.offset)),
                _ => !harmed.leaves_tuple_alone(r.block, r.offset),
            };
            table.touched =
                table.rows.iter().filter(touched).map(|r| (r.block, r.offset)).collect();
            table.check(&dumped, &format!("{:?} on {}", harmed.harm, version.major)).await;
            let entry = dumped.relation(&table.name);
            let (fenced, decoded) = (fenced(entry), decoded(entry));
            let is_killer = matches!(
                harmed.harm,
                Harm::THoff | Harm::VarlenaLength | Harm::VarlenaTag | Harm::LinePointerOffset
            );
            // What the server reads right all the same is had, too.
            let had = matches!(harmed.harm, Harm::LinePointerLength | Harm::TooManyAttributes);
            if matches!(harmed.harm, Harm::VarlenaLength | Harm::VarlenaTag) {
                assert_eq!((fenced.len(), &decoded), (0, &table.touched), "{:?}", harmed.harm);
                table.check_decoded(&dumped, &format!("{:?}", harmed.harm)).await;
            } else if is_killer {
                assert_eq!(fenced, table.touched, "{:?}", harmed.harm);
            } else if had {
                table.touched.clear();
                table.check(&dumped, &format!("{:?} on {}", harmed.harm, version.major)).await;
            }
        }
    }
}

/// Values of a page that is refused: they are put together around the garbage.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_decoded_asks_for_no_value_that_must_not_be_asked_for() {
    for version in Version::one_or_two() {
        let mut random = Random(4);
        let mut refused = BTreeSet::new();
        let (server, tables) = damaged(&version, &["stored"], |server, places| {
            let touched = scattered_in_toast(server, places, &mut random);
            refused = touched.iter().map(|(block, _)| *block).step_by(2).collect();
            for &block in &refused {
                let at = Place { block, offset: 1 };
                harm(server, places, Harm::BadPageHeader, at, ChecksumAfter::Stale);
            }
            touched
        })
        .await;
        server.start_again();
        let dumped = dump(PROGRAM, &server, DB, &["-j1", ALWAYS, RAW]);
        server.wait_ready();
        let at = format!("{}: {}", version.major, dumped.said);
        assert_eq!(server.crashes(), 0, "{at}");
        // Only of those is something lost, and of each no more than the value.
        let lost = decoded(dumped.relation("stored"));
        assert!(!lost.is_empty() && lost.is_subset(&tables[0].touched), "{at}");
        assert!(lost.iter().any(|(block, _)| refused.contains(block)), "{at}");
        tables[0].check(&dumped, &at).await;
        tables[0].check_decoded(&dumped, &at).await;
    }
}

/// What is left of a run that was ended is looked at again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_read_is_the_same_when_a_run_is_gone_on_with() {
    let mut random = Random(7);
    let (server, tables) =
        damaged(&Version::newest(), &["one"], |s, places| scattered(s, places, &mut random)).await;
    server.start_again();
    let options = [ALWAYS, RAW, "-j2", "--split-size", "128kB"];
    let whole = dump(PROGRAM, &server, DB, &options);
    tables[0].check(&whole, "whole").await;
    let mut ended = 0;
    for n in (6..100).step_by(9) {
        let dir = tempfile::tempdir().expect("a folder");
        let run = |more: &[&str], die: Option<i32>| {
            let mut command = Command::new(PROGRAM);
            command.args(["dump", "--no-schema", "-d"]).arg(server.conninfo(DB));
            command.arg("-f").arg(dir.path()).args(options).args(more);
            command.envs(die.map(|n| ("PG_SALVAGE_DIE_AT", n.to_string())));
            let out = command.output().expect("the program starts");
            (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
        };
        let (code, said) = run(&[], Some(n));
        if code.is_some() {
            assert_eq!(code, Some(2), "{said}");
            break;
        }
        ended += 1;
        let (code, said) = run(&["--resume"], None);
        assert_eq!(code, Some(2), "{said}");
        check_same(&Dumped::read(dir, said), &whole, &format!("ended at {n}")).await;
    }
    assert!(ended > 1, "ended {ended} times");
    assert_eq!(server.crashes(), 0);
}
