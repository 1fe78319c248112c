//! A folder with the keys of rows that are different in two databases: a CSV file
//! for each table, as COPY reads it. What is different about the row comes first,
//! then the columns of its primary key.

use super::dir::{make_own, parent, refuse_unless_empty, sync_directory};
use super::error::OutputError;
use super::names::assign;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The first column; the others have the names of those of the key.
const WHAT: &str = "what";

pub struct KeysDir {
    path: PathBuf,
    /// By the numbers of the tables.
    stems: HashMap<u32, String>,
}

/// The file of one table, made with its first row. It has its name when it is
/// complete.
pub struct KeysFile {
    path: PathBuf,
    writer: Option<csv::Writer<File>>,
}

impl KeysDir {
    /// Makes the folder, or takes an empty one, for tables that are known by a
    /// number, their schema and their name.
    pub fn create<'a>(
        path: &Path,
        tables: impl IntoIterator<Item = (u32, &'a str, &'a str)>,
    ) -> Result<Self, OutputError> {
        make_own(path)?;
        refuse_unless_empty(path, None)?;
        sync_directory(parent(path))?;
        let tables =
            tables.into_iter().map(|(n, schema, name)| (n, schema.as_bytes(), name.as_bytes()));
        Ok(Self { path: path.to_owned(), stems: assign(tables, &HashMap::new()) })
    }

    /// The file of a table, by its number.
    pub fn file(&self, number: u32) -> KeysFile {
        let stem = self.stems.get(&number).cloned().unwrap_or_else(|| number.to_string());
        KeysFile { path: self.path.join(format!("{stem}.csv")), writer: None }
    }
}

impl KeysFile {
    /// Adds a row. `columns`: the names of those of the key.
    pub fn add(
        &mut self,
        what: &str,
        columns: &[String],
        key: &[String],
    ) -> Result<(), OutputError> {
        let path = &self.path;
        let failed = |e: csv::Error| OutputError::io("write file", path)(e.into());
        let line =
            |first: &str, rest: &[String]| -> Vec<String> { [&[first.to_owned()], rest].concat() };
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let mut open = OpenOptions::new();
                let file = open.write(true).create_new(true).mode(0o600).open(part(path));
                let file = file.map_err(OutputError::io("create file", path))?;
                let mut writer = csv::Writer::from_writer(file);
                writer.write_record(line(WHAT, columns)).map_err(failed)?;
                none.insert(writer)
            }
        };
        writer.write_record(line(what, key)).map_err(failed)
    }

    /// Makes it durable. Returns where it is, if a row was added.
    pub fn finish(self) -> Result<Option<PathBuf>, OutputError> {
        let Self { path, writer } = self;
        let Some(mut writer) = writer else { return Ok(None) };
        writer.flush().map_err(OutputError::io("write file", &path))?;
        writer.get_ref().sync_all().map_err(OutputError::io("sync file", &path))?;
        fs::rename(part(&path), &path).map_err(OutputError::io("rename file", &path))?;
        sync_directory(parent(&path))?;
        Ok(Some(path))
    }
}

fn part(path: &Path) -> PathBuf {
    path.with_extension("csv.part")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings<const N: usize>(all: [&str; N]) -> Vec<String> {
        all.map(str::to_owned).to_vec()
    }

    #[test]
    fn each_table_has_a_file_of_its_own_and_none_without_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let tables = [(1, "public", "a b"), (2, "public", "A B"), (3, "public", "c")];
        let keys = KeysDir::create(&path, tables).unwrap();
        for number in [1, 2] {
            let mut file = keys.file(number);
            file.add("different", &strings(["id", "\"x\""]), &strings(["1", "a,\"\nb"])).unwrap();
            let written = file.finish().unwrap().unwrap();
            assert_eq!(
                fs::read_to_string(&written).unwrap(),
                "what,id,\"\"\"x\"\"\"\ndifferent,1,\"a,\"\"\nb\"\n"
            );
        }
        assert_eq!(keys.file(3).finish().unwrap(), None);
        let mut begun = keys.file(3);
        begun.add("only_in_a", &strings(["id"]), &strings(["7"])).unwrap();
        drop(begun);
        let mut names: Vec<String> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["public.A%20B~2.csv", "public.a%20b~1.csv", "public.c.csv.part"]);
        let Err(again) = KeysDir::create(&path, tables) else { panic!("it is not empty") };
        assert!(again.to_string().contains("is not empty"), "{again}");
    }
}
