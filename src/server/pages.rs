//! The bytes of blocks, as they are in the files of the server.
//!
//! `pg_read_binary_file` reads the file and not shared buffers: no page is taken
//! into the cache, nothing on it is changed, and what was changed in memory only
//! is not seen. It needs a superuser, or pg_read_server_files and the right to
//! call it.

use super::session::{ReadError, Session};
use super::sql::literal;
use crate::heap::BlockNumber;

/// So much is read at once: a round trip costs little beside it.
const PIECE_BYTES: u32 = 1 << 20;

/// So much the server looks at for one answer: less than a second's work.
const PIECE_THERE_BYTES: u32 = 64 << 20;

/// A fork of a relation.
pub struct Fork<'a> {
    session: &'a Session,
    path: String,
}

impl<'a> Fork<'a> {
    /// `path` as `pg_relation_filepath` gives it, with the suffix of the fork.
    pub fn new(session: &'a Session, path: impl Into<String>) -> Self {
        Self { session, path: path.into() }
    }

    /// How many blocks are best read at once.
    pub fn piece(&self) -> u32 {
        (PIECE_BYTES / self.block_size()).max(1)
    }

    /// How many blocks there can be in a piece that the server looks at itself.
    pub fn piece_there(&self) -> u32 {
        (PIECE_THERE_BYTES / self.block_size()).max(1)
    }

    /// Some blocks: fewer at the end of the file or of a segment, and none
    /// behind it.
    pub async fn read(&self, first: BlockNumber, count: u32) -> Result<Vec<u8>, ReadError> {
        let (path, within, count) = self.place(first, count);
        let bytes = |blocks: u32| u64::from(blocks) * u64::from(self.block_size());
        let sql = format!(
            "COPY (SELECT pg_catalog.pg_read_binary_file({}, {}, {}, true)) \
             TO STDOUT (FORMAT binary)",
            literal(&path),
            bytes(within),
            bytes(count)
        );
        Ok(self.session.binary_field(&sql).await?.unwrap_or_default().to_vec())
    }

    /// Those of some blocks whose pages are all zeros: the server looks itself,
    /// and the pages stay there.
    pub async fn zeros(
        &self,
        first: BlockNumber,
        count: u32,
    ) -> Result<Vec<BlockNumber>, ReadError> {
        let (path, within, count) = self.place(first, count);
        let size = self.block_size();
        let sql = format!(
            "SELECT {first} + n FROM pg_catalog.generate_series(0::bigint, {count} - 1) n \
             WHERE pg_catalog.pg_read_binary_file({}, ({within} + n) * {size}, {size}, true) \
             = pg_catalog.decode(pg_catalog.repeat('00', {size}), 'hex')",
            literal(&path)
        );
        let rows = self.session.rows(&sql).await?;
        Ok(rows.into_iter().flatten().filter_map(|b| b?.parse().ok()).collect())
    }

    /// The segment that some blocks are in, the place of the first there, and how
    /// many of them are.
    fn place(&self, first: BlockNumber, count: u32) -> (String, u32, u32) {
        let per_segment = self.session.server().segment_blocks;
        let (segment, within) = (first / per_segment, first % per_segment);
        let suffix = if segment == 0 { String::new() } else { format!(".{segment}") };
        (format!("{}{suffix}", self.path), within, count.min(per_segment - within))
    }

    fn block_size(&self) -> u32 {
        self.session.server().block_size.max(1)
    }
}

/// One block of the main fork of a relation. None: the file ends before it.
pub async fn page_image(
    session: &Session,
    path: &str,
    block: BlockNumber,
) -> Result<Option<Vec<u8>>, ReadError> {
    let bytes = Fork::new(session, path).read(block, 1).await?;
    Ok(Some(bytes).filter(|b| b.len() as u64 == u64::from(session.server().block_size)))
}

/// What `encode(..., 'hex')` has written.
pub fn from_hex(hex: &[u8]) -> Option<Vec<u8>> {
    let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = hex.chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_bytes() {
        assert_eq!(from_hex(b"00ff7A"), Some(vec![0, 255, 0x7a]));
        assert_eq!((from_hex(b"0"), from_hex(b"0g"), from_hex(b"")), (None, None, Some(vec![])));
    }
}
