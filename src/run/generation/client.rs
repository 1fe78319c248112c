//! What a client program of PostgreSQL is given to look at the database as our
//! sessions do.

use super::{Generations, Way};
use crate::server::connect::ForClient;
use std::sync::atomic::Ordering::Relaxed;

/// How a client program connects, and the snapshot that it may use.
pub(in crate::run) struct Guest {
    pub connection: ForClient,
    pub snapshot: String,
    /// The number of the snapshot.
    pub number: u32,
}

impl Generations {
    /// For a program that is to see what the workers see. `past_indexes`: it is
    /// not to use the indexes of the system catalogs.
    pub(in crate::run) async fn guest(&self, past_indexes: bool) -> Guest {
        let current = self.current.lock().await;
        let past_indexes = past_indexes || self.past_indexes.load(Relaxed);
        let target = self.target(Way::Usual).past_system_indexes(past_indexes);
        Guest {
            connection: current.holder.for_client(&target).await,
            snapshot: current.snapshot.clone(),
            number: current.number(),
        }
    }

    /// Whether this is still the snapshot of now, and the server there.
    pub(in crate::run) async fn is_current(&self, number: u32) -> bool {
        let current = self.current.lock().await;
        current.number() == number && current.holder.execute("SELECT 1").await.is_ok()
    }
}
