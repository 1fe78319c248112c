//! Lengths of time and sizes, with units as PostgreSQL's settings have them.

use std::time::Duration;

/// `500ms`, `10s`, `5min`, `4h`, `7d`; a bare 0 is none.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    // Days of 24 hours.
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        return Ok(Duration::from_secs(u64::from(days) * 86_400));
    }
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|d| Duration::try_from(d).ok())
        .ok_or_else(|| "write it with a unit, as in 500ms, 10s, 5min, 4h".to_owned())
}

/// `64MB`, `1GB`: units of 1024, as PostgreSQL's settings have them.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor: Option<u64> = match unit.trim() {
        "B" => Some(1),
        "kB" => Some(1 << 10),
        "MB" => Some(1 << 20),
        "GB" => Some(1 << 30),
        "TB" => Some(1 << 40),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(n, f)| n.checked_mul(f))
        .ok_or_else(|| "write it with a unit, as in 512kB, 64MB, 1GB".to_owned())
}

/// A size, or a bare 0.
pub(super) fn size_or_none(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { size(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(size("1GB"), Ok(1 << 30));
        assert_eq!(size("512kB"), Ok(512 << 10));
        assert_eq!((size_or_none("0"), size_or_none("1kB")), (Ok(0), Ok(1024)));
        assert!(size("7").is_err() && size("GB").is_err() && size("99999999999TB").is_err());
        assert_eq!(duration("10min"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert!(duration("7").is_err() && duration("-1s").is_err());
    }
}
