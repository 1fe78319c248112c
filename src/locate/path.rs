//! Files of relations as the server's words name them, and where in them a block
//! lies. Pure arithmetic.

use crate::server::files::segment_path;
use regex::bytes::{Captures, Regex};
use std::fmt;
use std::sync::LazyLock;

/// How a path of a relation is written, as a part of other patterns.
pub(super) const PATH: &str = r#""?(?P<path>(?:[^"\r\n]*/)?(?:base/\d{1,10}|global|pg_tblspc/\d{1,10}/PG_[0-9A-Za-z_.]{1,40}/\d{1,10})/(?:t\d{1,10}_)?\d{1,10}(?:_(?:fsm|vm|init))?(?:\.\d{1,10})?)"?"#;

/// `pg_default` and `pg_global` (`pg_tablespace.dat`).
pub(super) const DEFAULT_TABLESPACE: u32 = 1663;
pub(super) const GLOBAL_TABLESPACE: u32 = 1664;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    Main,
    FreeSpaceMap,
    VisibilityMap,
    Init,
}

impl Fork {
    pub fn suffix(self) -> &'static str {
        match self {
            Fork::Main => "",
            Fork::FreeSpaceMap => "_fsm",
            Fork::VisibilityMap => "_vm",
            Fork::Init => "_init",
        }
    }

    /// As `pg_relation_size` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Fork::Main => "main",
            Fork::FreeSpaceMap => "fsm",
            Fork::VisibilityMap => "vm",
            Fork::Init => "init",
        }
    }
}

/// One fork of a relation, by its files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationFile {
    pub tablespace: u32,
    /// 0: shared by all databases.
    pub database: u32,
    pub filenode: u32,
    pub fork: Fork,
    /// Of a temporary relation: the number of the backend.
    pub backend: Option<u32>,
    /// `PG_15_202209061`, in a tablespace of its own.
    folder: Option<String>,
}

impl RelationFile {
    /// Of `base/5/16468_vm.1`, in a longer path too: the fork, and the segment
    /// if one is named.
    pub fn parse(path: &str) -> Option<(Self, Option<u32>)> {
        static PARTS: LazyLock<Regex> = LazyLock::new(|| {
            super::pattern(
                r"^(?:[^\x00]*/)?(?:base/(?P<db>\d+)|(?P<global>global)|pg_tblspc/(?P<spc>\d+)/(?P<folder>PG_[0-9A-Za-z_.]+)/(?P<spcdb>\d+))/(?:t(?P<backend>\d+)_)?(?P<node>\d+)(?:_(?P<fork>fsm|vm|init))?(?:\.(?P<seg>\d+))?$",
            )
        });
        let found = PARTS.captures(path.as_bytes())?;
        let tablespace = match (found.name("global"), number(&found, "spc")) {
            (Some(_), _) => GLOBAL_TABLESPACE,
            (None, Some(tablespace)) => tablespace,
            (None, None) if found.name("spc").is_some() => return None,
            (None, None) => DEFAULT_TABLESPACE,
        };
        let database = match tablespace {
            GLOBAL_TABLESPACE => 0,
            _ => number(&found, "db").or_else(|| number(&found, "spcdb"))?,
        };
        let file = Self {
            tablespace,
            database,
            filenode: number(&found, "node")?,
            fork: match found.name("fork").map(|f| f.as_bytes()) {
                Some(b"fsm") => Fork::FreeSpaceMap,
                Some(b"vm") => Fork::VisibilityMap,
                Some(_) => Fork::Init,
                None => Fork::Main,
            },
            backend: number(&found, "backend"),
            folder: found
                .name("folder")
                .map(|f| String::from_utf8_lossy(f.as_bytes()).into_owned()),
        };
        Some((file, number(&found, "seg")))
    }

    /// Another fork of the same relation, if one is asked for.
    #[must_use]
    pub fn of_fork(self, fork: Option<Fork>) -> Self {
        Self { fork: fork.unwrap_or(self.fork), ..self }
    }

    /// The first segment, from the data directory on.
    pub fn path(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for RelationFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.folder, self.tablespace) {
            (Some(folder), spc) => write!(f, "pg_tblspc/{spc}/{folder}/{}/", self.database)?,
            (None, GLOBAL_TABLESPACE) => f.write_str("global/")?,
            (None, _) => write!(f, "base/{}/", self.database)?,
        }
        if let Some(backend) = self.backend {
            write!(f, "t{backend}_")?;
        }
        write!(f, "{}{}", self.filenode, self.fork.suffix())
    }
}

fn number(found: &Captures<'_>, name: &str) -> Option<u32> {
    std::str::from_utf8(found.name(name)?.as_bytes()).ok()?.parse().ok()
}

/// How a cluster was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub block_size: u32,
    /// Blocks in one file.
    pub segment_blocks: u32,
}

impl Default for Geometry {
    fn default() -> Self {
        Self { block_size: 8192, segment_blocks: 131_072 }
    }
}

/// Where a block lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub block: u32,
    pub segment: u32,
    /// The block, counted within the segment.
    pub page: u32,
    /// From the start of the segment's file.
    pub byte: u64,
    /// The segment's file, from the data directory on.
    pub file: String,
}

impl Geometry {
    pub fn place(self, file: &RelationFile, block: u32) -> Place {
        let per_segment = self.segment_blocks.max(1);
        let (segment, page) = (block / per_segment, block % per_segment);
        Place {
            block,
            segment,
            page,
            byte: u64::from(page) * u64::from(self.block_size),
            file: segment_path(&file.to_string(), segment),
        }
    }

    /// The block of a page of a segment.
    pub fn block(self, segment: u32, page: u32) -> Option<u32> {
        segment.checked_mul(self.segment_blocks)?.checked_add(page)
    }
}

/// What a system catalog's file was called by initdb, as its OID: it may have been
/// rewritten since.
pub(super) fn catalog_of_initdb(filenode: u32) -> Option<&'static str> {
    Some(match filenode {
        1247 => "pg_type",
        1249 => "pg_attribute",
        1255 => "pg_proc",
        1259 => "pg_class",
        1260 => "pg_authid",
        1262 => "pg_database",
        2600 => "pg_aggregate",
        2604 => "pg_attrdef",
        2606 => "pg_constraint",
        2608 => "pg_depend",
        2610 => "pg_index",
        2613 => "pg_largeobject",
        2615 => "pg_namespace",
        2617 => "pg_operator",
        2618 => "pg_rewrite",
        2619 => "pg_statistic",
        2620 => "pg_trigger",
        2658 => "pg_attribute_relid_attnam_index",
        2659 => "pg_attribute_relid_attnum_index",
        2662 => "pg_class_oid_index",
        2663 => "pg_class_relname_nsp_index",
        2696 => "pg_statistic_relid_att_inh_index",
        2840 => "pg_toast_2619 (of pg_statistic)",
        2841 => "pg_toast_2619_index (of pg_statistic)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_written_alike() {
        for (path, tablespace, database, filenode, fork, backend, segment) in [
            ("base/16384/99454", 1663, 16384, 99454, Fork::Main, None, None),
            ("base/5/16468_vm", 1663, 5, 16468, Fork::VisibilityMap, None, None),
            ("base/5/16468_fsm.1", 1663, 5, 16468, Fork::FreeSpaceMap, None, Some(1)),
            ("base/5/t3_16468", 1663, 5, 16468, Fork::Main, Some(3), None),
            ("base/5/16468_init", 1663, 5, 16468, Fork::Init, None, None),
            ("global/1262", 1664, 0, 1262, Fork::Main, None, None),
            (
                "pg_tblspc/16400/PG_15_202209061/5/16468.12",
                16400,
                5,
                16468,
                Fork::Main,
                None,
                Some(12),
            ),
        ] {
            let (file, named) = RelationFile::parse(path).expect(path);
            assert_eq!(
                (file.tablespace, file.database, file.filenode),
                (tablespace, database, filenode)
            );
            assert_eq!((file.fork, file.backend, named), (fork, backend, segment), "{path}");
            let suffix = segment.map_or(String::new(), |s| format!(".{s}"));
            assert_eq!(format!("{file}{suffix}"), path);
            let (longer, _) = RelationFile::parse(&format!("/var/lib/pg/{path}")).expect(path);
            assert_eq!(longer, file);
        }
        for path in [
            "",
            "base/5",
            "base/5/16468_xx",
            "base/5/99999999999",
            "base/5/16468.",
            "pg_wal/0001",
            "base/x/5",
            "base/4294967296/1",
        ] {
            assert_eq!(RelationFile::parse(path), None, "{path}");
        }
    }

    #[test]
    fn the_example_of_the_field_comes_out_right() {
        let (file, _) = RelationFile::parse("base/16384/99454").expect("a path");
        let place = Geometry::default().place(&file, 335_458);
        assert_eq!((place.segment, place.page, place.byte), (2, 73_314, 600_588_288));
        assert_eq!((place.file.as_str(), place.byte), ("base/16384/99454.2", 0x23cc_4000));
        assert_eq!(Geometry::default().block(2, 73_314), Some(335_458));
        assert_eq!(Geometry::default().block(u32::MAX, 1), None);
        let large = Geometry { block_size: 32_768, segment_blocks: 32_768 };
        assert_eq!(large.place(&file, 40_000).byte, 7_232 * 32_768);
        assert_eq!(Geometry { block_size: 8192, segment_blocks: 0 }.place(&file, 7).segment, 7);
    }
}
