//! A run of the program, and what it left.

use super::tidy_dir::assert_tidy;
use super::{Server, oracle};
use pg_salvage::output::Content;
use pg_salvage::output::manifest::{Manifest, Relation, RelationStatus, RowClass};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary of this build, where cargo tells of it (tests and benches).
pub struct Dumped {
    pub manifest: Manifest,
    pub dir: tempfile::TempDir,
    pub said: String,
}

/// Most tests foretell what the server itself gives of what is damaged.
fn no_raw_rows(options: &[&str]) -> Option<&'static str> {
    (!options.iter().any(|o| o.starts_with("--raw-rows"))).then_some("--raw-rows=never")
}

/// `pg_salvage dump` of the rows of a database, with more options; with
/// `--pg-dump` among them of its schema, too, which costs time. Without
/// `--raw-rows` no page is decoded here.
pub fn dump(program: &str, server: &Server, dbname: &str, options: &[&str]) -> Dumped {
    dump_as(program, server, ("postgres", dbname), options)
}

/// The same as another role than the superuser.
pub fn dump_as(
    program: &str,
    server: &Server,
    (role, dbname): (&str, &str),
    options: &[&str],
) -> Dumped {
    let conninfo = server.conninfo(dbname).replace("user=postgres", &format!("user={role}"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = Command::new(program)
        .args(["dump", "--no-sync", "-d"])
        .arg(conninfo)
        .args((!options.contains(&"--pg-dump")).then_some("--no-schema"))
        .args(no_raw_rows(options))
        .arg("-f")
        .arg(dir.path())
        .args(options)
        .output()
        .expect("the program starts");
    let said = said(&out);
    let manifest = std::fs::read(dir.path().join("manifest.json"));
    let manifest = manifest.unwrap_or_else(|e| panic!("no manifest ({e}): {said}"));
    let manifest = Manifest::from_json(&manifest).expect("a manifest");
    assert_eq!(out.status.code(), Some(i32::from(manifest.exit_code)), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    Dumped { manifest, dir, said }
}

/// Goes on with a dump that was made by [`dump`].
pub fn go_on(
    program: &str,
    server: &Server,
    dbname: &str,
    dumped: Dumped,
    options: &[&str],
) -> Dumped {
    let out = Command::new(program)
        .args(["dump", "--no-sync", "--no-schema", "--resume", "-d"])
        .arg(server.conninfo(dbname))
        .args(no_raw_rows(options))
        .arg("-f")
        .arg(dumped.dir.path())
        .args(options)
        .output()
        .expect("the program starts");
    Dumped::read(dumped.dir, said(&out))
}

fn said(out: &Output) -> String {
    [&out.stdout, &out.stderr].map(|b| String::from_utf8_lossy(b).into_owned()).concat()
}

/// Dumps with a slow codec; `meanwhile` happens when rows of the table
/// `public.slow` have come.
pub fn dump_with(
    program: &str,
    server: &Server,
    dbname: &str,
    options: &[&str],
    meanwhile: impl FnOnce(),
) -> Dumped {
    let dir = tempfile::tempdir().expect("it works");
    let mut child = Command::new(program)
        .args(["dump", "--no-sync", "--no-schema", "-Z", "zstd:15", "-d"])
        .arg(server.conninfo(dbname))
        .args(no_raw_rows(options))
        .arg("-f")
        .arg(dir.path())
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("it works");
    let part = dir.path().join("data/public.slow.copy.zst.part");
    while !std::fs::metadata(&part).is_ok_and(|m| m.len() > 100_000) {
        assert!(
            child.try_wait().expect("it works").is_none(),
            "it was over before anything could happen"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    meanwhile();
    let code = child.wait().expect("it works").code();
    let manifest = std::fs::read(dir.path().join("manifest.json")).expect("it works");
    let manifest = Manifest::from_json(&manifest).expect("it works");
    assert_eq!(code, Some(i32::from(manifest.exit_code)));
    Dumped { manifest, dir, said: String::new() }
}

impl Dumped {
    /// The entry of a relation in schema public.
    pub fn relation(&self, name: &str) -> &Relation {
        self.relation_of("public", name)
    }

    pub fn relation_of(&self, schema: &str, name: &str) -> &Relation {
        let found = self.manifest.relations.iter().find(|r| r.schema == schema && r.name == name);
        found.unwrap_or_else(|| panic!("{schema}.{name} is not in the manifest: {}", self.said))
    }

    /// The bytes of a class of rows, unpacked.
    pub async fn bytes(&self, relation: &Relation, class: RowClass) -> Vec<u8> {
        match relation.files.iter().find(|f| f.class == class) {
            Some(file) => oracle::read_file(&self.dir.path().join(&file.path)).await,
            None => Vec::new(),
        }
    }

    /// Its rows.
    pub async fn lines(&self, relation: &Relation, class: RowClass) -> Vec<Vec<u8>> {
        let bytes = self.bytes(relation, class).await;
        let lines: Vec<Vec<u8>> = oracle::lines(&bytes).map(<[u8]>::to_vec).collect();
        let counted = match class {
            RowClass::Clean => relation.rows.clean,
            RowClass::Suspect => relation.rows.suspect,
            RowClass::Partial => relation.rows.partial,
            RowClass::Oversize => panic!("rows in binary form have no lines"),
            RowClass::ToastChunks => {
                let file = relation.files.iter().find(|f| f.class == class);
                file.map_or(0, |f| f.rows)
            }
        };
        assert_eq!(
            lines.len() as u64,
            counted,
            "rows of {}, {class:?}: {}",
            relation.name,
            self.said
        );
        if let Some(hash) = relation.content_hash.filter(|_| class == RowClass::Clean) {
            assert_eq!(relation.status, RelationStatus::Clean, "{relation:#?}");
            assert_eq!(hash, Content::of(&bytes).hash, "{}: {}", relation.name, self.said);
        }
        lines
    }

    /// What lies in a directory where a run has ended.
    pub fn read(dir: tempfile::TempDir, said: String) -> Dumped {
        let manifest = std::fs::read(dir.path().join("manifest.json"));
        let manifest = manifest.unwrap_or_else(|e| panic!("no manifest ({e}): {said}"));
        let manifest = Manifest::from_json(&manifest).expect("a manifest");
        Dumped { manifest, dir, said }
    }

    /// Every file in the manifest is what it says, and there are no others with
    /// rows.
    pub fn check_files(&self, at: &str) {
        assert_tidy(self.dir.path(), &self.manifest, at);
    }

    /// Files that are not finished.
    pub fn leftovers(&self) -> Vec<String> {
        unfinished(self.dir.path())
    }
}

fn unfinished(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "data", "errors", "maps", "schema", "blobs"] {
        for entry in std::fs::read_dir(dir.join(folder)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".part") {
                found.push(name);
            }
        }
    }
    found
}

/// What of a relation must be the same, whatever happened on the way.
#[derive(Clone, PartialEq, Eq)]
pub struct Essence {
    pub name: String,
    /// What its entry says of it.
    pub entry: String,
    pub clean: Vec<Vec<u8>>,
    pub suspect: Vec<Vec<u8>>,
    pub partial: Vec<Vec<u8>>,
}

impl Dumped {
    /// Of each relation, in the manifest's order.
    pub async fn essence(&self) -> Vec<Essence> {
        let mut all = Vec::new();
        for relation in &self.manifest.relations {
            let Relation { status, reason, rows, blocks, lost, sequence, .. } = relation;
            all.push(Essence {
                name: relation.name.clone(),
                entry: format!("{status:?} {reason:?} {rows:?} {blocks:?} {lost:?} {sequence:?}"),
                clean: self.lines(relation, RowClass::Clean).await,
                suspect: self.lines(relation, RowClass::Suspect).await,
                partial: self.lines(relation, RowClass::Partial).await,
            });
        }
        all
    }

    /// Holds it against the essence of one that nobody disturbed.
    pub async fn assert_same(&self, wanted: &[Essence], at: &str) {
        self.check_files(at);
        let found = self.essence().await;
        for (found, wanted) in found.iter().zip(wanted) {
            assert_eq!((&found.name, &found.entry), (&wanted.name, &wanted.entry), "{at}");
            assert!(found.clean == wanted.clean, "{at}: clean rows of {}", found.name);
            assert!(found.suspect == wanted.suspect, "{at}: suspect rows of {}", found.name);
            assert!(found.partial == wanted.partial, "{at}: partial rows of {}", found.name);
        }
        assert_eq!(found.len(), wanted.len(), "{at}");
    }
}

/// Holds a dump against one that nobody disturbed.
pub async fn check_same(dumped: &Dumped, undisturbed: &Dumped, at: &str) {
    dumped.assert_same(&undisturbed.essence().await, at).await;
    assert_eq!(dumped.manifest.status, undisturbed.manifest.status, "{at}");
}
