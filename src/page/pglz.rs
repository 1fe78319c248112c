//! PostgreSQL's own compression, unpacked (`pg_lzcompress.c`).
//!
//! A control byte says of the next eight items, from its lowest bit on, what
//! they are: a byte as it is (0) or a tag (1). A tag has four bits of length
//! less 3 and twelve of distance; where the length is 18, a third byte adds to
//! it. It stands for that many bytes from that far back, which may overlap
//! with what they make.

/// Unpacks data that are to give exactly `size` bytes; the caller has seen that
/// they can.
pub(super) fn decompress(data: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut raw = Vec::with_capacity(size);
    let mut data = data.iter().copied();
    while raw.len() < size {
        let control = data.next()?;
        for bit in 0..8 {
            if raw.len() == size || data.len() == 0 {
                break;
            }
            if control & 1 << bit == 0 {
                raw.push(data.next()?);
                continue;
            }
            let (first, second) = (data.next()?, data.next()?);
            let mut length = usize::from(first & 0x0F) + 3;
            if length == 18 {
                length += usize::from(data.next()?);
            }
            let distance = usize::from(first & 0xF0) << 4 | usize::from(second);
            let from = raw.len().checked_sub(distance).filter(|_| distance > 0)?;
            let end = size.min(raw.len() + length);
            // What a copy has made, the next can copy.
            while raw.len() < end {
                let to = (from + (end - raw.len())).min(raw.len());
                raw.extend_from_within(from..to);
            }
        }
    }
    (data.len() == 0).then_some(raw)
}
