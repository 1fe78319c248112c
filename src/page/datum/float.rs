//! Floating point numbers in the fewest digits that give them back, as
//! PostgreSQL 12 and later write them (`d2s.c`, `f2s.c`).
//!
//! Of the numbers with so few digits the nearest is taken, half to even; but
//! none that lies exactly between two floating point numbers, though reading it
//! would give this one: not everybody rounds like that.

use std::io::Write as _;

/// So many give every number back.
const DIGITS_MAX: usize = 17;

#[derive(Clone, Copy)]
enum Float {
    Four(f32),
    Eight(f64),
}

/// `mantissa` times 2 to the `exponent`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Binary {
    mantissa: u64,
    exponent: i32,
}

/// `d.ddd` times 10 to the `exponent`.
struct Decimal {
    digits: Vec<u8>,
    exponent: i32,
}

pub(super) fn float4(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    write(Float::Four(f32::from_le_bytes(value.try_into().ok()?)), out)
}

pub(super) fn float8(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    write(Float::Eight(f64::from_le_bytes(value.try_into().ok()?)), out)
}

fn write(float: Float, out: &mut Vec<u8>) -> Option<()> {
    let (value, fixed_below) = match float {
        Float::Four(value) => (f64::from(value), 6),
        Float::Eight(value) => (value, 15),
    };
    if value.is_nan() {
        return write!(out, "NaN").ok();
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value.is_infinite() {
        return write!(out, "Infinity").ok();
    }
    if value == 0.0 {
        out.push(b'0');
        return Some(());
    }
    let Decimal { digits, exponent } = float.abs().shortest()?;
    if !(-4..fixed_below).contains(&exponent) {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        return write!(out, "e{sign}{:02}", exponent.abs()).ok();
    }
    match usize::try_from(exponent) {
        Ok(exponent) => {
            let before = digits.len().min(exponent + 1);
            out.extend_from_slice(&digits[..before]);
            out.extend(std::iter::repeat_n(b'0', exponent + 1 - before));
            if digits.len() > before {
                out.push(b'.');
                out.extend_from_slice(&digits[before..]);
            }
        }
        Err(_) => {
            out.extend_from_slice(b"0.");
            out.extend((exponent + 1..0).map(|_| b'0'));
            out.extend_from_slice(&digits);
        }
    }
    Some(())
}

impl Float {
    fn abs(self) -> Self {
        match self {
            Float::Four(value) => Float::Four(value.abs()),
            Float::Eight(value) => Float::Eight(value.abs()),
        }
    }

    /// A positive one in the fewest digits.
    fn shortest(self) -> Option<Decimal> {
        let shortest = match self {
            Float::Four(value) => format!("{value:e}"),
            Float::Eight(value) => format!("{value:e}"),
        };
        let fewest = Decimal::parse(&shortest)?.digits.len();
        // Rounded to so many digits it is nearest, but may lie outside, for the
        // number below a power of two is nearer than the one above.
        let longer = (fewest + 1..=DIGITS_MAX).map(|digits| self.rounded(digits));
        let mut candidates = [self.rounded(fewest), shortest].into_iter().chain(longer);
        candidates.find_map(|text| {
            let mut decimal = Decimal::parse(&text)?;
            while decimal.digits.len() > 1 && decimal.digits.ends_with(b"0") {
                decimal.digits.pop();
            }
            let is_between = || self.bounds().iter().any(|bound| decimal.equals(*bound));
            (self.is_read_from(&text) && !is_between()).then_some(decimal)
        })
    }

    fn rounded(self, digits: usize) -> String {
        match self {
            Float::Four(value) => format!("{value:.*e}", digits - 1),
            Float::Eight(value) => format!("{value:.*e}", digits - 1),
        }
    }

    fn is_read_from(self, text: &str) -> bool {
        match self {
            Float::Four(value) => text.parse() == Ok(value),
            Float::Eight(value) => text.parse() == Ok(value),
        }
    }

    /// Halfway to the next number below and above.
    fn bounds(self) -> [Binary; 2] {
        let (fraction, biased, fraction_bits, bias) = match self {
            Float::Four(value) => {
                let bits = value.to_bits();
                (u64::from(bits & 0x007F_FFFF), bits >> 23, 23, 127)
            }
            Float::Eight(value) => {
                let bits = value.to_bits();
                (bits & 0x000F_FFFF_FFFF_FFFF, u32::try_from(bits >> 52).unwrap_or(0), 52, 1023)
            }
        };
        let hidden = if biased == 0 { 0 } else { 1 << fraction_bits };
        let mantissa = fraction | hidden;
        let exponent = biased.max(1).cast_signed() - bias - fraction_bits;
        let below = if fraction == 0 && biased > 1 {
            Binary { mantissa: 4 * mantissa - 1, exponent: exponent - 2 }
        } else {
            Binary { mantissa: 2 * mantissa - 1, exponent: exponent - 1 }
        };
        [below, Binary { mantissa: 2 * mantissa + 1, exponent: exponent - 1 }]
    }
}

impl Decimal {
    /// Reads `d.ddde-d`.
    fn parse(text: &str) -> Option<Self> {
        let (digits, exponent) = text.split_once('e')?;
        let digits = digits.bytes().filter(u8::is_ascii_digit).collect();
        Some(Self { digits, exponent: exponent.parse().ok()? })
    }

    /// Whether it is this number, whose mantissa is odd, exactly.
    fn equals(&self, binary: Binary) -> bool {
        let whole = self
            .digits
            .iter()
            .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        let Some(whole) = whole.filter(|whole| *whole > 0) else { return false };
        let length = i32::try_from(self.digits.len()).unwrap_or(i32::MAX);
        let tens = self.exponent - (length - 1);
        // Ten is two times five: the odd parts are compared, and the twos.
        let twos = whole.trailing_zeros().cast_signed() + tens;
        let odd = whole >> whole.trailing_zeros();
        let fives = 5u64.checked_pow(tens.unsigned_abs());
        let (left, right) = if tens >= 0 {
            (fives.and_then(|fives| odd.checked_mul(fives)), Some(binary.mantissa))
        } else {
            (Some(odd), fives.and_then(|fives| binary.mantissa.checked_mul(fives)))
        };
        twos == binary.exponent && left.is_some() && left == right
    }
}
