//! A disk that hangs, fails or is full, as far as one server sees it: `disk.c`,
//! built by the C compiler and loaded into the server.
//!
//! What it cannot show is a process in uninterruptible sleep (state D) inside of
//! the kernel: ours sleeps outside of it, and SIGKILL would end it.

use super::{ServerOptions, owner};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

pub struct Disk {
    folder: TempDir,
}

impl Disk {
    /// A disk that is well.
    pub fn new() -> Disk {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("chmod");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kit/disk.c");
        let library = folder.path().join("disk.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()
            .expect("a C compiler (cc)");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        owner::give(folder.path());
        Disk { folder }
    }

    /// A server that has this disk.
    pub fn under(&self, mut options: ServerOptions) -> ServerOptions {
        let library = self.folder.path().join("disk.so");
        options.environment.push(("LD_PRELOAD".to_owned(), library.into()));
        options.environment.push(("DISK_PLAN".to_owned(), self.plan().into()));
        options
    }

    fn plan(&self) -> PathBuf {
        self.folder.path().join("plan")
    }

    /// From now on these blocks of a file (the end of its path) do so: `stick`,
    /// `slow`, `eio` or `full`. Whatever was said before does not hold any more.
    pub fn does(&self, parts: &[(&str, std::ops::Range<u64>, &str)]) {
        let line = |(file, blocks, what): &(&str, std::ops::Range<u64>, &str)| {
            format!("{file} {} {} {what}\n", blocks.start * 8192, blocks.end * 8192)
        };
        let text: String = parts.iter().map(line).collect();
        // Beside its place first: a server may look at any moment.
        let new = self.folder.path().join("plan.new");
        std::fs::write(&new, text).expect("a plan");
        let readable = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&new, readable).expect("chmod");
        std::fs::rename(&new, self.plan()).expect("a plan");
    }

    /// All is well again.
    pub fn heal(&self) {
        self.does(&[]);
    }
}

/// A server must be able to end, whatever becomes of the test: so this is made
/// after it, and goes before it.
pub struct Healing<'a>(pub &'a Disk);

impl Drop for Healing<'_> {
    fn drop(&mut self) {
        self.0.heal();
    }
}
