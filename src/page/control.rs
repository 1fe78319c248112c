//! `global/pg_control`, as far as reading files asks for it
//! (`catalog/pg_control.h`): of PostgreSQL 10 to 18 on little-endian machines.

use super::u32_at;

/// `FLOATFORMAT_VALUE`: what stands before the sizes, in every version.
const FLOAT_FORMAT: f64 = 1_234_567.0;

/// `pg_control_version` of 11, from which on there is no `prevCheckPoint`.
const WITHOUT_PREVIOUS: u32 = 1100;

/// `DB_SHUTDOWNED` and `DB_SHUTDOWNED_IN_RECOVERY`.
const SHUT_DOWN: [u32; 2] = [1, 2];

/// What the control file says of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Control {
    pub system_identifier: u64,
    /// Whether the server was shut down, and did not crash.
    pub is_shut_down: bool,
    /// Where the last checkpoint began.
    pub redo: u64,
    pub block_size: u32,
    /// Blocks in one file of a relation.
    pub segment_blocks: u32,
    pub data_checksums: bool,
}

impl Control {
    /// None: it is not what such a file holds.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let redo_at = if u32_at(bytes, 8)? < WITHOUT_PREVIOUS { 48 } else { 40 };
        let float = FLOAT_FORMAT.to_le_bytes();
        let found = bytes.windows(float.len()).position(|window| window == float)?;
        let sizes = found + float.len();
        let (block_size, segment_blocks) = (u32_at(bytes, sizes)?, u32_at(bytes, sizes + 4)?);
        let is_sane = block_size.is_power_of_two() && (512..=32_768).contains(&block_size);
        if !is_sane || segment_blocks == 0 {
            return None;
        }
        Some(Self {
            system_identifier: u64::from_le_bytes(*bytes.first_chunk()?),
            is_shut_down: SHUT_DOWN.contains(&u32_at(bytes, 16)?),
            redo: u64::from_le_bytes(*bytes.get(redo_at..)?.first_chunk()?),
            block_size,
            segment_blocks,
            // Behind eight sizes of four bytes, and one or two of `bool`, padded.
            data_checksums: u32_at(bytes, sizes + 36)? != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_control_file_is_none_and_nothing_panics() {
        let mut bytes = vec![0; 8192];
        assert_eq!(Control::parse(&bytes), None);
        bytes[8..12].copy_from_slice(&1300_u32.to_le_bytes());
        bytes[200..208].copy_from_slice(&FLOAT_FORMAT.to_le_bytes());
        assert_eq!(Control::parse(&bytes), None);
        bytes[208..212].copy_from_slice(&8192_u32.to_le_bytes());
        bytes[212..216].copy_from_slice(&131_072_u32.to_le_bytes());
        bytes[244] = 1;
        let control = Control::parse(&bytes).expect("one");
        assert_eq!((control.block_size, control.data_checksums), (8192, true));
        for len in 0..bytes.len().min(300) {
            Control::parse(&bytes[..len]);
        }
    }
}
