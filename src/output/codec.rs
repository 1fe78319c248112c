//! What `-Z METHOD[:LEVEL]` means. The spellings are those of `pg_dump`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// How data files are compressed, and how hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    pub method: Method,
    /// None is the method's default.
    pub level: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Zstd,
    Gzip,
    Lz4,
    None,
}

impl Method {
    pub const ALL: [Self; 4] = [Self::Zstd, Self::Gzip, Self::Lz4, Self::None];

    fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::None => "none",
        }
    }

    /// The levels that pg_dump takes. None: there is nothing to choose.
    fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::Zstd => Some(-131_072..=22),
            Self::Gzip => Some(1..=9),
            Self::Lz4 => Some(1..=12),
            Self::None => None,
        }
    }

    /// What is appended to a file name. `pg_restore` looks for these.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
            Self::Lz4 => ".lz4",
            Self::None => "",
        }
    }
}

impl Codec {
    pub const NONE: Self = Self { method: Method::None, level: None };

    pub fn suffix(&self) -> &'static str {
        self.method.suffix()
    }
}

impl Default for Codec {
    fn default() -> Self {
        Self { method: Method::Zstd, level: None }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method.name())?;
        match self.level {
            Some(level) => write!(f, ":{level}"),
            None => Ok(()),
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid compression \"{0}\": expected zstd, gzip, lz4 or none, with an optional level as in \
     zstd:6 (zstd -131072 to 22, default 3; gzip 1 to 9, default 6; lz4 1 to 12, default 1)"
)]
pub struct CodecError(String);

impl FromStr for Codec {
    type Err = CodecError;

    fn from_str(text: &str) -> Result<Self, CodecError> {
        parse(text).ok_or_else(|| CodecError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Codec> {
    // Before it knew methods, pg_dump took the level of gzip alone, 0 for none.
    if let [digit @ b'0'..=b'9'] = text.as_bytes() {
        return Some(match digit - b'0' {
            0 => Codec::NONE,
            level => Codec { method: Method::Gzip, level: Some(level.into()) },
        });
    }
    let (name, detail) = match text.split_once(':') {
        Some((name, detail)) => (name, Some(detail)),
        None => (text, None),
    };
    let method = Method::ALL.into_iter().find(|method| method.name() == name)?;
    let Some(detail) = detail else {
        return Some(Codec { method, level: None });
    };
    let level = detail.strip_prefix("level=").unwrap_or(detail).parse().ok()?;
    method.levels()?.contains(&level).then_some(Codec { method, level: Some(level) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_pg_dump_is_understood() {
        let cases = [
            ("zstd", Method::Zstd, None),
            ("zstd:19", Method::Zstd, Some(19)),
            ("zstd:-5", Method::Zstd, Some(-5)),
            ("zstd:level=7", Method::Zstd, Some(7)),
            ("gzip:9", Method::Gzip, Some(9)),
            ("lz4", Method::Lz4, None),
            ("lz4:12", Method::Lz4, Some(12)),
            ("none", Method::None, None),
            ("0", Method::None, None),
            ("4", Method::Gzip, Some(4)),
        ];
        for (text, method, level) in cases {
            assert_eq!(text.parse(), Ok(Codec { method, level }), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let cases = [
            "",
            ":",
            "zstd:",
            "zstd:23",
            "gzip:0",
            "gzip:10",
            "gzip:-1",
            "lz4:0",
            "lz4:13",
            "none:1",
            "none:0",
            "10",
            "-1",
            "ZSTD",
            "bzip2",
            "zstd:level",
            "zstd:level=",
            "zstd:long",
            "zstd:level=3,workers=2",
            "gzip:99999999999",
            "zstd: 3",
        ];
        for text in cases {
            assert!(text.parse::<Codec>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_error_lists_what_is_valid() {
        assert_eq!(
            "bzip2".parse::<Codec>().unwrap_err().to_string(),
            "invalid compression \"bzip2\": expected zstd, gzip, lz4 or none, with an optional \
             level as in zstd:6 (zstd -131072 to 22, default 3; gzip 1 to 9, default 6; lz4 1 to \
             12, default 1)"
        );
    }

    #[test]
    fn a_codec_prints_as_it_is_typed() {
        for text in ["zstd", "zstd:-5", "gzip:9", "lz4:1", "none"] {
            assert_eq!(text.parse::<Codec>().unwrap().to_string(), text);
        }
    }
}
