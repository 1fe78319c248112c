//! Whose a file is, or a name that the server's words have: the relation, and the
//! table that it belongs to.

use super::connect::Target;
use super::session::{OpenError, ReadError, Session, Timeouts};
use super::sql::{ident, literal};

/// OIDs below this are of objects that initdb has made.
pub use super::fault::FIRST_NORMAL_OID;

/// `pg_statistic`, which the planner reads.
pub const STATISTIC_OID: u32 = 2619;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    File {
        tablespace: u32,
        filenode: u32,
        is_temporary: bool,
    },
    /// The TOAST relation of the table with this OID.
    ToastOf(u32),
    Oid(u32),
    /// With its schema, or without, as messages write it: nothing is quoted.
    Named(&'a str),
    /// As SQL writes it; without a schema in pg_catalog, or in public.
    Written(&'a str),
}

/// A name in its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub oid: u32,
    pub schema: String,
    pub name: String,
}

impl Name {
    /// As SQL needs it.
    pub fn quoted(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.name))
    }

    /// For people.
    pub fn plain(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// A relation that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub relation: Name,
    /// `relkind`.
    pub kind: char,
    /// `relpersistence`.
    pub persistence: char,
    pub access_method: Option<String>,
    /// `pg_class.relam`; 0 for none.
    pub access_method_oid: u32,
    /// Of an index, or of a TOAST relation and its index: the table.
    pub table: Option<Name>,
    /// Whether it, or what it is the index of, is a TOAST relation.
    pub is_toast: bool,
    /// Of an index: whether it is of an exclusion constraint.
    pub is_exclusion: bool,
    /// `pg_relation_filepath`; none where there is no file.
    pub path: Option<String>,
}

impl Owner {
    pub fn is_index(&self) -> bool {
        matches!(self.kind, 'i' | 'I')
    }

    /// Whether initdb has made it, or the table that it belongs to.
    pub fn is_catalog(&self) -> bool {
        let of = self.table.as_ref().unwrap_or(&self.relation);
        of.oid < FIRST_NORMAL_OID
    }

    /// `relkind` in words.
    pub fn kind_words(&self) -> &'static str {
        match (self.kind, self.is_toast) {
            ('r', _) if self.is_catalog() => "system catalog",
            ('r', _) => "table",
            ('i' | 'I', true) => "index of a TOAST table",
            ('i' | 'I', false) => "index",
            ('t', _) => "TOAST table",
            ('S', _) => "sequence",
            ('m', _) => "materialized view",
            ('p', _) => "partitioned table",
            _ => "relation",
        }
    }
}

/// A session for questions about the catalogs: past their indexes, where no other
/// can be had.
pub async fn open(target: &Target, timeouts: Timeouts) -> Result<Session, OpenError> {
    let session = match Session::open(target, timeouts, None).await {
        Err(e) if e.is_damage() => {
            let past = target.past_system_indexes(true);
            let again = Session::open(&past, timeouts, None).await;
            again.map_err(|_| OpenError::NoSession(e.into()))?
        }
        opened => opened?,
    };
    session.save().await?;
    Ok(session)
}

/// All relations that it may be: none, where there is no such any more; several,
/// where a bare name is in several schemas.
pub async fn owners(session: &Session, wanted: Wanted<'_>) -> Result<Vec<Owner>, ReadError> {
    let which = match wanted {
        Wanted::File { filenode, is_temporary: true, .. } => {
            format!("c.relfilenode = {filenode} AND c.relpersistence = 't'")
        }
        Wanted::File { tablespace, filenode, .. } => {
            format!("c.oid = pg_catalog.pg_filenode_relation({tablespace}, {filenode})")
        }
        Wanted::ToastOf(oid) => {
            format!("c.oid = (SELECT reltoastrelid FROM pg_catalog.pg_class WHERE oid = {oid})")
        }
        Wanted::Oid(oid) => format!("c.oid = {oid}"),
        Wanted::Named(name) => format!(
            "{0} IN (c.relname, n.nspname || '.' || c.relname, \
             pg_catalog.current_database() || '.' || n.nspname || '.' || c.relname)",
            literal(name)
        ),
        // The session looks in no schema but pg_catalog.
        Wanted::Written(name) => format!(
            "c.oid = COALESCE(pg_catalog.to_regclass({0}), pg_catalog.to_regclass('public.' || {0}))",
            literal(name)
        ),
    };
    let sql = format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, am.amname, \
         i.indisexclusion, t.relkind, \
         COALESCE(o.oid, t.oid), COALESCE(os.nspname, ts.nspname), COALESCE(o.relname, t.relname), \
         pg_catalog.pg_relation_filepath(c.oid), c.relam \
         FROM pg_catalog.pg_class c \
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam \
         LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid \
         LEFT JOIN pg_catalog.pg_class t ON t.oid = i.indrelid \
         LEFT JOIN pg_catalog.pg_namespace ts ON ts.oid = t.relnamespace \
         LEFT JOIN pg_catalog.pg_class o ON o.reltoastrelid = COALESCE(t.oid, c.oid) \
         AND COALESCE(t.relkind, c.relkind) = 't' \
         LEFT JOIN pg_catalog.pg_namespace os ON os.oid = o.relnamespace \
         WHERE {which} LIMIT 10"
    );
    let rows = match session.rows(&sql).await {
        Ok(rows) => rows,
        Err(e) => {
            if !e.sqlstate().is_empty() {
                session.leave_relation().await?;
            }
            return Err(e);
        }
    };
    Ok(rows.iter().filter_map(|row| owner(row)).collect())
}

fn owner(row: &[Option<String>]) -> Option<Owner> {
    let field = |n: usize| row.get(n).and_then(Option::as_ref);
    let letter = |n: usize| field(n).and_then(|f| f.chars().next());
    let name = |n: usize| {
        Some(Name {
            oid: field(n)?.parse().ok()?,
            schema: field(n + 1).cloned().unwrap_or_default(),
            name: field(n + 2)?.clone(),
        })
    };
    let kind = letter(3)?;
    Some(Owner {
        relation: name(0)?,
        kind,
        persistence: letter(4).unwrap_or('p'),
        access_method: field(5).cloned(),
        table: name(8),
        is_toast: kind == 't' || letter(7) == Some('t'),
        is_exclusion: field(6).is_some_and(|f| f == "t"),
        path: field(11).cloned(),
        access_method_oid: field(12).and_then(|f| f.parse().ok()).unwrap_or(0),
    })
}

/// How many attributes a relation has, dropped ones too.
pub async fn attributes(session: &Session, oid: u32) -> Result<Option<usize>, ReadError> {
    let sql = format!("SELECT relnatts FROM pg_catalog.pg_class WHERE oid = {oid}");
    Ok(session.value(&sql).await?.and_then(|n| n.parse().ok()))
}

/// OIDs and names of all databases to which one may connect.
pub async fn databases(session: &Session) -> Result<Vec<(u32, String)>, ReadError> {
    let rows =
        session.rows("SELECT oid, datname FROM pg_catalog.pg_database WHERE datallowconn").await?;
    let pair = |row: Vec<Option<String>>| {
        let mut fields = row.into_iter().flatten();
        Some((fields.next()?.parse().ok()?, fields.next()?))
    };
    Ok(rows.into_iter().filter_map(pair).collect())
}
