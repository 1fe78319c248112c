//! Rows that are too long to be sent as text: they are in COPY's binary format,
//! in UTF-8, and each may have gigabytes. They go one by one, in pieces.

use super::count;
use super::load::{Loader, Stop, Way, stop};
use super::plan::untouched_file;
use crate::output::BinaryRows;
use crate::output::binary::{HEADER, TRAILER};
use crate::output::manifest::FileEntry;
use crate::output::restored;
use crate::server::restoring::sql;
use bytes::Bytes;

/// A rejected row is not in the rejects itself: it is too long.
const IN_ITS_FILE: &[u8] = b"(in its file)";

/// Loads a file of such rows.
pub(super) async fn file(
    loader: &mut Loader<'_>,
    entry: &FileEntry,
) -> Result<restored::File, Stop> {
    let mut file = restored::File { included: true, ..untouched_file(entry) };
    let path = loader.shared.options.dir.join(&entry.path);
    let mut rows = match BinaryRows::open(&path).await {
        Ok(rows) => rows,
        Err(error) => {
            file.complaint = Some(error.to_string());
            return Ok(file);
        }
    };
    let into = match loader.way {
        Way::Table => &loader.table.qualified,
        Way::Through(_) => sql::NEW,
    };
    let copy_in = sql::copy_in_binary(into, &loader.table.file_columns());
    while rows.next_row().await {
        if loader.shared.progress.stopped() {
            return Err(Stop::Interrupted);
        }
        loader.session.save().await.map_err(stop)?;
        let mut copy = loader.session.copy_in(&copy_in).await.map_err(stop)?;
        copy.send(Bytes::from_static(HEADER)).await.map_err(stop)?;
        while let Some(piece) = rows.piece().await {
            copy.send(piece).await.map_err(stop)?;
        }
        if rows.is_broken() {
            // Without its end the server takes nothing of it.
            drop(copy);
            loader.session.undo().await.map_err(stop)?;
            break;
        }
        copy.send(Bytes::from_static(TRAILER)).await.map_err(stop)?;
        file.read += 1;
        match loader.end(copy, 1).await {
            Ok(took) => loader.keep(&took, &mut file),
            Err(refusal) => {
                let refusal = loader.undo(refusal).await?;
                loader.reject(&mut file, rows.rows(), IN_ITS_FILE, &refusal)?;
            }
        }
        count(&loader.shared.progress, 1, 0);
    }
    file.complaint = rows.complaint(entry);
    Ok(file)
}
