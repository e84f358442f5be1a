//! Commands about one flight.

use std::ops::RangeInclusive;

use diptych::{Command, DecisionContext, Filter, Invalid, Tag, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AirborneFlight, Flight, FlightCommand, Refusal, Season};
use crate::{
    events::{FlightCancelled, FlightDeparted, FlightDiverted, FlightLanded, FlightScheduled},
    ids::{Airport, Day, FlightId, Plane},
    time::{minutes_between, plus_minutes},
};

/// Adds a flight to the timetable, on one of the days that the files cover, or shortly after them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleFlight {
    /// The flight.
    pub flight: FlightId,
    /// Scheduled departure. In UTC it is on the flight's day or on the day after, because a late
    /// evening in New York is already the next day in UTC.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub departs_at: Timestamp,
    /// Destination.
    pub destination: Airport,
    /// The planned plane, if known.
    pub plane: Option<Plane>,
    /// Distance to the destination, if known.
    pub distance_miles: Option<u16>,
}

impl ScheduleFlight {
    /// By default, a flight enters the timetable this long before its departure.
    const AHEAD_MINUTES: i64 = 24 * 60;

    /// The time at which the flight enters the timetable. The demo has its own clock, the time of
    /// its flights, so this is not the time at which the command is sent.
    pub(crate) fn scheduled_at(&self) -> Timestamp {
        plus_minutes(self.departs_at, -ScheduleFlight::AHEAD_MINUTES)
    }
}

impl Command for ScheduleFlight {
    type State = (Flight, Season);
    type Event = FlightScheduled;
    type Rejection = Refusal;

    /// The flight's own events, and the events that tell which days the files cover: each of the
    /// two states folds only its own event types.
    fn boundary(&self) -> (Filter, Filter) {
        (of(self.flight), Filter::everything())
    }

    fn validate(&self) -> Result<(), Invalid> {
        near("departs_at", self.departs_at, self.flight, 0..=1)
    }

    fn occurred_at(&self) -> Option<Timestamp> {
        Some(self.scheduled_at())
    }

    fn decide(
        &self,
        (flight, season): (&Flight, &Season),
        _: &DecisionContext,
    ) -> Result<Vec<FlightScheduled>, Refusal> {
        if *flight != Flight::Unknown {
            return Err(Refusal::ScheduledOnce { flight: self.flight });
        }
        if let Some((first, last)) = season.beyond(self.flight.day()) {
            return Err(Refusal::OutOfSeason { flight: self.flight, first, last });
        }
        let &ScheduleFlight { flight, departs_at, destination, plane, distance_miles } = self;
        let board = flight.board();
        Ok(vec![FlightScheduled { flight, board, departs_at, destination, plane, distance_miles }])
    }
}

/// Reports that a flight departed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DepartFlight {
    /// The flight.
    pub flight: FlightId,
    /// The plane, if known.
    pub plane: Option<Plane>,
    /// Time of the departure.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
}

impl Command for DepartFlight {
    type State = (Flight, AirborneFlight);
    type Event = FlightDeparted;
    type Rejection = Refusal;

    /// The events of the flight, and the events of the plane on any flight. Without a tail number,
    /// no rule about a plane applies.
    fn boundary(&self) -> (Filter, Filter) {
        let plane = self.plane.map(|plane| Filter::tag(Tag::new("plane", plane)));
        (of(self.flight), plane.unwrap_or_else(Filter::nothing))
    }

    fn validate(&self) -> Result<(), Invalid> {
        near("at", self.at, self.flight, ABOUT_ITS_DAY)
    }

    fn occurred_at(&self) -> Option<Timestamp> {
        Some(self.at)
    }

    fn decide(
        &self,
        (flight, in_the_air): (&Flight, &AirborneFlight),
        _: &DecisionContext,
    ) -> Result<Vec<FlightDeparted>, Refusal> {
        let &DepartFlight { flight: id, plane, at } = self;
        let Flight::Scheduled { departs_at, destination } = *flight else {
            return Err(Refusal::NotScheduled { flight: id, status: flight.status() });
        };
        if let (Some(plane), Some(flight)) = (plane, in_the_air.0) {
            return Err(Refusal::PlaneInTheAir { plane, flight });
        }
        let delay_minutes = minutes_between(departs_at, at);
        let board = id.board();
        Ok(vec![FlightDeparted { flight: id, board, plane, destination, delay_minutes }])
    }
}

/// Reports that a flight was cancelled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelFlight {
    /// The flight.
    pub flight: FlightId,
    /// Time of the cancellation.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
}

impl Command for CancelFlight {
    type State = Flight;
    type Event = FlightCancelled;
    type Rejection = Refusal;

    fn boundary(&self) -> Filter {
        of(self.flight)
    }

    fn validate(&self) -> Result<(), Invalid> {
        near("at", self.at, self.flight, ABOUT_ITS_DAY)
    }

    fn occurred_at(&self) -> Option<Timestamp> {
        Some(self.at)
    }

    fn decide(
        &self,
        flight: &Flight,
        _: &DecisionContext,
    ) -> Result<Vec<FlightCancelled>, Refusal> {
        let id = self.flight;
        let Flight::Scheduled { destination, .. } = *flight else {
            return Err(Refusal::NotScheduled { flight: id, status: flight.status() });
        };
        Ok(vec![FlightCancelled { flight: id, board: id.board(), destination }])
    }
}

/// Reports that a flight landed at its destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LandFlight {
    /// The flight.
    pub flight: FlightId,
    /// Time of the landing.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Delay of the landing, if known; negative if it was early.
    pub arrival_delay_minutes: Option<i32>,
}

impl LandFlight {
    /// The largest delay, early or late.
    const DELAY_MINUTES: i32 = 7 * 24 * 60;
}

impl Command for LandFlight {
    type State = Flight;
    type Event = FlightLanded;
    type Rejection = Refusal;

    fn boundary(&self) -> Filter {
        of(self.flight)
    }

    fn validate(&self) -> Result<(), Invalid> {
        let late = self.arrival_delay_minutes.unwrap_or(0);
        if !(-LandFlight::DELAY_MINUTES..=LandFlight::DELAY_MINUTES).contains(&late) {
            let problem = format!("{late} is more than a week: give minutes");
            return Err(Invalid::new("arrival_delay_minutes", problem));
        }
        near("at", self.at, self.flight, ABOUT_ITS_DAY)
    }

    fn occurred_at(&self) -> Option<Timestamp> {
        Some(self.at)
    }

    fn decide(&self, flight: &Flight, _: &DecisionContext) -> Result<Vec<FlightLanded>, Refusal> {
        let &LandFlight { flight: id, at, arrival_delay_minutes } = self;
        let Flight::Departed { at: departed_at, destination, plane } = *flight else {
            return Err(Refusal::NotDeparted { flight: id, status: flight.status() });
        };
        Ok(vec![FlightLanded {
            flight: id,
            board: id.board(),
            plane,
            destination,
            air_minutes: minutes_between(departed_at, at),
            arrival_delay_minutes,
        }])
    }
}

/// Reports that a flight was diverted to another airport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DivertFlight {
    /// The flight.
    pub flight: FlightId,
    /// Time at which the diversion was known.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
}

impl Command for DivertFlight {
    type State = Flight;
    type Event = FlightDiverted;
    type Rejection = Refusal;

    fn boundary(&self) -> Filter {
        of(self.flight)
    }

    fn validate(&self) -> Result<(), Invalid> {
        near("at", self.at, self.flight, ABOUT_ITS_DAY)
    }

    fn occurred_at(&self) -> Option<Timestamp> {
        Some(self.at)
    }

    fn decide(&self, flight: &Flight, _: &DecisionContext) -> Result<Vec<FlightDiverted>, Refusal> {
        let id = self.flight;
        let Flight::Departed { destination, plane, .. } = *flight else {
            return Err(Refusal::NotDeparted { flight: id, status: flight.status() });
        };
        Ok(vec![FlightDiverted { flight: id, board: id.board(), plane, destination }])
    }
}

macro_rules! about_a_flight {
    ($($command:ident: $name:literal),* $(,)?) => {
        $(impl FlightCommand for $command {
            const NAME: &'static str = $name;

            fn flight(&self) -> FlightId {
                self.flight
            }
        })*
    };
}

about_a_flight! {
    ScheduleFlight: "schedule-flight",
    DepartFlight: "depart-flight",
    CancelFlight: "cancel-flight",
    LandFlight: "land-flight",
    DivertFlight: "divert-flight",
}

/// All events of this flight.
fn of(flight: FlightId) -> Filter {
    Filter::tag(Tag::new("flight", flight))
}

/// The days on which facts about a flight may occur, counted from its own day: from the day before
/// it until a week after it. The scopes of the queries rely on these bounds.
pub(crate) const ABOUT_ITS_DAY: RangeInclusive<i32> = -1..=7;

/// Checks that an instant is on one of these days.
fn near(
    field: &str,
    at: Timestamp,
    flight: FlightId,
    days: RangeInclusive<i32>,
) -> Result<(), Invalid> {
    let (first, last) = (flight.day().plus(*days.start()), flight.day().plus(*days.end()));
    if (first..=last).contains(&Day::of(at)) {
        return Ok(());
    }
    let problem = format!("{at} is not from {first} to {last}, where {flight} belongs");
    Err(Invalid::new(field, problem))
}
