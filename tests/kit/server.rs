//! A private PostgreSQL server in a temporary folder, reached by its socket.
//!
//! A server ends with its `Server`, and at the latest with the process that
//! started it: a guard (`guard.rs`) ends what a static or a killed test leaves.

use super::guard::Guard;
use super::options::ServerOptions;
use super::{Version, log, owner, ping, place, template};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

const START_PATIENCE: Duration = Duration::from_secs(60);
const FAST_STOP_PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(10);

/// How a server ended. Only after a clean stop do its files hold everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Clean,
    Immediate,
}

pub struct Server {
    pub version: Version,
    pub options: ServerOptions,
    port: u16,
    postmaster: Mutex<Option<Child>>,
    // Before `folder`: the guard must have let go when the folder is removed.
    _guard: Guard,
    folder: TempDir,
}

impl Server {
    /// A new server, started and ready.
    pub fn start(version: &Version, options: ServerOptions) -> Server {
        let server = Server::prepare(
            version,
            options.clone(),
            &template::data_dir(version, options.checksums),
        );
        if let Some(tls) = &options.tls {
            server.install(&tls.certificate, "server.crt");
            server.install(&tls.key, "server.key");
            if let Some(authority) = &tls.client_authority {
                server.install(authority, "root.crt");
            }
        }
        if let Some(hba) = &options.hba {
            fs::write(server.data_dir().join("pg_hba.conf"), hba).expect("pg_hba.conf");
        }
        server.start_again();
        server
    }

    /// A copy of this server's files as a server of its own, not yet started.
    /// This one must be stopped.
    pub fn copy(&self) -> Server {
        assert!(self.pid().is_none(), "only a stopped server can be copied");
        Server::prepare(&self.version, self.options.clone(), &self.data_dir())
    }

    /// A copy that follows this server as a hot standby, not yet started. This
    /// one must be stopped, and started before the standby.
    pub fn copy_as_standby(&self) -> Server {
        let standby = self.copy();
        let primary =
            format!("host={} port={} user=postgres", self.socket_dir().display(), self.port);
        let file = standby.data_dir().join("postgresql.conf");
        let mut text = fs::read_to_string(&file).expect("postgresql.conf");
        text.push_str(&format!("primary_conninfo = '{primary}'\nhot_standby = 'on'\n"));
        fs::write(&file, text).expect("postgresql.conf");
        let signal = standby.data_dir().join("standby.signal");
        fs::write(&signal, "").expect("standby.signal");
        owner::give(&signal);
        standby
    }

    /// A server of a copy of these files, not yet started.
    pub(super) fn of_files(version: &Version, options: ServerOptions, data: &Path) -> Server {
        Server::prepare(version, options, data)
    }

    fn prepare(version: &Version, options: ServerOptions, data: &Path) -> Server {
        let folder = place::new_folder(options.on_disk);
        let guard = Guard::over(folder.path());
        owner::copy_dir(data, &folder.path().join("data"));
        let port = if options.tcp { free_port() } else { 5432 };
        let postmaster = Mutex::new(None);
        let server =
            Server { version: version.clone(), options, port, postmaster, _guard: guard, folder };
        server.configure();
        server
    }

    fn configure(&self) {
        let file = self.data_dir().join("postgresql.conf");
        let mut text = fs::read_to_string(&file).expect("postgresql.conf");
        text.push_str(&self.options.configuration(
            self.version.major,
            self.socket_dir(),
            self.port,
        ));
        fs::write(&file, text).expect("postgresql.conf");
    }

    fn install(&self, from: &Path, name: &str) {
        let to = self.data_dir().join(name);
        fs::copy(from, &to).expect("a file for the server");
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("chmod");
        owner::give(&to);
    }

    /// Starts a stopped server; fails with its log if it does not come up.
    pub fn start_again(&self) {
        if let Err(log) = self.try_start() {
            panic!("PostgreSQL {} did not start:\n{log}", self.version.major);
        }
    }

    /// As `start_again`, for servers that are so damaged that they may not come
    /// up: then the end of the log.
    pub fn try_start(&self) -> Result<(), String> {
        assert!(self.pid().is_none(), "the server runs already");
        let home = owner::readable_home(&self.version.home);
        let out = fs::OpenOptions::new().create(true).append(true).open(self.log_file());
        let out = out.expect("the log file");
        let limit = self.options.memory_kb.map_or("unlimited".to_owned(), |kb| kb.to_string());
        let child = owner::command(Path::new("sh"))
            .args(["-c", &format!("ulimit -v {limit} && exec \"$@\""), "sh"])
            .arg(home.join("bin/postgres"))
            .arg("-D")
            .arg(self.data_dir())
            .envs(self.options.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("the log file"))
            .stderr(out)
            .spawn()
            .expect("postgres can be run");
        *self.postmaster.lock().expect("no panic while locked") = Some(child);
        let started = Instant::now();
        while !ping::takes_connections(&self.socket()) {
            if self.pid().is_none() || started.elapsed() > START_PATIENCE {
                self.stop_now();
                return Err(log::tail(&self.log(), 30));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Waits until the server takes connections and no crash is under way.
    pub fn wait_ready(&self) {
        let started = Instant::now();
        while log::is_recovering_from_crash(&self.log()) || !ping::takes_connections(&self.socket())
        {
            assert!(
                started.elapsed() < START_PATIENCE,
                "the server did not become ready:\n{}",
                log::tail(&self.log(), 30)
            );
            std::thread::sleep(POLL);
        }
    }

    /// Waits until `count` backends in all have crashed and the server has
    /// recovered: the client knows of a crash before the log does.
    pub fn wait_crashes(&self, count: usize) {
        let started = Instant::now();
        while self.crashes() < count {
            assert!(started.elapsed() < START_PATIENCE, "no crash:\n{}", self.log());
            std::thread::sleep(POLL);
        }
        self.wait_ready();
    }

    /// A shutdown with a checkpoint: sessions are ended, files are complete.
    /// Turns to an immediate one when the server does not end.
    pub fn stop(&self) -> Stop {
        let Some(pid) = self.pid() else { return Stop::Clean };
        let begun = Instant::now();
        while log::is_recovering_from_crash(&self.log()) && begun.elapsed() < FAST_STOP_PATIENCE {
            std::thread::sleep(POLL);
        }
        signal(pid, rustix::process::Signal::INT);
        if self.wait_for_end(FAST_STOP_PATIENCE) {
            let log = self.log();
            let end = log.rfind("database system is shut down");
            return if end > log.rfind("was terminated by signal") {
                Stop::Clean
            } else {
                Stop::Immediate
            };
        }
        self.stop_now();
        Stop::Immediate
    }

    /// As pulling the plug: no checkpoint, crash recovery at the next start.
    pub fn stop_now(&self) {
        let Some(pid) = self.pid() else { return };
        signal(pid, rustix::process::Signal::QUIT);
        if !self.wait_for_end(Duration::from_secs(8)) {
            signal(pid, rustix::process::Signal::KILL);
            self.wait_for_end(Duration::from_secs(8));
        }
    }

    /// A clean stop and a start: nothing stays in the server's cache.
    pub fn restart(&self) {
        self.stop();
        self.start_again();
    }

    /// The process id of the postmaster while it runs.
    pub fn pid(&self) -> Option<u32> {
        let mut postmaster = self.postmaster.lock().expect("no panic while locked");
        let child = postmaster.as_mut()?;
        if child.try_wait().expect("our own child").is_some() {
            *postmaster = None;
            return None;
        }
        Some(child.id())
    }

    fn wait_for_end(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        while self.pid().is_some() {
            if begun.elapsed() > patience {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder of the socket: what a client is given as host.
    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{}", self.port))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Everything the server has logged since it was first started.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How many backends have crashed so far.
    pub fn crashes(&self) -> usize {
        log::crashes(&self.log())
    }

    /// A conninfo string for the superuser, by the socket.
    pub fn conninfo(&self, dbname: &str) -> String {
        let quoted = dbname.replace('\\', "\\\\").replace('\'', "\\'");
        let host = self.socket_dir().display();
        format!("host={host} port={} user=postgres dbname='{quoted}'", self.port)
    }

    /// The superuser's session; it lives as long as the client.
    pub async fn connect(&self, dbname: &str) -> Client {
        self.try_connect(dbname).await.expect("a connection to the test server")
    }

    pub async fn try_connect(&self, dbname: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.conninfo(dbname), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs statements in a session of their own.
    pub async fn execute(&self, dbname: &str, statements: &str) {
        let client = self.connect(dbname).await;
        if let Err(error) = client.batch_execute(statements).await {
            panic!("PostgreSQL {}: {error:?}\nin: {statements}", self.version.major);
        }
    }

    pub async fn create_database(&self, dbname: &str) {
        self.execute("postgres", &format!("CREATE DATABASE \"{}\"", dbname.replace('"', "\"\"")))
            .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_now();
    }
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // An error means that it has ended by itself.
    let _ = rustix::process::kill_process(pid.expect("a process id"), signal);
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
