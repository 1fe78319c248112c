//! The bytes of blocks, as they are in the files of the server.
//!
//! `pg_read_binary_file` reads the file and not shared buffers: no page is taken
//! into the cache, nothing on it is changed, and what was changed in memory only
//! is not seen. It needs a superuser, or pg_read_server_files and the right to
//! call it.

use super::copy::BinaryFields;
use super::files::segment_path;
use super::session::{ReadError, Session};
use super::sql::literal;
use crate::heap::BlockNumber;
use bytes::Bytes;

/// So much comes at once: a row costs the server little beside it, and it is
/// about what fits into the caches of a processor.
const PIECE_BYTES: u32 = 256 << 10;

/// So much the server looks at for one answer: less than a second's work.
const PIECE_THERE_BYTES: u32 = 64 << 20;

/// Enough of the header of a page (`PageHeaderData`) to know most that are no zeros.
const HEADER_BYTES: u32 = 24;

/// What reads a file, as `GRANT` names it.
pub const READ_FUNCTION: &str = "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)";

/// Succeeds for a role that may read files.
pub const MAY_READ: &str = "SELECT pg_catalog.pg_read_binary_file('PG_VERSION', 0, 1, true)";

/// The file in the data directory that says which process the server is, since when,
/// and, in its second line, where that directory is.
pub const POSTMASTER_PID: &str = "postmaster.pid";

/// [`POSTMASTER_PID`] as the server reads it; none for a role that may not.
///
/// # Errors
/// The session is lost.
pub async fn postmaster_pid(session: &Session) -> Result<Option<Vec<u8>>, ReadError> {
    let sql = format!(
        "SELECT pg_catalog.encode(pg_catalog.pg_read_binary_file({}, 0, 8192, true), 'hex')",
        literal(POSTMASTER_PID)
    );
    Ok(session.wish(&sql).await?.and_then(|hex| from_hex(hex.as_bytes())))
}

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

    pub fn session(&self) -> &'a Session {
        self.session
    }

    /// How many blocks there can be in a piece that the server looks at itself.
    pub fn piece_there(&self) -> u32 {
        self.blocks_in(PIECE_THERE_BYTES)
    }

    /// How many blocks come at once.
    pub fn piece(&self) -> u32 {
        self.blocks_in(PIECE_BYTES)
    }

    fn blocks_in(&self, bytes: u32) -> u32 {
        (bytes / self.block_size()).max(1)
    }

    /// Reads blocks of one segment, in pieces. Returns how many they are.
    fn statement(&self, first: BlockNumber, count: u32) -> (String, u32) {
        let (path, within, count) = self.place(first, count);
        let size = u64::from(self.block_size());
        let (begin, end) = (u64::from(within) * size, u64::from(within + count) * size);
        let piece = u64::from(self.piece()) * size;
        let sql = format!(
            "COPY (SELECT pg_catalog.pg_read_binary_file({}, n, LEAST({piece}, {end} - n), true) \
             FROM pg_catalog.generate_series({begin}::bigint, {end} - 1, {piece}) n) \
             TO STDOUT (FORMAT binary)",
            literal(&path)
        );
        (sql, count)
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

    /// All of some blocks, in order, piece after piece.
    pub fn pieces(&self, first: BlockNumber, count: u32) -> Pieces<'_> {
        Pieces { fork: self, next: first, end: first.saturating_add(count), coming: None }
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
        let (piece, zeros) = (self.piece(), |bytes: u32| {
            format!("pg_catalog.decode(pg_catalog.repeat('00', {bytes}), 'hex')")
        });
        // A page is cut out of what was read only where its header is zeros: to cut
        // is to copy.
        let page = |bytes: u32| format!("pg_catalog.substr(b, i * {size} + 1, {bytes})");
        let sql = format!(
            "SELECT {first} + n + i \
             FROM pg_catalog.generate_series(0::bigint, {count} - 1, {piece}) n, \
             LATERAL (SELECT pg_catalog.pg_read_binary_file({}, ({within} + n) * {size}, \
             LEAST({piece}, {count} - n) * {size}, true) AS b OFFSET 0) p, \
             pg_catalog.generate_series(0, pg_catalog.octet_length(b) / {size} - 1) i \
             WHERE {} = {} AND {} = {}",
            literal(&path),
            page(HEADER_BYTES),
            zeros(HEADER_BYTES),
            page(size),
            zeros(size)
        );
        let rows = self.session.rows(&sql).await?;
        Ok(rows.into_iter().flatten().filter_map(|b| b?.parse().ok()).collect())
    }

    /// The segment that some blocks are in, the place of the first there, and how
    /// many of them are.
    fn place(&self, first: BlockNumber, count: u32) -> (String, u32, u32) {
        let per_segment = self.session.server().segment_blocks;
        let (segment, within) = (first / per_segment, first % per_segment);
        (segment_path(&self.path, segment), within, count.min(per_segment - within))
    }

    fn block_size(&self) -> u32 {
        self.session.server().block_size.max(1)
    }
}

/// Blocks of a fork, in one statement for each segment: the server reads on while
/// the last piece is looked at. Until the end has come, or this was dropped, the
/// session can do nothing else.
pub struct Pieces<'a> {
    fork: &'a Fork<'a>,
    next: BlockNumber,
    end: BlockNumber,
    /// The block that the next field begins with, and the fields.
    coming: Option<(BlockNumber, BinaryFields<'a>)>,
}

impl<'a> Pieces<'a> {
    /// The next blocks, and the number of the first of them; at the end of the
    /// file or of a segment the last may be cut off. `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<(BlockNumber, Bytes)>, ReadError> {
        loop {
            while let Some((first, fields)) = &mut self.coming {
                let Some(field) = fields.next().await? else {
                    self.coming = None;
                    break;
                };
                let at = *first;
                *first = first.saturating_add(self.fork.piece());
                if let Some(bytes) = field.filter(|bytes| !bytes.is_empty()) {
                    return Ok(Some((at, bytes)));
                }
            }
            if self.next >= self.end {
                return Ok(None);
            }
            let (sql, count) = self.fork.statement(self.next, self.end - self.next);
            self.coming = Some((self.next, self.fork.session.binary_fields(&sql).await?));
            self.next += count;
        }
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

/// Where the last checkpoint began: what was changed before that is on disk.
/// None where a role may not know.
pub async fn redo(session: &Session) -> Result<Option<u64>, ReadError> {
    let lsn = session.value("SELECT redo_lsn FROM pg_catalog.pg_control_checkpoint()").await?;
    Ok(lsn.and_then(|lsn| {
        let (high, low) = lsn.split_once('/')?;
        let part = |hex| u64::from_str_radix(hex, 16).ok();
        Some(part(high)? << 32 | part(low)?)
    }))
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
