//! One file of a server on a file system of our own, through FUSE: what it does
//! not answer hangs inside of the kernel, where signals do not reach.
//!
//! Only root may mount it for the servers' user; who may not says loudly what
//! is not tested.

use super::{owner, small_disk};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry,
    ReplyOpen, Request, SessionACL,
};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;

/// Nothing about the file ever changes, so the kernel may remember it.
const FOR_GOOD: Duration = Duration::from_secs(3600);
const FILE: INodeNo = INodeNo(2);
const NAME: &str = "file";
const BLOCK: u64 = 8192;

/// What a read is answered that touches a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ill {
    /// Nothing, until the disk is well.
    Sticks,
    /// EIO.
    Fails,
}

/// A read that was not answered.
struct Held {
    reply: ReplyData,
    offset: u64,
    size: u32,
    pid: u32,
}

struct State {
    bytes: Vec<u8>,
    owner: (u32, u32),
    ill: Option<(u64, Ill)>,
    held: Vec<Held>,
}

/// It is mounted, and in the place of the server's file, until this goes.
pub struct FuseFile {
    state: Arc<Mutex<State>>,
    // In this order: what is detached needs no unmounting by the session, which
    // would not do it while the server has the file open; and a folder that is
    // mounted upon cannot be removed.
    _detacher: Detacher,
    _session: BackgroundSession,
    _folder: TempDir,
}

impl FuseFile {
    /// Puts a file system with the same bytes in the place of a stopped
    /// server's file.
    pub fn instead_of(path: &Path) -> Option<FuseFile> {
        let found = fs::metadata(path).expect("a file of the server");
        let owner = (found.uid(), found.gid());
        let bytes = fs::read(path).expect("a file of the server");
        let state = Arc::new(Mutex::new(State { bytes, owner, ill: None, held: Vec::new() }));
        let folder = tempfile::tempdir().expect("a folder");
        let detacher = Detacher::of(folder.path());
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.mount_options = vec![MountOption::FSName("pg_salvage".to_owned())];
        let session = match fuser::spawn_mount(Disk(state.clone()), folder.path(), &config) {
            Ok(session) => session,
            Err(error) => {
                small_disk::not_tested(&format!("a disk that dies, through FUSE ({error})"));
                return None;
            }
        };
        fs::remove_file(path).expect("a file of the server");
        symlink(folder.path().join(NAME), path).expect("a link in its place");
        Some(FuseFile { state, _detacher: detacher, _session: session, _folder: folder })
    }

    /// From now on a read that touches this block is answered so.
    pub fn does(&self, block: u64, ill: Ill) {
        lock(&self.state).ill = Some((block, ill));
    }

    /// All is well again, and what waits is answered. The states of the
    /// processes that waited, as the kernel names them: `S`, `D`.
    pub fn heal(&self) -> Vec<char> {
        let mut state = lock(&self.state);
        state.ill = None;
        let held = std::mem::take(&mut state.held);
        let states = held.iter().map(|held| state_of(held.pid)).collect();
        for Held { reply, offset, size, .. } in held {
            reply.data(state.part(offset, size));
        }
        states
    }
}

impl Drop for FuseFile {
    fn drop(&mut self) {
        self.heal();
    }
}

/// Whoever fails while he holds it leaves nothing half done.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The letter behind the name of the program, which may hold anything but is
/// the last thing in parentheses. A process that is gone is `X`.
fn state_of(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('X')
}

impl State {
    fn part(&self, offset: u64, size: u32) -> &[u8] {
        let len = self.bytes.len();
        let from = usize::try_from(offset).map_or(len, |offset| offset.min(len));
        let to = from.saturating_add(size as usize).min(len);
        &self.bytes[from..to]
    }

    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let is_file = ino == FILE;
        let size = if is_file { self.bytes.len() as u64 } else { 0 };
        let (kind, perm) =
            if is_file { (FileType::RegularFile, 0o600) } else { (FileType::Directory, 0o755) };
        FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 8192,
            flags: 0,
        }
    }
}

/// What the kernel asks. It answers everything else itself, or hears that it is
/// not implemented; nothing can be written.
struct Disk(Arc<Mutex<State>>);

impl Filesystem for Disk {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&FOR_GOOD, &lock(&self.0).attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_GOOD, &lock(&self.0).attributes(ino));
    }

    /// Past the page cache, so that a read is of the blocks that the server
    /// asked for, and each time a read.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        request: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = lock(&self.0);
        let touched = offset / BLOCK..(offset + u64::from(size)).div_ceil(BLOCK);
        match state.ill.filter(|(block, _)| touched.contains(block)) {
            None => reply.data(state.part(offset, size)),
            Some((_, Ill::Fails)) => reply.error(Errno::EIO),
            // This thread goes on answering others.
            Some((_, Ill::Sticks)) => {
                state.held.push(Held { reply, offset, size, pid: request.pid() });
            }
        }
    }
}

/// A small shell that detaches the file system when it is told to, or when we
/// are gone, however that came: nothing stays mounted. (Lazily: the server may
/// still have the file open.)
struct Detacher(Child);

const DETACH: &str = r#"
trap '' INT TERM HUP
read -r word
umount -l "$1" 2>/dev/null
[ "$word" = done ] || rmdir "$1"
"#;

impl Detacher {
    fn of(folder: &Path) -> Detacher {
        let mut command = Command::new("sh");
        command.args(["-c", DETACH, "detach"]).arg(folder).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Detacher(command.spawn().expect("sh can be run"))
    }
}

impl Drop for Detacher {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = std::io::Write::write_all(&mut pipe, b"done\n");
        }
        let _ = self.0.wait();
    }
}
