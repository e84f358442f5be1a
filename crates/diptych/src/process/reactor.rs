//! The task that reacts: it reads the triggers in order of the log and commits the reactions.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use diptych_store::{Append, AppendCondition, Head, Metadata, Position, RawEvent, Read, Tracking};
use foldhash::fast::RandomState;

use super::{
    Process,
    actions::Action,
    context::{Phase, ReactionContext},
    instance::{Instance, LoadFailure, Parking},
    reader::InstanceEvent,
    shared::{Interruption, ProcessShared, Waits},
    status::ProcessState,
    stored::{
        InstanceId, PARKED, PROCESS, ParkingRecord, REACTIONS, ReactionRecord, ReleaseRecord,
        StoredAnswer, TriggerPlace, about, reacted_source,
    },
    trigger::Trigger,
};
use crate::{event::Trail, stored_text::shortened};

/// Number of events that are read at once.
const PAGE: usize = 512;
/// A live process that is this number of positions behind catches up again.
const BEHIND: u64 = 65_536;
/// Maximum number of waiting triggers that one release hands out. If there are more, the instance
/// is parked again before the next.
const RELEASED_AT_ONCE: usize = 1_024;
/// A commit of reactions keeps this part of the store's limit free.
const SPARE: usize = 4;

/// An event that is ready to be committed.
struct StagedEvent {
    id: InstanceId,
    event: RawEvent,
    /// Its actions, if it is a reaction.
    actions: Vec<Action>,
}

pub(super) struct Reactor<P: Process> {
    shared: Arc<ProcessShared<P>>,
    source: String,
    head: Head,
    instances: HashMap<InstanceId, Instance<P>, RandomState>,
    staged: Vec<StagedEvent>,
    staged_bytes: usize,
    /// The place of the process that the log has.
    recorded: Position,
    /// The last position of the reactions that were accepted.
    accepted: Position,
    /// All reactions of the shard up to here are known. So the next commit needs that there are no
    /// later ones: another program may have reacted to a part of the same triggers.
    known: Position,
    is_live: bool,
    /// Counts triggers, to know which instances were triggered last.
    count: u64,
    waits: Waits,
}

impl<P: Process> Reactor<P> {
    pub(super) fn new(shared: Arc<ProcessShared<P>>) -> Reactor<P> {
        let source = reacted_source(shared.reader.process(), shared.shard.number);
        Reactor {
            source,
            head: shared.reader.store().head(),
            instances: HashMap::default(),
            staged: Vec::new(),
            staged_bytes: 0,
            recorded: Position::START,
            accepted: Position::START,
            known: Position::START,
            is_live: false,
            count: 0,
            waits: Waits::new(&shared.options),
            shared,
        }
    }

    /// Reacts until the process stops.
    pub(super) async fn run(mut self) {
        loop {
            let Err(interruption) = self.follow().await;
            self.instances.clear();
            self.staged.clear();
            self.staged_bytes = 0;
            self.is_live = false;
            let state = match interruption {
                Interruption::Overtaken => ProcessState::Standby,
                Interruption::Later(reason) => {
                    tracing::warn!(process = P::NAME, reason, "a process waits");
                    ProcessState::Stalled { reason }
                }
                Interruption::Stopped(reason) => {
                    tracing::error!(process = P::NAME, reason, "a process stopped");
                    self.shared.status.state(ProcessState::Stopped { reason });
                    return;
                }
            };
            self.shared.status.state(state);
            self.waits.wait().await;
        }
    }

    async fn follow(&mut self) -> Result<Infallible, Interruption> {
        let store = self.shared.reader.store().clone();
        self.published().await?;
        self.known = store.fresh_head().await?;
        let tracked = store.tracked(&self.source).await?;
        self.recorded = tracked.map_or(self.shared.begin, |tracked| tracked.position);
        let (mut position, filter) = (self.recorded, self.shared.reader.triggers());
        loop {
            let head = self.head.position();
            if position >= head {
                self.is_live = true;
                self.shared.status.at(position, ProcessState::Live);
                self.head.after(position).await?;
                continue;
            }
            if head.get() - position.get() > BEHIND {
                self.is_live = false;
            }
            if !self.is_live {
                self.shared.status.at(position, ProcessState::CatchingUp);
            }
            let batch = store.read(&filter, Read::after(position).limit(PAGE)).await?;
            for event in batch.iter() {
                let at = event.position();
                for (id, event) in Interruption::at(at, self.shared.reader.read(&event))? {
                    if self.shared.shard.has(&id) {
                        self.take(id, event).await?;
                    }
                }
                if self.is_full() {
                    self.commit(at).await?;
                }
            }
            position = batch.upto();
            let behind = position.get() - self.recorded.get();
            let most = self.shared.options.positions_without_commit.max(1);
            if !self.staged.is_empty() || behind >= most {
                self.commit(position).await?;
            }
            self.evict().await?;
            // A store in memory never waits, and other tasks of the thread have to run, too.
            tokio::task::yield_now().await;
        }
    }

    async fn take(
        &mut self,
        id: InstanceId,
        event: InstanceEvent<P::Event>,
    ) -> Result<(), Interruption> {
        self.count += 1;
        let (place, trigger) = match event {
            InstanceEvent::Trigger(place, trigger) => (place, Ok(trigger)),
            InstanceEvent::Unreadable(place, error) => (place, Err(error.to_string())),
            InstanceEvent::Released { at, record } => return self.release(id, at, record).await,
            InstanceEvent::Reacted { .. } | InstanceEvent::Parked { .. } => return Ok(()),
        };
        let mut instance = match self.instances.remove(&id) {
            Some(instance) => instance,
            None => {
                // None of its reactions waits for a sync: see `evict`.
                match Instance::load(&self.shared.reader, &id, place.position.before()).await {
                    Ok(instance) => instance,
                    Err(LoadFailure::Read(error)) => return Err(error.into()),
                    Err(LoadFailure::Broken(reason)) => return self.broken(id, place, reason),
                }
            }
        };
        instance.used = self.count;
        if instance.parked.is_none() {
            let reacted =
                trigger.and_then(|trigger| self.react(&mut instance, &id, place, &trigger));
            if let Err(reason) = reacted {
                self.park(&id, &mut instance, place, reason)?;
            }
        }
        self.instances.insert(id, instance);
        Ok(())
    }

    /// Parks an instance that cannot be folded.
    fn broken(
        &mut self,
        id: InstanceId,
        place: TriggerPlace,
        reason: String,
    ) -> Result<(), Interruption> {
        let mut instance = Instance::new().map_err(Interruption::Stopped)?;
        instance.used = self.count;
        self.park(&id, &mut instance, place, reason)?;
        self.instances.insert(id, instance);
        Ok(())
    }

    /// Applies the trigger, and stages the reaction.
    ///
    /// # Errors
    /// The reason why the instance cannot take the trigger.
    fn react(
        &mut self,
        instance: &mut Instance<P>,
        id: &InstanceId,
        place: TriggerPlace,
        trigger: &Trigger<P::Event>,
    ) -> Result<(), String> {
        if !instance.apply(trigger)? {
            return Ok(());
        }
        let phase = match self.is_live {
            true => Phase::Live,
            false => {
                let behind = self.head.position().get().saturating_sub(place.position.get());
                Phase::CatchingUp { behind }
            }
        };
        let now = self.shared.clock.now();
        let actions = instance.react(trigger, &ReactionContext::new(now, phase, id.value()))?;
        self.stage(instance, id, place, trigger, actions)
    }

    /// Checks the actions, and adds them to the next commit.
    fn stage(
        &mut self,
        instance: &mut Instance<P>,
        id: &InstanceId,
        trigger: TriggerPlace,
        of: &Trigger<P::Event>,
        actions: Vec<Action>,
    ) -> Result<(), String> {
        if actions.is_empty() {
            return Ok(());
        }
        for action in &actions {
            match action {
                // Only checked: the command is sent once the reaction is durable.
                Action::Send { command, body } => {
                    drop(self.shared.commands.prepare(command, body)?);
                }
                Action::Call { gateway, body } | Action::Hold { gateway, body, .. } => {
                    self.shared.gateways.check(gateway, body)?
                }
                _ => {}
            }
        }
        let reactions = of.note(REACTIONS).and_then(|number| number.parse().ok());
        let reactions = reactions.unwrap_or(0_u32).saturating_add(1);
        let most = self.shared.options.reactions_in_a_row;
        if reactions > most {
            let (name, before) = (&id.process, of.note(PROCESS).unwrap_or("another process"));
            return Err(format!(
                "more than {most} reactions caused each other, lately of {before} and {name}: they \
                 look like a loop; let one of them end it, or raise `reactions_in_a_row`"
            ));
        }
        let mut metadata = Metadata {
            correlation: Some(of.correlation()),
            causation: Some(of.id()),
            ..Metadata::default()
        };
        metadata.extra.insert(REACTIONS.into(), reactions.to_string().into());
        metadata.extra.insert(PROCESS.into(), (&*id.process).into());
        Trail::carry(of.metadata(), &mut metadata);
        let (process, tag) = (id.process.clone(), id.instance.clone());
        let at = self.shared.clock.now();
        let record = ReactionRecord { process, instance: tag, trigger, at, actions };
        let event = record.to_event(metadata).map_err(|error| error.to_string())?;
        let event = self.shared.shard.mark(&id.process, event);
        let limit = self.shared.reader.store().limits().event_bytes / SPARE * (SPARE - 1);
        if event.payload.len() > limit {
            let bytes = event.payload.len();
            return Err(format!("a reaction has {bytes} bytes, and at most {limit} fit"));
        }
        instance.note(&record.actions, None);
        self.staged_bytes += event.payload.len();
        self.staged.push(StagedEvent { id: id.clone(), event, actions: record.actions });
        Ok(())
    }

    /// Parks an instance. Its state is not used before it is folded anew by its release.
    fn park(
        &mut self,
        id: &InstanceId,
        parked: &mut Instance<P>,
        trigger: TriggerPlace,
        reason: String,
    ) -> Result<(), Interruption> {
        tracing::warn!(
            process = P::NAME,
            instance = &*id.instance,
            position = trigger.position.get(),
            reason,
            "an instance of a process is parked"
        );
        let (process, instance) = (id.process.clone(), id.instance.clone());
        let reason = shortened(reason);
        let record = ParkingRecord { process, instance, trigger, reason };
        let event = about(PARKED, id, &record, Metadata::default())?;
        let event = self.shared.shard.mark(&id.process, event);
        self.staged_bytes += event.payload.len();
        self.staged.push(StagedEvent { id: id.clone(), event, actions: Vec::new() });
        parked.parked = Some(Parking { at: Position::START, record });
        Ok(())
    }

    /// Lets a parked instance take its waiting triggers, after an operator's answer at `at`.
    async fn release(
        &mut self,
        id: InstanceId,
        at: Position,
        record: ReleaseRecord,
    ) -> Result<(), Interruption> {
        // The instance is folded anew, so all of its reactions have to be in the log.
        if self.staged.iter().any(|staged| staged.id == id) {
            self.commit(at.before()).await?;
        }
        self.instances.remove(&id);
        self.published().await?;
        let loaded = Instance::load_waiting(&self.shared.reader, &id, at.before()).await;
        let (mut instance, waiting) = match loaded {
            Ok(loaded) => loaded,
            Err(LoadFailure::Read(error)) => return Err(error.into()),
            Err(LoadFailure::Broken(reason)) => return self.broken(id, record.trigger, reason),
        };
        if instance.parked.take().is_none_or(|parked| parked.at != record.parked_at) {
            // It was released before.
            return Ok(());
        }
        instance.used = self.count;
        for (number, (place, trigger)) in waiting.into_iter().enumerate() {
            if place == record.trigger && record.answer == StoredAnswer::Skip {
                continue;
            }
            let taken = match trigger {
                _ if number >= RELEASED_AT_ONCE => {
                    Err(format!("{RELEASED_AT_ONCE} triggers were released: release the others"))
                }
                Err(reason) => Err(reason),
                Ok(trigger) => match &record.answer {
                    StoredAnswer::Replace(actions) if place == record.trigger => {
                        self.replace(&mut instance, &id, place, &trigger, actions.clone())
                    }
                    _ => self.react(&mut instance, &id, place, &trigger),
                },
            };
            if let Err(reason) = taken {
                self.park(&id, &mut instance, place, reason)?;
                break;
            }
        }
        self.instances.insert(id, instance);
        Ok(())
    }

    /// Applies the trigger, and stages an operator's actions in place of the reaction.
    fn replace(
        &mut self,
        instance: &mut Instance<P>,
        id: &InstanceId,
        place: TriggerPlace,
        trigger: &Trigger<P::Event>,
        actions: Vec<Action>,
    ) -> Result<(), String> {
        instance.apply(trigger)?;
        let actions = instance.completed(actions)?;
        self.stage(instance, id, place, trigger, actions)
    }

    fn is_full(&self) -> bool {
        let limit = self.shared.reader.store().limits().commit_bytes / SPARE;
        self.staged.len() >= self.shared.options.reactions_per_commit.max(1)
            || self.staged_bytes >= limit
    }

    /// Commits the staged reactions, and the place up to which the process has reacted.
    async fn commit(&mut self, upto: Position) -> Result<(), Interruption> {
        self.staged_bytes = 0;
        let staged = std::mem::take(&mut self.staged);
        let events = staged.iter().map(|staged| staged.event.clone());
        let process = self.shared.reader.process();
        let fail_if = self.shared.shard.reactions(process);
        let append = Append::events(events)
            .tracking(Tracking::new(&self.source, upto))
            .condition(AppendCondition { fail_if, after: self.known });
        let accepted = self.shared.reader.store().append(append).await?;
        self.recorded = upto;
        self.waits.reset();
        let mut position = accepted.first;
        for StagedEvent { id, actions, .. } in &staged {
            if let Some(instance) = self.instances.get_mut(id) {
                instance.committed(actions, position);
            }
            position = position.plus(1);
        }
        if !staged.is_empty() {
            self.accepted = accepted.last;
            self.known = accepted.last;
        }
        Ok(())
    }

    /// Waits until all accepted reactions can be read.
    async fn published(&self) -> Result<(), Interruption> {
        if self.head.position() < self.accepted {
            self.head.upto(self.accepted).await?;
        }
        Ok(())
    }

    /// Drops the instances that were not triggered for longest.
    async fn evict(&mut self) -> Result<(), Interruption> {
        let most = self.shared.options.instances_in_memory;
        if self.instances.len() <= most {
            return Ok(());
        }
        self.published().await?;
        let mut used: Vec<_> = self.instances.values().map(|instance| instance.used).collect();
        used.sort_unstable_by(|one, other| other.cmp(one));
        let oldest = used.get(most / 2).copied().unwrap_or(u64::MAX);
        self.instances.retain(|_, instance| instance.used > oldest);
        Ok(())
    }
}
