//! One catalog, as far as it can be read.
//!
//! First by plain COPY, which is not planned. That ends at the first damage; so
//! then the catalog is salvaged as any other heap is, with its rows in memory:
//! a damaged block costs its block, and a damaged tuple its tuple. Where that
//! cannot be planned, what came before the damage is all there is.

use super::super::copy_text::{fields, rows_in, split_tag};
use super::super::fault::{Fault, Phase, Words, is_untranslatable};
use super::super::inventory::{CatalogDamage, CatalogLoss};
use super::super::session::{ReadError, Session};
use super::super::sql::{Readable, ident, literal};
use super::CatalogError;
use crate::heap::{BlockRange, Ctid, Outcome, Place, Salvage, tuples_per_page_max};
use bstr::{BString, ByteSlice};
use std::collections::BTreeMap;

/// A catalog with more damage than so many reads can get around is read no
/// further: somebody waits for the first row of a table.
const READS_MAX: u32 = 20_000;

/// One row of a catalog: fields by their place in the column list.
pub(super) struct Row(Vec<Option<BString>>);

impl Row {
    pub(super) fn text(&self, i: usize) -> BString {
        self.0.get(i).cloned().flatten().unwrap_or_default()
    }

    /// A number; what is missing or none is 0.
    pub(super) fn number<N: std::str::FromStr + Default>(&self, i: usize) -> N {
        let field = self.0.get(i).and_then(Option::as_ref);
        field.and_then(|f| f.to_str().ok()?.parse().ok()).unwrap_or_default()
    }

    /// A float4 such as `1e+06` or `-1`, as a whole number.
    pub(super) fn rows_estimated(&self, i: usize) -> u64 {
        let rows: f64 = self.number(i);
        // Saturates: a damaged catalog may say anything.
        #[expect(clippy::cast_possible_truncation)]
        let whole = rows.max(0.0) as u64;
        whole
    }

    pub(super) fn is(&self, i: usize, value: &str) -> bool {
        self.0.get(i).and_then(Option::as_ref).is_some_and(|f| f == value)
    }
}

/// Where the catalogs are read, in which encoding names come, and what was
/// found wrong with them.
pub(super) struct Catalogs<'a> {
    pub(super) session: &'a Session,
    pub(super) encoding: &'a str,
    /// Whether the tables of the system catalogs are wanted themselves.
    pub(super) system: bool,
    pub(super) damaged: Vec<CatalogDamage>,
}

/// What came of plain COPY before it failed.
struct Plain<T> {
    rows: Vec<T>,
    error: ReadError,
    phase: Phase,
}

impl Catalogs<'_> {
    /// Reads a catalog, keeping what `keep` makes of each row. What could not
    /// be read of it is noted. `Err`: the session is lost, the server is short
    /// of something, or the names cannot be had in this encoding.
    pub(super) async fn rows<T>(
        &mut self,
        catalog: &'static str,
        columns: &str,
        mut keep: impl FnMut(Row) -> Option<T>,
    ) -> Result<Vec<T>, CatalogError> {
        let failed = |source| CatalogError { catalog, source };
        let version = self.session.server().version;
        // By its name alone: where pg_namespace is damaged no schema is found,
        // and with the search path that is pinned no other relation is meant.
        let readable = Readable {
            qualified: catalog.to_owned(),
            columns: columns.split(", ").map(ident).collect(),
            encoding: self.encoding.to_owned(),
            plain: true,
            tid_ranges: version >= 140_000,
            tuples_max: tuples_per_page_max(self.session.server().block_size),
            block_size: self.session.server().block_size,
            past_statistics: false,
            oids: version < 120_000 && columns.starts_with("oid, "),
        };
        let Plain { rows, error, phase } =
            match plain(self.session, &readable, &mut keep).await.map_err(failed)? {
                Ok(rows) => return Ok(rows),
                Err(plain) => plain,
            };
        self.session.leave_relation().await.map_err(failed)?;
        let mut damage = CatalogDamage { catalog, lost: Vec::new(), to_its_end: false };
        let salvaged = match phase {
            // Not even its name was found.
            Phase::Start => None,
            Phase::Rows => {
                salvage(self.session, &readable, keep, &mut damage).await.map_err(failed)?
            }
        };
        if !damage.to_its_end || damage.lost.is_empty() {
            damage.lost.push(CatalogLoss { at: None, words: error.words().clone() });
        }
        self.damaged.push(damage);
        Ok(match salvaged {
            Some(salvaged) if salvaged.len() >= rows.len() => salvaged.into_values().collect(),
            _ => rows,
        })
    }
}

impl Catalogs<'_> {
    /// Rows are missing of a catalog, and no read said so: others tell of it.
    pub(super) fn add_hole(&mut self, catalog: &'static str, message: String) {
        let words = Words { message, ..Words::default() };
        let lost = CatalogLoss { at: None, words };
        match self.damaged.iter_mut().find(|d| d.catalog == catalog) {
            Some(damage) => damage.lost.push(lost),
            None => {
                let lost = vec![lost];
                self.damaged.push(CatalogDamage { catalog, lost, to_its_end: true });
            }
        }
    }
}

/// Whether nothing more can be asked in this session, or not in this way.
fn ends_all(error: &ReadError) -> bool {
    let code = error.sqlstate();
    code.is_empty() || is_untranslatable(code) || error.is_shortage()
}

/// All of a catalog in one go.
async fn plain<T>(
    session: &Session,
    readable: &Readable,
    keep: &mut impl FnMut(Row) -> Option<T>,
) -> Result<Result<Vec<T>, Plain<T>>, ReadError> {
    let mut rows = Vec::new();
    let mut phase = Phase::Start;
    let error = match session.copy(&readable.whole()).await {
        Err(error) => error,
        Ok(mut copy) => {
            phase = Phase::Rows;
            loop {
                match copy.next().await {
                    Ok(Some(bytes)) => {
                        for line in rows_in(&bytes) {
                            rows.extend(keep(Row(fields(line).collect())));
                        }
                    }
                    Ok(None) => return Ok(Ok(rows)),
                    Err(error) => break error,
                }
            }
        }
    };
    if ends_all(&error) { Err(error) } else { Ok(Err(Plain { rows, error, phase })) }
}

/// Reads all of a catalog that can be read, around the damage. None: no part of
/// it can be read by itself.
async fn salvage<T>(
    session: &Session,
    readable: &Readable,
    mut keep: impl FnMut(Row) -> Option<T>,
    damage: &mut CatalogDamage,
) -> Result<Option<BTreeMap<Ctid, T>>, ReadError> {
    let Some((path, blocks)) = on_disk(session, &readable.qualified).await? else {
        return Ok(None);
    };
    let past_statistics = readable.past_statistics();
    let readable = if plans(session, &past_statistics).await? {
        &past_statistics
    } else if plans(session, readable).await? {
        // PostgreSQL 14 needs pg_namespace for a join.
        readable
    } else {
        return Ok(None);
    };
    let mut salvage = Salvage::new(BlockRange::new(0, blocks), readable.limits());
    salvage.tag_all();
    // By their ctids: what comes twice is there once.
    let mut rows = BTreeMap::new();
    for _ in 0..READS_MAX {
        let Some(read) = salvage.next_read() else {
            damage.to_its_end = true;
            break;
        };
        let mut last = None;
        let sql = readable.part(&read);
        let error = match session.copy(&sql).await {
            Err(error) => Some((error, Phase::Start)),
            Ok(mut copy) => loop {
                match copy.next().await {
                    Ok(None) => break None,
                    Err(error) => break Some((error, Phase::Rows)),
                    Ok(Some(bytes)) => {
                        for (ctid, rest) in rows_in(&bytes).filter_map(tagged) {
                            last = Some(ctid);
                            rows.extend(keep(Row(fields(rest).collect())).map(|t| (ctid, t)));
                        }
                    }
                }
            },
        };
        let Some((error, phase)) = error else {
            salvage.record(Outcome::Complete);
            continue;
        };
        if ends_all(&error) {
            return Err(error);
        }
        session.leave_relation().await?;
        let outcome = match error.fault(phase, Some(&path)) {
            Fault::Damage(place) => Outcome::Failed { last, place },
            Fault::Hung => Outcome::Hung { last },
            // Somebody in the way, for a catalog: as if it could not be read.
            _ => Outcome::Failed { last, place: Place::Unknown },
        };
        let words = error.words();
        if let Some(loss) = salvage.record(outcome).loss {
            damage.lost.push(CatalogLoss { at: Some(loss), words: words.clone() });
        }
    }
    Ok(Some(rows))
}

fn tagged(line: &[u8]) -> Option<(Ctid, &[u8])> {
    let (tag, rest) = split_tag(line)?;
    Some((Ctid::parse(tag)?, rest))
}

/// The file of a catalog, and how many blocks it has.
async fn on_disk(session: &Session, catalog: &str) -> Result<Option<(String, u32)>, ReadError> {
    let name = literal(catalog);
    let sql = format!("SELECT pg_relation_filepath({name}), pg_relation_size({name}, 'main')");
    let row = match session.row(&sql).await {
        Err(e) if ends_all(&e) => return Err(e),
        Err(_) => {
            session.leave_relation().await?;
            return Ok(None);
        }
        Ok(row) => row,
    };
    let [Some(path), Some(size)] = row.as_slice() else { return Ok(None) };
    let blocks = size.parse().unwrap_or(0) / u64::from(session.server().block_size.max(1));
    Ok(Some((path.clone(), u32::try_from(blocks).unwrap_or(u32::MAX))))
}

async fn plans(session: &Session, readable: &Readable) -> Result<bool, ReadError> {
    match session.probe(&readable.probe()).await {
        Ok(()) => Ok(true),
        Err(e) if ends_all(&e) => Err(e),
        Err(_) => {
            session.leave_relation().await?;
            Ok(false)
        }
    }
}
