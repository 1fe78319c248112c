//! The files of the archive beside `toc.dat`.
//!
//! `pg_restore` takes no name with a slash in it, and nothing but regular files
//! (15.20 and 17.12; 15.18 and 18.4 still took both). So each file that
//! `toc.dat` or `blobs.toc` names has a second name in the directory itself: a
//! hard link, which takes no room. Where a file system has none the archive has
//! the names in their folders, as an older `pg_restore` takes them.

use super::OutputError;
use super::codec::Method;
use super::dir::DumpDir;
use super::fault_point::fault_point;
use super::large_objects::FOLDER;
use std::io;
use std::path::PathBuf;

/// Gives each file a name in the directory itself. If that cannot be done, none
/// has one, and the error says why.
pub fn link(dir: &DumpDir, paths: &[String]) -> Result<(), io::Error> {
    for path in paths {
        fault_point("link file");
        if let Err(error) = std::fs::hard_link(dir.path().join(path), beside(dir, path)) {
            for path in paths {
                // What is left of them is in nobody's way.
                let _ = std::fs::remove_file(beside(dir, path));
            }
            return Err(error);
        }
    }
    Ok(())
}

/// What comes of it that there are no links.
pub fn note(error: &io::Error) -> String {
    format!(
        "the archive is read by an older pg_restore only (15.18 reads it, 15.20 does not), and by \
         pg_salvage restore: its files have no names beside toc.dat, since no hard link could be \
         made: {error}"
    )
}

fn beside(dir: &DumpDir, path: &str) -> PathBuf {
    dir.path().join(name(path))
}

/// The name of a file in the directory itself.
pub fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Removes all such names: what they are names of is written to again.
pub fn clear(dir: &DumpDir) -> Result<(), OutputError> {
    let failed = || OutputError::io("read directory", dir.path());
    for entry in std::fs::read_dir(dir.path()).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        if let Some(name) = name.to_str().filter(|name| is_of_archive(name) && is_ours(dir, name)) {
            dir.remove(name)?;
        }
    }
    Ok(())
}

/// Whether it is a file, and one of the folders has it, too, finished or not.
fn is_ours(dir: &DumpDir, name: &str) -> bool {
    let is_file =
        |path: &str| dir.path().join(path).symlink_metadata().is_ok_and(|file| file.is_file());
    let has_it = |folder: &str| {
        is_file(&format!("{folder}/{name}")) || is_file(&format!("{folder}/{name}.part"))
    };
    is_file(name) && (has_it("data") || has_it(FOLDER))
}

fn is_of_archive(name: &str) -> bool {
    let suffixes = Method::ALL.map(Method::suffix);
    let packed = suffixes.iter().filter(|s| !s.is_empty()).find_map(|s| name.strip_suffix(s));
    let name = packed.unwrap_or(name);
    name.ends_with(".copy") || (name.starts_with("blob_") && name.ends_with(".dat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_all_files_have_a_name_beside_the_archive_or_none_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        let dir = DumpDir::create(&path, false).unwrap();
        for name in ["a.t.copy", "b.t.copy"] {
            std::fs::write(path.join("data").join(name), name).unwrap();
        }
        let paths = ["data/a.t.copy", "data/b.t.copy"].map(str::to_owned);
        link(&dir, &paths).unwrap();
        assert_eq!(std::fs::read(path.join("b.t.copy")).unwrap(), b"b.t.copy");
        std::fs::write(path.join("mine.copy"), "a user's").unwrap();
        clear(&dir).unwrap();
        assert!(path.join("mine.copy").exists());
        assert!(!path.join("a.t.copy").exists() && path.join("data/a.t.copy").exists());
        std::fs::remove_file(path.join("data/b.t.copy")).unwrap();
        assert!(note(&link(&dir, &paths).unwrap_err()).contains("No such file"));
        assert!(!path.join("a.t.copy").exists());
    }

    #[test]
    fn what_is_of_the_archive_is_known_by_its_name() {
        for name in ["public.t.copy", "public.t.copy.zst", "a.b.copy.gz", "blob_7.dat.lz4"] {
            assert!(is_of_archive(name), "{name}");
        }
        for name in ["toc.dat", "blobs.toc", "manifest.json", "journal", "advice.sql", "schema"] {
            assert!(!is_of_archive(name), "{name}");
        }
    }
}
