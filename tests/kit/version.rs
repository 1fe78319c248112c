//! Which PostgreSQL servers and clients this machine has.
//!
//! Looks where `fetch-servers` puts them and where Debian does; runs nothing.

use std::path::{Path, PathBuf};

/// One installed server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub major: u32,
    /// The folder that holds `bin/initdb` and `bin/postgres`.
    pub home: PathBuf,
}

/// Whether all is to be tried that takes its time (`PG_SALVAGE_WIDE`).
pub fn is_wide() -> bool {
    std::env::var_os("PG_SALVAGE_WIDE").is_some()
}

impl Version {
    /// Every major version found, newest first. Where two places have the same
    /// major, the one fetched for the tests is taken.
    ///
    /// With `PG_SALVAGE_MAJORS` set (`15,18`) only those are given.
    fn found() -> Vec<Version> {
        let mut found: Vec<Version> = Vec::new();
        for place in [servers_dir(), PathBuf::from("/usr/lib/postgresql")] {
            for version in installed_in(&place) {
                if !found.iter().any(|known| known.major == version.major) {
                    found.push(version);
                }
            }
        }
        if let Ok(wanted) = std::env::var("PG_SALVAGE_MAJORS") {
            let wanted: Vec<&str> = wanted.split(',').map(str::trim).collect();
            found.retain(|version| wanted.contains(&version.major.to_string().as_str()));
        }
        assert!(
            !found.is_empty(),
            "no PostgreSQL server to test with was found: run tests/kit/fetch-servers"
        );
        found.sort_by_key(|version| std::cmp::Reverse(version.major));
        found
    }

    pub fn newest() -> Version {
        Version::found().remove(0)
    }

    /// The oldest found from 13 on: those before nobody maintains.
    pub fn oldest() -> Version {
        Version::between(13, u32::MAX).pop().expect("run tests/kit/fetch-servers first")
    }

    /// The server of this major version; fails where there is none.
    pub fn major(major: u32) -> Version {
        Version::found().into_iter().find(|version| version.major == major).unwrap_or_else(|| {
            panic!("no PostgreSQL {major} was found: run tests/kit/fetch-servers")
        })
    }

    /// The majors between the two, newest first.
    pub fn between(oldest: u32, newest: u32) -> Vec<Version> {
        let mut versions = Version::found();
        versions.retain(|version| (oldest..=newest).contains(&version.major));
        versions
    }

    /// Of the majors between the two: the newest, the oldest, and Debian's. With
    /// `PG_SALVAGE_WIDE` set all of them are given.
    pub fn some(oldest: u32, newest: u32) -> Vec<Version> {
        let mut versions = Version::between(oldest, newest);
        let ends = versions.first().zip(versions.last()).map(|(a, b)| (a.major, b.major));
        if let (Some((first, last)), false) = (ends, is_wide()) {
            versions.retain(|v| [first, 15, last].contains(&v.major));
        }
        versions
    }

    /// Of the majors between the two: the newest or Debian's, see [`Self::one_or_two`].
    /// With `PG_SALVAGE_WIDE` set all of them are given.
    pub fn few(oldest: u32, newest: u32) -> Vec<Version> {
        let mut versions = Version::some(oldest, newest);
        if !is_wide() {
            versions.truncate(2);
            versions = one_of(versions);
        }
        versions
    }

    /// The newest or Debian's: which, the name of the test says, so that both have
    /// as many of them. With `PG_SALVAGE_WIDE` set both are given.
    pub fn one_or_two() -> Vec<Version> {
        let two = Version::two();
        if is_wide() { two } else { one_of(two) }
    }

    /// The newest server and Debian's, of those that have TID range scans. For
    /// what is at the heart of it.
    pub fn two() -> Vec<Version> {
        let mut versions = Version::between(14, 18);
        let newest = versions.first().expect("run tests/kit/fetch-servers first").major;
        versions.retain(|v| v.major == newest || v.major == 15);
        versions
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.home.join("bin").join(name)
    }
}

/// The one that the name of the test says, which is that of its thread.
fn one_of(mut versions: Vec<Version>) -> Vec<Version> {
    let thread = std::thread::current();
    let sum: usize = thread.name().unwrap_or_default().bytes().map(usize::from).sum();
    vec![versions.swap_remove(sum % versions.len())]
}

/// A client program (`pg_dump`, `pg_restore`, `psql`) of this major version or,
/// where there is none, of the next newer one.
pub fn client_program(name: &str, major: u32) -> PathBuf {
    find_client_program(name, major).unwrap_or_else(|| {
        panic!("no {name} for PostgreSQL {major} was found: run tests/kit/fetch-servers")
    })
}

/// The same for those who can do without.
pub fn find_client_program(name: &str, major: u32) -> Option<PathBuf> {
    let mut places: Vec<(u32, PathBuf)> = Vec::new();
    for place in [servers_dir().join("clients"), PathBuf::from("/usr/lib/postgresql")] {
        for entry in numbered_dirs(&place) {
            let program = entry.1.join("bin").join(name);
            if program.exists() {
                places.push((entry.0, program));
            }
        }
    }
    places.sort();
    places.into_iter().find(|place| place.0 >= major).map(|place| place.1)
}

/// Where `fetch-servers` puts what it fetches.
pub fn servers_dir() -> PathBuf {
    std::env::var_os("PG_SALVAGE_SERVERS")
        .map_or_else(|| target_dir().join("servers"), PathBuf::from)
}

pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from)
}

fn installed_in(place: &Path) -> Vec<Version> {
    numbered_dirs(place)
        .into_iter()
        .map(|(major, home)| Version { major, home })
        .filter(|version| {
            version.program("initdb").exists() && version.program("postgres").exists()
        })
        .collect()
}

fn numbered_dirs(place: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect()
}
