//! Relations of which nothing can be planned: plain COPY is all there is.

use super::columns::read_without;
use super::{End, Reading, Stretch, is_whole};
use crate::heap::Ctid;
use crate::output::manifest::RowClass;
use crate::output::{Content, OutputError};
use crate::server::fault::{Fault, Phase, Words, is_of_type, is_refusal};
use std::sync::atomic::Ordering::Relaxed;

/// Whether parts of a relation can be read by themselves.
pub(super) enum Plannable {
    Yes,
    /// From now on, in another form.
    Otherwise,
    No(Words),
}

/// Before many narrower reads are tried: can anything of this relation be
/// planned at all? Damaged statistics say no, unless they are not asked; a
/// damaged index of it says no for good, and plain COPY is then all there is.
pub(super) async fn plannable(at: &Reading<'_>, stretch: &mut Stretch) -> Plannable {
    if stretch.plans || (is_whole(stretch) && at.readable.plain) {
        return Plannable::Yes;
    }
    let past = at.readable.past_statistics();
    let past = Reading { readable: &past, ..*at };
    match why_not(at).await {
        // The session is lost, and that is for the next statement to say.
        None => Plannable::Yes,
        Some(None) => {
            stretch.plans = true;
            Plannable::Yes
        }
        // Somebody in the way is no reason to give up.
        Some(Some(words)) if is_refusal(&words) => Plannable::Yes,
        Some(Some(words)) => {
            stretch.past_statistics = matches!(why_not(&past).await, Some(None));
            if stretch.past_statistics {
                stretch.plans = true;
                return Plannable::Otherwise;
            }
            // What a catalog does not say the other way may.
            let other = at.other_way && !is_of_type(&words);
            stretch.plans = !other && can_do_without(at, stretch).await;
            if stretch.plans { Plannable::Yes } else { Plannable::No(words) }
        }
    }
}

/// Why a part cannot be read, if it cannot. None: the session is lost.
async fn why_not(at: &Reading<'_>) -> Option<Option<Words>> {
    match at.session.probe(&at.readable.probe()).await {
        Ok(()) => Some(None),
        Err(e) => {
            at.session.undo_reading().await.ok()?;
            Some(Some(e.words().clone()))
        }
    }
}

/// Whether it is for some columns alone that nothing can be read: their types
/// need a library that is missing, say. They are then left out.
async fn can_do_without(at: &Reading<'_>, stretch: &mut Stretch) -> bool {
    let columns = at.readable.columns.len();
    let bare = at.readable.columns_of(Ctid::start_of(0), 0..0);
    if at.session.probe(&bare).await.is_err() {
        // An error here would be said by the next statement, too.
        let _ = at.session.undo_reading().await;
        return false;
    }
    let mut left = columns;
    for column in 0..columns {
        left -= usize::from(read_without(at, stretch, column).await);
    }
    left > 0 && left < columns
}

/// Nothing but plain COPY can read this relation, and that fails at a place
/// which nobody knows: what comes before it is suspect, and better than nothing.
pub(super) async fn read_unplannable(
    at: &Reading<'_>,
    stretch: &mut Stretch,
    words: Words,
) -> Result<End, OutputError> {
    let message = format!(
        "only plain COPY can read it, since nothing else can be planned ({}), and that ends at the \
         first damage",
        words.one_line()
    );
    let words = Words { message, severity: String::new(), ..words };
    let mark = stretch.lanes.of(RowClass::Suspect).mark().await?;
    if !stretch.whole || stretch.lanes.clean().rows() > 0 || !at.readable.plain {
        return Ok(End::Refused(words));
    }
    let Ok(mut copy) = at.session.copy(&at.readable.whole()).await else {
        return Ok(End::Refused(words));
    };
    loop {
        match copy.next().await {
            Ok(Some(bytes)) => {
                let count = memchr::memchr_iter(b'\n', &bytes).count() as u64;
                at.progress.rows.fetch_add(count, Relaxed);
                stretch.lanes.of(RowClass::Suspect).write(&bytes, Content::of_count(count)).await?;
            }
            Ok(None) => return Ok(End::Refused(words)),
            Err(e) if e.fault(Phase::Rows, None) == Fault::SessionLost => {
                stretch.lanes.of(RowClass::Suspect).rollback(&mark).await?;
                return Ok(End::SessionLost(words));
            }
            Err(_) => {
                // An error here would be said by the next statement, too.
                let _ = at.session.undo_reading().await;
                return Ok(End::Refused(words));
            }
        }
    }
}
