//! An intake: facts of another service become events of this one.

use std::{error::Error, time::Duration};

use diptych_store::{LogIdentity, Position, Timestamp};
use uuid::Uuid;

use super::public_event::PublicEvent;
use crate::event::{Event, Upcasters};

/// Takes a feed of another service into this one: the one place where foreign words become own
/// ones.
///
/// The events that [`translate`](Intake::translate) makes are this service's own copy of the facts,
/// in its own log. They are committed together with the place in the feed, so each published event
/// is taken in once, and everything that this service knows is rebuilt while the other one is away.
/// Whatever has to be done about a fact is the business of a [process](crate::process) over these
/// events.
///
/// Each intake has a place of its own. If one of two intakes of a feed fails, the other goes on.
pub trait Intake: Send + Sync + 'static {
    /// The name under which the log keeps the place, unique in the service: small letters, digits
    /// and dashes. See [`IntakeOptions::stored_as`] before you change it.
    const NAME: &'static str;
    /// The published events that it understands.
    type Public: PublicEvent;
    /// The events that it makes.
    type Event: Event;

    /// The events that a published event becomes: none, one or several. The function is pure.
    ///
    /// # Errors
    /// If the event cannot be understood. It is then [parked](super::IntakeControl::letters), and
    /// later events of its subject wait behind it.
    fn translate(
        event: &ForeignEvent<Self::Public>,
    ) -> Result<Vec<Self::Event>, Box<dyn Error + Send + Sync>>;
}

/// A published event of another service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ForeignEvent<P> {
    /// The event.
    pub event: P,
    /// The log of the other service.
    pub log: LogIdentity,
    /// The position of the private event in that log.
    pub position: Position,
    /// The id of the private event, if the service tells it.
    pub id: Option<Uuid>,
    /// The subject, such as `order:7`.
    pub subject: Option<String>,
    /// When it occurred, if the service tells that.
    pub occurred_at: Option<Timestamp>,
    /// The conversation that it belongs to.
    pub correlation: Option<Uuid>,
}

/// Where an intake begins when the log does not know it yet. There is no default, because its
/// events have effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntakeStart {
    /// With the first event of the feed.
    Beginning,
    /// With the first event after the end that the feed has when it is reached for the first time.
    Now,
    /// With the first event after this position of the other log.
    After(Position),
}

/// The bounds of an intake.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IntakeOptions {
    /// The name under which the log keeps the place, if it is not the name of the intake: its
    /// former name.
    pub stored_as: Option<String>,
    /// How published events of older versions, or with older names, are read.
    pub upcasters: Upcasters,
    /// Whether a published event of a type that the intake does not know is parked. By default it
    /// is left out and [counted](super::IntakeStatus::left_out), so that the other service can add
    /// types.
    pub is_strict: bool,
    /// Maximum number of published events of one question and one commit.
    pub page: usize,
    /// How long a question waits for a new event.
    pub wait: Duration,
    /// The longest time without an answer, beyond `wait`.
    pub quiet_time: Duration,
    /// After this number of positions without an event the place is stored alone.
    pub positions_without_commit: u64,
    /// Maximum number of events that wait behind parked ones. Beyond it the intake stops.
    pub waiting_events: usize,
    /// The number of feeds through which a cause may come. Beyond it the event is taken for a part
    /// of a loop, and parked.
    pub hops: u32,
    /// The first wait before a failed step is tried again. It doubles with each try.
    pub first_wait: Duration,
    /// The longest wait before a failed step is tried again.
    pub longest_wait: Duration,
}

impl Default for IntakeOptions {
    fn default() -> IntakeOptions {
        IntakeOptions {
            stored_as: None,
            upcasters: Upcasters::new(),
            is_strict: false,
            page: 1_000,
            wait: Duration::from_secs(30),
            quiet_time: Duration::from_secs(15),
            positions_without_commit: 10_000,
            waiting_events: 10_000,
            hops: 16,
            first_wait: Duration::from_millis(10),
            longest_wait: Duration::from_secs(30),
        }
    }
}

impl IntakeOptions {
    /// Keeps the place under this name, which the intake had before.
    #[must_use]
    pub fn stored_as(mut self, name: impl Into<String>) -> IntakeOptions {
        self.stored_as = Some(name.into());
        self
    }

    /// Sets how older published events are read.
    #[must_use]
    pub fn upcasters(mut self, upcasters: Upcasters) -> IntakeOptions {
        self.upcasters = upcasters;
        self
    }

    /// Parks published events of types that the intake does not know.
    #[must_use]
    pub fn strict(mut self) -> IntakeOptions {
        self.is_strict = true;
        self
    }
}
