//! `toc.dat`: the schema, and what of the data is clean, as one archive that
//! `pg_restore` loads.
//!
//! Of the versions of the format the oldest that has room for it is written, so
//! that an older `pg_restore` reads it, too. File names are without the suffix
//! of the codec: a `pg_restore` that does not know it finds no file, rather than
//! load what it cannot unpack.

use super::codec::{Codec, Method};
use super::dir::DumpDir;
use super::large_objects::LargeObject;
use super::links;
use super::manifest::{FileEntry, Relation, RelationKind, RowClass};
use crate::archive::{Archive, Compression, Entry, Section, Version};
use bstr::{BString, ByteSlice, ByteVec};
use std::collections::{HashMap, HashSet};
use std::io;

pub const TOC: &str = "toc.dat";

/// Where `pg_restore` looks for the list of large objects.
pub const BLOBS: &str = "blobs.toc";

/// The catalog of relations.
const PG_CLASS: u32 = 1259;
/// The catalog of large objects.
const PG_LARGEOBJECT: u32 = 2613;

/// Of a partitioned table, in the entry's relkind.
const PARTITIONED: i32 = b'p' as i32;

/// An identifier in double quotes.
fn ident(name: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for &byte in name {
        quoted.extend(std::iter::repeat_n(byte, if byte == b'"' { 2 } else { 1 }));
    }
    quoted.push(b'"');
    quoted
}

fn qualified(entry: &Entry) -> Vec<u8> {
    let schema = entry.namespace.as_deref().map_or(&[][..], |name| name.as_slice());
    [&ident(schema), &b"."[..], &ident(&entry.tag)].concat()
}

/// What is put together.
pub struct Contents<'a> {
    pub schema: Archive,
    pub relations: &'a [Relation],
    pub large_objects: &'a [LargeObject],
    pub codec: Codec,
    /// The encoding of the rows.
    pub encoding: &'a str,
}

/// The whole archive, and what of the data has no place in it.
pub fn archive(contents: Contents<'_>) -> (Archive, Vec<String>) {
    let Contents { mut schema, relations, large_objects, codec, encoding } = contents;
    set_version(&mut schema, codec);
    let by_oid: HashMap<u32, usize> = schema
        .entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.catalog == PG_CLASS)
        .map(|(i, entry)| (entry.oid, i))
        .collect();
    let mut next = schema.next_dump_id();
    let mut ids = || {
        next = next.saturating_add(1);
        next - 1
    };
    let mut data = objects(large_objects, &mut ids);
    // Where the archive itself is in another encoding.
    let encoding = if is_in(&schema, encoding) { "" } else { encoding };
    let mut notes = Vec::new();
    let mut without_entry = Vec::new();
    for relation in relations {
        notes.extend(relation.files.iter().filter_map(|file| oversize(relation, file)));
        let of = by_oid.get(&relation.oid).and_then(|&i| schema.entries.get(i));
        let found = match relation.kind {
            RelationKind::Table => match (clean_rows(relation), of) {
                (None, _) => continue,
                (Some(_), _) if relation.columns.first().is_some_and(|c| c.attnum < 0) => {
                    notes.push(format!(
                        "the rows of table \"{}.{}\" begin with their OIDs, which pg_restore does \
                         not load",
                        relation.schema, relation.name
                    ));
                    continue;
                }
                (Some(file), Some(table)) if table.desc == "TABLE" => {
                    Some(table_data(table, relation, file, (codec, encoding), &mut ids))
                }
                _ => None,
            },
            RelationKind::Sequence => match (&relation.sequence, of) {
                (None, _) => continue,
                (Some(value), Some(sequence)) if sequence.desc == "SEQUENCE" => {
                    let value = (value.last_value, value.is_called);
                    Some(sequence_set(sequence, value, &mut ids))
                }
                _ => None,
            },
            _ => continue,
        };
        match found {
            Some(entry) => data.push(entry),
            None => without_entry.push(format!("\"{}.{}\"", relation.schema, relation.name)),
        }
    }
    notes.extend(not_described(&without_entry));
    let at = schema.entries.iter().position(|entry| entry.section == Section::PostData);
    let at = at.unwrap_or(schema.entries.len());
    schema.entries.splice(at..at, data);
    (schema, notes)
}

/// Gives the files of the rows names beside the archive, and these to its entries.
/// If that cannot be done the archive stays as it was, and the error says why.
pub fn link_files(archive: &mut Archive, dir: &DumpDir, codec: Codec) -> io::Result<()> {
    let with_rows = |entry: &&mut Entry| entry.desc == "TABLE DATA";
    let mut files: Vec<&mut BString> =
        archive.entries.iter_mut().filter(with_rows).filter_map(|e| e.file.as_mut()).collect();
    let paths: Vec<String> = files.iter().map(|file| format!("{file}{}", codec.suffix())).collect();
    links::link(dir, &paths)?;
    for file in &mut files {
        **file = links::name(&file.to_str_lossy()).into();
    }
    Ok(())
}

fn is_in(schema: &Archive, encoding: &str) -> bool {
    let set = format!("'{encoding}'");
    let entry = schema.entries.iter().find(|entry| entry.desc == "ENCODING");
    entry.is_some_and(|entry| entry.definition().contains_str(&set))
}

/// So many names are listed.
const LISTED_MAX: usize = 10;

fn not_described(names: &[String]) -> Option<String> {
    let first = names.get(..LISTED_MAX).unwrap_or(names).join(", ");
    let more = match names.len().saturating_sub(LISTED_MAX) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let note = || {
        format!(
            "the schema does not describe these (tables of an extension are its own matter), so \
             their rows and values are not in the archive: {first}{more}"
        )
    };
    (!names.is_empty()).then(note)
}

/// An archive has rows as text only.
fn oversize(relation: &Relation, file: &FileEntry) -> Option<String> {
    let Relation { schema, name, .. } = relation;
    let note = || {
        format!(
            "{} rows of \"{schema}.{name}\" that are too long to be sent as text are not in the \
             archive, but in \"{}\"",
            file.rows, file.path
        )
    };
    (file.class == RowClass::Oversize).then(note)
}

fn clean_rows(relation: &Relation) -> Option<&FileEntry> {
    relation.files.iter().find(|file| file.class == RowClass::Clean)
}

/// The oldest version that says what is to be said.
fn set_version(archive: &mut Archive, codec: Codec) {
    (archive.version, archive.compression) = match codec.method {
        Method::None => (Version::TABLE_AM, Compression::Level(0)),
        Method::Gzip => (Version::TABLE_AM, Compression::Level(-1)),
        Method::Lz4 => (Version::METHOD, Compression::Method(2)),
        Method::Zstd => (Version::METHOD, Compression::Method(3)),
    };
    for entry in archive.entries.iter_mut().filter(|entry| entry.relkind == PARTITIONED) {
        // Before 1.16 there is no other place for it.
        let Some(method) = entry.table_am.take().filter(|name| !name.is_empty()) else { continue };
        let name = qualified(entry);
        let defn = entry.defn.get_or_insert_default();
        defn.push_str("ALTER TABLE ");
        defn.push_str(name);
        defn.push_str(" SET ACCESS METHOD ");
        defn.push_str(ident(&method));
        defn.push_str(";\n");
    }
}

fn table_data(
    table: &Entry,
    relation: &Relation,
    file: &FileEntry,
    (codec, encoding): (Codec, &str),
    ids: &mut impl FnMut() -> i32,
) -> Entry {
    let columns: Vec<Vec<u8>> =
        relation.columns.iter().map(|column| ident(column.name.as_bytes())).collect();
    let mut copy = BString::from("COPY ");
    copy.push_str(qualified(table));
    if !columns.is_empty() {
        copy.push_str(" (");
        copy.push_str(columns.join(&b", "[..]));
        copy.push_str(")");
    }
    copy.push_str(" FROM stdin");
    if !encoding.is_empty() {
        copy.push_str(format!(" WITH (ENCODING '{encoding}')"));
    }
    copy.push_str(";\n");
    let path = file.path.strip_suffix(codec.suffix()).unwrap_or(&file.path);
    Entry {
        had_dumper: true,
        oid: relation.oid,
        defn: None,
        drop_stmt: None,
        copy_stmt: Some(copy),
        namespace: table.namespace.clone(),
        owner: table.owner.clone(),
        dependencies: vec![table.dump_id],
        file: Some(path.into()),
        ..Entry::new(ids(), "TABLE DATA", table.tag.clone(), Section::Data)
    }
}

fn sequence_set(
    sequence: &Entry,
    (last_value, is_called): (i64, bool),
    ids: &mut impl FnMut() -> i32,
) -> Entry {
    let mut defn = BString::from("SELECT pg_catalog.setval('");
    for byte in qualified(sequence) {
        defn.extend(std::iter::repeat_n(byte, if byte == b'\'' { 2 } else { 1 }));
    }
    defn.push_str(format!("', {last_value}, {is_called});\n"));
    Entry {
        defn: Some(defn),
        drop_stmt: None,
        namespace: sequence.namespace.clone(),
        owner: sequence.owner.clone(),
        dependencies: vec![sequence.dump_id],
        ..Entry::new(ids(), "SEQUENCE SET", sequence.tag.clone(), Section::Data)
    }
}

/// Each large object is made in an entry of its own; one has the contents of
/// all.
fn objects(large_objects: &[LargeObject], ids: &mut impl FnMut() -> i32) -> Vec<Entry> {
    let mut entries = Vec::new();
    for LargeObject { oid, owner, grants } in large_objects {
        let made = Entry {
            catalog: PG_LARGEOBJECT,
            oid: *oid,
            defn: Some(format!("SELECT pg_catalog.lo_create('{oid}');\n").into()),
            drop_stmt: Some(format!("SELECT pg_catalog.lo_unlink('{oid}');\n").into()),
            owner: Some(owner.clone().unwrap_or_default()),
            ..Entry::new(ids(), "BLOB", oid.to_string(), Section::PreData)
        };
        let rights = (!grants.is_empty()).then(|| Entry {
            defn: Some(grants.clone()),
            drop_stmt: None,
            owner: made.owner.clone(),
            dependencies: vec![made.dump_id],
            ..Entry::new(ids(), "ACL", format!("LARGE OBJECT {oid}"), Section::None)
        });
        entries.push(made);
        entries.extend(rights);
    }
    if !large_objects.is_empty() {
        entries.push(Entry {
            had_dumper: true,
            defn: None,
            drop_stmt: None,
            owner: None,
            dependencies: entries.iter().filter(|e| e.desc == "BLOB").map(|e| e.dump_id).collect(),
            file: Some(BLOBS.into()),
            ..Entry::new(ids(), "BLOBS", "BLOBS", Section::Data)
        });
    }
    entries
}

/// Adds to a schema what fills its materialised views, those of `filled`.
pub fn add_refreshes(schema: &mut Archive, filled: &HashSet<u32>) {
    let by_id: HashMap<i32, usize> =
        schema.entries.iter().enumerate().map(|(i, entry)| (entry.dump_id, i)).collect();
    let is_view = |entry: &Entry| {
        entry.desc == "MATERIALIZED VIEW"
            && entry.catalog == PG_CLASS
            && filled.contains(&entry.oid)
    };
    let views = schema.entries.iter().enumerate().filter(|(_, entry)| is_view(entry));
    let ids: HashMap<usize, i32> = views.map(|(i, _)| i).zip(schema.next_dump_id()..).collect();
    let refresh = |(&view, &dump_id): (&usize, &i32)| {
        let entry = &schema.entries[view];
        let mut defn = BString::from("REFRESH MATERIALIZED VIEW ");
        defn.push_str(qualified(entry));
        defn.push_str(";\n");
        let below = views_below(schema, &by_id, view);
        let below = below.iter().filter_map(|i| ids.get(i).copied());
        let tag = entry.tag.clone();
        Entry {
            oid: entry.oid,
            defn: Some(defn),
            drop_stmt: None,
            namespace: entry.namespace.clone(),
            owner: entry.owner.clone(),
            dependencies: [entry.dump_id].into_iter().chain(below).collect(),
            ..Entry::new(dump_id, "MATERIALIZED VIEW DATA", tag, Section::PostData)
        }
    };
    let mut added: Vec<Entry> = ids.iter().map(refresh).collect();
    added.sort_by_key(|entry| entry.dump_id);
    schema.entries.extend(in_order(added));
}

/// The entries of views that a view is made of, through any number of others.
fn views_below(schema: &Archive, by_id: &HashMap<i32, usize>, view: usize) -> Vec<usize> {
    let (mut found, mut left) = (Vec::new(), vec![view]);
    while let Some(i) = left.pop() {
        for below in schema.entries[i].dependencies.iter().filter_map(|id| by_id.get(id)) {
            let desc = &schema.entries[*below].desc;
            if (*desc == "VIEW" || *desc == "MATERIALIZED VIEW")
                && *below != view
                && !found.contains(below)
            {
                found.push(*below);
                left.push(*below);
            }
        }
    }
    found
}

/// Each behind what it depends on.
fn in_order(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut ordered: Vec<Entry> = Vec::with_capacity(entries.len());
    while !entries.is_empty() {
        let waits = |entry: &Entry| {
            let others = entries.iter().filter(|other| other.dump_id != entry.dump_id);
            others.into_iter().any(|other| entry.dependencies.contains(&other.dump_id))
        };
        // In a circle, which no view is, any will do.
        let next = entries.iter().position(|entry| !waits(entry)).unwrap_or(0);
        ordered.push(entries.remove(next));
    }
    ordered
}
