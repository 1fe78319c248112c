//! Tests of the test kit itself: what it promises to the other tests.

use crate::kit::{Places, Server, ServerOptions, Stop, Version, oracle, places, sample};

#[tokio::test]
async fn every_version_starts_stops_and_starts_again() {
    for version in Version::few(13, 18) {
        for checksums in [false, true] {
            let server = Server::start(&version, ServerOptions::checksums(checksums));
            let client = server.connect("postgres").await;
            let row = client.query_one("SELECT current_setting('data_checksums')", &[]).await;
            let expected = if checksums { "on" } else { "off" };
            assert_eq!(row.expect("a row").get::<_, &str>(0), expected, "{version:?}");
            client.batch_execute("CREATE TABLE kept AS SELECT 1 AS one").await.expect("a table");
            assert_eq!(server.stop(), Stop::Clean);
            let copy = server.copy();
            copy.start_again();
            server.start_again();
            for each in [&server, &copy] {
                let client = each.connect("postgres").await;
                client.query_one("SELECT one FROM kept", &[]).await.expect("the table is kept");
            }
        }
    }
}

#[tokio::test]
async fn a_server_listens_on_tcp_when_asked() {
    let options = ServerOptions { tcp: true, ..ServerOptions::default() };
    let server = Server::start(&Version::newest(), options.set("work_mem", "5MB"));
    let conninfo = format!("host=127.0.0.1 port={} user=postgres", server.port());
    let (client, connection) =
        tokio_postgres::connect(&conninfo, tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let row = client.query_one("SELECT current_setting('work_mem')", &[]).await.expect("a row");
    assert_eq!(row.get::<_, &str>(0), "5MB");
}

#[tokio::test]
async fn a_crashed_backend_does_not_keep_the_server_from_a_clean_stop() {
    let server = Server::start(&Version::newest(), ServerOptions::default());
    let client = server.connect("postgres").await;
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a row");
    let pid = rustix::process::Pid::from_raw(row.get::<_, i32>(0)).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::SEGV).expect("a backend to kill");
    let error = client.query_one("SELECT 1", &[]).await.expect_err("the session is gone");
    assert!(error.as_db_error().is_none_or(|db| db.code().code() == "57P02"), "{error:?}");
    server.wait_crashes(1);
    assert_eq!(server.stop(), Stop::Clean);
}

#[test]
fn a_dropped_server_leaves_nothing() {
    let server = Server::start(&Version::newest(), ServerOptions::default());
    let (folder, pid) = (server.socket_dir().to_path_buf(), server.pid().expect("it runs"));
    drop(server);
    assert!(!folder.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn the_sample_is_made_on_every_version_and_read_by_the_oracle() {
    for version in Version::few(13, 18) {
        let server = Server::start(&version, ServerOptions::default());
        sample::create(&server, "sample", 1).await;
        let before = oracle::database(&server, "sample").await;
        let rows = |name: &str| {
            let found = before.iter().find(|(relation, _)| relation.name == name);
            found.unwrap_or_else(|| panic!("{name} on {version:?}")).1.len()
        };
        assert!(before.len() >= 60, "{} relations on {version:?}", before.len());
        assert_eq!(rows("zero_columns"), 25);
        assert_eq!(rows("parent"), 20);
        assert_eq!(rows("rolled_back"), 200);
        assert_eq!(rows("all_deleted"), 0);
        assert_eq!(rows("all_types"), 310);
        assert_eq!(rows("row_security"), 20);
        assert_eq!(rows("columns_1600"), 3);
        server.restart();
        assert_eq!(oracle::database(&server, "sample").await, before, "{version:?}");
    }
}

#[tokio::test]
async fn victims_are_of_many_blocks_and_partly_out_of_line() {
    let server = Server::start(&Version::newest(), ServerOptions::default());
    sample::victims(&server, "postgres", &["victim", "fresh"]).await;
    let client = oracle::session(&server, "postgres").await;
    let columns = oracle::columns(&client, "public.victim").await;
    assert_eq!(columns, sample::VICTIM_COLUMNS);
    let rows = oracle::rows(&client, "public.victim", &columns).await;
    assert_eq!(rows.len(), usize::try_from(sample::VICTIM_ROWS).expect("positive"));
    assert!(rows.last().expect("rows").block >= 30, "{:?}", rows.last());
    assert!(rows.is_sorted());
}

#[tokio::test]
async fn our_checksum_is_the_servers_on_every_page() {
    for version in Version::few(13, 18) {
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::victims(&server, "postgres", &["victim"]).await;
        let client = server.connect("postgres").await;
        let victim = Places::of(&client, "victim").await;
        let class = Places::of(&client, "pg_catalog.pg_class").await;
        assert_eq!(server.stop(), Stop::Clean);
        let toast = victim.toast.as_deref().expect("a TOAST table");
        let index = victim.toast_index.as_deref().expect("its index");
        for path in [&victim.main, toast, index, &class.main] {
            let pages = places::read_pages(&server, path);
            assert!(pages.len() > 1, "{path}");
            for page in pages.iter().filter(|page| !page.is_zero()) {
                page.assert_sound();
                assert_eq!(page.checksum(), page.correct_checksum(), "{path} {}", page.block);
            }
        }
    }
}

#[tokio::test]
async fn only_vacuumed_victims_are_all_visible() {
    let server = Server::start(&Version::newest(), ServerOptions::default());
    sample::victims(&server, "postgres", &["victim", "fresh"]).await;
    let client = server.connect("postgres").await;
    let victim = Places::of(&client, "victim").await;
    let fresh = Places::of(&client, "fresh").await;
    assert_eq!(server.stop(), Stop::Clean);
    let all_visible = |places: &Places| {
        let pages = places::read_pages(&server, &places.main);
        pages.iter().filter(|page| page.is_all_visible()).count()
    };
    assert_eq!(all_visible(&victim), usize::try_from(victim.blocks).expect("few"));
    assert_eq!(all_visible(&fresh), 0);
}

#[tokio::test]
async fn a_standby_follows_its_primary() {
    for version in [Version::oldest(), Version::newest()] {
        let primary = Server::start(&version, ServerOptions::default());
        assert_eq!(primary.stop(), Stop::Clean);
        let standby = primary.copy_as_standby();
        primary.start_again();
        standby.start_again();
        primary.execute("postgres", "CREATE TABLE followed AS SELECT 1 AS one").await;
        let client = standby.connect("postgres").await;
        let begun = std::time::Instant::now();
        while client.simple_query("SELECT one FROM followed").await.is_err() {
            assert!(begun.elapsed().as_secs() < 20, "{}", standby.log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await.expect("a row");
        assert!(row.get::<_, bool>(0));
    }
}

#[tokio::test]
async fn databases_of_other_encodings_hold_other_bytes() {
    let server = Server::start(&Version::newest(), ServerOptions::default());
    for encoding in ["LATIN1", "SQL_ASCII"] {
        sample::create_encoded(&server, encoding, encoding).await;
        let client = oracle::session(&server, encoding).await;
        let sql = format!("COPY public.plain (t) TO STDOUT (ENCODING '{encoding}')");
        let text = oracle::copy_out(&client, &sql).await.expect("the rows");
        assert_eq!(oracle::lines(&text).next(), Some(&b"caf\xe91"[..]), "{encoding}");
        assert_eq!(oracle::lines(&text).count(), 50);
    }
}

#[tokio::test]
async fn bulk_makes_as_many_tables_and_rows_as_asked() {
    let server = Server::start(&Version::newest(), ServerOptions::default());
    sample::bulk(&server, "bulk", 3, 100, 1000).await;
    let before = oracle::database(&server, "bulk").await;
    let rows: Vec<usize> = before.iter().map(|(_, rows)| rows.len()).collect();
    assert_eq!(rows, [100, 100, 100, 1000]);
}

#[test]
fn clients_are_found_and_run() {
    for (name, major) in [("pg_dump", 13), ("pg_restore", 16), ("pg_dump", 18), ("psql", 18)] {
        let program = crate::kit::version::client_program(name, major);
        let output = std::process::Command::new(&program).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(name), "{output:?}");
    }
}

#[tokio::test]
async fn files_of_a_dump_are_unpacked_by_their_suffix() {
    use async_compression::tokio::write::{GzipEncoder, Lz4Encoder, ZstdEncoder};
    use tokio::io::{AsyncWrite, AsyncWriteExt};
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["rows", "rows.zst", "rows.gz", "rows.lz4"] {
        let path = folder.path().join(name);
        let file = tokio::fs::File::create(&path).await.expect("a file");
        let mut packed: Box<dyn AsyncWrite + Unpin> = match name {
            "rows.zst" => Box::new(ZstdEncoder::new(file)),
            "rows.gz" => Box::new(GzipEncoder::new(file)),
            "rows.lz4" => Box::new(Lz4Encoder::new(file)),
            _ => Box::new(file),
        };
        packed.write_all(b"1\ta\n2\tb\n").await.expect("written");
        packed.shutdown().await.expect("finished");
        assert_eq!(oracle::read_file(&path).await, b"1\ta\n2\tb\n", "{name}");
    }
}

#[tokio::test]
async fn a_server_speaks_tls_with_certificates_of_our_own_authority() {
    let authority = crate::kit::tls::Authority::new("kit");
    let tls = Some(authority.server(&["localhost", "127.0.0.1"]));
    let hba = Some(String::from("hostssl all all 127.0.0.1/32 cert\nlocal all all trust\n"));
    let options = ServerOptions { tcp: true, tls, hba, ..ServerOptions::default() };
    let server = Server::start(&Version::newest(), options);
    let client = authority.sign("postgres", &[]);
    let mut builder =
        openssl::ssl::SslConnector::builder(openssl::ssl::SslMethod::tls()).expect("TLS");
    builder.set_ca_file(authority.certificate_file()).expect("the authority");
    let pem = openssl::ssl::SslFiletype::PEM;
    builder.set_certificate_file(&client.certificate, pem).expect("a certificate");
    builder.set_private_key_file(&client.key, pem).expect("a key");
    let connector = postgres_openssl::MakeTlsConnector::new(builder.build());
    let port = server.port();
    let conninfo =
        format!("host=localhost hostaddr=127.0.0.1 port={port} user=postgres sslmode=require");
    let (client, connection) =
        tokio_postgres::connect(&conninfo, connector).await.expect("a connection by TLS");
    tokio::spawn(connection);
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert!(client.query_one(sql, &[]).await.expect("a row").get::<_, bool>(0));
}

const KILL_ME: &str = "PG_SALVAGE_KIT_KILL_ME";

/// Does nothing but for the test below, which runs it in a process of its own.
#[test]
fn a_test_that_is_killed() {
    let Some(note) = std::env::var_os(KILL_ME) else { return };
    let server = Server::start(&Version::newest(), ServerOptions::default());
    let pid = server.pid().expect("it runs");
    std::fs::write(note, format!("{pid} {}", server.socket_dir().display())).expect("a note");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_killed_test_leaves_nothing() {
    use std::time::Duration;
    let folder = tempfile::tempdir().expect("a folder");
    let note = folder.path().join("note");
    let mut child = std::process::Command::new(std::env::current_exe().expect("our own path"))
        .args(["--exact", "kit_self::a_test_that_is_killed"])
        .env(KILL_ME, &note)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("ourselves once more");
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        let begun = std::time::Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let read = || std::fs::read_to_string(&note).unwrap_or_default();
    wait("the server did not start", &|| read().contains('/'));
    child.kill().expect("our child");
    child.wait().expect("our child");
    let text = read();
    let (pid, server) = text.split_once(' ').expect("two words");
    let process = std::path::PathBuf::from(format!("/proc/{pid}"));
    wait("the server is still there", &|| !process.exists());
    wait("its folder is still there", &|| !std::path::Path::new(server).exists());
}
