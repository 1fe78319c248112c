//! `errors/<stem>.csv`: every error met in reading one relation.
//!
//! CSV with a header. Each line reaches the file before the next read begins,
//! so the log outlives us; a run that is resumed goes on with it. Contents of
//! rows are never logged. The number of lines is limited, the count is not.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::dir::DumpDir;
use super::error::OutputError;
use super::fault_point::fault_point;
use super::manifest::Errors;
use super::redact;

/// A relation with a bad block in every read must not fill the disk.
pub const ERRORS_PER_RELATION_MAX: u64 = 100_000;
const FIELD_BYTES_MAX: usize = 4096;

/// The action of an error that is no damage: a later run tries again.
pub const FOR_NOW: &str = "given up for now";

/// The action for a row that could not be sent as text, but in binary form.
pub const IN_BINARY: &str = "read in binary form";

/// Whether an action tells of damage.
fn is_harm(action: Option<&[u8]>) -> bool {
    ![FOR_NOW, IN_BINARY].iter().any(|a| action == Some(a.as_bytes()))
}

/// One error. The fields are the columns of the file, in this order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorLine {
    /// Now, if not given.
    pub time: Option<Timestamp>,
    pub oid: Option<u32>,
    pub schema: Option<String>,
    pub relation: Option<String>,
    pub fork: Option<String>,
    pub first_block: Option<u32>,
    pub last_block: Option<u32>,
    pub offset: Option<u16>,
    pub column: Option<String>,
    /// Why it was given up, as in the manifest.
    pub cause: Option<String>,
    pub sqlstate: Option<String>,
    pub severity: Option<String>,
    pub routine: Option<String>,
    pub source_file: Option<String>,
    pub source_line: Option<u32>,
    pub message: Option<String>,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub context: Option<String>,
    /// What was being read, in our words.
    pub read: Option<String>,
    /// What we did about it.
    pub action: Option<String>,
}

/// The log of one relation. There is no file until there is an error.
pub struct ErrorLog {
    directory: PathBuf,
    relative: String,
    sync: bool,
    lines_max: u64,
    count: u64,
    /// Those of them that tell of damage.
    harms: u64,
    file: Option<csv::Writer<File>>,
    /// Whose errors these are, for the last line.
    relation: ErrorLine,
}

impl ErrorLog {
    pub fn new(dir: &DumpDir, stem: &str) -> Result<Self, OutputError> {
        let mut log = Self {
            directory: dir.path().to_owned(),
            relative: format!("errors/{stem}.csv"),
            sync: dir.sync(),
            lines_max: ERRORS_PER_RELATION_MAX,
            count: 0,
            harms: 0,
            file: None,
            relation: ErrorLine::default(),
        };
        if dir.is_resumed() {
            log.take_up_earlier()?;
        }
        Ok(log)
    }

    /// How many errors there were, also those that are not listed.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many of them tell of damage, those of earlier runs too.
    pub fn harms(&self) -> u64 {
        self.harms
    }

    pub fn record(&mut self, line: ErrorLine) -> Result<(), OutputError> {
        let line = presentable(line);
        if self.file.is_none() {
            self.open()?;
        }
        if self.relation.oid.is_none() {
            self.relation = ErrorLine {
                oid: line.oid,
                schema: line.schema.clone(),
                relation: line.relation.clone(),
                ..ErrorLine::default()
            };
        }
        self.count += 1;
        self.harms += u64::from(is_harm(line.action.as_deref().map(str::as_bytes)));
        if self.count <= self.lines_max { self.append(&line) } else { Ok(()) }
    }

    /// Gives the file its final name, if there is one.
    pub async fn finish(mut self) -> Result<Errors, OutputError> {
        let omitted = self.count.saturating_sub(self.lines_max);
        if omitted > 0 {
            let message = format!("{omitted} more errors of this relation are not listed");
            let last = std::mem::take(&mut self.relation);
            self.append(&ErrorLine { message: Some(message), ..last })?;
        }
        let (count, relative) = (self.count, self.relative.clone());
        let path = self.file.is_some().then_some(relative);
        if path.is_some() {
            let at = self.directory.join(&self.relative);
            match tokio::task::spawn_blocking(move || self.close()).await {
                Ok(closed) => closed?,
                Err(error) => {
                    return Err(OutputError::io("close file", &at)(io::Error::other(error)));
                }
            }
        }
        Ok(Errors { path, count })
    }

    fn close(self) -> Result<(), OutputError> {
        let (path, part) = (self.directory.join(&self.relative), self.part());
        let Some(writer) = self.file else { return Ok(()) };
        let file = writer
            .into_inner()
            .map_err(|error| OutputError::io("write file", &part)(error.into_error()))?;
        if self.sync {
            file.sync_all().map_err(OutputError::io("sync file", &part))?;
        }
        fault_point("rename errors");
        std::fs::rename(&part, &path).map_err(OutputError::io("rename file", &path))
    }

    fn part(&self) -> PathBuf {
        self.directory.join(format!("{}.part", self.relative))
    }

    fn append(&mut self, line: &ErrorLine) -> Result<(), OutputError> {
        let path = self.part();
        let Some(file) = &mut self.file else { return Ok(()) };
        fault_point("write error");
        file.serialize(line)
            .map_err(io::Error::from)
            .and_then(|()| file.flush())
            .map_err(OutputError::io("write file", &path))
    }

    fn open(&mut self) -> Result<(), OutputError> {
        let path = self.part();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(OutputError::io("create file", &path))?;
        let is_empty = file.metadata().map_err(OutputError::io("read file", &path))?.len() == 0;
        self.file = Some(csv::WriterBuilder::new().has_headers(is_empty).from_writer(file));
        Ok(())
    }

    /// Counts the lines of an earlier run and cuts off one that it did not end.
    fn take_up_earlier(&mut self) -> Result<(), OutputError> {
        let path = self.part();
        let failed = || OutputError::io("read file", &path);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed()(error)),
        };
        let mut reader = csv::Reader::from_reader(&file);
        let mut record = csv::ByteRecord::new();
        let mut whole = 0;
        // A line that was cut has too few fields, which is an error.
        while let Ok(true) = reader.read_byte_record(&mut record) {
            whole = reader.position().byte();
            self.count += 1;
            // The action is the last field.
            let action = record.len().checked_sub(1).and_then(|last| record.get(last));
            self.harms += u64::from(is_harm(action));
        }
        file.set_len(whole).map_err(OutputError::io("truncate file", &path))?;
        self.open()
    }
}

fn presentable(mut line: ErrorLine) -> ErrorLine {
    line.time.get_or_insert_with(Timestamp::now);
    line.context = line.context.map(|text| redact::context(&text));
    line.detail = line.detail.map(|text| redact::detail(&text));
    let words = [
        &mut line.message,
        &mut line.detail,
        &mut line.hint,
        &mut line.context,
        &mut line.read,
        &mut line.action,
    ];
    words.into_iter().flatten().for_each(shorten);
    line
}

fn shorten(text: &mut String) {
    const ELLIPSIS: char = '…';
    if text.len() > FIELD_BYTES_MAX {
        let mut end = FIELD_BYTES_MAX - ELLIPSIS.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push(ELLIPSIS);
    }
}

#[cfg(test)]
mod tests;
