//! A session that stands: the client, the task that drives its connection, and how to cancel what it runs.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::{AsyncMessage, CancelToken, Client, Connection, Error};

use super::hosts::Host;
use super::pooler;
use super::stream::{AsIs, Encryption, Route, Stream};
use super::tap::Copied;
use super::{ConnectError, ConnectErrorKind};
use crate::server::words;

/// How many warnings are kept; of more, the latest.
const NOTICES_MAX: usize = 100;
/// How long a dropped session may take to say goodbye before its socket is closed on the server.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a request to cancel may take where connect_timeout does not say.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);
/// What a server reports of itself at the start (`GUC_REPORT`), in versions up to 18.
const PARAMETERS: [&str; 15] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "scram_iterations",
    "search_path",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
];

/// A session. Keep it whole for as long as the client is used: when it is dropped, so is the connection, whatever
/// may still be under way on it.
pub struct Connected {
    /// The client.
    pub client: Client,
    /// What the server reported of itself when the session began, such as `server_version`.
    pub parameters: BTreeMap<&'static str, String>,
    /// The warnings of the server.
    pub notices: Notices,
    /// What the server says of each COPY.
    pub copied: Copied,
    /// Ends when the connection ends, with the error it died of. The server's last words go to the request that was
    /// under way, if there was one; then this says no more than that the connection was closed.
    pub closed: JoinHandle<Option<Error>>,
    cancel: CancelHandle,
    // The same socket once more: what became of it can be asked for when the connection has ended.
    socket: OwnedFd,
    // When this goes, the driving task ends soon after.
    _alive: oneshot::Sender<()>,
}

impl Connected {
    pub(super) fn start(
        (client, connection): (Client, Connection<Stream, Stream>),
        socket: OwnedFd,
        copied: Copied,
        route: Route,
        tls: bool,
    ) -> Connected {
        let parameters = PARAMETERS
            .iter()
            .filter_map(|&name| Some((name, connection.parameter(name)?.to_string())))
            .collect();
        let notices = Notices::default();
        let (alive, gone) = oneshot::channel();
        let closed = tokio::spawn(drive(connection, notices.clone(), gone));
        let cancel = CancelHandle { token: client.cancel_token(), route: Arc::new(route), tls };
        Connected { client, parameters, notices, copied, closed, cancel, socket, _alive: alive }
    }

    /// The server's version as a number: 150018 for 15.18, 90624 for 9.6.24, 0 if it cannot be read.
    pub fn server_version_num(&self) -> u32 {
        version_num(self.parameters.get("server_version").map_or("", String::as_str))
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.cancel.tls
    }

    /// Which host of a list it is: `on host "h", port 5432`.
    pub fn on(&self) -> String {
        self.cancel.route.host.on()
    }

    /// Whether the server, or a pooler, runs on this host as far as the socket tells.
    pub fn is_by_unix_socket(&self) -> bool {
        self.cancel.route.address.is_none()
    }

    /// The host that it is on.
    pub(super) fn host(&self) -> &Host {
        &self.cancel.route.host
    }

    /// The process id that the server, or a pooler in between, has told.
    pub(super) async fn process_id(&self) -> Option<i32> {
        pooler::process_id(&self.cancel.token).await
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Asks the server to cancel what the session runs.
    pub async fn cancel(&self) -> Result<(), ConnectError> {
        self.cancel.cancel().await
    }

    /// What cancels from elsewhere, while the client is busy.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connected({}, tls: {})", self.on(), self.is_tls())
    }
}

/// Cancels what a session runs, by a connection of its own to the same address, encrypted if the session is.
#[derive(Clone)]
pub struct CancelHandle {
    token: CancelToken,
    route: Arc<Route>,
    tls: bool,
}

impl CancelHandle {
    /// Asks the server to cancel. It does not say whether there was anything to cancel; when this returns, it has
    /// seen the request.
    pub async fn cancel(&self) -> Result<(), ConnectError> {
        let patience = self.route.settings.connect_timeout.unwrap_or(CANCEL_PATIENCE);
        let outcome = timeout(patience, self.request()).await.unwrap_or_else(|_| {
            Err(ConnectError::new(ConnectErrorKind::Unreachable, "timeout expired"))
        });
        outcome.map_err(|error| ConnectError {
            message: format!(
                "could not send cancel request to server {}: {error}",
                self.route.host.on()
            ),
            ..error
        })
    }

    async fn request(&self) -> Result<(), ConnectError> {
        let mut stream =
            self.route.open(if self.tls { Encryption::Required } else { Encryption::None }).await?;
        self.token.cancel_query_raw(&mut stream, AsIs).await.map_err(|e| ConnectError::from(&e))?;
        // The server closes the connection when it has done as asked. How it does so does not matter.
        let mut rest = [0; 16];
        while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
        Ok(())
    }
}

/// What the server said beside its results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Five characters.
    pub sqlstate: String,
    /// Without line ends.
    pub message: String,
}

/// The latest messages of severity WARNING. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Notices(Arc<Mutex<VecDeque<Notice>>>);

impl Notices {
    /// Takes out what has come so far, oldest first.
    pub fn take(&self) -> Vec<Notice> {
        self.lock().drain(..).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Notice>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(&self, said: &DbError) {
        tracing::debug!(sqlstate = said.code().code(), "server said: {}", words::db_words(said));
        let warning = match said.parsed_severity() {
            Some(severity) => severity == Severity::Warning,
            None => said.severity() == "WARNING",
        };
        if warning {
            let mut kept = self.lock();
            if kept.len() == NOTICES_MAX {
                kept.pop_front();
            }
            let message = words::one_line(said.message());
            kept.push_back(Notice { sqlstate: said.code().code().to_string(), message });
        }
    }
}

/// Does the connection's reading and writing, until it ends or the [`Connected`] is gone.
async fn drive(
    mut connection: Connection<Stream, Stream>,
    notices: Notices,
    gone: oneshot::Receiver<()>,
) -> Option<Error> {
    let driving = pin!(async {
        loop {
            match poll_fn(|cx| connection.poll_message(cx)).await {
                None => return None,
                Some(Err(error)) => return Some(error),
                Some(Ok(AsyncMessage::Notice(notice))) => notices.take_in(&notice),
                Some(Ok(_)) => {}
            }
        }
    });
    match select(driving, gone).await {
        Either::Left((ended, _)) => ended,
        // The client is gone too, so what is left is a goodbye, unless the server is in the middle of a long answer.
        Either::Right((_, driving)) => timeout(GOODBYE, driving).await.ok().flatten(),
    }
}

/// `15.18 (Debian 15.18-1)`, `9.6.24`, `19devel`, `16beta1`.
fn version_num(text: &str) -> u32 {
    let mut numbers = text.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse::<u32>().ok().filter(|&n| n < 10_000).unwrap_or(0)
    });
    let mut next = || numbers.next().unwrap_or(0);
    match next() {
        major @ 10.. => major * 10_000 + next(),
        major => major * 10_000 + next() % 100 * 100 + next() % 100,
    }
}

#[cfg(test)]
mod tests {
    use super::version_num;

    #[test]
    fn a_version_is_a_number_as_in_libpq() {
        for (text, number) in [
            ("15.18 (Debian 15.18-0+deb12u1)", 150018),
            ("9.6.24", 90624),
            ("10.0", 100000),
            ("19devel", 190000),
            ("16beta1", 160000),
            ("", 0),
            ("99999999999.1", 100),
            ("x", 0),
        ] {
            assert_eq!(version_num(text), number, "{text:?}");
        }
    }
}
