//! What a client program of PostgreSQL is to be given so that it connects as a session of ours has.

use super::connected::Connected;
use super::hosts::{Host, Place};
use super::target::Target;

/// Said to the client in other words, or not at all: which of several hosts it is was decided by the session, and
/// what is secret is not put on a command line.
const NOT_PASSED_ON: [&str; 13] = [
    "application_name",
    "dbname",
    "fallback_application_name",
    "host",
    "hostaddr",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "service",
    "sslpassword",
    "target_session_attrs",
    "user",
];

/// How a client program connects to the server that a session is on.
pub struct ForClient {
    /// A connection string without anything secret.
    pub conninfo: String,
    /// Variables of its environment. The password is in them, if there is one.
    pub environment: Vec<(&'static str, String)>,
}

impl Target {
    /// For the server of this session. `settings`: what is to be set when the client's session begins, as in the
    /// `options` of a connection.
    pub async fn for_client(&self, session: &Connected, settings: &str) -> ForClient {
        let entered = self.entered.lock().await.clone();
        let password = self.password(session.host(), entered).0;
        let environment = password.map(|password| ("PGPASSWORD", password.0));
        let conninfo = self.conninfo(session.host(), settings);
        ForClient { conninfo, environment: environment.into_iter().collect() }
    }

    fn conninfo(&self, host: &Host, settings: &str) -> String {
        let mut words = match &host.place {
            Place::Socket(directory) => vec![("host", directory.display().to_string())],
            Place::Tcp { name, address } => {
                let address = address.iter().map(|address| ("hostaddr", address.clone()));
                let name = Some(name).filter(|name| !name.is_empty());
                name.map(|name| ("host", name.clone())).into_iter().chain(address).collect()
            }
        };
        words.push(("port", host.port.to_string()));
        words.push(("user", self.user().to_owned()));
        words.push(("dbname", self.dbname().to_owned()));
        let own = self.options().unwrap_or_default();
        let options = [own.as_str(), settings].join(" ").trim().to_owned();
        if !options.is_empty() {
            words.push(("options", options));
        }
        words.push(("application_name", "pg_salvage".to_owned()));
        let given = self.settings.given.iter().filter(|(name, _)| !NOT_PASSED_ON.contains(name));
        words.extend(given.cloned());
        let words = words.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        words.collect::<Vec<_>>().join(" ")
    }
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::super::ConnectArgs;
    use super::*;

    #[test]
    fn nothing_secret_is_on_the_command_line_of_a_client() {
        let text = "host=a,b port=1,2 user='o''w' password=secret1 sslpassword=secret2 dbname=d \
                    sslmode=require connect_timeout=3 target_session_attrs=any options='-c x=1'";
        let text = text.replace("'o''w'", "o\\'w");
        let args = ConnectArgs { dbname: Some(text), ..ConnectArgs::default() };
        let env = |name: &str| (name == "PGPASSWORD").then(|| "secret3".to_owned());
        let target = Target::resolve(&args, &env).unwrap();
        let conninfo = target.conninfo(&target.settings.hosts[1], "-c y=off");
        assert_eq!(
            conninfo,
            "host='b' port='2' user='o\\'w' dbname='d' options='-c x=1 -c y=off' \
             application_name='pg_salvage' connect_timeout='3' sslmode='require'"
        );
    }
}
