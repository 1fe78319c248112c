//! PgBouncer in front of a test server.

use super::{Server, owner, place};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START_PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 6432;

/// It ends with this value.
pub struct Pooler {
    child: Child,
    folder: TempDir,
}

impl Pooler {
    /// `pool_mode` is `session`, `transaction` or `statement`.
    pub fn start(server: &Server, pool_mode: &str) -> Pooler {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(Path::new);
        let program = program.into_iter().find(|p| p.exists());
        let program = program.expect("run tests/kit/fetch-servers first: no pgbouncer");
        let folder = place::new_folder(false);
        let users = folder.path().join("users");
        std::fs::write(&users, "\"postgres\" \"\"\n").expect("a file");
        let config = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\npool_mode = {pool_mode}\n\
             listen_port = {PORT}\nunix_socket_dir = {}\nauth_type = trust\nauth_file = {}\n",
            server.socket_dir().display(),
            server.port(),
            folder.path().display(),
            users.display()
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, config).expect("a file");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let mut command = owner::command(program);
        command.arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let pooler = Pooler { child: command.spawn().expect("pgbouncer can be run"), folder };
        let begun = Instant::now();
        while !pooler.folder.path().join(format!(".s.PGSQL.{PORT}")).exists() {
            assert!(begun.elapsed() < START_PATIENCE, "{}", pooler.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        pooler
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn conninfo(&self, dbname: &str) -> String {
        let host = self.folder.path().display();
        format!("host={host} port={PORT} user=postgres dbname={dbname}")
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // Our own child; it has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
