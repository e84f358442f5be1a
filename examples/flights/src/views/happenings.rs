//! Everything as it comes: how much of what, and the latest.

use std::collections::{BTreeMap, VecDeque};

use diptych::{Fold, Query, Recorded, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moves_time;
use crate::{
    events::{FlightDeparted, FlightLanded, Happening},
    ids::{Day, FlightId},
};

/// How many of each type, since when and until when, and the newest of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Happenings {
    counts: BTreeMap<Kind, u64>,
    total: u64,
    /// When the earliest and the latest event of a flight of the files was so.
    flights: Option<(Timestamp, Timestamp)>,
    /// The newest last, [`Happenings::RECENT`] at most.
    recent: VecDeque<Recent>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Recent {
    at: Timestamp,
    happening: Happening,
}

/// What kinds of things happen.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A flight is in the timetable.
    FlightScheduled,
    /// A flight left.
    FlightDeparted,
    /// A flight will not leave.
    FlightCancelled,
    /// A flight arrived.
    FlightLanded,
    /// A flight ended somewhere else.
    FlightDiverted,
    /// A command was refused.
    CommandRefused,
    /// How the weather was.
    WeatherObserved,
    /// What an airline is called.
    AirlineNamed,
    /// What an airport is called.
    AirportNamed,
    /// What kind of plane it is.
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
        self.recent.push_back(Recent { at, happening: event.event.clone() });
    }

    fn heap_bytes(&self) -> Option<usize> {
        Some(self.recent.capacity() * size_of::<Recent>())
    }
}

impl Happenings {
    /// How many of the newest are kept.
    pub const RECENT: usize = 40;

    /// How many there were of a kind.
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }
}

/// What happens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecentHappenings {}

/// What happened: how much of what, and the newest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HappeningsAnswer {
    /// When the earliest event of a flight of the files was so.
    #[schemars(with = "Option<String>")]
    pub first: Option<Timestamp>,
    /// When the latest event of a flight of the files was so.
    #[schemars(with = "Option<String>")]
    pub last: Option<Timestamp>,
    /// How many of each type.
    pub events: Vec<CountOfType>,
    /// Commands that were carried out.
    pub accepted: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// The newest first, 40 at most.
    pub recent: Vec<RecentHappening>,
}

/// How many events of a type there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CountOfType {
    /// The type.
    pub r#type: Kind,
    /// How many.
    pub count: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RecentHappening {
    /// How many there were until then, with this one.
    pub number: u64,
    /// When it was so.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What it is.
    pub r#type: Kind,
    /// The flight that it is about, if it is about one.
    pub flight: Option<FlightId>,
    /// The same for people.
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

/// Which days the flights of the files are on, as far as they happened: the first and the last.
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
        1.. => format!("{minutes} min late"),
        ..0 => format!("{} min early", minutes.unsigned_abs()),
    }
}

fn weather(airport: &str, temperature_f: Option<f64>) -> String {
    match temperature_f {
        Some(temperature) => format!("{temperature:.0} degrees Fahrenheit at {airport}"),
        None => format!("the weather at {airport}"),
    }
}
