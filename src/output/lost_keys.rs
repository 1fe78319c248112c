//! `data/<stem>.lost-keys.csv`: what indexes know of the rows that were lost.
//!
//! CSV as COPY reads it: a header, every value in double quotes, NULL as
//! nothing at all; in the encoding of the database. First the place of the row,
//! if it is known, and whether it is certain that there was one, then the columns, and at last
//! a note that names columns whose value is not known (nothing stands there,
//! either) and those that stand there as their bytes in hexadecimal.

use bstr::BString;
use std::io::Write as _;
use std::path::Path;

use super::error::OutputError;
use super::manifest::hex;

/// What is known of one column of a lost row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    #[default]
    Unknown,
    Null,
    /// As COPY would have it, but not escaped.
    Text(Vec<u8>),
    /// Of a type that is not understood: the bytes of the value.
    Raw(Vec<u8>),
}

/// What is known of one lost row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostKey {
    /// Its block and line pointer, where they are known.
    pub at: Option<(u32, u16)>,
    /// Whether there was such a row for certain: else it may have been deleted,
    /// or its insertion rolled back.
    pub certain: bool,
    /// In the order of the columns.
    pub values: Vec<Value>,
}

/// What follows the relation's name in the names of the two files: of the rows,
/// and of the statements that fetch them.
pub const SUFFIXES: [&str; 2] = [".lost-keys.csv", ".lost-keys.sql"];

/// Where they are written, from the dump directory on.
pub fn paths(stem: &str) -> [String; 2] {
    SUFFIXES.map(|suffix| format!("data/{stem}{suffix}"))
}

/// The values of a column in such a file, as far as they are known.
pub fn column(path: &Path, name: &str) -> Result<Vec<String>, OutputError> {
    let failed = |e: csv::Error| OutputError::io("read file", path)(e.into());
    let mut reader = csv::Reader::from_path(path).map_err(failed)?;
    let Some(at) = reader.byte_headers().map_err(failed)?.iter().position(|n| n == name.as_bytes())
    else {
        return Ok(Vec::new());
    };
    let mut values = Vec::new();
    for record in reader.byte_records() {
        let record = record.map_err(failed)?;
        let value = record.get(at).and_then(|v| std::str::from_utf8(v).ok());
        values.extend(value.filter(|v| !v.is_empty()).map(str::to_owned));
    }
    Ok(values)
}

/// The whole file.
pub fn csv(columns: &[BString], keys: &[LostKey]) -> Vec<u8> {
    let mut out = b"block,offset,certain".to_vec();
    for column in columns {
        out.push(b',');
        quoted(column, &mut out);
    }
    out.extend_from_slice(b",note\n");
    for key in keys {
        let certain = if key.certain { 't' } else { 'f' };
        // Writing to a Vec cannot fail.
        let _ = match key.at {
            Some((block, offset)) => write!(out, "{block},{offset},{certain}"),
            None => write!(out, ",,{certain}"),
        };
        for value in &key.values {
            out.push(b',');
            match value {
                Value::Unknown | Value::Null => {}
                Value::Text(text) => quoted(text, &mut out),
                Value::Raw(bytes) => quoted(format!("\\x{}", hex(bytes)).as_bytes(), &mut out),
            }
        }
        out.push(b',');
        let note = note(columns, &key.values);
        if !note.is_empty() {
            quoted(&note, &mut out);
        }
        out.push(b'\n');
    }
    out
}

fn note(columns: &[BString], values: &[Value]) -> Vec<u8> {
    let of = |is: fn(&Value) -> bool| -> Vec<&[u8]> {
        columns.iter().zip(values).filter(|(_, v)| is(v)).map(|(c, _)| c.as_slice()).collect()
    };
    let unknown = of(|v| *v == Value::Unknown);
    let raw = of(|v| matches!(v, Value::Raw(_)));
    let mut notes = Vec::new();
    for (what, columns) in [("not known", unknown), ("in hexadecimal", raw)] {
        if !columns.is_empty() {
            notes.push([what.as_bytes(), b": ", &columns.join(&b", "[..])].concat());
        }
    }
    notes.join(&b"; "[..])
}

fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_empty_unknown_and_raw_are_told_apart() {
        let columns = ["id", "a \"b\"", "c", "d"].map(BString::from);
        let text = |t: &str| Value::Text(t.into());
        let keys = [
            (Some((3, 7)), true, vec![text("1"), text("x\"y,\n"), Value::Null, text("")]),
            (None, false, vec![text("2"), Value::Unknown, Value::Raw(vec![0, 255]), text("d")]),
        ]
        .map(|(at, certain, values)| LostKey { at, certain, values });
        assert_eq!(
            String::from_utf8(csv(&columns, &keys)).unwrap(),
            "block,offset,certain,\"id\",\"a \"\"b\"\"\",\"c\",\"d\",note\n\
             3,7,t,\"1\",\"x\"\"y,\n\",,\"\",\n\
             ,,f,\"2\",,\"\\x00ff\",\"d\",\"not known: a \"b\"; in hexadecimal: c\"\n"
                .replace("known: a \"b\"", "known: a \"\"b\"\"")
        );
    }
}
