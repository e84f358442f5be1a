//! What can be asked about a flight.

use std::ops::RangeInclusive;

use diptych::{Command, Filter, Invalid, Tag, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Flight, FlightCommand, InTheAir, Refusal, Season};
use crate::{
    events::{FlightCancelled, FlightDeparted, FlightDiverted, FlightLanded, FlightScheduled},
    ids::{Airport, Day, FlightId, Plane},
    time::{minutes_between, plus_minutes},
};

/// Takes a flight into the timetable: one of the days that the files are about, or of the days
/// after them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleFlight {
    /// The flight.
    pub flight: FlightId,
    /// When it is to depart: on its day, or in UTC on the next.
    #[schemars(with = "String")]
    pub departs_at: Timestamp,
    /// Where it goes.
    pub destination: Airport,
    /// The plane that is to fly it, if that is known.
    pub plane: Option<Plane>,
    /// How far it is, if that is known.
    pub distance_miles: Option<u16>,
}

impl ScheduleFlight {
    /// A flight is in the timetable this long before it is to depart, if nothing else is said.
    const AHEAD_MINUTES: i64 = 24 * 60;

    /// When it is in the timetable. The demo has a time of its own, that of its flights, so it is
    /// not the time at which the command is sent.
    pub(crate) fn scheduled_at(&self) -> Timestamp {
        plus_minutes(self.departs_at, -ScheduleFlight::AHEAD_MINUTES)
    }
}

impl Command for ScheduleFlight {
    type State = (Flight, Season);
    type Event = FlightScheduled;
    type Rejection = Refusal;

    /// The flight, and all files: each filter is narrowed to the events of its state.
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

/// Says that a flight left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DepartFlight {
    /// The flight.
    pub flight: FlightId,
    /// With which plane, if that is known.
    pub plane: Option<Plane>,
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

impl Command for DepartFlight {
    type State = (Flight, InTheAir);
    type Event = FlightDeparted;
    type Rejection = Refusal;

    /// The flight, and the plane whatever it flies: without a tail number there is no plane that
    /// a rule could be about.
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
        (flight, in_the_air): (&Flight, &InTheAir),
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

/// Says that a flight will not leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelFlight {
    /// The flight.
    pub flight: FlightId,
    /// Since when that is known.
    #[schemars(with = "String")]
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

    fn decide(&self, flight: &Flight) -> Result<Vec<FlightCancelled>, Refusal> {
        let id = self.flight;
        let Flight::Scheduled { destination, .. } = *flight else {
            return Err(Refusal::NotScheduled { flight: id, status: flight.status() });
        };
        Ok(vec![FlightCancelled { flight: id, board: id.board(), destination }])
    }
}

/// Says that a flight arrived where it was to go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LandFlight {
    /// The flight.
    pub flight: FlightId,
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// How much later than it was to, if that is known; negative if it was early.
    pub arrival_delay_minutes: Option<i32>,
}

impl LandFlight {
    /// Nothing is later than this, or earlier.
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

    fn decide(&self, flight: &Flight) -> Result<Vec<FlightLanded>, Refusal> {
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

/// Says that a flight ended somewhere else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DivertFlight {
    /// The flight.
    pub flight: FlightId,
    /// When that was known.
    #[schemars(with = "String")]
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

    fn decide(&self, flight: &Flight) -> Result<Vec<FlightDiverted>, Refusal> {
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

/// Everything that is known of this flight.
fn of(flight: FlightId) -> Filter {
    Filter::tag(Tag::new("flight", flight))
}

/// From the day before a flight's own until a week after it: whatever is said of it is said of
/// then. The scopes of the queries rely on it.
pub(crate) const ABOUT_ITS_DAY: RangeInclusive<i32> = -1..=7;

/// Whether an instant is on a day that makes sense for the flight, counted from its own.
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
