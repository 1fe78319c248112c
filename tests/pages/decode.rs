//! A relation's file as rows of COPY text, by way of `pg_salvage::page` alone:
//! the server is asked for the columns and for the place of the file.
#![allow(unreachable_pub)]

use crate::kit::Server;
use pg_salvage::page::{Align, Attribute, Found, Page, Varlena, copy, datum, varlena};
use std::collections::BTreeMap;
use tokio_postgres::Client;

const BLOCK_SIZE: usize = 8192;

/// More than any value of these tests has.
const VALUE_MAX: usize = 16 << 20;

/// Chunks of values, by `chunk_id` and `chunk_seq`.
pub type Toast = BTreeMap<u32, BTreeMap<u32, Vec<u8>>>;

pub struct Column {
    pub attribute: Attribute,
    pub type_oid: u32,
    /// Whether a dump has it: it is neither dropped nor generated.
    is_dumped: bool,
    missing: Option<String>,
}

pub struct Heap {
    pub name: String,
    pub columns: Vec<Column>,
    pub toast: Toast,
    file: Vec<u8>,
}

impl Heap {
    /// As it is on disk: a checkpoint comes first.
    pub async fn read(server: &Server, client: &Client, relation: &str) -> Heap {
        let mut heap = Heap::without_toast(server, client, relation).await;
        let sql = format!(
            "SELECT reltoastrelid::regclass::text FROM pg_catalog.pg_class
             WHERE oid = {}::regclass AND reltoastrelid <> 0",
            quote(relation)
        );
        if let Some(row) = client.query_opt(&sql, &[]).await.expect("pg_class") {
            heap.toast = Heap::without_toast(server, client, row.get(0)).await.chunks();
        }
        heap
    }

    async fn without_toast(server: &Server, client: &Client, relation: &str) -> Heap {
        let oid = format!("{}::regclass", quote(relation));
        let path = client.query_one(&format!("SELECT pg_relation_filepath({oid})"), &[]).await;
        let path: String = path.expect("a path").get(0);
        let file = std::fs::read(server.data_dir().join(&path)).expect("the relation's file");
        let sql = format!(
            "SELECT attlen, attalign::text,
                 CASE WHEN typtype = 'd' THEN typbasetype ELSE atttypid END,
                 NOT attisdropped AND attgenerated = '', (attmissingval::text::text[])[1]
             FROM pg_catalog.pg_attribute LEFT JOIN pg_catalog.pg_type ON pg_type.oid = atttypid
             WHERE attrelid = {oid} AND attnum > 0 ORDER BY attnum"
        );
        let rows = client.query(&sql, &[]).await.expect("pg_attribute");
        let column = |row: &tokio_postgres::Row| Column {
            attribute: Attribute {
                len: row.get(0),
                align: Align::of(row.get::<_, &str>(1).as_bytes()[0]).expect("an alignment"),
            },
            type_oid: row.get(2),
            is_dumped: row.get(3),
            missing: row.get(4),
        };
        let columns = rows.iter().map(column).collect();
        Heap { name: relation.to_owned(), columns, toast: Toast::new(), file }
    }

    pub fn attributes(&self) -> Vec<Attribute> {
        self.columns.iter().map(|column| column.attribute).collect()
    }

    pub fn pages(&self) -> impl Iterator<Item = (u32, Page<'_>)> {
        (0..).zip(self.file.chunks(BLOCK_SIZE).map(Page::new))
    }

    /// The tuple at this place as its dumped columns' types and COPY text; a
    /// value that cannot be told is none.
    pub fn fields(&self, block: u32, number: u16) -> Option<Vec<(u32, Option<Vec<u8>>)>> {
        let tuple = self.pages().nth(usize::try_from(block).expect("small"))?.1.tuple(number)?;
        let found = tuple.attributes(&self.attributes());
        let columns = self.columns.iter().zip(found).filter(|(column, _)| column.is_dumped);
        let field = |(column, found): (&Column, Found)| {
            let text = match found {
                Found::Null => None,
                Found::Absent => column.missing.clone().map(String::into_bytes),
                Found::Bytes(value) => match decode(column, value, &self.toast) {
                    Some(text) => Some(text),
                    None => return (column.type_oid, None),
                },
                Found::Broken => return (column.type_oid, None),
            };
            let mut field = Vec::new();
            match text {
                Some(text) => copy::escape(&text, &mut field),
                None => field.extend_from_slice(b"\\N"),
            }
            (column.type_oid, Some(field))
        };
        Some(columns.map(field).collect())
    }

    /// Every varlena of every tuple.
    pub fn varlenas(&self) -> Vec<Varlena<'_>> {
        let attributes = self.attributes();
        let tuples = self.pages().flat_map(|(_, page)| {
            page.line_pointers().filter_map(move |(number, _)| page.tuple(number))
        });
        let values = tuples.flat_map(|tuple| {
            let found = tuple.attributes(&attributes);
            let values = found.into_iter().zip(&attributes);
            values.filter(|(_, attribute)| attribute.len == -1).map(|(f, _)| f).collect::<Vec<_>>()
        });
        let varlena = |found| match found {
            Found::Bytes(bytes) => Varlena::parse(bytes),
            _ => None,
        };
        values.filter_map(varlena).collect()
    }

    fn chunks(&self) -> Toast {
        let mut toast = Toast::new();
        let attributes = self.attributes();
        for (_, page) in self.pages() {
            for (number, _) in page.line_pointers() {
                let Some(tuple) = page.tuple(number) else { continue };
                let [Found::Bytes(id), Found::Bytes(seq), Found::Bytes(data)] =
                    tuple.attributes(&attributes)[..]
                else {
                    panic!("{} has another tuple than a chunk", self.name)
                };
                let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("a word"));
                let data = Varlena::parse(data).and_then(|data| data.inline(VALUE_MAX));
                let data = data.expect("a chunk's data").into_owned();
                toast.entry(word(id)).or_default().insert(word(seq), data);
            }
        }
        toast
    }
}

/// The text of a value as it lies in a tuple, or, of one that is out of line,
/// in the chunks.
pub fn decode(column: &Column, value: &[u8], toast: &Toast) -> Option<Vec<u8>> {
    if column.attribute.len != -1 {
        return datum::to_text(column.type_oid, value);
    }
    let varlena = Varlena::parse(value)?;
    let payload = match varlena {
        Varlena::External(pointer) => {
            let chunks = toast.get(&pointer.value_id)?;
            let bytes: Vec<u8> = chunks.values().flatten().copied().collect();
            varlena::unpack_external(&pointer, &bytes)?
        }
        inline => inline.inline(VALUE_MAX)?.into_owned(),
    };
    datum::to_text(column.type_oid, &payload)
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
