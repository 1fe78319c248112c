//! What to do next about a damaged file: the advice for what its relation is.

use crate::advice::object::{Damaged, Object, steps};
use crate::report::model::Step;
use crate::server::files::{FileOf, ForkFile};
use crate::server::session::ServerFacts;
use crate::server::sql::ident;
use crate::server::whose_file::STATISTIC_OID;
use std::collections::BTreeMap;

/// All relations whose files are known, by their OIDs.
pub(super) struct Relations(BTreeMap<u32, FileOf>);

impl Relations {
    pub(super) fn new<'a>(all: impl Iterator<Item = &'a FileOf>) -> Self {
        Self(all.map(|of| (of.oid, of.clone())).collect())
    }

    pub(super) fn advice(
        &self,
        fork: &ForkFile,
        of: Option<&FileOf>,
        server: &ServerFacts,
    ) -> Vec<Step> {
        if server.database.is_empty() {
            return vec![told(
                "with the server up, pg_salvage locate tells which table or index it is, and what \
                 to do then",
            )];
        }
        let Some(of) = of else {
            return vec![told(
                "nobody reads it, unless a transaction that is under way has made it",
            )];
        };
        let table = self.table(of);
        let [name, table_name] = [of, table].map(quoted);
        let damaged = Damaged {
            object: object(fork.fork().1, of, table),
            name: Some(&name),
            table: Some(&table_name),
            database: Some(&server.database),
            version: Some(server.version),
        };
        let step =
            |s: crate::advice::object::Step| Step { text: s.text, sql: s.sql, shell: s.shell };
        steps(&damaged).into_iter().map(step).collect()
    }

    /// `schema.name` of the table that it belongs to, where it is none itself.
    pub(super) fn owner(&self, of: &FileOf) -> Option<String> {
        self.owner_of(of).map(|table| format!("{}.{}", table.schema, table.name))
    }

    /// The table that it belongs to, where it is none itself.
    pub(super) fn owner_of<'a>(&'a self, of: &'a FileOf) -> Option<&'a FileOf> {
        Some(self.table(of)).filter(|table| table.oid != of.oid)
    }

    /// The table that an index, a TOAST table or the index of one belongs to.
    fn table<'a>(&'a self, of: &'a FileOf) -> &'a FileOf {
        let mut table = of;
        for _ in 0..2 {
            let owner = table.owner.and_then(|owner| self.0.get(&owner));
            table = owner.unwrap_or(table);
        }
        table
    }
}

fn told(text: &str) -> Step {
    Step { text: text.to_owned(), sql: Vec::new(), shell: Vec::new() }
}

fn quoted(of: &FileOf) -> String {
    format!("{}.{}", ident(&of.schema), ident(&of.name))
}

fn object(fork: &str, of: &FileOf, table: &FileOf) -> Object {
    let is_catalog = table.schema == "pg_catalog";
    match (fork, of.relkind) {
        ("fsm" | "vm", _) => Object::Map,
        ("init", _) => Object::Init,
        _ if table.oid == STATISTIC_OID => Object::Statistic,
        (_, 'i') if is_catalog => Object::CatalogIndex,
        (_, 'i') if of.schema == "pg_toast" => Object::ToastIndex,
        (_, 'i') => Object::Index,
        _ if is_catalog => Object::Catalog,
        (_, 't') => Object::Toast,
        (_, 'S') => Object::Sequence,
        _ => Object::Heap,
    }
}
