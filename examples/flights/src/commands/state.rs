//! The states that the rules fold.

use diptych::{Event, Fold, Recorded, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    events::{FlightEvent, PlaneEvent, SourceOpened},
    ids::{Airport, Day, FlightId, Plane},
};

/// Status of a flight.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is in the timetable.
    Scheduled,
    /// It is in the air.
    Departed,
    /// It landed at its destination.
    Landed,
    /// It landed at another airport.
    Diverted,
    /// It was cancelled.
    Cancelled,
}

/// The state of one flight, for the rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Flight {
    /// There is no such flight.
    #[default]
    Unknown,
    /// It may depart.
    Scheduled {
        /// Scheduled departure.
        departs_at: Timestamp,
        /// Destination.
        destination: Airport,
    },
    /// It is in the air.
    Departed {
        /// Time of the departure.
        at: Timestamp,
        /// Destination.
        destination: Airport,
        /// The plane, if known.
        plane: Option<Plane>,
    },
    /// It has landed, or was diverted or cancelled. No further event can follow.
    Over(Status),
}

impl Flight {
    /// The status of the flight; `None` if there is no such flight.
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

/// The state of one plane, for the rules: the flight on which it is in the air, if any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AirborneFlight(pub Option<FlightId>);

impl Fold for AirborneFlight {
    type Event = PlaneEvent;

    fn apply(&mut self, event: &Recorded<PlaneEvent>) {
        self.0 = match &event.event {
            PlaneEvent::Departed(departed) => Some(departed.flight),
            PlaneEvent::Landed(_) | PlaneEvent::Diverted(_) => None,
        };
    }
}

/// The days that the files cover, from the first to the last; `None` before any file is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Season(pub Option<(Day, Day)>);

impl Season {
    /// A flight that is not in a file may depart up to this many days after the last day of the
    /// files.
    pub const AHEAD_DAYS: i32 = 7;

    /// The first and the last allowed day if `day` is not allowed; `None` if it is. Before any file
    /// is loaded, every day is allowed.
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

/// The latest value of a fact that no rule refuses.
#[derive(Clone, Debug, PartialEq)]
pub struct LatestFact<E>(pub Option<E>);

impl<E> Default for LatestFact<E> {
    fn default() -> LatestFact<E> {
        LatestFact(None)
    }
}

impl<E: Event + Clone + PartialEq> LatestFact<E> {
    /// This fact as an event; no event if the fact is known already.
    pub fn unless_known(&self, told: E) -> Vec<E> {
        match &self.0 {
            Some(known) if *known == told => Vec::new(),
            _ => vec![told],
        }
    }
}

impl<E: Event + Clone> Fold for LatestFact<E> {
    type Event = E;

    fn apply(&mut self, event: &Recorded<E>) {
        self.0 = Some(event.event.clone());
    }
}
