use schemars::JsonSchema;
use serde::Serialize;

use super::Status;
use crate::ids::{Day, FlightId, Plane};

/// The reason why a rule refuses a command. Each variant is one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "rule", rename_all = "kebab-case")]
pub enum Refusal {
    /// A flight is scheduled once.
    #[error("{flight} is scheduled already")]
    ScheduledOnce {
        /// The flight.
        flight: FlightId,
    },
    /// A flight is scheduled on a day that the files cover, or shortly after.
    #[error(
        "{flight} is outside this timetable, which takes flights from {first} to {last}: choose a \
         day in that period"
    )]
    OutOfSeason {
        /// The flight.
        flight: FlightId,
        /// The first day that is allowed.
        first: Day,
        /// The last day that is allowed.
        last: Day,
    },
    /// Only a scheduled flight departs or is cancelled.
    #[error("{flight} cannot depart or be cancelled: {}", now(*status))]
    NotScheduled {
        /// The flight.
        flight: FlightId,
        /// Status of the flight; absent if there is no such flight.
        status: Option<Status>,
    },
    /// Only a departed flight lands or is diverted.
    #[error("{flight} cannot land or be diverted: {}", now(*status))]
    NotDeparted {
        /// The flight.
        flight: FlightId,
        /// Status of the flight; absent if there is no such flight.
        status: Option<Status>,
    },
    /// A plane that is in the air cannot depart.
    #[error("plane {plane} cannot depart: it is in the air, on {flight}")]
    PlaneInTheAir {
        /// The plane.
        plane: Plane,
        /// The flight on which it is in the air.
        flight: FlightId,
    },
}

impl Refusal {
    /// The name of the rule.
    pub fn rule(&self) -> &'static str {
        match self {
            Refusal::ScheduledOnce { .. } => "scheduled-once",
            Refusal::OutOfSeason { .. } => "out-of-season",
            Refusal::NotScheduled { .. } => "not-scheduled",
            Refusal::NotDeparted { .. } => "not-departed",
            Refusal::PlaneInTheAir { .. } => "plane-in-the-air",
        }
    }
}

fn now(status: Option<Status>) -> &'static str {
    match status {
        None => "there is no such flight",
        Some(Status::Scheduled) => "it has not departed",
        Some(Status::Departed) => "it has departed",
        Some(Status::Landed) => "it has landed",
        Some(Status::Diverted) => "it was diverted",
        Some(Status::Cancelled) => "it was cancelled",
    }
}
