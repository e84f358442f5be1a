//! Appends that wait until there is room, or until the index has had time.

use std::{collections::BTreeMap, task::Waker, time::Duration};

use crate::sync::Instant;

/// The index is late if no part was written for this long while some wait. A part takes some
/// hundredths of a second, also on a slow disk.
const LATE_AFTER: Duration = Duration::from_secs(1);
/// The time between two appends when all but one part may still wait. With fewer parts it is
/// shorter.
const LONGEST_DELAY: Duration = Duration::from_millis(20);

/// Parts of the index that wait to be written to files, and how they slow down appends: before a
/// late index stops appends, it makes them slower.
#[derive(Debug, Default)]
pub(super) struct WaitingParts {
    /// How many were begun since the log was opened, and how many of those are written.
    begun: u64,
    written: u64,
    /// Since when half of those that may wait do, and none was written.
    crowded_since: Option<Instant>,
    /// When the next append may be accepted, if the index is late.
    next_append: Option<Instant>,
}

impl WaitingParts {
    pub(super) fn add(&mut self) {
        self.begun += 1;
    }

    pub(super) fn remove(&mut self) {
        self.written = self.begun.min(self.written + 1);
        (self.crowded_since, self.next_append) = (None, None);
    }

    /// The number of the newest part.
    pub(super) fn newest(&self) -> u64 {
        self.begun
    }

    /// Whether the part of this number and all before it are written.
    pub(super) fn are_written(&self, newest: u64) -> bool {
        self.written >= newest
    }

    fn count(&self) -> usize {
        (self.begun - self.written) as usize
    }

    /// Whether another one may wait, and an append be accepted now.
    pub(super) fn have_room(&self, limit: usize) -> bool {
        self.count() < limit && self.next_append.is_none_or(|next| Instant::now() >= next)
    }

    /// When the next append may be accepted, if the index is late.
    pub(super) fn next_append(&self) -> Option<Instant> {
        self.next_append
    }

    /// Slows down the append after this one, if the index is late.
    pub(super) fn slow_down(&mut self, limit: usize) {
        // One part waits as long as the writer may defer a sync.
        let half = (limit / 2).max(2);
        if self.count() < half {
            return;
        }
        let since = *self.crowded_since.get_or_insert_with(Instant::now);
        if since.elapsed() < LATE_AFTER {
            return;
        }
        let (over, steps) = (self.count() + 1 - half, limit.saturating_sub(half).max(1));
        let delay = LONGEST_DELAY.min(LONGEST_DELAY * over as u32 / steps as u32);
        if self.next_append.is_none() {
            tracing::warn!(parts = self.count(), "the index is late: appends are slowed down");
        }
        self.next_append = Some(Instant::now() + delay);
    }
}

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

    pub(super) fn is_empty(&self) -> bool {
        self.wakers.is_empty()
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
