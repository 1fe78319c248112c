//! Pages whose checksums are wrong, read all the same.
//!
//! Only the page itself is read unchecked: another session, the loader, has it
//! taken into the server's cache, and looks at nothing in it. From there the
//! reads that follow get it in the usual way, with their checks on; so neither
//! a page of TOAST nor one of a catalog or an index is ever read unchecked.
//!
//! The price: what is in the cache, all sessions of the server get without an
//! error, until it leaves it again. So it is written down before, and such a
//! page is never taken for a good one by a later read of ours.

use super::pages::{Image, save};
use super::{End, Reading, Stretch};
use crate::heap::{BlockNumber, Place, Read, Rows};
use crate::output::OutputError;
use crate::server::fault::{Fault, Phase, Words};
use crate::server::session::{ReadError, Session};
use std::sync::atomic::Ordering::Relaxed;

/// Whether the page of an unchecked read is there.
pub(super) enum Load {
    Ready,
    /// It cannot be, and what is left of its block is lost.
    Lost,
    End(Box<End>),
}

/// Has the page of the next read taken into the server's cache: again before each
/// read, for it may have left it.
pub(super) async fn load(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    (block, read): (BlockNumber, &Read),
) -> Result<Load, OutputError> {
    let loader = match at.loader {
        Some(Ok(loader)) => loader,
        Some(Err(why)) => return lose(at, stretch, read, refusal(why)).await,
        None => return Ok(Load::End(End::NoLoader.into())),
    };
    if stretch.loaded != Some(block) {
        match save(at, block, true).await? {
            Image::Kept => {}
            Image::None(why) => {
                let why = format!("there is no image of the page: {why}");
                return lose(at, stretch, read, refusal(&why)).await;
            }
            Image::Interrupted(error) => return Ok(Load::End(ended(at, &error).into())),
        }
        match in_recovery(at, loader).await {
            Ok(true) => {}
            Ok(false) => {
                let why = "the server is no standby any more";
                return lose(at, stretch, read, refusal(why)).await;
            }
            Err(error) => return Ok(Load::End(of_loader(&error).into())),
        }
        if at.pages.note_unchecked(block).await? {
            at.source.unchecked.fetch_add(1, Relaxed);
        }
        stretch.loaded = Some(block);
    }
    let Err(error) = loader.execute(&at.readable.load(block)).await else {
        return Ok(Load::Ready);
    };
    tracing::debug!("{}", error.words().one_line());
    match error.fault(Phase::Rows, Some(at.path)) {
        Fault::SessionLost | Fault::Environment | Fault::Hung => {
            return Ok(Load::End(of_loader(&error).into()));
        }
        Fault::Damage(_) | Fault::TooLarge | Fault::Pointless | Fault::Miscounted => {}
    }
    if let Err(error) = loader.undo_reading().await {
        return Ok(Load::End(of_loader(&error).into()));
    }
    lose(at, stretch, read, error.words().clone()).await
}

/// Whether it is still allowed: a standby may have been promoted.
async fn in_recovery(at: &Reading<'_>, loader: &Session) -> Result<bool, ReadError> {
    if at.source.on_primary {
        return Ok(true);
    }
    let answer = loader.value("SELECT pg_catalog.pg_is_in_recovery()").await?;
    Ok(answer.as_deref() == Some("t"))
}

fn ended(at: &Reading<'_>, error: &ReadError) -> End {
    let words = error.words().clone();
    match error.fault(Phase::Rows, Some(at.path)) {
        Fault::SessionLost => End::SessionLost(words),
        Fault::Hung if at.session.is_given_up() => End::Hung,
        _ => End::Environment(words),
    }
}

fn of_loader(error: &ReadError) -> End {
    let words = error.words().clone();
    match error.fault(Phase::Rows, None) {
        Fault::SessionLost => End::LoaderLost(words),
        _ => End::Environment(words),
    }
}

fn refusal(why: &str) -> Words {
    Words { message: format!("the page is not read unchecked: {why}"), ..Words::default() }
}

async fn lose(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    read: &Read,
    words: Words,
) -> Result<Load, OutputError> {
    let place = stretch.salvage.unchecked().map_or(Place::Unknown, Place::Page);
    let recorded = stretch.salvage.lose_page();
    stretch.findings.error(read, (place, false), &words, &recorded);
    at.progress.damaged.fetch_add(1, Relaxed);
    match recorded.rows {
        Rows::Settled(class) => super::flush(stretch, class).await?,
        Rows::Undo => stretch.lanes.clear_held(),
        Rows::Clean | Rows::Hold => {}
    }
    Ok(Load::Lost)
}
