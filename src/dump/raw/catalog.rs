//! What the catalogs know that stands in no tuple: values of columns that were added
//! with a default that takes no rewrite, and the labels of enums.

use super::{Interrupted, RawLayout, no_answer};
use crate::dump::Reading;
use crate::dump::columns::Field;
use crate::page::datum;
use crate::server::copy_text::{raw_fields, rows_in};
use crate::server::raw::{enum_labels, missing_values};
use crate::server::session::ReadError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// `box`: the one type whose values, in an array of one, look like several.
const BOX: u32 = 603;

#[derive(Default)]
pub(super) struct Catalog {
    /// By attribute number, of all that are not NULL. None: it could not be read.
    missing: Option<BTreeMap<i16, Field>>,
    enums: BTreeSet<u32>,
    /// By type and OID.
    labels: BTreeMap<(u32, u32), Field>,
    /// Attributes of which no value is known.
    untold: BTreeSet<i16>,
}

impl Catalog {
    /// Asks once for a relation.
    pub(super) async fn of(at: &Reading<'_>, layout: &RawLayout) -> Result<Arc<Self>, Interrupted> {
        let mut known = layout.catalog.lock().await;
        if let Some(catalog) = known.as_ref() {
            return Ok(catalog.clone());
        }
        let catalog = Arc::new(Self::ask(at, layout).await?);
        Ok(known.insert(catalog).clone())
    }

    async fn ask(at: &Reading<'_>, layout: &RawLayout) -> Result<Self, Interrupted> {
        let encoding = &at.readable.encoding;
        let boxes = layout.columns.iter().filter(|c| c.type_oid == BOX).map(|c| c.attnum);
        let mut catalog = Self { untold: boxes.collect(), ..Self::default() };
        // There were none before.
        catalog.missing = match at.session.server().version {
            110_000.. => rows(at, &missing_values(layout.oid, encoding)).await?.map(|rows| {
                let value = |mut row: Vec<Field>| Some((number(row.first()?)?, row.pop()?));
                rows.into_iter().filter_map(value).collect()
            }),
            _ => Some(BTreeMap::new()),
        };
        let types = layout.columns.iter().map(|c| c.type_oid);
        let types: BTreeSet<u32> = types.filter(|&oid| !datum::is_known(oid)).collect();
        if types.is_empty() {
            return Ok(catalog);
        }
        let labels = rows(at, &enum_labels(types.iter().copied(), encoding)).await?;
        for row in labels.unwrap_or_default() {
            if let [oid, of, label] = row.as_slice()
                && let (Some(oid), Some(of)) = (number(oid), number(of))
            {
                catalog.enums.insert(of);
                catalog.labels.insert((of, oid), label.clone());
            }
        }
        Ok(catalog)
    }

    /// The value of a column in tuples that are older than it, as COPY has it.
    pub(super) fn missing(&self, attnum: i16) -> Option<Field> {
        let values = self.missing.as_ref()?;
        match values.get(&attnum) {
            Some(_) if self.untold.contains(&attnum) => None,
            Some(field) => Some(field.clone()),
            None => Some(b"\\N".to_vec()),
        }
    }

    pub(super) fn is_enum(&self, type_oid: u32) -> bool {
        self.enums.contains(&type_oid)
    }

    /// The label of an enum's value, as COPY has it.
    pub(super) fn label(&self, type_oid: u32, datum: &[u8]) -> Option<Field> {
        let oid = u32::from_le_bytes(datum.try_into().ok()?);
        self.labels.get(&(type_oid, oid)).cloned()
    }
}

fn number<N: std::str::FromStr>(field: &Field) -> Option<N> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// All rows of a COPY, as they stand. None: the server has none to give.
async fn rows(at: &Reading<'_>, sql: &str) -> Result<Option<Vec<Vec<Field>>>, Interrupted> {
    let read = async {
        let (mut copy, mut rows) = (at.session.copy(sql).await?, Vec::new());
        while let Some(bytes) = copy.next().await? {
            let lines = rows_in(&bytes);
            rows.extend(lines.map(|l| raw_fields(l).map(<[u8]>::to_vec).collect::<Vec<_>>()));
        }
        copy.check(rows.len() as u64)?;
        Ok::<_, ReadError>(rows)
    };
    match read.await {
        Ok(rows) => Ok(Some(rows)),
        Err(error) => no_answer(at, error).await.map(|_| None),
    }
}
