//! What rows are, whatever their order: how many, and the sum of their hashes.
//!
//! Two relations with the same rows have the same sum, and a row more or less, or
//! one value changed, gives another. Sums of parts are added up, in any order,
//! and a part can be taken off again. The hash is no secret and no signature: it
//! tells accidents, not forgeries.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// The sum modulo 2^128 of the XXH3-128 of the text of each row, as COPY writes
/// it, without its newline. As text, 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentHash(u128);

impl ContentHash {
    /// Of a row, without its newline.
    pub fn of_row(row: &[u8]) -> Self {
        Self(xxh3_128(row))
    }
}

/// How many rows, and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub rows: u64,
    pub hash: ContentHash,
}

impl Content {
    /// Rows of which no hash is taken.
    pub fn of_count(rows: u64) -> Self {
        Self { rows, hash: ContentHash::default() }
    }

    /// Adds a row, without its newline.
    pub fn add(&mut self, row: &[u8]) {
        self.rows += 1;
        self.hash = self.hash + ContentHash::of_row(row);
    }

    /// Adds whole rows, each with its newline; of each what `part` gives. COPY
    /// text leaves no newline unescaped: each one ends a row.
    pub fn add_all(&mut self, text: &[u8], part: impl Fn(&[u8]) -> &[u8]) {
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', text) {
            self.add(part(&text[begin..end]));
            begin = end + 1;
        }
    }

    /// Of whole rows, each with its newline.
    pub fn of(text: &[u8]) -> Self {
        let mut content = Self::default();
        content.add_all(text, |row| row);
        content
    }
}

impl Add for ContentHash {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl Sub for ContentHash {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

impl AddAssign for Content {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.hash = self.hash + other.hash;
    }
}

impl Sub for Content {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { rows: self.rows.saturating_sub(other.rows), hash: self.hash - other.hash }
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ContentHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(Self).ok_or("not 32 hexadecimal digits")
    }
}

impl From<ContentHash> for String {
    fn from(hash: ContentHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for ContentHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_order_of_rows_does_not_matter_and_how_often_one_is_there_does() {
        assert_eq!(Content::of(b"a\nb\n\nb\n"), Content::of(b"\nb\nb\na\n"));
        assert_ne!(Content::of(b"a\na\n"), Content::of(b"b\nb\n"));
        assert_ne!(Content::of(b"a\nb\n"), Content::of(b"a\nb\nb\n"));
        assert_eq!(Content::of(b"a\nb\nb\n") - Content::of(b"b\n"), Content::of(b"b\na\n"));
        assert_eq!(Content::of(b"\n").rows, 1);
    }

    /// Of other programs, too: `printf a | xxhsum -H128`.
    #[test]
    fn the_hash_is_that_of_xxhsum() {
        let one = Content::of(b"a\n").hash.to_string();
        assert_eq!(one, "a96faf705af16834e6c632b61e964e1f");
        assert_eq!(one.parse(), Ok(Content::of(b"a\n").hash));
        assert!("+96faf705af16834e6c632b61e964e1f".parse::<ContentHash>().is_err());
        assert!("a9".parse::<ContentHash>().is_err());
    }

    proptest! {
        /// Wherever rows are cut into parts, and in whatever order those are added.
        #[test]
        fn sums_are_the_same_however_they_are_put_together(
            rows in prop::collection::vec("[a-c]{0,3}", 0..20),
            cuts in prop::collection::vec(0..20_usize, 2),
        ) {
            let of = |rows: &[String]| {
                Content::of(rows.iter().map(|r| format!("{r}\n")).collect::<String>().as_bytes())
            };
            let (a, b) = (cuts[0].min(rows.len()), cuts[1].min(rows.len()));
            let (a, b) = (a.min(b), a.max(b));
            let [first, second, third] = [of(&rows[..a]), of(&rows[a..b]), of(&rows[b..])];
            let mut left = first;
            left += second;
            left += third;
            let mut right = third;
            right += first;
            right += second;
            prop_assert_eq!(left, of(&rows));
            prop_assert_eq!(right, of(&rows));
            prop_assert_eq!(left - second - third, first);
        }
    }
}
