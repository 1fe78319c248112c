//! A standby as administrators make one: by pg_basebackup, streaming.

use super::{Server, owner, place};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

impl Server {
    /// A hot standby of this running server, made by its own pg_basebackup,
    /// with more settings; started, and all that was committed is there.
    /// None: this server came without clients.
    pub async fn streaming_standby(&self, settings: &[(&str, &str)]) -> Option<Server> {
        let program = self.version.home.join("bin/pg_basebackup");
        if !program.exists() {
            return None;
        }
        let folder = place::new_folder(false);
        let data = folder.path().join("data");
        let out = owner::command(&program)
            .args(["-R", "-X", "stream", "-c", "fast", "-N", "-U", "postgres", "-h"])
            .arg(self.socket_dir())
            .args(["-p", &self.port().to_string(), "-D"])
            .arg(&data)
            .output()
            .expect("pg_basebackup can be run");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let mut options = self.options.clone();
        for (name, value) in settings {
            options = options.set(name, value);
        }
        let standby = Server::of_files(&self.version, options, &data);
        standby.start_again();
        standby.catch_up_with(self).await;
        Some(standby)
    }

    /// Waits until all that the primary has written is there.
    pub async fn catch_up_with(&self, primary: &Server) {
        let row = primary.connect("postgres").await;
        let row = row.query_one("SELECT pg_current_wal_lsn()::text", &[]).await;
        let written: String = row.expect("a place in the log").get(0);
        let client = self.connect("postgres").await;
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
        let begun = Instant::now();
        while !client.query_one(&sql, &[]).await.expect("a place in the log").get::<_, bool>(0) {
            assert!(begun.elapsed() < PATIENCE, "the standby is behind:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Makes a standby a primary, and waits until it is one.
    pub async fn promote(&self) {
        let client = self.connect("postgres").await;
        let row = client.query_one("SELECT pg_promote(true, 60)", &[]).await;
        assert!(row.expect("pg_promote").get::<_, bool>(0), "{}", self.log());
    }
}
