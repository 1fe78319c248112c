//! The table of contents of a `pg_dump` archive in its directory format
//! (`toc.dat`): its bytes, and what they say.
//!
//! Pure: it opens no file and knows no server. Names and statements are bytes,
//! since a database in SQL_ASCII may hold any. Of an archive that is read all is
//! kept, so that it is written back as the same bytes; what could not be is
//! refused.

mod read;
mod write;

use bstr::BString;

pub use read::ReadError;

/// What the header of a directory archive has as its format: `pg_dump` writes
/// that of tar, of which this is the table of contents, too.
pub const FORMAT: u8 = 3;

/// `pg_dump` writes the integers of its own machine, and those have four bytes
/// wherever PostgreSQL runs.
pub const INT_SIZE: u8 = 4;

/// More than any table of contents has; whoever reads a file looks at its length
/// first.
pub const BYTES_MAX: u64 = 1 << 30;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    pub version: Version,
    /// Bytes of an integer; always [`INT_SIZE`].
    pub int_size: u8,
    /// Bytes of an offset, of which there are none in this format.
    pub off_size: u8,
    pub format: u8,
    pub compression: Compression,
    pub created: Created,
    /// The database that was read.
    pub database: Option<BString>,
    /// What the server said of its version, and the client of its own.
    pub server_version: Option<BString>,
    pub dump_version: Option<BString>,
    pub entries: Vec<Entry>,
}

/// The version of the archive format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u8,
    pub minor: u8,
    pub revision: u8,
}

impl Version {
    /// Large objects as they are now (PostgreSQL 9.0).
    pub const OLDEST: Self = Self::of(12);
    /// `pg_dump` of 12 to 15 writes it, and all that are newer read it: entries have
    /// a table access method.
    pub const TABLE_AM: Self = Self::of(14);
    /// 16: the header names the method of compression.
    pub const METHOD: Self = Self::of(15);
    /// 17 and 18: entries have a relkind, and large objects come in groups.
    pub const RELKIND: Self = Self::of(16);

    const fn of(minor: u8) -> Self {
        Self { major: 1, minor, revision: 0 }
    }
}

/// What the header says of how data is compressed. What a data file is, its name
/// says: this is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Before archive version 1.15: the level of gzip, 0 for none, -1 for its default.
    Level(i32),
    /// From then on: 0 none, 1 gzip, 2 lz4, 3 zstd.
    Method(u8),
}

/// When the dump began, in the local time of the client, as C's `struct tm` has
/// it: months from 0 on, years from 1900 on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Created {
    pub second: i32,
    pub minute: i32,
    pub hour: i32,
    pub day: i32,
    pub month: i32,
    pub year: i32,
    pub is_dst: i32,
}

/// At which step of a restore an entry is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Of no step: comments and rights, which go with what they are of.
    None = 1,
    PreData = 2,
    Data = 3,
    PostData = 4,
}

/// The three passes of a restore: rights come after what they are for, and what
/// acts by itself last of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Objects,
    Rights,
    Last,
}

/// One thing that can be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// By this others depend on it; 1 or more.
    pub dump_id: i32,
    /// Whether it has data of its own, in a file.
    pub had_dumper: bool,
    /// The catalog that the object is in, and its OID there; 0 for neither.
    pub catalog: u32,
    pub oid: u32,
    /// Its name, for people and for the selections of `pg_restore`.
    pub tag: BString,
    /// What it is: `TABLE`, `TABLE DATA`, `FK CONSTRAINT`.
    pub desc: BString,
    pub section: Section,
    pub defn: Option<BString>,
    pub drop_stmt: Option<BString>,
    /// What comes before the rows of its file.
    pub copy_stmt: Option<BString>,
    pub namespace: Option<BString>,
    pub tablespace: Option<BString>,
    /// From archive version 1.14 on.
    pub table_am: Option<BString>,
    /// From archive version 1.16 on; 0 where it is no relation.
    pub relkind: i32,
    pub owner: Option<BString>,
    pub with_oids: bool,
    /// What must be there before it.
    pub dependencies: Vec<i32>,
    /// Its file, from the directory on; the suffix of compressed files may be
    /// left out.
    pub file: Option<BString>,
}

/// Kinds of objects that have an owner of their own.
const OWNED: &[&str] = &[
    "AGGREGATE",
    "COLLATION",
    "CONVERSION",
    "DOMAIN",
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "FOREIGN TABLE",
    "FUNCTION",
    "MATERIALIZED VIEW",
    "OPERATOR",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE",
    "PROCEDURE",
    "PUBLICATION",
    "SCHEMA",
    "SEQUENCE",
    "SERVER",
    "STATISTICS",
    "SUBSCRIPTION",
    "TABLE",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
    "TYPE",
    "VIEW",
];

impl Entry {
    /// An entry that says nothing yet but what it is.
    pub fn new(dump_id: i32, desc: &str, tag: impl Into<BString>, section: Section) -> Self {
        Self {
            dump_id,
            had_dumper: false,
            catalog: 0,
            oid: 0,
            tag: tag.into(),
            desc: desc.into(),
            section,
            defn: Some(BString::default()),
            drop_stmt: Some(BString::default()),
            copy_stmt: None,
            namespace: None,
            tablespace: None,
            table_am: None,
            relkind: 0,
            owner: Some(BString::default()),
            with_oids: false,
            dependencies: Vec::new(),
            file: None,
        }
    }

    /// Whether it is of a kind that has an owner of its own.
    pub fn is_owned(&self) -> bool {
        OWNED.iter().any(|desc| self.desc == *desc)
    }

    /// When it is restored: as `pg_restore` has it.
    pub fn pass(&self) -> Pass {
        match self.desc.as_slice() {
            b"ACL" | b"ACL LANGUAGE" | b"DEFAULT ACL" => Pass::Rights,
            b"EVENT TRIGGER" | b"MATERIALIZED VIEW DATA" => Pass::Last,
            // What is said of an event trigger goes with it.
            b"COMMENT" | b"SECURITY LABEL" if self.tag.starts_with(b"EVENT TRIGGER ") => Pass::Last,
            _ => Pass::Objects,
        }
    }

    /// Whether it is of the database itself, and made only with it.
    pub fn is_of_database(&self) -> bool {
        matches!(self.desc.as_slice(), b"DATABASE" | b"DATABASE PROPERTIES")
            || (self.section == Section::None && self.tag.starts_with(b"DATABASE "))
    }

    /// Its statements, if it has any.
    pub fn definition(&self) -> &[u8] {
        self.defn.as_ref().map_or(&[], |defn| defn.as_slice())
    }
}

impl Archive {
    /// The bytes of a `toc.dat`, and what they say.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        read::archive(bytes)
    }

    /// The bytes of the `toc.dat`. What the version of the archive has no place
    /// for is left out.
    pub fn write(&self) -> Vec<u8> {
        write::archive(self)
    }

    /// A dump id that no entry has, and nobody depends on.
    pub fn next_dump_id(&self) -> i32 {
        let of_entry = |e: &Entry| e.dependencies.iter().copied().max().unwrap_or(0).max(e.dump_id);
        self.entries.iter().map(of_entry).max().unwrap_or(0).saturating_add(1)
    }
}

#[cfg(test)]
mod tests;
