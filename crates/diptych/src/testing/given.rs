//! Tests of rules as given / when / then, without a store, a runtime or a wait.

mod digest;
mod writing;

use std::{
    any::type_name,
    fmt::{Debug, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use diptych_store::{
    Filter, FilterItem, Limits, LogId, Metadata, Position, RawEvent, Tag, Timestamp,
};

use super::{beginning, difference};
use crate::{
    command::{
        Command, CommandError, CommandPanic, DecisionContext, Folds, Invalid,
        context::{RuleClock, check_extra},
        decide::{add_metadata, narrow},
        folds::{StateSource, newest},
        state::Slot,
    },
    event::{Event, Schema, StoredEvent, Upcasters},
    fold::{Fold, FoldError},
    panics::panic_text,
};
use writing::{Unseen, written};

/// Begins a test of a rule, with the events that were recorded before the command.
///
/// Events go through their encoding, and each fold gets the events of its boundary, as in an app.
/// Positions count from 1. The clock starts with the year 2000 and advances by a second with each
/// event, unless [`at`](Given::at) sets it. Ids derive from positions. So a fold gets the same
/// input in every run.
///
/// The test is as strict as an app over a log with the default [limits](Given::limits). It fails if
/// the app would refuse an event, a boundary or a commit.
///
/// ```
/// use diptych::{Command, DecisionContext, Event, Filter, Fold, Recorded, Tag, testing::given};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
/// #[event("seat-taken")]
/// struct Taken {
///     #[tag]
///     seat: String,
/// }
///
/// #[derive(Default)]
/// struct Seat {
///     taken: bool,
/// }
///
/// impl Fold for Seat {
///     type Event = Taken;
///
///     fn apply(&mut self, _: &Recorded<Taken>) {
///         self.taken = true;
///     }
/// }
///
/// #[derive(Debug, PartialEq, thiserror::Error)]
/// #[error("the seat is taken")]
/// struct AlreadyTaken;
///
/// struct Take(&'static str);
///
/// impl Command for Take {
///     type State = Seat;
///     type Event = Taken;
///     type Rejection = AlreadyTaken;
///
///     fn boundary(&self) -> Filter {
///         Filter::tag(Tag::new("seat", self.0))
///     }
///
///     fn decide(&self, seat: &Seat, _: &DecisionContext) -> Result<Vec<Taken>, AlreadyTaken> {
///         match seat.taken {
///             true => Err(AlreadyTaken),
///             false => Ok(vec![Taken { seat: self.0.to_owned() }]),
///         }
///     }
/// }
///
/// let taken = |seat: &str| Taken { seat: seat.to_owned() };
/// given([taken("1A")]).when(Take("1A")).then_rejected(AlreadyTaken);
/// given([taken("1A")]).when(Take("1B")).then([taken("1B")]);
/// ```
#[must_use = "nothing is tested before a command is sent and its outcome is compared"]
#[track_caller]
pub fn given<E: Event>(events: impl IntoIterator<Item = E>) -> Given {
    nothing_given().and(events)
}

/// Begins a test of a rule, without earlier events.
#[must_use = "nothing is tested before a command is sent and its outcome is compared"]
pub fn nothing_given() -> Given {
    Given {
        events: Vec::new(),
        clock: Timestamp::from_micros(START_MICROS),
        metadata: Metadata::default(),
        upcasters: Upcasters::new(),
        is_retagged: false,
        limits: Limits::default(),
        schema: schema(Upcasters::new(), &Limits::default(), false),
    }
}

#[track_caller]
fn schema(upcasters: Upcasters, limits: &Limits, is_retagged: bool) -> Arc<Schema> {
    match Schema::new(upcasters, test_log(), limits.tag_bytes) {
        Ok(schema) if is_retagged => Arc::new(schema.retagged()),
        Ok(schema) => Arc::new(schema),
        Err(error) => panic!("{error}"),
    }
}

/// 2000-01-01T00:00:00Z.
pub(super) const START_MICROS: i64 = 946_684_800_000_000;
const SECOND_MICROS: i64 = 1_000_000;

/// The events before a command; see [`given`].
pub struct Given {
    events: Vec<(RawEvent, Timestamp)>,
    clock: Timestamp,
    metadata: Metadata,
    upcasters: Upcasters,
    /// Whether older events have the tags that they would get today.
    is_retagged: bool,
    limits: Limits,
    /// How events are read. It is kept, because it knows which types were declared.
    schema: Arc<Schema>,
}

impl Given {
    /// Adds these events.
    #[must_use]
    #[track_caller]
    pub fn and<E: Event>(mut self, events: impl IntoIterator<Item = E>) -> Given {
        for event in events {
            let raw = written(&self.schema, &event);
            self.push(raw);
        }
        self
    }

    /// Adds this event, as an older program wrote it.
    #[must_use]
    #[track_caller]
    pub fn and_stored(mut self, event: RawEvent) -> Given {
        self.push(event);
        self
    }

    /// With these upcasters.
    ///
    /// # Panics
    /// If they contradict each other.
    #[must_use]
    #[track_caller]
    pub fn upcasters(mut self, upcasters: Upcasters) -> Given {
        self.schema = schema(upcasters.clone(), &self.limits, self.is_retagged);
        self.upcasters = upcasters;
        self
    }

    /// With the limits of this store, for all further events and commands. Without it they are the
    /// default ones.
    #[must_use]
    #[track_caller]
    pub fn limits(mut self, limits: Limits) -> Given {
        self.schema = schema(self.upcasters.clone(), &limits, self.is_retagged);
        self.limits = limits;
        self
    }

    /// Gives [stored](Given::and_stored) events the tags that they would get today, as after
    /// [`App::retag`](crate::App::retag). Without it they have the tags that they were stored with.
    #[must_use]
    pub fn retagged(mut self) -> Given {
        self.is_retagged = true;
        self.schema = schema(self.upcasters.clone(), &self.limits, true);
        self
    }

    /// Sets the clock to the instant at which the next event is recorded, and which the next rule
    /// gets as [`now`](DecisionContext::now).
    ///
    /// # Panics
    /// If the last event was recorded later: the time of recording does not go back along a log.
    #[must_use]
    #[track_caller]
    pub fn at(mut self, instant: Timestamp) -> Given {
        if let Some((_, last)) = self.events.last()
            && instant < *last
        {
            panic!(
                "the clock cannot be set to {instant}: the last event was recorded at {last}, and \
                 the time of recording does not go back; if a fact occurred earlier than that, \
                 give its `occurred_at` with `with_metadata`"
            );
        }
        self.clock = instant;
        self
    }

    /// Gives this metadata to all further events, as the sender of a command does. Where it has no
    /// value, the event's own stays. The command's [own instant](Command::occurred_at) applies
    /// unless this has one.
    ///
    /// # Panics
    /// If a name of extra metadata is reserved.
    #[must_use]
    #[track_caller]
    pub fn with_metadata(mut self, metadata: Metadata) -> Given {
        if let Some(invalid) = metadata.extra.keys().find_map(|name| check_extra(name).err()) {
            panic!("{invalid}");
        }
        self.metadata = metadata;
        self
    }

    /// The state of `F` over this boundary.
    ///
    /// # Panics
    /// If an event cannot be folded, or the boundary asks for types or tags that the fold does not
    /// have.
    #[must_use]
    #[track_caller]
    pub fn state<F: Fold>(self, boundary: Filter) -> F {
        match F::open(boundary, &StateSource::uncached(&self.schema)) {
            Ok(mut slots) => {
                self.fold_all::<F>(&mut slots);
                slots.fold
            }
            Err(failure) => panic!("the boundary of {} is wrong: {failure}", type_name::<F>()),
        }
    }

    /// Sends this command.
    ///
    /// # Panics
    /// If an event cannot be folded, the rule panics, its events cannot be written so that they can
    /// be read again, or the store would refuse the commit.
    #[track_caller]
    pub fn when<C: Command>(mut self, command: C) -> When<C> {
        let happened = self.events.iter().map(|(event, _)| event.event_type.to_string()).collect();
        let (outcome, unseen) = match command.validate() {
            Err(invalid) => (Outcome::Invalid(invalid), None),
            Ok(()) => self.decide(&command),
        };
        When { given: self, happened, outcome, unseen }
    }

    #[track_caller]
    fn decide<C: Command>(&mut self, command: &C) -> (Outcome<C>, Option<Unseen>) {
        let schema = Arc::clone(&self.schema);
        let mut slots =
            match <C::State as Folds>::open(command.boundary(), &StateSource::uncached(&schema)) {
                Ok(slots) => slots,
                Err(failure) => {
                    panic!("the boundary of {} is wrong: {failure}", type_name::<C>())
                }
            };
        self.fold_all::<C::State>(&mut slots);
        let narrowed = command.conflicts_with().map(|filter| {
            narrow::<C>(&schema, &mut slots, &filter).unwrap_or_else(|failure| {
                panic!("`conflicts_with` of {} is wrong: {failure}", type_name::<C>())
            })
        });
        let mut metadata = self.metadata.clone();
        metadata.occurred_at = metadata.occurred_at.or(command.occurred_at());
        let newest = newest::<C::State>(&mut slots);
        let (answer, decided_at) = {
            let context = DecisionContext::new(RuleClock::at(self.clock), newest, &metadata);
            let states = <C::State as Folds>::states(&slots);
            let answer = catch_unwind(AssertUnwindSafe(|| command.decide(states, &context)));
            (answer, context.decided_at())
        };
        match answer {
            Ok(Ok(events)) if events.is_empty() => (Outcome::Events(events), None),
            Ok(Ok(events)) => {
                let unseen = self.write::<C>(
                    &mut slots,
                    narrowed.as_ref(),
                    &events,
                    (&metadata, decided_at),
                );
                (Outcome::Events(events), unseen)
            }
            Ok(Err(rejection)) => (Outcome::Rejected(rejection), None),
            Err(panic) => {
                let (command, message) = (type_name::<C>(), panic_text(&*panic));
                panic!("{}", CommandError::Panicked(CommandPanic { command, message }))
            }
        }
    }

    #[track_caller]
    fn fold_all<S: Folds>(&self, slots: &mut S::Slots) {
        for slot in S::slots(slots).into_iter().flatten() {
            if let Err(error) = self.fold_into(slot) {
                panic!("{error}");
            }
        }
    }

    fn fold_into(&self, slot: &mut dyn Slot) -> Result<(), FoldError> {
        (0..self.events.len()).try_for_each(|at| self.fold_event(slot, at))
    }

    fn fold_event(&self, slot: &mut dyn Slot, at: usize) -> Result<(), FoldError> {
        let Some((event, recorded_at)) = self.events.get(at) else { return Ok(()) };
        let tags = || event.tags.iter().map(Tag::as_str);
        let stored = StoredEvent::accepted(event, Position::new(at as u64 + 1), *recorded_at);
        // An event that cannot be read is folded as well, for the error.
        let is_seen = |slot: &dyn Slot| {
            let is_source = |item: &FilterItem| item.types.contains(&event.event_type);
            self.is_retagged
                && slot.filter().items().iter().any(is_source)
                && slot.sees(&stored).unwrap_or(true)
        };
        if slot.filter().matches_parts(&event.event_type, tags) || is_seen(slot) {
            slot.fold_one(&stored)?;
        }
        Ok(())
    }

    /// Adds an event as it would be written, with the metadata that was given.
    #[track_caller]
    fn push(&mut self, mut raw: RawEvent) {
        add_metadata(&mut raw.metadata, &self.metadata);
        self.check_size(&raw);
        self.record(raw);
    }

    fn record(&mut self, raw: RawEvent) {
        self.events.push((raw, self.clock));
        let next = self.clock.as_micros().saturating_add(SECOND_MICROS);
        self.clock = Timestamp::from_micros(next);
    }
}

impl Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let given = &mut f.debug_struct("Given");
        given.field("events", &self.events).field("clock", &self.clock);
        given
            .field("metadata", &self.metadata)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The outcome of a command, to be compared with the expected one.
#[must_use = "nothing is tested before the outcome is compared"]
pub struct When<C: Command> {
    given: Given,
    happened: Vec<String>,
    outcome: Outcome<C>,
    /// Set if the command is not stopped by its own kind.
    unseen: Option<Unseen>,
}

enum Outcome<C: Command> {
    Events(Vec<C::Event>),
    Rejected(C::Rejection),
    Invalid(Invalid),
}

impl<C: Command> When<C> {
    /// Says that the command may write only events that its own boundary does not see.
    ///
    /// Two such commands at one time do not stop each other, not even two equal ones: each decides
    /// as if the other did not exist. That is right if each may be accepted whatever the others do.
    /// For example, anybody may comment on an article that is open, and the rule reads only whether
    /// it is open. Without this, [`then`](When::then) takes it for a mistake in the boundary.
    ///
    /// A command with the state `()` has no rule, and never needs this.
    pub fn with_unseen_events(mut self) -> When<C> {
        self.unseen = None;
        self
    }

    /// Expects exactly these events. Returns all events so far, to continue with.
    ///
    /// # Panics
    /// If the outcome is another one, with the difference. Also if the command's own boundary (or
    /// the narrower [`conflicts_with`](Command::conflicts_with)) sees none of the events, so that
    /// the command is not stopped by its own kind, unless
    /// [`with_unseen_events`](When::with_unseen_events) says that this is intended.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = C::Event>) -> Given
    where
        C::Event: Debug + PartialEq,
    {
        let expected: Vec<_> = expected.into_iter().collect();
        match &self.outcome {
            Outcome::Events(events) if *events == expected => {
                if let Some(unseen) = &self.unseen {
                    panic!("{}{unseen}", self.story());
                }
                self.given
            }
            Outcome::Events(events) => self.differs(&expected, events),
            _ => self.is_not(&beginning(&format!("events {expected:#?}"))),
        }
    }

    /// Expects that the command is accepted and writes no event.
    ///
    /// # Panics
    /// If the outcome is another one.
    #[track_caller]
    pub fn then_nothing(self) -> Given
    where
        C::Event: Debug,
    {
        match &self.outcome {
            Outcome::Events(events) if events.is_empty() => self.given,
            Outcome::Events(events) => self.differs(&Vec::<C::Event>::new(), events),
            _ => self.is_not("no event"),
        }
    }

    /// Expects that the rule rejects the command, for this reason.
    ///
    /// # Panics
    /// If the outcome is another one, with the difference.
    #[track_caller]
    pub fn then_rejected(self, expected: C::Rejection) -> Given
    where
        C::Rejection: PartialEq,
    {
        match &self.outcome {
            Outcome::Rejected(rejection) if *rejection == expected => self.given,
            Outcome::Rejected(rejection) => self.differs(&expected, rejection),
            _ => self.is_not(&format!("the rejection {expected:?}")),
        }
    }

    /// Expects that the rule rejects the command, for a reason that `is` accepts.
    ///
    /// # Panics
    /// If the outcome is another one.
    #[track_caller]
    pub fn then_rejected_if(self, is: impl FnOnce(&C::Rejection) -> bool) -> Given {
        match &self.outcome {
            Outcome::Rejected(rejection) if is(rejection) => self.given,
            _ => self.is_not("a rejection as described"),
        }
    }

    /// Expects that the command is invalid, because of this field.
    ///
    /// # Panics
    /// If the outcome is another one.
    #[track_caller]
    pub fn then_invalid(self, field: &str) -> Given {
        match &self.outcome {
            Outcome::Invalid(invalid) if invalid.field == field => self.given,
            _ => self.is_not(&format!("invalid because of {field}")),
        }
    }

    /// The state of `F` over this boundary, with the events of the command.
    ///
    /// # Panics
    /// As [`Given::state`].
    #[must_use]
    #[track_caller]
    pub fn then_state<F: Fold>(self, boundary: Filter) -> F {
        self.given.state(boundary)
    }

    #[track_caller]
    fn differs(&self, expected: &dyn Debug, actual: &dyn Debug) -> ! {
        let (expected, actual) = (format!("{expected:#?}"), format!("{actual:#?}"));
        if expected == actual {
            panic!(
                "{}then something that prints alike and is not equal by `==`, as a float that is \
                 not a number never is: compare it with `then_state`, or give the type an equality \
                 that knows it:\n{}",
                self.story(),
                beginning(&actual)
            );
        }
        let difference = difference(&expected, &actual);
        panic!("{}then something else (- expected, + actual):\n{difference}", self.story())
    }

    #[track_caller]
    fn is_not(&self, expected: &str) -> ! {
        let actual = match &self.outcome {
            // Events need not have a text.
            Outcome::Events(events) if events.is_empty() => "no event".to_owned(),
            Outcome::Events(events) => {
                let written = self.given.events.iter().rev().take(events.len()).rev();
                let names: Vec<_> = written.map(|(event, _)| event.event_type.as_ref()).collect();
                format!("events: {}", in_short(&names))
            }
            Outcome::Rejected(rejection) => format!("the rejection {rejection:?} ({rejection})"),
            Outcome::Invalid(invalid) => format!("invalid because of {invalid}"),
        };
        panic!("{}expected {expected}\nbut got  {actual}", self.story())
    }

    fn story(&self) -> String {
        let mut story = String::new();
        let happened = match self.happened.as_slice() {
            [] => "nothing".to_owned(),
            happened => in_short(happened),
        };
        // Writing to a string does not fail.
        let _ = writeln!(story, "\ngiven {happened}\nwhen {}", type_name::<C>());
        story
    }
}

impl<C: Command> Debug for When<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("When").field("given", &self.given).finish_non_exhaustive()
    }
}

/// Names with a count where one follows itself, as in `opened, deposited (400 times)`.
fn in_short(names: &[impl AsRef<str>]) -> String {
    let runs = names.chunk_by(|one, other| one.as_ref() == other.as_ref());
    let run = |names: &[_]| {
        let (name, times): (&str, usize) = (names.first().map_or("", AsRef::as_ref), names.len());
        match times {
            0..SHOWN_TIMES => vec![name; times].join(", "),
            _ => format!("{name} ({times} times)"),
        }
    };
    runs.map(run).collect::<Vec<_>>().join(", ")
}

/// From this number of times on, a name is told with a count.
const SHOWN_TIMES: usize = 4;

/// The log of every test.
pub(super) fn test_log() -> LogId {
    LogId::from_bytes(*b"diptych-testing\0")
}
