//! The processes of a log for operators: what waits, and the answers to it.
//!
//! All of it is data in the log. So no types of a program are needed, and the log need not be that
//! of a running app.

use std::fmt;

use diptych_store::{Filter, Position, RawEvent, ReadError, Store};

use super::{
    call_list::{CallQuestion, GatewayCall, calls, cut},
    entry::Gateways,
    instances::{ProcessInstance, WaitingTimer, instances, timers},
    known::{KnownProcess, known_processes},
    letter::{LetterAnswer, LetterError, ParkedLetter, answer, letters},
    trace::{Trace, TraceError, TraceOptions, TraceTarget},
    tracer::trace,
    worklist::{CallAnswer, WaitingCall, answer_call, only, waiting_calls},
};

/// The processes of a log, for operators: parked letters, calls that wait, timers to come and
/// instances, and the answers to letters and calls.
///
/// It needs no types, so it works on any [`Store`]: that of a running app, that of a server, or a
/// folder that is opened for reading only. Answers are events in the log, and a running process
/// takes them from there. If no app runs, the next start does.
///
/// A process is named by its newest name, or by the name under which the log has known it first.
#[derive(Clone)]
pub struct ProcessOperations {
    store: Store,
    /// Those of the app that the operations were taken from. They know the tries of their calls.
    gateways: Gateways,
}

/// Why a question about processes has no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The log knows no process of this name.
    #[error("the log knows no process {name:?} (it knows: {known:?})")]
    NoSuchProcess {
        /// The name.
        name: String,
        /// The names of all processes.
        known: Vec<String>,
    },
    /// The log cannot be read.
    #[error("the processes of the log cannot be read: {0}")]
    Read(#[from] ReadError),
}

impl ProcessOperations {
    /// The processes of this log.
    pub fn over(store: Store) -> ProcessOperations {
        ProcessOperations { store, gateways: Gateways::default() }
    }

    /// The processes of the log of an app with these gateways.
    pub(crate) fn of_app(store: Store, gateways: Gateways) -> ProcessOperations {
        ProcessOperations { store, gateways }
    }

    /// All processes that the log knows, in the order of their first starts.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub async fn processes(&self) -> Result<Vec<KnownProcess>, ReadError> {
        known_processes(&self.store).await
    }

    /// The letters that wait for an answer, of this process or of all, in the order in which they
    /// were parked.
    ///
    /// # Errors
    /// [`OperationError`] if there is no such process, or the log cannot be read.
    pub async fn letters(
        &self,
        process: Option<&str>,
    ) -> Result<Vec<ParkedLetter>, OperationError> {
        let mut all = Vec::new();
        for known in self.chosen(process).await? {
            all.extend(letters(&self.store, &known.first_name).await?);
        }
        all.sort_by_key(|letter| letter.parked_at);
        Ok(all)
    }

    /// The calls of gateways that wait for an operator, of this process or of all, in the order in
    /// which they were listed.
    ///
    /// # Errors
    /// [`OperationError`] if there is no such process, or the log cannot be read.
    pub async fn waiting_calls(
        &self,
        process: Option<&str>,
    ) -> Result<Vec<WaitingCall>, OperationError> {
        let mut all = Vec::new();
        for known in self.chosen(process).await? {
            all.extend(waiting_calls(&self.store, &known.first_name).await?);
        }
        all.sort_by_key(|call| call.listed_at);
        Ok(all)
    }

    /// The calls of gateways that processes asked for, each with its outcome: the newest first. So
    /// this is the list of the deliveries of a gateway for webhooks. It reads the events of
    /// processes from the end of the log, until it has found enough.
    ///
    /// The tries of a call that is [pending](super::GatewayCallState::Pending) are known only to
    /// the program that makes them, so only to the operations
    /// [of its app](crate::App::process_operations).
    ///
    /// # Errors
    /// [`OperationError`] if there is no such process, or the log cannot be read.
    pub async fn calls(&self, question: &CallQuestion) -> Result<Vec<GatewayCall>, OperationError> {
        let mut all = Vec::new();
        for known in self.chosen(question.process.as_deref()).await? {
            all.extend(calls(&self.store, &self.gateways, &known.first_name, question).await?);
        }
        all.sort_by_key(|call| std::cmp::Reverse(call.asked_at));
        cut(&mut all, question.most);
        Ok(all)
    }

    /// The pending timers of this process or of all, the first due first: at most `most`, and the
    /// number of all. It reads every timer event of the process.
    ///
    /// # Errors
    /// [`OperationError`] if there is no such process, or the log cannot be read.
    pub async fn timers(
        &self,
        process: Option<&str>,
        most: usize,
    ) -> Result<(Vec<WaitingTimer>, usize), OperationError> {
        let (mut all, mut count) = (Vec::new(), 0);
        for known in self.chosen(process).await? {
            let (timers, number) = timers(&self.store, &known.first_name, most).await?;
            count += number;
            all.extend(timers);
        }
        all.sort_by_key(|timer| (timer.due, timer.set_at));
        all.truncate(most);
        Ok((all, count))
    }

    /// The instances of this process or of all that were active last: at most `most`. It reads the
    /// events of processes from the end of the log, until it has found them.
    ///
    /// # Errors
    /// [`OperationError`] if there is no such process, or the log cannot be read.
    pub async fn instances(
        &self,
        process: Option<&str>,
        most: usize,
    ) -> Result<Vec<ProcessInstance>, OperationError> {
        let mut all = Vec::new();
        for known in self.chosen(process).await? {
            all.extend(instances(&self.store, &known.first_name, most).await?);
        }
        all.sort_by_key(|instance| std::cmp::Reverse(instance.position));
        all.truncate(most);
        Ok(all)
    }

    /// The event before which the instance of a letter stands, as it is stored. `None` if the
    /// letter cannot be read.
    ///
    /// # Errors
    /// [`ReadError`] from the store.
    pub async fn trigger(&self, letter: &ParkedLetter) -> Result<Option<RawEvent>, ReadError> {
        if letter.position == Position::START {
            return Ok(None);
        }
        let batch = self.store.read(&Filter::everything(), only(letter.position)).await?;
        Ok(batch.get(0).map(|event| event.to_raw()))
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
        answer(&self.store, &letter.process, letter, given, (who, why)).await
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
        answer_call(&self.store, call, given, (who, why)).await
    }

    /// The flow that an event belongs to, as a tree: events, reactions, commands, calls and timers.
    ///
    /// The steps are found by the keys of actions and by the tags of instances, so the cost is that
    /// of the flow, whatever the length of the log. Two things have no index: an id that the
    /// writer of an event chose, and causes that a program gave to its own commands. The first is
    /// searched from the end of the log. The second is found with
    /// [`TraceOptions::whole_log`].
    ///
    /// # Errors
    /// [`TraceError`] if there is no such event, or the log cannot be read.
    pub async fn trace(
        &self,
        target: impl Into<TraceTarget>,
        options: TraceOptions,
    ) -> Result<Trace, TraceError> {
        let processes = known_processes(&self.store).await?;
        trace(&self.store, processes, target.into(), options).await
    }

    /// The process of this name, or all.
    async fn chosen(&self, process: Option<&str>) -> Result<Vec<KnownProcess>, OperationError> {
        let mut processes = known_processes(&self.store).await?;
        let Some(name) = process else { return Ok(processes) };
        let by_name = processes.iter().position(|known| known.name == name);
        let found = by_name.or_else(|| processes.iter().position(|it| it.first_name == name));
        match found {
            Some(at) => Ok(vec![processes.swap_remove(at)]),
            None => {
                let known = processes.into_iter().map(|known| known.name).collect();
                Err(OperationError::NoSuchProcess { name: name.to_owned(), known })
            }
        }
    }
}

impl fmt::Debug for ProcessOperations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProcessOperations").field(&self.store.identity()).finish()
    }
}
