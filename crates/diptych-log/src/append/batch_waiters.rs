//! Threads that wait for the batch with their commit.
//!
//! A task is woken by its waker, one after another. For threads this would cost the writer a system
//! call each, while the next batch could be on its way. So all threads of one batch wait on one
//! word, and one call wakes them; those of the next batch, which gathers meanwhile, wait on the
//! other. Waking only tells them when to look: the outcome of a commit is in its `CommitSync`.

#[cfg(diptych_model)]
use crate::sync::Flaw;
use crate::sync::{
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    atomic_wait, thread,
};

/// With at least this many waiting threads, each yields the processor before it goes to sleep: by
/// then its batch is often done, and neither sleeping nor waking costs anything. With fewer threads
/// none takes the processor, and yielding costs more than it saves.
const MANY: usize = 40;
const YIELDS: usize = 4;

/// Which batches are done.
#[derive(Debug, Default)]
pub(crate) struct BatchWaiters {
    /// The last batch that is done.
    done: AtomicU64,
    /// One for batches of even number, one for those of odd.
    words: [Word; 2],
}

#[derive(Debug, Default)]
struct Word {
    changes: AtomicU32,
    waiting: AtomicUsize,
}

impl BatchWaiters {
    fn word(&self, batch: u64) -> &Word {
        let [even, odd] = &self.words;
        if batch.is_multiple_of(2) { even } else { odd }
    }

    /// Waits until this batch is done, or no batch will be done any more.
    pub(crate) fn wait(&self, batch: u64) {
        let is_done = || self.done.load(Ordering::SeqCst) >= batch;
        let waiting = || self.words.iter().map(|word| word.waiting.load(Ordering::Relaxed)).sum();
        for _ in 0..YIELDS {
            let waiting: usize = waiting();
            if waiting < MANY || is_done() {
                break;
            }
            thread::yield_now();
        }
        let word = self.word(batch);
        word.waiting.fetch_add(1, Ordering::SeqCst);
        loop {
            // Before the look at `done`: a batch that is done after it changes the word.
            let seen = word.changes.load(Ordering::SeqCst);
            if is_done() {
                break;
            }
            atomic_wait::wait(&word.changes, seen);
        }
        word.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// This batch is done, and so are those before it.
    pub(crate) fn done(&self, batch: u64) {
        #[cfg(diptych_model)]
        if Flaw::EarlyWake.is_set() {
            self.word(batch).wake();
            self.done.fetch_max(batch, Ordering::SeqCst);
            return;
        }
        self.done.fetch_max(batch, Ordering::SeqCst);
        self.word(batch).wake();
    }

    /// Releases the threads that wait for this batch or an earlier one, which may not be done.
    pub(crate) fn release(&self, batch: u64) {
        self.done.fetch_max(batch, Ordering::SeqCst);
        self.words.iter().for_each(Word::wake);
    }

    /// No batch will be done any more: releases all waiting threads.
    pub(crate) fn end(&self) {
        self.done.store(u64::MAX, Ordering::SeqCst);
        self.words.iter().for_each(Word::wake);
    }
}

impl Word {
    fn wake(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        // A waiter counts itself and then reads `changes` and `done`; both were changed before this
        // reads the count. So one of the two sees the other.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            atomic_wait::wake_all(&self.changes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn no_wake_up_is_lost() {
        const BATCHES: u64 = 3_000;
        let batches = Arc::new(BatchWaiters::default());
        let waiters: Vec<_> = (0..150)
            .map(|_| {
                let batches = batches.clone();
                thread::spawn(move || (1..=BATCHES).for_each(|batch| batches.wait(batch)))
            })
            .collect();
        for batch in 1..=BATCHES {
            batches.done(batch);
        }
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(batches.words.iter().all(|word| word.waiting.load(Ordering::SeqCst) == 0));
    }

    #[test]
    fn the_end_lets_everybody_go() {
        let batches = Arc::new(BatchWaiters::default());
        let waiters: Vec<_> = (5..15)
            .map(|batch| {
                let batches = batches.clone();
                thread::spawn(move || batches.wait(batch))
            })
            .collect();
        batches.end();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        batches.wait(99);
    }
}
