//! What goes over the hinge: everything that happened, as facts.
//!
//! When it was so is said by each event's `occurred_at`, so no payload repeats it. A fact carries
//! what is shown with it (where a flight goes, how late it was), so that no view has to look it up.

use compact_str::CompactString;
use diptych::{Event, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{Airline, Airport, BoardId, Day, FlightId, Plane};

/// A flight is in the timetable.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("flight-scheduled")]
pub struct FlightScheduled {
    /// Which.
    #[tag]
    pub flight: FlightId,
    /// The board that it is on.
    #[tag]
    pub board: BoardId,
    /// When it is to depart.
    #[schemars(with = "String")]
    pub departs_at: Timestamp,
    /// Where it goes.
    pub destination: Airport,
    /// The plane that is to fly it. No tag: a plan is nothing that a plane did.
    pub plane: Option<Plane>,
    /// How far it is.
    pub distance_miles: Option<u16>,
}

/// A flight left.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("flight-departed")]
pub struct FlightDeparted {
    /// Which.
    #[tag]
    pub flight: FlightId,
    /// The board that it is on.
    #[tag]
    pub board: BoardId,
    /// The plane, as far as is known.
    #[tag]
    pub plane: Option<Plane>,
    /// Where it goes.
    pub destination: Airport,
    /// How much later than it was to; negative if it was early.
    pub delay_minutes: i32,
}

/// A flight will not leave.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("flight-cancelled")]
pub struct FlightCancelled {
    /// Which.
    #[tag]
    pub flight: FlightId,
    /// The board that it is on.
    #[tag]
    pub board: BoardId,
    /// Where it was to go.
    pub destination: Airport,
}

/// A flight arrived where it was to go.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("flight-landed")]
pub struct FlightLanded {
    /// Which.
    #[tag]
    pub flight: FlightId,
    /// The board that it is on.
    #[tag]
    pub board: BoardId,
    /// The plane, as far as is known.
    #[tag]
    pub plane: Option<Plane>,
    /// Where it is.
    pub destination: Airport,
    /// How long it was in the air.
    pub air_minutes: i32,
    /// How much later than it was to; negative if it was early.
    pub arrival_delay_minutes: Option<i32>,
}

/// A flight ended somewhere else.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("flight-diverted")]
pub struct FlightDiverted {
    /// Which.
    #[tag]
    pub flight: FlightId,
    /// The board that it is on.
    #[tag]
    pub board: BoardId,
    /// The plane, as far as is known.
    #[tag]
    pub plane: Option<Plane>,
    /// Where it was to go.
    pub destination: Airport,
}

/// A command about a flight was refused: what was said cannot have been so.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("command-refused")]
pub struct CommandRefused {
    /// The flight that it was about.
    #[tag]
    pub flight: FlightId,
    /// The board that the flight is on, or would be.
    #[tag]
    pub board: BoardId,
    /// The command, such as `depart-flight`.
    #[schemars(with = "String")]
    pub command: CompactString,
    /// The rule, such as `plane-in-the-air`.
    #[schemars(with = "String")]
    pub rule: CompactString,
    /// Why, for people.
    pub reason: String,
}

/// The weather at an airport, from the second source.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("weather-observed")]
pub struct WeatherObserved {
    /// Where.
    #[tag]
    pub airport: Airport,
    /// How it was.
    #[serde(flatten)]
    pub weather: Weather,
}

/// How the weather was, as far as was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Weather {
    /// The temperature, in degrees Fahrenheit.
    pub temperature_f: Option<f64>,
    /// The wind, in miles an hour.
    pub wind_mph: Option<f64>,
    /// The gusts, in miles an hour.
    pub gust_mph: Option<f64>,
    /// Rain and snow of the hour, in inches of water.
    pub precipitation_inches: Option<f64>,
    /// How far one sees, in miles.
    pub visibility_miles: Option<f64>,
}

/// What an airline is called.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("airline-named")]
pub struct AirlineNamed {
    /// Which.
    #[tag]
    pub airline: Airline,
    /// Its name.
    pub name: String,
}

/// What an airport is called, and where it is.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("airport-named")]
pub struct AirportNamed {
    /// Which.
    #[tag]
    pub airport: Airport,
    /// Its name.
    pub name: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// What kind of plane a tail number is.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("plane-registered")]
pub struct PlaneRegistered {
    /// Which.
    #[tag]
    pub plane: Plane,
    /// Who built it.
    pub manufacturer: String,
    /// As what.
    pub model: String,
    /// In which year.
    pub built: Option<i16>,
    /// How many people sit in it.
    pub seats: u16,
}

/// A file of flights is being taken in: what its flights are of. The loader's own note: nothing is
/// shown of it, and the rules know from it which days the demo is about.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("source-opened")]
pub struct SourceOpened {
    /// The digest of the file's bytes.
    #[tag]
    pub source: String,
    /// The first day that a flight is on.
    pub first: Day,
    /// The last one.
    pub last: Day,
}

/// A whole file of flights was taken in. The loader's own note: nothing is shown of it.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("source-loaded")]
pub struct SourceLoaded {
    /// The digest of the file's bytes.
    #[tag]
    pub source: String,
    /// How many commands it made.
    pub commands: u64,
}

/// Anything that is shown. All views read this one union, so each event is decoded once for all of
/// them.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
pub enum Happening {
    /// A flight is in the timetable.
    Scheduled(FlightScheduled),
    /// A flight left.
    Departed(FlightDeparted),
    /// A flight will not leave.
    Cancelled(FlightCancelled),
    /// A flight arrived.
    Landed(FlightLanded),
    /// A flight ended somewhere else.
    Diverted(FlightDiverted),
    /// A command was refused.
    Refused(CommandRefused),
    /// How the weather was.
    Weather(WeatherObserved),
    /// What an airline is called.
    Airline(AirlineNamed),
    /// What an airport is called.
    Airport(AirportNamed),
    /// What kind of plane it is.
    Plane(PlaneRegistered),
}

/// What the rules know of one flight.
#[derive(Clone, Debug, PartialEq, Event)]
pub enum FlightEvent {
    /// It is in the timetable.
    Scheduled(FlightScheduled),
    /// It left.
    Departed(FlightDeparted),
    /// It will not leave.
    Cancelled(FlightCancelled),
    /// It arrived.
    Landed(FlightLanded),
    /// It ended somewhere else.
    Diverted(FlightDiverted),
}

/// What the rules know of one plane.
#[derive(Clone, Debug, PartialEq, Event)]
pub enum PlaneEvent {
    /// It left on a flight.
    Departed(FlightDeparted),
    /// It arrived.
    Landed(FlightLanded),
    /// It ended somewhere else.
    Diverted(FlightDiverted),
}

impl Happening {
    /// Whether a flight did something, or is to.
    pub fn is_of_a_flight(&self) -> bool {
        match self {
            Happening::Scheduled(_)
            | Happening::Departed(_)
            | Happening::Cancelled(_)
            | Happening::Landed(_)
            | Happening::Diverted(_) => true,
            Happening::Refused(_)
            | Happening::Weather(_)
            | Happening::Airline(_)
            | Happening::Airport(_)
            | Happening::Plane(_) => false,
        }
    }

    /// The flight that it is about, if it is about one.
    pub fn flight(&self) -> Option<FlightId> {
        match self {
            Happening::Scheduled(event) => Some(event.flight),
            Happening::Departed(event) => Some(event.flight),
            Happening::Cancelled(event) => Some(event.flight),
            Happening::Landed(event) => Some(event.flight),
            Happening::Diverted(event) => Some(event.flight),
            Happening::Refused(event) => Some(event.flight),
            Happening::Weather(_)
            | Happening::Airline(_)
            | Happening::Airport(_)
            | Happening::Plane(_) => None,
        }
    }
}
