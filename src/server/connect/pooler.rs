//! Poolers that stand between us and the server.
//!
//! One that gives each transaction another of the server's sessions
//! (PgBouncer's `pool_mode=transaction`, and its like) must not be used: our
//! settings would stay behind in sessions of others, and no setting of ours would
//! be sure to hold where we read. So it is found out before anything is set.
//!
//! A pooler makes up the process id that a session begins with, so a direct
//! connection is known at once. What else is there is asked by two connections in
//! turn: only where sessions are shared do they meet in one, or move.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_postgres::tls::{ChannelBinding, TlsStream};
use tokio_postgres::{CancelToken, SimpleQueryMessage};

use super::attempt::connect;
use super::connected::Connected;
use super::stream::AsIs;
use super::target::Target;
use super::{ConnectError, ConnectErrorKind};

/// A pool without a free session lets its clients wait; then nothing is proved.
const PATIENCE: Duration = Duration::from_secs(2);
/// Others may use the pool at the same time, and take a session in between.
const ROUNDS: u32 = 5;

const IN_THE_WAY: &str = "there is a connection pooler in between that gives each transaction another session \
     (transaction pooling); connect to the server itself, or to a pool with pool_mode=session";

/// The server's session behind a connection. The start tells sessions of two
/// servers apart that have the same process id.
const BACKEND: &str = "SELECT pg_catalog.pg_backend_pid(), \
     (SELECT backend_start FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()))";

/// Fails if it is certain that the server's sessions are shared with others
/// between two transactions.
pub async fn refuse_shared_sessions(
    target: &Target,
    connected: &Connected,
) -> Result<(), ConnectError> {
    let Some(backend) = backend(connected).await else { return Ok(()) };
    let told = connected.process_id().await;
    if told.is_some_and(|pid| backend[0].as_deref() == Some(pid.to_string().as_str())) {
        return Ok(());
    }
    tracing::debug!("there is a connection pooler in between");
    let Ok(Ok(other)) = timeout(PATIENCE, connect(target)).await else { return Ok(()) };
    for _ in 0..ROUNDS {
        let Ok(Some(met)) = timeout(PATIENCE, self::backend(&other)).await else { return Ok(()) };
        let Some(now) = self::backend(connected).await else { return Ok(()) };
        if met == now || now != backend {
            return Err(ConnectError::new(ConnectErrorKind::Refused, IN_THE_WAY));
        }
    }
    Ok(())
}

/// None: it could not be asked, and whatever is wrong will be said by what
/// comes next.
async fn backend(connected: &Connected) -> Option<Vec<Option<String>>> {
    let answer = connected.client.simple_query(BACKEND).await.ok()?;
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..2).map(|i| row.try_get(i).ok().flatten().map(str::to_owned)).collect())
        }
        _ => None,
    })
}

/// The process id that the session began with. The client library does not show
/// it, but in the request to cancel, which is sent to nobody here.
pub(super) async fn process_id(token: &CancelToken) -> Option<i32> {
    let mut request = Request(Vec::new());
    token.cancel_query_raw(&mut request, AsIs).await.ok()?;
    // The length, the code of the request, the process id, the key.
    let bytes = request.0.get(8..12)?;
    Some(i32::from_be_bytes(bytes.try_into().ok()?))
}

/// A stream that keeps what is written to it.
struct Request(Vec<u8>);

impl TlsStream for &mut Request {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Request {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Request {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
