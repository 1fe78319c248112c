//! The tables and sequences that bits are turned over in, as they are before,
//! and a round of it.

use super::{FLIPS, PROGRAM};
use crate::kit::dumped::{Dumped, dump};
use crate::kit::flips::Flip;
use crate::kit::oracle::{self, Row};
use crate::kit::page_edit::Page;
use crate::kit::places::{read_page, read_pages, write_page};
use crate::kit::{Places, Server, ServerOptions, Stop, Version, random_flips, sample, victim};
use std::collections::{BTreeMap, BTreeSet};

const DB: &str = "postgres";
const TABLES: [&str; 3] = ["flipped", "freshflipped", "fed"];
/// A sequence that feeds `fed`, and one that feeds nothing.
pub const SEQUENCES: [&str; 2] = ["fed_id_seq", "alone"];
/// Their values.
pub const VALUES: [i64; 2] = [3000, 77];

pub struct Table {
    pub name: &'static str,
    pub rows: Vec<Row>,
    pub places: Places,
    pub pages: Vec<Page>,
    pub toast_pages: Vec<Page>,
    /// Which row has which value in TOAST.
    pub users: BTreeMap<u32, (u32, u16)>,
}

/// What is copied for each round.
pub struct Base {
    pub server: Server,
    pub tables: Vec<Table>,
    pub sequences: Vec<Places>,
}

/// File, block, offset in it, bit.
type Flips = BTreeSet<(String, u32, usize, u8)>;

/// What one round has done and found.
pub struct Round {
    pub flips: Flips,
    pub dumped: Dumped,
    pub at: String,
}

impl Base {
    pub async fn new(version: &Version, checksums: bool) -> Base {
        let server = Server::start(version, ServerOptions::checksums(checksums));
        sample::victims(&server, DB, &TABLES[..2]).await;
        let [fed, alone] = VALUES;
        for sql in [
            "CREATE TABLE fed (id serial PRIMARY KEY, note text)",
            &format!("INSERT INTO fed (note) SELECT md5(i::text) FROM generate_series(1, {fed}) i"),
            &format!("CREATE SEQUENCE alone; SELECT setval('alone', {alone})"),
            "VACUUM fed",
            "CHECKPOINT",
        ] {
            server.execute(DB, sql).await;
        }
        let client = oracle::session(&server, DB).await;
        let mut read = Vec::new();
        for name in TABLES {
            let quoted = format!("public.{name}");
            let columns = oracle::columns(&client, &quoted).await;
            let rows = oracle::rows(&client, &quoted, &columns).await;
            read.push((name, rows, Places::of(&client, &quoted).await));
        }
        let mut sequences = Vec::new();
        for name in SEQUENCES {
            sequences.push(Places::of(&client, &format!("public.{name}")).await);
        }
        drop(client);
        assert_eq!(server.stop(), Stop::Clean);
        let tables = read.into_iter().map(|(name, rows, places)| {
            let pages = read_pages(&server, &places.main);
            let toast = places.toast.as_deref().map(|path| read_pages(&server, path));
            let users = if name == "fed" { BTreeMap::new() } else { victim::toast_users(&pages) };
            Table { name, rows, places, pages, toast_pages: toast.unwrap_or_default(), users }
        });
        let tables = tables.collect();
        Base { server, tables, sequences }
    }

    /// Turns bits over in a copy, and dumps that.
    pub fn round(&self, seed: u64) -> Round {
        let server = self.server.copy();
        let mut paths: Vec<&str> = self.sequences.iter().map(|s| s.main.as_str()).collect();
        for Table { places, toast_pages, .. } in &self.tables {
            paths.extend([places.main.as_str(), places.index.as_deref().expect("a primary key")]);
            if !toast_pages.is_empty() {
                paths.extend([&places.toast, &places.toast_index].map(|p| p.as_deref().unwrap()));
            }
        }
        let mut flips = BTreeSet::new();
        for Flip { path, block, offset, bit } in random_flips(&server, seed, FLIPS, &paths) {
            // Twice is not at all.
            let flip = (path, block, offset, bit);
            if !flips.remove(&flip) {
                flips.insert(flip);
            }
        }
        if server.options.checksums {
            self.undo_what_cannot_be_seen(&server, &mut flips);
        }
        let at = format!("seed {seed} on {}: {flips:?}", server.version.major);
        server.start_again();
        let options = ["-j2", "--max-crashes", "500", "--read-timeout", "20s"];
        let dumped = dump(PROGRAM, &server, DB, &options);
        dumped.check_files(&at);
        Round { flips, dumped, at }
    }
}

impl Base {
    /// A checksum has 16 bits, so one changed page of 65,536 has one that fits by
    /// chance, and nobody can tell. Such a page is put back as it was.
    fn undo_what_cannot_be_seen(&self, server: &Server, flips: &mut Flips) {
        let pages: BTreeSet<(String, u32)> =
            flips.iter().map(|(path, block, ..)| (path.clone(), *block)).collect();
        for (path, block) in pages {
            let page = read_page(server, &path, block);
            if page.checksum() == page.correct_checksum() {
                eprintln!("the checksum of block {block} of {path} fits by chance");
                write_page(server, &path, &read_page(&self.server, &path, block));
                flips.retain(|(p, b, ..)| (p, *b) != (&path, block));
            }
        }
    }
}

impl Round {
    /// The flips in a file: block and offset.
    pub fn within<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (u32, usize)> + 'a {
        let of_path = self.flips.iter().filter(move |(p, ..)| p == path);
        of_path.map(|(_, block, offset, _)| (*block, *offset))
    }

    pub fn blocks(&self, path: Option<&String>) -> BTreeSet<u32> {
        path.into_iter().flat_map(|path| self.within(path)).map(|(block, _)| block).collect()
    }
}

impl Table {
    /// The rows with a value of which a chunk satisfies this: its page, its
    /// number there.
    pub fn users_of(&self, is: impl Fn(&Page, u16) -> bool) -> BTreeSet<(u32, u16)> {
        let chunks =
            self.toast_pages.iter().flat_map(|p| p.tuples().into_iter().map(move |n| (p, n)));
        chunks
            .filter(|(page, number)| is(page, *number))
            .filter_map(|(page, number)| self.users.get(&victim::chunk(page, number).value_id))
            .copied()
            .collect()
    }
}
