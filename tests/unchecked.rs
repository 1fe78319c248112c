//! Damaged pages: an image of each is saved, and, where that is asked for, those
//! with wrong checksums are read all the same.
//!
//! Victims are equal tables, some blocks of each harmed in one way; their rows
//! before the harm are the oracle.

mod refused;
mod trouble;

use crate::kit::dumped::{Dumped, dump};
use crate::kit::oracle::{self, Row};
use crate::kit::{
    ChecksumAfter, Harm, Harmed, Place, Places, Server, ServerOptions, Stop, Version,
};
use crate::kit::{harm, places, sample};
use pg_salvage::output::manifest::{RelationStatus, RowClass};
use std::collections::{BTreeMap, BTreeSet};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg_salvage");
const DB: &str = "postgres";
const UNCHECKED: &str = "--ignore-checksum-failure";

/// Tables, each with a harm done to three of its blocks, and its rows before.
pub(super) struct Hurt {
    pub server: Server,
    pub rows: Vec<Row>,
    pub harmed: BTreeMap<String, Vec<Harmed>>,
    pub places: BTreeMap<String, Places>,
}

/// `standby`: a copy that is started as one, and whose primary is not there.
pub(super) async fn hurt(
    version: &Version,
    options: ServerOptions,
    harms: &[(&str, Harm)],
    standby: bool,
) -> Hurt {
    let server = Server::start(version, options);
    let names: Vec<&str> = harms.iter().map(|(name, _)| *name).chain(["well"]).collect();
    sample::victims(&server, DB, &names).await;
    let client = oracle::session(&server, DB).await;
    let columns = oracle::columns(&client, "public.well").await;
    let rows = oracle::rows(&client, "public.well", &columns).await;
    let mut places = BTreeMap::new();
    for name in names {
        let of = Places::of(&client, &format!("public.{}", oracle::quote(name))).await;
        places.insert(name.to_owned(), of);
    }
    drop(client);
    assert_eq!(server.stop(), Stop::Clean);
    let server = if standby { server.copy_as_standby() } else { server };
    let mut harmed = BTreeMap::new();
    for (name, what) in harms {
        let of = &places[*name];
        let at = [Place::first(), Place::middle(of.blocks), Place::last(of.blocks)];
        let at = if *what == Harm::VarlenaLength { &at[1..2] } else { &at[..] };
        let done = at.iter().map(|&at| harm(&server, of, *what, at, ChecksumAfter::Stale));
        harmed.insert((*name).to_owned(), done.collect());
    }
    server.start_again();
    Hurt { server, rows, harmed, places }
}

impl Hurt {
    pub(super) fn bad_blocks(&self, table: &str) -> BTreeSet<u32> {
        self.harmed[table].iter().flat_map(|h| h.blocks.clone()).collect()
    }

    /// Whether reading the tuple itself fails, when its page is read unchecked.
    fn is_spoilt(&self, table: &str, row: &Row) -> bool {
        self.harmed[table].iter().any(|h| match h.harm {
            Harm::Checksum => false,
            Harm::BadPageHeader => h.blocks.contains(&row.block),
            _ => h.tuples.contains(&(row.block, row.offset)),
        })
    }

    fn lines(&self, wanted: impl Fn(&Row) -> bool) -> Vec<Vec<u8>> {
        self.rows.iter().filter(|r| wanted(r)).map(|r| r.line.clone()).collect()
    }

    /// A dump with unchecked reads is all that it can be.
    pub(super) async fn check(&self, dumped: &Dumped, at: &str) {
        dumped.check_files(at);
        for table in self.harmed.keys() {
            let at = format!("{at}: {table}");
            let bad = self.bad_blocks(table);
            let entry = dumped.relation(table);
            let clean = dumped.lines(entry, RowClass::Clean).await;
            let suspect = dumped.lines(entry, RowClass::Suspect).await;
            assert!(clean == self.lines(|r| !bad.contains(&r.block)), "{at}: {entry:#?}");
            let wanted = self.lines(|r| bad.contains(&r.block) && !self.is_spoilt(table, r));
            assert!(suspect == wanted, "{at}: {} of {}: {entry:#?}", suspect.len(), wanted.len());
            assert_eq!(entry.status, RelationStatus::Salvaged, "{at}");
            self.check_images(dumped, table, &at);
        }
        let well = dumped.relation("well");
        assert_eq!((well.status, well.pages.as_ref()), (RelationStatus::Clean, None), "{at}");
    }

    /// An image of each bad block, and of no other, as it lies on the disk.
    pub(super) fn check_images(&self, dumped: &Dumped, table: &str, at: &str) {
        let bad = self.bad_blocks(table);
        let pages = dumped.relation(table).pages.as_ref().unwrap_or_else(|| panic!("{at}"));
        assert_eq!((pages.count, pages.omitted), (bad.len() as u64, 0), "{at}");
        for block in bad {
            let image = dumped.dir.path().join(&pages.folder).join(format!("main.{block}.page"));
            let image = std::fs::read(image).unwrap_or_else(|e| panic!("{at}: {block}: {e}"));
            assert!(image == self.on_disk(table, block), "{at}: the image of block {block}");
        }
    }

    fn on_disk(&self, table: &str, block: u32) -> Vec<u8> {
        let file = places::segment_file(&self.server, &self.places[table].main, block);
        let bytes = std::fs::read(file).expect("a relation's file");
        bytes[block as usize * 8192..][..8192].to_vec()
    }

    /// Every file of every relation, by name.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for folder in std::fs::read_dir(self.server.data_dir().join("base")).expect("base") {
            let folder = folder.expect("an entry").path();
            for file in std::fs::read_dir(folder).expect("a folder") {
                let path = file.expect("an entry").path();
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                if name.starts_with(|c: char| c.is_ascii_digit()) {
                    let bytes = std::fs::read(&path).expect("a file");
                    files.insert(path.display().to_string(), bytes);
                }
            }
        }
        files
    }
}

pub(super) const HARMS: [(&str, Harm); 5] = [
    ("stale", Harm::Checksum),
    ("freshstale", Harm::Checksum),
    ("value", Harm::CompressedGarbage),
    ("freshxmin", Harm::XminMissingClog),
    ("header", Harm::BadPageHeader),
];

fn options() -> ServerOptions {
    ServerOptions::checksums(true)
}

fn assert_same_files(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in before {
        assert!(after.get(name) == Some(bytes), "{name} was changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_standby_rows_of_bad_pages_are_suspect_and_no_file_changes() {
    for version in Version::some(14, 18) {
        let hurt = hurt(&version, options(), &HARMS, true).await;
        let before = hurt.files();
        for options in [&["-j1", UNCHECKED][..], &["-j3", "--split-size", "64kB", UNCHECKED]] {
            let at = format!("{} {options:?}", version.major);
            // What was read unchecked before is not in the cache any more.
            hurt.server.restart();
            let dumped = dump(PROGRAM, &hurt.server, DB, options);
            assert_eq!(dumped.manifest.exit_code, 2, "{at}: {}", dumped.said);
            hurt.check(&dumped, &at).await;
            let header = dumped.relation("header");
            assert_eq!(header.blocks.lost, 3, "unchecked reads do not help a bad header");
            let (stale, value) = (dumped.relation("stale"), dumped.relation("value"));
            assert_eq!((stale.lost.len(), stale.blocks.damaged), (0, 3), "{at}: {stale:#?}");
            assert_eq!((value.rows.partial, value.blocks.damaged), (3, 3), "{at}: {value:#?}");
            let told = "15 bad page(s) were read unchecked: until the server is restarted, all its \
                        sessions may get them without an error";
            assert!(dumped.manifest.warnings.contains(&told.to_owned()), "{at}: {}", dumped.said);
        }
        assert_eq!(hurt.server.stop(), Stop::Clean);
        assert_same_files(&before, &hurt.files());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_option_bad_pages_are_lost_and_their_images_kept() {
    for version in Version::one_or_two() {
        let hurt = hurt(&version, options(), &HARMS, false).await;
        for options in [&["-j1"][..], &["-j3", "--split-size", "64kB"]] {
            let at = format!("{} {options:?}", version.major);
            let dumped = dump(PROGRAM, &hurt.server, DB, options);
            dumped.check_files(&at);
            for table in hurt.harmed.keys() {
                let entry = dumped.relation(table);
                assert_eq!((entry.rows.suspect, entry.blocks.lost), (0, 3), "{at}: {entry:#?}");
                hurt.check_images(&dumped, table, &at);
            }
        }
    }
}

/// The truth that looks wrong: a page that was read unchecked is a good one for
/// everybody, until it has left the server's cache.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_unchecked_others_get_without_an_error_until_a_restart() {
    let hurt = hurt(&Version::newest(), options(), &HARMS[..1], true).await;
    let read = async || {
        let client = oracle::session(&hurt.server, DB).await;
        oracle::try_rows(&client, "public.stale", &["id".to_owned()]).await.map(|r| r.len())
    };
    assert!(read().await.is_err());
    let dumped = dump(PROGRAM, &hurt.server, DB, &[UNCHECKED]);
    hurt.check(&dumped, "first").await;
    assert_eq!(read().await.expect("no error"), hurt.rows.len());
    hurt.server.restart();
    assert!(read().await.is_err());
}

/// An image of a page is there before the page is read unchecked, and pages that
/// are not known to be bad are never read so.
#[tokio::test(flavor = "multi_thread")]
async fn the_image_comes_first_and_nothing_else_is_read_unchecked() {
    for version in Version::one_or_two() {
        let logged = options().set("log_statement", "all");
        let hurt = hurt(&version, logged, &HARMS[..3], true).await;
        let dumped = dump(PROGRAM, &hurt.server, DB, &[UNCHECKED]);
        hurt.check(&dumped, "logged").await;
        let log = hurt.server.log();
        let mut loads = 0;
        for table in hurt.harmed.keys() {
            for block in hurt.bad_blocks(table) {
                let image = format!("('{}', {}, 8192", hurt.places[table].main, block * 8192);
                let load = format!("\"{table}\" WHERE ctid = '({block},65535)'; SET LOCAL");
                let at = |words: &str| log.find(words).unwrap_or_else(|| panic!("{words}: {log}"));
                assert!(at(&image) < at(&load), "{table} {block}: {log}");
                loads += log.matches(&load).count();
            }
        }
        assert_eq!(log.matches("ignore_checksum_failure TO on; FETCH").count(), loads);
        // And once to see whether it may be set.
        assert_eq!(log.matches("ignore_checksum_failure TO on").count(), loads + 1);
    }
}

/// A bad page of TOAST is not read unchecked, nor left in the cache for others,
/// by a row on a page that is.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_toast_are_not_read_unchecked() {
    for version in Version::one_or_two() {
        let mut hurt = hurt(&version, options(), &HARMS[..1], true).await;
        let of = hurt.places["stale"].clone();
        hurt.server.stop();
        // The first page of TOAST has the values of the first heap page.
        let toast = Place::first();
        harm(&hurt.server, &of, Harm::ToastChunkData, toast, ChecksumAfter::Stale);
        hurt.server.start_again();
        let dumped = dump(PROGRAM, &hurt.server, DB, &[UNCHECKED]);
        dumped.check_files("toast");
        let entry = dumped.relation("stale");
        let clean = dumped.lines(entry, RowClass::Clean).await;
        let suspect = dumped.lines(entry, RowClass::Suspect).await;
        let partial = dumped.lines(entry, RowClass::Partial).await;
        assert!(!partial.is_empty(), "{entry:#?}");
        let id = |line: &[u8]| line.split(|&b| b == b'\t').next().map(<[u8]>::to_vec);
        let lost: BTreeSet<_> = partial.iter().map(|l| id(l)).collect();
        let bad = hurt.bad_blocks("stale");
        let rest = |is_bad| {
            hurt.lines(|r| bad.contains(&r.block) == is_bad && !lost.contains(&id(&r.line)))
        };
        assert!(clean == rest(false) && suspect == rest(true), "{entry:#?}");
        let on_bad = hurt.lines(|r| bad.contains(&r.block) && lost.contains(&id(&r.line)));
        assert!(!on_bad.is_empty(), "none of its values was of a row on a bad page");
        let client = hurt.server.connect(DB).await;
        let toast = client.simple_query("SELECT sum(length(big)) FROM stale").await;
        assert!(toast.is_err(), "its page is in the cache");
        hurt.harmed.clear();
    }
}
