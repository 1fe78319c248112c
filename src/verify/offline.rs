//! A data directory of which the server is down: the files of all databases,
//! by their paths.

use super::reader::{DataDirectory, ReaderError};
use super::report::{self, Looked};
use super::work::Work;
use super::{File, FilesFrom, Source, VerifyError, VerifyOptions, lengths, work};
use crate::page::check::Kind;
use crate::page::control::Control;
use crate::progress::Progress;
use crate::server::session::ServerFacts;
use std::sync::Arc;

/// Pages that were half written when the server went down: it has them whole in
/// its WAL.
const NOT_SHUT_DOWN: &str = "the server was not shut down: it runs, or has crashed; what it was \
    writing then is called damaged here, and is mended when it starts";

pub(super) async fn verify(
    options: &VerifyOptions,
    progress: Arc<Progress>,
) -> Result<Looked, VerifyError> {
    let FilesFrom::DataDirectory(dir) = &options.files else {
        return Err(VerifyError::DataDirectory("no data directory was given".to_owned()));
    };
    if !options.selection.is_everything() {
        return Err(VerifyError::Selection(
            "without the server nobody knows which file belongs to which table: leave out -n, -N, \
             -t, -T"
                .to_owned(),
        ));
    }
    let data = DataDirectory::new(dir, options.timeouts.read(), &options.hanging);
    let wrong = |why: ReaderError| data.wrong(&why);
    let mut reader = data.reader().map_err(wrong)?;
    let control = reader.control().await.map_err(wrong)?;
    let major = reader.version().await.map_err(wrong)?;
    let server = Arc::new(facts(&control, major));
    let mut notes = vec![
        "files are named by their paths: pg_salvage locate tells whose they are, \
              with the server up"
            .to_owned(),
    ];
    // What was not written when the server went down is in WAL only.
    let redo = match control.is_shut_down {
        true => u64::MAX,
        false => {
            notes.push(NOT_SHUT_DOWN.to_owned());
            control.redo
        }
    };
    let mut files = Vec::new();
    for directory in reader.all_directories(major).await.map_err(wrong)? {
        let forks = reader.forks(&directory).await.map_err(wrong)?;
        files.extend(forks.into_iter().map(|fork| {
            let kind = if fork.fork().1 == "main" { Kind::Unknown } else { Kind::Other };
            File::new(fork, None, kind)
        }));
    }
    let again = async |directory: &str| data.forks(directory).await;
    lengths::check(&server, &mut files, again).await?;
    let source = Source::Local(data.clone());
    let work = Arc::new(Work::new((source, server), &files, (redo, &options.last_ok), progress));
    work::look_at_all(&work, options.jobs, None, &mut files, &mut notes).await;
    Ok(report::looked(work.server.clone(), "", files, notes))
}

/// What the directory tells of its server, without it.
fn facts(control: &Control, major: u32) -> ServerFacts {
    ServerFacts {
        version: major.saturating_mul(10_000),
        version_text: major.to_string(),
        block_size: control.block_size,
        segment_blocks: control.segment_blocks,
        data_checksums: control.data_checksums,
        system_identifier: Some(control.system_identifier.to_string()),
        ..ServerFacts::default()
    }
}
