//! What amcheck is asked about: the extension with its functions, and all
//! relations with a file of their own, by plain COPY of the catalogs as
//! everything here.

use super::super::fault::is_untranslatable;
use super::{CatalogDamage, CatalogError, Catalogs, Session, names};
use std::collections::{BTreeMap, HashMap};

/// `ClanguageId`: only a superuser can make a function in it, so none that
/// somebody else has put into the schema is taken for the extension's.
const C_LANGUAGE: u32 = 13;

/// What a relation is, as far as checks need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkable {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// As in `pg_class.relkind`.
    pub relkind: char,
    /// `pg_class.relam`, and its name.
    pub access_method: u32,
    pub method: String,
    /// The relation that a TOAST relation or an index belongs to.
    pub owner: Option<u32>,
    pub unlogged: bool,
    /// Of an index: whether it is whole, and kept so.
    pub valid: bool,
    /// `relpages`.
    pub pages_estimated: u32,
}

/// An extension as it is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    pub version: String,
    pub schema_oid: u32,
    pub schema: String,
    /// Its functions in C: OIDs, by their names and the types of their arguments
    /// as `proargtypes` has them.
    pub functions: BTreeMap<(String, String), u32>,
}

#[derive(Clone, Debug, Default)]
pub struct Checks {
    pub extension: Option<Installed>,
    pub relations: Vec<Checkable>,
    pub damaged: Vec<CatalogDamage>,
}

/// Reads it in this session, in which [`Session::save`] was called.
pub async fn checks(session: &Session, extension: &str) -> Result<Checks, CatalogError> {
    let own = session.server().encoding.as_str();
    let catalogs = |encoding| Catalogs { session, encoding, system: false, damaged: Vec::new() };
    if !matches!(own, "SQL_ASCII" | "MULE_INTERNAL") {
        match read(catalogs("UTF8"), extension).await {
            // Some name is damaged.
            Err(e) if is_untranslatable(e.source.sqlstate()) => {
                let failed = |source| CatalogError { catalog: e.catalog, source };
                session.leave_relation().await.map_err(failed)?;
            }
            other => return other,
        }
    }
    read(catalogs(own), extension).await
}

async fn read(mut from: Catalogs<'_>, extension: &str) -> Result<Checks, CatalogError> {
    let from = &mut from;
    let schemas = names(from, "pg_namespace", "oid, nspname").await?;
    let methods = names(from, "pg_am", "oid, amname").await?;
    let name_of = |named: &HashMap<u32, bstr::BString>, oid: u32| {
        named.get(&oid).map(ToString::to_string).unwrap_or_default()
    };
    let mut owners: HashMap<u32, (u32, bool)> = from
        .rows("pg_index", "indexrelid, indrelid, indisvalid, indisready, indislive", |r| {
            let valid = (2..5).all(|i| r.is(i, "t"));
            Some((r.number(0), (r.number(1), valid)))
        })
        .await?
        .into_iter()
        .collect();
    let list =
        "oid, relname, relnamespace, relkind, relam, relpersistence, reltoastrelid, relpages";
    let mut toast: Vec<(u32, u32)> = Vec::new();
    let mut relations = from
        .rows("pg_class", list, |r| {
            let relkind = r.text(3).first().map_or(' ', |b| char::from(*b));
            toast.push((r.number(6), r.number(0)));
            let has_file = matches!(relkind, 'r' | 't' | 'm' | 'i' | 'S') && !r.is(5, "t");
            has_file.then(|| Checkable {
                oid: r.number(0),
                schema: name_of(&schemas, r.number(2)),
                name: r.text(1).to_string(),
                relkind,
                access_method: r.number(4),
                method: name_of(&methods, r.number(4)),
                owner: None,
                unlogged: r.is(5, "u"),
                valid: true,
                pages_estimated: r.number(7),
            })
        })
        .await?;
    owners.extend(toast.into_iter().filter(|(t, _)| *t != 0).map(|(t, of)| (t, (of, true))));
    for relation in &mut relations {
        if let Some((owner, valid)) = owners.get(&relation.oid) {
            (relation.owner, relation.valid) = (Some(*owner), *valid);
        }
    }
    let mut found = from
        .rows("pg_extension", "extname, extversion, extnamespace", |r| {
            r.is(0, extension).then(|| (r.text(1).to_string(), r.number::<u32>(2)))
        })
        .await?;
    let extension = match found.pop() {
        None => None,
        Some((version, schema_oid)) => {
            let list = "oid, proname, pronamespace, prolang, proargtypes";
            let functions = from
                .rows("pg_proc", list, |r| {
                    let is_ours = r.number::<u32>(2) == schema_oid;
                    (is_ours && r.number::<u32>(3) == C_LANGUAGE)
                        .then(|| ((r.text(1).to_string(), r.text(4).to_string()), r.number(0)))
                })
                .await?;
            let (schema, functions) = (name_of(&schemas, schema_oid), functions.into_iter());
            Some(Installed { version, schema_oid, schema, functions: functions.collect() })
        }
    };
    Ok(Checks { extension, relations, damaged: std::mem::take(&mut from.damaged) })
}
