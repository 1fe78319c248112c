//! Proving who we are by a password, and where it comes from.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use pg_salvage::server::connect::{ConnectArgs, ConnectErrorKind, PasswordPrompt, Target, connect};

use crate::connect::asking::{Secure, User};

/// Set for the copy of this test that runs at a terminal: the connection string.
const AT_TERMINAL: &str = "TEST_CONNECT_AT_TERMINAL";

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
async fn a_password_is_asked_for_once_at_the_terminal() {
    if let Ok(conninfo) = std::env::var(AT_TERMINAL) {
        return connect_twice(&conninfo).await;
    }
    let secure = Secure::start().await;
    for (rest, typed, asked, expected) in [
        ("user=scram", "right", 1, "connected twice"),
        ("user=scram", "wrong", 1, "FATAL: password authentication failed for user \"scram\""),
        ("user=scram password=right", "", 0, "connected twice"),
        ("user=trusty", "", 0, "connected twice"),
        ("user=trusty application_name=force", "whatever", 1, "connected twice"),
        ("user=scram application_name=force password=wrong", "right", 1, "connected twice"),
    ] {
        let conninfo = secure.at(&format!("sslmode=disable {rest}"));
        let screen = at_terminal(&conninfo, typed);
        assert_eq!(screen.matches("Password for user ").count(), asked, "{rest}: {screen}");
        assert!(
            screen.contains(expected)
                && (typed.is_empty() || !screen.contains(&format!("{typed}\r"))),
            "{screen}"
        );
    }
}

/// What is on the screen of a terminal where this test runs and a password is typed when asked for.
fn at_terminal(conninfo: &str, typed: &str) -> String {
    let this = std::env::current_exe().unwrap();
    let test = "connect::passwords::a_password_is_asked_for_once_at_the_terminal";
    let command = format!("'{}' --exact {test} --nocapture", this.display());
    let mut script = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env(AT_TERMINAL, conninfo)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script (Debian: bsdutils), to have a terminal");
    let (mut keyboard, mut output) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let (mut screen, mut buffer, mut answered) = (Vec::new(), [0; 1024], false);
    while let Ok(n @ 1..) = output.read(&mut buffer) {
        screen.extend_from_slice(&buffer[..n]);
        if !answered && String::from_utf8_lossy(&screen).contains("Password for user ") {
            // The echo is turned off after the prompt is printed; nobody types that fast.
            std::thread::sleep(Duration::from_millis(300));
            keyboard.write_all(format!("{typed}\n").as_bytes()).unwrap();
            answered = true;
        }
    }
    script.wait().unwrap();
    String::from_utf8_lossy(&screen).into_owned()
}

async fn connect_twice(conninfo: &str) {
    let force = conninfo.contains("force");
    let password = if force { PasswordPrompt::Force } else { PasswordPrompt::Auto };
    let args = ConnectArgs { dbname: Some(conninfo.into()), password, ..ConnectArgs::default() };
    let target = Target::resolve(&args, &|_| None).unwrap();
    let other = target.with_dbname("template1");
    match (connect(&target).await, connect(&other).await) {
        (Ok(_), Ok(_)) => println!("connected twice"),
        (first, second) => println!("{first:?} {second:?} {}", first.as_ref().unwrap_err()),
    }
}
