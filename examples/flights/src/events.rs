//! The hinge: all events.
//!
//! The time of a fact is the event's `occurred_at`, so no payload repeats it. An event carries the
//! data that views show with it, such as the destination and the delay, so that no view looks them
//! up.

use compact_str::CompactString;
use diptych::{Event, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{Airline, Airport, BoardId, Day, FlightId, Plane};

/// A flight entered the timetable.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("flight-scheduled")]
pub struct FlightScheduled {
    /// The flight.
    #[tag]
    pub flight: FlightId,
    /// The board that shows the flight.
    #[tag]
    pub board: BoardId,
    /// Scheduled departure.
    #[schemars(with = "String")]
    pub departs_at: Timestamp,
    /// Destination.
    pub destination: Airport,
    /// The planned plane. It is not a tag, because a plan is not an action of the plane.
    pub plane: Option<Plane>,
    /// Distance to the destination.
    pub distance_miles: Option<u16>,
}

/// A flight departed.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("flight-departed")]
pub struct FlightDeparted {
    /// The flight.
    #[tag]
    pub flight: FlightId,
    /// The board that shows the flight.
    #[tag]
    pub board: BoardId,
    /// The plane, if known.
    #[tag]
    pub plane: Option<Plane>,
    /// Destination.
    pub destination: Airport,
    /// Delay of the departure; negative if it was early.
    pub delay_minutes: i32,
}

/// A flight was cancelled.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("flight-cancelled")]
pub struct FlightCancelled {
    /// The flight.
    #[tag]
    pub flight: FlightId,
    /// The board that shows the flight.
    #[tag]
    pub board: BoardId,
    /// Planned destination.
    pub destination: Airport,
}

/// A flight landed at its destination.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("flight-landed")]
pub struct FlightLanded {
    /// The flight.
    #[tag]
    pub flight: FlightId,
    /// The board that shows the flight.
    #[tag]
    pub board: BoardId,
    /// The plane, if known.
    #[tag]
    pub plane: Option<Plane>,
    /// Destination.
    pub destination: Airport,
    /// Time in the air.
    pub air_minutes: i32,
    /// Delay of the landing; negative if it was early.
    pub arrival_delay_minutes: Option<i32>,
}

/// A flight landed at another airport.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("flight-diverted")]
pub struct FlightDiverted {
    /// The flight.
    #[tag]
    pub flight: FlightId,
    /// The board that shows the flight.
    #[tag]
    pub board: BoardId,
    /// The plane, if known.
    #[tag]
    pub plane: Option<Plane>,
    /// Planned destination.
    pub destination: Airport,
}

/// A rule refused a command, because the reported fact contradicts earlier facts.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("command-refused")]
pub struct CommandRefused {
    /// The flight of the command.
    #[tag]
    pub flight: FlightId,
    /// The board that shows the flight, or would show it.
    #[tag]
    pub board: BoardId,
    /// Name of the command, such as `depart-flight`.
    #[schemars(with = "String")]
    pub command: CompactString,
    /// Name of the rule, such as `plane-in-the-air`.
    #[schemars(with = "String")]
    pub rule: CompactString,
    /// The reason, for people.
    pub reason: String,
}

/// The weather at an airport, from the second source.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("weather-observed")]
pub struct WeatherObserved {
    /// The airport.
    #[tag]
    pub airport: Airport,
    /// The measured values.
    #[serde(flatten)]
    pub weather: Weather,
}

/// Measured values of the weather. Unknown values are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Weather {
    /// Temperature, in degrees Fahrenheit.
    pub temperature_f: Option<f64>,
    /// Wind speed, in miles per hour.
    pub wind_mph: Option<f64>,
    /// Speed of gusts, in miles per hour.
    pub gust_mph: Option<f64>,
    /// Rain and snow within the hour, in inches of water.
    pub precipitation_inches: Option<f64>,
    /// Visibility, in miles.
    pub visibility_miles: Option<f64>,
}

/// An airline has this name.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("airline-named")]
pub struct AirlineNamed {
    /// Code of the airline.
    #[tag]
    pub airline: Airline,
    /// Name of the airline.
    pub name: String,
}

/// An airport has this name and place.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("airport-named")]
pub struct AirportNamed {
    /// Code of the airport.
    #[tag]
    pub airport: Airport,
    /// Name of the airport.
    pub name: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// A plane is of this model.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("plane-registered")]
pub struct PlaneRegistered {
    /// Tail number of the plane.
    #[tag]
    pub plane: Plane,
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Year in which it was built.
    pub built: Option<i16>,
    /// Number of seats.
    pub seats: u16,
}

/// The loader begins to load a file of flights. No view shows this event. The rules read from it
/// which days the demo covers.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("source-opened")]
pub struct SourceOpened {
    /// The digest of the file's bytes.
    #[tag]
    pub source: String,
    /// Day of the first flight in the file.
    pub first: Day,
    /// Day of the last flight in the file.
    pub last: Day,
}

/// The loader has loaded a whole file of flights. No view shows this event.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
#[event("source-loaded")]
pub struct SourceLoaded {
    /// The digest of the file's bytes.
    #[tag]
    pub source: String,
    /// Number of commands of the file.
    pub commands: u64,
}

/// Every event that a view shows. All views read this one union, so each event is decoded once for
/// all views.
#[derive(Clone, Debug, PartialEq, Event, Serialize, Deserialize)]
pub enum Happening {
    /// A flight entered the timetable.
    Scheduled(FlightScheduled),
    /// A flight departed.
    Departed(FlightDeparted),
    /// A flight was cancelled.
    Cancelled(FlightCancelled),
    /// A flight landed at its destination.
    Landed(FlightLanded),
    /// A flight landed at another airport.
    Diverted(FlightDiverted),
    /// A rule refused a command.
    Refused(CommandRefused),
    /// The weather at an airport.
    Weather(WeatherObserved),
    /// The name of an airline.
    Airline(AirlineNamed),
    /// The name of an airport.
    Airport(AirportNamed),
    /// The model of a plane.
    Plane(PlaneRegistered),
}

/// The events that the rules read about one flight.
#[derive(Clone, Debug, PartialEq, Event)]
pub enum FlightEvent {
    /// It entered the timetable.
    Scheduled(FlightScheduled),
    /// It departed.
    Departed(FlightDeparted),
    /// It was cancelled.
    Cancelled(FlightCancelled),
    /// It landed at its destination.
    Landed(FlightLanded),
    /// It landed at another airport.
    Diverted(FlightDiverted),
}

/// The events that the rules read about one plane.
#[derive(Clone, Debug, PartialEq, Event)]
pub enum PlaneEvent {
    /// It departed on a flight.
    Departed(FlightDeparted),
    /// It landed at the destination.
    Landed(FlightLanded),
    /// It landed at another airport.
    Diverted(FlightDiverted),
}

impl Happening {
    /// Whether the event records an action of a flight, or a plan for a flight.
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

    /// The flight of the event; `None` for weather and names.
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
