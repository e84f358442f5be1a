//! One instance of a process: its state, and what the log knows of it beside that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use diptych_store::{Position, ReadError};

use super::{
    Process,
    actions::Action,
    context::ReactionContext,
    reader::{InstanceEvent, ProcessReader},
    stored::{InstanceId, ParkingRecord, StoredAnswer, TriggerPlace},
    trigger::Trigger,
};
use crate::{
    event::{RetagFailure, SchemaError},
    panics::caught,
};

/// Maximum number of pending timers of one instance, so that its end fits into one event.
pub(super) const MOST_TIMERS: usize = 32;
/// Maximum number of actions in one reaction.
pub(super) const MOST_ACTIONS: usize = 48;
/// Maximum number of events that are read at once.
const PAGE: usize = 1_024;

/// An instance that was folded up to a position.
pub(crate) struct Instance<P> {
    state: P,
    is_ended: bool,
    /// Its pending timers, each with the position of the reaction that set it. The position is
    /// not known before the commit of that reaction.
    timers: BTreeMap<String, Option<Position>>,
    /// The calls that wait for their timers, by their names: gateway and body.
    held: BTreeMap<String, (String, String)>,
    /// The held call whose timer was applied last.
    released: Option<(String, String)>,
    pub(super) parked: Option<Parking>,
    /// When it was last triggered.
    pub(super) used: u64,
}

/// An instance stands before a trigger.
pub(super) struct Parking {
    /// The position of the event that parked it.
    pub(super) at: Position,
    pub(super) record: ParkingRecord,
}

/// Why an instance cannot be folded.
pub(super) enum LoadFailure {
    Read(ReadError),
    /// An event of the process cannot be read, or a former trigger cannot be applied.
    Broken(String),
}

impl From<ReadError> for LoadFailure {
    fn from(error: ReadError) -> LoadFailure {
        LoadFailure::Read(error)
    }
}

impl From<SchemaError> for LoadFailure {
    fn from(error: SchemaError) -> LoadFailure {
        LoadFailure::Broken(error.to_string())
    }
}

impl From<RetagFailure> for LoadFailure {
    fn from(failure: RetagFailure) -> LoadFailure {
        match failure {
            RetagFailure::Read(error) => error.into(),
            RetagFailure::Schema(error) => error.into(),
        }
    }
}

/// The triggers of a parked instance that wait for its release, in order.
pub(super) type WaitingTriggers<E> = VecDeque<(TriggerPlace, Result<Trigger<E>, String>)>;

impl<P: Process> Instance<P> {
    /// An instance without triggers.
    ///
    /// # Errors
    /// The panic of the process.
    pub(crate) fn new() -> Result<Instance<P>, String> {
        let state = caught(P::default).map_err(|panic| format!("`default` failed: {panic}"))?;
        let (is_ended, timers, parked, used) = (false, BTreeMap::new(), None, 0);
        let (held, released) = (BTreeMap::new(), None);
        Ok(Instance { state, is_ended, timers, held, released, parked, used })
    }

    /// The instance with everything up to a position. If it is parked, it has the state before the
    /// trigger that parked it.
    pub(super) async fn load(
        reader: &ProcessReader<P>,
        id: &InstanceId,
        upto: Position,
    ) -> Result<Instance<P>, LoadFailure> {
        Ok(Instance::load_waiting(reader, id, upto).await?.0)
    }

    /// Like [`load`](Instance::load), with the triggers that wait for its release.
    pub(super) async fn load_waiting(
        reader: &ProcessReader<P>,
        id: &InstanceId,
        upto: Position,
    ) -> Result<(Instance<P>, WaitingTriggers<P::Event>), LoadFailure> {
        let (mut triggers, mut reactions) = (VecDeque::new(), BTreeMap::new());
        let mut skipped = BTreeSet::new();
        let mut instance = Instance::new().map_err(LoadFailure::Broken)?;
        // The reaction to a trigger stands behind it, and maybe behind later triggers.
        let (read, end) = (reader.about(id).await?, reader.store().head().position());
        let mut after = Position::START;
        while after < end {
            let batch = read.page(reader.store(), after, end, PAGE).await?;
            for event in batch.iter() {
                for (of, event) in reader.read(&event)? {
                    if of != *id {
                        continue;
                    }
                    match event {
                        InstanceEvent::Trigger(place, trigger) if place.position <= upto => {
                            triggers.push_back((place, Ok(trigger)));
                        }
                        InstanceEvent::Unreadable(place, error) if place.position <= upto => {
                            triggers.push_back((place, Err(error.to_string())));
                        }
                        InstanceEvent::Reacted { at, record } => {
                            reactions.insert(record.trigger, (at, record.actions));
                        }
                        InstanceEvent::Parked { at, record } => {
                            instance.parked = Some(Parking { at, record });
                        }
                        InstanceEvent::Released { at, record } if at <= upto => {
                            let of = |parked: &Parking| parked.at == record.parked_at;
                            if instance.parked.as_ref().is_some_and(of) {
                                instance.parked = None;
                                if record.answer == StoredAnswer::Skip {
                                    skipped.insert(record.trigger);
                                }
                            }
                        }
                        _ => {}
                    }
                }
            }
            after = batch.upto();
        }
        triggers.retain(|(place, _)| !skipped.contains(place));
        instance.replay(&mut triggers, &mut reactions)?;
        Ok((instance, triggers))
    }

    /// Applies the triggers before a parked one, and notes the reactions in the
    /// order of their triggers.
    fn replay(
        &mut self,
        triggers: &mut WaitingTriggers<P::Event>,
        reactions: &mut BTreeMap<TriggerPlace, (Position, Vec<Action>)>,
    ) -> Result<(), LoadFailure> {
        let parked_before = self.parked.as_ref().map(|parked| parked.record.trigger);
        loop {
            let next = triggers.front().map(|(place, _)| *place);
            let next = next.filter(|place| parked_before.is_none_or(|parked| *place < parked));
            // A reaction whose trigger is not one any more keeps its place.
            while let Some(first) = reactions.first_entry()
                && next.is_none_or(|place| *first.key() < place)
            {
                let (at, actions) = first.remove();
                self.note(&actions, Some(at));
            }
            let Some((place, trigger)) = next.and_then(|_| triggers.pop_front()) else {
                return Ok(());
            };
            let applied = trigger.and_then(|trigger| self.apply(&trigger));
            applied.map_err(|reason| {
                let position = place.position;
                LoadFailure::Broken(format!("the event at position {position}: {reason}"))
            })?;
            if let Some((at, actions)) = reactions.remove(&place) {
                self.note(&actions, Some(at));
            }
        }
    }

    /// Notes the actions of a reaction at this position, which is not known before its commit.
    pub(crate) fn note(&mut self, actions: &[Action], at: Option<Position>) {
        for action in actions {
            match action {
                Action::SetTimer { timer, .. } => {
                    self.held.remove(timer);
                    self.timers.insert(timer.clone(), at);
                }
                Action::Hold { timer, gateway, body } => {
                    self.held.insert(timer.clone(), (gateway.clone(), body.clone()));
                }
                Action::CancelTimer { timer } => {
                    self.held.remove(timer);
                    self.timers.remove(timer);
                }
                Action::End => self.is_ended = true,
                Action::Send { .. } | Action::Call { .. } => {}
            }
        }
    }

    /// The state of the process.
    #[cfg(feature = "testing")]
    pub(crate) fn state(&self) -> &P {
        &self.state
    }

    /// Notes the position of a reaction.
    pub(super) fn committed(&mut self, actions: &[Action], position: Position) {
        for action in actions {
            if let Action::SetTimer { timer, .. } = action
                && let Some(at) = self.timers.get_mut(timer)
            {
                *at = Some(position);
            }
        }
    }

    /// Applies a trigger. Returns whether it counts: a timer that was set again or cancelled before
    /// the process saw it fire does not.
    ///
    /// # Errors
    /// The panic of the process.
    pub(crate) fn apply(&mut self, trigger: &Trigger<P::Event>) -> Result<bool, String> {
        self.released = None;
        if let Trigger::Timer(fired) = trigger {
            if self.timers.get(&fired.timer) != Some(&Some(fired.set_at)) {
                return Ok(false);
            }
            self.timers.remove(&fired.timer);
            self.released = self.held.remove(&fired.timer);
            if self.released.is_some() {
                return Ok(true);
            }
        }
        let state = &mut self.state;
        let applied = caught(|| state.apply(trigger));
        applied.map(|()| true).map_err(|panic| format!("`apply` failed: {panic}"))
    }

    /// The actions that follow from a trigger, which was applied.
    ///
    /// # Errors
    /// The reason why the process has no reaction.
    pub(crate) fn react(
        &self,
        trigger: &Trigger<P::Event>,
        cx: &ReactionContext<'_>,
    ) -> Result<Vec<Action>, String> {
        if self.is_ended {
            return Ok(Vec::new());
        }
        if let Some((gateway, body)) = self.released.clone() {
            return Ok(vec![Action::Call { gateway, body }]);
        }
        let state = &self.state;
        let reactions = caught(|| state.react(trigger, cx));
        let reactions = reactions.map_err(|panic| format!("`react` failed: {panic}"))?;
        self.completed(reactions.into_actions()?)
    }

    /// Completes the actions: an end also cancels the pending timers.
    ///
    /// # Errors
    /// The bound that they exceed.
    pub(super) fn completed(&self, actions: Vec<Action>) -> Result<Vec<Action>, String> {
        if actions.len() > MOST_ACTIONS {
            let count = actions.len();
            return Err(format!("a reaction has {count} actions, and at most {MOST_ACTIONS} fit"));
        }
        // A timer that is not pending needs no cancellation.
        let mut timers: BTreeSet<String> = self.timers.keys().cloned().collect();
        let mut result = Vec::new();
        for action in actions {
            match &action {
                Action::SetTimer { timer, .. } => drop(timers.insert(timer.clone())),
                Action::CancelTimer { timer } if !timers.remove(timer) => continue,
                Action::End => {
                    // Timers that the log does not know need no cancellation either.
                    result.retain(Action::leaves);
                    let pending = self.timers.keys().cloned();
                    result.extend(pending.map(|timer| Action::CancelTimer { timer }));
                    result.push(action);
                    return Ok(result);
                }
                Action::CancelTimer { .. }
                | Action::Hold { .. }
                | Action::Send { .. }
                | Action::Call { .. } => {}
            }
            result.push(action);
        }
        if timers.len() > MOST_TIMERS {
            let count = timers.len();
            return Err(format!(
                "an instance has {count} pending timers, and at most {MOST_TIMERS} are possible: \
                 cancel some, or use fewer names"
            ));
        }
        Ok(result)
    }
}
