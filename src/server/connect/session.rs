//! Whether a session is what `target_session_attrs` asks for.

use tokio_postgres::SimpleQueryMessage;

use super::connected::Connected;
use super::settings::SessionAttrs;
use super::{ConnectError, ConnectErrorKind};

/// Fails if the server is not in the role that is wanted. [`SessionAttrs::PreferStandby`] is the caller's business.
pub(super) async fn check(session: &Connected, wanted: SessionAttrs) -> Result<(), ConnectError> {
    let complaint = match wanted {
        SessionAttrs::Any | SessionAttrs::PreferStandby => None,
        SessionAttrs::ReadWrite => is_read_only(session).await?.then_some("session is read-only"),
        SessionAttrs::ReadOnly => {
            (!is_read_only(session).await?).then_some("session is not read-only")
        }
        SessionAttrs::Primary => {
            is_standby(session).await?.then_some("server is in hot standby mode")
        }
        SessionAttrs::Standby => {
            (!is_standby(session).await?).then_some("server is not in hot standby mode")
        }
    };
    match complaint {
        None => Ok(()),
        Some(words) => Err(ConnectError::new(ConnectErrorKind::NotReady, words)),
    }
}

/// Since PostgreSQL 14 the server tells by itself.
async fn is_read_only(session: &Connected) -> Result<bool, ConnectError> {
    let reported = |name| session.parameters.get(name).map(|value| value == "on");
    match (reported("default_transaction_read_only"), reported("in_hot_standby")) {
        (Some(read_only), Some(standby)) => Ok(read_only || standby),
        _ => ask(session, "SHOW transaction_read_only", "on").await,
    }
}

async fn is_standby(session: &Connected) -> Result<bool, ConnectError> {
    match session.parameters.get("in_hot_standby") {
        Some(value) => Ok(value == "on"),
        None => ask(session, "SELECT pg_catalog.pg_is_in_recovery()", "t").await,
    }
}

async fn ask(session: &Connected, sql: &str, yes: &str) -> Result<bool, ConnectError> {
    let answer = session.client.simple_query(sql).await.map_err(|e| ConnectError::from(&e))?;
    Ok(answer.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten() == Some(yes),
        _ => false,
    }))
}
