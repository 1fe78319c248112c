//! Where a relation's files lie, asked while the server still runs, and the
//! pages in them, once it is stopped.

use super::Server;
use super::page_edit::{BLOCK_SIZE, Page};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use tokio_postgres::Client;

/// The blocks of one segment file.
pub const SEGMENT_BLOCKS: u32 = 131_072;

/// The files of one relation, as paths inside the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    pub relation: String,
    pub oid: u32,
    pub main: String,
    pub blocks: u32,
    pub toast: Option<String>,
    pub toast_blocks: u32,
    pub toast_index: Option<String>,
    /// Its primary key, if it has one.
    pub index: Option<String>,
}

impl Places {
    /// Of a relation named as SQL wants it: a table, a materialised view, an
    /// index, a sequence or a system catalog.
    pub async fn of(client: &Client, relation: &str) -> Places {
        let sql = "SELECT c.oid, pg_relation_filepath(c.oid),
                (pg_relation_size(c.oid) / current_setting('block_size')::int)::int,
                pg_relation_filepath(nullif(c.reltoastrelid, 0)),
                coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)) / current_setting('block_size')::int, 0)::int,
                (SELECT pg_relation_filepath(indexrelid) FROM pg_index WHERE indrelid = nullif(c.reltoastrelid, 0)),
                (SELECT pg_relation_filepath(indexrelid) FROM pg_index WHERE indrelid = c.oid AND indisprimary)
            FROM pg_class c WHERE c.oid = $1::text::regclass";
        let row = client.query_one(sql, &[&relation]).await;
        let row = row.unwrap_or_else(|error| panic!("the places of {relation}: {error:?}"));
        Places {
            relation: relation.to_owned(),
            oid: row.get(0),
            main: row.get(1),
            blocks: row.get::<_, i32>(2).unsigned_abs(),
            toast: row.get(3),
            toast_blocks: row.get::<_, i32>(4).unsigned_abs(),
            toast_index: row.get(5),
            index: row.get(6),
        }
    }
}

/// The file of the segment that this block is in.
pub fn segment_file(server: &Server, path: &str, block: u32) -> PathBuf {
    let segment = block / SEGMENT_BLOCKS;
    let suffix = if segment == 0 { String::new() } else { format!(".{segment}") };
    server.data_dir().join(format!("{path}{suffix}"))
}

fn open(server: &Server, path: &str, block: u32) -> (File, u64) {
    assert!(server.pid().is_none(), "files are changed under a stopped server only");
    let file = segment_file(server, path, block);
    let opened = OpenOptions::new().read(true).write(true).open(&file);
    let opened = opened.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let within = u64::from(block % SEGMENT_BLOCKS) * BLOCK_SIZE as u64;
    (opened, within)
}

pub fn read_page(server: &Server, path: &str, block: u32) -> Page {
    let (file, within) = open(server, path, block);
    let mut bytes = vec![0; BLOCK_SIZE];
    file.read_exact_at(&mut bytes, within)
        .unwrap_or_else(|error| panic!("block {block} of {path}: {error}"));
    Page { bytes, block }
}

pub fn write_page(server: &Server, path: &str, page: &Page) {
    let (file, within) = open(server, path, page.block);
    file.write_all_at(&page.bytes, within).expect("a page is written");
}

/// Every page of the first segment.
pub fn read_pages(server: &Server, path: &str) -> Vec<Page> {
    let bytes = std::fs::read(server.data_dir().join(path)).expect("a relation's file");
    let pages = bytes.chunks_exact(BLOCK_SIZE).zip(0..);
    pages.map(|(bytes, block)| Page { bytes: bytes.to_vec(), block }).collect()
}

/// Cuts the relation's segment so that this block is the first one missing.
pub fn truncate(server: &Server, path: &str, block: u32) {
    let (file, within) = open(server, path, block);
    assert!(file.metadata().expect("a file").len() > within, "{path} has no block {block}");
    file.set_len(within).expect("the file is cut");
}

pub fn remove(server: &Server, path: &str, block: u32) {
    assert!(server.pid().is_none(), "files are changed under a stopped server only");
    std::fs::remove_file(segment_file(server, path, block)).expect("the file is there");
}

/// Gives a small relation a second segment without a gigabyte of rows: a sparse
/// first one, whose hole reads as empty pages, and its last page once more as
/// the first of the second. Returns that block.
pub fn grow_second_segment(server: &Server, places: &Places) -> u32 {
    let mut page = read_page(server, &places.main, places.blocks - 1);
    let (file, _) = open(server, &places.main, 0);
    file.set_len(u64::from(SEGMENT_BLOCKS) * BLOCK_SIZE as u64).expect("a sparse file");
    page.block = SEGMENT_BLOCKS;
    page.recompute_checksum();
    let second = segment_file(server, &places.main, SEGMENT_BLOCKS);
    std::fs::write(&second, &page.bytes).expect("the second segment");
    super::owner::give(&second);
    SEGMENT_BLOCKS
}
