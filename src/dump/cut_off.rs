//! A read during which the connection is lost again and again, with the server
//! well: something on the way (a proxy, a firewall, a limit of the session) will
//! not let it through. The read is narrowed, as if it failed, so that it costs
//! what does not come through and nothing else. It is no damage.

use super::{Cause, Stretch, flush};
use crate::heap::{Outcome, Place, Rows};
use crate::output::OutputError;
use crate::server::fault::Words;

/// Narrows the next read, or gives up what it is about, if that is one tuple.
pub async fn cut_off(stretch: &mut Stretch, words: &Words) -> Result<(), OutputError> {
    stretch.undo_what_came().await?;
    let Some(read) = stretch.salvage.next_read() else { return Ok(()) };
    // Nothing is wrong with the block: its other rows are clean.
    let outcome = Outcome::Failed { last: None, place: Place::Elsewhere };
    let recorded = stretch.salvage.record(outcome);
    stretch.findings.hindered(Cause::ConnectionLost, &read, words, &recorded);
    match recorded.rows {
        Rows::Settled(class) => flush(stretch, class).await,
        _ => Ok(()),
    }
}
