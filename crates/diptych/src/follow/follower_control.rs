//! The handle with which users watch and control one follower of an app.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use diptych_store::{Head, Position, Tag};

use super::{
    FollowerFeed,
    control::{ControlError, FollowerRequest, WorkerControl},
    error::{NotYet, WaitError},
    poison::SkipNote,
    progress::{HaltCause, Progress},
    status::{FollowerKind, FollowerStatus, StateReport},
    versions::{BETWEEN_LOOKS, Switch, VersionChange},
};
use crate::{
    lineage::Lineage,
    token::{Claims, Receipt, settled},
    wait,
};

/// A handle to watch and control one view or projection of an app: see
/// [`App::view`](crate::App::view) and [`App::projection`](crate::App::projection).
#[derive(Clone)]
pub struct FollowerControl {
    kind: FollowerKind,
    worker: Arc<WorkerControl>,
    /// Weak, so that a handle that outlives its app does not keep the store open.
    lineage: Weak<Lineage>,
    head: Head,
    /// `None` if the state is not in memory.
    report: Option<Arc<dyn StateReport>>,
}

impl FollowerControl {
    pub(crate) fn new(
        kind: FollowerKind,
        worker: WorkerControl,
        feed: &FollowerFeed,
        report: Option<Arc<dyn StateReport>>,
    ) -> FollowerControl {
        let (lineage, head) = (Arc::downgrade(feed.lineage()), feed.head().clone());
        FollowerControl { kind, worker: Arc::new(worker), lineage, head, report }
    }

    pub(super) fn worker(&self) -> &WorkerControl {
        &self.worker
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.worker.progress
    }

    /// Whether it is a view or a projection.
    pub fn kind(&self) -> FollowerKind {
        self.kind
    }

    /// The Rust type of a view, or the name of a projection.
    pub fn name(&self) -> &str {
        self.progress().name()
    }

    /// Its status.
    pub fn status(&self) -> FollowerStatus {
        let progress = self.progress();
        let quarantine = self.report.as_ref().map(|report| report.quarantine());
        let quarantine = quarantine.unwrap_or_else(|| Arc::new(progress.quarantine()));
        FollowerStatus {
            kind: self.kind,
            name: progress.name().to_owned(),
            position: self.position(),
            state: progress.state(),
            since: progress.since(),
            lag: progress.lag(self.head.position()),
            events: progress.events(),
            poisoned: quarantine.poisoned(),
            skipped: quarantine.skipped().to_vec(),
            versions: progress.versions(),
            memory: self.report.as_ref().map(|report| report.memory()),
        }
    }

    /// The position up to which all events are applied.
    pub fn position(&self) -> Position {
        match &self.report {
            Some(report) => report.position(),
            None => self.progress().position(),
        }
    }

    /// Waits until the events of this command are applied. Returns the position that was reached.
    ///
    /// # Errors
    /// [`WaitError::NotYet`] if that takes longer than `within`; other errors if the position
    /// cannot be reached.
    pub async fn after(&self, receipt: &Receipt, within: Duration) -> Result<Position, WaitError> {
        let mut claims = Claims::default();
        let lineage = self.lineage.upgrade().ok_or(WaitError::AppStopped)?;
        claims.point(&lineage, receipt.point());
        if !claims.are_settled() {
            settled(claims, lineage, within).await?;
        }
        self.until(receipt.last(), within).await
    }

    /// Waits until every event that is durable now is applied. Returns the position that was
    /// reached.
    ///
    /// # Errors
    /// As [`after`](FollowerControl::after).
    pub async fn caught_up(&self, within: Duration) -> Result<Position, WaitError> {
        self.freshen(within).await?;
        let need = self.head.position();
        // The order matters: if the head has not ended by now, the position read before was the end
        // of the log.
        let current = self.progress().check_current(&self.head);
        current.map_err(|halted| WaitError::halted(halted, self.name()))?;
        self.until(need, within).await
    }

    /// Makes sure that the head of the app is the end of the log.
    async fn freshen(&self, within: Duration) -> Result<(), WaitError> {
        // Without the app the check of the progress fails.
        let Some(lineage) = self.lineage.upgrade() else { return Ok(()) };
        match wait::within(within, lineage.store().fresh_head()).await {
            Some(Ok(_)) => Ok(()),
            // The check of the progress tells why the log ended.
            Some(Err(_)) if self.head.is_ended() => Ok(()),
            Some(Err(error)) => Err(WaitError::Unavailable { reason: error.to_string() }),
            None => {
                let reason = format!("the store did not tell its end within {within:?}");
                Err(WaitError::Unavailable { reason })
            }
        }
    }

    async fn until(&self, need: Position, within: Duration) -> Result<Position, WaitError> {
        match wait::within(within, self.reaches(need)).await {
            None => {
                let have = self.position();
                Err(WaitError::NotYet(NotYet { need, have, within }))
            }
            Some(Ok(reached)) => Ok(reached),
            Some(Err(halted)) => Err(WaitError::halted(halted, self.name())),
        }
    }

    /// Waits until `need` is reached and the follower confirms it. A projection has to confirm,
    /// because another database may have been put in its place while no event came.
    async fn reaches(&self, need: Position) -> Result<Position, HaltCause> {
        loop {
            self.progress().until(need).await?;
            match self.worker.ask(FollowerRequest::Confirm).await {
                Ok(reached) if reached >= need => return Ok(reached),
                Err(ControlError::Stopped(stopped)) => return Err(HaltCause::Stopped(stopped)),
                Err(ControlError::Ended { reason }) => return Err(HaltCause::Ended { reason }),
                Err(ControlError::HistoryChanged(changed)) => {
                    return Err(HaltCause::HistoryChanged(changed));
                }
                Err(ControlError::Closed) => return Err(HaltCause::Closed),
                // The rows are at a lower position now, or the database cannot confirm yet.
                Ok(_)
                | Err(
                    ControlError::Failed { .. }
                    | ControlError::NotPaused
                    | ControlError::Unequal { .. }
                    | ControlError::Different { .. },
                ) => {}
            }
        }
    }

    /// Pauses it. Once this returns, no further event is applied. Queries to a view are answered as
    /// before, and those that require a later position wait.
    ///
    /// # Errors
    /// [`ControlError`] if it is stopped.
    pub async fn pause(&self) -> Result<Position, ControlError> {
        self.worker.ask(FollowerRequest::Pause).await
    }

    /// Applies the next matching event, if there is one, and returns the position that was reached.
    /// It has to be paused.
    ///
    /// # Errors
    /// [`ControlError`] if it is not paused, or stopped.
    pub async fn step(&self) -> Result<Position, ControlError> {
        self.worker.ask(FollowerRequest::Step).await
    }

    /// Continues after a pause, or after a failure whose cause was fixed.
    ///
    /// # Errors
    /// [`ControlError`] if the log or the app has ended.
    pub async fn resume(&self) -> Result<Position, ControlError> {
        self.worker.ask(FollowerRequest::Resume).await
    }

    /// Applies the events that came, whatever its [`Refresh`](super::Refresh) says. Returns when
    /// that has begun.
    ///
    /// # Errors
    /// [`ControlError`] if it is stopped.
    pub async fn refresh(&self) -> Result<Position, ControlError> {
        self.worker.ask(FollowerRequest::Refresh).await
    }

    /// Starts over from the start of the log, also after a pause or a failure.
    ///
    /// A view is folded again beside its present state. Its snapshots are removed. This returns
    /// when the new fold has begun. The present state applies no more events, and answers queries
    /// until the new state has reached the same position and takes over.
    ///
    /// A projection removes all its rows first. This returns when the rows are gone.
    ///
    /// # Errors
    /// [`ControlError`] if the app was stopped, `Default` of the view panicked, or the database
    /// failed.
    pub async fn rebuild(&self) -> Result<(), ControlError> {
        self.worker.ask(FollowerRequest::Rebuild).await.map(drop)
    }

    /// Reads the held events of a poisoned key ([of a view](crate::Fold::KEY), or
    /// [of a projection](crate::projection::Target::isolates_by)) again, by their tag, and applies
    /// them in order. Other keys that were poisoned by the same failure are released with it.
    /// Events that came meanwhile wait until this is done.
    ///
    /// # Errors
    /// [`ControlError::Failed`] if the key is not poisoned, if the log cannot be read, or if an
    /// event failed again. Then the key is still poisoned, from that event on.
    pub async fn retry_key(&self, key: &Tag) -> Result<Position, ControlError> {
        self.worker.ask(FollowerRequest::Release { key: key.clone(), skip: None }).await
    }

    /// Leaves out the event that poisoned this key, for good, and applies the later events of the
    /// key as [`retry_key`](FollowerControl::retry_key) does. The status lists the event with the
    /// note.
    ///
    /// The decision is kept in the database of a projection. That of a view is kept beside its
    /// [snapshots](crate::AppBuilder::snapshots). It outlives a rebuild and a new release. For a
    /// view without snapshots it ends with the app: the next start finds the poisoned key again.
    ///
    /// # Errors
    /// As [`retry_key`](FollowerControl::retry_key), or if the decision cannot be kept.
    pub async fn skip_event(&self, key: &Tag, note: SkipNote) -> Result<Position, ControlError> {
        self.worker.ask(FollowerRequest::Release { key: key.clone(), skip: Some(note) }).await
    }

    /// Compares the version that is built beside the served one with it, if both are at one
    /// position. The result is in the [status](FollowerStatus::versions).
    ///
    /// # Errors
    /// [`ControlError::Different`] with the first difference, [`ControlError::Unequal`], or
    /// [`ControlError::Failed`] if there is nothing to compare.
    pub async fn compare(&self) -> Result<Position, ControlError> {
        self.worker.ask(FollowerRequest::Change(VersionChange::Compare)).await
    }

    /// Serves another version: a version that was built beside the served one, or the version that
    /// was served before. Readers see the old state, or the new one, and never a part of either.
    ///
    /// It waits for an equal position, if the command asks for that.
    ///
    /// # Errors
    /// [`ControlError::Different`] with the first difference, [`ControlError::Unequal`] if the
    /// positions are not equal in time, or [`ControlError::Failed`]. Nothing was switched.
    pub async fn switch(&self, switch: Switch) -> Result<Position, ControlError> {
        let request = FollowerRequest::Change(VersionChange::of(switch));
        let until = Instant::now() + switch.within;
        loop {
            match self.worker.ask(request.clone()).await {
                Err(ControlError::Unequal { .. }) if Instant::now() < until => {
                    // The thread of the follower works on while this waits.
                    wait::pause(BETWEEN_LOOKS).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Removes a version that is not served, with its rows.
    ///
    /// # Errors
    /// [`ControlError::Failed`] if there is no such version, if it is served, or if this program
    /// builds it.
    pub async fn drop_version(&self, version: u32) -> Result<Position, ControlError> {
        self.worker.ask(FollowerRequest::Change(VersionChange::Drop(version))).await
    }

    /// Stores the state outside the log now: the snapshot of a view, or the checkpoint of a
    /// projection.
    ///
    /// # Errors
    /// [`ControlError`] if the app keeps no snapshots of the view, or the state cannot be written.
    pub async fn save(&self) -> Result<Position, ControlError> {
        self.worker.ask(FollowerRequest::Save).await
    }
}

impl fmt::Debug for FollowerControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut control = f.debug_struct("FollowerControl");
        control.field("kind", &self.kind).field("name", &self.name()).finish_non_exhaustive()
    }
}
