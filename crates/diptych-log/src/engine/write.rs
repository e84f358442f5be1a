//! Commits on their way through the engine: accepted, written in batches, published.

use std::{future::poll_fn, task::Poll, time::Duration};

use diptych_store::{AcceptedCommit, Append, AppendError, CommitSync, SyncError, Unavailable};

use super::Engine;
#[cfg(diptych_model)]
use crate::sync::Flaw;
use crate::{
    append::{
        accept::{Outcome, WaitPlace, Writes},
        encoded::EncodedCommit,
        writer::Writer,
    },
    error::WriteFailure,
    options::Durability,
    sync::block_on,
};

impl Engine {
    /// Offers a commit until it is accepted or refused.
    pub(crate) async fn append(
        &self,
        append: Append,
        writes: Writes,
    ) -> Result<AcceptedCommit, AppendError> {
        let mut commit = EncodedCommit::new(append, &self.shared.options().limits)?;
        let mut place = WaitPlace::new(&self.acceptor);
        let outcome = poll_fn(|context| {
            loop {
                let (place, waker) = (&mut place, context.waker());
                match self.acceptor.offer(&self.shared, &mut commit, writes, place, waker) {
                    Poll::Pending if self.is_inline() => self.write_all(),
                    Poll::Pending => {
                        self.hurry_index();
                        return Poll::Pending;
                    }
                    outcome => return outcome,
                }
            }
        });
        let outcome = outcome.await;
        // The caller may wait for the disk now.
        drop(commit);
        match outcome? {
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
        self.index_again();
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

    /// Writes one batch and publishes it. After a pause, this is the batch that found no space.
    fn write_batch(&self) {
        let mut writer = self.writer.lock();
        let was_paused = self.acceptor.is_paused() && self.acceptor.writer_paused().is_some();
        match self.write_next(&mut writer, was_paused) {
            Ok(false) if !was_paused => return,
            Ok(_) => {}
            Err(failure) => {
                drop(writer);
                return self.not_written(failure);
            }
        }
        if was_paused {
            writer.resume();
            drop(writer);
            self.resume_writer();
            writer = self.writer.lock();
        }
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

    /// Writes the next batch, if there is one; answers whether there was. After a pause it also
    /// does what an open left to do.
    fn write_next(&self, writer: &mut Writer, was_paused: bool) -> Result<bool, WriteFailure> {
        let mut held = None;
        if was_paused {
            writer.do_first_step(&self.shared)?;
            held = writer.take_held();
        }
        let batch = held.or_else(|| self.acceptor.take_batch());
        let is_any = batch.is_some();
        if let Some(mut batch) = batch {
            #[cfg(diptych_model)]
            if Flaw::EarlyHead.is_set() {
                self.shared.publish(batch.position, batch.commit, batch.tracking.clone());
            }
            if let Err(failure) = writer.write(&self.shared, &mut batch) {
                if matches!(failure, WriteFailure::Full(_)) {
                    writer.hold(batch);
                }
                return Err(failure);
            }
            self.shared.publish(batch.position, batch.commit, batch.tracking);
            self.waiters.done(batch.number);
        }
        if was_paused {
            writer.do_last_steps(&self.shared)?;
        }
        Ok(is_any)
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
            self.fail(&error.to_string());
        }
        cut.is_ok()
    }
}
