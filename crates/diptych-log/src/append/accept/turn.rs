//! The turn to write. One thread writes at a time: the writer thread, or a caller that found no
//! write in progress. A caller that finds more in the queue after its batch hands over to the
//! writer thread.

use std::{task::Waker, time::Duration};

use super::{Acceptor, state::AcceptState};
#[cfg(diptych_model)]
use crate::sync::Flaw;
use crate::{
    append::queue::WriteBatch,
    sync::{Instant, MutexGuard},
};

impl Acceptor {
    /// The queued commits, for the thread that writes; `None` if there are none, or the log failed.
    /// Appends that waited for room go on.
    pub(crate) fn take_batch(&self) -> Option<WriteBatch> {
        let (batch, woken) = {
            let mut state = self.state.lock();
            if state.is_idle() {
                return None;
            }
            (state.take_batch(), state.room.take())
        };
        woken.into_iter().for_each(Waker::wake);
        Some(batch)
    }

    /// Ends the turn of a caller that wrote one batch: newer commits go to the writer thread.
    pub(crate) fn hand_over(&self) {
        let mut state = self.state.lock();
        #[cfg(diptych_model)]
        if Flaw::ForgottenQueue.is_set() {
            state.writing = false;
            return;
        }
        if state.is_idle() && state.unsynced_since.is_none() {
            state.writing = false;
            if state.pauses.next_attempt().is_some() {
                // The attempt may have become due during this turn. The writer thread then sleeps
                // until the turn ends.
                self.work.notify_one();
            }
        } else {
            state.handed_over = true;
            self.work.notify_one();
        }
    }

    /// Ends the turn of the thread that writes, unless there is more to write now; answers whether
    /// it ended.
    pub(crate) fn end_turn(&self) -> bool {
        let mut state = self.state.lock();
        // While there is no space, the next turn is the next attempt.
        let ends = state.is_idle() || state.pauses.is_writer_paused();
        if ends {
            state.writing = false;
        }
        ends
    }

    /// Waits until the writer thread has something to do, and begins its turn. Answers whether the
    /// thread should end after it.
    pub(crate) fn wait_for_turn(&self, interval: Duration) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                state.writing = true;
                return true;
            }
            if std::mem::take(&mut state.handed_over) {
                state.writing = true;
                return false;
            }
            let next_append = state.next_append();
            if next_append.is_some_and(|next| Instant::now() >= next) {
                let woken = state.room.take();
                MutexGuard::unlocked(&mut state, || woken.into_iter().for_each(Waker::wake));
                continue;
            }
            let due = state.unsynced_since.map(|since| since + interval);
            let is_due = due.is_some_and(|due| Instant::now() >= due);
            let attempt = state.pauses.next_attempt();
            let is_attempt_due = attempt.is_some_and(|attempt| Instant::now() >= attempt);
            if (is_due || is_attempt_due) && !state.writing {
                state.writing = true;
                return false;
            }
            // If one of these is due, the thread that writes tells when it is done.
            let (due, attempt) = (due.filter(|_| !is_due), attempt.filter(|_| !is_attempt_due));
            match due.into_iter().chain(attempt).chain(next_append).min() {
                None => self.work.wait(&mut state),
                Some(first) => drop(self.work.wait_until(&mut state, first)),
            }
        }
    }

    /// Notes that a batch was written and is not synced.
    pub(crate) fn note_unsynced(&self) {
        self.state.lock().unsynced_since.get_or_insert_with(Instant::now);
    }

    /// Whether written commits have waited for a sync for this long.
    pub(crate) fn is_sync_due(&self, interval: Duration) -> bool {
        let since = self.state.lock().unsynced_since;
        since.is_some_and(|since| since.elapsed() >= interval)
    }

    /// Notes that a sync begins; answers whether it may, which it may not after a failure.
    pub(crate) fn begin_sync(&self) -> bool {
        let mut state = self.state.lock();
        let may = !state.has_failed();
        if may {
            state.unsynced_since = None;
        }
        may
    }

    /// Notes that a part of the index waits no longer. Appends that waited for room go on.
    pub(crate) fn part_is_written(&self) {
        let woken = {
            let mut state = self.state.lock();
            state.parts.remove();
            self.indexed.notify_all();
            state.room.take()
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// Waits until the parts of the index that are complete now are in files, or the log takes no
    /// commits. The caller has synced the commits in these parts.
    pub(crate) fn wait_for_parts(&self) {
        let mut state = self.state.lock();
        let newest = state.parts.newest();
        let goes_on = |state: &AcceptState| state.ended.is_none() && state.pauses.why().is_none();
        while goes_on(&state) && !state.parts.are_written(newest) {
            self.indexed.wait(&mut state);
        }
    }
}
