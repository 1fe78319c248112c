//! The files of relations, as they lie in the server's directories: asked of the
//! directories themselves, so that none is overlooked, whatever the catalogs
//! say; and what the catalogs call them.
//!
//! It takes a superuser, or the right to call `pg_ls_dir` and `pg_stat_file`.

use super::session::{ReadError, Session};
use super::sql::literal;
use std::collections::BTreeMap;

/// A fork of a relation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ForkFile {
    /// From the data directory on, of its first segment; with the suffix of the
    /// fork.
    pub path: String,
    /// The length of each segment, by number.
    pub segments: BTreeMap<u32, u64>,
}

impl ForkFile {
    pub fn bytes(&self) -> u64 {
        self.segments.values().sum()
    }

    /// Its path without the suffix of the fork, and that; `main` for none.
    pub fn fork(&self) -> (&str, &'static str) {
        for fork in ["fsm", "vm", "init"] {
            if let Some(path) = self.path.strip_suffix(fork).and_then(|path| path.strip_suffix('_'))
            {
                return (path, fork);
            }
        }
        (&self.path, "main")
    }
}

/// What `pg_class` says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOf {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// As in `pg_class.relkind`.
    pub relkind: char,
    /// `pg_class.relam`.
    pub access_method: u32,
    /// The relation that a TOAST relation or an index belongs to.
    pub owner: Option<u32>,
}

/// Directories in which a database has relations: its own, in the default and
/// in each other tablespace, and that of the shared catalogs.
pub async fn directories(session: &Session, database: u32) -> Result<Vec<String>, ReadError> {
    let server = session.server();
    let mut directories = vec!["global".to_owned(), format!("base/{database}")];
    let version = format!("PG_{}_", server.version / 10_000);
    for tablespace in entries(session, "pg_tblspc").await? {
        let within = format!("pg_tblspc/{tablespace}");
        for own in entries(session, &within).await?.into_iter().filter(|e| e.starts_with(&version))
        {
            directories.push(format!("{within}/{own}/{database}"));
        }
    }
    Ok(directories)
}

async fn entries(session: &Session, directory: &str) -> Result<Vec<String>, ReadError> {
    let sql = format!(
        "SELECT f FROM pg_catalog.pg_ls_dir({}, true, false) f ORDER BY f",
        literal(directory)
    );
    Ok(session.rows(&sql).await?.into_iter().flatten().flatten().collect())
}

/// The files of relations in a directory, but for temporary ones.
pub async fn forks(session: &Session, directory: &str) -> Result<Vec<ForkFile>, ReadError> {
    let quoted = literal(directory);
    let sql = format!(
        "SELECT f, (pg_catalog.pg_stat_file({quoted} || '/' || f, true)).size \
         FROM pg_catalog.pg_ls_dir({quoted}, true, false) f WHERE f ~ '^[0-9]'"
    );
    let rows = session.rows(&sql).await?;
    let files = rows.into_iter().filter_map(|row| {
        let [name, size] = <[Option<String>; 2]>::try_from(row).ok()?;
        Some((name?, size?.parse().ok()?))
    });
    Ok(of_directory(directory, files))
}

/// The forks that some files of a directory are segments of; other files are
/// left out.
pub fn of_directory(
    directory: &str,
    files: impl IntoIterator<Item = (String, u64)>,
) -> Vec<ForkFile> {
    let mut forks: BTreeMap<String, BTreeMap<u32, u64>> = BTreeMap::new();
    for (name, size) in files {
        if let Some((fork, segment)) = segment_of(&name) {
            forks.entry(format!("{directory}/{fork}")).or_default().insert(segment, size);
        }
    }
    forks.into_iter().map(|(path, segments)| ForkFile { path, segments }).collect()
}

/// The file of a segment, by that of the first.
pub fn segment_path(fork: &str, segment: u32) -> String {
    match segment {
        0 => fork.to_owned(),
        n => format!("{fork}.{n}"),
    }
}

/// The segment of a block, and where the block begins in it, in bytes.
pub fn place_of_block(
    fork: &str,
    block: u32,
    (block_size, segment_blocks): (u32, u32),
) -> (String, u64) {
    let segment_blocks = segment_blocks.max(1);
    let within = u64::from(block % segment_blocks) * u64::from(block_size);
    (segment_path(fork, block / segment_blocks), within)
}

/// The name of a fork's first file, and the number of the segment.
fn segment_of(name: &str) -> Option<(&str, u32)> {
    let (fork, segment) = match name.split_once('.') {
        Some((fork, segment)) => (fork, segment.parse().ok().filter(|n| *n > 0)?),
        None => (name, 0),
    };
    let (number, suffix) = fork.split_once('_').unwrap_or((fork, "init"));
    let is_fork = matches!(suffix, "fsm" | "vm" | "init");
    (is_fork && number.bytes().all(|b| b.is_ascii_digit())).then_some((fork, segment))
}

/// What the catalogs call files, by their paths. Each catalog is read by itself:
/// damage to one costs what it says.
pub async fn names(session: &Session) -> Result<BTreeMap<String, FileOf>, ReadError> {
    let text = |row: &[Option<String>], i: usize| row.get(i).cloned().flatten().unwrap_or_default();
    let number = |row: &[Option<String>], i: usize| text(row, i).parse::<u32>().unwrap_or(0);
    let schemas = session.rows("SELECT oid, nspname FROM pg_catalog.pg_namespace").await?;
    let schemas: BTreeMap<u32, String> =
        schemas.iter().map(|row| (number(row, 0), text(row, 1))).collect();
    let indexes = session.rows("SELECT indexrelid, indrelid FROM pg_catalog.pg_index").await?;
    let mut owners: BTreeMap<u32, u32> =
        indexes.iter().map(|row| (number(row, 0), number(row, 1))).collect();
    let sql = "SELECT pg_catalog.pg_relation_filepath(oid), oid, relnamespace, relname, relkind, \
               relam, reltoastrelid FROM pg_catalog.pg_class \
               WHERE relkind IN ('r', 't', 'm', 'i', 'S')";
    let classes = session.rows(sql).await?;
    owners.extend(classes.iter().map(|row| (number(row, 6), number(row, 1))));
    let file_of = |row: Vec<Option<String>>| {
        let oid = number(&row, 1);
        let of = FileOf {
            oid,
            schema: schemas.get(&number(&row, 2)).cloned().unwrap_or_default(),
            name: text(&row, 3),
            relkind: text(&row, 4).chars().next().unwrap_or(' '),
            access_method: number(&row, 5),
            owner: owners.get(&oid).copied(),
        };
        Some((row.into_iter().next()??, of))
    };
    Ok(classes.into_iter().filter_map(file_of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_relations_are_told_from_others() {
        assert_eq!(segment_of("16384"), Some(("16384", 0)));
        assert_eq!(segment_of("16384_fsm.2"), Some(("16384_fsm", 2)));
        assert_eq!(segment_of("16384_init"), Some(("16384_init", 0)));
        for name in ["PG_VERSION", "pg_filenode.map", "t3_16384", "16384.", "16384.0", "1_x", "1.a"]
        {
            assert_eq!(segment_of(name), None, "{name}");
        }
        let fork = |path: &str| ForkFile { path: path.to_owned(), segments: BTreeMap::new() };
        assert_eq!(fork("base/5/77_vm").fork(), ("base/5/77", "vm"));
        assert_eq!(fork("base/5/77").fork(), ("base/5/77", "main"));
    }
}
