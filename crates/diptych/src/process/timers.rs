//! The task that fires timers.

use std::{collections::VecDeque, sync::Arc};

use diptych_store::{
    AcceptedCommit, Append, AppendCondition, AppendError, Digest, Filter, Head, Metadata, Position,
    RawEvent, Read, Refusal,
};

use super::{
    Process,
    actions::Action,
    shared::{Interruption, ProcessShared, Waits},
    status::ProcessState,
    stored::{
        FiringRecord, InstanceId, PROCESS, REACTED, REACTIONS, ReactionRecord, decode, timer_tag,
        timers_tag,
    },
    wheel::{PendingTimer, TimerWheel},
};

/// Number of events that are read at once.
const PAGE: usize = 1_024;
/// Maximum number of timers that fire in one commit. Each has a condition of its own, and stores
/// allow at least 64.
const AT_ONCE: usize = 64;

pub(super) struct TimerTask<P: Process> {
    shared: Arc<ProcessShared<P>>,
    head: Head,
    wheel: TimerWheel,
    /// Everything up to here is in the wheel.
    after: Position,
    waits: Waits,
}

/// A timer that is due.
struct DueTimer {
    timer: Digest,
    pending: PendingTimer,
    event: RawEvent,
}

impl<P: Process> TimerTask<P> {
    pub(super) fn new(shared: Arc<ProcessShared<P>>) -> TimerTask<P> {
        TimerTask {
            head: shared.reader.store().head(),
            wheel: TimerWheel::default(),
            after: shared.begin,
            waits: Waits::new(&shared.options),
            shared,
        }
    }

    /// Fires timers until the process stops.
    pub(super) async fn run(mut self) {
        loop {
            let Err(interruption) = self.follow().await;
            match interruption {
                Interruption::Overtaken => {}
                Interruption::Later(reason) => {
                    tracing::warn!(process = P::NAME, reason, "a process waits with its timers");
                }
                Interruption::Stopped(reason) => {
                    tracing::error!(process = P::NAME, reason, "a process stopped");
                    self.shared.status.state(ProcessState::Stopped { reason });
                    return;
                }
            }
            // A commit of unknown outcome may have fired timers that the wheel lacks.
            self.wheel.clear();
            self.after = self.shared.begin;
            self.waits.wait().await;
        }
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, Interruption> {
        loop {
            self.catch_up().await?;
            self.fire().await?;
            self.shared.status.timers(self.wheel.len());
            // The clock is not that of the runtime, and can be set. So the sleep is short.
            let mut sleep = self.shared.options.timer_check;
            if let Some(due) = self.wheel.next() {
                let left = due.since(self.shared.clock.now()).unwrap_or_default();
                sleep = sleep.min(left.max(std::time::Duration::from_millis(1)));
            }
            self.shared.status.next_timer(self.wheel.next());
            if let Ok(news) = tokio::time::timeout(sleep, self.head.after(self.after)).await {
                news?;
            }
        }
    }

    /// Takes the newer events into the wheel.
    async fn catch_up(&mut self) -> Result<(), Interruption> {
        let store = self.shared.reader.store().clone();
        let filter = Filter::tag(timers_tag(self.shared.reader.process()));
        while self.after < self.head.position() {
            let batch = store.read(&filter, Read::after(self.after).limit(PAGE)).await?;
            for event in batch.iter() {
                if event.event_type() != REACTED {
                    let FiringRecord { process, instance, timer, set_at, .. } = decode(&event)?;
                    let timer = InstanceId { process, instance }.timer(&timer);
                    self.wheel.remove_set_at(timer, set_at);
                    continue;
                }
                let record: ReactionRecord = decode(&event)?;
                let (id, set_at) = (record.id(), event.position());
                for (action, number) in record.actions.iter().zip(0_u32..) {
                    match action {
                        Action::SetTimer { timer, due } => {
                            let pending = PendingTimer { due: *due, set_at, action: number };
                            self.wheel.set(id.timer(timer), pending);
                        }
                        Action::CancelTimer { timer } => self.wheel.remove(id.timer(timer)),
                        Action::Hold { .. }
                        | Action::Send { .. }
                        | Action::Call { .. }
                        | Action::End => {}
                    }
                }
            }
            self.after = batch.upto();
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Fires the timers that are due.
    async fn fire(&mut self) -> Result<(), Interruption> {
        let store = self.shared.reader.store().clone();
        let limits = store.limits();
        let at_once = AT_ONCE.min(limits.commit_conditions).min(limits.filter_items).max(1);
        let mut accepted: VecDeque<AcceptedCommit> = VecDeque::new();
        loop {
            let due = self.wheel.due(self.shared.clock.now(), at_once);
            if due.is_empty() {
                break;
            }
            let mut events = Vec::with_capacity(due.len());
            for (pending, timer) in due {
                match self.event(pending).await? {
                    Some(event) => events.push(DueTimer { timer, pending, event }),
                    None => self.wheel.remove(timer),
                }
            }
            match store.append(append(&events)).await {
                Ok(commit) => {
                    self.waits.reset();
                    accepted.push_back(commit);
                }
                Err(AppendError::Refused(Refusal::Conflict { .. })) => {
                    for due in &events {
                        match store.append(append(std::slice::from_ref(due))).await {
                            Ok(commit) => accepted.push_back(commit),
                            // It was fired, set anew or cancelled meanwhile.
                            Err(AppendError::Refused(Refusal::Conflict { .. })) => {}
                            Err(error) => return Err(error.into()),
                        }
                    }
                }
                Err(error) => return Err(error.into()),
            }
            // If it was set anew meanwhile, the log tells so later.
            for DueTimer { timer, .. } in events {
                self.wheel.remove(timer);
            }
            tokio::task::yield_now().await;
        }
        for commit in accepted {
            commit.synced().await.map_err(|error| Interruption::from(error.cause))?;
        }
        Ok(())
    }

    /// The event that a timer fired. Its names stand in the reaction that set it.
    async fn event(&self, pending: PendingTimer) -> Result<Option<RawEvent>, Interruption> {
        let store = self.shared.reader.store();
        let at = pending.set_at;
        let read = Read::after(at.before()).upto(at).limit(1);
        let batch = store.read(&Filter::everything(), read).await?;
        let Some(event) = batch.get(0) else { return Ok(None) };
        let record: ReactionRecord = decode(&event)?;
        let action = usize::try_from(pending.action).unwrap_or(usize::MAX);
        let Some(Action::SetTimer { timer, due }) = record.actions.get(action) else {
            return Ok(None);
        };
        let reader = &self.shared.reader;
        let mut metadata = Metadata {
            correlation: event.metadata().correlation,
            causation: Some(event.id().unwrap_or_else(|| reader.id_at(at))),
            ..Metadata::default()
        };
        // A timer that takes time begins a new chain of reactions. One that was due when it was
        // set takes none, and a loop of such timers is one.
        let reactions = event.metadata().extra.remove(REACTIONS).filter(|_| *due <= record.at);
        metadata.extra.insert(REACTIONS.into(), reactions.unwrap_or_else(|| "0".into()));
        metadata.extra.insert(PROCESS.into(), (&*record.process).into());
        let firing = FiringRecord {
            process: record.process.clone(),
            instance: record.instance.clone(),
            timer: timer.clone(),
            set_at: at,
            due: *due,
            fired_at: self.shared.clock.now(),
        };
        Ok(Some(firing.to_event(metadata)?))
    }
}

/// Fires these timers, each on the condition that nothing happened to it since it was set.
fn append(timers: &[DueTimer]) -> Append {
    let mut append = Append::events(timers.iter().map(|due| due.event.clone()));
    for DueTimer { timer, pending, .. } in timers {
        let fail_if = Filter::tag(timer_tag(*timer));
        append.conditions.push(AppendCondition { fail_if, after: pending.set_at });
    }
    append
}
