//! Several hosts, servers in several roles, and servers that do not answer.

use pg_salvage::server::connect::ConnectErrorKind;

use crate::connect::asking::User;
use crate::connect::server::{Server, Setup};

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
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_full_server_and_one_in_recovery_may_be_tried_again() {
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
    let conf = "hot_standby = off";
    let recovering = Server::start(&Setup { hba, conf, files: &[("standby.signal", Vec::new())] });
    let alone = format!("host=127.0.0.1 port={} user=admin dbname=postgres", recovering.port);
    let error = user.connect(&alone).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate()),
        (ConnectErrorKind::NotReady, Some("57P03")),
        "{error}"
    );
    assert!(error.is_transient() && !error.to_string().contains('\n'));
    let both = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=admin dbname=postgres",
        recovering.port, server.port
    );
    let next = user.connect(&both).await.unwrap();
    assert_eq!(next.on(), format!("on host \"127.0.0.1\", port {}", server.port));
}
