//! One socket to the server, with TLS or without, ready for the first message of the protocol.
//!
//! The sockets and the TLS negotiation are ours, not tokio-postgres's, because it knows three of the six TLS modes and
//! does not tell one failure from another.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use postgres_openssl::TlsStream;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::tls::{self, ChannelBinding, TlsConnect};

use super::hosts::{Host, Place};
use super::settings::Keepalives;
use super::tap::{Copied, Tap};
use super::target::Settings;
use super::tls::handshake;
use super::{ConnectError, ConnectErrorKind};

/// Length 8 and the number that no version of the protocol will have.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// So much of rows may wait in a Unix socket for the server to read it. The system
/// wakes a writer when only a quarter is left; of its default the server has read
/// that before a busy machine lets the writer run.
const UNIX_SEND_BYTES: usize = 1 << 20;

/// The connection of a session, or of a request to cancel.
pub(super) struct Stream {
    socket: Socket,
    tap: Tap,
}

enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// And the socket below it, which the other does not show.
    Tls(Box<TlsStream<TcpStream>>, OwnedFd),
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        Self { socket, tap: Tap::default() }
    }
}

impl Stream {
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.socket, Socket::Tls(..))
    }

    /// What the server will say of each COPY.
    pub(super) fn copied(&self) -> Copied {
        self.tap.copied()
    }
}

/// How much one attempt wants TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    None,
    IfOffered,
    Required,
}

/// The way to one address of one host. A request to cancel goes the same way.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) settings: Arc<Settings>,
    pub(super) host: Host,
    /// None for a Unix socket.
    pub(super) address: Option<SocketAddr>,
}

impl Route {
    /// Opens the socket and, as wanted, does the TLS handshake. Unix sockets never have TLS.
    pub(super) async fn open(&self, encryption: Encryption) -> Result<Stream, ConnectError> {
        let Some(address) = self.address else {
            let path = self.host.socket_path().unwrap_or_default();
            let socket = UnixStream::connect(path).await.map_err(|e| ConnectError::io(&e))?;
            // It goes without, only slower.
            let _ = sockopt::set_socket_send_buffer_size(&socket, UNIX_SEND_BYTES);
            return Ok(Socket::Unix(socket).into());
        };
        let mut socket = TcpStream::connect(address).await.map_err(|e| ConnectError::io(&e))?;
        set_options(&socket, &self.settings.keepalives).map_err(|e| ConnectError::io(&e))?;
        let tls = &self.settings.tls;
        let offered = match encryption {
            Encryption::None => false,
            _ if tls.direct => true,
            _ => offers_tls(&mut socket).await?,
        };
        if !offered && encryption == Encryption::Required {
            return Err(ConnectError::tls(format!(
                "server does not support SSL, but sslmode \"{}\" was asked for",
                tls.mode
            )));
        }
        if !offered {
            return Ok(Socket::Tcp(socket).into());
        }
        let name = match &self.host.place {
            Place::Tcp { name, .. } => name,
            Place::Socket(_) => "",
        };
        let below = socket.as_fd().try_clone_to_owned().map_err(|e| ConnectError::io(&e))?;
        Ok(Socket::Tls(Box::new(handshake(tls, name, socket).await?), below).into())
    }
}

/// Asks the server. Not more than its one byte is read, so nothing can be slipped in before the handshake.
async fn offers_tls(socket: &mut TcpStream) -> Result<bool, ConnectError> {
    socket.write_all(&SSL_REQUEST).await.map_err(|e| ConnectError::io(&e))?;
    match socket.read_u8().await.map_err(|e| ConnectError::io(&e))? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        // Too old to know the request, or too busy to start a session.
        b'E' => Err(ConnectError::tls("server sent an error response during SSL exchange")),
        other => Err(ConnectError::tls(format!(
            "received invalid response to SSL negotiation: {}",
            char::from(other).escape_default()
        ))),
    }
}

fn set_options(socket: &TcpStream, keepalives: &Keepalives) -> io::Result<()> {
    socket.set_nodelay(true)?;
    if keepalives.on {
        sockopt::set_socket_keepalive(socket, true)?;
        if let Some(idle) = keepalives.idle {
            sockopt::set_tcp_keepidle(socket, idle)?;
        }
        if let Some(interval) = keepalives.interval {
            sockopt::set_tcp_keepintvl(socket, interval)?;
        }
        if let Some(count) = keepalives.count {
            sockopt::set_tcp_keepcnt(socket, count)?;
        }
    }
    if let Some(millis) = keepalives.user_timeout_millis {
        sockopt::set_tcp_user_timeout(socket, millis)?;
    }
    Ok(())
}

/// All addresses of a name.
pub(super) async fn look_up(host: &Host) -> Result<Vec<Option<SocketAddr>>, ConnectError> {
    let Place::Tcp { name, address } = &host.place else { return Ok(vec![None]) };
    let text = address.as_deref().unwrap_or(name);
    let failed = |words: &str| {
        let words = format!("could not translate host name \"{text}\" to address: {words}");
        ConnectError::new(ConnectErrorKind::Unreachable, words)
    };
    match tokio::net::lookup_host((text, host.port)).await {
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.map(Some).collect();
            if addresses.is_empty() { Err(failed("no address")) } else { Ok(addresses) }
        }
        Err(error) => {
            let words = error.to_string();
            let words =
                words.strip_prefix("failed to lookup address information: ").unwrap_or(&words);
            Err(failed(&crate::server::words::lower_first(words)))
        }
    }
}

/// Takes the stream for what it is: the handshake has been done, or left out, by [`Route::open`].
pub(super) struct AsIs;

impl<S: tls::TlsStream + Unpin> TlsConnect<S> for AsIs {
    type Stream = S;
    type Error = Infallible;
    type Future = Ready<Result<S, Infallible>>;

    fn connect(self, stream: S) -> Self::Future {
        ready(Ok(stream))
    }
}

impl tls::TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.socket {
            Socket::Unix(_) | Socket::Tcp(_) => ChannelBinding::none(),
            Socket::Tls(stream, _) => stream.channel_binding(),
        }
    }
}

impl tls::TlsStream for &mut Stream {
    fn channel_binding(&self) -> ChannelBinding {
        (**self).channel_binding()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Unix(stream) => stream.as_fd(),
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Tls(_, below) => below.as_fd(),
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match &mut self.socket {
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream, _) => Pin::new(stream).poll_read(cx, buf),
        };
        let kept = self.tap.hear(&mut buf.filled_mut()[before..]);
        buf.set_filled(before + kept);
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.socket {
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Tls(stream, _) => Pin::new(stream).poll_write(cx, buf),
        };
        match written {
            // As libpq: why the server closed the connection is still to be read, and reading will tell of its end.
            Poll::Ready(Err(e)) if is_closed(&e) => Poll::Ready(Ok(buf.len())),
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
