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
    worklist::{CallAnswer, WaitingCall, answer_call, waiting_calls},
};

/// The running processes of an app. Dropping it ends them as a killed program would: the next start
/// goes on from the log.
#[derive(Default)]
pub(crate) struct Processes {
    processes: Vec<Arc<dyn AnyProcess>>,
    tasks: Mutex<JoinSet<()>>,
    gateways: Gateways,
}

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
        let StartedProcesses { processes, tasks } = plans.start(parts).await?;
        let gateways = parts.gateways.clone();
        Ok(Processes { processes, tasks: Mutex::new(tasks), gateways })
    }

    /// Ends all processes. A step that is cut short is made again by the next start.
    pub(crate) async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }

    pub(crate) fn status(&self) -> Vec<ProcessStatus> {
        self.processes.iter().map(|process| process.status()).collect()
    }

    pub(crate) fn gateways(&self) -> &Gateways {
        &self.gateways
    }

    /// # Errors
    /// [`NoSuchProcess`] if the app does not run it.
    pub(crate) fn control(&self, name: &str) -> Result<ProcessControl, NoSuchProcess> {
        let found = self.processes.iter().find(|process| process.name() == name);
        let process = found.ok_or_else(|| NoSuchProcess { name: name.to_owned() })?;
        Ok(ProcessControl(process.clone()))
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
pub struct ProcessControl(Arc<dyn AnyProcess>);

impl ProcessControl {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Its status in this program.
    pub fn status(&self) -> ProcessStatus {
        self.0.status()
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
