//! Puts together the options from the command line, the service file and the environment, in libpq's order.

use std::collections::BTreeMap;

use super::keywords::{self, KEYWORDS, Keyword};
use super::{ConnectArgs, ConnectError, conninfo, servicefile, uri};

/// The options that were set, by name, before anything is made of them.
#[derive(Default)]
pub(super) struct Params(BTreeMap<&'static str, String>);

impl Params {
    /// As psql and pg_dump hand them to libpq: a connection string in `-d` overrides `-h`, `-p` and `-U`; what neither
    /// says comes from the service, then from the environment.
    pub(super) fn merge(
        args: &ConnectArgs,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Params, ConnectError> {
        let mut params = Params::default();
        for (name, value) in [("host", &args.host), ("port", &args.port), ("user", &args.user)] {
            // libpq takes an empty argument for none.
            if let (Some(keyword), Some(value)) =
                (keywords::find(name), value.as_deref().filter(|v| !v.is_empty()))
            {
                params.set(keyword, value.into());
            }
        }
        match args.dbname.as_deref() {
            Some(text) if conninfo::is_conninfo(text) => {
                let options = match uri::without_scheme(text) {
                    Some(_) => uri::parse(text)?,
                    None => conninfo::parse(text)?,
                };
                options.into_iter().for_each(|(keyword, value)| params.set(keyword, value));
            }
            Some(name) if !name.is_empty() => params.add("dbname", name.into()),
            _ => {}
        }
        let service = params.get("service").map(String::from).or_else(|| env("PGSERVICE"));
        if let Some(service) = service.filter(|service| !service.is_empty()) {
            for (keyword, value) in servicefile::load(&service, env)? {
                params.add(keyword.name, value);
            }
        }
        for keyword in KEYWORDS {
            if let Some(value) = keyword.env.and_then(env) {
                params.add(keyword.name, value);
            }
        }
        params.check()?;
        Ok(params)
    }

    /// The value, if it was set and is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All that was set, and is not empty.
    pub(super) fn all(&self) -> Vec<(&'static str, String)> {
        let set = self.0.iter().filter(|(_, value)| !value.is_empty());
        set.map(|(name, value)| (*name, value.clone())).collect()
    }

    /// The value, which may be empty. For choices, where libpq does not take an empty word for none.
    pub(super) fn choice(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn set(&mut self, keyword: &'static Keyword, value: String) {
        self.0.insert(keyword.name, value);
    }

    fn add(&mut self, name: &'static str, value: String) {
        self.0.entry(name).or_insert(value);
    }

    fn check(&self) -> Result<(), ConnectError> {
        for keyword in KEYWORDS {
            if let Some(value) = self.0.get(keyword.name) {
                keyword.check(value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(
        args: &ConnectArgs,
        env: &[(&str, &str)],
    ) -> Result<BTreeMap<&'static str, String>, String> {
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        Params::merge(args, &env).map(|params| params.0).map_err(|error| error.to_string())
    }

    #[test]
    fn a_connection_string_beats_the_options_and_these_beat_the_environment() {
        let env = [
            ("PGHOST", "e"),
            ("PGPORT", "3"),
            ("PGUSER", "eu"),
            ("PGDATABASE", "ed"),
            ("PGCLIENTENCODING", "x"),
        ];
        let args = ConnectArgs {
            host: Some("o".into()),
            port: Some("2".into()),
            dbname: Some("host=c".into()),
            ..ConnectArgs::default()
        };
        let params = merged(&args, &env).unwrap();
        let expected = [("dbname", "ed"), ("host", "c"), ("port", "2"), ("user", "eu")];
        assert_eq!(params, expected.map(|(k, v)| (k, v.to_string())).into());
    }

    #[test]
    fn an_empty_option_is_none_and_a_bare_name_is_a_database() {
        let args = ConnectArgs {
            host: Some("".into()),
            dbname: Some("d".into()),
            ..ConnectArgs::default()
        };
        let params = merged(&args, &[("PGHOST", "e")]).unwrap();
        assert_eq!(
            params,
            [("dbname", "d"), ("host", "e")].map(|(k, v)| (k, v.to_string())).into()
        );
    }

    #[test]
    fn a_service_stands_between_the_options_and_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pg_service.conf");
        std::fs::write(&path, "[s]\nhost=sh\nport=9\nuser=su\n").unwrap();
        let system = directory.path().to_string_lossy().into_owned();
        let args = ConnectArgs { user: Some("o".into()), ..ConnectArgs::default() };
        let file = path.to_string_lossy().into_owned();
        for place in [("PGSERVICEFILE", file.as_str()), ("PGSYSCONFDIR", &system)] {
            let env = [("PGSERVICE", "s"), ("PGHOST", "e"), ("PGDATABASE", "ed"), place];
            let params = merged(&args, &env).unwrap();
            let expected = [("dbname", "ed"), ("host", "sh"), ("port", "9"), ("user", "o")];
            assert_eq!(params, expected.map(|(k, v)| (k, v.to_string())).into());
        }
        let env = [("PGSERVICE", "other"), ("PGSYSCONFDIR", system.as_str())];
        assert_eq!(merged(&args, &env), Err("definition of service \"other\" not found".into()));
        let env = [("PGSERVICE", "s"), ("PGSERVICEFILE", "/nowhere/f")];
        assert_eq!(merged(&args, &env), Err("service file \"/nowhere/f\" not found".into()));
    }

    #[test]
    fn an_option_we_do_not_honour_is_named() {
        for (conninfo, expected) in [
            ("gssencmode=prefer", None),
            ("gssencmode=disable krbsrvname='' replication=off sslcertmode=allow", None),
            ("max_protocol_version=latest client_encoding=auto sslcompression=1", None),
            (
                "gssencmode=require",
                Some(
                    "connection option \"gssencmode\" is not supported with value \"require\", \
                     only with \"disable\" or \"prefer\"",
                ),
            ),
            (
                "require_auth=scram-sha-256",
                Some("connection option \"require_auth\" is not supported"),
            ),
            ("krbsrvname=x", Some("connection option \"krbsrvname\" is not supported")),
            ("oauth_issuer=x", Some("connection option \"oauth_issuer\" is not supported")),
            (
                "replication=database",
                Some(
                    "connection option \"replication\" is not supported with value \"database\", \
                     only with \"false\" or \"off\" or \"no\" or \"0\"",
                ),
            ),
        ] {
            let args = ConnectArgs { dbname: Some(conninfo.into()), ..ConnectArgs::default() };
            assert_eq!(merged(&args, &[]).err().as_deref(), expected, "{conninfo}");
        }
    }
}
