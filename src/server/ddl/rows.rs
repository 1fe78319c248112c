//! Asking for objects: all of a kind or, where that fails, each by itself.

use super::Ddl;
use crate::server::fault::FIRST_NORMAL_OID;
use crate::server::session::ReadError;

/// So many objects of a kind may hang, each for `--read-timeout`; the others
/// are then not tried.
const HANGS_MAX: usize = 3;

/// One row of text.
pub(super) struct Row(Vec<Option<String>>);

impl Row {
    /// Empty for NULL, too.
    pub(super) fn text(&self, field: usize) -> &str {
        self.0.get(field).and_then(Option::as_deref).unwrap_or_default()
    }

    /// None for NULL.
    pub(super) fn some(&self, field: usize) -> Option<&str> {
        self.0.get(field).and_then(Option::as_deref)
    }

    pub(super) fn set(&mut self, field: usize, text: Option<&str>) {
        if let Some(value) = self.0.get_mut(field) {
            *value = text.map(str::to_owned);
        }
    }

    pub(super) fn is(&self, field: usize) -> bool {
        self.text(field) == "t"
    }

    pub(super) fn number(&self, field: usize) -> u32 {
        self.text(field).parse().unwrap_or(0)
    }

    /// Of the object; it is the first field.
    pub(super) fn oid(&self) -> u32 {
        self.number(0)
    }
}

impl Ddl<'_> {
    /// The rows of all objects of a kind. `of` makes of a condition (nothing, or
    /// what follows `WHERE ...`) the statement; in it the object is `x`. `list`
    /// gives the OIDs and names, for where that fails; where that fails, too, they
    /// are asked for by their relations, in this column.
    pub(super) async fn objects(
        &mut self,
        kind: &'static str,
        of: impl Fn(&str) -> String,
        list: &str,
        relation: Option<&str>,
    ) -> Result<Vec<Row>, ReadError> {
        let error = match self.rows(&of("")).await? {
            Ok(rows) => return Ok(rows),
            Err(error) => error,
        };
        let objects = match self.rows(list).await? {
            Ok(rows) => rows,
            Err(_) => {
                let Some(relation) = relation else {
                    self.lose(kind, "all of them".to_owned(), error.words());
                    return Ok(Vec::new());
                };
                let wanted = self.relations.values().filter(|r| r.oid >= FIRST_NORMAL_OID);
                let wanted = wanted.map(|r| (r.oid, format!("of {}", r.display_name()))).collect();
                return self.each(kind, wanted, of, relation).await;
            }
        };
        let objects: Vec<(u32, String)> =
            objects.iter().map(|row| (row.oid(), row.text(1).to_owned())).collect();
        self.each(kind, objects, of, "x.oid").await
    }

    /// The rows of these objects, each asked for by itself.
    pub(super) async fn each(
        &mut self,
        kind: &'static str,
        objects: Vec<(u32, String)>,
        of: impl Fn(&str) -> String,
        key: &str,
    ) -> Result<Vec<Row>, ReadError> {
        let (mut all, mut hung) = (Vec::new(), 0);
        for (oid, name) in objects {
            match self.rows(&of(&format!(" AND {key} = {oid}"))).await? {
                Ok(rows) => all.extend(rows),
                Err(error) => {
                    hung += usize::from(error.is_hung());
                    self.lose(kind, name, error.words());
                    if hung == HANGS_MAX {
                        self.lose(kind, "all others".to_owned(), error.words());
                        return Ok(all);
                    }
                }
            }
        }
        Ok(all)
    }

    /// `Err`: the session is lost.
    pub(super) async fn rows(&self, sql: &str) -> Result<Result<Vec<Row>, ReadError>, ReadError> {
        match self.session.rows(sql).await {
            Ok(rows) => Ok(Ok(rows.into_iter().map(Row).collect())),
            Err(error) if error.sqlstate().is_empty() && self.session.is_closed() => Err(error),
            Err(error) => {
                self.session.leave_relation().await?;
                Ok(Err(error))
            }
        }
    }
}
