//! A private server in a temporary directory, stopped and removed when it is dropped.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A running server.
pub(crate) struct Server {
    pub(crate) port: u16,
    bindir: PathBuf,
    directory: TempDir,
}

/// How it is set up.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Lines of postgresql.conf.
    pub(crate) conf: &'a str,
    /// Lines of pg_hba.conf, behind one that lets `admin` in over the socket.
    pub(crate) hba: &'a str,
    /// Files of the data directory.
    pub(crate) files: &'a [(&'a str, Vec<u8>)],
}

impl Server {
    pub(crate) fn start(setup: &Setup<'_>) -> Server {
        let directory = tempfile::Builder::new().prefix("pgs").tempdir().unwrap();
        // Found free now; whoever takes it before the server does makes the test fail, not lie.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Server { port, bindir: bindir(), directory };
        fs::set_permissions(server.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        give_away(server.directory.path());
        server.run(
            "initdb",
            &["-U", "admin", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        );
        let data = server.data();
        let socket = server.socket_directory();
        let conf = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{socket}'\nfsync = off\n\
             autovacuum = off\nshared_buffers = 4MB\nlog_min_messages = fatal\n{}\n",
            setup.conf
        );
        let hba = format!("local all admin trust\n{}\n", setup.hba);
        let mut files = setup.files.to_vec();
        files.push(("postgresql.conf", conf.into_bytes()));
        files.push(("pg_hba.conf", hba.into_bytes()));
        for (name, content) in files {
            let path = data.join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            give_away(&path);
        }
        let log = server.directory.path().join("log");
        server.run("pg_ctl", &["start", "-w", "-t", "60", "-l", &log.to_string_lossy()]);
        server
    }

    /// A directory and its socket in one.
    pub(crate) fn socket_directory(&self) -> String {
        self.directory.path().to_string_lossy().into_owned()
    }

    /// Runs a program of PostgreSQL's on the data directory, as a user who may.
    fn run(&self, program: &str, args: &[&str]) {
        let mut command = Command::new(self.bindir.join(program));
        command.arg("-D").arg(self.data()).args(args).current_dir(self.directory.path());
        command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = other_user() {
            command.uid(uid).gid(gid);
        }
        let status = command.status().unwrap();
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        assert!(status.success(), "{program}: {status}\n{log}");
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.run("pg_ctl", &["stop", "-m", "fast", "-w"]);
        }
    }
}

/// Where the programs are: what TEST_PG_BINDIR says, or the newest PostgreSQL of Debian's, or that of the PATH.
fn bindir() -> PathBuf {
    if let Some(bin) = std::env::var_os("TEST_PG_BINDIR") {
        return bin.into();
    }
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    if let Some((_, bin)) = found.pop() {
        return bin;
    }
    let output = Command::new("pg_config").arg("--bindir").output();
    let bin =
        output.ok().map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    bin.filter(|bin| bin.join("initdb").exists())
        .expect("PostgreSQL's server (Debian: apt install postgresql)")
}

/// The user to run the server as, if we are root, which PostgreSQL refuses.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("a user postgres to run the server");
    let mut fields = line.split(':').skip(2).map(|id| id.parse().unwrap());
    Some((fields.next().unwrap(), fields.next().unwrap()))
}

fn give_away(path: &Path) {
    if let Some((uid, gid)) = other_user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}
