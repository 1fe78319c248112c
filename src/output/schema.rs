//! `schema/`: the schema as an archive of its own, and as two files for `psql`.
//!
//! `toc.dat` in it is what `pg_dump --schema-only` made, or what was made in its
//! place; a run that goes on and cannot have it again takes it from there.

use super::dir::DumpDir;
use super::error::OutputError;
use crate::archive::{Archive, BYTES_MAX, Entry, Pass, Section};
use bstr::{BString, ByteSlice};

/// Where the archive of the schema alone is.
pub const SCHEMA_TOC: &str = "schema/toc.dat";
const PRE_DATA: &str = "schema/pre-data.sql";
const POST_DATA: &str = "schema/post-data.sql";

/// All of them.
pub const FILES: [&str; 3] = [SCHEMA_TOC, PRE_DATA, POST_DATA];

/// What is set before anything is made, as `pg_restore` does.
const SETTINGS: &str = "\
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
";

/// Writes all of it; returns the names of the files.
pub async fn write(dir: &DumpDir, schema: &Archive) -> Result<Vec<String>, OutputError> {
    let files = [
        (SCHEMA_TOC, schema.write()),
        (PRE_DATA, script(schema, Section::PreData)),
        (POST_DATA, script(schema, Section::PostData)),
    ];
    let mut names = Vec::new();
    for (name, bytes) in files {
        dir.write_atomic(name, bytes).await?;
        names.push(name.to_owned());
    }
    Ok(names)
}

/// The schema that an earlier run has left, if it can be read.
pub fn left(dir: &DumpDir) -> Option<Archive> {
    if dir.len(SCHEMA_TOC).ok()?? > BYTES_MAX {
        return None;
    }
    let bytes = std::fs::read(dir.path().join(SCHEMA_TOC)).ok()?;
    Archive::read(&bytes).ok()
}

/// The statements of a section.
fn script(schema: &Archive, section: Section) -> Vec<u8> {
    let mut out = SETTINGS.as_bytes().to_vec();
    let special =
        |e: &&Entry| matches!(e.desc.as_slice(), b"ENCODING" | b"STDSTRINGS" | b"SEARCHPATH");
    for entry in schema.entries.iter().filter(special) {
        out.extend_from_slice(entry.definition());
    }
    let mut now = Section::PreData;
    let mut wanted = Vec::new();
    for entry in &schema.entries {
        if entry.section != Section::None {
            now = entry.section;
        }
        if now == section && !special(&entry) && !entry.is_of_database() {
            wanted.push(entry);
        }
    }
    let mut places = Places::default();
    for pass in [Pass::Objects, Pass::Rights, Pass::Last] {
        for entry in wanted.iter().filter(|entry| entry.pass() == pass) {
            places.set(&mut out, entry);
            out.push(b'\n');
            out.extend_from_slice(entry.definition());
            owner(&mut out, entry);
        }
    }
    out
}

/// Where the next table goes, as it was last set.
#[derive(Default)]
struct Places {
    tablespace: BString,
    method: Option<BString>,
}

impl Places {
    fn set(&mut self, out: &mut Vec<u8>, entry: &Entry) {
        if let Some(tablespace) = entry.tablespace.as_ref().filter(|t| **t != self.tablespace) {
            let name = if tablespace.is_empty() { b"''".to_vec() } else { ident(tablespace) };
            out.extend([&b"\nSET default_tablespace = "[..], &name, b";\n"].concat());
            self.tablespace = tablespace.clone();
        }
        let method = entry.table_am.as_ref().filter(|m| !m.is_empty());
        if method.is_some() && entry.relkind != i32::from(b'p') && method != self.method.as_ref() {
            let name = method.map(|m| ident(m)).unwrap_or_default();
            out.extend([&b"\nSET default_table_access_method = "[..], &name, b";\n"].concat());
            self.method = method.cloned();
        }
    }
}

fn owner(out: &mut Vec<u8>, entry: &Entry) {
    let owner = entry.owner.as_ref().filter(|owner| !owner.is_empty());
    let drop = entry.drop_stmt.as_ref().and_then(|drop| drop.strip_prefix(b"DROP "));
    let (Some(owner), Some(object)) = (owner, drop) else { return };
    if !entry.is_owned() {
        return;
    }
    let object = object.trim_end_with(|c| c == '\n' || c == ';');
    out.extend([&b"\nALTER "[..], object, b" OWNER TO ", &ident(owner), b";\n"].concat());
}

fn ident(name: &[u8]) -> Vec<u8> {
    [&b"\""[..], &name.replace(b"\"", b"\"\""), b"\""].concat()
}
