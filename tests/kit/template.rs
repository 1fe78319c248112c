//! Freshly initialised data directories, kept from run to run: `initdb` is
//! slower than everything else a small test does.

use super::Version;
use super::version::target_dir;
use super::{owner, place};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A data directory of this version as `initdb` left it, to be copied.
pub fn data_dir(version: &Version, checksums: bool) -> PathBuf {
    let kept = kept_at(version, checksums);
    if !kept.join("PG_VERSION").exists() {
        let work = place::new_folder(false);
        let fresh = work.path().join("data");
        initdb(version, checksums, &fresh);
        std::fs::create_dir_all(kept.parent().expect("a parent")).expect("templates folder");
        // Beside its place first, so that the rename is whole or not at all.
        let beside = kept.with_extension(format!("{}.part", unique()));
        owner::copy_dir(&fresh, &beside);
        if std::fs::rename(&beside, &kept).is_err() {
            let _ = std::fs::remove_dir_all(&beside);
        }
    }
    kept
}

/// The server's own time stamp is in the name: an upgraded one starts afresh.
fn kept_at(version: &Version, checksums: bool) -> PathBuf {
    let program = std::fs::metadata(version.program("postgres")).expect("the postgres program");
    let user = owner::server_user().map_or(String::from("own"), |(uid, _)| uid.to_string());
    let sums = if checksums { "sums" } else { "nosums" };
    let name = format!("{}-{}-{}-{sums}-{user}", version.major, program.mtime(), program.len());
    target_dir().join("templates").join(name)
}

fn unique() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("{}-{}", std::process::id(), now.expect("a clock").as_nanos())
}

fn initdb(version: &Version, checksums: bool, data: &Path) {
    let home = owner::readable_home(&version.home);
    let mut command = owner::command(&home.join("bin/initdb"));
    command.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"]);
    if version.major >= 11 {
        // Small WAL files make a small template.
        command.arg("--wal-segsize=1");
    }
    command.args(["--locale=C", "-D"]).arg(data);
    match (checksums, version.major >= 18) {
        (true, _) => command.arg("--data-checksums"),
        (false, true) => command.arg("--no-data-checksums"),
        (false, false) => &mut command,
    };
    let output = command.stdin(Stdio::null()).output().expect("initdb can be run");
    assert!(
        output.status.success(),
        "initdb of PostgreSQL {} failed: {}{}",
        version.major,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
