//! Tries the hosts, their addresses and what `sslmode` allows, in libpq's order, until a session stands.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::config::{self, ChannelBinding};
use tokio_postgres::{Client, Config, Connection};

use super::connected::Connected;
use super::hosts::Host;
use super::settings::{SessionAttrs, SslMode};
use super::stream::{AsIs, Encryption, Route, Stream, look_up};
use super::tap::Copied;
use super::target::Target;
use super::{ConnectError, ConnectErrorKind, Password, PasswordPrompt, session};

/// How long an attempt may take where connect_timeout does not say: libpq waits
/// for ever, but a run must go on.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(60);

/// Connects. If the server wants a password, none was found and it may be asked for, it is asked for at the terminal
/// and remembered in the target and its clones, so that further connections do not ask.
pub async fn connect(target: &Target) -> Result<Connected, ConnectError> {
    let may_ask = target.settings.prompt != PasswordPrompt::Never;
    let force = target.settings.prompt == PasswordPrompt::Force;
    let mut entered = target.entered.lock().await.clone();
    if force && entered.is_none() {
        entered = Some(ask(target).await?);
    }
    match try_hosts(target, entered.clone()).await {
        Err(error) if error.needs_password && may_ask && entered.is_none() => {
            let entered = ask(target).await?;
            try_hosts(target, Some(entered)).await
        }
        outcome => outcome,
    }
}

/// Asks at the terminal. Of several that ask at once the first is answered, the others get its answer.
async fn ask(target: &Target) -> Result<Password, ConnectError> {
    let mut entered = target.entered.lock().await;
    if let Some(password) = &*entered {
        return Ok(password.clone());
    }
    let prompt = format!("Password for user {}: ", target.user());
    let answer = tokio::task::spawn_blocking(move || rpassword::prompt_password(prompt)).await;
    let password = match answer {
        Ok(Ok(password)) => Password(password),
        Ok(Err(error)) => {
            let words = crate::server::words::io_words(&error);
            let words =
                format!("password is needed but could not be asked for at the terminal: {words}");
            return Err(ConnectError::new(ConnectErrorKind::Refused, words));
        }
        Err(_) => {
            return Err(ConnectError::new(
                ConnectErrorKind::Refused,
                "password prompt was interrupted",
            ));
        }
    };
    *entered = Some(password.clone());
    Ok(password)
}

async fn try_hosts(target: &Target, entered: Option<Password>) -> Result<Connected, ConnectError> {
    let settings = &target.settings;
    let rounds: &[SessionAttrs] = match settings.session_attrs {
        SessionAttrs::PreferStandby => &[SessionAttrs::Standby, SessionAttrs::Any],
        _ => &[settings.session_attrs],
    };
    let mut failures = Failures::default();
    for &wanted in rounds {
        let mut hosts: Vec<&Host> = settings.hosts.iter().collect();
        shuffle_if(settings.load_balance, &mut hosts);
        for host in hosts {
            let mut addresses = match within(settings.connect_timeout, look_up(host)).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    failures.push(host, error);
                    continue;
                }
            };
            shuffle_if(settings.load_balance, &mut addresses);
            for address in addresses {
                let route = Route { settings: Arc::clone(settings), host: host.clone(), address };
                let attempt = try_address(target, route, entered.clone(), wanted);
                match within(settings.connect_timeout, attempt).await {
                    Ok(connected) => return Ok(connected),
                    Err(error) => {
                        // As libpq: the next host is for when nobody answers or the server is not ready, not for a no.
                        let last = !matches!(
                            error.kind,
                            ConnectErrorKind::Unreachable | ConnectErrorKind::NotReady
                        );
                        failures.push(host, error);
                        if last {
                            return Err(failures.into_error());
                        }
                    }
                }
            }
        }
    }
    Err(failures.into_error())
}

async fn within<T>(
    limit: Option<Duration>,
    attempt: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let limit = limit.unwrap_or(ATTEMPT_PATIENCE);
    tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_| {
        Err(ConnectError::new(ConnectErrorKind::Unreachable, "timeout expired"))
    })
}

async fn try_address(
    target: &Target,
    route: Route,
    entered: Option<Password>,
    wanted: SessionAttrs,
) -> Result<Connected, ConnectError> {
    let (password, passfile) = target.password(&route.host, entered);
    let config = startup_config(target, password);
    let Started { client, connection, socket, copied, tls } =
        by_sslmode(&route, &config).await.map_err(|error| match passfile {
            Some(file) if error.sqlstate() == Some("28P01") => ConnectError {
                message: format!(
                    "{error} (password retrieved from file \"{}\")",
                    file.path.display()
                ),
                ..error
            },
            _ => error,
        })?;
    let connected = Connected::start((client, connection), socket, copied, route, tls);
    session::check(&connected, wanted).await?;
    Ok(connected)
}

/// What tokio-postgres is to say in the startup message and the authentication. Its TLS modes are set so that it takes
/// our stream as it is.
fn startup_config(target: &Target, password: Option<Password>) -> Config {
    let settings = &target.settings;
    let mut config = Config::new();
    config
        .user(&settings.user)
        .dbname(target.dbname())
        .application_name(&settings.application_name)
        .channel_binding(settings.channel_binding)
        .ssl_mode(config::SslMode::Require)
        .ssl_negotiation(config::SslNegotiation::Direct);
    if let Some(options) = target.options() {
        config.options(options);
    }
    if let Some(password) = password {
        config.password(password.0);
    }
    config
}

struct Started {
    client: Client,
    connection: Connection<Stream, Stream>,
    socket: OwnedFd,
    copied: Copied,
    tls: bool,
}

/// Plain or TLS first, and the other where libpq would try it.
async fn by_sslmode(route: &Route, config: &Config) -> Result<Started, ConnectError> {
    if route.address.is_none() {
        return start(route, config, Encryption::None).await;
    }
    match route.settings.tls.mode {
        SslMode::Disable => start(route, config, Encryption::None).await,
        SslMode::Allow => match start(route, config, Encryption::None).await {
            Err(plain) if plain.is_at_authentication() => {
                start(route, config, Encryption::Required).await.map_err(|tls| plain.and(tls))
            }
            outcome => outcome,
        },
        SslMode::Prefer => match start(route, config, Encryption::IfOffered).await {
            Err(tls)
                if tls.over_tls && tls.is_at_authentication()
                    || tls.kind == ConnectErrorKind::Tls =>
            {
                start(route, config, Encryption::None).await.map_err(|plain| tls.and(plain))
            }
            outcome => outcome,
        },
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
            start(route, config, Encryption::Required).await
        }
    }
}

async fn start(
    route: &Route,
    config: &Config,
    encryption: Encryption,
) -> Result<Started, ConnectError> {
    let stream = route.open(encryption).await?;
    let (tls, copied) = (stream.is_tls(), stream.copied());
    let socket = stream.as_fd().try_clone_to_owned().map_err(|e| ConnectError::io(&e))?;
    match config.connect_raw(stream, AsIs).await {
        Ok((client, connection)) => Ok(Started { client, connection, socket, copied, tls }),
        Err(error) => Err(ConnectError { over_tls: tls, ..startup_error(&error, config, tls) }),
    }
}

/// Some of what tokio-postgres finds wrong has better words in libpq.
fn startup_error(error: &tokio_postgres::Error, config: &Config, tls: bool) -> ConnectError {
    let error = ConnectError::from(error);
    let unbound = config.get_channel_binding() == ChannelBinding::Require;
    match error.message.as_str() {
        "invalid configuration: password missing" => {
            ConnectError { message: "no password supplied".into(), needs_password: true, ..error }
        }
        "authentication error: server did not use channel binding" if unbound => ConnectError {
            message: match tls {
                false => "channel binding required, but SSL not in use".into(),
                true => "channel binding required, but server authenticated client without channel binding".into(),
            },
            ..error
        },
        "authentication error: unsupported authentication method" => ConnectError {
            message: "server asks for an authentication method that is not supported (GSSAPI, SSPI or Kerberos)".into(),
            ..error
        },
        _ => error,
    }
}

impl ConnectError {
    fn is_at_authentication(&self) -> bool {
        self.sqlstate().is_some_and(|code| code.starts_with("28"))
    }

    /// Both tries failed: says both, unless they say the same. What the second came to counts.
    fn and(self, second: ConnectError) -> ConnectError {
        // A server without TLS has nothing to add to why it refused a plain connection.
        if self.is_at_authentication() && second.kind == ConnectErrorKind::Tls
            || self.message == second.message
        {
            return self;
        }
        ConnectError { message: format!("{self}; {second}"), ..second }
    }
}

/// Why each host in turn could not be had.
#[derive(Default)]
struct Failures(Vec<(String, ConnectError)>);

impl Failures {
    fn push(&mut self, host: &Host, error: ConnectError) {
        let on = host.on();
        tracing::debug!("could not connect to server {on}: {error}");
        // The addresses of a name, and the rounds of prefer-standby, mostly fail alike.
        if !self.0.iter().any(|(known, e)| *known == on && e.message == error.message) {
            self.0.push((on, error));
        }
    }

    /// One line. Its kind is that of the host that got furthest.
    fn into_error(self) -> ConnectError {
        let mut message = String::from("could not connect to server ");
        let mut last_on = None;
        for (on, error) in &self.0 {
            match last_on {
                None => message.push_str(&format!("{on}: {error}")),
                Some(last) if last == on => message.push_str(&format!("; {error}")),
                Some(_) => message.push_str(&format!("; {on}: {error}")),
            }
            last_on = Some(on);
        }
        let furthest = self.0.into_iter().map(|(_, error)| error).max_by_key(|error| error.kind);
        let furthest = furthest.unwrap_or_else(|| ConnectError::usage("no host to connect to"));
        ConnectError { message, ..furthest }
    }
}

/// Fisher and Yates, with the randomness that std has for its hash maps.
fn shuffle_if<T>(wanted: bool, list: &mut [T]) {
    if !wanted {
        return;
    }
    let random = RandomState::new();
    for i in (1..list.len()).rev() {
        let j = random.hash_one(i) % (i as u64 + 1);
        list.swap(i, usize::try_from(j).unwrap_or(i));
    }
}

#[cfg(test)]
mod tests {
    use super::super::hosts::Place;
    use super::*;

    fn host(name: &str) -> Host {
        Host { place: Place::Tcp { name: name.into(), address: None }, port: 5432 }
    }

    #[test]
    fn several_failures_make_one_line_and_the_furthest_gives_the_kind() {
        let unreachable = || ConnectError::new(ConnectErrorKind::Unreachable, "connection refused");
        let mut failures = Failures::default();
        failures.push(&host("a"), unreachable());
        failures.push(&host("a"), unreachable());
        failures
            .push(&host("a"), ConnectError::new(ConnectErrorKind::Unreachable, "timeout expired"));
        failures.push(
            &host("b"),
            ConnectError::new(ConnectErrorKind::NotReady, "session is read-only"),
        );
        failures.push(&host("c"), unreachable());
        let error = failures.into_error();
        assert_eq!(error.kind(), ConnectErrorKind::NotReady);
        assert!(error.is_transient());
        assert_eq!(
            error.to_string(),
            "could not connect to server on host \"a\", port 5432: connection refused; timeout expired; \
             on host \"b\", port 5432: session is read-only; on host \"c\", port 5432: connection refused"
        );
    }

    #[test]
    fn a_shuffled_list_has_the_same_members() {
        let mut list: Vec<u32> = (0..100).collect();
        shuffle_if(false, &mut list);
        assert!(list.is_sorted());
        shuffle_if(true, &mut list);
        assert!(!list.is_sorted());
        list.sort_unstable();
        assert_eq!(list, (0..100).collect::<Vec<_>>());
    }
}
