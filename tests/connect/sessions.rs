//! What a session can do beside its queries: be cancelled, be warned, end.

use pg_salvage::server::words::words;
use tokio_postgres::SimpleQueryMessage;

use crate::connect::asking::Secure;

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

        // Ended by the server, with no request under way: not even that to close a prepared statement.
        let pid = connected.client.simple_query("SELECT pg_backend_pid()").await.unwrap();
        let pid = pid.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse::<i32>().ok(),
            _ => None,
        });
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
