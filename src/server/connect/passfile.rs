//! The password file, `~/.pgpass`: `hostname:port:database:username:password` to the line, `*` for any.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Password;

/// A password file as it was when the parameters were resolved. Its content is never printed.
#[derive(Clone)]
pub(super) struct PassFile {
    pub(super) path: PathBuf,
    text: String,
}

impl PassFile {
    /// Reads the file; one that is not there, is no plain file or may be read by others does not count. libpq warns
    /// about the latter two and goes on.
    pub(super) fn read(path: &Path) -> Option<PassFile> {
        let metadata = fs::metadata(path).ok()?;
        if !metadata.is_file() {
            tracing::warn!("password file \"{}\" is not a plain file", path.display());
            return None;
        }
        if metadata.mode() & 0o077 != 0 {
            tracing::warn!(
                "password file \"{}\" has group or world access; permissions should be u=rw (0600) or less",
                path.display()
            );
            return None;
        }
        let bytes = fs::read(path)
            .inspect_err(|error| {
                let words = crate::server::words::io_words(error);
                tracing::warn!("could not read password file \"{}\": {words}", path.display());
            })
            .ok()?;
        Some(PassFile { path: path.into(), text: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// The password of the first line that matches.
    pub(super) fn find(&self, host: &str, port: u16, dbname: &str, user: &str) -> Option<Password> {
        find(&self.text, [host, &port.to_string(), dbname, user])
    }
}

fn find(text: &str, wanted: [&str; 4]) -> Option<Password> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let rest = wanted.iter().try_fold(line, |line, wanted| match_field(line, wanted))?;
        Some(Password(unescape(rest)))
    })
}

/// What follows the field and its colon, if the field is `*` or, its escapes undone, the wanted value.
fn match_field<'a>(line: &'a str, wanted: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let end = field_end(line);
    let rest = line[end..].strip_prefix(':')?;
    (unescape(&line[..end]) == wanted).then_some(rest)
}

/// Where the first colon without a backslash is.
fn field_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return at,
            _ => {}
        }
    }
    text.len()
}

/// The field up to its end with each backslash that escapes something taken away.
fn unescape(text: &str) -> String {
    let mut value = String::new();
    let mut chars = text[..field_end(text)].chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.push(chars.next().unwrap_or('\\')),
            c => value.push(c),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is logged meanwhile.
    fn logged(run: impl FnOnce()) -> String {
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Log {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&log);
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || Log(Arc::clone(&writer)))
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .finish();
        tracing::subscriber::with_default(subscriber, run);
        let log = log.lock().unwrap();
        String::from_utf8_lossy(&log).trim().to_string()
    }

    #[test]
    fn the_first_line_that_matches_gives_the_password() {
        let file = "# comment\n\
                    h:5432:db:u:exact\n\
                    h:*:db:u:any port\n\
                    *:5432:*:u:any host\n\
                    \\:\\:1:5432:db:six:v6\n\
                    [::1]:5432:db:six:never\n\
                    localhost:*:*:*:se\\:cr\\\\et\n\
                    d:*:*:*:one:two\n\
                    star*:1:d:u:literal\n\
                    short:1:2\n\
                    cr:1:d:u:dos\r\n\
                    empty:1:d:u:";
        for (wanted, expected) in [
            (["h", "5432", "db", "u"], Some("exact")),
            (["h", "1", "db", "u"], Some("any port")),
            (["x", "5432", "db", "u"], Some("any host")),
            (["::1", "5432", "db", "six"], Some("v6")),
            (["localhost", "9", "a", "b"], Some("se:cr\\et")),
            (["d", "9", "a", "b"], Some("one")),
            (["starry", "1", "d", "u"], None),
            (["star*", "1", "d", "u"], Some("literal")),
            (["short", "1", "2", "u"], None),
            (["cr", "1", "d", "u"], Some("dos")),
            (["empty", "1", "d", "u"], Some("")),
            (["# comment", "1", "d", "u"], None),
        ] {
            let found = find(file, wanted).map(|password| password.0);
            assert_eq!(found.as_deref(), expected, "{wanted:?}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pass");
        assert!(PassFile::read(&path).is_none(), "not there");
        assert!(PassFile::read(directory.path()).is_none(), "a directory");
        fs::write(&path, "*:*:*:*:x").unwrap();
        for (mode, counts) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let log = logged(|| assert_eq!(PassFile::read(&path).is_some(), counts, "{mode:o}"));
            let warning = format!(
                "WARN password file \"{}\" has group or world access; permissions should be u=rw (0600) or less",
                path.display()
            );
            assert_eq!(log, if counts { String::new() } else { warning }, "{mode:o}");
        }
    }
}
