//! The bytes of a `toc.dat` as an [`Archive`].
//!
//! They may be anything: nothing is read that is not there, and nothing is set
//! aside for more than could still come. Only what [`super::write`] would write
//! the same is taken.

use super::{Archive, Compression, Created, Entry, FORMAT, INT_SIZE, Section, Version};
use bstr::BString;

/// What every directory archive begins with.
pub(super) const MAGIC: &[u8] = b"PGDMP";

/// An entry has at least this many bytes: nine integers and ten strings, most of
/// which may be NULL.
const ENTRY_BYTES_MIN: usize = 80;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("it is no table of contents of a pg_dump archive")]
    NotAnArchive,
    #[error("archive version {0}.{1} is not known")]
    Version(u8, u8),
    #[error("it has integers of {0} bytes")]
    IntSize(u8),
    #[error("it is of an archive in another format than pg_dump's directory format")]
    Format,
    #[error("it ends at byte {0}, in the middle of {1}")]
    Short(usize, &'static str),
    #[error("{1} at byte {0} is not what pg_dump writes")]
    Insane(usize, &'static str),
    #[error("{0} bytes follow after its last entry")]
    Longer(usize),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

pub(super) fn archive(bytes: &[u8]) -> Result<Archive, ReadError> {
    if !bytes.starts_with(MAGIC) {
        return Err(ReadError::NotAnArchive);
    }
    let mut reader = Reader { bytes, at: MAGIC.len() };
    let mut archive = reader.header()?;
    let at = reader.at;
    let count = usize::try_from(reader.int("the number of entries")?)
        .map_err(|_| ReadError::Insane(at, "the number of entries"))?;
    if count > reader.left() / ENTRY_BYTES_MIN {
        return Err(ReadError::Insane(at, "the number of entries"));
    }
    archive.entries.reserve_exact(count);
    for _ in 0..count {
        archive.entries.push(reader.entry(archive.version)?);
    }
    match reader.left() {
        0 => Ok(archive),
        left => Err(ReadError::Longer(left)),
    }
}

impl<'a> Reader<'a> {
    fn header(&mut self) -> Result<Archive, ReadError> {
        let (major, minor) = (self.byte("its version")?, self.byte("its version")?);
        let version = Version { major, minor, revision: self.byte("its version")? };
        if version.major != 1 || !(Version::OLDEST.minor..=Version::RELKIND.minor).contains(&minor)
        {
            return Err(ReadError::Version(version.major, version.minor));
        }
        let int_size = self.byte("the size of integers")?;
        if int_size != INT_SIZE {
            return Err(ReadError::IntSize(int_size));
        }
        let off_size = self.byte("the size of offsets")?;
        let format = self.byte("its format")?;
        if format != FORMAT {
            return Err(ReadError::Format);
        }
        let compression = if version >= Version::METHOD {
            Compression::Method(self.byte("the method of compression")?)
        } else {
            Compression::Level(self.int("the level of compression")?)
        };
        let created = self.created()?;
        Ok(Archive {
            version,
            int_size,
            off_size,
            format,
            compression,
            created,
            database: self.string("the name of the database")?,
            server_version: self.string("the version of the server")?,
            dump_version: self.string("the version of pg_dump")?,
            entries: Vec::new(),
        })
    }

    fn created(&mut self) -> Result<Created, ReadError> {
        let mut next = || self.int("the time of the dump");
        // In this order they are in the file.
        let (second, minute, hour) = (next()?, next()?, next()?);
        let (day, month, year, is_dst) = (next()?, next()?, next()?, next()?);
        Ok(Created { second, minute, hour, day, month, year, is_dst })
    }

    fn entry(&mut self, version: Version) -> Result<Entry, ReadError> {
        let at = self.at;
        let dump_id = self.int("a dump id")?;
        if dump_id < 1 {
            return Err(ReadError::Insane(at, "a dump id"));
        }
        let had_dumper = self.flag("whether an entry has data")?;
        let (catalog, oid) = (self.oid()?, self.oid()?);
        Ok(Entry {
            dump_id,
            had_dumper,
            catalog,
            oid,
            tag: self.known("a tag")?,
            desc: self.known("a description")?,
            section: self.section()?,
            defn: self.string("a definition")?,
            drop_stmt: self.string("a DROP statement")?,
            copy_stmt: self.string("a COPY statement")?,
            namespace: self.string("a schema")?,
            tablespace: self.string("a tablespace")?,
            table_am: match version >= Version::TABLE_AM {
                true => self.string("a table access method")?,
                false => None,
            },
            relkind: match version >= Version::RELKIND {
                true => self.int("a relkind")?,
                false => 0,
            },
            owner: self.string("an owner")?,
            with_oids: self.with_oids()?,
            dependencies: self.dependencies()?,
            file: Some(self.known("a file name")?).filter(|name| !name.is_empty()),
        })
    }

    fn dependencies(&mut self) -> Result<Vec<i32>, ReadError> {
        let mut dependencies = Vec::new();
        loop {
            let at = self.at;
            let Some(text) = self.string("a dependency")? else { return Ok(dependencies) };
            let id = canonical(&text).and_then(|text| text.parse::<i32>().ok());
            dependencies.push(id.ok_or(ReadError::Insane(at, "a dependency"))?);
        }
    }

    fn with_oids(&mut self) -> Result<bool, ReadError> {
        let at = self.at;
        match self.known("whether a table has OIDs")?.as_slice() {
            b"true" => Ok(true),
            b"false" => Ok(false),
            _ => Err(ReadError::Insane(at, "whether a table has OIDs")),
        }
    }

    fn section(&mut self) -> Result<Section, ReadError> {
        let at = self.at;
        match self.int("a section")? {
            1 => Ok(Section::None),
            2 => Ok(Section::PreData),
            3 => Ok(Section::Data),
            4 => Ok(Section::PostData),
            _ => Err(ReadError::Insane(at, "a section")),
        }
    }

    /// An OID, which is written as text.
    fn oid(&mut self) -> Result<u32, ReadError> {
        let at = self.at;
        let text = self.known("an OID")?;
        let oid = canonical(&text).and_then(|text| text.parse().ok());
        oid.ok_or(ReadError::Insane(at, "an OID"))
    }

    fn flag(&mut self, what: &'static str) -> Result<bool, ReadError> {
        let at = self.at;
        match self.int(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ReadError::Insane(at, what)),
        }
    }

    /// A string that must not be NULL.
    fn known(&mut self, what: &'static str) -> Result<BString, ReadError> {
        let at = self.at;
        self.string(what)?.ok_or(ReadError::Insane(at, what))
    }

    fn string(&mut self, what: &'static str) -> Result<Option<BString>, ReadError> {
        let at = self.at;
        let length = match self.int(what)? {
            -1 => return Ok(None),
            length => usize::try_from(length).map_err(|_| ReadError::Insane(at, what))?,
        };
        Ok(Some(self.take(length, what)?.into()))
    }

    /// A byte for the sign, then the least byte first.
    fn int(&mut self, what: &'static str) -> Result<i32, ReadError> {
        let at = self.at;
        let sign = self.byte(what)?;
        let size = usize::from(INT_SIZE);
        let bytes = self.take(size, what)?;
        let absolute = bytes.iter().rev().fold(0_i64, |value, &b| (value << 8) | i64::from(b));
        let value = match (sign, absolute) {
            (0, value) => value,
            (1, 1..) => -absolute,
            _ => return Err(ReadError::Insane(at, what)),
        };
        i32::try_from(value).map_err(|_| ReadError::Insane(at, what))
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, ReadError> {
        let bytes = self.take(1, what)?;
        bytes.first().copied().ok_or(ReadError::Short(self.at, what))
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], ReadError> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..length));
        let taken = taken.ok_or(ReadError::Short(self.bytes.len(), what))?;
        self.at += length;
        Ok(taken)
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }
}

/// The text of a number, if it is written in the one way that a number has.
fn canonical(text: &BString) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_one = digits.bytes().all(|b| b.is_ascii_digit())
        && (!digits.starts_with('0') || text == "0")
        && !digits.is_empty();
    is_one.then_some(text)
}
