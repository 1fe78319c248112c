//! The schema in statements of our own, for where pg_dump fails: what the
//! catalogs and the server's `pg_get_*def` functions say of each object.
//!
//! Objects of a kind are asked for together and, where that fails, each by
//! itself: one that cannot be described is lost, and no other. What comes out
//! are the entries of an archive, in an order in which they can be restored.
//! What is rare, and what is no part of the shape of the data, is left out.

mod constraints;
mod functions;
mod order;
mod rows;
mod sequences;
mod tables;
mod types;
mod views;

use super::fault::{FIRST_NORMAL_OID, Words, is_refusal};
use super::inventory::Relation;
use super::session::{ReadError, Session};
use super::sql::{ident, literal};
use crate::archive::{Entry, Section};
use order::Depend;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What is not described, for people.
pub const LEFT_OUT: &str = "left out of the schema: comments, privileges, row security, operators, \
    aggregates, casts, collations, text search, foreign servers and tables, publications, \
    subscriptions, event triggers, extended statistics, base types, canonical functions and operator \
    classes of ranges, and settings of columns";

/// Single objects are then found without a look at the others.
const BY_INDEXES: &str =
    "SET enable_indexscan TO on; SET enable_indexonlyscan TO on; SET enable_seqscan TO off";

/// OIDs of system catalogs (`catalog/pg_*.h`).
mod catalog {
    pub(super) const ATTRDEF: u32 = 2604;
    pub(super) const CLASS: u32 = 1259;
    pub(super) const CONSTRAINT: u32 = 2606;
    pub(super) const EXTENSION: u32 = 3079;
    pub(super) const NAMESPACE: u32 = 2615;
    pub(super) const PROC: u32 = 1255;
    pub(super) const REWRITE: u32 = 2618;
    pub(super) const TRIGGER: u32 = 2620;
    pub(super) const TYPE: u32 = 1247;
}

/// An object that could not be described.
#[derive(Clone, Debug)]
pub struct Lost {
    pub kind: &'static str,
    pub name: String,
    pub words: Words,
}

/// What could be described.
#[derive(Debug, Default)]
pub struct Described {
    pub entries: Vec<Entry>,
    pub lost: Vec<Lost>,
    /// Whether something was lost to damage, and not for want of rights.
    pub is_damaged: bool,
}

/// An object, with its catalog and OID in the entry.
struct Item {
    entry: Entry,
    /// Kinds come in this order where nothing else decides.
    rank: u8,
    /// Objects that it needs, beside what pg_depend says.
    needs: Vec<(u32, u32)>,
}

struct Ddl<'a> {
    session: &'a Session,
    version: u32,
    /// The selected relations, by their OIDs.
    relations: BTreeMap<u32, &'a Relation>,
    depends: Vec<Depend>,
    /// Members of extensions, which come with them.
    of_extension: HashSet<(u32, u32)>,
    items: Vec<Item>,
    /// What is a part of another object: row types, defaults, rules.
    parts: HashMap<(u32, u32), (u32, u32)>,
    lost: Vec<Lost>,
    is_damaged: bool,
}

/// Describes the objects of the database. `everything`: more is wanted than
/// these relations. `Err`: the session is lost.
pub async fn describe(
    session: &Session,
    relations: &[Relation],
    everything: bool,
) -> Result<Described, ReadError> {
    session.execute(BY_INDEXES).await?;
    session.save().await?;
    let mut ddl = Ddl {
        session,
        version: session.server().version,
        relations: relations.iter().map(|r| (r.oid, r)).collect(),
        depends: Vec::new(),
        of_extension: HashSet::new(),
        items: Vec::new(),
        parts: HashMap::new(),
        lost: Vec::new(),
        is_damaged: false,
    };
    ddl.read_depend().await?;
    if everything {
        ddl.schemas().await?;
        ddl.extensions().await?;
        ddl.types().await?;
        ddl.functions().await?;
    }
    ddl.tables().await?;
    ddl.sequences().await?;
    ddl.views().await?;
    ddl.constraints().await?;
    ddl.indexes().await?;
    ddl.triggers().await?;
    let entries = order::entries(ddl.items, &ddl.depends, &ddl.parts);
    Ok(Described { entries, lost: ddl.lost, is_damaged: ddl.is_damaged })
}

/// Where an object is: its schema and name, unquoted, and both quoted.
struct Name {
    schema: String,
    name: String,
    qualified: String,
}

impl Name {
    fn new(schema: &str, name: &str) -> Self {
        let qualified = format!("{}.{}", ident(schema), ident(name));
        Self { schema: schema.to_owned(), name: name.to_owned(), qualified }
    }

    fn is_system(&self) -> bool {
        is_system(&self.schema)
    }
}

fn is_system(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema"
}

impl Ddl<'_> {
    /// Adds an object. Its dump id comes with the order.
    fn add(
        &mut self,
        (rank, desc, section): (u8, &str, Section),
        (catalog, oid): (u32, u32),
        name: &Name,
        owner: &str,
        defn: String,
    ) -> &mut Item {
        let mut entry = Entry::new(0, desc, name.name.as_str(), section);
        entry.catalog = catalog;
        entry.oid = oid;
        entry.defn = Some(defn.into());
        entry.namespace = Some(name.schema.as_str().into()).filter(|_| !name.schema.is_empty());
        entry.owner = Some(owner.into());
        self.items.push(Item { entry, rank, needs: Vec::new() });
        let last = self.items.len() - 1;
        &mut self.items[last]
    }

    fn lose(&mut self, kind: &'static str, name: String, words: &Words) {
        self.is_damaged |= !is_refusal(words);
        self.lost.push(Lost { kind, name, words: words.clone() });
    }

    fn is_of_extension(&self, catalog: u32, oid: u32) -> bool {
        self.of_extension.contains(&(catalog, oid))
    }

    async fn schemas(&mut self) -> Result<(), ReadError> {
        let of = |filter: &str| {
            format!(
                "SELECT x.oid, x.nspname, pg_catalog.pg_get_userbyid(x.nspowner) \
                 FROM pg_catalog.pg_namespace x WHERE true{filter}"
            )
        };
        let list = "SELECT x.oid, x.nspname FROM pg_catalog.pg_namespace x";
        for row in self.objects("SCHEMA", of, list, None).await? {
            let (oid, schema) = (row.oid(), row.text(1));
            if is_system(schema)
                || schema == "public"
                || self.is_of_extension(catalog::NAMESPACE, oid)
            {
                continue;
            }
            let name =
                Name { schema: String::new(), name: schema.to_owned(), qualified: ident(schema) };
            let defn = format!("CREATE SCHEMA {};\n", name.qualified);
            let at = (0, "SCHEMA", Section::PreData);
            let item = self.add(at, (catalog::NAMESPACE, oid), &name, row.text(2), defn);
            item.entry.drop_stmt = Some(format!("DROP SCHEMA {};\n", name.qualified).into());
        }
        Ok(())
    }

    async fn extensions(&mut self) -> Result<(), ReadError> {
        let of = |filter: &str| {
            format!(
                "SELECT x.oid, x.extname, x.extnamespace::pg_catalog.regnamespace \
                 FROM pg_catalog.pg_extension x WHERE x.oid::pg_catalog.int8 >= {FIRST_NORMAL_OID}{filter}"
            )
        };
        let list = "SELECT x.oid, x.extname FROM pg_catalog.pg_extension x";
        for row in self.objects("EXTENSION", of, list, None).await? {
            let extension = row.text(1);
            let name = Name {
                schema: String::new(),
                name: extension.to_owned(),
                qualified: ident(extension),
            };
            let schema = match row.text(2) {
                "pg_catalog" => String::new(),
                schema => format!(" WITH SCHEMA {schema}"),
            };
            let defn = format!("CREATE EXTENSION IF NOT EXISTS {}{schema};\n", name.qualified);
            let at = (1, "EXTENSION", Section::PreData);
            self.add(at, (catalog::EXTENSION, row.oid()), &name, "", defn);
        }
        Ok(())
    }
}

/// The `SET` entries that an archive begins with.
pub fn preamble(encoding: &str) -> Vec<Entry> {
    let settings = [
        ("ENCODING", format!("SET client_encoding = {};\n", literal(encoding))),
        ("STDSTRINGS", "SET standard_conforming_strings = 'on';\n".to_owned()),
        ("SEARCHPATH", "SELECT pg_catalog.set_config('search_path', '', false);\n".to_owned()),
    ];
    let entry = |(desc, defn): (&str, String)| {
        let mut entry = Entry::new(0, desc, desc, Section::PreData);
        (entry.defn, entry.drop_stmt) = (Some(defn.into()), None);
        (entry.owner, entry.table_am) = (None, None);
        entry
    };
    settings.into_iter().map(entry).collect()
}
