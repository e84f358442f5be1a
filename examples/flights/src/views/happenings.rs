//! Counts of all events, and the newest ones.

use std::collections::{BTreeMap, VecDeque};

use diptych::{Fold, Query, Recorded, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moves_time;
use crate::{
    events::{FlightDeparted, FlightLanded, Happening},
    ids::{Day, FlightId},
};

/// The number of events of each type, the time that the flights cover, and the newest events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Happenings {
    counts: BTreeMap<Kind, u64>,
    total: u64,
    /// The earliest and the latest time of an event of a flight from the files.
    flights: Option<(Timestamp, Timestamp)>,
    /// The newest events, in order, at most [`Happenings::RECENT`].
    recent: VecDeque<TimedHappening>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TimedHappening {
    position: u64,
    at: Timestamp,
    happening: Happening,
}

/// The types of events.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A flight entered the timetable.
    FlightScheduled,
    /// A flight departed.
    FlightDeparted,
    /// A flight was cancelled.
    FlightCancelled,
    /// A flight landed at its destination.
    FlightLanded,
    /// A flight landed at another airport.
    FlightDiverted,
    /// A rule refused a command.
    CommandRefused,
    /// The weather at an airport.
    WeatherObserved,
    /// The name of an airline.
    AirlineNamed,
    /// The name of an airport.
    AirportNamed,
    /// The model of a plane.
    PlaneRegistered,
}

impl Kind {
    fn of(happening: &Happening) -> Kind {
        match happening {
            Happening::Scheduled(_) => Kind::FlightScheduled,
            Happening::Departed(_) => Kind::FlightDeparted,
            Happening::Cancelled(_) => Kind::FlightCancelled,
            Happening::Landed(_) => Kind::FlightLanded,
            Happening::Diverted(_) => Kind::FlightDiverted,
            Happening::Refused(_) => Kind::CommandRefused,
            Happening::Weather(_) => Kind::WeatherObserved,
            Happening::Airline(_) => Kind::AirlineNamed,
            Happening::Airport(_) => Kind::AirportNamed,
            Happening::Plane(_) => Kind::PlaneRegistered,
        }
    }
}

impl Fold for Happenings {
    type Event = Happening;

    fn apply(&mut self, event: &Recorded<Happening>) {
        let (at, kind) = (event.occurred_at(), Kind::of(&event.event));
        *self.counts.entry(kind).or_default() += 1;
        self.total += 1;
        if event.event.is_of_a_flight() && moves_time(event) {
            let (first, last) = self.flights.unwrap_or((at, at));
            self.flights = Some((first.min(at), last.max(at)));
        }
        if self.recent.len() == Happenings::RECENT {
            self.recent.pop_front();
        }
        let (position, happening) = (event.position.get(), event.event.clone());
        self.recent.push_back(TimedHappening { position, at, happening });
    }

    fn heap_bytes(&self) -> Option<usize> {
        Some(self.recent.capacity() * size_of::<TimedHappening>())
    }
}

impl Happenings {
    /// The number of newest events that the view keeps.
    pub const RECENT: usize = 40;

    /// The number of events of a type.
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }
}

/// Counts of all events, and the newest events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecentHappenings {}

/// Counts of all events, and the newest events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HappeningsAnswer {
    /// The earliest time of an event of a flight from the files.
    #[schemars(with = "Option<String>")]
    pub first: Option<Timestamp>,
    /// The latest time of an event of a flight from the files.
    #[schemars(with = "Option<String>")]
    pub last: Option<Timestamp>,
    /// Number of events of each type.
    pub events: Vec<CountOfType>,
    /// Number of accepted commands.
    pub accepted: u64,
    /// Number of refused commands.
    pub refused: u64,
    /// The newest events, newest first, at most 40.
    pub recent: Vec<RecentHappening>,
}

/// The number of events of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CountOfType {
    /// The type.
    pub r#type: Kind,
    /// Number of events.
    pub count: u64,
}

/// A recent event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RecentHappening {
    /// Number of the event: it counts all events of the view up to this one.
    pub number: u64,
    /// Position of the event in the log.
    pub position: u64,
    /// The time of the fact.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The type.
    pub r#type: Kind,
    /// The flight of the event, if it has one.
    pub flight: Option<FlightId>,
    /// The event in words, for people.
    pub text: String,
}

impl Query for RecentHappenings {
    type View = Happenings;
    type Answer = HappeningsAnswer;

    fn answer(&self, view: &Happenings) -> HappeningsAnswer {
        let counts = view.counts.iter().map(|(kind, count)| (*kind, *count));
        let refused = view.count(Kind::CommandRefused);
        let numbered = (1..=view.total).rev().zip(view.recent.iter().rev());
        let recent = numbered.map(|(number, recent)| RecentHappening {
            number,
            position: recent.position,
            at: recent.at,
            r#type: Kind::of(&recent.happening),
            flight: recent.happening.flight(),
            text: text(&recent.happening),
        });
        HappeningsAnswer {
            first: view.flights.map(|(first, _)| first),
            last: view.flights.map(|(_, last)| last),
            events: counts.map(|(r#type, count)| CountOfType { r#type, count }).collect(),
            accepted: view.total - refused,
            refused,
            recent: recent.collect(),
        }
    }
}

/// The days of the first and of the last event of a flight from the files.
#[derive(Clone, Copy, Debug)]
pub struct FlightDays {}

impl Query for FlightDays {
    type View = Happenings;
    type Answer = Option<(Day, Day)>;

    fn answer(&self, view: &Happenings) -> Option<(Day, Day)> {
        view.flights.map(|(first, last)| (Day::of(first), Day::of(last)))
    }
}

fn text(happening: &Happening) -> String {
    match happening {
        Happening::Scheduled(of) => {
            format!("is to leave for {} at {}", of.destination, of.departs_at)
        }
        Happening::Departed(FlightDeparted { destination, delay_minutes, .. }) => {
            format!("left for {destination}, {}", lateness(*delay_minutes))
        }
        Happening::Cancelled(of) => format!("will not leave for {}", of.destination),
        Happening::Landed(FlightLanded { destination, arrival_delay_minutes, .. }) => {
            match arrival_delay_minutes {
                Some(delay) => format!("landed in {destination}, {}", lateness(*delay)),
                None => format!("landed in {destination}"),
            }
        }
        Happening::Diverted(of) => format!("did not get to {}, it was diverted", of.destination),
        Happening::Refused(of) => format!("{} was refused: {}", of.command, of.reason),
        Happening::Weather(of) => weather(of.airport.as_str(), of.weather.temperature_f),
        Happening::Airline(of) => format!("{} is {}", of.airline, of.name),
        Happening::Airport(of) => format!("{} is {}", of.airport, of.name),
        Happening::Plane(of) => format!("{} is of {}: {}", of.plane, of.manufacturer, of.model),
    }
}

fn lateness(minutes: i32) -> String {
    match minutes {
        0 => "on time".to_owned(),
        1.. => format!("{} late", duration(minutes.unsigned_abs())),
        ..0 => format!("{} early", duration(minutes.unsigned_abs())),
    }
}

/// A duration as the page writes all of them.
fn duration(minutes: u32) -> String {
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

fn weather(airport: &str, temperature_f: Option<f64>) -> String {
    match temperature_f {
        Some(temperature) => format!("{temperature:.0} degrees Fahrenheit at {airport}"),
        None => format!("the weather at {airport}"),
    }
}
