//! The connection service file: `[service]` sections of `keyword=value` lines.

use std::fs;
use std::path::{Path, PathBuf};

use super::ConnectError;
use super::keywords::{self, Keyword};

/// Where Debian's libpq and one built with the defaults look, when PGSYSCONFDIR does not say.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/etc/postgresql-common", "/usr/local/pgsql/etc"];

/// The options of the service, from the user's file if it has the service, else from the system's.
pub(super) fn load(
    service: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(&'static Keyword, String)>, ConnectError> {
    let mut files: Vec<PathBuf> = Vec::new();
    match env("PGSERVICEFILE") {
        Some(file) if !Path::new(&file).exists() => {
            return Err(ConnectError::usage(format!("service file \"{file}\" not found")));
        }
        Some(file) => files.push(file.into()),
        None => files.extend(super::home(env).map(|home| home.join(".pg_service.conf"))),
    }
    match env("PGSYSCONFDIR") {
        Some(directory) => files.push(Path::new(&directory).join("pg_service.conf")),
        None => files.extend(
            SYSTEM_DIRECTORIES.map(|directory| Path::new(directory).join("pg_service.conf")),
        ),
    }
    for file in files.iter().filter(|file| file.exists()) {
        let bytes = fs::read(file).map_err(|error| {
            let words = crate::server::words::io_words(&error);
            ConnectError::usage(format!(
                "could not read service file \"{}\": {words}",
                file.display()
            ))
        })?;
        let text = String::from_utf8_lossy(&bytes);
        if let Some(options) = parse(&text, service, &file.display().to_string())? {
            return Ok(options);
        }
    }
    Err(ConnectError::usage(format!("definition of service \"{service}\" not found")))
}

/// The options of the service, or nothing if the file does not have it. The first of an option given twice counts.
fn parse(
    text: &str,
    service: &str,
    file: &str,
) -> Result<Option<Vec<(&'static Keyword, String)>>, ConnectError> {
    let mut found: Option<Vec<(&'static Keyword, String)>> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_matches(|c: char| c.is_ascii_whitespace());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if section.split(']').next() == Some(service) && section.contains(']') {
                found = Some(Vec::new());
            }
            continue;
        }
        let Some(options) = &mut found else { continue };
        let at = format!("service file \"{file}\", line {}", number + 1);
        if line.starts_with("ldap") && line.contains("://") {
            return Err(ConnectError::usage(format!("LDAP lookup is not supported in {at}")));
        }
        let syntax_error = || ConnectError::usage(format!("syntax error in {at}"));
        let (name, value) = line.split_once('=').ok_or_else(syntax_error)?;
        if name == "service" {
            return Err(ConnectError::usage(format!(
                "nested service specifications not supported in {at}"
            )));
        }
        let keyword = keywords::find(name).ok_or_else(syntax_error)?;
        if options.iter().all(|(known, _)| known.name != name) {
            options.push((keyword, value.to_string()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# comment\n\
                        [one]\n\
                        host=h1\n\
                        port = 1\n\
                        \n\
                        [two] \n\
                        \t host=h2 \n\
                        dbname=a=b\n\
                        host=later\n\
                        # comment\n\
                        [two]\n\
                        user=never\n\
                        [nested]\n\
                        service=one\n\
                        [bare]\n\
                        word\n\
                        [directory]\n\
                        ldap://host/x\n";

    fn read(service: &str) -> Result<Option<Vec<(&'static str, String)>>, String> {
        match parse(FILE, service, "f") {
            Ok(found) => {
                Ok(found.map(|found| found.into_iter().map(|(k, v)| (k.name, v)).collect()))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_section_gives_its_options() {
        let expected = vec![("host", "h2".to_string()), ("dbname", "a=b".to_string())];
        assert_eq!(read("two"), Ok(Some(expected)));
        assert_eq!(read("tw"), Ok(None));
        assert_eq!(read("three"), Ok(None));
    }

    #[test]
    fn what_libpq_cannot_read_is_an_error_with_its_line() {
        for (service, expected) in [
            // libpq takes the space for part of the name.
            ("one", "syntax error in service file \"f\", line 4"),
            (
                "nested",
                "nested service specifications not supported in service file \"f\", line 14",
            ),
            ("bare", "syntax error in service file \"f\", line 16"),
            ("directory", "LDAP lookup is not supported in service file \"f\", line 18"),
        ] {
            assert_eq!(read(service), Err(expected.into()), "{service}");
        }
    }
}
