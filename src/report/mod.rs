//! What people and machines are shown of a run: one model, [`model::Report`],
//! and for each form of it one function that makes text of it.
//!
//! Everything here is pure but [`command`], which reads files, and [`write()`].
//! A report, a manifest and a map may come from anybody: they are read with
//! limits, and whatever they say is escaped as the form asks for it.

pub mod baseline;
mod block_map;
pub mod command;
mod csv;
pub mod diff;
mod dumped;
mod from_manifest;
mod html;
mod json;
mod junit;
mod layout;
pub mod model;
mod openmetrics;
pub mod side;
mod terminal;
mod words;

#[cfg(test)]
mod samples;

pub use dumped::text;
pub use from_manifest::from_manifest;
pub use json::ReportError;

use crate::output::OutputError;
use crate::output::one_file::write_one;
use model::Report;
use std::path::Path;

/// The forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
    Csv,
    Junit,
    Openmetrics,
    Html,
}

impl Format {
    pub const ALL: [Self; 6] =
        [Self::Text, Self::Json, Self::Csv, Self::Junit, Self::Openmetrics, Self::Html];

    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Junit => "junit",
            Self::Openmetrics => "openmetrics",
            Self::Html => "html",
        }
    }
}

/// Suffixes of files, and what is expected of them.
const SUFFIXES: [(&str, Format); 7] = [
    ("txt", Format::Text),
    ("json", Format::Json),
    ("csv", Format::Csv),
    ("xml", Format::Junit),
    ("prom", Format::Openmetrics),
    ("html", Format::Html),
    ("htm", Format::Html),
];

impl Format {
    /// The form that the name of a file asks for.
    pub fn of_file(path: &Path) -> Option<Self> {
        let suffix = path.extension()?.to_str()?;
        SUFFIXES.iter().find(|(own, _)| suffix.eq_ignore_ascii_case(own)).map(|(_, form)| *form)
    }
}

/// The report in a form. `verbose` is for people on a terminal: nothing is left
/// out for brevity.
pub fn render(report: &Report, format: Format, verbose: bool) -> String {
    match format {
        Format::Text => terminal::text(report, verbose),
        Format::Json => report.to_json(),
        Format::Csv => self::csv::text(report),
        Format::Junit => junit::text(report),
        Format::Openmetrics => openmetrics::text(report),
        Format::Html => html::text(report),
    }
}

/// The report into a file, which is there as a whole or not at all, or, where
/// none is given, as text that is left to print.
pub fn write(
    report: &Report,
    format: Format,
    verbose: bool,
    to: Option<&Path>,
) -> Result<Option<String>, OutputError> {
    deliver(render(report, format, verbose), to)
}

fn deliver(text: String, to: Option<&Path>) -> Result<Option<String>, OutputError> {
    match to {
        Some(path) => write_one(path, text.as_bytes()).map(|()| None),
        None => Ok(Some(text)),
    }
}

/// A number as people write it: 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size as PostgreSQL writes it: 12 MB.
pub fn sized(bytes: u64) -> String {
    let mut value = bytes;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 10_240 {
            return format!("{value} {unit}");
        }
        value = value.div_ceil(1024);
    }
    format!("{value} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_write_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 8192, 10_240, 45_000_000].map(sized),
            ["0 bytes", "8192 bytes", "10 kB", "43 MB"]
        );
    }
}
