//! What of a place is there in a data directory.

use super::path::{Geometry, Place};
use std::path::Path;

/// Whether the segment has this block, in words for people; nothing, where it
/// has.
pub(super) fn missing(pgdata: &Path, place: &Place, geometry: Geometry) -> Option<String> {
    match std::fs::metadata(pgdata.join(&place.file)) {
        Err(e) => Some(format!("could not look at the file: {e}")),
        Ok(there) if there.len() < place.byte + u64::from(geometry.block_size) => {
            Some(format!("the file ends before it, at byte {}", there.len()))
        }
        Ok(_) => None,
    }
}
