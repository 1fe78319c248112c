//! The TOAST relation of a table, as a relation to be read by itself.

use super::session::{ReadError, Session};
use super::sql::{Readable, literal};

/// Takes an index for what follows, up to the next undo: sessions take none.
pub const BY_INDEX: &str = "SET LOCAL enable_indexscan TO on";

/// Of a TOAST relation the chunks of a value, as a query and as COPY.
pub fn chunks_of_value(toast: &Readable, value_id: u32) -> (String, String) {
    let select = format!(
        "SELECT chunk_seq, chunk_data FROM {} WHERE chunk_id = {value_id} ORDER BY chunk_seq",
        toast.qualified
    );
    let copy = format!("COPY ({select}) TO STDOUT (ENCODING {})", literal(&toast.encoding));
    (select, copy)
}

/// The files of the valid indexes of a TOAST relation (there is one), and their
/// lengths in blocks.
pub async fn toast_index(session: &Session, oid: u32) -> Result<Vec<(String, u32)>, ReadError> {
    let sql = format!(
        "SELECT pg_catalog.pg_relation_filepath(indexrelid), \
         pg_catalog.pg_relation_size(indexrelid, 'main') \
         FROM pg_catalog.pg_index WHERE indrelid = {oid} AND indisvalid"
    );
    let block_size = u64::from(session.server().block_size.max(1));
    let rows = session.rows(&sql).await?.into_iter();
    let index = |row: Vec<Option<String>>| match row.as_slice() {
        [Some(path), Some(size)] => {
            let blocks = size.parse::<u64>().ok()? / block_size;
            Some((path.clone(), u32::try_from(blocks).unwrap_or(u32::MAX)))
        }
        _ => None,
    };
    Ok(rows.filter_map(index).collect())
}

/// The statements for a TOAST relation, its file, and its length in blocks.
/// `of`: the table that it is of.
pub async fn toast_relation(
    session: &Session,
    oid: u32,
    of: &Readable,
) -> Result<(Readable, String, u32), ReadError> {
    let sql = format!(
        "SELECT {oid}::pg_catalog.regclass, pg_catalog.pg_relation_filepath({oid}), \
         pg_catalog.pg_relation_size({oid}, 'main')"
    );
    let row = session.row(&sql).await?;
    let text = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
    let bytes: u64 = text(2).parse().unwrap_or(0);
    let blocks = bytes / u64::from(session.server().block_size.max(1));
    let readable = Readable {
        qualified: text(0),
        columns: ["chunk_id", "chunk_seq"].map(str::to_owned).to_vec(),
        plain: true,
        oids: false,
        ..of.clone()
    };
    Ok((readable, text(1), u32::try_from(blocks).unwrap_or(u32::MAX)))
}
