//! What the inventory holds: the relations of a database, as the catalogs
//! describe them, and which of them a run is about.

use super::fault::Words;
use super::pattern::Pattern;
use crate::heap::Loss;
use crate::page;
use bstr::BString;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelationKind {
    /// A table, a leaf partition or an inheritance child.
    Table,
    Matview,
    Sequence,
    /// `pg_catalog.pg_largeobject`: the pages of all large objects.
    LargeObjects,
    /// `pg_catalog.pg_largeobject_metadata`: their owners and rights.
    LargeObjectMetadata,
    PartitionedTable,
    View,
    ForeignTable,
}

impl RelationKind {
    /// As it is called in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Matview => "matview",
            Self::Sequence => "sequence",
            Self::LargeObjects => "large_objects",
            Self::LargeObjectMetadata => "large_object_metadata",
            Self::PartitionedTable => "partitioned_table",
            Self::View => "view",
            Self::ForeignTable => "foreign_table",
        }
    }

    /// Whether it has rows in files of its own.
    pub fn has_rows(self) -> bool {
        matches!(self, Self::Table | Self::Matview | Self::LargeObjects | Self::LargeObjectMetadata)
    }

    pub fn is_large_objects(self) -> bool {
        matches!(self, Self::LargeObjects | Self::LargeObjectMetadata)
    }
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: BString,
    pub attnum: i16,
    /// The type's name, with its schema if that is not pg_catalog.
    pub type_name: BString,
}

/// An attribute as it lies in a tuple: dropped and generated ones have their
/// place, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub attnum: i16,
    /// `attlen`: -1 a varlena, -2 a cstring.
    pub len: i16,
    /// `attalign`: `c`, `s`, `i` or `d`.
    pub align: u8,
    /// The type; of a domain the type below it. 0: dropped.
    pub type_oid: u32,
}

#[derive(Clone, Debug)]
pub struct Sequence {
    pub start: i64,
    pub increment: i64,
    /// The columns that it feeds: tables and attribute numbers.
    pub feeds: Vec<(u32, i16)>,
}

/// One row of pg_class and what belongs to it.
#[derive(Clone, Debug)]
pub struct Relation {
    pub oid: u32,
    pub schema: BString,
    pub name: BString,
    pub kind: RelationKind,
    pub unlogged: bool,
    pub temporary: bool,
    /// `relpages`: a hint; 0 until the first VACUUM or ANALYZE.
    pub pages_estimated: u32,
    /// `relallvisible`.
    pub all_visible_estimated: u32,
    /// `reltuples`; 0 where nobody counted.
    pub rows_estimated: u64,
    pub toast: Option<u32>,
    pub toast_pages_estimated: u32,
    /// Whether it is a partition of something.
    pub partition: bool,
    /// Of a materialised view: whether it was filled.
    pub populated: bool,
    /// Whether its access method is heap, so that a ctid is a place in it.
    pub heap: bool,
    pub row_security: bool,
    /// `relfilenode` in the snapshot; none where the relation is mapped.
    pub filenode: Option<u32>,
    /// Whether it belongs to an extension.
    pub extension: bool,
    /// In attnum order; what COPY reads.
    pub columns: Vec<Column>,
    /// Generated columns: COPY could not load them back.
    pub left_out: Vec<Column>,
    /// How many attributes it has, dropped ones included (`relnatts`).
    pub attributes: u16,
    /// All attributes in physical order.
    pub physical: Vec<Attribute>,
    pub sequence: Option<Sequence>,
    /// Why it cannot be read, where the catalogs are too damaged to say what it
    /// is.
    pub undescribed: Option<String>,
}

impl Relation {
    /// How its tuples are laid out. None: the catalog makes no sense.
    pub fn layout(&self) -> Option<Vec<page::Attribute>> {
        let attribute =
            |a: &Attribute| Some(page::Attribute { len: a.len, align: page::Align::of(a.align)? });
        self.physical.iter().map(attribute).collect()
    }

    /// The place of a column among all attributes, and its type.
    pub fn place_of(&self, attnum: i16) -> Option<(usize, u32)> {
        let place = self.physical.iter().position(|a| a.attnum == attnum)?;
        Some((place, self.physical[place].type_oid))
    }

    /// One of which nothing else is known.
    pub fn named(oid: u32, schema: BString, name: BString, kind: RelationKind) -> Self {
        Self {
            oid,
            schema,
            name,
            kind,
            unlogged: false,
            temporary: false,
            pages_estimated: 0,
            all_visible_estimated: 0,
            rows_estimated: 0,
            toast: None,
            toast_pages_estimated: 0,
            partition: false,
            populated: true,
            heap: true,
            row_security: false,
            filenode: None,
            extension: false,
            columns: Vec::new(),
            left_out: Vec::new(),
            attributes: 0,
            physical: Vec::new(),
            sequence: None,
            undescribed: None,
        }
    }

    /// `schema.name`, for people.
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Why it is not read, if it is not. `in_recovery`: the server is a standby.
    pub fn not_read(&self, in_recovery: bool) -> Option<&'static str> {
        match self.kind {
            RelationKind::PartitionedTable => {
                Some("has no rows of its own: its partitions are read")
            }
            RelationKind::View => Some("has no rows of its own"),
            RelationKind::ForeignTable => Some("its rows are on another server"),
            _ if self.unlogged && in_recovery => Some("unlogged: a standby does not have its rows"),
            _ if self.temporary => Some("temporary table of another session"),
            RelationKind::Matview if !self.populated => Some("has not been populated"),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pub relations: Vec<Relation>,
    /// Catalogs of which something could not be read.
    pub damaged: Vec<CatalogDamage>,
}

impl Inventory {
    /// How much of the catalogs is missing: how many were not read to their
    /// end, and places lost.
    pub fn missing(&self) -> (usize, usize) {
        let short = self.damaged.iter().filter(|d| !d.to_its_end).count();
        (short, self.damaged.iter().map(|d| d.lost.len()).sum())
    }
}

/// What could not be read of a catalog.
#[derive(Clone, Debug)]
pub struct CatalogDamage {
    pub catalog: &'static str,
    pub lost: Vec<CatalogLoss>,
    /// Whether all but `lost` was read: else only what came before the damage.
    pub to_its_end: bool,
}

#[derive(Clone, Debug)]
pub struct CatalogLoss {
    /// None: all behind the last row that came.
    pub at: Option<Loss>,
    pub words: Words,
}

impl fmt::Display for CatalogDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { catalog, lost, to_its_end } = self;
        let places = lost.iter().filter(|l| l.at.is_some()).count();
        match (to_its_end, places) {
            (true, 0) => write!(f, "catalog \"{catalog}\" is not whole"),
            (true, _) => write!(f, "{places} places of catalog \"{catalog}\" could not be read"),
            (false, _) => write!(f, "catalog \"{catalog}\" could not be read to its end"),
        }?;
        for words in lost.last().map(|l| l.words.one_line()).iter() {
            write!(f, ": {words}")?;
        }
        write!(f, "; what it says of some relations is not known")
    }
}

/// Which relations a run is about; as pg_dump's options of the same names.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub schemas: Vec<Pattern>,
    pub not_schemas: Vec<Pattern>,
    pub tables: Vec<Pattern>,
    pub not_tables: Vec<Pattern>,
    /// Large objects although schemas or tables were chosen.
    pub large_objects: bool,
}

impl Selection {
    /// As pg_dump decides: `-t` alone decides if given; `-T` always takes out;
    /// large objects belong to a dump of everything.
    pub fn takes(&self, relation: &Relation) -> bool {
        if relation.kind.is_large_objects() {
            return self.takes_large_objects();
        }
        let table = |p: &Pattern| p.matches_relation(&relation.schema, &relation.name);
        let schema = |p: &Pattern| p.matches_schema(&relation.schema);
        if self.not_tables.iter().any(table) {
            return false;
        }
        if !self.tables.is_empty() {
            return self.tables.iter().any(table);
        }
        (self.schemas.is_empty() || self.schemas.iter().any(schema))
            && !self.not_schemas.iter().any(schema)
    }

    pub fn takes_large_objects(&self) -> bool {
        (self.tables.is_empty() && self.schemas.is_empty()) || self.large_objects
    }

    /// The first pattern of `-n` or `-t` that nothing matches.
    pub fn unmatched(&self, inventory: &Inventory) -> Option<String> {
        let all = || inventory.relations.iter().filter(|r| !r.kind.is_large_objects());
        let schema = self.schemas.iter().find(|p| !all().any(|r| p.matches_schema(&r.schema)));
        let table =
            self.tables.iter().find(|p| !all().any(|r| p.matches_relation(&r.schema, &r.name)));
        schema
            .map(|p| format!("no matching schemas were found for pattern \"{}\"", p.as_str()))
            .or_else(|| {
                table.map(|p| {
                    format!("no matching tables were found for pattern \"{}\"", p.as_str())
                })
            })
    }

    /// Whether anything with a name of its own is taken.
    pub fn matches_any(&self, inventory: &Inventory) -> bool {
        inventory.relations.iter().any(|r| !r.kind.is_large_objects() && self.takes(r))
    }

    /// Whether it chooses at all.
    pub fn is_everything(&self) -> bool {
        self.schemas.is_empty()
            && self.tables.is_empty()
            && self.not_schemas.is_empty()
            && self.not_tables.is_empty()
    }
}
