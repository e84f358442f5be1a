//! What the rules know.

use diptych::{Event, Fold, Recorded, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    events::{FlightEvent, PlaneEvent, SourceOpened},
    ids::{Airport, Day, FlightId, Plane},
};

/// How it stands with a flight.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is in the timetable.
    Scheduled,
    /// It is in the air.
    Departed,
    /// It arrived.
    Landed,
    /// It ended somewhere else.
    Diverted,
    /// It will not leave.
    Cancelled,
}

/// What the rules know of one flight: nothing, or how it stands with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Flight {
    /// There is no such flight.
    #[default]
    Unknown,
    /// It may depart.
    Scheduled {
        /// When it is to.
        departs_at: Timestamp,
        /// Where it goes.
        destination: Airport,
    },
    /// It is in the air.
    Departed {
        /// Since when.
        at: Timestamp,
        /// Where it goes.
        destination: Airport,
        /// With which plane.
        plane: Option<Plane>,
    },
    /// Nothing more comes of it.
    Over(Status),
}

impl Flight {
    /// How it stands with it, if there is such a flight.
    pub fn status(&self) -> Option<Status> {
        match self {
            Flight::Unknown => None,
            Flight::Scheduled { .. } => Some(Status::Scheduled),
            Flight::Departed { .. } => Some(Status::Departed),
            Flight::Over(status) => Some(*status),
        }
    }
}

impl Fold for Flight {
    type Event = FlightEvent;

    fn apply(&mut self, event: &Recorded<FlightEvent>) {
        *self = match &event.event {
            FlightEvent::Scheduled(scheduled) => {
                let (departs_at, destination) = (scheduled.departs_at, scheduled.destination);
                Flight::Scheduled { departs_at, destination }
            }
            FlightEvent::Departed(departed) => {
                let (destination, plane) = (departed.destination, departed.plane);
                Flight::Departed { at: event.occurred_at(), destination, plane }
            }
            FlightEvent::Cancelled(_) => Flight::Over(Status::Cancelled),
            FlightEvent::Landed(_) => Flight::Over(Status::Landed),
            FlightEvent::Diverted(_) => Flight::Over(Status::Diverted),
        };
    }
}

/// What the rules know of one plane: the flight that it is in the air on, if it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InTheAir(pub Option<FlightId>);

impl Fold for InTheAir {
    type Event = PlaneEvent;

    fn apply(&mut self, event: &Recorded<PlaneEvent>) {
        self.0 = match &event.event {
            PlaneEvent::Departed(departed) => Some(departed.flight),
            PlaneEvent::Landed(_) | PlaneEvent::Diverted(_) => None,
        };
    }
}

/// The days that the files have flights on, from the first to the last; none if no file was taken
/// in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Season(pub Option<(Day, Day)>);

impl Season {
    /// A flight that is in no file may be this many days after the last of them.
    pub const AHEAD_DAYS: i32 = 7;

    /// The first and the last day that a flight may be on, if it may not be on this one. Without
    /// files any day will do.
    pub fn beyond(&self, day: Day) -> Option<(Day, Day)> {
        let (first, last) = self.0?;
        let last = last.plus(Season::AHEAD_DAYS);
        (!(first..=last).contains(&day)).then_some((first, last))
    }
}

impl Fold for Season {
    type Event = SourceOpened;

    fn apply(&mut self, opened: &Recorded<SourceOpened>) {
        let (first, last) = self.0.unwrap_or((opened.first, opened.last));
        self.0 = Some((first.min(opened.first), last.max(opened.last)));
    }
}

/// What was told last, of what is only ever told.
#[derive(Clone, Debug, PartialEq)]
pub struct Known<E>(pub Option<E>);

impl<E> Default for Known<E> {
    fn default() -> Known<E> {
        Known(None)
    }
}

impl<E: Event + Clone + PartialEq> Known<E> {
    /// This fact, unless it is known already.
    pub fn unless_known(&self, told: E) -> Vec<E> {
        match &self.0 {
            Some(known) if *known == told => Vec::new(),
            _ => vec![told],
        }
    }
}

impl<E: Event + Clone> Fold for Known<E> {
    type Event = E;

    fn apply(&mut self, event: &Recorded<E>) {
        self.0 = Some(event.event.clone());
    }
}
