//! What is to be restored: the dump's manifest and table of contents, and what
//! of them was chosen.

use super::choice::choose;
use super::large_objects::page_bytes;
use super::{Checking, Include, RestoreError, RestoreOptions};
use crate::archive::{self, Archive, Entry};
use crate::output::manifest::{self, FileEntry, Manifest, RelationKind, RowClass};
use crate::output::restored;
use crate::server::inventory;
use crate::server::restoring::sql::{NEW_OID, qualified};
use bstr::{BString, ByteSlice};
use std::collections::HashSet;
use std::path::Path;

pub(super) const TOC: &str = "toc.dat";

pub(super) struct Plan {
    pub manifest: Manifest,
    /// None: the dump has no schema.
    pub archive: Option<Archive>,
    /// The largest first.
    pub tables: Vec<Table>,
    pub large_objects: Option<Table>,
    chosen: HashSet<u32>,
    /// The dump ids of the entries that were chosen.
    entries: HashSet<i32>,
    schema_encoding: String,
}

/// A relation with rows that are to be loaded.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub relation: manifest::Relation,
    /// Its name in file names.
    pub stem: String,
    /// `"schema"."name"`.
    pub qualified: String,
    pub columns: Vec<String>,
    /// Its rows have their OIDs before their columns (WITH OIDS).
    pub with_oids: bool,
    pub bytes: u64,
}

impl Plan {
    /// Reads the dump directory, and chooses.
    pub(super) fn of(options: &RestoreOptions) -> Result<Self, RestoreError> {
        let manifest = read_manifest(&options.dir)?;
        let archive = match options.sections {
            s if s.pre_data || s.post_data => read_archive(&options.dir)?,
            _ => None,
        };
        if archive.is_none() && !options.sections.data {
            return Err(RestoreError::Usage(format!(
                "there is no schema in \"{}\": it has no file \"{TOC}\"",
                options.dir.display()
            )));
        }
        check_names(&manifest, options)?;
        // Without a schema to restore, it still says which sequence is whose.
        let said = match &archive {
            None if !options.selection.is_everything() => read_archive(&options.dir).ok().flatten(),
            _ => None,
        };
        let choice = archive.as_ref().or(said.as_ref());
        let choice = choice.map(|a| choose(&a.entries, &options.selection)).unwrap_or_default();
        let takes = |r: &&manifest::Relation| {
            let name = (BString::from(r.schema.as_str()), BString::from(r.name.as_str()));
            let by_its_table =
                choice.sequences.get(&name).filter(|_| r.kind == RelationKind::Sequence);
            by_its_table.copied().unwrap_or_else(|| options.selection.takes(&described(r)))
        };
        let chosen: HashSet<u32> = manifest.relations.iter().filter(takes).map(|r| r.oid).collect();
        let mut tables = Vec::new();
        let mut large_objects = None;
        for relation in manifest.relations.iter().filter(|r| chosen.contains(&r.oid)) {
            match relation.kind {
                RelationKind::Table if !relation.files.is_empty() => tables.push(table(relation)),
                RelationKind::LargeObjects => large_objects = Some(table(relation)),
                _ => {}
            }
        }
        tables.sort_by_key(|t| std::cmp::Reverse(t.bytes));
        let entries = choice.entries;
        let schema_encoding = archive.as_ref().and_then(encoding_of);
        let schema_encoding = schema_encoding.unwrap_or(manifest.database.encoding.clone());
        Ok(Self { manifest, archive, tables, large_objects, chosen, entries, schema_encoding })
    }

    pub(super) fn is_chosen(&self, relation: &manifest::Relation) -> bool {
        self.chosen.contains(&relation.oid)
    }

    /// The encoding of the data files.
    pub(super) fn encoding(&self) -> &str {
        &self.manifest.database.encoding
    }

    /// How much of a large object is in a page.
    pub(super) fn page_bytes(&self) -> u32 {
        page_bytes(self.manifest.server.block_size)
    }

    /// The encoding of the statements of the schema.
    pub(super) fn schema_encoding(&self) -> &str {
        &self.schema_encoding
    }

    /// The entries that were chosen, in the order of the table of contents.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let all = self.archive.iter().flat_map(|a| &a.entries);
        all.filter(|e| self.entries.contains(&e.dump_id))
    }

    /// How many rows are to be loaded.
    pub(super) fn rows(&self, include: Include) -> u64 {
        let of = |t: &Table| t.included(include).map(|f| f.rows).sum::<u64>();
        self.tables.iter().chain(&self.large_objects).map(of).sum()
    }

    /// The entry of the report for a relation that was not dealt with.
    pub(super) fn untouched(
        &self,
        relation: &manifest::Relation,
        options: &RestoreOptions,
    ) -> restored::Relation {
        let is_asked = options.sections.data && options.checking != Checking::Only;
        let mut entry = table(relation).report();
        entry.reason = Some(
            match relation.kind {
                RelationKind::Matview => "filled by its query",
                RelationKind::Sequence => "set to the value of the dump",
                RelationKind::LargeObjectMetadata => "with the large objects",
                RelationKind::PartitionedTable => "its rows are in its partitions",
                RelationKind::View | RelationKind::ForeignTable => "has no rows of its own",
                _ if !is_asked => "not asked for",
                _ if relation.files.is_empty() => "the dump has no rows of it",
                _ => "not reached",
            }
            .to_owned(),
        );
        let has_rows = matches!(relation.kind, RelationKind::Table | RelationKind::LargeObjects);
        if is_asked && has_rows && !relation.files.is_empty() {
            entry.status = restored::RelationStatus::NotLoaded;
            include_files(&mut entry, options.include);
        }
        entry
    }
}

impl Table {
    /// The files that are to be loaded, clean rows first.
    pub(super) fn included(&self, include: Include) -> impl Iterator<Item = &FileEntry> {
        let mut files: Vec<&FileEntry> =
            self.relation.files.iter().filter(|f| is_included(f.class, include)).collect();
        files.sort_by_key(|f| match f.class {
            RowClass::Clean => 0,
            RowClass::Oversize => 1,
            RowClass::Partial => 2,
            _ => 3,
        });
        files.into_iter()
    }

    /// The files that are not to be loaded, for the report.
    pub(super) fn left_out(&self, include: Include) -> impl Iterator<Item = restored::File> {
        self.relation
            .files
            .iter()
            .filter(move |f| !is_included(f.class, include))
            .map(untouched_file)
    }

    /// The columns of the files, in a table that takes them all in.
    pub(super) fn file_columns(&self) -> Vec<String> {
        let oid = self.with_oids.then(|| NEW_OID.to_owned());
        oid.into_iter().chain(self.columns.iter().cloned()).collect()
    }

    /// Of a row of a file what the target has of it.
    pub(super) fn without_oid<'a>(&self, row: &'a [u8]) -> &'a [u8] {
        let oid = if self.with_oids { memchr::memchr(b'\t', row) } else { None };
        oid.map_or(row, |end| &row[end + 1..])
    }

    /// An entry of the report in which nothing has been done yet.
    pub(super) fn report(&self) -> restored::Relation {
        restored::Relation {
            oid: self.relation.oid,
            schema: self.relation.schema.clone(),
            name: self.relation.name.clone(),
            kind: self.relation.kind,
            status: restored::RelationStatus::Skipped,
            reason: None,
            files: self.relation.files.iter().map(untouched_file).collect(),
            duplicates: 0,
            rejects: None,
            check: None,
        }
    }
}

pub(super) fn is_included(class: RowClass, include: Include) -> bool {
    match class {
        RowClass::Clean | RowClass::Oversize => true,
        RowClass::Partial => include.partial,
        RowClass::Suspect => include.suspect,
        RowClass::ToastChunks => false,
    }
}

/// Notes which files were to be loaded.
pub(super) fn include_files(relation: &mut restored::Relation, include: Include) {
    for file in &mut relation.files {
        file.included = is_included(file.class, include);
    }
}

pub(super) fn untouched_file(file: &FileEntry) -> restored::File {
    restored::File {
        class: file.class,
        path: file.path.clone(),
        rows: file.rows,
        included: false,
        read: 0,
        loaded: 0,
        rejected: 0,
        skipped: 0,
        complaint: None,
    }
}

fn table(relation: &manifest::Relation) -> Table {
    let file = relation.files.iter().find(|f| f.class == RowClass::Clean);
    let stem = file.or(relation.files.first()).and_then(|f| {
        let name = f.path.strip_prefix("data/")?;
        // A stem may have a dot in it, and no ".copy" behind one.
        let end = name.rfind(".copy").unwrap_or(name.len());
        // The rejects are files of one folder.
        Some(name[..end].to_owned()).filter(|stem| !stem.contains('/'))
    });
    let columns = match relation.columns.split_first() {
        Some((oid, columns)) if oid.attnum < 0 => columns,
        _ => &relation.columns,
    };
    Table {
        stem: stem.unwrap_or_else(|| relation.oid.to_string()),
        qualified: qualified(&relation.schema, &relation.name),
        columns: columns.iter().map(|c| c.name.clone()).collect(),
        with_oids: columns.len() < relation.columns.len(),
        bytes: relation.files.iter().map(|f| f.bytes).sum(),
        relation: relation.clone(),
    }
}

/// As the selection wants it.
fn described(relation: &manifest::Relation) -> inventory::Relation {
    let kind = match relation.kind {
        RelationKind::Table => inventory::RelationKind::Table,
        RelationKind::Matview => inventory::RelationKind::Matview,
        RelationKind::Sequence => inventory::RelationKind::Sequence,
        RelationKind::LargeObjects => inventory::RelationKind::LargeObjects,
        RelationKind::LargeObjectMetadata => inventory::RelationKind::LargeObjectMetadata,
        RelationKind::PartitionedTable => inventory::RelationKind::PartitionedTable,
        RelationKind::View => inventory::RelationKind::View,
        RelationKind::ForeignTable => inventory::RelationKind::ForeignTable,
    };
    let (schema, name) = (relation.schema.as_str().into(), relation.name.as_str().into());
    inventory::Relation::named(relation.oid, schema, name, kind)
}

fn read_manifest(dir: &Path) -> Result<Manifest, RestoreError> {
    let path = dir.join("manifest.json");
    let shown = dir.display();
    if !dir.is_dir() {
        return Err(RestoreError::Usage(format!("there is no directory \"{shown}\"")));
    }
    let bytes = std::fs::read(&path).map_err(|e| {
        RestoreError::Usage(match dir.join("journal").is_file() {
            true => format!(
                "the dump in \"{shown}\" has not ended: go on with it first (pg_salvage dump \
                 --resume)"
            ),
            false => {
                format!(
                    "\"{shown}\" is no dump of pg_salvage: could not read its manifest.json: {e}"
                )
            }
        })
    })?;
    Manifest::from_json(&bytes).map_err(|e| RestoreError::Manifest(path.display().to_string(), e))
}

fn read_archive(dir: &Path) -> Result<Option<Archive>, RestoreError> {
    let path = dir.join(TOC);
    let failed = |why: String| {
        RestoreError::Usage(format!(
            "could not read \"{}\": {why} (--data-only does without)",
            path.display()
        ))
    };
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e.to_string())),
        Ok(metadata) if metadata.len() > archive::BYTES_MAX => {
            return Err(failed("it is too large".to_owned()));
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(&path).map_err(|e| failed(e.to_string()))?;
    Archive::read(&bytes).map(Some).map_err(|e| failed(e.to_string()))
}

/// The archive says `SET client_encoding = 'UTF8';`.
fn encoding_of(archive: &Archive) -> Option<String> {
    let entry = archive.entries.iter().find(|e| e.desc == "ENCODING")?;
    let name = entry.definition().split(|b| *b == b'\'').nth(1)?;
    Some(name.to_str().ok()?.to_owned())
}

fn check_names(manifest: &Manifest, options: &RestoreOptions) -> Result<(), RestoreError> {
    let relations = manifest.relations.iter().map(described).collect();
    let inventory = inventory::Inventory { relations, damaged: Vec::new() };
    let patterns = [&options.selection.schemas, &options.selection.tables];
    let asked = patterns.iter().any(|p| !p.is_empty());
    let missed = match options.strict_names {
        true => options.selection.unmatched(&inventory),
        false if asked && !options.selection.matches_any(&inventory) => {
            Some("no relation of the dump matches".to_owned())
        }
        false => None,
    };
    missed.map_or(Ok(()), |why| Err(RestoreError::Usage(why)))
}
