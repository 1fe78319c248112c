//! A data directory of which the server is down: the files of all databases,
//! by their paths.

use super::local::Local;
use super::report::{self, Looked};
use super::work::Work;
use super::{File, Source, VerifyError, VerifyOptions, lengths, unreadable, work};
use crate::page::check::Kind;
use crate::progress::Progress;
use std::sync::Arc;

/// Pages that were half written when the server went down: it has them whole in
/// its WAL.
const NOT_SHUT_DOWN: &str = "the server was not shut down: it runs, or has crashed; what it was \
    writing then is called damaged here, and is mended when it starts";

pub(super) async fn verify(
    options: &VerifyOptions,
    progress: Arc<Progress>,
) -> Result<Looked, VerifyError> {
    let Some(dir) = &options.pgdata else {
        return Err(VerifyError::DataDirectory("no data directory was given".to_owned()));
    };
    if !options.selection.is_everything() {
        return Err(VerifyError::Selection(
            "without the server nobody knows which file belongs to which table: leave out -n, -N, \
             -t, -T"
                .to_owned(),
        ));
    }
    let local = Local::open(dir)?;
    let server = Arc::new(local.facts()?);
    let mut notes = vec![
        "files are named by their paths: pg_salvage locate tells whose they are, \
              with the server up"
            .to_owned(),
    ];
    // What was not written when the server went down is in WAL only.
    let redo = match local.control().is_shut_down {
        true => u64::MAX,
        false => {
            notes.push(NOT_SHUT_DOWN.to_owned());
            local.control().redo
        }
    };
    let mut files = Vec::new();
    for directory in local.all_directories(server.version).map_err(unreadable)? {
        let forks = local.forks(&directory).map_err(unreadable)?;
        files.extend(forks.into_iter().map(|fork| {
            let kind = if fork.fork().1 == "main" { Kind::Unknown } else { Kind::Other };
            File::new(fork, None, kind)
        }));
    }
    let again = async |directory: &str| local.forks(directory).map_err(unreadable);
    lengths::check(&server, &mut files, again).await?;
    let source = Source::Local(local.clone());
    let work = Arc::new(Work::new((source, server), &files, (redo, &options.last_ok), progress));
    work::look_at_all(&work, options.jobs, None, &mut files, &mut notes).await;
    Ok(report::looked(work.server.clone(), "", files, notes))
}
