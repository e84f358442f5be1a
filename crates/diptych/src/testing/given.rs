//! Tests of rules as given / when / then, without a store, a runtime or a wait.

mod digest;

use std::{
    any::type_name,
    fmt::{Debug, Write},
    panic::{AssertUnwindSafe, catch_unwind},
};

use diptych_store::{Filter, FilterItem, LogId, Metadata, Position, RawEvent, Tag, Timestamp};

use super::difference;
use crate::{
    command::{
        Command, DecisionContext, Folds, Invalid,
        context::{Clock, stamp},
        decide::narrow,
        folds::{StateSource, newest},
        state::Slot,
    },
    event::{Event, Schema, StoredEvent, Upcasters, encoded},
    fold::Fold,
    panics::panic_text,
};

/// Begins a test of a rule, with the events that were recorded before the command.
///
/// Events go through their encoding, and each fold gets the events of its boundary, as in an app.
/// Positions count from 1. The clock starts with the year 2000 and advances by a second with each
/// event, unless [`at`](Given::at) sets it. Ids derive from positions. So a fold gets the same
/// input in every run.
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
    }
}

/// 2000-01-01T00:00:00Z.
pub(super) const START_MICROS: i64 = 946_684_800_000_000;
const SECOND_MICROS: i64 = 1_000_000;

/// The events before a command; see [`given`].
#[derive(Debug)]
pub struct Given {
    events: Vec<(RawEvent, Timestamp)>,
    clock: Timestamp,
    metadata: Metadata,
    upcasters: Upcasters,
    /// Whether older events have the tags that they would get today.
    is_retagged: bool,
}

impl Given {
    /// Adds these events.
    #[must_use]
    #[track_caller]
    pub fn and<E: Event>(mut self, events: impl IntoIterator<Item = E>) -> Given {
        let schema = self.schema();
        for event in events {
            let raw = written(&schema, &event);
            self.push(raw);
        }
        self
    }

    /// Adds this event, as an older program wrote it.
    #[must_use]
    pub fn and_stored(mut self, event: RawEvent) -> Given {
        self.push(event);
        self
    }

    /// With these upcasters.
    #[must_use]
    pub fn upcasters(mut self, upcasters: Upcasters) -> Given {
        self.upcasters = upcasters;
        self
    }

    /// Gives [stored](Given::and_stored) events the tags that they would get today, as after
    /// [`App::retag`](crate::App::retag). Without it they have the tags that they were stored with.
    #[must_use]
    pub fn retagged(mut self) -> Given {
        self.is_retagged = true;
        self
    }

    /// Sets the clock to the instant at which the next event is recorded, and which the next rule
    /// gets as [`now`](DecisionContext::now).
    #[must_use]
    pub fn at(mut self, instant: Timestamp) -> Given {
        self.clock = instant;
        self
    }

    /// Gives this metadata to all further events.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Given {
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
        match F::open(boundary, &StateSource::uncached(&self.schema())) {
            Ok(mut slots) => {
                self.fold_all::<F>(&mut slots);
                slots.fold
            }
            Err(failure) => panic!("the boundary of {} is wrong: {failure:?}", type_name::<F>()),
        }
    }

    /// Sends this command.
    ///
    /// # Panics
    /// If an event cannot be folded, the rule panics, or its events cannot be written so that they
    /// can be read again.
    #[track_caller]
    pub fn when<C: Command>(mut self, command: C) -> When<C> {
        let happened = self.events.iter().map(|(event, _)| event.event_type.to_string()).collect();
        let outcome = match command.validate() {
            Err(invalid) => Outcome::Invalid(invalid),
            Ok(()) => self.decide(&command),
        };
        if let Outcome::Events(events, decided_at) = &outcome {
            let schema = self.schema();
            let written: Vec<_> = events.iter().map(|event| written(&schema, event)).collect();
            for raw in written {
                self.push(raw);
                if let Some((last, _)) = self.events.last_mut() {
                    stamp(&mut last.metadata, *decided_at);
                }
            }
        }
        When { given: self, happened, outcome }
    }

    #[track_caller]
    fn decide<C: Command>(&self, command: &C) -> Outcome<C> {
        let schema = self.schema();
        let mut slots =
            match <C::State as Folds>::open(command.boundary(), &StateSource::uncached(&schema)) {
                Ok(slots) => slots,
                Err(failure) => {
                    panic!("the boundary of {} is wrong: {failure:?}", type_name::<C>())
                }
            };
        self.fold_all::<C::State>(&mut slots);
        if let Some(filter) = command.conflicts_with()
            && let Err(failure) = narrow::<C>(&schema, &mut slots, &filter)
        {
            panic!("`conflicts_with` of {} is wrong: {failure:?}", type_name::<C>());
        }
        let newest = newest::<C::State>(&mut slots);
        let context = DecisionContext::new(Clock::at(self.clock), newest, &self.metadata);
        let states = <C::State as Folds>::states(&slots);
        match catch_unwind(AssertUnwindSafe(|| command.decide(states, &context))) {
            Ok(Ok(events)) => Outcome::Events(events, context.decided_at()),
            Ok(Err(rejection)) => Outcome::Rejected(rejection),
            Err(panic) => {
                panic!("`decide` of {} panicked: {}", type_name::<C>(), panic_text(&*panic))
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

    fn fold_into(&self, slot: &mut dyn Slot) -> Result<(), crate::fold::FoldError> {
        (0..self.events.len()).try_for_each(|at| self.fold_event(slot, at))
    }

    fn fold_event(&self, slot: &mut dyn Slot, at: usize) -> Result<(), crate::fold::FoldError> {
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

    fn push(&mut self, mut raw: RawEvent) {
        if self.metadata != Metadata::default() {
            raw.metadata = self.metadata.clone();
        }
        self.events.push((raw, self.clock));
        self.clock = Timestamp::from_micros(self.clock.as_micros() + SECOND_MICROS);
    }

    #[track_caller]
    fn schema(&self) -> Schema {
        let upcasters = self.upcasters.clone();
        match Schema::new(upcasters, test_log(), usize::MAX) {
            Ok(schema) if self.is_retagged => schema.retagged(),
            Ok(schema) => schema,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The outcome of a command, to be compared with the expected one.
#[must_use = "nothing is tested before the outcome is compared"]
pub struct When<C: Command> {
    given: Given,
    happened: Vec<String>,
    outcome: Outcome<C>,
}

enum Outcome<C: Command> {
    /// The events, and the time that the rule used, if it asked for it.
    Events(Vec<C::Event>, Option<Timestamp>),
    Rejected(C::Rejection),
    Invalid(Invalid),
}

impl<C: Command> When<C> {
    /// Expects exactly these events. Returns all events so far, to continue with.
    ///
    /// # Panics
    /// If the outcome is another one, with the difference.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = C::Event>) -> Given
    where
        C::Event: Debug + PartialEq,
    {
        let expected: Vec<_> = expected.into_iter().collect();
        match &self.outcome {
            Outcome::Events(events, _) if *events == expected => self.given,
            Outcome::Events(events, _) => self.differs(&expected, events),
            _ => self.is_not(&format!("events {expected:#?}")),
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
            Outcome::Events(events, _) if events.is_empty() => self.given,
            Outcome::Events(events, _) => self.differs(&Vec::<C::Event>::new(), events),
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
        let difference = difference(&format!("{expected:#?}"), &format!("{actual:#?}"));
        panic!("{}then something else (- expected, + actual):\n{difference}", self.story())
    }

    #[track_caller]
    fn is_not(&self, expected: &str) -> ! {
        let actual = match &self.outcome {
            // Events need not have a text.
            Outcome::Events(events, _) if events.is_empty() => "no event".to_owned(),
            Outcome::Events(events, _) => {
                let written = self.given.events.iter().rev().take(events.len()).rev();
                let names: Vec<_> = written.map(|(event, _)| event.event_type.as_ref()).collect();
                format!("events: {}", names.join(", "))
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
            happened => happened.join(", "),
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

/// The event as it would be written. It must match its declared type, and must be readable.
#[track_caller]
fn written<E: Event>(schema: &Schema, event: &E) -> RawEvent {
    let reading = schema.reading::<E>();
    let raw = event.encode();
    let checked = reading.and_then(|reading| {
        let raw = raw?;
        reading.check(&raw)?;
        reading.decode(&encoded(&raw))?;
        Ok(raw)
    });
    match checked {
        Ok(raw) => raw,
        Err(error) => panic!("an event of {} cannot be written: {error}", type_name::<E>()),
    }
}

/// The log of every test.
pub(super) fn test_log() -> LogId {
    LogId::from_bytes(*b"diptych-testing\0")
}
