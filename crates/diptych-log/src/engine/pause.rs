//! Pauses: while there is no space, the log takes no commits, and goes on when there is space.
//!
//! Commits that are accepted are never taken back: other commits may rest on them by now, and their
//! callers know their positions. So the writer keeps a batch for which there is no space, and
//! writes the same bytes to the same place when there is some. Until then new commits are refused,
//! and callers that wait for an accepted one are told that its outcome is open.
//!
//! After a failed sync that would be wrong: an operating system may take bytes for clean that it
//! lost, and nothing that the log writes later brings them back. Then the log stops.

use diptych_store::{Pause, Unavailable};

use super::Engine;
use crate::{
    append::accept::pauses::FailedAttempt,
    error::{OpenError, WriteFailure},
};

impl Engine {
    /// A batch was not written.
    pub(super) fn not_written(&self, failure: WriteFailure) {
        match failure {
            WriteFailure::Full(why) => self.pause_writer(why),
            WriteFailure::Stops(reason) => self.fail(&reason),
        }
    }

    /// Does a step of an open, or pauses the log if there is no space for it.
    pub(super) fn do_or_pause(&self, done: Result<(), OpenError>) -> Result<(), OpenError> {
        match done {
            Err(error) if error.is_full() => {
                self.not_written(error.into());
                Ok(())
            }
            done => done,
        }
    }

    fn pause_writer(&self, why: Unavailable) {
        let pausing = self.pausing.lock();
        let FailedAttempt { is_first, batch, woken } = self.acceptor.pause_writer(why.clone());
        if is_first {
            tracing::warn!(%why, "the log waits for space");
        }
        self.shared.pause(Some(Pause::Writing(why)));
        drop(pausing);
        self.waiters.release(batch);
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    pub(super) fn resume_writer(&self) {
        let pausing = self.pausing.lock();
        let (left, woken) = self.acceptor.resume_writer();
        tracing::info!("there is space again: the log goes on");
        self.shared.pause(left);
        drop(pausing);
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    pub(super) fn pause_index(&self, why: Unavailable) {
        let pausing = self.pausing.lock();
        let (pause, woken) = self.acceptor.pause_index(why);
        self.shared.pause(pause);
        drop(pausing);
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    pub(super) fn resume_index(&self) {
        if self.acceptor.index_paused().is_none() {
            return;
        }
        let pausing = self.pausing.lock();
        let (left, woken) = self.acceptor.resume_index();
        tracing::info!("the index can be written again: the log goes on");
        self.shared.pause(left);
        drop(pausing);
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    /// Stops a log that is closed while accepted commits wait for space.
    pub(super) fn give_up(&self, why: &Unavailable) {
        let reason = match why {
            Unavailable::Storage { what, cause, .. } => format!("{what}: {cause}"),
            other => other.to_string(),
        };
        self.fail(&format!("{reason}, and the log was closed before there was space"));
    }

    /// Closes a log whose last records find no space. They only say that it was closed.
    pub(super) fn forgo_last_records(&self) {
        let forgotten = {
            let mut writer = self.writer.lock();
            self.acceptor.forget_queue();
            writer.forget_held()
        };
        match forgotten {
            Ok(()) => tracing::warn!("there is no space to note in the log that it is closed"),
            Err(error) => self.fail(&error.to_string()),
        }
    }
}
