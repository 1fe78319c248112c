//! Large objects as a directory archive has them: a file for each, and a list.
//!
//! They are put together from the rows of `pg_largeobject`, which come in heap
//! order: the pages of one object in their order, as a rule, but between those
//! of others. What has come of each is compressed as a frame of its file
//! whenever there is enough of it all. An object of which a page comes after a
//! later one is written in a second pass, at its places in a file that is not
//! compressed.

use super::codec::Codec;
use super::dir::DumpDir;
use super::error::OutputError;
use super::frame::{Frame, open_rows};
use super::links;
use super::toc::BLOBS;
use bstr::BString;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use tokio::io::AsyncBufReadExt;

pub const FOLDER: &str = "blobs";

/// So much of all objects is kept in memory before it is written.
const PENDING_BYTES_MAX: usize = 32 << 20;

/// An object with more zeros than this between two of its pages is left out:
/// nobody has that much of nothing but by damage.
const HOLE_BYTES_MAX: u64 = 1 << 30;

/// What the archive has of a large object beside its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeObject {
    pub oid: u32,
    /// None: the owner is whoever restores it.
    pub owner: Option<BString>,
    /// GRANT statements.
    pub grants: BString,
}

/// What is known of pages that are not clean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// Objects that have such pages.
    pub not_whole: BTreeSet<u32>,
    /// Pages are lost, and nobody knows of which objects they were.
    pub more_is_lost: bool,
}

/// One row of `pg_largeobject`.
pub struct Page {
    pub oid: u32,
    pub number: u32,
    pub data: Vec<u8>,
}

#[derive(Default)]
struct Object {
    /// How much of it has come, zeros in between included.
    length: u64,
    /// What is not written yet.
    pending: Vec<u8>,
    /// Whether a page came after a later one.
    unordered: bool,
    too_long: bool,
}

/// Puts objects together.
pub struct Objects<'a> {
    dir: &'a DumpDir,
    codec: Codec,
    page_bytes: u64,
    objects: BTreeMap<u32, Object>,
    pending: usize,
}

/// What came of it.
pub struct Finished {
    /// The objects that are in the list.
    pub oids: Vec<u32>,
    /// How many are not.
    pub left_out: u64,
    /// Why their files have no names beside the archive.
    pub not_linked: Option<io::Error>,
}

/// The rows of a file, one after the other.
pub struct Rows {
    rows: Box<dyn tokio::io::AsyncBufRead + Send + Unpin>,
    path: PathBuf,
    line: Vec<u8>,
}

impl Rows {
    pub async fn open(dir: &DumpDir, file: &str) -> Result<Self, OutputError> {
        let path = dir.path().join(file);
        Ok(Self { rows: open_rows(&path).await?, path, line: Vec::new() })
    }

    pub async fn next(&mut self) -> Result<Option<&[u8]>, OutputError> {
        self.line.clear();
        let read = self.rows.read_until(b'\n', &mut self.line).await;
        let read = read.map_err(OutputError::io("read file", &self.path))?;
        Ok((read > 0).then_some(self.line.as_slice()))
    }
}

impl<'a> Objects<'a> {
    /// `page_bytes`: what fits into a page of a large object. Those that an
    /// earlier run has left are removed.
    pub fn begin(dir: &'a DumpDir, codec: Codec, page_bytes: u32) -> Result<Self, OutputError> {
        clear(dir)?;
        dir.make_folder(FOLDER)?;
        let page_bytes = u64::from(page_bytes);
        Ok(Self { dir, codec, page_bytes, objects: BTreeMap::new(), pending: 0 })
    }

    /// An object that there is, with pages or without.
    pub fn add(&mut self, oid: u32) {
        self.objects.entry(oid).or_default();
    }

    /// A page, in the order of the rows.
    pub fn page(&mut self, page: &Page) -> Result<(), OutputError> {
        let at = u64::from(page.number) * self.page_bytes;
        let object = self.objects.entry(page.oid).or_default();
        if object.unordered || object.too_long {
            return Ok(());
        }
        let Some(hole) = at.checked_sub(object.length) else {
            self.pending -= object.pending.len();
            object.pending = Vec::new();
            object.unordered = true;
            return Ok(());
        };
        if hole > HOLE_BYTES_MAX {
            object.too_long = true;
            return Ok(());
        }
        let before = object.pending.len();
        let hole = usize::try_from(hole).unwrap_or(usize::MAX);
        object.pending.resize(before + hole, 0);
        object.pending.extend_from_slice(&page.data);
        object.length = at + page.data.len() as u64;
        self.pending += object.pending.len() - before;
        if self.pending >= PENDING_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// All rows have come. Whether there are objects whose pages must come once
    /// more, to [`Self::again`].
    pub fn needs_again(&mut self) -> Result<bool, OutputError> {
        self.flush()?;
        let unordered = self.objects.iter().filter(|(_, object)| object.unordered);
        let oids: Vec<u32> = unordered.map(|(&oid, _)| oid).collect();
        for &oid in &oids {
            self.dir.remove(&self.part(oid))?;
        }
        Ok(!oids.is_empty())
    }

    /// A page, when all come again.
    pub fn again(&mut self, page: &Page) -> Result<(), OutputError> {
        if !self.objects.get(&page.oid).is_some_and(|object| object.unordered) {
            return Ok(());
        }
        let path = self.dir.path().join(plain(page.oid));
        let mut open = OpenOptions::new();
        let file = open.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = file.map_err(OutputError::io("create file", &path))?;
        let at = u64::from(page.number) * self.page_bytes;
        let written = file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&page.data));
        self.dir.space().wrote(page.data.len() as u64);
        written.map_err(OutputError::io("write file", &path))?;
        self.dir.space().allow()
    }

    /// Gives the files their names, and writes the list of them: of those that
    /// are whole.
    pub async fn finish(mut self, known: &Doubts) -> Result<Finished, OutputError> {
        self.flush()?;
        let (mut oids, mut renames) = (Vec::new(), Vec::new());
        let mut left_out = 0;
        for (&oid, object) in &self.objects {
            let (from, to) = match object.unordered {
                true => (plain(oid), format!("{FOLDER}/blob_{oid}.dat")),
                false => (self.part(oid), self.name(oid)),
            };
            let is_empty = object.length == 0 && !object.unordered;
            let is_doubtful = known.not_whole.contains(&oid) || (is_empty && known.more_is_lost);
            if is_doubtful || object.too_long {
                self.dir.remove(&from)?;
                left_out += 1;
                continue;
            }
            if is_empty {
                self.append(oid, &[])?;
            }
            renames.push((from, to));
            oids.push(oid);
        }
        if self.dir.sync() {
            // There may be a million: all at once.
            let path = self.dir.path().join(FOLDER);
            let synced = File::open(&path).and_then(|folder| Ok(rustix::fs::syncfs(&folder)?));
            synced.map_err(OutputError::io("sync directory", &path))?;
        }
        let mut paths = Vec::new();
        for (from, to) in renames {
            self.dir.rename(&from, &to)?;
            paths.push(to);
        }
        if oids.is_empty() {
            clear(self.dir)?;
            return Ok(Finished { oids, left_out, not_linked: None });
        }
        let not_linked = links::link(self.dir, &paths).err();
        let folder = if not_linked.is_none() { String::new() } else { format!("{FOLDER}/") };
        let line = |oid: &u32| format!("{oid} {folder}blob_{oid}.dat\n");
        let list: String = oids.iter().map(line).collect();
        self.dir.write_atomic(BLOBS, list.into_bytes()).await?;
        Ok(Finished { oids, left_out, not_linked })
    }

    fn name(&self, oid: u32) -> String {
        format!("{FOLDER}/blob_{oid}.dat{}", self.codec.suffix())
    }

    fn part(&self, oid: u32) -> String {
        format!("{}.part", self.name(oid))
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        let full: Vec<u32> =
            self.objects.iter().filter(|(_, o)| !o.pending.is_empty()).map(|(&o, _)| o).collect();
        for oid in full {
            let pending = self.objects.get_mut(&oid).map(|o| std::mem::take(&mut o.pending));
            self.append(oid, &pending.unwrap_or_default())?;
        }
        self.pending = 0;
        self.dir.space().allow()
    }

    /// A frame more for the file of an object.
    fn append(&self, oid: u32, bytes: &[u8]) -> Result<(), OutputError> {
        let path = self.dir.path().join(self.part(oid));
        let failed = |doing: &'static str| OutputError::io(doing, &path);
        let mut packed = Vec::new();
        let mut frame = Frame::new(self.codec);
        frame.feed(bytes, &mut packed).map_err(failed("compress file"))?;
        frame.finish(&mut packed).map_err(failed("compress file"))?;
        let open = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let mut file = open.map_err(failed("create file"))?;
        file.write_all(&packed).map_err(failed("write file"))?;
        self.dir.space().wrote(packed.len() as u64);
        Ok(())
    }
}

/// Where an object is written whose pages are not in their order.
fn plain(oid: u32) -> String {
    format!("{FOLDER}/blob_{oid}.dat.plain.part")
}

/// Removes what there is of large objects.
pub fn clear(dir: &DumpDir) -> Result<(), OutputError> {
    dir.remove(BLOBS)?;
    dir.remove(&format!("{BLOBS}.part"))?;
    if dir.path().join(FOLDER).is_dir() {
        for path in dir.files(FOLDER, "")? {
            dir.remove(links::name(&path))?;
        }
    }
    dir.remove_folder(FOLDER)
}

/// What may be done with a large object, as `aclitem` writes it, in statements:
/// `{postgres=rw/postgres,"r 1=r/postgres"}` without its braces and quotes.
pub fn grants(oid: u32, owner: Option<&BString>, items: &[BString]) -> BString {
    let mut statements = Vec::new();
    for item in items {
        let Some((grantee, rights)) = split_item(item) else { continue };
        if owner.is_some_and(|owner| *owner == grantee) {
            continue;
        }
        let to = match grantee.as_slice() {
            b"" => b"PUBLIC".to_vec(),
            name => [&b"\""[..], &bstr::ByteSlice::replace(name, b"\"", b"\"\""), b"\""].concat(),
        };
        for (letter, right) in [(b'r', "SELECT"), (b'w', "UPDATE")] {
            let Some(at) = rights.iter().position(|&b| b == letter) else { continue };
            let option = if rights.get(at + 1) == Some(&b'*') { " WITH GRANT OPTION" } else { "" };
            let on = format!("GRANT {right} ON LARGE OBJECT {oid} TO ");
            statements.extend([on.as_bytes(), &to, option.as_bytes(), b";\n"].concat());
        }
    }
    statements.into()
}

/// `grantee=rights/grantor`; the grantee in double quotes where it needs them.
fn split_item(item: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (mut name, mut quoted, mut at) = (Vec::new(), false, 0);
    loop {
        match (*item.get(at)?, quoted) {
            (b'"', true) if item.get(at + 1) == Some(&b'"') => {
                name.push(b'"');
                at += 1;
            }
            (b'"', _) => quoted = !quoted,
            (b'=', false) => break,
            (byte, _) => name.push(byte),
        }
        at += 1;
    }
    let rights = item.get(at + 1..)?.split(|&b| b == b'/').next()?;
    Some((name, rights))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_granted_as_they_were() {
        let items = ["o=rw/o", "=r/o", "\"a \"\"b\"=r*w/o", "c=/o", "x"].map(BString::from);
        assert_eq!(
            grants(7, Some(&"o".into()), &items),
            "GRANT SELECT ON LARGE OBJECT 7 TO PUBLIC;\n\
             GRANT SELECT ON LARGE OBJECT 7 TO \"a \"\"b\" WITH GRANT OPTION;\n\
             GRANT UPDATE ON LARGE OBJECT 7 TO \"a \"\"b\";\n"
        );
    }
}
