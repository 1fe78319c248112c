//! `pg_salvage report`: a run that is over, read from its files and shown again
//! in any form.

use super::model::Report;
use super::{Format, ReportError, deliver, dumped, from_manifest, render};
use crate::output::OutputError;
use crate::output::journal::JOURNAL;
use crate::output::manifest::{Manifest, ManifestError};
use crate::output::one_file::read_one;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::io;
use std::path::{Path, PathBuf};

const MANIFEST: &str = "manifest.json";

/// Where a run is found in a directory, the first first.
const IN_DIRECTORY: [&str; 2] = [MANIFEST, "verify.json"];

/// A manifest or a report has at most so many bytes: it is read into memory as a
/// whole, and of a million relations it has fewer.
pub const SOURCE_BYTES_MAX: u64 = 2 << 30;

/// So has a map: past it, the list of what is lost has to do.
const MAP_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(
        "the run into \"{dir}\" has not ended, or was killed: there is no \"{path}\" (--resume goes \
         on with it)",
        dir = .dir.display(),
        path = .dir.join(MANIFEST).display()
    )]
    NotEnded { dir: PathBuf },
    #[error("could not read \"{path}\": {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("could not read \"{path}\": {source}", path = .path.display())]
    Manifest { path: PathBuf, source: ManifestError },
    #[error("could not read \"{path}\": {source}", path = .path.display())]
    Report { path: PathBuf, source: ReportError },
    #[error(
        "\"{path}\" is neither the manifest of a dump nor a report of pg_salvage",
        path = .path.display()
    )]
    Neither { path: PathBuf },
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// What was found in a file.
pub(super) enum Source {
    /// With the dump directory, if it lies in one.
    Dump(Box<Manifest>, Option<PathBuf>),
    Report(Box<Report>),
}

/// What is left to print, and the exit code of the run.
#[derive(Debug)]
pub struct Shown {
    pub text: Option<String>,
    pub exit_code: u8,
}

/// `from` is a dump directory, a manifest or a report.
pub fn report(
    from: &Path,
    format: Format,
    verbose: bool,
    to: Option<&Path>,
) -> Result<Shown, CommandError> {
    let (text, exit_code) = match read(from)? {
        Source::Dump(manifest, dir) => {
            let text = match (format, &dir) {
                (Format::Text, dir) => {
                    let dir = dir.as_ref().map(|dir| dir.display().to_string());
                    dumped::text(&manifest, dir.as_deref(), verbose)
                }
                _ => {
                    let map_of = |path: &str| map(dir.as_deref()?, path);
                    render(&from_manifest(&manifest, &map_of), format, verbose)
                }
            };
            (text, manifest.exit_code)
        }
        Source::Report(report) => (render(&report, format, verbose), report.exit_code),
    };
    Ok(Shown { text: deliver(text, to)?, exit_code })
}

/// A run, from a directory or a file.
pub(super) fn read(from: &Path) -> Result<Source, CommandError> {
    let is_dir = from.is_dir();
    let mut in_it = IN_DIRECTORY.iter().map(|name| from.join(name));
    let path = match is_dir {
        true => in_it.find(|file| file.is_file()).unwrap_or_else(|| from.join(MANIFEST)),
        false => from.to_owned(),
    };
    // What has this name there is one, whatever is in it.
    let is_named = is_dir && path.ends_with(MANIFEST);
    let bytes = read_one(&path, SOURCE_BYTES_MAX).map_err(|source| {
        match is_dir && !path.exists() && from.join(JOURNAL).is_file() {
            true => CommandError::NotEnded { dir: from.to_owned() },
            false => CommandError::Io { path: path.clone(), source },
        }
    })?;
    /// Fields that one of the two has.
    #[derive(Deserialize)]
    struct Told {
        command: Option<IgnoredAny>,
        levels: Option<IgnoredAny>,
        snapshots: Option<IgnoredAny>,
    }
    let told: Option<Told> = serde_json::from_slice(&bytes).ok();
    let (is_report, is_manifest) = told.map_or((false, is_named), |told| {
        (told.command.is_some() && told.levels.is_some(), is_named || told.snapshots.is_some())
    });
    if is_report && !is_named {
        let report = Report::from_json(&bytes);
        let report = report.map_err(|source| CommandError::Report { path, source })?;
        return Ok(Source::Report(Box::new(report)));
    }
    if !is_manifest {
        return Err(CommandError::Neither { path });
    }
    let manifest = Manifest::from_json(&bytes)
        .map_err(|source| CommandError::Manifest { path: path.clone(), source })?;
    // A manifest may also have been copied out of its directory.
    let beside = |name: &str| path.with_file_name(name);
    let dir = match is_dir {
        true => Some(from.to_owned()),
        false => beside(JOURNAL).is_file().then(|| beside(".")),
    };
    Ok(Source::Dump(Box::new(manifest), dir))
}

/// A map, if it can be had: without it the report has less, and says nothing
/// wrong.
fn map(dir: &Path, path: &str) -> Option<String> {
    String::from_utf8(read_one(&dir.join(path), MAP_BYTES_MAX).ok()?).ok()
}

#[cfg(test)]
mod tests;
