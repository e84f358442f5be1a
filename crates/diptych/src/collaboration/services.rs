//! The feeds and the running intakes of an app.

use std::{fmt, sync::Arc};

use diptych_store::{Position, ReadError};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{
    feed::FeedHandle,
    parked::{IntakeAnswer, IntakeAnswerError, ParkedForeignEvent, WaitingSubjects, answer},
    shared::IntakeShared,
    status::IntakeStatus,
};

/// The feeds and the running intakes of an app. Dropping it ends them as a killed program would:
/// the next start goes on from the log.
#[derive(Default)]
pub(crate) struct Collaboration {
    feeds: Vec<FeedHandle>,
    intakes: Vec<IntakeControl>,
    tasks: Mutex<JoinSet<()>>,
}

impl Collaboration {
    pub(super) fn new(
        feeds: Vec<FeedHandle>,
        intakes: Vec<IntakeControl>,
        tasks: JoinSet<()>,
    ) -> Collaboration {
        Collaboration { feeds, intakes, tasks: Mutex::new(tasks) }
    }

    /// Ends all intakes. A step that is cut short is made again by the next start.
    pub(crate) async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }

    pub(crate) fn feeds(&self) -> &[FeedHandle] {
        &self.feeds
    }

    pub(crate) fn intakes(&self) -> &[IntakeControl] {
        &self.intakes
    }
}

/// A handle on an intake of an app: its status and its parked events. Cheap to clone.
#[derive(Clone)]
pub struct IntakeControl(Arc<IntakeShared>);

impl IntakeControl {
    pub(super) fn new(shared: Arc<IntakeShared>) -> IntakeControl {
        IntakeControl(shared)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Its status in this program.
    pub fn status(&self) -> IntakeStatus {
        self.0.status.status(self.0.name, self.0.intake.clone(), self.0.source.clone())
    }

    /// The published events that could not be taken in, in the order in which they were parked: for
    /// each subject the first, and each that cannot be read. Events behind the first wait.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub async fn letters(&self) -> Result<Vec<ParkedForeignEvent>, ReadError> {
        Ok(self.waiting().await?.parked(&self.0.intake))
    }

    /// Events of this log about parked ones that cannot be read, each with its position and the
    /// reason. A newer program wrote them, or they are damaged.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub async fn unreadable_letters(&self) -> Result<Vec<(Position, String)>, ReadError> {
        Ok(self.waiting().await?.unreadable().to_vec())
    }

    /// Answers a parked event. The intake then takes in the events of the subject in order. `who`
    /// and `why` stand in the log with the answer. Returns the position of the answer.
    ///
    /// # Errors
    /// [`IntakeAnswerError::Answered`] if it was answered before, and other errors of the store.
    pub async fn answer(
        &self,
        parked: &ParkedForeignEvent,
        given: IntakeAnswer,
        who: &str,
        why: &str,
    ) -> Result<Position, IntakeAnswerError> {
        answer(&self.0.store, &self.0.intake, parked, given, (who, why)).await
    }

    async fn waiting(&self) -> Result<WaitingSubjects, ReadError> {
        let mut waiting = WaitingSubjects::default();
        waiting.catch_up(&self.0.store, &self.0.intake).await?;
        Ok(waiting)
    }
}

impl fmt::Debug for IntakeControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IntakeControl").field(&self.0.name).finish()
    }
}
