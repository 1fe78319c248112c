//! In which order sessions hung up.
//!
//! When a backend crashes, its socket is closed before the postmaster hears of its death, and only then are the others
//! ended. So the session that hung up first is the one to ask, and all that hung up later are innocent of that crash,
//! whatever they said: most say nothing, since a backend that is blocked in sending rows cannot.
//!
//! The kernel keeps hang-ups in the order in which they happened (the ready list of an epoll instance), however late
//! it is asked, and however many rows of the session are still to be read.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::event::epoll;
use rustix::fs::Timespec;

use super::{ConnectError, ConnectErrorKind, Connected};
use crate::server::words;

/// So many hang-ups are asked for at a time.
const EVENTS: usize = 64;

/// The sessions that are watched. A session that is lost is to be asked for ([`HangUps::order`]) before it is dropped.
#[derive(Debug)]
pub struct HangUps {
    epoll: OwnedFd,
    order: Mutex<Vec<u64>>,
}

impl HangUps {
    /// Watches nobody yet.
    pub fn new() -> Result<HangUps, ConnectError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(unwatched)?;
        Ok(HangUps { epoll, order: Mutex::default() })
    }

    /// Watches a session, under a number that is the caller's to choose.
    pub fn watch(&self, session: &Connected, number: u64) -> Result<(), ConnectError> {
        let flags = epoll::EventFlags::RDHUP | epoll::EventFlags::ONESHOT;
        let number = epoll::EventData::new_u64(number);
        epoll::add(&self.epoll, session.socket(), number, flags).map_err(unwatched)
    }

    /// Who hung up so far, the first one first.
    pub fn order(&self) -> Vec<u64> {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let mut events = Vec::with_capacity(EVENTS);
            // An error says that nothing more is known.
            let waited = epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                Some(&at_once),
            );
            order.extend(events.iter().map(|event| event.data.u64()));
            if waited.is_err() || events.is_empty() {
                return order.clone();
            }
        }
    }

    /// That one was lost for a reason of its own.
    pub fn forget(&self, number: u64) {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).retain(|&n| n != number);
    }
}

/// Out of descriptors or memory: it may be had later.
fn unwatched(error: rustix::io::Errno) -> ConnectError {
    let words = words::io_words(&error.into());
    ConnectError::new(ConnectErrorKind::Unreachable, format!("could not watch a session: {words}"))
}
