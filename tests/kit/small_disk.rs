//! File systems that are full before long, or that fail. Only root may mount
//! them; who may not says loudly what is not tested.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A mounted file system; it goes with this value.
pub struct SmallDisk {
    // Unmounted first, then removed.
    mounts: Vec<TempDir>,
}

impl SmallDisk {
    /// A file system in memory of this size.
    pub fn full_at(size: &str) -> Option<SmallDisk> {
        let mut disk = SmallDisk { mounts: Vec::new() };
        disk.mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])?;
        Some(disk)
    }

    /// A file system that believes to have 256 MB, on a device that fails with
    /// an error of input and output when it has taken so much.
    pub fn failing_at(size: &str) -> Option<SmallDisk> {
        let mut disk = SmallDisk::full_at(size)?;
        let image = disk.path().join("image");
        let made = std::fs::File::create(&image).and_then(|file| file.set_len(256 << 20));
        made.expect("a file for the device");
        let options = ["-q", "-F", "-E", "lazy_itable_init=1,nodiscard", "-O", "^has_journal"];
        if !succeeds(Command::new("mkfs.ext4").args(options).arg(&image)) {
            not_tested("a disk that fails (no mkfs.ext4)");
            return None;
        }
        let image = image.to_str().expect("UTF-8").to_owned();
        disk.mount(&["-o", "loop", &image])?;
        Some(disk)
    }

    fn mount(&mut self, words: &[&str]) -> Option<()> {
        let folder = tempfile::tempdir().expect("a folder");
        if !succeeds(Command::new("mount").args(words).arg(folder.path())) {
            not_tested(&format!("a small disk (mount {} is not permitted)", words.join(" ")));
            return None;
        }
        self.mounts.push(folder);
        Some(())
    }

    pub fn path(&self) -> &Path {
        self.mounts.last().expect("it is mounted").path()
    }

    /// Bytes that others than root may still write.
    pub fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(self.path()).expect("a file system");
        found.f_bavail * found.f_frsize
    }
}

/// So often, and each so long after the other, it is tried to unmount.
const UNMOUNTS_MAX: u32 = 50;
const UNMOUNT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        while let Some(folder) = self.mounts.pop() {
            // A process that another test has just forked has our files until it runs
            // its own program.
            let unmounted = (0..UNMOUNTS_MAX).any(|n| {
                std::thread::sleep(UNMOUNT_PAUSE * u32::from(n > 0));
                succeeds(Command::new("umount").arg(folder.path()))
            });
            assert!(
                unmounted || std::thread::panicking(),
                "{} stays mounted",
                folder.path().display()
            );
        }
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|out| out.status.success())
}

/// Past the test harness, which keeps what a test prints to itself.
pub fn not_tested(what: &str) {
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {what}");
}
