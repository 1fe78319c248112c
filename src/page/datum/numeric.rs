//! `numeric` (`numeric.c`): digits to the base of 10,000, a weight, and how
//! many decimal digits are shown behind the point.

use super::u16_at;

/// Two bits of the header, or with what follows four, say what it is.
const SIGN: u16 = 0xC000;
const NEGATIVE: u16 = 0x4000;
const SHORT: u16 = 0x8000;
const SPECIAL: u16 = 0xC000;
const NAN: u16 = 0xC000;
/// Since PostgreSQL 14.
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// A digit is below.
const BASE: u16 = 10_000;
/// So many decimal digits are in one.
const DECIMALS: usize = 4;

struct Numeric<'a> {
    is_negative: bool,
    /// How many digits after the first are before the point.
    weight: i32,
    /// `dscale`.
    scale: usize,
    digits: &'a [[u8; 2]],
}

pub(super) fn numeric(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let header = u16_at(value, 0)?;
    if header & SIGN == SPECIAL {
        out.extend_from_slice(match header {
            NAN => b"NaN".as_slice(),
            INFINITY => b"Infinity",
            MINUS_INFINITY => b"-Infinity",
            _ => return None,
        });
        return (value.len() == 2).then_some(());
    }
    let numeric = if header & SIGN == SHORT {
        let weight = i32::from(header & 0x3F);
        Numeric {
            is_negative: header & 0x2000 != 0,
            // Seven bits with their sign.
            weight: if header & 0x40 != 0 { weight - 0x40 } else { weight },
            scale: usize::from(header >> 7 & 0x3F),
            digits: digits(&value[2..])?,
        }
    } else {
        Numeric {
            is_negative: header & SIGN == NEGATIVE,
            weight: i32::from(u16_at(value, 2)?.cast_signed()),
            scale: usize::from(header & 0x3FFF),
            digits: digits(&value[4..])?,
        }
    };
    numeric.text(out)
}

/// All of them are in range, and neither the first nor the last is zero.
fn digits(bytes: &[u8]) -> Option<&[[u8; 2]]> {
    let (digits, rest) = bytes.as_chunks();
    let is_zero = |digit: Option<&[u8; 2]>| digit.is_some_and(|digit| *digit == [0, 0]);
    let in_range = digits.iter().all(|digit| u16::from_le_bytes(*digit) < BASE);
    let is_sound =
        rest.is_empty() && in_range && !is_zero(digits.first()) && !is_zero(digits.last());
    is_sound.then_some(digits)
}

impl Numeric<'_> {
    /// The digit of this weight, in decimal.
    fn decimal(&self, weight: i32) -> [u8; DECIMALS] {
        let digit = usize::try_from(self.weight - weight).ok().and_then(|i| self.digits.get(i));
        let digit = digit.map_or(0, |digit| u16::from_le_bytes(*digit));
        [1000, 100, 10, 1].map(|unit| b'0' + (digit / unit % 10).to_le_bytes()[0])
    }

    fn text(&self, out: &mut Vec<u8>) -> Option<()> {
        if self.digits.is_empty() && (self.weight != 0 || self.is_negative) {
            return None;
        }
        if self.is_negative {
            out.push(b'-');
        }
        let begin = out.len();
        for weight in (0..=self.weight).rev() {
            out.extend_from_slice(&self.decimal(weight));
        }
        let leading = out[begin..].iter().take_while(|digit| **digit == b'0').count();
        out.drain(begin..begin + leading);
        if out.len() == begin {
            out.push(b'0');
        }
        if self.scale > 0 {
            out.push(b'.');
            let end = out.len() + self.scale;
            let mut weight = -1;
            while out.len() < end {
                out.extend_from_slice(&self.decimal(weight));
                weight -= 1;
            }
            out.truncate(end);
        }
        Some(())
    }
}
