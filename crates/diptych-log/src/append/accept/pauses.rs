//! Pauses: the log takes no commits for now, because there is no space.
//!
//! An append that comes during a pause waits for one more attempt, so that its error is never older
//! than the append. All appends that wait share that attempt.

use std::{task::Waker, time::Duration};

use diptych_store::{Pause, Unavailable};

use super::Acceptor;
use crate::sync::{Instant, atomic::Ordering};

/// The time until the writer tries again by itself, for commits that it has accepted. It doubles
/// with each attempt.
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// Why commits are refused for now.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// The writer cannot write.
    writer: Option<Unavailable>,
    /// The index could not be written for so long that no more parts of it may wait.
    index: Option<Unavailable>,
    /// Attempts that failed.
    attempts: u64,
    /// The time until the next attempt of the writer, and when it is due.
    delay: Duration,
    next_attempt: Option<Instant>,
}

impl Pauses {
    pub(super) fn why(&self) -> Option<&Unavailable> {
        self.writer.as_ref().or(self.index.as_ref())
    }

    pub(super) fn attempts(&self) -> u64 {
        self.attempts
    }

    pub(super) fn is_writer_paused(&self) -> bool {
        self.writer.is_some()
    }

    /// When the writer tries again by itself.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.next_attempt
    }

    fn shown(&self) -> Option<Pause> {
        let writer = self.writer.clone().map(Pause::Writing);
        writer.or_else(|| self.index.clone().map(Pause::Accepting))
    }
}

/// The consequences of an attempt of the writer that failed.
pub(crate) struct FailedAttempt {
    /// Whether the writer could write before.
    pub(crate) is_first: bool,
    /// Commits up to this batch are accepted and not written.
    pub(crate) batch: u64,
    /// The appends that wait.
    pub(crate) woken: Vec<Waker>,
}

impl Acceptor {
    /// Whether commits are refused for now. It takes no lock.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    /// Why the writer cannot write for now.
    pub(crate) fn writer_paused(&self) -> Option<Unavailable> {
        self.state.lock().pauses.writer.clone()
    }

    /// Why the index cannot be written for now, if commits are refused for that.
    pub(crate) fn index_paused(&self) -> Option<Unavailable> {
        self.state.lock().pauses.index.clone()
    }

    /// Refuses commits until the writer can write again.
    pub(crate) fn pause_writer(&self, why: Unavailable) -> FailedAttempt {
        let mut state = self.state.lock();
        self.is_paused.store(true, Ordering::Relaxed);
        self.indexed.notify_all();
        let pauses = &mut state.pauses;
        let is_first = pauses.writer.replace(why).is_none();
        pauses.delay = match is_first {
            true => FIRST_RETRY,
            false => pauses.delay.saturating_mul(2).min(LONGEST_RETRY),
        };
        pauses.next_attempt = Some(Instant::now() + pauses.delay);
        pauses.attempts += 1;
        self.work.notify_one();
        FailedAttempt { is_first, batch: state.batch, woken: state.room.take() }
    }

    /// The writer can write again. Answers what is left of the pause, and the appends that wait.
    pub(crate) fn resume_writer(&self) -> (Option<Pause>, Vec<Waker>) {
        let mut state = self.state.lock();
        (state.pauses.writer, state.pauses.next_attempt) = (None, None);
        self.is_paused.store(state.pauses.index.is_some(), Ordering::Relaxed);
        (state.pauses.shown(), state.room.take())
    }

    /// Refuses commits until the index can be written again. Answers the pause, and the appends
    /// that wait.
    pub(crate) fn pause_index(&self, why: Unavailable) -> (Option<Pause>, Vec<Waker>) {
        let mut state = self.state.lock();
        self.is_paused.store(true, Ordering::Relaxed);
        state.pauses.index = Some(why);
        self.indexed.notify_all();
        state.pauses.attempts += 1;
        (state.pauses.shown(), state.room.take())
    }

    /// The index can be written again. Answers what is left of the pause, and the appends that
    /// wait.
    pub(crate) fn resume_index(&self) -> (Option<Pause>, Vec<Waker>) {
        let mut state = self.state.lock();
        state.pauses.index = None;
        self.is_paused.store(state.pauses.writer.is_some(), Ordering::Relaxed);
        (state.pauses.shown(), state.room.take())
    }

    /// Drops what is queued, which is no commit.
    pub(crate) fn forget_queue(&self) {
        let mut state = self.state.lock();
        (state.pauses, state.queue) = Default::default();
        self.is_paused.store(false, Ordering::Relaxed);
    }
}
