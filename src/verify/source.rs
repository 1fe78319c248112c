//! Where files are read: on this host, without the server, or by the server, which
//! sends them.

use super::reader::{DataDirectory, Reader};
use super::{FilesFrom, VerifyError, VerifyOptions};
use crate::server::connect::Target;
use crate::server::files::{ForkFile, directories, forks};
use crate::server::pages::{MAY_READ, POSTMASTER_PID, READ_FUNCTION, postmaster_pid};
use crate::server::session::{ServerFacts, Session, Timeouts};
use crate::server::sql::ident;
use std::ffi::OsStr;
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where files are read.
pub(super) enum Source {
    /// The server reads them, and sends them, to sessions that are opened there.
    Server(Box<Target>, Timeouts),
    Local(DataDirectory),
}

impl Source {
    pub(super) async fn of(
        target: Target,
        session: &Session,
        options: &VerifyOptions,
    ) -> Result<Self, VerifyError> {
        let timeouts = options.timeouts;
        let local = match &options.files {
            FilesFrom::DataDirectory(dir) => {
                let directory = DataDirectory::new(dir, timeouts.read(), &options.hanging);
                let mut reader = directory.reader().map_err(|e| directory.wrong(&e))?;
                directory.must_be_of(&mut reader, session.server()).await?;
                Some(directory)
            }
            FilesFrom::Found => found(session, options).await?,
            FilesFrom::Server => None,
        };
        Ok(local.map_or_else(|| Self::Server(Box::new(target), timeouts), Self::Local))
    }

    pub(super) async fn directories(
        &self,
        session: &Session,
        database: u32,
    ) -> Result<Vec<String>, VerifyError> {
        match self {
            Self::Server(..) => match directories(session, database).await {
                Err(e) if e.is_permission() => Err(forbidden(session).await),
                other => Ok(other?),
            },
            Self::Local(directory) => {
                let major = session.server().version / 10_000;
                let mut reader = directory.reader().map_err(|e| directory.wrong(&e))?;
                let found = reader.directories(major, database).await;
                found.map_err(|e| directory.wrong(&e))
            }
        }
    }

    pub(super) async fn forks(
        &self,
        session: &Session,
        directory: &str,
    ) -> Result<Vec<ForkFile>, VerifyError> {
        match self {
            Self::Server(..) => match forks(session, directory).await {
                Err(e) if e.is_permission() => Err(forbidden(session).await),
                other => Ok(other?),
            },
            Self::Local(data) => data.forks(directory).await,
        }
    }

    /// Listing directories is one right, reading files another.
    pub(super) async fn may_read(&self, session: &Session) -> Result<(), VerifyError> {
        if matches!(self, Self::Local(_)) {
            return Ok(());
        }
        match session.value(MAY_READ).await {
            Err(e) if e.is_permission() => Err(forbidden(session).await),
            other => Ok(other.map(|_| ())?),
        }
    }
}

impl DataDirectory {
    pub(super) fn wrong(&self, why: &impl Display) -> VerifyError {
        VerifyError::DataDirectory(format!("data directory \"{}\": {why}", self.dir.display()))
    }

    pub(super) async fn forks(&self, directory: &str) -> Result<Vec<ForkFile>, VerifyError> {
        let mut reader = self.reader().map_err(|e| self.wrong(&e))?;
        reader.forks(directory).await.map_err(|e| self.wrong(&e))
    }

    /// It must be of the cluster that we are connected to: else names would be
    /// told of other files.
    async fn must_be_of(
        &self,
        reader: &mut Reader,
        server: &ServerFacts,
    ) -> Result<(), VerifyError> {
        let control = reader.control().await.map_err(|e| self.wrong(&e))?;
        let own = control.system_identifier.to_string();
        match &server.system_identifier {
            Some(server) if *server == own => Ok(()),
            None => Err(self.wrong(&"the server does not say which cluster it is")),
            Some(server) => {
                Err(self
                    .wrong(&format!("it is of another cluster ({own}) than the server ({server})")))
            }
        }
    }
}

/// The data directory of the server that we are connected to by a Unix socket, if it is
/// on this host and we may read it: then the server and we see the same
/// `postmaster.pid`, in which are the server's process and when it was started.
async fn found(
    session: &Session,
    options: &VerifyOptions,
) -> Result<Option<DataDirectory>, VerifyError> {
    if !session.is_by_unix_socket() {
        return Ok(None);
    }
    let Some(theirs) = postmaster_pid(session).await? else { return Ok(None) };
    let Some(dir) = data_directory(&theirs) else { return Ok(None) };
    let directory = DataDirectory::new(dir, options.timeouts.read(), &options.hanging);
    let Ok(mut reader) = directory.reader() else { return Ok(None) };
    if reader.file(POSTMASTER_PID).await.ok() != Some(theirs.clone())
        || directory.must_be_of(&mut reader, session.server()).await.is_err()
    {
        return Ok(None);
    }
    let (major, database) = (session.server().version / 10_000, session.server().database_oid);
    let Ok(directories) = reader.directories(major, database).await else { return Ok(None) };
    for own in directories {
        let files = reader.forks(&own).await.map(|forks| forks.len());
        // A tablespace may have nothing of this database.
        if files.is_err() || (files.is_ok_and(|n| n == 0) && !own.starts_with("pg_tblspc/")) {
            return Ok(None);
        }
    }
    tracing::info!("files are read in {}, which is on this host", dir.display());
    Ok(Some(directory))
}

/// Where a server's `postmaster.pid` says that it is.
fn data_directory(postmaster_pid: &[u8]) -> Option<&Path> {
    let line = postmaster_pid.split(|byte| *byte == b'\n').nth(1)?;
    Some(Path::new(OsStr::from_bytes(line))).filter(|dir| dir.is_absolute())
}

async fn forbidden(session: &Session) -> VerifyError {
    let role = match session.renew_snapshot().await {
        Ok(()) => session.value("SELECT current_user").await.ok().flatten(),
        Err(_) => None,
    };
    let role = ident(&role.unwrap_or_default());
    VerifyError::Forbidden(format!(
        "role {role} may not read the files of the server, which pages are checked in; a \
         superuser can allow it, in this database: GRANT EXECUTE ON FUNCTION \
         pg_catalog.pg_ls_dir(text, boolean, boolean), pg_catalog.pg_stat_file(text, boolean), \
         {READ_FUNCTION} TO {role}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_line_of_postmaster_pid_is_the_data_directory() {
        let told = b"7\n/var/lib/pg\xff data\n1764513000\n5432\n/tmp\n\n  1 2\nready   \n";
        let dir = data_directory(told).unwrap();
        assert_eq!(dir.as_os_str().as_bytes(), b"/var/lib/pg\xff data");
        for broken in ["", "7", "7\n", "7\n\n", "7\nrelative\n"] {
            assert_eq!(data_directory(broken.as_bytes()), None, "{broken:?}");
        }
    }
}
