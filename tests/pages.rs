//! The bytes of pages against real servers: what is decoded from the files of
//! an undamaged server is what the server itself says, and nothing that is
//! done to the bytes makes the decoder fail.

mod decode;
mod heapam;
mod stored;
pub(crate) mod values;

use crate::kit::flips::Random;
use crate::kit::version::is_wide;
use crate::kit::{Server, ServerOptions, Version, oracle, sample};
use decode::{Heap, decode};
use pg_salvage::page::insane::insane;
use pg_salvage::page::{self, Found, LineState, Page, Varlena, checksum, datum};
use std::collections::BTreeMap;
use tokio_postgres::Client;

const DB: &str = "sample";

/// The newest server, Debian's, and the oldest that has other ways.
fn versions() -> Vec<Version> {
    let mut versions = Version::two();
    versions.extend(Version::between(13, 13));
    versions
}

async fn served(version: &Version) -> (Server, Client) {
    let server = Server::start(version, ServerOptions::checksums(true));
    sample::create(&server, DB, 1).await;
    // No checkpoint writes unlogged tables; only the end of the server does.
    server.restart();
    let client = oracle::session(&server, DB).await;
    (server, client)
}

/// Holds every row that the server sees against what is decoded from the file,
/// column by column. Returns how many values of each type were compared, and of
/// those that are not known.
async fn compare(server: &Server, client: &Client, relation: &str) -> BTreeMap<u32, usize> {
    let names = oracle::columns(client, relation).await;
    let truth = oracle::rows(client, relation, &names).await;
    client.batch_execute("CHECKPOINT").await.expect("a checkpoint");
    let heap = Heap::read(server, client, relation).await;
    let mut compared = BTreeMap::new();
    for row in truth {
        let at = format!("({},{}) of {relation}", row.block, row.offset);
        let fields: Vec<&[u8]> = row.line.split(|byte| *byte == b'\t').collect();
        let decoded = heap.fields(row.block, row.offset).unwrap_or_else(|| panic!("no tuple {at}"));
        if names.is_empty() {
            assert!(decoded.is_empty() && row.line.is_empty(), "{at}");
            continue;
        }
        assert_eq!(decoded.len(), fields.len(), "{at}");
        for ((type_oid, decoded), (field, name)) in decoded.iter().zip(fields.iter().zip(&names)) {
            if datum::is_known(*type_oid) {
                let decoded = decoded.as_deref().map(String::from_utf8_lossy);
                let field = String::from_utf8_lossy(field);
                assert_eq!(decoded, Some(field), "column {name} of type {type_oid}, {at}");
            } else {
                let nothing = [None, Some(b"\\N".as_slice())];
                assert!(nothing.contains(&decoded.as_deref()), "{name} is guessed, {at}");
            }
            *compared.entry(*type_oid).or_insert(0) += 1;
        }
    }
    compared
}

fn add(all: &mut BTreeMap<u32, usize>, more: BTreeMap<u32, usize>) {
    for (type_oid, count) in more {
        *all.entry(type_oid).or_insert(0) += count;
    }
}

#[tokio::test]
async fn every_row_of_the_sample_is_decoded_as_the_server_writes_it() {
    for version in versions() {
        let (server, client) = served(&version).await;
        let mut compared = BTreeMap::new();
        for relation in oracle::relations(&client).await {
            add(&mut compared, compare(&server, &client, &relation.quoted()).await);
        }
        let known = compared.keys().filter(|oid| datum::is_known(**oid)).count();
        assert!(known >= 40, "{known} known types on {}: {compared:?}", version.major);
        assert!(compared.values().sum::<usize>() > 20_000, "{compared:?}");
    }
}

/// `PG_SALVAGE_VALUE_ROWS` says of how many rows.
#[tokio::test]
async fn random_values_of_every_known_type_are_decoded_as_the_server_writes_them() {
    let rows_wanted = std::env::var("PG_SALVAGE_VALUE_ROWS").ok();
    let rows_wanted = rows_wanted.map_or(values::ROWS, |n| n.parse().expect("a number"));
    for version in versions().into_iter().filter(|v| is_wide() || v.major != 15) {
        let server = Server::start(&version, ServerOptions::default());
        let client = oracle::session(&server, "postgres").await;
        let (mut compared, mut types, mut rounds) = (BTreeMap::new(), Vec::new(), 0);
        while rounds * values::ROWS < rows_wanted {
            let seed = 4711 + rounds as u64;
            // Long ones come in other tests, too.
            let limits = if rounds % 20 == 19 { values::LONG } else { values::SHORT };
            types = values::create(&client, version.major, seed, limits).await;
            add(&mut compared, compare(&server, &client, "public.random_values").await);
            client.batch_execute("DROP TABLE public.random_values").await.expect("it is gone");
            rounds += 1;
        }
        for type_oid in types {
            assert!(datum::is_known(type_oid), "type {type_oid}");
            let count = compared.remove(&type_oid);
            assert!(count >= Some(rows_wanted), "type {type_oid}: {count:?}");
        }
        println!("PostgreSQL {}: {} rows of every type", version.major, rounds * values::ROWS);
    }
}

#[tokio::test]
async fn the_shortest_form_of_any_floating_point_number_is_the_servers() {
    let version = Version::newest();
    let server = Server::start(&version, ServerOptions::default());
    let client = oracle::session(&server, "postgres").await;
    stored::create_floats(&client, 42).await;
    let compared = compare(&server, &client, "public.floats").await;
    assert!(compared[&700] > 10_000 && compared[&701] > 10_000, "{compared:?}");
}

#[tokio::test]
async fn values_of_any_length_and_way_of_storage_are_unpacked() {
    for version in versions() {
        let server = Server::start(&version, ServerOptions::default());
        let client = oracle::session(&server, "postgres").await;
        stored::create_stored(&client, 815).await;
        compare(&server, &client, "public.stored").await;
        let heap = Heap::read(&server, &client, "public.stored").await;
        let mut ways = BTreeMap::new();
        for varlena in heap.varlenas() {
            let way = match varlena {
                Varlena::Short(_) => "short".to_owned(),
                Varlena::Plain(_) => "plain".to_owned(),
                Varlena::Compressed { method, .. } => format!("{method:?}"),
                Varlena::External(pointer) => format!("external {:?}", pointer.method),
            };
            *ways.entry(way).or_insert(0) += 1;
        }
        // Three of the table's own, and of each method that the server has two.
        let methods = if sample::has_lz4(&client).await { 2 } else { 1 };
        assert_eq!(ways.len(), 3 + 2 * methods, "{ways:?}");
    }
}

/// Of every kind of relation that is made of tuples, the catalogs included.
async fn all_heaps(server: &Server, client: &Client) -> Vec<Heap> {
    let sql = "SELECT c.oid::regclass::text FROM pg_class c WHERE relkind IN ('r', 'm', 't', 'S')
        AND relpersistence <> 't' ORDER BY c.oid";
    let rows = client.query(sql, &[]).await.expect("pg_class");
    client.batch_execute("CHECKPOINT").await.expect("a checkpoint");
    let mut heaps = Vec::new();
    for row in rows {
        heaps.push(Heap::read(server, client, row.get(0)).await);
    }
    heaps
}

#[tokio::test]
async fn nothing_is_insane_on_the_pages_of_an_undamaged_server() {
    for version in versions() {
        let (server, client) = served(&version).await;
        let mut tuples = 0;
        for heap in all_heaps(&server, &client).await {
            let attributes = heap.attributes();
            for (block, page) in heap.pages() {
                assert_eq!(page.insane(), None, "block {block} of {}", heap.name);
                let found = insane(page, Some(&attributes), 291);
                assert_eq!(found, None, "block {block} of {}", heap.name);
                let looked = page::raw::look(page.bytes(), block, &attributes, LINES_MAX);
                let raw: Vec<u16> = looked.tuples.iter().map(|(number, _)| *number).collect();
                let normal = page.line_pointers().filter(|(_, p)| p.flags == LineState::Normal);
                let normal: Vec<u16> = normal.map(|(number, _)| number).collect();
                assert_eq!(
                    (raw, looked.broken, looked.more),
                    (normal, Vec::new(), None),
                    "block {block} of {}",
                    heap.name
                );
                for (number, pointer) in page.line_pointers() {
                    if pointer.flags != LineState::Normal {
                        continue;
                    }
                    let at = format!("({block},{number}) of {}", heap.name);
                    let tuple = page.tuple(number).unwrap_or_else(|| panic!("no tuple {at}"));
                    assert_eq!(tuple.insane(attributes.len()), None, "{at}");
                    assert!(tuple.is_filled_by(&attributes), "{at}");
                    tuples += 1;
                }
            }
        }
        assert!(tuples > 20_000, "{tuples} tuples");
    }
}

#[tokio::test]
async fn the_checksum_of_every_page_of_every_fork_is_the_servers() {
    let (server, _client) = served(&Version::newest()).await;
    server.stop();
    let mut pages = 0;
    for folder in ["base", "global"] {
        for path in files_below(&server.data_dir().join(folder)) {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if !name.starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let bytes = std::fs::read(&path).expect("a relation's file");
            for (block, bytes) in (0..).zip(bytes.chunks(crate::kit::page_edit::BLOCK_SIZE)) {
                let page = Page::new(bytes);
                let at = format!("block {block} of {}", path.display());
                if page.is_new() {
                    assert_eq!((page.checksum(), page.insane()), (0, None), "{at}");
                    continue;
                }
                assert_eq!(page.checksum(), checksum::checksum(bytes, block), "{at}");
                assert_eq!(page.insane(), None, "{at}");
                pages += 1;
            }
        }
    }
    assert!(pages > 3000, "{pages} pages");
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let (folders, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| files_below(folder)));
    files
}

/// Nothing that is decoded here is longer: a few lexemes over and over, or a
/// numeric of the largest weight.
const TEXT_MAX: usize = 64 << 20;

#[tokio::test]
async fn whatever_is_done_to_a_page_nothing_panics_and_nothing_grows_without_bounds() {
    let (server, client) = served(&Version::newest()).await;
    values::create(&client, server.version.major, 7, values::LONG).await;
    let heaps = all_heaps(&server, &client).await;
    let mut random = Random(20_261_125);
    let pages: Vec<(&Heap, &[u8])> =
        heaps.iter().flat_map(|heap| heap.pages().map(move |(_, p)| (heap, p.bytes()))).collect();
    let begun = std::time::Instant::now();
    let rounds_max = if is_wide() { 1_000_000 } else { 20_000 };
    let (mut rounds, mut sane) = (0_u32, 0_u32);
    while rounds < rounds_max {
        let (heap, bytes) = pages[random.below(pages.len())];
        let mut bytes = bytes.to_vec();
        let attributes = heap.attributes();
        let lines = Page::new(&bytes).line_pointer_count();
        for _ in 0..50 {
            rounds += 1;
            let number = u16::try_from(1 + random.below(usize::from(lines).max(1))).expect("few");
            let before = bytes.clone();
            harm(&mut bytes, number, &mut random);
            let page = Page::new(&bytes);
            sane += u32::from(page.insane().is_none());
            checksum::checksum(&bytes, rounds);
            insane(page, Some(&attributes), 291);
            if rounds % 8 == 0 {
                look_raw(&bytes, rounds, &attributes);
            }
            if let Some(tuple) = page.tuple(number) {
                let _ = tuple.is_filled_by(&attributes);
                for (column, found) in heap.columns.iter().zip(tuple.attributes(&attributes)) {
                    let Found::Bytes(value) = found else { continue };
                    let text = decode(column, value, &heap.toast).unwrap_or_default();
                    assert!(text.len() < TEXT_MAX, "{} bytes", text.len());
                }
            }
            bytes = before;
        }
    }
    assert!(sane > rounds_max / 3, "{sane} of {rounds} headers were sane");
    let took = begun.elapsed();
    assert!(took.as_secs() < 900, "{rounds} pages took {took:?}");
}

/// The most line pointers of a page of 8 kB.
const LINES_MAX: u16 = 291;

/// No line pointer is told of twice, whatever the bytes are.
fn look_raw(bytes: &[u8], block: u32, attributes: &[page::Attribute]) {
    let looked = page::raw::look(bytes, block, attributes, LINES_MAX);
    let tuples = looked.tuples.iter().map(|(number, _)| *number);
    let broken = looked.broken.iter().map(|(number, _)| *number);
    let mut all: Vec<u16> = tuples.chain(broken).chain(looked.unused).collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
    for (_, tuple) in &looked.tuples {
        let fate = |_| page::seen::Fate::Unknown;
        assert!(page::seen::asked(*tuple).count() <= 2);
        page::seen::sight(*tuple, fate);
    }
}

/// One to four changes, mostly where they hurt: in one tuple, its header and
/// its line pointer.
fn harm(bytes: &mut [u8], number: u16, random: &mut Random) {
    let line = 24 + 4 * (usize::from(number) - 1);
    let item = Page::new(bytes).line_pointer(number).map_or((0, bytes.len()), |pointer| {
        (usize::from(pointer.offset), usize::from(pointer.length).max(1))
    });
    for _ in 0..=random.below(4) {
        let at = match random.below(12) {
            0 => random.below(24),
            1 => line + random.below(4),
            2 => random.below(bytes.len()),
            3..=5 => item.0 + random.below(item.1.min(40)),
            _ => item.0 + random.below(item.1),
        } % bytes.len();
        bytes[at] = match random.below(4) {
            0 => random.next().to_le_bytes()[0],
            1 => [0, 1, 2, 3, 18, 0x7F, 0x80, 0xFE, 0xFF][random.below(9)],
            _ => bytes[at] ^ 1 << random.below(8),
        };
    }
}

#[test]
fn bytes_that_are_no_page_at_all_are_looked_at_without_a_panic() {
    let mut random = Random(1);
    for length in (0..64).chain([8191, 8192, 32768, 65536, 70_000]) {
        let bytes: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
        let page = Page::new(&bytes);
        let _ = (page.insane(), page.is_new(), page.lsn(), checksum::checksum(&bytes, 0));
        look_raw(&bytes, 0, &[]);
        for (number, pointer) in page.line_pointers() {
            let _ = page.item(pointer);
            let _ = page.tuple(number).map(|tuple| tuple.attributes(&[]));
        }
    }
    for type_oid in 0..6000 {
        for length in [0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 64] {
            let bytes: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
            let _ = page::datum::to_text(type_oid, &bytes);
        }
    }
}
