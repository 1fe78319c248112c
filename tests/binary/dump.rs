//! A finished dump directory, looked at as a script would: by its manifest.

use super::{Ran, run, words, words_as};
use crate::kit::json_schema::assert_keeps_to;
use crate::kit::tidy_dir::assert_tidy;
use crate::kit::{Server, oracle};
use pg_salvage::output::manifest::{self, Manifest, RelationStatus};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub struct Dump {
    /// What a failing assertion is to say: version, checksums, options.
    pub case: String,
    pub ran: Ran,
    pub dir: PathBuf,
    pub manifest: Manifest,
    _folder: Option<TempDir>,
}

impl Dump {
    /// Dumps the rows of a database as the superuser, without the schema, which
    /// costs time, and without syncing: nobody pulls a plug here.
    pub fn of(server: &Server, dbname: &str, options: &[&str]) -> Dump {
        Dump::begun(server, "postgres", dbname, options)
    }

    pub fn as_user(server: &Server, user: &str, dbname: &str, options: &[&str]) -> Dump {
        Dump::begun(server, user, dbname, options)
    }

    fn begun(server: &Server, user: &str, dbname: &str, options: &[&str]) -> Dump {
        let (folder, dir, args) = Dump::words(server, user, dbname, options);
        Dump::read(case(server, &options.join(" ")), run(args), dir, Some(folder))
    }

    /// Everything that is needed to run a dump into a new folder.
    pub fn words(
        server: &Server,
        user: &str,
        dbname: &str,
        options: &[&str],
    ) -> (TempDir, PathBuf, Vec<String>) {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("dump");
        let mut args = words_as("dump", server, dbname, user);
        args.extend(["-f".to_owned(), dir.display().to_string()]);
        args.extend(["--raw-rows=never", "--no-sync", "--no-schema"].map(str::to_owned));
        args.extend(options.iter().map(|word| (*word).to_owned()));
        (folder, dir, args)
    }

    /// Takes in what a run has left.
    pub fn read(case: String, ran: Ran, dir: PathBuf, folder: Option<TempDir>) -> Dump {
        let json = std::fs::read(dir.join("manifest.json")).unwrap_or_else(|e| {
            panic!("{case}: no manifest: {e}\nexit code {}\n{}", ran.code, ran.stderr)
        });
        let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_keeps_to(include_str!("../../docs/manifest.schema.json"), &value, &case);
        let manifest = Manifest::from_json(&json).expect("a manifest");
        assert_eq!(i32::from(manifest.exit_code), ran.code, "{case}: {}", ran.stderr);
        Dump { case, ran, dir, manifest, _folder: folder }
    }

    pub fn relation(&self, name: &str) -> &manifest::Relation {
        let mut found = self.manifest.relations.iter().filter(|r| r.name == name);
        let relation = found.next().unwrap_or_else(|| panic!("{}: no entry \"{name}\"", self.case));
        assert!(found.next().is_none(), "{}: two entries \"{name}\"", self.case);
        relation
    }

    pub fn has(&self, name: &str) -> bool {
        self.manifest.relations.iter().any(|r| r.name == name)
    }

    /// The names of all relations with this status.
    pub fn with_status(&self, status: RelationStatus) -> Vec<&str> {
        let of = self.manifest.relations.iter().filter(|r| r.status == status);
        of.map(|r| r.name.as_str()).collect()
    }

    /// The clean rows of a relation, unpacked.
    pub async fn clean_rows(&self, relation: &manifest::Relation) -> Vec<u8> {
        let clean = |f: &&manifest::FileEntry| f.class == manifest::RowClass::Clean;
        let Some(file) = relation.files.iter().find(clean) else {
            panic!("{}: \"{}\" has no clean file", self.case, relation.name)
        };
        oracle::read_file(&self.dir.join(&file.path)).await
    }

    /// Exit code 0, status clean, and nothing in the directory that a clean run
    /// should not leave.
    pub fn assert_clean(&self) {
        let Dump { case, ran, .. } = self;
        let bad: Vec<_> = self
            .manifest
            .relations
            .iter()
            .filter(|r| !matches!(r.status, RelationStatus::Clean | RelationStatus::Skipped))
            .map(|r| (&r.name, r.status, &r.reason))
            .collect();
        assert!(bad.is_empty(), "{case}: not clean: {bad:#?}\n{}", ran.stderr);
        assert_eq!(ran.code, 0, "{case}: {}", ran.stderr);
        assert_eq!(self.manifest.status, manifest::RunStatus::Clean, "{case}");
        assert_eq!(self.manifest.warnings, [""; 0], "{case}");
        assert_eq!(self.manifest.snapshots.len(), 1, "{case}");
        assert_eq!(ran.stderr, "", "{case}");
        for folder in ["errors", "maps"] {
            assert_eq!(names_in(&self.dir.join(folder)), [""; 0], "{case}: {folder}");
        }
        self.assert_tidy();
    }

    /// Every file is listed with its size and checksum, is closed to others,
    /// and none is half-made.
    pub fn assert_tidy(&self) {
        assert_tidy(&self.dir, &self.manifest, &self.case);
    }
}

/// What a failing assertion says first.
pub fn case(server: &Server, what: &str) -> String {
    let checksums = if server.options.checksums { "on" } else { "off" };
    format!("PostgreSQL {}, checksums {checksums}, {what}", server.version.major)
}

pub fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// `verify` instead of `dump`.
pub fn verify(server: &Server, dbname: &str, options: &[&str]) -> Ran {
    let mut args = words("verify", server, dbname);
    args.extend(options.iter().map(|word| (*word).to_owned()));
    run(args)
}
