//! The scrubs of an open log: one at a time, on demand or on a schedule, with figures about them.

use std::time::Duration;

use diptych_store::Timestamp;
use metrics::{counter, gauge};

use super::scrub::{Pace, Scrubbing, is_closed};
use crate::{
    disk::Disk,
    error::VerifyError,
    folder::Folders,
    format::head::PublishedHead,
    options::ScrubSchedule,
    report::{ScrubOutcome, ScrubReport, VerifyReport},
    sync::{Condvar, Instant, Mutex},
};

/// The first scrub begins after this part of the time between two. A program that is restarted
/// often is scrubbed too, and not while it starts.
const FIRST: u32 = 10;

/// The scrubs of an open log.
#[derive(Debug, Default)]
pub(crate) struct Scrubs {
    state: Mutex<ScrubState>,
    stop: Condvar,
    /// Held by the scrub that is under way.
    one_at_a_time: Mutex<()>,
}

#[derive(Debug, Default)]
struct ScrubState {
    is_stopped: bool,
    last: Option<ScrubReport>,
}

/// The part of a log that a scrub verifies.
pub(crate) struct ScrubScope<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) folders: &'a Folders,
    pub(crate) end: PublishedHead,
}

impl Scrubs {
    /// Ends the scrub that is under way, and lets none begin.
    pub(crate) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.stop.notify_all();
    }

    /// The report of the scrub that ended last.
    pub(crate) fn last(&self) -> Option<ScrubReport> {
        self.state.lock().last.clone()
    }

    /// Waits; answers whether scrubs go on.
    fn wait(&self, pause: Duration) -> bool {
        let until = Instant::now().checked_add(pause);
        let mut state = self.state.lock();
        while !state.is_stopped {
            match until {
                Some(until) if self.stop.wait_until(&mut state, until).timed_out() => break,
                Some(_) => {}
                None => self.stop.wait(&mut state),
            }
        }
        !state.is_stopped
    }

    /// Verifies the log up to its published end.
    pub(crate) fn scrub(
        &self,
        scope: &ScrubScope<'_>,
        bytes_per_second: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<VerifyReport, VerifyError> {
        let _one_at_a_time = self.one_at_a_time.lock();
        let mut read = 0;
        let mut counted = |bytes: u64, all: u64| {
            counter!("diptych_scrub_bytes_total").increment(bytes.saturating_sub(read));
            read = bytes;
            progress(bytes, all);
        };
        let mut wait = |pause: Duration| self.wait(pause);
        let mut pace = Pace::new(bytes_per_second, &mut wait);
        let scrubbing = Scrubbing::new(scope.disk, scope.folders, scope.end);
        let found = match scrubbing.map(|scrubbing| scrubbing.run(&mut pace, &mut counted)) {
            Ok(Ok(Some(report))) => Ok(report),
            Ok(Ok(None)) => return Err(is_closed().into()),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(error.into()),
        };
        self.note(&found);
        found
    }

    fn note(&self, found: &Result<VerifyReport, VerifyError>) {
        let finished_at = Timestamp::now();
        gauge!("diptych_scrub_finished_seconds").set(finished_at.as_micros() as f64 / 1e6);
        let outcome = match found {
            Ok(report) => ScrubOutcome::Whole(report.clone()),
            Err(VerifyError::Damaged(damage)) => {
                for damage in damage {
                    let (file, offset) = (damage.file.display(), damage.offset);
                    let (what, advice) = (&damage.what, &damage.advice);
                    tracing::error!(%file, offset, what, advice, "a scrub found damage");
                }
                ScrubOutcome::Damaged(damage.clone())
            }
            Err(error) => {
                tracing::warn!(%error, "a scrub could not read the log to its end");
                ScrubOutcome::Failed(error.to_string())
            }
        };
        let damaged = match &outcome {
            ScrubOutcome::Damaged(damage) => damage.len(),
            ScrubOutcome::Whole(_) | ScrubOutcome::Failed(_) => 0,
        };
        gauge!("diptych_scrub_damaged_files").set(damaged as f64);
        let failed = matches!(outcome, ScrubOutcome::Failed(_));
        gauge!("diptych_scrub_failed").set(f64::from(u8::from(failed)));
        self.state.lock().last = Some(ScrubReport { finished_at, outcome });
    }

    /// The thread that scrubs on a schedule. `scrub` runs one at the given rate.
    pub(crate) fn run(&self, schedule: &ScrubSchedule, scrub: impl Fn(u64)) {
        let mut pause = schedule.every / FIRST;
        while self.wait(pause) {
            scrub(schedule.bytes_per_second);
            pause = schedule.every;
        }
    }
}
