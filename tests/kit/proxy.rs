//! A way to a server that breaks: a proxy that passes bytes on and cuts
//! connections, as networks, firewalls and poolers do, or swallows single rows,
//! as nobody should.
//!
//! It runs on the test's own runtime, which must be multi-threaded.

use super::{Server, place};
use rustix::net::sockopt::set_socket_linger;
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

/// How a connection ends for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Closed in order.
    Close,
    /// Reset, as by a firewall; what is on its way is thrown away. By TCP only.
    Reset,
}

/// What the proxy does to each connection.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub cut: Cut,
    /// After so many bytes from the server, from the least to the most; none:
    /// only when the test says so.
    pub after: Option<(u64, u64)>,
    /// What is chosen in between.
    pub seed: u64,
}

pub struct Proxy {
    state: Arc<State>,
    port: u16,
    folder: TempDir,
    cut_all: watch::Sender<u64>,
}

struct State {
    plan: Plan,
    server: PathBuf,
    random: Mutex<u64>,
    refuses: AtomicBool,
    cuts: AtomicU64,
    /// Rows that do not come through, and how often.
    swallows: Mutex<(Vec<u8>, u64)>,
    swallowed: AtomicU64,
}

impl Proxy {
    pub async fn start(server: &Server, plan: Plan) -> Proxy {
        let folder = place::new_folder(false);
        let state = Arc::new(State {
            plan,
            server: server.socket(),
            random: Mutex::new(plan.seed.max(1)),
            refuses: AtomicBool::new(false),
            cuts: AtomicU64::new(0),
            swallows: Mutex::default(),
            swallowed: AtomicU64::new(0),
        });
        let (cut_all, all) = watch::channel(0);
        let port = if plan.cut == Cut::Reset {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("its address").port();
            let state = state.clone();
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(tcp(state.clone(), client, all.clone()));
                }
            });
            port
        } else {
            let path = folder.path().join(".s.PGSQL.5432");
            let listener = UnixListener::bind(path).expect("a socket");
            let state = state.clone();
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (state, all) = (state.clone(), all.clone());
                    tokio::spawn(async move { pass(&state, client, all).await });
                }
            });
            5432
        };
        Proxy { state, port, folder, cut_all }
    }

    /// A conninfo string, as of the server itself.
    pub fn conninfo(&self, user: &str, dbname: &str) -> String {
        let host = match self.state.plan.cut {
            Cut::Reset => "127.0.0.1".to_owned(),
            Cut::Close => self.folder.path().display().to_string(),
        };
        format!("host={host} port={} user={user} dbname={dbname} sslmode=disable", self.port)
    }

    /// How many connections were cut so far.
    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(SeqCst)
    }

    /// Messages with a row that holds these bytes do not come through, so often.
    /// Of connections that are made from now on.
    pub fn swallow(&self, row: &str, times: u64) {
        let mut swallows = self.state.swallows.lock().expect("no panic while locked");
        *swallows = (row.as_bytes().to_vec(), times);
    }

    /// How many rows were swallowed so far.
    pub fn swallowed(&self) -> u64 {
        self.state.swallowed.load(SeqCst)
    }

    /// Nobody gets through for so long, and all that are through are cut.
    pub async fn go_away_for(&self, time: Duration) {
        self.state.refuses.store(true, SeqCst);
        self.cut_all.send_modify(|times| *times += 1);
        tokio::time::sleep(time).await;
        self.state.refuses.store(false, SeqCst);
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.state.plan.fmt(f)
    }
}

impl State {
    /// Xorshift: the same for the same seed.
    fn limit(&self) -> u64 {
        let Some((least, most)) = self.plan.after else { return u64::MAX };
        let mut random = self.random.lock().expect("no panic while locked");
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        least + *random % (most - least + 1)
    }
}

impl State {
    /// Whether a message is swallowed.
    fn takes(&self, message: &[u8]) -> bool {
        let mut swallows = self.swallows.lock().expect("no panic while locked");
        let (row, times) = &mut *swallows;
        let found = message[0] == b'd' && message.windows(row.len()).any(|w| w == row);
        if !found || *times == 0 {
            return false;
        }
        *times -= 1;
        self.swallowed.fetch_add(1, SeqCst);
        true
    }
}

/// Cuts what a server sends into messages.
#[derive(Default)]
struct Messages(Vec<u8>);

impl Messages {
    /// The complete ones that are let through.
    fn through(&mut self, bytes: &[u8], takes: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        self.0.extend_from_slice(bytes);
        let (mut through, mut at) = (Vec::new(), 0);
        while let Some(length) = self.0.get(at + 1..at + 5) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            let Some(message) = self.0.get(at..at + 1 + length) else { break };
            if !takes(message) {
                through.extend_from_slice(message);
            }
            at += 1 + length;
        }
        self.0.drain(..at);
        through
    }
}

async fn tcp(state: Arc<State>, client: TcpStream, all: watch::Receiver<u64>) {
    if let Some(client) = pass(&state, client, all).await {
        // Closing it now sends a reset.
        let _ = set_socket_linger(&client, Some(Duration::ZERO));
    }
}

/// Passes bytes on until one side ends. The client's side, if it was cut.
async fn pass<S: AsyncRead + AsyncWrite + Unpin>(
    state: &State,
    mut client: S,
    mut all: watch::Receiver<u64>,
) -> Option<S> {
    all.mark_unchanged();
    if state.refuses.load(SeqCst) {
        return Some(client);
    }
    let mut server = UnixStream::connect(&state.server).await.ok()?;
    let mut left = state.limit();
    let swallows = !state.swallows.lock().expect("no panic while locked").0.is_empty();
    let mut messages = swallows.then(Messages::default);
    let (mut up, mut down) = (vec![0; 16 << 10], vec![0; 64 << 10]);
    let was_cut = loop {
        tokio::select! {
            got = client.read(&mut up) => {
                let n = got.unwrap_or(0);
                if n == 0 || server.write_all(&up[..n]).await.is_err() {
                    break false;
                }
            }
            got = server.read(&mut down) => {
                let n = got.unwrap_or(0);
                if n == 0 {
                    break false;
                }
                if let Some(messages) = &mut messages {
                    let through = messages.through(&down[..n], |m| state.takes(m));
                    if client.write_all(&through).await.is_err() {
                        break false;
                    }
                    continue;
                }
                let let_through = n.min(usize::try_from(left).unwrap_or(usize::MAX));
                if client.write_all(&down[..let_through]).await.is_err() {
                    break false;
                }
                left -= let_through as u64;
                if let_through < n {
                    break true;
                }
            }
            _ = all.changed() => break true,
        }
    };
    if !was_cut {
        return None;
    }
    state.cuts.fetch_add(1, SeqCst);
    Some(client)
}
