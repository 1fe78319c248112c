//! Connecting to real servers: each way in, and the exact words where there is none.
//!
//! Where psql is installed, each connection is also tried with it: it must come to the same end by the same means.

mod certs;
mod server;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use certs::Identity;
use pg_salvage::server::connect::{
    ConnectArgs, ConnectError, ConnectErrorKind, Connected, PasswordPrompt, Target, connect,
};
use pg_salvage::server::words::words;
use server::{Server, Setup};
use tempfile::TempDir;

/// Who is asking: a home directory and an environment.
struct User {
    home: TempDir,
    env: HashMap<String, String>,
}

impl User {
    fn new() -> User {
        let home = tempfile::tempdir().unwrap();
        let env = HashMap::from([("HOME".to_string(), home.path().to_string_lossy().into_owned())]);
        User { home, env }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, content: &str, mode: u32) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn set(&mut self, name: &str, value: impl ToString) {
        self.env.insert(name.into(), value.to_string());
    }

    fn target(&self, conninfo: &str) -> Result<Target, ConnectError> {
        let args = ConnectArgs {
            dbname: Some(conninfo.into()),
            password: PasswordPrompt::Never,
            ..ConnectArgs::default()
        };
        Target::resolve(&args, &|name| self.env.get(name).cloned())
    }

    async fn connect(&self, conninfo: &str) -> Result<Connected, ConnectError> {
        connect(&self.target(conninfo)?).await
    }

    /// `tls` or `plain`, or the error. psql must agree.
    async fn outcome(&self, conninfo: &str) -> Result<&'static str, String> {
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

    fn psql(&self, conninfo: &str) -> Option<Result<&'static str, String>> {
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
struct Secure {
    server: Server,
    authority: Identity,
    user: User,
}

impl Secure {
    async fn start() -> Secure {
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

    async fn admin(&self) -> Connected {
        let directory = self.server.socket_directory();
        let conninfo =
            format!("host={directory} port={} user=admin dbname=postgres", self.server.port);
        self.user.connect(&conninfo).await.unwrap()
    }

    /// `rest` on this server, by the name that its certificate has.
    fn at(&self, rest: &str) -> String {
        format!(
            "host=localhost hostaddr=127.0.0.1 port={} dbname=postgres {rest}",
            self.server.port
        )
    }

    fn refused(&self, words: &str) -> Result<&'static str, String> {
        Err(format!(
            "could not connect to server on host \"localhost\", port {}: {words}",
            self.server.port
        ))
    }
}

const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

#[tokio::test]
async fn each_sslmode_does_what_libpq_documents() {
    let secure = Secure::start().await;
    let user = &secure.user;
    let (tls, plain) = (Ok("tls"), Ok("plain"));
    let other = Identity::authority("Other CA");
    other.write_cert(&user.file("other.crt"));
    let failed = |host: &str, words: &str| {
        Err(format!(
            "could not connect to server on host \"{host}\", port {}: {words}",
            secure.server.port
        ))
    };
    let no_file = format!(
        "root certificate file \"{}\" does not exist",
        user.file(".postgresql/root.crt").display()
    );
    let unknown = "certificate verify failed: self-signed certificate in certificate chain";
    let mismatch =
        "server certificate for \"localhost\" does not match host name \"wrong.example\"";
    for (host, root, expected) in [
        (
            "localhost",
            "",
            [
                &plain,
                &plain,
                &tls,
                &tls,
                &failed("localhost", &no_file),
                &failed("localhost", &no_file),
            ],
        ),
        ("localhost", "ca.crt", [&plain, &plain, &tls, &tls, &tls, &tls]),
        (
            "wrong.example",
            "ca.crt",
            [&plain, &plain, &tls, &tls, &tls, &failed("wrong.example", mismatch)],
        ),
        (
            "localhost",
            "other.crt",
            [
                &plain,
                &plain,
                &plain,
                &failed("localhost", unknown),
                &failed("localhost", unknown),
                &failed("localhost", unknown),
            ],
        ),
    ] {
        for (mode, expected) in MODES.iter().zip(expected) {
            let root = if root.is_empty() {
                String::new()
            } else {
                format!("sslrootcert={}", user.file(root).display())
            };
            let conninfo = format!(
                "host={host} hostaddr=127.0.0.1 port={} dbname=postgres user=trusty sslmode={mode} {root}",
                secure.server.port
            );
            assert_eq!(&user.outcome(&conninfo).await, expected, "{host} {root} {mode}");
        }
    }
    let error = user.connect(&secure.at("user=trusty sslmode=verify-ca")).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Tls);
    assert!(error.hint().unwrap().starts_with("Either provide the file"));
}

#[tokio::test]
async fn a_server_without_tls_is_used_unless_tls_is_required() {
    let server =
        Server::start(&Setup { hba: "host all all 127.0.0.1/32 trust", ..Setup::default() });
    let user = User::new();
    Identity::authority("CA").write_cert(&user.file("ca.crt"));
    for mode in MODES {
        let conninfo = format!(
            "host=127.0.0.1 port={} user=admin dbname=postgres sslmode={mode} sslrootcert={}",
            server.port,
            user.file("ca.crt").display()
        );
        let expected = match mode {
            "disable" | "allow" | "prefer" => Ok("plain"),
            _ => Err(format!(
                "could not connect to server on host \"127.0.0.1\", port {}: \
                 server does not support SSL, but sslmode \"{mode}\" was asked for",
                server.port
            )),
        };
        assert_eq!(user.outcome(&conninfo).await, expected, "{mode}");
    }
    let socket = format!(
        "host={} port={} user=admin dbname=postgres",
        server.socket_directory(),
        server.port
    );
    assert_eq!(
        user.outcome(&format!("{socket} sslmode=verify-full")).await,
        Ok("plain"),
        "sockets never have TLS"
    );
}

#[tokio::test]
async fn what_one_kind_of_connection_is_refused_the_other_may_get() {
    let secure = Secure::start().await;
    let user = &secure.user;
    assert_eq!(user.outcome(&secure.at("user=plainonly sslmode=prefer")).await, Ok("plain"));
    assert_eq!(user.outcome(&secure.at("user=tlsonly sslmode=allow")).await, Ok("tls"));
    let no_entry = |name: &str, how: &str| {
        format!(
            "FATAL: no pg_hba.conf entry for host \"127.0.0.1\", user \"{name}\", database \"postgres\", {how}"
        )
    };
    let refused = secure.refused(&no_entry("plainonly", "SSL encryption"));
    assert_eq!(user.outcome(&secure.at("user=plainonly sslmode=require")).await, refused);
    let refused = secure.refused(&no_entry("tlsonly", "no encryption"));
    assert_eq!(user.outcome(&secure.at("user=tlsonly sslmode=disable")).await, refused);
    let rejects = "FATAL: pg_hba.conf rejects connection for host \"127.0.0.1\", user \"rejected\", \
                   database \"postgres\"";
    let refused = secure.refused(&format!("{rejects}, SSL encryption; {rejects}, no encryption"));
    assert_eq!(user.outcome(&secure.at("user=rejected sslmode=prefer")).await, refused);
    let error = user.connect(&secure.at("user=rejected sslmode=disable")).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ConnectErrorKind::Refused, Some("28000")));
}

#[tokio::test]
async fn a_client_certificate_is_sent_if_its_key_can_be_read() {
    let secure = Secure::start().await;
    let user = &secure.user;
    let client = secure.authority.issue("certuser", 20, &[]);
    client.write_cert(&user.file("c.crt"));
    client.write_key(&user.file("c.key"), None);
    client.write_key(&user.file("locked.key"), Some("open sesame"));
    secure.authority.issue("certuser", 21, &[]).write_key(&user.file("other.key"), None);
    Identity::authority("Other CA")
        .issue("certuser", 22, &[])
        .write_cert(&user.file("stranger.crt"));
    client.write_key(&user.file("loose.key"), None);
    fs::set_permissions(user.file("loose.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let home = user.home.path().display().to_string();
    let with = |cert: &str, key: &str, more: &str| {
        secure.at(&format!(
            "user=certuser sslmode=require sslcert={home}/{cert} sslkey={home}/{key} {more}"
        ))
    };
    assert_eq!(user.outcome(&with("c.crt", "c.key", "")).await, Ok("tls"));
    assert_eq!(
        user.outcome(&with("c.crt", "locked.key", "sslpassword='open sesame'")).await,
        Ok("tls")
    );
    for (cert, key, more, words) in [
        (
            "c.crt",
            "locked.key",
            "",
            format!("could not load private key file \"{home}/locked.key\": bad decrypt"),
        ),
        (
            "c.crt",
            "locked.key",
            "sslpassword=wrong",
            format!("could not load private key file \"{home}/locked.key\": bad decrypt"),
        ),
        (
            "c.crt",
            "other.key",
            "",
            format!(
                "certificate does not match private key file \"{home}/other.key\": key values mismatch"
            ),
        ),
        (
            "c.crt",
            "none.key",
            "",
            format!("certificate present, but not private key file \"{home}/none.key\""),
        ),
        (
            "c.crt",
            "loose.key",
            "",
            format!("private key file \"{home}/loose.key\" has group or world access"),
        ),
        ("none.crt", "c.key", "", "FATAL: connection requires a valid client certificate".into()),
        (
            "c.key",
            "c.key",
            "",
            format!("could not read certificate file \"{home}/c.key\": no start line"),
        ),
    ] {
        assert_eq!(
            user.outcome(&with(cert, key, more)).await,
            secure.refused(&words),
            "{cert} {key} {more}"
        );
    }
    // Found in the home directory, unless it is not to be sent.
    fs::create_dir(user.file(".postgresql")).unwrap();
    client.write_cert(&user.file(".postgresql/postgresql.crt"));
    client.write_key(&user.file(".postgresql/postgresql.key"), None);
    assert_eq!(user.outcome(&secure.at("user=certuser sslmode=require")).await, Ok("tls"));
    let refused = secure.refused("FATAL: connection requires a valid client certificate");
    assert_eq!(
        user.outcome(&secure.at("user=certuser sslmode=require sslcertmode=disable")).await,
        refused
    );
}

#[tokio::test]
async fn a_revoked_server_is_not_trusted() {
    let secure = Secure::start().await;
    let user = &secure.user;
    secure.authority.write_crl(&user.file("revoked.crl"), &[7]);
    secure.authority.write_crl(&user.file("empty.crl"), &[]);
    let home = user.home.path().display();
    let with = |crl: &str| {
        secure.at(&format!(
            "user=trusty sslmode=verify-full sslrootcert={home}/ca.crt sslcrl={home}/{crl}"
        ))
    };
    let refused = secure.refused("certificate verify failed: certificate revoked");
    assert_eq!(user.outcome(&with("revoked.crl")).await, refused);
    assert_eq!(user.outcome(&with("empty.crl")).await, Ok("tls"));
    assert_eq!(user.outcome(&with("none.crl")).await, Ok("tls"), "as in libpq");
    // The default file.
    fs::create_dir(user.file(".postgresql")).unwrap();
    secure.authority.write_crl(&user.file(".postgresql/root.crl"), &[7]);
    let default = secure.at(&format!("user=trusty sslmode=verify-ca sslrootcert={home}/ca.crt"));
    assert_eq!(user.outcome(&default).await, refused);
}

#[tokio::test]
async fn protocol_versions_of_tls_are_bounded() {
    let secure = Secure::start().await;
    let user = &secure.user;
    let at_least = secure.at("user=trusty sslmode=require ssl_min_protocol_version=TLSv1.3");
    assert_eq!(user.outcome(&at_least).await, Ok("tls"));
    let at_most =
        secure.at("user=trusty sslmode=require ssl_max_protocol_version=TLSv1.2 sslsni=0");
    assert_eq!(user.outcome(&at_most).await, Ok("tls"));
    let version = |target: &str| {
        let target = user.target(target).unwrap();
        async move {
            let connected = connect(&target).await.unwrap();
            let sql = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            connected.client.query_one(sql, &[]).await.unwrap().get::<_, String>(0)
        }
    };
    assert_eq!(version(&at_least).await, "TLSv1.3");
    assert_eq!(version(&at_most).await, "TLSv1.2");
}

#[tokio::test]
async fn passwords_are_proved_in_each_way_and_wrong_ones_refused() {
    let secure = Secure::start().await;
    let user = &secure.user;
    for role in ["scram", "md5er", "clear"] {
        for mode in ["disable", "require"] {
            let with =
                |password: &str| secure.at(&format!("user={role} sslmode={mode} {password}"));
            let expected = if mode == "disable" { "plain" } else { "tls" };
            assert_eq!(user.outcome(&with("password=right")).await, Ok(expected), "{role} {mode}");
            let wrong = format!("FATAL: password authentication failed for user \"{role}\"");
            assert_eq!(user.outcome(&with("password=wrong")).await, secure.refused(&wrong));
            assert_eq!(user.outcome(&with("")).await, secure.refused("no password supplied"));
        }
    }
    // Said by both connections of prefer, but once by us.
    let wrong = secure.refused("FATAL: password authentication failed for user \"scram\"");
    assert_eq!(user.outcome(&secure.at("user=scram password=wrong")).await, wrong);
    let error = user.connect(&secure.at("user=scram password=wrong")).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ConnectErrorKind::Refused, Some("28P01")));
    assert!(!error.is_transient());
}

#[tokio::test]
async fn channel_binding_is_had_when_required() {
    let secure = Secure::start().await;
    let user = &secure.user;
    let with = |rest: &str| secure.at(&format!("channel_binding=require password=right {rest}"));
    assert_eq!(user.outcome(&with("user=scram sslmode=require")).await, Ok("tls"));
    let refused = secure.refused("channel binding required, but SSL not in use");
    assert_eq!(user.outcome(&with("user=scram sslmode=disable")).await, refused);
    let unbound =
        "channel binding required, but server authenticated client without channel binding";
    for role in ["md5er", "clear", "trusty"] {
        let outcome = user.outcome(&with(&format!("user={role} sslmode=require"))).await;
        assert_eq!(outcome, secure.refused(unbound), "{role}");
    }
    let disabled = secure.at("user=scram password=right sslmode=require channel_binding=disable");
    assert_eq!(user.outcome(&disabled).await, Ok("tls"));
}

#[tokio::test]
async fn who_and_what_is_not_there_is_said_in_the_servers_words() {
    let secure = Secure::start().await;
    let mut user = User::new();
    let port = secure.server.port;
    let outcome = user.outcome(&secure.at("user=trusty sslmode=disable dbname=nowhere")).await;
    assert_eq!(outcome, secure.refused("FATAL: database \"nowhere\" does not exist"));
    let outcome = user.outcome(&secure.at("user=nobody password=x sslmode=disable")).await;
    assert_eq!(
        outcome,
        secure.refused("FATAL: password authentication failed for user \"nobody\"")
    );
    let outcome =
        user.outcome(&secure.at("user=trusty sslmode=disable options=--nonsense=1")).await;
    assert_eq!(outcome, secure.refused("FATAL: unrecognized configuration parameter \"nonsense\""));
    let nobody = "host=127.0.0.1 port=1 user=u dbname=d";
    let refused = "could not connect to server on host \"127.0.0.1\", port 1: connection refused";
    assert_eq!(user.outcome(nobody).await, Err(refused.into()));
    let error = user.connect(nobody).await.unwrap_err();
    assert!(error.kind() == ConnectErrorKind::Unreachable && error.is_transient());
    let directory = user.home.path().display().to_string();
    let socket = format!(
        "could not connect to server on socket \"{directory}/.s.PGSQL.5432\": no such file or directory"
    );
    assert_eq!(user.outcome(&format!("host={directory} user=u")).await, Err(socket));
    let unknown = user.outcome("host=no.such.host.invalid user=u").await.unwrap_err();
    let expected = "could not connect to server on host \"no.such.host.invalid\", port 5432: \
                    could not translate host name \"no.such.host.invalid\" to address: ";
    assert!(unknown.starts_with(expected), "{unknown}");
    user.set("PGPORT", port);
    user.set("PGHOSTADDR", "127.0.0.1");
    user.set("PGUSER", "trusty");
    user.set("PGDATABASE", "postgres");
    user.set("PGAPPNAME", "the app");
    user.set("PGOPTIONS", "-c work_mem=77kB");
    user.set("PGCLIENTENCODING", "LATIN1");
    let connected = user.connect("").await.unwrap();
    let row = connected
        .client
        .query_one("SELECT current_setting('application_name'), current_setting('work_mem')", &[]);
    let row = row.await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("the app", "77kB"));
    assert_eq!(connected.parameters["client_encoding"], "UTF8");
    user.set("PGSSLMODE", "verify-full");
    let no_name = format!(
        "could not connect to server on host \"127.0.0.1\", port {port}: \
         host name must be specified for a verified SSL connection"
    );
    assert_eq!(user.outcome("").await, Err(no_name));
}

#[tokio::test]
async fn passwords_come_from_the_password_file_if_it_is_private() {
    let secure = Secure::start().await;
    let mut user = User::new();
    let port = secure.server.port;
    let directory = secure.server.socket_directory();
    user.write(
        ".pgpass",
        &format!("# mine\nlocalhost:{port}:*:scram:right\n{directory}:*:*:local:right\n"),
        0o600,
    );
    assert_eq!(user.outcome(&secure.at("user=scram sslmode=disable")).await, Ok("plain"));
    let socket = format!("host={directory} port={port} dbname=postgres user=local");
    assert_eq!(user.outcome(&socket).await, Ok("plain"));
    assert_eq!(
        user.outcome(&format!("postgresql://scram@localhost:{port}/postgres?sslmode=require"))
            .await,
        Ok("tls")
    );
    user.write(".pgpass", "*:*:*:*:wrong\n", 0o600);
    let file = user.file(".pgpass").display().to_string();
    let wrong = format!(
        "FATAL: password authentication failed for user \"scram\" (password retrieved from file \"{file}\")"
    );
    assert_eq!(
        user.outcome(&secure.at("user=scram sslmode=disable")).await,
        secure.refused(&wrong)
    );
    user.write("elsewhere", "*:*:*:*:right\n", 0o600);
    user.set("PGPASSFILE", user.file("elsewhere").display());
    assert_eq!(user.outcome(&secure.at("user=scram sslmode=disable")).await, Ok("plain"));
    user.write("elsewhere", "*:*:*:*:right\n", 0o644);
    let none = secure.refused("no password supplied");
    assert_eq!(user.outcome(&secure.at("user=scram sslmode=disable")).await, none);
    user.set("PGPASSWORD", "right");
    assert_eq!(user.outcome(&secure.at("user=scram sslmode=disable")).await, Ok("plain"));
}

#[tokio::test]
async fn a_service_and_a_uri_lead_to_the_server() {
    let secure = Secure::start().await;
    let mut user = User::new();
    let port = secure.server.port;
    let service = format!(
        "[other]\nport=1\n\n[here]\nhost=localhost\nport={port}\nuser=scram\npassword=right\n"
    );
    user.write(".pg_service.conf", &service, 0o644);
    assert_eq!(user.outcome("service=here dbname=postgres sslmode=disable").await, Ok("plain"));
    assert_eq!(
        user.outcome("service=none").await,
        Err("definition of service \"none\" not found".into())
    );
    user.set("PGSERVICE", "here");
    assert_eq!(user.outcome("postgres").await, Ok("tls"));
    user.env.remove("PGSERVICE");
    for (uri, expected) in [
        (format!("postgresql://scram:right@localhost:{port}/postgres"), "tls"),
        (format!("postgres://scram:%72ight@127.0.0.1:{port}/postgres?sslmode=disable"), "plain"),
        (
            format!(
                "postgresql:///postgres?host=localhost&port={port}&user=scram&password=right&ssl=true"
            ),
            "tls",
        ),
        (
            format!(
                "postgresql://admin@{}:{port}/postgres",
                secure.server.socket_directory().replace('/', "%2F")
            ),
            "plain",
        ),
        (format!("postgresql://scram:right@127.0.0.1:1,[::1]:1,localhost:{port}/postgres"), "tls"),
    ] {
        assert_eq!(user.outcome(&uri).await, Ok(expected), "{uri}");
    }
}

#[tokio::test]
async fn of_several_hosts_the_first_that_is_as_wanted_is_taken() {
    let hba = "host all all 127.0.0.1/32 trust";
    let primary = Server::start(&Setup { hba, ..Setup::default() });
    let standby =
        Server::start(&Setup { hba, files: &[("standby.signal", Vec::new())], ..Setup::default() });
    let conf = "default_transaction_read_only = on";
    let read_only = Server::start(&Setup { hba, conf, ..Setup::default() });
    let user = User::new();
    let list = format!("1,{},{},{}", standby.port, read_only.port, primary.port);
    let conninfo = |wanted: &str| {
        format!(
            "host=localhost,127.0.0.1,127.0.0.1,127.0.0.1 port={list} user=admin dbname=postgres \
                 connect_timeout=20 {wanted}"
        )
    };
    for (wanted, expected) in [
        ("", &standby),
        ("target_session_attrs=any", &standby),
        ("target_session_attrs=standby", &standby),
        ("target_session_attrs=prefer-standby", &standby),
        ("target_session_attrs=read-only", &standby),
        ("target_session_attrs=primary", &read_only),
        ("target_session_attrs=read-write", &primary),
    ] {
        assert_eq!(user.outcome(&conninfo(wanted)).await, Ok("plain"), "{wanted}");
        let connected = user.connect(&conninfo(wanted)).await.unwrap();
        assert_eq!(
            connected.on(),
            format!("on host \"127.0.0.1\", port {}", expected.port),
            "{wanted}"
        );
    }
    let random = user
        .connect(&conninfo("load_balance_hosts=random target_session_attrs=read-write"))
        .await
        .unwrap();
    assert_eq!(random.on(), format!("on host \"127.0.0.1\", port {}", primary.port));
    let alone = |port: u16, wanted: &str| {
        format!(
            "host=127.0.0.1 port={port} user=admin dbname=postgres target_session_attrs={wanted}"
        )
    };
    for (server, wanted, words) in [
        (&standby, "primary", "server is in hot standby mode"),
        (&primary, "standby", "server is not in hot standby mode"),
        (&read_only, "read-write", "session is read-only"),
        (&primary, "read-only", "session is not read-only"),
    ] {
        let expected = format!(
            "could not connect to server on host \"127.0.0.1\", port {}: {words}",
            server.port
        );
        assert_eq!(user.outcome(&alone(server.port, wanted)).await, Err(expected));
    }
    assert_eq!(user.outcome(&alone(primary.port, "prefer-standby")).await, Ok("plain"));
    // Nobody wants a second opinion after a no.
    let no = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=admin dbname=nowhere",
        primary.port, standby.port
    );
    let expected = format!(
        "could not connect to server on host \"127.0.0.1\", port {}: FATAL: database \"nowhere\" does not exist",
        primary.port
    );
    assert_eq!(user.outcome(&no).await, Err(expected));
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_left_after_the_timeout() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = deaf.local_addr().unwrap().port();
    let user = User::new();
    let began = std::time::Instant::now();
    let error = user
        .connect(&format!("host=127.0.0.1 port={port} user=u connect_timeout=1"))
        .await
        .unwrap_err();
    let expected =
        format!("could not connect to server on host \"127.0.0.1\", port {port}: timeout expired");
    assert_eq!((error.to_string(), error.kind()), (expected, ConnectErrorKind::Unreachable));
    assert!(began.elapsed().as_millis() < 1900, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_session_can_be_cancelled_reports_its_end_and_leaves_nothing_behind() {
    let secure = Secure::start().await;
    let user = &secure.user;
    let admin = secure.admin().await;
    for mode in ["disable", "require"] {
        let connected =
            user.connect(&secure.at(&format!("user=trusty sslmode={mode}"))).await.unwrap();
        assert!(connected.server_version_num() >= 130_000, "{:?}", connected.parameters);
        let handle = connected.cancel_handle();
        let canceller = tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            handle.cancel().await
        });
        let error = connected.client.batch_execute("SELECT pg_sleep(60)").await.unwrap_err();
        assert_eq!(words(&error), "ERROR: canceling statement due to user request");
        canceller.await.unwrap().unwrap();
        connected.cancel().await.unwrap();

        let raise = "DO $$ BEGIN RAISE WARNING USING MESSAGE = E'two\\nlines', ERRCODE = 'AB123'; RAISE NOTICE 'n'; END $$";
        connected.client.batch_execute(raise).await.unwrap();
        let notices = connected.notices.take();
        assert_eq!(notices.len(), 1);
        assert_eq!(
            (notices[0].sqlstate.as_str(), notices[0].message.as_str()),
            ("AB123", "two lines")
        );

        // Ended by the server.
        let pid: i32 =
            connected.client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        admin.client.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
        let died_of = connected.closed.await.unwrap().unwrap();
        assert_eq!(words(&died_of), "FATAL: terminating connection due to administrator command");

        // Dropped in the middle of a long answer.
        let connected =
            user.connect(&secure.at(&format!("user=trusty sslmode={mode}"))).await.unwrap();
        let pid: i32 =
            connected.client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let sql = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000000)) TO STDOUT";
        let stream = connected.client.copy_out(sql).await.unwrap();
        drop(stream);
        drop(connected);
        let mut gone = false;
        for _ in 0..100 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
            gone = admin.client.query_one(sql, &[&pid]).await.unwrap().get::<_, i64>(0) == 0;
            if gone {
                break;
            }
        }
        assert!(gone, "{mode}: the session is still there");
    }
}

#[tokio::test]
async fn a_full_server_and_a_stopping_one_may_be_tried_again() {
    let hba = "host all all 127.0.0.1/32 trust\nlocal all all trust";
    let conf = "max_connections = 4\nsuperuser_reserved_connections = 1";
    let server = Server::start(&Setup { hba, conf, ..Setup::default() });
    let user = User::new();
    let conninfo =
        |role: &str| format!("host=127.0.0.1 port={} user={role} dbname=postgres", server.port);
    let admin = user.connect(&conninfo("admin")).await.unwrap();
    admin.client.batch_execute("CREATE ROLE plain LOGIN").await.unwrap();
    let _sessions = [
        user.connect(&conninfo("plain")).await.unwrap(),
        user.connect(&conninfo("plain")).await.unwrap(),
    ];
    let error = user.connect(&conninfo("plain")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate()),
        (ConnectErrorKind::TooManyConnections, Some("53300")),
        "{error}"
    );
    assert!(error.is_transient());
}
