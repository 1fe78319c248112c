//! Who connects, and the server with all kinds of proof that most tests ask.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use pg_salvage::server::connect::{
    ConnectArgs, ConnectError, Connected, PasswordPrompt, Target, connect,
};
use tempfile::TempDir;

use crate::connect::certs::Identity;
use crate::connect::server::{Server, Setup};

pub(crate) struct User {
    pub(crate) home: TempDir,
    pub(crate) env: HashMap<String, String>,
}

impl User {
    pub(crate) fn new() -> User {
        let home = tempfile::tempdir().unwrap();
        let env = HashMap::from([("HOME".to_string(), home.path().to_string_lossy().into_owned())]);
        User { home, env }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str, mode: u32) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        self.env.insert(name.into(), value.to_string());
    }

    pub(crate) fn target(&self, conninfo: &str) -> Result<Target, ConnectError> {
        let args = ConnectArgs {
            dbname: Some(conninfo.into()),
            password: PasswordPrompt::Never,
            ..ConnectArgs::default()
        };
        Target::resolve(&args, &|name| self.env.get(name).cloned())
    }

    pub(crate) async fn connect(&self, conninfo: &str) -> Result<Connected, ConnectError> {
        connect(&self.target(conninfo)?).await
    }

    /// `tls` or `plain`, or the error. psql must agree.
    pub(crate) async fn outcome(&self, conninfo: &str) -> Result<&'static str, String> {
        let ours = match self.connect(conninfo).await {
            Ok(connected) => Ok(if connected.is_tls() { "tls" } else { "plain" }),
            Err(error) => Err(error.to_string()),
        };
        let theirs = self.psql(conninfo);
        if let Some(theirs) = theirs {
            assert_eq!(
                ours.clone().ok(),
                theirs.clone().ok(),
                "{conninfo}\nours: {ours:?}\npsql: {theirs:?}"
            );
        }
        ours
    }

    pub(crate) fn psql(&self, conninfo: &str) -> Option<Result<&'static str, String>> {
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let mut psql = Command::new("psql");
        psql.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default()).envs(&self.env);
        let output =
            psql.args(["-XwAt", "-c", sql, "-d", conninfo]).stdin(Stdio::null()).output().ok()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        if stderr.contains("invalid connection option") {
            // An older libpq.
            return None;
        }
        match String::from_utf8_lossy(&output.stdout).trim() {
            "t" => Some(Ok("tls")),
            "f" => Some(Ok("plain")),
            _ => Some(Err(stderr)),
        }
    }
}

/// A server that has TLS and asks for all kinds of proof, with the certificates around it.
pub(crate) struct Secure {
    pub(crate) server: Server,
    pub(crate) authority: Identity,
    pub(crate) user: User,
}

impl Secure {
    pub(crate) async fn start() -> Secure {
        let authority = Identity::authority("Test CA");
        let identity = authority.issue("ignored", 7, &["localhost"]);
        let files = [
            ("server.crt", identity.cert.to_pem().unwrap()),
            ("server.key", identity.key.private_key_to_pem_pkcs8().unwrap()),
            ("ca.crt", authority.cert.to_pem().unwrap()),
        ];
        let server = Server::start(&Setup {
            conf: "ssl = on\nssl_ca_file = 'ca.crt'\npassword_encryption = 'scram-sha-256'",
            hba: "local all all scram-sha-256\n\
                  host all trusty 127.0.0.1/32 trust\n\
                  hostssl all certuser 127.0.0.1/32 cert\n\
                  hostssl all tlsonly 127.0.0.1/32 trust\n\
                  hostnossl all plainonly 127.0.0.1/32 trust\n\
                  host all md5er 127.0.0.1/32 md5\n\
                  host all clear 127.0.0.1/32 password\n\
                  host all rejected 127.0.0.1/32 reject\n\
                  host all scram,nobody 127.0.0.1/32 scram-sha-256",
            files: &files,
        });
        let user = User::new();
        user.write("ca.crt", &String::from_utf8(authority.cert.to_pem().unwrap()).unwrap(), 0o644);
        let secure = Secure { server, authority, user };
        let admin = secure.admin().await;
        admin
            .client
            .batch_execute(
                "CREATE ROLE trusty LOGIN; CREATE ROLE certuser LOGIN; CREATE ROLE tlsonly LOGIN;
                 CREATE ROLE plainonly LOGIN; CREATE ROLE rejected LOGIN; CREATE ROLE local LOGIN PASSWORD 'right';
                 CREATE ROLE scram LOGIN PASSWORD 'right'; CREATE ROLE clear LOGIN PASSWORD 'right';
                 SET password_encryption = 'md5'; CREATE ROLE md5er LOGIN PASSWORD 'right';",
            )
            .await
            .unwrap();
        secure
    }

    pub(crate) async fn admin(&self) -> Connected {
        let directory = self.server.socket_directory();
        let conninfo =
            format!("host={directory} port={} user=admin dbname=postgres", self.server.port);
        self.user.connect(&conninfo).await.unwrap()
    }

    /// `rest` on this server, by the name that its certificate has.
    pub(crate) fn at(&self, rest: &str) -> String {
        format!(
            "host=localhost hostaddr=127.0.0.1 port={} dbname=postgres {rest}",
            self.server.port
        )
    }

    pub(crate) fn refused(&self, words: &str) -> Result<&'static str, String> {
        Err(format!(
            "could not connect to server on host \"localhost\", port {}: {words}",
            self.server.port
        ))
    }
}
