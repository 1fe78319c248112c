//! Two ways to the system catalogs: by their indexes, as ever, and past them.
//!
//! A damaged index of pg_class or pg_attribute keeps relations, or all of them,
//! from being opened, and a session that was begun with ignore_system_indexes
//! does not look at it. But where pg_class itself is damaged such a session
//! fails for everything, since it reads all of pg_class for each name, while by
//! the indexes most relations are found. So the way by which more of the
//! catalogs is had is the usual one, and what cannot be opened by that is tried
//! by the other.

use super::current::{Held, hold};
use super::{Generations, Numbered, ServerGone};
use crate::run::RunError;
use crate::run::job::TRIES_MAX;
use crate::server::catalog;
use crate::server::connect::Target;
use crate::server::inventory::Inventory;
use crate::server::session::{OpenError, Timeouts};
use std::sync::atomic::Ordering::Relaxed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) enum Way {
    Usual,
    /// The one that is not the usual.
    Other,
    /// The usual one, and the other was tried.
    Last,
}

/// Holds a snapshot; past the system's indexes, where no session can be had
/// otherwise. Returns whether that is so.
pub(super) async fn hold_somehow(
    target: &Target,
    timeouts: Timeouts,
) -> Result<(Held, bool), OpenError> {
    let error = match hold(target, timeouts).await {
        Err(e) if e.is_damage() && !target.is_past_system_indexes() => e,
        held => return Ok((held?, target.is_past_system_indexes())),
    };
    match hold(&target.past_system_indexes(true), timeouts).await {
        Ok(held) => {
            tracing::warn!("{error}; going on with ignore_system_indexes");
            Ok((held, true))
        }
        Err(e) if e.is_damage() => Err(OpenError::NoSession(Box::new(error))),
        Err(e) => Err(e),
    }
}

impl Generations {
    /// Where to connect for this way.
    pub(super) fn target(&self, way: Way) -> Target {
        let past = self.past_indexes.load(Relaxed);
        self.target.past_system_indexes(past != (way == Way::Other))
    }

    /// Something was read past the indexes of the catalogs that could not be
    /// read by them, if this way is past them.
    pub(in crate::run) fn has_led(&self, way: Way) {
        if self.target(way).is_past_system_indexes() {
            self.indexes_damaged.store(true, Relaxed);
        }
    }

    /// Whether indexes of the catalogs are damaged, and were not used.
    pub(in crate::run) fn are_indexes_damaged(&self) -> bool {
        self.indexes_damaged.load(Relaxed)
    }

    /// The first session, and the catalogs that it has read. It is lost as any
    /// other may be. `system`: with the tables of the catalogs themselves.
    pub(in crate::run) async fn inventory(
        &self,
        system: bool,
    ) -> Result<(Numbered, Inventory), RunError> {
        let mut tries = 1;
        loop {
            let first = self.session(true).await?;
            match catalog::read_with(&first.session, system).await {
                Ok(inventory) if inventory.damaged.is_empty() => return Ok((first, inventory)),
                Ok(inventory) => return Ok(self.better(first, inventory, system).await),
                Err(e) if first.session.is_closed() && tries < TRIES_MAX => {
                    tracing::info!("{e}; reading the catalogs again");
                    tries += 1;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Catalogs that are read again by the other way: what is better counts, and
    /// its way is the usual one from now on.
    async fn better(
        &self,
        first: Numbered,
        inventory: Inventory,
        system: bool,
    ) -> (Numbered, Inventory) {
        let Ok(other) = self.session_by(Way::Other, true).await else { return (first, inventory) };
        match catalog::read_with(&other.session, system).await {
            Ok(again) if again.missing() < inventory.missing() => {
                self.past_indexes.fetch_xor(true, Relaxed);
                self.has_led(Way::Usual);
                (other, again)
            }
            _ => (first, inventory),
        }
    }

    /// A new session in the snapshot of now, by the usual way.
    pub(in crate::run) async fn session(&self, patient: bool) -> Result<Numbered, ServerGone> {
        self.session_by(Way::Usual, patient).await
    }
}
