//! Who the servers run as: PostgreSQL refuses to run as root.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user and group that a server gets when the tests run as root.
pub fn server_user() -> Option<(u32, u32)> {
    // The owner of /proc/self is who we are.
    if std::fs::metadata("/proc/self").map(|own| own.uid()).unwrap_or(1) != 0 {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let of = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    Some(of("postgres").or_else(|| of("nobody")).expect("a user postgres or nobody"))
}

/// A command that runs as the servers do, in a process group of its own so
/// that Ctrl-C on the terminal is ours alone.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.process_group(0).env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
    if let Some((uid, gid)) = server_user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// Makes one file or folder the server's own.
pub fn give(path: &Path) {
    if let Some((uid, gid)) = server_user() {
        chown(path, Some(uid), Some(gid)).expect("chown");
    }
}

/// A copy of `from` as `to`, which must not exist yet, with owners and modes.
pub fn copy_dir(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .args(["-a", "--reflink=auto"])
        .arg(from)
        .arg(to)
        .status()
        .expect("cp can be run");
    assert!(status.success(), "could not copy {} to {}", from.display(), to.display());
}

/// `home`, or a copy of it where the server's user may look: root's own
/// folders are closed to others.
pub fn readable_home(home: &Path) -> PathBuf {
    if server_user().is_none() || others_may_enter(home) {
        return home.to_path_buf();
    }
    let name = home.to_string_lossy().replace('/', "_");
    let copy = std::env::temp_dir().join(format!("pg_salvage-servers{name}"));
    let ours = std::fs::metadata(&copy).is_ok_and(|found| found.uid() == 0);
    if !ours {
        let part = tempfile::tempdir().expect("a temporary folder").keep();
        let inside = part.join("server");
        copy_dir(home, &inside);
        // Another test may have been faster: then its copy serves as well.
        let _ = std::fs::rename(&inside, &copy);
        let _ = std::fs::remove_dir_all(&part);
    }
    copy
}

fn others_may_enter(path: &Path) -> bool {
    let real = path.canonicalize().expect("the server's folder");
    real.ancestors().all(|dir| {
        std::fs::metadata(dir).is_ok_and(|found| found.permissions().mode() & 0o005 == 5)
    })
}
