//! Services, URIs, the environment, and what is not there.

use pg_salvage::server::connect::ConnectErrorKind;

use crate::connect::asking::{Secure, User};

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
    let tuned =
        "keepalives_idle=60 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=10000";
    assert_eq!(user.outcome(tuned).await, Ok("tls"));
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
