//! Appends that wait until there is room.

use std::{collections::BTreeMap, task::Waker};

/// The wakers of the appends that wait, by the number of each place.
#[derive(Debug, Default)]
pub(super) struct WaitingAppends {
    wakers: BTreeMap<u64, Waker>,
    places: u64,
}

impl WaitingAppends {
    /// Keeps the waker of an append that waits. Answers the waker that it replaces, which must be
    /// dropped without the lock: dropping a waker runs code of others.
    pub(super) fn wait(&mut self, place: &mut Option<u64>, waker: &Waker) -> Option<Waker> {
        let place = *place.get_or_insert_with(|| {
            self.places += 1;
            self.places
        });
        match self.wakers.get(&place) {
            Some(known) if known.will_wake(waker) => None,
            _ => self.wakers.insert(place, waker.clone()),
        }
    }

    /// Forgets an append that waits no longer. Answers its waker, to be dropped without the lock.
    pub(super) fn leave(&mut self, place: u64) -> Option<Waker> {
        self.wakers.remove(&place)
    }

    /// All wakers, those that have waited longest first. An append that finds no room again keeps
    /// its place.
    pub(super) fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers).into_values().collect()
    }
}
