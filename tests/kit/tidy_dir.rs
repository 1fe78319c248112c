//! What a dump directory must hold, whoever wrote it and however often.

use pg_salvage::archive::Archive;
use pg_salvage::output::manifest::Manifest;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Every file is listed with its size and checksum, is closed to others,
/// and none is half-made.
pub fn assert_tidy(dir: &Path, manifest: &Manifest, case: &str) {
    let mut listed = BTreeSet::from(["manifest.json", "journal"].map(str::to_owned));
    for relation in &manifest.relations {
        let mut classes = BTreeSet::new();
        for file in &relation.files {
            let name = &relation.name;
            assert!(classes.insert(file.class), "{case}: \"{name}\" has two files of a class");
            assert!(listed.insert(file.path.clone()), "{case}: {} is listed twice", file.path);
            let bytes = std::fs::read(dir.join(&file.path))
                .unwrap_or_else(|e| panic!("{case}: \"{name}\": {}: {e}", file.path));
            assert_eq!(bytes.len() as u64, file.bytes, "{case}: \"{name}\": bytes");
            let sum: String =
                Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(sum, file.sha256, "{case}: \"{name}\": sha256");
        }
        listed.extend(relation.map.clone());
        listed.extend(relation.lost_keys.iter().flat_map(|k| [&k.path, &k.sql]).flatten().cloned());
        if let Some(pages) = &relation.pages {
            let folder = std::fs::read_dir(dir.join(&pages.folder)).into_iter().flatten();
            let names = folder.map(|e| e.expect("an entry").file_name().into_string());
            let names: Vec<String> = names.map(|name| name.expect("UTF-8")).collect();
            assert_eq!(names.len() as u64, pages.count, "{case}: images of pages: {names:?}");
            assert!(names.iter().all(|n| n.starts_with("main.") && n.ends_with(".page")));
            listed.extend(names.iter().map(|name| format!("{}/{name}", pages.folder)));
        }
        listed.extend(relation.errors.iter().filter_map(|errors| errors.path.clone()));
    }
    if let Some(schema) = &manifest.schema {
        listed.extend(schema.files.iter().cloned());
        if let Some(objects) = &schema.large_objects {
            let folder = std::fs::read_dir(dir.join(&objects.folder)).into_iter().flatten();
            let names = folder.map(|e| e.expect("an entry").file_name().into_string());
            let names: Vec<String> = names.map(|name| name.expect("UTF-8")).collect();
            assert_eq!(names.len() as u64, objects.count, "{case}: large objects: {names:?}");
            assert!(names.iter().all(|n| n.starts_with("blob_") && n.contains(".dat")));
            listed.extend(names.iter().map(|name| format!("{}/{name}", objects.folder)));
        }
    }
    if dir.join("toc.dat").exists() {
        listed.extend(named_by_archive(dir, case));
    }
    use pg_salvage::output::manifest::RelationStatus::{Lost, Salvaged};
    if manifest.relations.iter().any(|r| matches!(r.status, Salvaged | Lost)) {
        listed.insert("advice.sql".to_owned());
    }
    let mut found = BTreeSet::new();
    walk(dir, dir, case, &mut found);
    assert_eq!(found, listed, "{case}: the files that are there, and those that are listed");
}

/// The files that the archive names. They are beside it, and regular files, since
/// `pg_restore` takes no others (15.20, 17.12).
fn named_by_archive(dir: &Path, case: &str) -> BTreeSet<String> {
    let toc = std::fs::read(dir.join("toc.dat")).expect("a table of contents");
    let archive = Archive::read(&toc).expect("an archive");
    let of_entries = archive.entries.iter().filter_map(|entry| entry.file.as_ref());
    let mut names: Vec<String> = of_entries.map(ToString::to_string).collect();
    let list = std::fs::read_to_string(dir.join("blobs.toc")).unwrap_or_default();
    names.extend(list.lines().map(|line| line.split_once(' ').expect("a name").1.to_owned()));
    let found = |name: String| {
        assert!(!name.contains('/'), "{case}: {name} is not beside the archive");
        let packed = ["", ".zst", ".gz", ".lz4"].map(|suffix| format!("{name}{suffix}"));
        let is_file = |name: &String| {
            std::fs::symlink_metadata(dir.join(name)).is_ok_and(|file| file.is_file())
        };
        packed.into_iter().find(is_file).unwrap_or_else(|| panic!("{case}: no file {name}"))
    };
    names.into_iter().map(found).collect()
}

fn walk(root: &Path, folder: &Path, case: &str, found: &mut BTreeSet<String>) {
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode();
    assert_eq!(mode(folder) & 0o7777, 0o700, "{case}: mode of {}", folder.display());
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(root, &path, case, found);
            continue;
        }
        assert_eq!(mode(&path) & 0o7777, 0o600, "{case}: mode of {}", path.display());
        let relative = path.strip_prefix(root).expect("below the root");
        found.insert(relative.to_str().expect("UTF-8").to_owned());
    }
}
