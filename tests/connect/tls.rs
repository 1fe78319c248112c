//! TLS: the six modes, client certificates, revocation, versions.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pg_salvage::server::connect::{ConnectErrorKind, connect};

use crate::connect::asking::{Secure, User};
use crate::connect::certs::Identity;
use crate::connect::server::{Server, Setup};

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
    // A root certificate in the home directory makes require as good as verify-ca.
    fs::create_dir(user.file(".postgresql")).unwrap();
    other.write_cert(&user.file(".postgresql/root.crt"));
    assert_eq!(
        user.outcome(&secure.at("user=trusty sslmode=require")).await,
        secure.refused(unknown)
    );
    assert_eq!(user.outcome(&secure.at("user=trusty sslmode=prefer")).await, plain);
    secure.authority.write_cert(&user.file(".postgresql/root.crt"));
    assert_eq!(user.outcome(&secure.at("user=trusty sslmode=require")).await, tls);
    // The operating system does not vouch for our authority. (libpq knows this since 16.)
    let error = user.connect(&secure.at("user=trusty sslrootcert=system")).await.unwrap_err();
    assert_eq!(Err(error.to_string()), secure.refused(unknown));
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
    // The words for it, before and since PostgreSQL 14.
    let (on, off) = match secure.admin().await.server_version_num() {
        ..140_000 => ("SSL on", "SSL off"),
        _ => ("SSL encryption", "no encryption"),
    };
    let no_entry = |name: &str, how: &str| {
        format!(
            "FATAL: no pg_hba.conf entry for host \"127.0.0.1\", user \"{name}\", database \"postgres\", {how}"
        )
    };
    let refused = secure.refused(&no_entry("plainonly", on));
    assert_eq!(user.outcome(&secure.at("user=plainonly sslmode=require")).await, refused);
    let refused = secure.refused(&no_entry("tlsonly", off));
    assert_eq!(user.outcome(&secure.at("user=tlsonly sslmode=disable")).await, refused);
    let rejects = "FATAL: pg_hba.conf rejects connection for host \"127.0.0.1\", user \"rejected\", \
                   database \"postgres\"";
    let refused = secure.refused(&format!("{rejects}, {on}; {rejects}, {off}"));
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
            format!(
                "could not load private key file \"{home}/locked.key\": it is encrypted, and no sslpassword was given"
            ),
        ),
        (
            "c.crt",
            "locked.key",
            "sslpassword=wrong",
            format!(
                "could not load private key file \"{home}/locked.key\": sslpassword does not decrypt it"
            ),
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
}

#[tokio::test]
async fn a_client_certificate_is_found_in_the_home_directory_unless_it_is_not_to_be_sent() {
    let secure = Secure::start().await;
    let user = &secure.user;
    let client = secure.authority.issue("certuser", 20, &[]);
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
    let hash = secure.authority.cert.subject_name_hash();
    let file = format!("lists/{hash:08x}.r0");
    user.write(&file, &fs::read_to_string(user.file("revoked.crl")).unwrap(), 0o644);
    let directory = secure.at(&format!(
        "user=trusty sslmode=verify-ca sslrootcert={home}/ca.crt sslcrldir={home}/lists"
    ));
    assert_eq!(user.outcome(&directory).await, refused);
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
async fn tls_without_asking_is_had_where_the_server_knows_it() {
    let secure = Secure::start().await;
    let version = secure.admin().await.server_version_num();
    let direct = secure.at("user=trusty sslmode=require sslnegotiation=direct");
    let outcome = secure.user.outcome(&direct).await;
    if version >= 170_000 {
        assert_eq!(outcome, Ok("tls"));
    } else {
        let words = "SSL connection has been closed unexpectedly";
        assert_eq!(outcome, secure.refused(words));
    }
}
