//! The running processes of an app.

use std::{fmt, sync::Arc};

use diptych_store::{Position, ReadError};
use parking_lot::Mutex;
use tokio::{runtime::Handle, task::JoinSet};

use super::{
    entry::Gateways,
    letter::{LetterAnswer, LetterError, ParkedLetter, answer, letters},
    plan::{AppParts, ProcessPlans, StartedProcesses},
    registry::ProcessStartError,
    shared::AnyProcess,
    status::ProcessStatus,
    watch::ProcessWatch,
    worklist::{CallAnswer, WaitingCall, answer_call, waiting_calls},
};

/// The running processes of an app. Dropping it ends them as a killed program would: the next start
/// goes on from the log.
#[derive(Default)]
pub(crate) struct Processes {
    processes: Vec<WatchedProcess>,
    tasks: Mutex<JoinSet<()>>,
    gateways: Gateways,
}

/// A process with the counts of what waits.
type WatchedProcess = (Arc<dyn AnyProcess>, Arc<ProcessWatch>);

impl Processes {
    /// Starts these processes. It does not wait until they have caught up.
    ///
    /// # Errors
    /// [`ProcessStartError`] if one does not fit the log, or there is no runtime.
    pub(crate) async fn start(
        plans: ProcessPlans,
        parts: &AppParts,
    ) -> Result<Processes, ProcessStartError> {
        if plans.is_empty() {
            let gateways = parts.gateways.clone();
            return Ok(Processes { gateways, ..Processes::default() });
        }
        if Handle::try_current().is_err() {
            return Err(ProcessStartError::NoRuntime);
        }
        let StartedProcesses { processes, mut tasks } = plans.start(parts).await?;
        let mut watch = |process: Arc<dyn AnyProcess>| {
            let watch = Arc::new(ProcessWatch::default());
            tasks.spawn(watch.clone().run(process.clone(), parts.clock.clone()));
            (process, watch)
        };
        let processes = processes.into_iter().map(&mut watch).collect();
        let gateways = parts.gateways.clone();
        Ok(Processes { processes, tasks: Mutex::new(tasks), gateways })
    }

    /// Ends all processes. A step that is cut short is made again by the next start.
    pub(crate) async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }

    pub(crate) fn status(&self) -> Vec<ProcessStatus> {
        self.processes.iter().map(|(process, watch)| watch.complete(&**process)).collect()
    }

    pub(crate) fn gateways(&self) -> &Gateways {
        &self.gateways
    }

    /// # Errors
    /// [`NoSuchProcess`] if the app does not run it.
    pub(crate) fn control(&self, name: &str) -> Result<ProcessControl, NoSuchProcess> {
        let found = self.processes.iter().find(|(process, _)| process.name() == name);
        let (process, watch) = found.ok_or_else(|| NoSuchProcess { name: name.to_owned() })?;
        Ok(ProcessControl(process.clone(), watch.clone()))
    }
}

/// The app does not run a process of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the app has no process {name:?}: add it to the builder with `process`")]
pub struct NoSuchProcess {
    /// The name.
    pub name: String,
}

/// A handle on a process of an app: its status and its parked letters.
#[derive(Clone)]
pub struct ProcessControl(Arc<dyn AnyProcess>, Arc<ProcessWatch>);

impl ProcessControl {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Its status in this program.
    pub fn status(&self) -> ProcessStatus {
        self.1.complete(&*self.0)
    }

    /// The letters that wait for an answer, in the order in which they were parked.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub async fn letters(&self) -> Result<Vec<ParkedLetter>, ReadError> {
        letters(self.0.store(), self.0.process()).await
    }

    /// Answers a letter. The instance then takes its waiting triggers in order. `who` and `why`
    /// stand in the log with the answer. Returns the position of the answer.
    ///
    /// # Errors
    /// [`LetterError::Answered`] if the letter was answered before, and other errors of the store.
    pub async fn answer(
        &self,
        letter: &ParkedLetter,
        given: LetterAnswer,
        who: &str,
        why: &str,
    ) -> Result<Position, LetterError> {
        answer(self.0.store(), self.0.process(), letter, given, (who, why)).await
    }
}

impl ProcessControl {
    /// The calls of gateways that wait for an operator, in the order in which they were listed:
    /// they may have been sent, or each try failed.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub async fn waiting_calls(&self) -> Result<Vec<WaitingCall>, ReadError> {
        waiting_calls(self.0.store(), self.0.process()).await
    }

    /// Answers a call that waits. `who` and `why` stand in the log with the answer. Returns the
    /// position of the answer.
    ///
    /// # Errors
    /// [`LetterError::Answered`] if the call has an answer, and other errors of the store.
    pub async fn answer_call(
        &self,
        call: &WaitingCall,
        given: CallAnswer,
        who: &str,
        why: &str,
    ) -> Result<Position, LetterError> {
        answer_call(self.0.store(), call, given, (who, why)).await
    }
}

impl fmt::Debug for ProcessControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProcessControl").field(&self.0.name()).finish()
    }
}
