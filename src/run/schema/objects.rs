//! Large objects for the archive, from the rows that were read of them.

use crate::output::large_objects::{
    self, Doubts, Finished, LargeObject, Objects, Page, Rows, grants,
};
use crate::output::manifest::{
    ArchivedLargeObjects, Relation, RelationKind, RelationStatus, RowClass,
};
use crate::output::{DumpDir, OutputError, links, lost_keys};
use crate::run::{Run, RunError};
use crate::server::copy_text::fields;
use bstr::BString;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// So many pages of large objects fit into a block (`LOBLKSIZE` is `BLCKSZ / 4`).
const PAGES_IN_BLOCK: u32 = 4;

/// What became of them.
#[derive(Default)]
pub(super) struct Archived {
    pub list: Vec<LargeObject>,
    pub archived: Option<ArchivedLargeObjects>,
    pub notes: Vec<String>,
}

/// Owner and rights, by OIDs of objects.
type Known = BTreeMap<u32, (u32, Option<BString>)>;

impl Run {
    pub(super) async fn write_large_objects(
        &self,
        dir: &DumpDir,
        relations: &[Relation],
    ) -> Result<Archived, RunError> {
        large_objects::clear(dir)?;
        let of = |kind| relations.iter().find(|r| r.kind == kind);
        let pages = of(RelationKind::LargeObjects);
        let known = match of(RelationKind::LargeObjectMetadata) {
            Some(relation) => read_metadata(dir, relation).await?,
            None => Known::new(),
        };
        let Some(pages) = pages else { return Ok(Archived::default()) };
        if known.is_empty() && pages.files.is_empty() {
            return Ok(Archived::default());
        }
        let block_size = self.generations.server().await.block_size;
        let page_bytes = block_size / PAGES_IN_BLOCK;
        match self.put_together(dir, pages, &known, page_bytes).await {
            Ok(done) => Ok(done),
            // The rows are there; there is no room for them twice.
            Err(e) => {
                large_objects::clear(dir)?;
                let note = format!("large objects are not in the archive: {e}");
                Ok(Archived { notes: vec![note], ..Archived::default() })
            }
        }
    }

    async fn put_together(
        &self,
        dir: &DumpDir,
        relation: &Relation,
        known: &Known,
        page_bytes: u32,
    ) -> Result<Archived, OutputError> {
        let mut objects = Objects::begin(dir, self.options.codec, page_bytes)?;
        known.keys().for_each(|&oid| objects.add(oid));
        let clean = relation.files.iter().filter(|f| f.class == RowClass::Clean);
        for file in clean.clone() {
            let mut rows = Rows::open(dir, &file.path).await?;
            while let Some(row) = rows.next().await? {
                if let Some(page) = page(row) {
                    objects.page(&page)?;
                }
            }
        }
        if objects.needs_again()? {
            for file in clean {
                let mut rows = Rows::open(dir, &file.path).await?;
                while let Some(row) = rows.next().await? {
                    if let Some(page) = page(row) {
                        objects.again(&page)?;
                    }
                }
            }
        }
        let doubts = doubts(dir, relation).await?;
        let Finished { oids, left_out, not_linked } = objects.finish(&doubts).await?;
        let roles = self.roles().await;
        let list: Vec<LargeObject> =
            oids.iter().map(|&oid| described(oid, known, &roles)).collect();
        let mut notes: Vec<String> = not_linked.iter().map(links::note).collect();
        if left_out > 0 {
            notes.push(format!(
                "{left_out} large objects are not in the archive, since not all of their pages are \
                 clean"
            ));
        }
        if doubts.more_is_lost {
            notes.push(
                "pages of large objects are lost, and it is not known of which: any may end too \
                 early"
                    .to_owned(),
            );
        }
        if list.iter().any(|object| object.owner.is_none()) {
            notes.push("the owners of some large objects are not known".to_owned());
        }
        let archived = (!list.is_empty() || left_out > 0).then(|| ArchivedLargeObjects {
            folder: large_objects::FOLDER.to_owned(),
            count: list.len() as u64,
            left_out,
        });
        Ok(Archived { list, archived, notes })
    }

    /// Names of roles, by their OIDs, as far as they can be had.
    async fn roles(&self) -> HashMap<u32, BString> {
        const ROLES: &str = "SELECT oid, rolname FROM pg_catalog.pg_roles";
        let Ok(session) = self.generations.session_of_now().await else { return HashMap::new() };
        let rows = session.rows(ROLES).await.unwrap_or_default();
        let role = |row: Vec<Option<String>>| {
            let mut fields = row.into_iter().flatten();
            Some((fields.next()?.parse().ok()?, BString::from(fields.next()?)))
        };
        rows.into_iter().filter_map(role).collect()
    }
}

fn described(oid: u32, known: &Known, roles: &HashMap<u32, BString>) -> LargeObject {
    let (owner, rights) = known.get(&oid).cloned().unwrap_or_default();
    let owner = roles.get(&owner).cloned();
    let items = rights.map(|rights| items(&rights)).unwrap_or_default();
    let grants = grants(oid, owner.as_ref(), &items);
    LargeObject { oid, owner, grants }
}

/// The elements of an array as text.
fn items(array: &[u8]) -> Vec<BString> {
    let (mut items, mut item, mut quoted) = (Vec::new(), Vec::new(), false);
    let inner = array.strip_prefix(b"{").and_then(|a| a.strip_suffix(b"}")).unwrap_or_default();
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => item.extend(bytes.next()),
            b'"' => quoted = !quoted,
            b',' if !quoted => items.push(std::mem::take(&mut item).into()),
            byte => item.push(byte),
        }
    }
    if !inner.is_empty() {
        items.push(item.into());
    }
    items
}

/// A row of `pg_largeobject`: `loid`, `pageno`, `data`.
fn page(row: &[u8]) -> Option<Page> {
    let mut fields = fields(row).flatten();
    let (oid, number, data) = (fields.next()?, fields.next()?, fields.next()?);
    let number_of = |text: &BString| std::str::from_utf8(text).ok()?.parse::<u32>().ok();
    let hex = data.strip_prefix(b"\\x")?;
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let data = hex.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?;
    Some(Page { oid: number_of(&oid)?, number: number_of(&number)?, data })
}

/// Objects of which a page is not clean, or may be lost.
async fn doubts(dir: &DumpDir, relation: &Relation) -> Result<Doubts, OutputError> {
    let mut oids = BTreeSet::new();
    let doubtful = [RowClass::Suspect, RowClass::Partial];
    for file in relation.files.iter().filter(|f| doubtful.contains(&f.class)) {
        let mut rows = Rows::open(dir, &file.path).await?;
        while let Some(row) = rows.next().await? {
            let oid = fields(row).next().flatten();
            oids.extend(oid.and_then(|oid| std::str::from_utf8(&oid).ok()?.parse::<u32>().ok()));
        }
    }
    let lost = !relation.lost.is_empty() || relation.lost_omitted > 0;
    if let Some(seen) = relation.large_objects.as_ref().filter(|_| lost) {
        oids.extend(seen.missing.iter().map(|missing| missing.loid));
    }
    // The index knows of which objects the lost pages were.
    let keys = relation.lost_keys.as_ref().filter(|_| lost);
    if let Some(path) = keys.and_then(|keys| keys.path.as_ref()) {
        let values = lost_keys::column(&dir.path().join(path), "loid")?;
        oids.extend(values.iter().filter_map(|oid| oid.parse::<u32>().ok()));
    }
    let is_known = keys.is_some_and(|keys| keys.omitted == 0 && keys.notes.is_empty());
    let is_read = matches!(relation.status, RelationStatus::Clean | RelationStatus::Salvaged);
    Ok(Doubts { not_whole: oids, more_is_lost: !is_read || (lost && !is_known) })
}

/// The rows of `pg_largeobject_metadata`, by the names of their columns.
async fn read_metadata(dir: &DumpDir, relation: &Relation) -> Result<Known, OutputError> {
    let mut known = Known::new();
    let at = |name: &str| relation.columns.iter().position(|column| column.name == name);
    let (Some(oid), Some(owner)) = (at("oid"), at("lomowner")) else { return Ok(known) };
    let rights = at("lomacl");
    for file in relation.files.iter().filter(|f| f.class == RowClass::Clean) {
        let mut rows = Rows::open(dir, &file.path).await?;
        while let Some(row) = rows.next().await? {
            let fields: Vec<Option<BString>> = fields(row).collect();
            let field = |i: usize| fields.get(i).cloned().flatten();
            let number = |i| std::str::from_utf8(&field(i)?).ok()?.parse::<u32>().ok();
            if let (Some(oid), Some(owner)) = (number(oid), number(owner)) {
                known.insert(oid, (owner, rights.and_then(field)));
            }
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_from_its_row() {
        let page = page(b"16400\t3\t\\\\x00ff\n").expect("a page");
        assert_eq!((page.oid, page.number, page.data), (16400, 3, vec![0, 255]));
    }

    #[test]
    fn the_elements_of_an_array_are_told_apart() {
        let found = items(br#"{a=r/a,"\"b c\"=rw/a","d,e=r/a"}"#);
        assert_eq!(found, ["a=r/a", "\"b c\"=rw/a", "d,e=r/a"].map(BString::from));
        assert_eq!(items(b"{}"), Vec::<BString>::new());
    }
}
