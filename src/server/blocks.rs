//! Blocks of a relation's file as they lie on disk, by `pg_read_binary_file`.
//!
//! It reads the file and not shared buffers: no page is taken into the cache,
//! no hint bit is set, and what is damaged is read as what it is. What has been
//! changed since the last checkpoint may not be there yet. It needs a superuser,
//! or a role that may execute it and is in `pg_read_server_files`.

use super::session::{ReadError, Session};
use super::sql::literal;

/// So much is read at once: a round trip costs little beside it.
const PIECE_BYTES: u32 = 1 << 20;

/// So much the server looks at for one answer: less than a second's work.
const PIECE_THERE_BYTES: u32 = 64 << 20;

/// Of a server that does not say how long a segment is: `RELSEG_SIZE` of 1 GB.
const SEGMENT_BYTES: u64 = 1 << 30;

/// What comes before the first row of a binary COPY: signature, flags and the
/// length of what may follow, which nothing does.
const COPY_HEADER: usize = 19;
/// Number of fields, and the length of the only one.
const ROW_HEADER: usize = 6;

/// One fork of a relation.
pub struct Fork<'a> {
    session: &'a Session,
    path: String,
    block_size: u32,
    segment_blocks: u64,
}

impl<'a> Fork<'a> {
    /// `path` as `pg_relation_filepath` gives it, with the suffix of the fork.
    pub async fn open(session: &'a Session, path: String) -> Result<Self, ReadError> {
        let segment_blocks = segment_blocks(session).await?;
        Ok(Self::with(session, path, segment_blocks))
    }

    /// Where it is known how many blocks a segment has.
    pub fn with(session: &'a Session, path: String, segment_blocks: u64) -> Self {
        let block_size = session.server().block_size.max(1);
        Self { session, path, block_size, segment_blocks: segment_blocks.max(1) }
    }

    /// How many blocks are read at once.
    pub fn piece(&self) -> u32 {
        (PIECE_BYTES / self.block_size).max(1)
    }

    /// How many blocks there can be in a piece that the server looks at itself.
    pub fn piece_there(&self) -> u32 {
        (PIECE_THERE_BYTES / self.block_size).max(1)
    }

    /// Those of some blocks whose pages are all zeros: the server looks itself,
    /// and the pages stay there.
    pub async fn zeros(&self, first: u32, count: u32) -> Result<Vec<u32>, ReadError> {
        let (path, start, count) = self.place(first, count);
        let (size, end) = (self.block_size, u64::from(first) + count);
        let sql = format!(
            "SELECT b FROM pg_catalog.generate_series({first}::bigint, {end} - 1) b \
             WHERE pg_catalog.pg_read_binary_file({}, (b - {start}) * {size}, {size}, true) \
             = pg_catalog.decode(pg_catalog.repeat('00', {size}), 'hex')",
            literal(&path)
        );
        let rows = self.session.rows(&sql).await?;
        Ok(rows.into_iter().flatten().filter_map(|b| b?.parse().ok()).collect())
    }

    /// The segment of some blocks, its first block, and how many of them are in
    /// it.
    fn place(&self, first: u32, count: u32) -> (String, u64, u64) {
        let segment = u64::from(first) / self.segment_blocks;
        let (start, end) = (segment * self.segment_blocks, (segment + 1) * self.segment_blocks);
        let suffix = if segment == 0 { String::new() } else { format!(".{segment}") };
        let count = u64::from(count).min(end - u64::from(first));
        (format!("{}{suffix}", self.path), start, count)
    }

    /// The bytes of some blocks: fewer at the end of the file or of a segment,
    /// and none behind that.
    pub async fn read(&self, first: u32, count: u32) -> Result<Vec<u8>, ReadError> {
        let (path, start, count) = self.place(first, count);
        let size = u64::from(self.block_size);
        let sql = format!(
            "COPY (SELECT pg_catalog.pg_read_binary_file({}, {}, {}, true)) \
             TO STDOUT (FORMAT binary)",
            literal(&path),
            (u64::from(first) - start) * size,
            count * size
        );
        let mut copy = self.session.copy(&sql).await?;
        let mut bytes = Vec::new();
        while let Some(more) = copy.next().await? {
            bytes.extend_from_slice(&more);
        }
        Ok(only_field(&bytes).unwrap_or_default().to_vec())
    }
}

/// How many blocks a segment has.
pub async fn segment_blocks(session: &Session) -> Result<u64, ReadError> {
    let sql = "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('segment_size'))";
    let bytes = session.value(sql).await?.and_then(|b| b.parse().ok()).unwrap_or(SEGMENT_BYTES);
    Ok((bytes / u64::from(session.server().block_size.max(1))).max(1))
}

/// The only field of the only row of a binary COPY; none if it is NULL.
fn only_field(copy: &[u8]) -> Option<&[u8]> {
    let row = copy.get(COPY_HEADER..)?;
    let length = row.get(2..ROW_HEADER)?.try_into().ok().map(i32::from_be_bytes)?;
    row.get(ROW_HEADER..)?.get(..usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_of_a_binary_copy_is_cut_out() {
        let copy = |row: &[u8]| [b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0", row, b"\xff\xff"].concat();
        assert_eq!(only_field(&copy(b"\0\x01\0\0\0\x03abc")), Some(&b"abc"[..]));
        assert_eq!(only_field(&copy(b"\0\x01\xff\xff\xff\xff")), None);
        assert_eq!(only_field(&copy(b"\0\x01\0\0\0\x09abc")), None);
        assert_eq!(only_field(b"PG"), None);
    }
}
