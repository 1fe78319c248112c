//! The bytes of blocks, as they are in the files of the server.
//!
//! `pg_read_binary_file` reads the file and not shared buffers, so nothing on the
//! page is changed by it, and what was changed in memory only is not seen. It
//! needs a superuser, or pg_read_server_files and the right to call it.

use super::session::{ReadError, Session};
use super::sql::literal;
use crate::heap::BlockNumber;

/// One block of the main fork of a relation, by its path as
/// `pg_relation_filepath` gives it. None: the file ends before it.
pub async fn page_image(
    session: &Session,
    path: &str,
    block: BlockNumber,
) -> Result<Option<Vec<u8>>, ReadError> {
    let server = session.server();
    let blocks = server.segment_blocks.max(1);
    let (segment, within) = (block / blocks, block % blocks);
    let suffix = if segment == 0 { String::new() } else { format!(".{segment}") };
    let sql = format!(
        "SELECT pg_catalog.encode(pg_catalog.pg_read_binary_file({}, {}, {}, true), 'hex')",
        literal(&format!("{path}{suffix}")),
        u64::from(within) * u64::from(server.block_size),
        server.block_size
    );
    let bytes = session.value(&sql).await?.and_then(|hex| from_hex(hex.as_bytes()));
    Ok(bytes.filter(|bytes| bytes.len() as u64 == u64::from(server.block_size)))
}

/// What `encode(..., 'hex')` has written.
pub fn from_hex(hex: &[u8]) -> Option<Vec<u8>> {
    let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = hex.chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::from_hex;

    #[test]
    fn hexadecimal_digits_are_bytes() {
        assert_eq!(from_hex(b"00ff7A"), Some(vec![0, 255, 0x7a]));
        assert_eq!((from_hex(b"0"), from_hex(b"0g"), from_hex(b"")), (None, None, Some(vec![])));
    }
}
