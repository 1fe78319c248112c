//! Large objects, compared: how many there are, how long each is, and what is in
//! it.
//!
//! Pages come in any order, and of one that is missing zeros are read. So of each
//! page a hash is taken without the zeros that it ends with, none of a page of
//! zeros, and one of each object with its length; the sum of them all is the same
//! for the same contents alone. Owners and rights are not compared.

use super::super::count;
use super::super::plan::{Table, is_included};
use super::super::shared::{Problem, Shared};
use super::compared;
use crate::output::manifest::{FileEntry, RelationKind};
use crate::output::rejects::read_rejects;
use crate::output::restored::Check;
use crate::output::{Content, ContentHash, OutputError, RowReader};
use crate::server::copy_text::rows_in;
use crate::server::fault;
use crate::server::restoring::{Refusal, TargetSession, sql};
use std::collections::HashMap;

/// `bytea` in hexadecimal digits, as COPY writes it.
const HEX: &[u8] = b"\\\\x";

/// What is known of all objects.
struct Objects {
    page_bytes: u64,
    lengths: HashMap<u32, u64>,
    pages: Content,
}

impl Objects {
    fn new(page_bytes: u64) -> Self {
        Self { page_bytes, lengths: HashMap::new(), pages: Content::default() }
    }

    /// An object that there is, with pages or without.
    fn object(&mut self, oid: u32) {
        self.lengths.entry(oid).or_default();
    }

    /// `loid`, `pageno` and `data`; the last two are NULL for an object without
    /// pages. What is none of this is no page.
    fn page(&mut self, line: &[u8]) {
        let mut fields = line.split(|b| *b == b'\t');
        let Some(oid) = fields.next().and_then(number) else { return };
        let length = self.lengths.entry(oid).or_default();
        let number: Option<u32> = fields.next().and_then(number);
        let Some((page, hex)) = number.zip(fields.next().and_then(|f| f.strip_prefix(HEX))) else {
            return;
        };
        let end = u64::from(page) * self.page_bytes + hex.len() as u64 / 2;
        *length = (*length).max(end);
        let zeros = hex.rchunks(2).take_while(|byte| *byte == b"00").count();
        let contents = &hex[..hex.len() - 2 * zeros];
        if !contents.is_empty() {
            self.pages.add(&[format!("{oid} {page} ").as_bytes(), contents].concat());
        }
    }

    /// How many objects, and the sum of all that is known of them.
    fn sum(self) -> Content {
        let mut sum = Content { rows: 0, ..self.pages };
        for (oid, length) in self.lengths {
            sum.add(format!("{oid} {length}").as_bytes());
        }
        sum
    }
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

pub(super) async fn check(
    shared: &Shared,
    session: &TargetSession,
    source: Option<&TargetSession>,
    table: &Table,
) -> Result<Check, Problem> {
    let page_bytes = shared.plan.page_bytes();
    let expected = match source {
        Some(source) => in_database(source, page_bytes).await?,
        None => in_files(shared, table).await?,
    };
    let found = in_database(session, page_bytes).await?;
    let pages = table.included(shared.options.include).map(|f| f.rows).sum();
    count(&shared.progress, pages, 0);
    Ok(compared(expected, found))
}

/// What the files have, but for the rows that were rejected.
async fn in_files(shared: &Shared, table: &Table) -> Result<Content, OutputError> {
    // Rows of both relations are in one file of rejects.
    let mut rejected: HashMap<ContentHash, u64> = HashMap::new();
    let (len, _) = shared.rejects_of(table.relation.oid);
    if len > 0 {
        let path = shared.dir.path().join(format!("{}.csv", table.stem));
        read_rejects(&path, |_, _, row| {
            *rejected.entry(ContentHash::of_row(row)).or_default() += 1;
        })?;
    }
    let mut is_taken = |line: &[u8]| match rejected.get_mut(&ContentHash::of_row(line)) {
        Some(times) if *times > 0 => {
            *times -= 1;
            false
        }
        _ => true,
    };
    let mut objects = Objects::new(u64::from(shared.plan.page_bytes()));
    let include = shared.options.include;
    let metadata = shared.plan.manifest.relations.iter();
    for relation in metadata.filter(|r| r.kind == RelationKind::LargeObjectMetadata) {
        let Some(at) = relation.columns.iter().position(|c| c.name == "oid") else { continue };
        for file in relation.files.iter().filter(|f| is_included(f.class, include)) {
            each_line(shared, file, |line| {
                let oid = line.split(|b| *b == b'\t').nth(at).and_then(number);
                if let Some(oid) = oid.filter(|_| is_taken(line)) {
                    objects.object(oid);
                }
            })
            .await?;
        }
    }
    for file in table.included(include) {
        each_line(shared, file, |line| {
            if is_taken(line) {
                objects.page(line);
            }
        })
        .await?;
    }
    Ok(objects.sum())
}

async fn each_line(
    shared: &Shared,
    file: &FileEntry,
    mut each: impl FnMut(&[u8]),
) -> Result<(), OutputError> {
    let mut reader = RowReader::open(&shared.options.dir.join(&file.path)).await?;
    while let Some(rows) = reader.next().await {
        lines(&rows.text, &mut each);
    }
    Ok(())
}

fn lines(text: &[u8], mut each: impl FnMut(&[u8])) {
    for line in rows_in(text) {
        each(line.strip_suffix(b"\n").unwrap_or(line));
    }
}

/// Page by page as they lie there; where we may not look at them, or they are of
/// another size, through the functions that any role may call.
async fn in_database(session: &TargetSession, page_bytes: u32) -> Result<Content, Refusal> {
    let block = session.value("SHOW block_size").await?.and_then(|size| size.parse().ok());
    if block.map(super::super::large_objects::page_bytes) == Some(page_bytes) {
        match read(session, sql::COPY_PAGES, page_bytes).await {
            Err(refusal) if !refusal.is_lost() && fault::is_refusal(&refusal.words) => {}
            read => return read,
        }
    }
    read(session, &sql::copy_pages_by_functions(page_bytes), page_bytes).await
}

async fn read(session: &TargetSession, copy: &str, page_bytes: u32) -> Result<Content, Refusal> {
    let mut objects = Objects::new(u64::from(page_bytes));
    session.copy_out(copy, |rows| lines(rows, |line| objects.page(line))).await?;
    Ok(objects.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(pages: &[&str]) -> Content {
        let mut objects = Objects::new(4);
        pages.iter().for_each(|page| objects.page(page.as_bytes()));
        objects.sum()
    }

    #[test]
    fn the_same_contents_have_the_same_sum_and_no_others() {
        let whole = sum(&["7\t0\t\\\\x61626364", "7\t1\t\\\\x6500", "8\t\\N\t\\N"]);
        assert_eq!(whole.rows, 2);
        assert_eq!(whole, sum(&["8\t\\N\t\\N", "7\t1\t\\\\x6500", "7\t0\t\\\\x61626364"]));
        let others: [&[&str]; 5] = [
            // Shorter, with other contents, at another place, of another object,
            // without the empty one.
            &["7\t0\t\\\\x61626364", "7\t1\t\\\\x65", "8\t\\N\t\\N"],
            &["7\t0\t\\\\x61626363", "7\t1\t\\\\x6500", "8\t\\N\t\\N"],
            &["7\t0\t\\\\x61626364", "7\t2\t\\\\x6500", "8\t\\N\t\\N"],
            &["9\t0\t\\\\x61626364", "9\t1\t\\\\x6500", "8\t\\N\t\\N"],
            &["7\t0\t\\\\x61626364", "7\t1\t\\\\x6500"],
        ];
        for other in others {
            assert_ne!(whole, sum(other), "{other:?}");
        }
        // A page of zeros, and none, are read as the same.
        let hole = sum(&["7\t0\t\\\\x61", "7\t2\t\\\\x62"]);
        assert_eq!(hole, sum(&["7\t0\t\\\\x61", "7\t1\t\\\\x00000000", "7\t2\t\\\\x62"]));
        assert_eq!(hole, sum(&["7\t0\t\\\\x61000000", "7\t2\t\\\\x62"]));
    }
}
