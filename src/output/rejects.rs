//! `<stem>.csv` of a restore: the rows that the target did not take, each with
//! the reason.
//!
//! CSV with a header. The row is there as it stands in the data file, as a line
//! of COPY text. How much of a file counts is in the journal of the restore:
//! what was written for a transaction that came to nothing is cut off.

use super::OutputError;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const HEADER: [&str; 10] =
    ["class", "line", "ctid", "kept", "sqlstate", "column", "constraint", "reason", "key", "row"];

/// One row that is not in the target.
#[derive(Clone, Debug, Default)]
pub struct Rejected<'a> {
    /// Of which file it is (`clean`, `suspect`, `partial`), or `duplicate`.
    pub class: &'a str,
    /// The number of its line in that file, from 1 on.
    pub line: Option<u64>,
    /// Where it was in the database that was dumped; of a duplicate, where it
    /// was in the target.
    pub ctid: Option<String>,
    /// Of a duplicate: where the row is that was kept, in the target.
    pub kept: Option<String>,
    pub sqlstate: String,
    pub column: Option<String>,
    pub constraint: Option<String>,
    pub reason: String,
    pub key: Option<String>,
    /// A line of COPY text, without its newline.
    pub row: &'a [u8],
}

/// The file of one relation; there is none until a row is rejected.
pub struct Rejects {
    path: PathBuf,
    relative: String,
    writer: Option<csv::Writer<File>>,
    count: u64,
}

impl Rejects {
    /// Takes up the file with its first `len` bytes, which hold `count` rows.
    pub fn take_up(folder: &Path, stem: &str, len: u64, count: u64) -> Result<Self, OutputError> {
        let relative = format!("{stem}.csv");
        let path = folder.join(&relative);
        if len == 0 {
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(OutputError::io("remove file", &path)(e));
                }
                _ => {}
            }
        } else {
            let file = OpenOptions::new()
                .write(true)
                .open(&path)
                .map_err(OutputError::io("open file", &path))?;
            let found = file.metadata().map_err(OutputError::io("read file", &path))?.len();
            if found < len {
                return Err(OutputError::TooShort { path, found, expected: len });
            }
            file.set_len(len).map_err(OutputError::io("truncate file", &path))?;
        }
        Ok(Self { path, relative, writer: None, count })
    }

    pub fn record(&mut self, rejected: &Rejected<'_>) -> Result<(), OutputError> {
        if self.writer.is_none() {
            self.open()?;
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let line = rejected.line.map(|n| n.to_string()).unwrap_or_default();
        fn given(text: &Option<String>) -> &[u8] {
            text.as_deref().unwrap_or_default().as_bytes()
        }
        let fields: [&[u8]; HEADER.len()] = [
            rejected.class.as_bytes(),
            line.as_bytes(),
            given(&rejected.ctid),
            given(&rejected.kept),
            rejected.sqlstate.as_bytes(),
            given(&rejected.column),
            given(&rejected.constraint),
            rejected.reason.as_bytes(),
            given(&rejected.key),
            rejected.row,
        ];
        self.count += 1;
        writer
            .write_record(fields)
            .map_err(|e| OutputError::io("write file", &self.path)(io::Error::from(e)))
    }

    fn open(&mut self) -> Result<(), OutputError> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(OutputError::io("create file", &self.path))?;
        let is_new = file.metadata().map_err(OutputError::io("read file", &self.path))?.len() == 0;
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(file);
        if is_new {
            writer
                .write_record(HEADER)
                .map_err(|e| OutputError::io("write file", &self.path)(io::Error::from(e)))?;
        }
        self.writer = Some(writer);
        Ok(())
    }

    /// Makes durable what was recorded. Returns the length of the file.
    pub fn sync(&mut self) -> Result<u64, OutputError> {
        let failed = || OutputError::io("sync file", &self.path);
        if let Some(writer) = &mut self.writer {
            writer.flush().map_err(failed())?;
            writer.get_ref().sync_data().map_err(failed())?;
        }
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(failed()(e)),
        }
    }

    /// How many rows there are in the file.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The file's name in its folder, if there is one.
    pub fn file(&self) -> Option<String> {
        (self.count > 0).then(|| self.relative.clone())
    }
}

/// Gives each row of a file, as a line of COPY text without its newline, with
/// its class and the number of its line.
pub fn read_rejects(
    path: &Path,
    mut each: impl FnMut(&str, Option<u64>, &[u8]),
) -> Result<u64, OutputError> {
    let failed = |e: csv::Error| OutputError::io("read file", path)(io::Error::from(e));
    let file = File::open(path).map_err(OutputError::io("open file", path))?;
    let mut reader = csv::Reader::from_reader(file);
    let mut record = csv::ByteRecord::new();
    let mut count = 0;
    while reader.read_byte_record(&mut record).map_err(failed)? {
        let field = |n: usize| record.get(n).unwrap_or_default();
        let line = std::str::from_utf8(field(1)).ok().and_then(|line| line.parse().ok());
        each(&String::from_utf8_lossy(field(0)), line, field(HEADER.len() - 1));
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(row: &[u8]) -> Rejected<'_> {
        Rejected {
            class: "clean",
            line: Some(7),
            reason: "no, \"never\"".into(),
            row,
            ..Default::default()
        }
    }

    #[test]
    fn rows_come_back_as_they_are_and_what_does_not_count_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let rows: [&[u8]; 3] = [b"1\tcaf\xe9, \"x\"", b"", b"\\N\t\\\\"];
        let mut rejects = Rejects::take_up(folder.path(), "public.t", 0, 0).unwrap();
        assert_eq!((rejects.sync().unwrap(), rejects.file()), (0, None));
        rejects.record(&rejected(rows[0])).unwrap();
        rejects.record(&rejected(rows[1])).unwrap();
        let (len, count) = (rejects.sync().unwrap(), rejects.count());
        rejects.record(&rejected(b"of a transaction that came to nothing")).unwrap();
        rejects.sync().unwrap();
        let mut rejects = Rejects::take_up(folder.path(), "public.t", len, count).unwrap();
        rejects.record(&rejected(rows[2])).unwrap();
        rejects.sync().unwrap();
        let mut found = Vec::new();
        let path = folder.path().join("public.t.csv");
        assert_eq!(read_rejects(&path, |_, _, row| found.push(row.to_vec())).unwrap(), 3);
        assert_eq!(found, rows);
        assert!(Rejects::take_up(folder.path(), "public.t", 1 << 40, 1).is_err());
    }
}
