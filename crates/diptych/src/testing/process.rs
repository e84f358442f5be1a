//! Tests of processes as given / when / then, with virtual time, without a store or a wait.

use std::{
    any::type_name,
    collections::BTreeMap,
    fmt::{Debug, Write},
    time::Duration,
};

use diptych_store::{Metadata, Position, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use super::{
    difference,
    given::{START_MICROS, test_log},
};
use crate::{
    event::{Event, Reading, Recorded, Upcasters, derived_id, encoded},
    process::{
        Action, ActionOutcome, ActionRejection, ActionSettled, CivilTime, Instance, Phase, Process,
        ReactionContext, Reactions, TimerFired, Trigger,
    },
};

/// Begins a test of one instance of a process.
///
/// Events go through their encoding, as in an app. Positions count from 1, and the clock starts
/// with the year 2000 and moves only when the test says so. Nothing is sent: the actions of a
/// reaction are compared as data.
///
/// ```
/// use std::time::Duration;
///
/// use diptych::{
///     Event,
///     process::{Process, ReactionContext, Reactions, Trigger},
///     testing::given_process,
/// };
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event("order-placed")]
/// struct Placed {
///     #[tag]
///     order: u64,
/// }
///
/// #[derive(Default)]
/// struct Reminder;
///
/// const DAY: Duration = Duration::from_secs(24 * 60 * 60);
///
/// impl Process for Reminder {
///     type Event = Placed;
///     const NAME: &'static str = "reminder";
///     const TAG: &'static str = "order";
///
///     fn apply(&mut self, _: &Trigger<Placed>) {}
///
///     fn react(&self, trigger: &Trigger<Placed>, cx: &ReactionContext<'_>) -> Reactions {
///         match trigger {
///             Trigger::Event(_) => {
///                 Reactions::none().set_timer("remind", cx.now().saturating_add(DAY))
///             }
///             _ => Reactions::none().end(),
///         }
///     }
/// }
///
/// given_process::<Reminder>()
///     .and(Placed { order: 7 })
///     .then_pending(["remind"])
///     .when_time_passes(DAY)
///     .then(Reactions::none().end())
///     .then_pending([]);
/// ```
#[must_use = "nothing is tested before a reaction is compared"]
pub fn given_process<P: Process>() -> GivenProcess<P> {
    let reading = match Reading::new(Upcasters::new().into(), test_log()) {
        Ok(reading) => reading,
        Err(error) => panic!("{error}"),
    };
    let instance = match Instance::new() {
        Ok(instance) => instance,
        Err(panic) => panic!("{}: {panic}", type_name::<P>()),
    };
    GivenProcess {
        reading,
        instance,
        value: None,
        position: Position::START,
        clock: Timestamp::from_micros(START_MICROS),
        phase: Phase::Live,
        timers: BTreeMap::new(),
        reactions: Vec::new(),
    }
}

/// One instance of a process in a test; see [`given_process`].
pub struct GivenProcess<P: Process> {
    reading: Reading<P::Event>,
    instance: Instance<P>,
    /// The value of the tag of the instance, once an event told it.
    value: Option<String>,
    position: Position,
    clock: Timestamp,
    phase: Phase,
    timers: BTreeMap<String, (Timestamp, Position, Option<CivilTime>)>,
    /// The actions since the last `when`.
    reactions: Vec<Action>,
}

impl<P: Process> GivenProcess<P> {
    /// Gives the instance an event, and leaves its reaction out of the next comparison.
    ///
    /// # Panics
    /// If the event cannot be written, is not about the instance, or the process has a mistake.
    #[track_caller]
    pub fn and(mut self, event: P::Event) -> GivenProcess<P> {
        self = self.when(event);
        self.reactions.clear();
        self
    }

    /// Moves the clock to an instant, and leaves out what timers cause on the way.
    ///
    /// # Panics
    /// If the process has a mistake.
    #[track_caller]
    pub fn at(mut self, instant: Timestamp) -> GivenProcess<P> {
        self = self.when_it_is(instant);
        self.reactions.clear();
        self
    }

    /// Tells the process from here on that it catches up with older events.
    pub fn catching_up(mut self, behind: u64) -> GivenProcess<P> {
        self.phase = Phase::CatchingUp { behind };
        self
    }

    /// Tells the process from here on that it is live, as it is at first.
    pub fn live(mut self) -> GivenProcess<P> {
        self.phase = Phase::Live;
        self
    }

    /// An event of the instance comes.
    ///
    /// # Panics
    /// If the event cannot be written, is not about the instance, or the process has a mistake.
    #[track_caller]
    pub fn when(mut self, event: P::Event) -> GivenProcess<P> {
        let raw = match event.encode() {
            Ok(raw) => raw,
            Err(error) => panic!("the event cannot be written: {error}"),
        };
        if let Err(error) = self.reading.check(&raw) {
            panic!("the event cannot be written: {error}");
        }
        let event = match self.reading.decode(&encoded(&raw)) {
            Ok(event) => event,
            Err(error) => panic!("the event cannot be read again: {error}"),
        };
        let own: Vec<_> = raw.tags.iter().filter(|tag| tag.key() == P::TAG).collect();
        let Some(first) = own.first() else {
            panic!("{} has no tag {:?}: it triggers no instance", raw.event_type, P::TAG);
        };
        let value = self.value.get_or_insert_with(|| first.value().to_owned());
        if !own.iter().any(|tag| tag.value() == value) {
            panic!("{} is about another instance than {:?}", raw.event_type, value);
        }
        self.begin();
        let metadata = raw.metadata.clone();
        let trigger = Trigger::Event(Recorded { metadata, ..self.recorded(event) });
        self.take(&trigger);
        self
    }

    /// Time passes: each timer that becomes due fires at its due time, in order.
    ///
    /// # Panics
    /// If the process has a mistake.
    #[track_caller]
    pub fn when_time_passes(self, by: Duration) -> GivenProcess<P> {
        let until = self.clock.saturating_add(by);
        self.when_it_is(until)
    }

    /// Like [`when_time_passes`](GivenProcess::when_time_passes), up to an instant.
    ///
    /// # Panics
    /// If the process has a mistake.
    #[track_caller]
    pub fn when_it_is(mut self, instant: Timestamp) -> GivenProcess<P> {
        self.begin();
        while let Some((due, set_at, timer)) = self.next_timer().filter(|next| next.0 <= instant) {
            self.clock = self.clock.max(due);
            self.fire(timer, due, set_at);
        }
        self.clock = instant;
        self
    }

    /// The program did not run until this instant: the timers that became due fire late, in order.
    ///
    /// # Panics
    /// If the process has a mistake.
    #[track_caller]
    pub fn when_it_was_down_until(mut self, instant: Timestamp) -> GivenProcess<P> {
        self.begin();
        self.clock = instant;
        while let Some((due, set_at, timer)) = self.next_timer().filter(|next| next.0 <= instant) {
            self.fire(timer, due, set_at);
        }
        self
    }

    /// The last command of this name is rejected.
    ///
    /// # Panics
    /// If the rejection cannot be written, or the process has a mistake.
    #[track_caller]
    pub fn when_rejected<R>(self, command: &str, rejection: &R) -> GivenProcess<P>
    where
        R: std::error::Error + Serialize,
    {
        let json = match serde_json::to_value(rejection) {
            Ok(json) => json,
            Err(error) => panic!("the rejection cannot be written: {error}"),
        };
        let rejection = ActionRejection::new(rejection.to_string(), json);
        self.when_settled(command, ActionOutcome::Rejected(rejection))
    }

    /// The last command of this name had nothing to do.
    ///
    /// # Panics
    /// If the process has a mistake.
    #[track_caller]
    pub fn when_nothing_to_do(self, command: &str) -> GivenProcess<P> {
        self.when_settled(command, ActionOutcome::NothingToDo)
    }

    /// The last call of this gateway is answered.
    ///
    /// # Panics
    /// If the answer cannot be written, or the process has a mistake.
    #[track_caller]
    pub fn when_answered<A: Serialize>(self, gateway: &str, answer: &A) -> GivenProcess<P> {
        match serde_json::to_value(answer) {
            Ok(json) => self.when_settled(gateway, ActionOutcome::Answered(json)),
            Err(error) => panic!("the answer cannot be written: {error}"),
        }
    }

    #[track_caller]
    fn when_settled(mut self, command: &str, outcome: ActionOutcome) -> GivenProcess<P> {
        self.begin();
        let (name, reaction) = (command.to_owned(), self.position.before());
        let settled = ActionSettled { name, reaction, action: 0, outcome };
        let trigger = Trigger::Settled(self.recorded(settled));
        self.take(&trigger);
        self
    }

    /// Compares the actions since the last `when`. They are those that the app would store: an end
    /// also cancels the pending timers, and a cancellation of a timer that is not pending is left
    /// out.
    ///
    /// # Panics
    /// If they differ.
    #[track_caller]
    pub fn then(self, expected: Reactions) -> GivenProcess<P> {
        let expected = match expected.into_actions() {
            Ok(expected) => expected,
            Err(fault) => panic!("the expected actions cannot be stored: {fault}"),
        };
        if self.reactions != expected {
            let (expected, actual) = (lines(&expected), lines(&self.reactions));
            let difference = difference(&expected, &actual);
            panic!("{} reacted otherwise:\n{difference}", type_name::<P>());
        }
        self
    }

    /// Checks that there was no action since the last `when`.
    ///
    /// # Panics
    /// If there was one.
    #[track_caller]
    pub fn then_nothing(self) -> GivenProcess<P> {
        self.then(Reactions::none())
    }

    /// Compares the names of the pending timers, in order.
    ///
    /// # Panics
    /// If they differ.
    #[track_caller]
    pub fn then_pending<const N: usize>(self, expected: [&str; N]) -> GivenProcess<P> {
        let pending: Vec<_> = self.timers.keys().map(String::as_str).collect();
        assert_eq!(pending, expected, "the pending timers of {}", type_name::<P>());
        self
    }

    /// Compares the due time of a pending timer.
    ///
    /// # Panics
    /// If it differs, or the timer is not pending.
    #[track_caller]
    pub fn then_due(self, timer: &str, expected: Timestamp) -> GivenProcess<P> {
        let due = self.timers.get(timer).map(|(due, ..)| *due);
        assert_eq!(due, Some(expected), "the due time of {timer:?} of {}", type_name::<P>());
        self
    }

    /// The state of the instance.
    pub fn state(&self) -> &P {
        self.instance.state()
    }

    fn begin(&mut self) {
        self.reactions.clear();
    }

    fn next_timer(&self) -> Option<(Timestamp, Position, String)> {
        let timers = self.timers.iter();
        timers.map(|(timer, (due, set_at, _))| (*due, *set_at, timer.clone())).min()
    }

    #[track_caller]
    fn fire(&mut self, timer: String, due: Timestamp, set_at: Position) {
        let civil = self.timers.remove(&timer).and_then(|(.., civil)| civil);
        let fired = TimerFired { timer, set_at, due, civil, fired_at: self.clock };
        let trigger = Trigger::Timer(self.recorded(fired));
        self.take(&trigger);
    }

    fn recorded<T>(&mut self, event: T) -> Recorded<T> {
        self.position = self.position.plus(1);
        Recorded {
            position: self.position,
            recorded_at: self.clock,
            id: self.id(),
            metadata: Metadata::default(),
            event,
        }
    }

    fn id(&self) -> Uuid {
        derived_id(test_log(), self.position)
    }

    #[track_caller]
    fn take(&mut self, trigger: &Trigger<P::Event>) {
        let value = self.value.clone().unwrap_or_default();
        let cx = ReactionContext::new(self.clock, self.phase, &value);
        let applied = self.instance.apply(trigger);
        let reacted = applied.and_then(|_| self.instance.react(trigger, &cx));
        let actions = match reacted {
            Ok(actions) => actions,
            Err(reason) => panic!("the app would park the instance of {}: {reason}", P::NAME),
        };
        if actions.is_empty() {
            return;
        }
        // The event of the reaction.
        self.position = self.position.plus(1);
        self.instance.note(&actions, Some(self.position));
        for action in &actions {
            match action {
                Action::SetTimer { timer, due, civil } => {
                    self.timers.insert(timer.clone(), (*due, self.position, civil.clone()));
                }
                Action::CancelTimer { timer } => drop(self.timers.remove(timer)),
                Action::Hold { .. } | Action::Send { .. } | Action::Call { .. } | Action::End => {}
            }
        }
        self.reactions.extend(actions);
    }
}

/// The actions as text, one a line.
fn lines(actions: &[Action]) -> String {
    let mut text = String::new();
    for action in actions {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{action:?}");
    }
    text
}

impl<P: Process> Debug for GivenProcess<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut given = f.debug_struct("GivenProcess");
        given.field("process", &P::NAME).field("clock", &self.clock).finish_non_exhaustive()
    }
}
