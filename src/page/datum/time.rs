//! Dates, times and intervals (`datetime.c`). Days and microseconds count from
//! the first of January 2000; the calendar is the Gregorian one, also where
//! there was none yet.

use super::{i32_at, i64_at};
use std::io::Write as _;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// From Julian day 0 to the last that `date` knows.
const DATES: std::ops::Range<i64> = -2_451_545..2_145_031_949;

/// `MIN_TIMESTAMP` to `END_TIMESTAMP`.
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// A time zone is less than 16 hours away from UTC.
const ZONE_SECONDS: i32 = 16 * 3600;

pub(super) fn date(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match i32_at(value, 0)? {
        i32::MAX => write!(out, "infinity").ok(),
        i32::MIN => write!(out, "-infinity").ok(),
        days => {
            let era = day(i64::from(days), out)?;
            write!(out, "{era}").ok()
        }
    }
}

pub(super) fn time(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    time_of_day(i64_at(value, 0)?, out)
}

/// A time, and by how many seconds UTC is ahead.
pub(super) fn timetz(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let west = i32_at(value, 8)?;
    if west.unsigned_abs() >= ZONE_SECONDS.unsigned_abs() {
        return None;
    }
    time_of_day(i64_at(value, 0)?, out)?;
    let (sign, away) = (if west <= 0 { '+' } else { '-' }, west.abs());
    write!(out, "{sign}{:02}", away / 3600).ok()?;
    if away % 3600 != 0 {
        write!(out, ":{:02}", away / 60 % 60).ok()?;
    }
    if away % 60 != 0 {
        write!(out, ":{:02}", away % 60).ok()?;
    }
    Some(())
}

pub(super) fn timestamp(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    instant(i64_at(value, 0)?, "", out)
}

pub(super) fn timestamptz(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    instant(i64_at(value, 0)?, "+00", out)
}

fn instant(at: i64, zone: &str, out: &mut Vec<u8>) -> Option<()> {
    match at {
        i64::MAX => return write!(out, "infinity").ok(),
        i64::MIN => return write!(out, "-infinity").ok(),
        _ if !TIMESTAMPS.contains(&at) => return None,
        _ => {}
    }
    let era = day(at.div_euclid(DAY), out)?;
    out.push(b' ');
    time_of_day(at.rem_euclid(DAY), out)?;
    write!(out, "{zone}{era}").ok()
}

/// Appends the date, and returns what stands behind all else.
fn day(days: i64, out: &mut Vec<u8>) -> Option<&'static str> {
    if !DATES.contains(&days) {
        return None;
    }
    // Years begin in March here, so that leap days end them, and 400 of them
    // are an era of 146,097 days.
    let days = days + 730_425;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year + i64::from(month <= 2);
    // There is no year 0.
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    write!(out, "{year:04}-{month:02}-{day:02}").ok()?;
    Some(era)
}

/// From midnight to midnight, both included.
fn time_of_day(at: i64, out: &mut Vec<u8>) -> Option<()> {
    if !(0..=DAY).contains(&at) {
        return None;
    }
    clock(at.unsigned_abs(), out)
}

fn clock(microseconds: u64, out: &mut Vec<u8>) -> Option<()> {
    let (seconds, fraction) = (microseconds / 1_000_000, microseconds % 1_000_000);
    write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60).ok()?;
    if fraction != 0 {
        write!(out, ".{fraction:06}").ok()?;
        let zeros = out.iter().rev().take_while(|digit| **digit == b'0').count();
        out.truncate(out.len() - zeros);
    }
    Some(())
}

/// Microseconds, days and months; none of them carries over.
pub(super) fn interval(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (time, days, months) = (i64_at(value, 0)?, i32_at(value, 8)?, i32_at(value, 12)?);
    match (time, days, months) {
        // Since PostgreSQL 17.
        (i64::MAX, i32::MAX, i32::MAX) => return write!(out, "infinity").ok(),
        (i64::MIN, i32::MIN, i32::MIN) => return write!(out, "-infinity").ok(),
        _ => {}
    }
    let (mut space, mut after_negative) = ("", false);
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        let plus = if after_negative && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        write!(out, "{space}{plus}{value} {unit}{plural}").ok()?;
        (space, after_negative) = (" ", value < 0);
    }
    if time != 0 || space.is_empty() {
        let sign = if time < 0 {
            "-"
        } else if after_negative {
            "+"
        } else {
            ""
        };
        write!(out, "{space}{sign}").ok()?;
        clock(time.unsigned_abs(), out)?;
    }
    Some(())
}
