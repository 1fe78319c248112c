//! An [`Archive`] as the bytes of a `toc.dat`.

use super::read::MAGIC;
use super::{Archive, Compression, Created, Entry, INT_SIZE, Version};
use bstr::BString;

pub(super) fn archive(archive: &Archive) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    header(&mut bytes, archive);
    int(&mut bytes, i32::try_from(archive.entries.len()).unwrap_or(i32::MAX));
    for each in &archive.entries {
        entry(&mut bytes, each, archive.version);
    }
    bytes
}

fn header(bytes: &mut Vec<u8>, archive: &Archive) {
    let Version { major, minor, revision } = archive.version;
    bytes.extend([major, minor, revision, INT_SIZE, archive.off_size, archive.format]);
    match (archive.compression, archive.version >= Version::METHOD) {
        (Compression::Method(method), true) => bytes.push(method),
        (Compression::Level(level), false) => int(bytes, level),
        // Of another version: whether there is any, and gzip is what all know.
        (Compression::Level(level), true) => bytes.push(u8::from(level != 0)),
        (Compression::Method(method), false) => int(bytes, -i32::from(method != 0)),
    }
    let Created { second, minute, hour, day, month, year, is_dst } = archive.created;
    for part in [second, minute, hour, day, month, year, is_dst] {
        int(bytes, part);
    }
    for text in [&archive.database, &archive.server_version, &archive.dump_version] {
        string(bytes, text.as_ref());
    }
}

fn entry(bytes: &mut Vec<u8>, entry: &Entry, version: Version) {
    int(bytes, entry.dump_id);
    int(bytes, i32::from(entry.had_dumper));
    text(bytes, entry.catalog.to_string().as_bytes());
    text(bytes, entry.oid.to_string().as_bytes());
    text(bytes, &entry.tag);
    text(bytes, &entry.desc);
    int(bytes, entry.section as i32);
    for part in [&entry.defn, &entry.drop_stmt, &entry.copy_stmt, &entry.namespace] {
        string(bytes, part.as_ref());
    }
    string(bytes, entry.tablespace.as_ref());
    if version >= Version::TABLE_AM {
        string(bytes, entry.table_am.as_ref());
    }
    if version >= Version::RELKIND {
        int(bytes, entry.relkind);
    }
    string(bytes, entry.owner.as_ref());
    text(bytes, if entry.with_oids { b"true" } else { b"false" });
    for dependency in &entry.dependencies {
        text(bytes, dependency.to_string().as_bytes());
    }
    string(bytes, None);
    text(bytes, entry.file.as_deref().map_or(&[], |name| name.as_slice()));
}

fn string(bytes: &mut Vec<u8>, value: Option<&BString>) {
    match value {
        Some(value) => text(bytes, value),
        None => int(bytes, -1),
    }
}

/// A string that is not NULL. Longer ones than an integer can say do not come from
/// a server, which has none above 1 GB.
fn text(bytes: &mut Vec<u8>, value: &[u8]) {
    let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
    int(bytes, length);
    bytes.extend(&value[..usize::try_from(length).unwrap_or(0)]);
}

fn int(bytes: &mut Vec<u8>, value: i32) {
    bytes.push(u8::from(value < 0));
    bytes.extend(value.unsigned_abs().to_le_bytes());
}
