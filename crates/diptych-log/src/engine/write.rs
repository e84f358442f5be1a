//! Commits on their way through the engine: accepted, written in batches, published.

use std::{future::poll_fn, task::Poll, time::Duration};

use diptych_store::{AcceptedCommit, Append, AppendError, CommitSync, SyncError, Unavailable};
use pollster::block_on;

use super::Engine;
use crate::{
    append::{
        accept::{Outcome, Writes},
        encoded::EncodedCommit,
    },
    options::Durability,
};

impl Engine {
    /// Offers a commit until it is accepted or refused.
    pub(crate) async fn append(
        &self,
        append: Append,
        writes: Writes,
    ) -> Result<AcceptedCommit, AppendError> {
        let mut commit = EncodedCommit::new(append, &self.shared.options().limits)?;
        let outcome = poll_fn(|context| {
            loop {
                match self.acceptor.offer(&self.shared, &mut commit, writes, context.waker()) {
                    Poll::Pending if self.is_inline() => self.write_all(),
                    outcome => return outcome,
                }
            }
        });
        match outcome.await? {
            Outcome::Accepted { accepted, batch, write } => {
                match writes {
                    Writes::Caller if write => self.write_as_caller(),
                    // Without threads nothing is written until the caller writes.
                    Writes::Caller if !self.is_inline() => self.waiters.wait(batch),
                    _ => {}
                }
                Ok(accepted)
            }
            Outcome::Refused(refusal, rests_on) => {
                if self.is_inline() {
                    self.write_all();
                }
                match rests_on.wait().await {
                    Ok(()) => Err(refusal),
                    // This commit was not written, and the commits that it conflicts with may be
                    // lost.
                    Err(SyncError { cause }) => Err(cause.into()),
                }
            }
        }
    }

    /// Writes what was accepted, if the log has no threads that do it.
    pub(crate) fn write_if_inline(&self) {
        if self.is_inline() {
            self.write_all();
            self.sync_if_due();
        }
    }

    pub(crate) fn flush(&self) -> Result<(), SyncError> {
        let commits = self.acceptor.commits();
        if self.is_inline() {
            self.write_all();
        }
        block_on(CommitSync::new(commits, self.shared.head()).wait())?;
        if self.sync_all() {
            return Ok(());
        }
        let cause = self.acceptor.ended().unwrap_or(Unavailable::Closed);
        Err(SyncError { cause })
    }

    /// Writes one batch, and hands newer commits over to the writer thread. The caller has the turn
    /// to write.
    fn write_as_caller(&self) {
        self.write_batch();
        self.acceptor.hand_over();
    }

    /// Writes until nothing is queued, which ends the turn to write.
    pub(super) fn write_all(&self) {
        loop {
            self.write_batch();
            // Here, because under load the queue is never empty.
            self.sync_if_due();
            if self.acceptor.end_turn() {
                return;
            }
        }
    }

    /// The writer thread.
    pub(crate) fn run_writer(&self) {
        loop {
            let stop = self.acceptor.wait_for_turn(self.interval());
            self.write_all();
            self.sync_if_due();
            if stop {
                return;
            }
        }
    }

    fn interval(&self) -> Duration {
        match self.shared.options().durability {
            Durability::Synced => Duration::ZERO,
            Durability::Interval { interval } => interval,
        }
    }

    fn sync_if_due(&self) {
        let every_batch = self.shared.options().durability == Durability::Synced;
        if !every_batch && self.acceptor.is_sync_due(self.interval()) {
            self.sync_all();
        }
    }

    /// Writes one batch and publishes it.
    fn write_batch(&self) {
        let mut writer = self.writer.lock();
        let Some(mut batch) = self.acceptor.take_batch() else { return };
        if let Err(error) = writer.write(&self.shared, &mut batch) {
            drop(writer);
            return self.fail(&error);
        }
        self.shared.publish(batch.position, batch.commit, batch.tracking);
        self.waiters.done(batch.number);
        if !writer.is_dirty() {
            let jobs = writer.take_jobs();
            drop(writer);
            self.index_all(jobs);
        } else if writer.has_parts_to_sync(&self.shared) {
            drop(writer);
            self.sync_all();
        } else {
            self.acceptor.note_unsynced();
        }
    }

    /// Makes durable what was written; answers whether it is.
    pub(super) fn sync_all(&self) -> bool {
        let mut writer = self.writer.lock();
        // Also if a new segment was synced meanwhile: then nothing waits for a sync any more.
        if !self.acceptor.begin_sync() || !writer.is_dirty() {
            return !writer.is_dirty();
        }
        match writer.sync(&self.shared) {
            Ok(()) => {
                let jobs = writer.take_jobs();
                drop(writer);
                self.index_all(jobs);
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// Notes that the log is closed. If that fails, the next open takes it for one that was not.
    pub(super) fn note_closed(&self) {
        if let Err(error) = self.writer.lock().note_closed(&self.shared) {
            tracing::warn!(%error, "the next open may change the epoch without need");
        }
    }

    /// Cuts off space that was prepared for commits, as the last one was written; answers whether
    /// that succeeded.
    pub(super) fn cut_prepared(&self) -> bool {
        let mut writer = self.writer.lock();
        if self.acceptor.has_failed() {
            return false;
        }
        let cut = writer.cut_prepared();
        if let Err(error) = &cut {
            self.fail(error);
        }
        cut.is_ok()
    }
}
