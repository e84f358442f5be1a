//! The task that fires timers.

use std::{collections::VecDeque, sync::Arc};

use diptych_store::{
    AcceptedCommit, Append, AppendCondition, AppendError, Digest, EventRef, Filter, Head, Metadata,
    Position, RawEvent, Read, Refusal,
};

use super::{
    Process,
    actions::Action,
    shared::{Interruption, ProcessShared, Waits},
    status::ProcessState,
    stored::{
        FiringRecord, InstanceId, NotedTimer, PROCESS, REACTED, REACTIONS, ReactionRecord,
        TimersNote, decode, noted_tag, timer_tag, timers_tag,
    },
    wheel::{PendingTimer, TimerWheel},
};

/// Number of events that are read at once.
const PAGE: usize = 1_024;
/// Maximum number of timers that fire in one commit. Each has a condition of its own, and stores
/// allow at least 64.
const AT_ONCE: usize = 64;
/// Maximum number of timers whose names are read together.
const CHUNK: usize = 1_024;
/// Maximum number of timers in a note. A start reads the events of all younger timers.
const NOTED: usize = 1_024;

pub(super) struct TimerTask<P: Process> {
    shared: Arc<ProcessShared<P>>,
    head: Head,
    wheel: TimerWheel,
    /// Everything up to here is in the wheel.
    after: Position,
    /// Number of events since the last note of the pending timers.
    unnoted: u64,
    /// Number of events that are read at once for the names of timers.
    page: usize,
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
            unnoted: 0,
            page: 1,
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
            self.waits.wait().await;
        }
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, Interruption> {
        // A commit of unknown outcome may have fired timers that the wheel lacks.
        self.begin().await?;
        loop {
            self.catch_up().await?;
            self.note().await?;
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

    /// Begins with the last note of the pending timers.
    async fn begin(&mut self) -> Result<(), Interruption> {
        self.wheel.clear();
        (self.after, self.unnoted) = (self.shared.begin, 0);
        let filter = self.notes();
        let last = self.shared.reader.store().read(&filter, Read::backwards().limit(1)).await?;
        let Some(event) = last.get(0) else { return Ok(()) };
        let note: TimersNote = decode(&event)?;
        for NotedTimer { timer, due, set_at, action } in note.timers {
            self.wheel.set(timer, PendingTimer { due, set_at, action });
        }
        self.after = self.after.max(note.after);
        Ok(())
    }

    /// Where the notes of the pending timers are.
    fn notes(&self) -> Filter {
        let (process, shard) = (self.shared.reader.process(), self.shared.shard);
        Filter::tag(noted_tag(process, shard.number))
    }

    /// Takes the newer events into the wheel, up to the end that the log has now: it may grow
    /// without a pause, and timers that are due do not wait for one.
    async fn catch_up(&mut self) -> Result<(), Interruption> {
        let store = self.shared.reader.store().clone();
        let filter = Filter::tag(timers_tag(self.shared.reader.process()));
        let head = self.head.position();
        while self.after < head {
            let batch = store.read(&filter, Read::after(self.after).limit(PAGE)).await?;
            for event in batch.iter() {
                self.unnoted += 1;
                if event.event_type() != REACTED {
                    let fired = Interruption::at(event.position(), decode(&event))?;
                    let FiringRecord { process, instance, timer, set_at, .. } = fired;
                    let timer = InstanceId { process, instance }.timer(&timer);
                    self.wheel.remove_set_at(timer, set_at);
                    continue;
                }
                let record = Interruption::at(event.position(), decode::<ReactionRecord>(&event))?;
                let (id, set_at) = (record.id(), event.position());
                if !self.shared.shard.has(&id) {
                    continue;
                }
                for (action, number) in record.actions.iter().zip(0_u32..) {
                    match action {
                        Action::SetTimer { timer, due, .. } => {
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

    /// Notes the pending timers, if a start would have to read many events without it.
    ///
    /// The wheel may lack timers that were fired after its position. Those events are in the log
    /// before the note, so a log that has the note has them, too.
    async fn note(&mut self) -> Result<(), Interruption> {
        if self.unnoted < self.shared.options.timer_events_without_note.max(1) {
            return Ok(());
        }
        self.unnoted = 0;
        let (after, oldest) = self.wheel.oldest(NOTED, self.after);
        let noted = |(pending, timer): (PendingTimer, Digest)| {
            let PendingTimer { due, set_at, action } = pending;
            NotedTimer { timer, due, set_at, action }
        };
        let note = TimersNote {
            process: self.shared.reader.process().clone(),
            shard: self.shared.shard.number,
            upto: self.after,
            after,
            timers: oldest.into_iter().map(noted).collect(),
        };
        let condition = AppendCondition { fail_if: self.notes(), after: self.after };
        let append = Append::event(note.to_event()?).condition(condition);
        match self.shared.reader.store().append(append).await {
            // In a conflict, another program has a newer note.
            Ok(_) | Err(AppendError::Refused(Refusal::Conflict { .. })) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Fires the timers that are due.
    async fn fire(&mut self) -> Result<(), Interruption> {
        let store = self.shared.reader.store().clone();
        let limits = store.limits();
        let at_once = AT_ONCE.min(limits.commit_conditions).min(limits.filter_items).max(1);
        let mut accepted: VecDeque<AcceptedCommit> = VecDeque::new();
        loop {
            let due = self.wheel.due(self.shared.clock.now(), CHUNK);
            if due.is_empty() {
                break;
            }
            let timers: Vec<_> = due.iter().map(|(_, timer)| *timer).collect();
            let events = self.events(due).await?;
            for events in events.chunks(at_once) {
                match store.append(append(events)).await {
                    Ok(commit) => {
                        self.waits.reset();
                        accepted.push_back(commit);
                    }
                    Err(AppendError::Refused(Refusal::Conflict { .. })) => {
                        for due in events {
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
            }
            // If one was set anew meanwhile, the log tells so later.
            for timer in timers {
                self.wheel.remove(timer);
            }
            tokio::task::yield_now().await;
        }
        for commit in accepted {
            commit.synced().await.map_err(|error| Interruption::from(error.cause))?;
        }
        Ok(())
    }

    /// The events that these timers fired, in the order of the timers. Their names stand in the
    /// reactions that set them. Reactions that stand together are read together.
    async fn events(
        &mut self,
        due: Vec<(PendingTimer, Digest)>,
    ) -> Result<Vec<DueTimer>, Interruption> {
        let store = self.shared.reader.store().clone();
        let filter = Filter::tag(timers_tag(self.shared.reader.process()));
        let mut due: Vec<_> =
            due.into_iter().map(|(pending, timer)| (pending, timer, None)).collect();
        due.sort_unstable_by_key(|(pending, ..)| pending.set_at);
        let mut left = &mut *due;
        while let Some((first, ..)) = left.first() {
            let read = Read::after(first.set_at.before()).limit(self.page);
            let batch = store.read(&filter, read).await?;
            let mut hits = 0;
            for event in batch.iter() {
                let at = event.position();
                skip_upto(&mut left, at.before());
                if left.first().is_none_or(|(pending, ..)| pending.set_at != at) {
                    continue;
                }
                hits += 1;
                let record: ReactionRecord = decode(&event)?;
                for (pending, _, fired) in left.iter_mut() {
                    if pending.set_at != at {
                        break;
                    }
                    *fired = self.event(*pending, &event, &record)?;
                }
                skip_upto(&mut left, at);
            }
            skip_upto(&mut left, batch.upto());
            self.page = if hits * 2 > batch.len() { (self.page * 2).min(PAGE) } else { 1 };
        }
        due.sort_unstable_by_key(|(pending, ..)| *pending);
        let fired = |(pending, timer, event): (PendingTimer, Digest, Option<RawEvent>)| {
            event.map(|event| DueTimer { timer, pending, event })
        };
        Ok(due.into_iter().filter_map(fired).collect())
    }

    /// The event that a timer of this reaction fired.
    fn event(
        &self,
        pending: PendingTimer,
        reaction: &EventRef<'_>,
        record: &ReactionRecord,
    ) -> Result<Option<RawEvent>, Interruption> {
        let action = usize::try_from(pending.action).unwrap_or(usize::MAX);
        let Some(Action::SetTimer { timer, due, civil }) = record.actions.get(action) else {
            return Ok(None);
        };
        let (reader, at) = (&self.shared.reader, pending.set_at);
        let mut metadata = Metadata {
            correlation: reaction.metadata().correlation,
            causation: Some(reaction.id().unwrap_or_else(|| reader.id_at(at))),
            ..Metadata::default()
        };
        // A timer that takes time begins a new chain of reactions. One that was due when it was
        // set takes none, and a loop of such timers is one.
        let reactions = reaction.metadata().extra.remove(REACTIONS).filter(|_| *due <= record.at);
        metadata.extra.insert(REACTIONS.into(), reactions.unwrap_or_else(|| "0".into()));
        metadata.extra.insert(PROCESS.into(), (&*record.process).into());
        let firing = FiringRecord {
            process: record.process.clone(),
            instance: record.instance.clone(),
            timer: timer.clone(),
            set_at: at,
            due: *due,
            civil: civil.clone(),
            fired_at: self.shared.clock.now(),
        };
        Ok(Some(firing.to_event(metadata)?))
    }
}

/// A timer that is due, and its event once that is made.
type DueSlot = (PendingTimer, Digest, Option<RawEvent>);

/// Leaves out the timers that were set up to a position.
fn skip_upto(left: &mut &mut [DueSlot], position: Position) {
    let count = left.partition_point(|(pending, ..)| pending.set_at <= position);
    let all = std::mem::take(left);
    *left = all.split_at_mut(count).1;
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
