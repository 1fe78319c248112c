//! Where to connect, as whom, and how: everything that was asked for, with its meaning.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::config::ChannelBinding;

use super::hosts::{self, Host};
use super::params::Params;
use super::passfile::PassFile;
use super::settings::{self, Keepalives, SessionAttrs, TlsSettings};
use super::{ConnectArgs, ConnectError, Password, PasswordPrompt, home};

/// Where to connect, as whom, and how. Clones share the password that was asked for at the terminal.
#[derive(Clone)]
pub struct Target {
    pub(super) settings: Arc<Settings>,
    dbname: String,
    pub(super) entered: Arc<Mutex<Option<Password>>>,
    past_indexes: bool,
}

/// What is the same for all databases of the server.
pub(super) struct Settings {
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    pub(super) options: Option<String>,
    pub(super) application_name: String,
    password: Option<Password>,
    passfile: Option<PassFile>,
    pub(super) prompt: PasswordPrompt,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) keepalives: Keepalives,
    pub(super) tls: TlsSettings,
    pub(super) channel_binding: ChannelBinding,
    pub(super) session_attrs: SessionAttrs,
    pub(super) load_balance: bool,
    /// All that was asked for, as it was written.
    pub(super) given: Vec<(&'static str, String)>,
}

impl Target {
    /// Makes of the command line and the environment what libpq would make of it. `env` is
    /// `&|name| std::env::var(name).ok()` outside of tests.
    pub fn resolve(
        args: &ConnectArgs,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Target, ConnectError> {
        let params = Params::merge(args, env)?;
        let user = match params.get("user") {
            Some(user) => user.to_string(),
            None => whoami::username().map_err(|error| {
                ConnectError::usage(format!("could not look up local user: {error}"))
            })?,
        };
        let home = home(env);
        let passfile = match params.get("passfile") {
            Some(file) => Some(PathBuf::from(file)),
            None => home.as_ref().map(|home| home.join(".pgpass")),
        };
        let password = params.get("password").map(|password| Password(password.into()));
        let settings = Settings {
            hosts: hosts::list(&params)?,
            options: params.get("options").map(String::from),
            application_name: ["application_name", "fallback_application_name"]
                .iter()
                .find_map(|name| params.get(name))
                .unwrap_or("pg_salvage")
                .to_string(),
            passfile: passfile
                .filter(|_| password.is_none())
                .and_then(|path| PassFile::read(&path)),
            password,
            prompt: args.password,
            connect_timeout: settings::connect_timeout(&params)?,
            keepalives: Keepalives::read(&params)?,
            tls: TlsSettings::read(&params, home)?,
            channel_binding: settings::channel_binding(&params)?,
            session_attrs: settings::session_attrs(&params)?,
            load_balance: settings::load_balance(&params)?,
            given: params.all(),
            user,
        };
        let dbname = params.get("dbname").unwrap_or(&settings.user).to_string();
        Ok(Target {
            settings: Arc::new(settings),
            dbname,
            entered: Arc::default(),
            past_indexes: false,
        })
    }

    /// The same server and user, another database.
    pub fn with_dbname(&self, name: &str) -> Target {
        Target { dbname: name.into(), ..self.clone() }
    }

    /// The same, in sessions that use the indexes of the system catalogs, or that
    /// do not: for where those are damaged. It is slow, and can be had at the
    /// start of a session only.
    pub fn past_system_indexes(&self, past_indexes: bool) -> Target {
        Target { past_indexes, ..self.clone() }
    }

    /// Whether its sessions do not use the indexes of the system catalogs.
    pub fn is_past_system_indexes(&self) -> bool {
        self.past_indexes
    }

    /// The `options` of the startup message.
    pub(super) fn options(&self) -> Option<String> {
        let own = self.settings.options.clone();
        if !self.past_indexes {
            return own;
        }
        let own = own.map(|own| own + " ").unwrap_or_default();
        Some(own + "-c ignore_system_indexes=on")
    }

    /// The database to connect to.
    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// The role to connect as.
    pub fn user(&self) -> &str {
        &self.settings.user
    }

    /// `database "d" on host "h", port 5432 as user "u"`, for people. Never has a password in it.
    pub fn describe(&self) -> String {
        let hosts: Vec<String> = self.settings.hosts.iter().map(Host::to_string).collect();
        format!(
            "database \"{}\" on {} as user \"{}\"",
            self.dbname,
            hosts.join(" or "),
            self.settings.user
        )
    }

    /// The password for that host, and the password file if it is from there. What was typed in counts first.
    pub(super) fn password(
        &self,
        host: &Host,
        entered: Option<Password>,
    ) -> (Option<Password>, Option<&PassFile>) {
        if let Some(password) = entered.or_else(|| self.settings.password.clone()) {
            return (Some(password), None);
        }
        let Some(file) = &self.settings.passfile else { return (None, None) };
        let found = file.find(&host.passfile_name(), host.port, &self.dbname, &self.settings.user);
        let file = found.is_some().then_some(file);
        (found, file)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.describe())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::settings::{RootCert, SslMode};
    use super::*;

    fn resolve(dbname: &str, env: &[(&str, &str)]) -> Result<Target, String> {
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        let args = ConnectArgs { dbname: Some(dbname.into()), ..ConnectArgs::default() };
        Target::resolve(&args, &env).map_err(|error| error.to_string())
    }

    #[test]
    fn hosts_and_ports_go_together_as_libpq_documents_it() {
        for (conninfo, expected) in [
            ("host=h", "host \"h\", port 5432"),
            ("host=h port=1", "host \"h\", port 1"),
            ("host=a,b port=1", "host \"a\", port 1 or host \"b\", port 1"),
            (
                "host=a,b,c port=1,,3",
                "host \"a\", port 1 or host \"b\", port 5432 or host \"c\", port 3",
            ),
            ("host=h hostaddr=127.0.0.1", "host \"h\", port 5432"),
            ("hostaddr=::1,127.0.0.1", "host \"::1\", port 5432 or host \"127.0.0.1\", port 5432"),
            ("hostaddr=fe80::1%eth0", "host \"fe80::1%eth0\", port 5432"),
            ("host=/run/x", "socket directory \"/run/x\", port 5432"),
            ("host=@abstract port=7", "socket directory \"@abstract\", port 7"),
            (
                "postgresql://%2Ftmp,[::1]:9/",
                "socket directory \"/tmp\", port 5432 or host \"::1\", port 9",
            ),
        ] {
            let rest = if conninfo.contains("//") { "d?user=u" } else { " user=u dbname=d" };
            let target = resolve(&format!("{conninfo}{rest}"), &[]);
            assert_eq!(
                target.unwrap().describe(),
                format!("database \"d\" on {expected} as user \"u\"")
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_one_line() {
        for (conninfo, expected) in [
            ("port=x", "invalid integer value \"x\" for connection option \"port\""),
            ("port=65536", "invalid port number: \"65536\""),
            ("port=0", "invalid port number: \"0\""),
            ("port=-1", "invalid port number: \"-1\""),
            ("host=a,b port=1,2,3", "could not match 3 port numbers to 2 hosts"),
            ("host=a,b hostaddr=::1", "could not match 2 host names to 1 hostaddr values"),
            ("hostaddr=h", "could not parse network address \"h\""),
            ("sslmode=on", "invalid sslmode value: \"on\""),
            ("sslmode=''", "invalid sslmode value: \"\""),
            (
                "sslmode=require sslrootcert=system",
                "weak sslmode \"require\" may not be used with sslrootcert=system (use \"verify-full\")",
            ),
            (
                "sslnegotiation=direct",
                "weak sslmode \"prefer\" may not be used with sslnegotiation=direct \
                 (use \"require\", \"verify-ca\", or \"verify-full\")",
            ),
            ("sslnegotiation=x", "invalid sslnegotiation value: \"x\""),
            ("ssl_min_protocol_version=SSLv3", "invalid ssl_min_protocol_version value: \"SSLv3\""),
            ("ssl_max_protocol_version=TLSv1.1", "invalid SSL protocol version range"),
            ("channel_binding=on", "invalid channel_binding value: \"on\""),
            ("target_session_attrs=master", "invalid target_session_attrs value: \"master\""),
            ("load_balance_hosts=on", "invalid load_balance_hosts value: \"on\""),
            (
                "connect_timeout=1s",
                "invalid integer value \"1s\" for connection option \"connect_timeout\"",
            ),
            (
                "keepalives=yes",
                "invalid integer value \"yes\" for connection option \"keepalives\"",
            ),
        ] {
            assert_eq!(resolve(conninfo, &[]).err().as_deref(), Some(expected), "{conninfo}");
        }
    }

    #[test]
    fn the_user_is_the_database_unless_said_otherwise() {
        assert_eq!(resolve("user=u", &[]).unwrap().dbname(), "u");
        assert_eq!(resolve("", &[("PGUSER", "e")]).unwrap().dbname(), "e");
        let target =
            resolve("other", &[("PGUSER", "e"), ("PGHOST", "h")]).unwrap().with_dbname("third");
        assert_eq!(target.describe(), "database \"third\" on host \"h\", port 5432 as user \"e\"");
    }

    #[test]
    fn values_are_read_as_libpq_reads_them() {
        let target = resolve(
            "connect_timeout=3 keepalives=0 sslsni=0 sslrootcert=system options='-c x=1' target_session_attrs=standby",
            &[("HOME", "/home/me"), ("PGAPPNAME", "app"), ("PGSSLMAXPROTOCOLVERSION", "tlsv1.3")],
        );
        let settings = &target.unwrap().settings;
        assert_eq!(settings.connect_timeout, Some(Duration::from_secs(3)));
        assert!(!settings.keepalives.on && !settings.tls.sni);
        assert_eq!(
            (settings.tls.mode, &settings.tls.root),
            (SslMode::VerifyFull, &RootCert::System)
        );
        assert_eq!(settings.tls.cert, Some("/home/me/.postgresql/postgresql.crt".into()));
        assert_eq!(
            (settings.options.as_deref(), settings.application_name.as_str()),
            (Some("-c x=1"), "app")
        );
        assert_eq!(settings.session_attrs, SessionAttrs::Standby);
        let plain = resolve("connect_timeout=0 sslcertmode=disable", &[("HOME", "/h")]).unwrap();
        assert_eq!((plain.settings.connect_timeout, &plain.settings.tls.cert), (None, &None));
        assert_eq!(plain.settings.application_name, "pg_salvage");
    }

    #[test]
    fn passwords_are_found_in_libpqs_order_and_never_printed() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".pgpass");
        fs::write(
            &file,
            "localhost:*:*:*:socket\n/sock:*:*:*:elsewhere\nh:5432:d:u:file\nh:5432:e:u:other\n",
        )
        .unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let home = home.path().to_string_lossy().into_owned();
        let found = |conninfo: &str, env: &[(&str, &str)]| {
            let target = resolve(conninfo, &[&[("HOME", home.as_str())], env].concat()).unwrap();
            assert!(!format!("{target:?} {:?}", target.settings.tls).contains("secret"));
            target.password(&target.settings.hosts[0], None).0.map(|password| password.0)
        };
        let expect = |password: &str| Some(password.to_string());
        assert_eq!(found("host=h user=u dbname=d", &[]), expect("file"));
        assert_eq!(found("host=h hostaddr=::1 user=u dbname=e", &[]), expect("other"));
        assert_eq!(found("host=h user=u dbname=x", &[]), None);
        assert_eq!(found("host=/tmp user=u", &[]), expect("socket"));
        assert_eq!(found("host=/sock user=u", &[]), expect("elsewhere"));
        assert_eq!(found("host=h user=u dbname=d", &[("PGPASSWORD", "secret")]), expect("secret"));
        let conninfo = "host=h user=u dbname=d password=secret1 sslpassword=secret2";
        assert_eq!(found(conninfo, &[("PGPASSWORD", "x")]), expect("secret1"));
        assert_eq!(found("host=h user=u dbname=d", &[("PGPASSFILE", "/nowhere")]), None);
    }
}
