//! A single file that somebody names, anywhere: not of a dump directory, and
//! not for ourselves alone.

use super::dir::{parent, sync_directory};
use super::error::OutputError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a whole file. Whoever looks sees the former contents or all of the
/// new. Its mode is what a shell would give it: others may be meant to read it,
/// as a server's monitoring does.
pub fn write_one(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    // Through a link to the file that it leads to.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        // A rename would replace a device or a pipe.
        return Err(OutputError::NotAFile { path: path.clone() });
    }
    let Some(name) = path.file_name() else {
        return Err(OutputError::NotAFile { path: path.clone() });
    };
    // Hidden, and with a suffix that nobody collects.
    let part = format!(".{}.{}.part", name.to_string_lossy(), std::process::id());
    let part = parent(path).join(part);
    let written = write_new(&part, bytes)
        .map_err(OutputError::io("write file", path))
        .and_then(|()| fs::rename(&part, path).map_err(OutputError::io("rename file", path)));
    if written.is_err() {
        let _ = fs::remove_file(&part);
        return written;
    }
    sync_directory(parent(path))
}

/// All of a file, unless it is none or has too much.
pub fn read_one(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Before it is opened: a pipe would not be, until somebody writes.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let too_long = || io::Error::other(format!("it has more than {most} bytes"));
    if metadata.len() > most {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long()) } else { Ok(bytes) }
}

fn write_new(part: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut open = OpenOptions::new();
    let mut file = open.write(true).create(true).truncate(true).mode(0o644).open(part)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_others_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("a.prom"), dir.path().join("link"));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_one(&link, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_ne!(fs::metadata(&path).unwrap().permissions().mode() & 0o044, 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for path in [Path::new("/dev/null"), dir.path()] {
            let error = write_one(path, b"new").unwrap_err().to_string();
            assert_eq!(error, format!("\"{}\" is there, and is no file", path.display()));
        }
        let missing = dir.path().join("no/a.prom");
        let error = write_one(&missing, b"new").unwrap_err().to_string();
        assert!(error.starts_with("could not write file"), "{error}");
    }
}
