//! What is to be sent, in order: of everything in the tables, whatever happens first comes first.

use std::{fmt, sync::Arc};

use diptych::{Command, Invalid, Timestamp};

use crate::{
    commands::{CancelFlight, DepartFlight, DivertFlight, LandFlight, ScheduleFlight},
    events::{AirlineNamed, AirportNamed, PlaneRegistered, WeatherObserved},
    ids::Day,
    source::{Facts, FlightRow},
};

/// Every command that is to be sent, in order of the instant at which it is so; of one instant,
/// facts first, then what enters the timetable, what leaves it, and what ends; of those, in order
/// of the rows.
///
/// There are a million of them for a year, so each is a few bytes that say where its rest is.
#[derive(Clone, Debug)]
pub struct Plan {
    flights: Arc<[FlightRow]>,
    facts: Arc<Facts>,
    steps: Vec<Step>,
    source: String,
    total: usize,
}

/// One command, and where the rest of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step {
    /// Seconds since the epoch.
    second: i64,
    kind: StepKind,
    row: u32,
}

/// Which table a step is of, and what of it is sent. The order is that of one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum StepKind {
    Airline,
    Airport,
    Plane,
    Weather,
    Schedule,
    Leave,
    End,
}

const SECOND_MICROS: i64 = 1_000_000;

impl Step {
    fn new(at: Timestamp, kind: StepKind, row: usize) -> Step {
        // No table has so many rows.
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        Step { second: at.as_micros().div_euclid(SECOND_MICROS), kind, row }
    }

    pub(crate) fn at(&self) -> Timestamp {
        Timestamp::from_micros(self.second.saturating_mul(SECOND_MICROS))
    }
}

/// Since when things are called as they are: 2012-12-31T00:00:00Z, before the first flight of 2013
/// is in a timetable.
const NAMED_AT: Timestamp = Timestamp::from_micros(1_356_912_000 * SECOND_MICROS);

impl Plan {
    pub(crate) fn new(flights: Vec<FlightRow>, facts: Facts, source: String) -> Plan {
        let mut steps = Vec::with_capacity(flights.len() * 3 + facts.weather.len());
        for (row, flight) in flights.iter().enumerate() {
            steps.push(Step::new(flight.scheduled_at(), StepKind::Schedule, row));
            steps.push(Step::new(flight.left_at(), StepKind::Leave, row));
            if let Some(ended_at) = flight.ended_at() {
                steps.push(Step::new(ended_at, StepKind::End, row));
            }
        }
        // The weather of the time of these flights.
        let (first, last) = (steps.iter().min().copied(), steps.iter().max().copied());
        for (row, (at, _)) in facts.weather.iter().enumerate() {
            let begun = first.is_some_and(|first| first.at() <= *at);
            if begun && last.is_some_and(|last| *at <= last.at()) {
                steps.push(Step::new(*at, StepKind::Weather, row));
            }
        }
        for (kind, rows) in [
            (StepKind::Airline, facts.airlines.len()),
            (StepKind::Airport, facts.airports.len()),
            (StepKind::Plane, facts.planes.len()),
        ] {
            steps.extend((0..rows).map(|row| Step::new(NAMED_AT, kind, row)));
        }
        steps.sort_unstable();
        let (flights, facts, total) = (flights.into(), Arc::new(facts), steps.len());
        Plan { flights, facts, steps, source, total }
    }

    /// The part of it that is before an instant.
    #[must_use]
    pub fn until(mut self, instant: Timestamp) -> Plan {
        let part = self.steps.partition_point(|step| step.at() < instant);
        self.steps.truncate(part);
        self
    }

    /// How many commands there are.
    pub fn commands(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing was left out.
    pub fn is_whole(&self) -> bool {
        self.steps.len() == self.total
    }

    /// The digest of the file that it was made of.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The first and the last day that the file has a flight on, whatever was left out.
    pub fn days(&self) -> Option<(Day, Day)> {
        let days = || self.flights.iter().map(FlightRow::day);
        Some((days().min()?, days().max()?))
    }

    /// When the first flight leaves, if one does.
    pub fn first_departure(&self) -> Option<Timestamp> {
        self.steps.iter().find(|step| step.kind == StepKind::Leave).map(Step::at)
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The command of a step of this plan.
    #[allow(clippy::indexing_slicing)] // A step is made of a row that is there.
    pub(crate) fn command(&self, step: &Step) -> Planned {
        let row = step.row as usize;
        match step.kind {
            StepKind::Airline => Planned::Airline(self.facts.airlines[row].clone()),
            StepKind::Airport => Planned::Airport(self.facts.airports[row].clone()),
            StepKind::Plane => Planned::Plane(self.facts.planes[row].clone()),
            StepKind::Weather => {
                let (at, observed) = &self.facts.weather[row];
                Planned::Weather(*at, observed.clone())
            }
            StepKind::Schedule => Planned::Schedule(self.flights[row].schedule()),
            StepKind::Leave => self.flights[row].leave(),
            StepKind::End => self.flights[row].end(),
        }
    }
}

/// A command of a plan. As text it is the key under which it is sent.
pub(crate) enum Planned {
    Airline(AirlineNamed),
    Airport(AirportNamed),
    Plane(PlaneRegistered),
    Weather(Timestamp, WeatherObserved),
    Schedule(ScheduleFlight),
    Depart(DepartFlight),
    Cancel(CancelFlight),
    Land(LandFlight),
    Divert(DivertFlight),
}

impl Planned {
    /// Whether it will be taken: a rule may refuse it then, and nothing else does.
    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        match self {
            Planned::Schedule(schedule) => schedule.validate(),
            Planned::Depart(depart) => depart.validate(),
            Planned::Cancel(cancel) => cancel.validate(),
            Planned::Land(land) => land.validate(),
            Planned::Divert(divert) => divert.validate(),
            Planned::Airline(_)
            | Planned::Airport(_)
            | Planned::Plane(_)
            | Planned::Weather(..) => Ok(()),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Planned::Airline(named) => write!(f, "airline/{}", named.airline),
            Planned::Airport(named) => write!(f, "airport/{}", named.airport),
            Planned::Plane(registered) => write!(f, "plane/{}", registered.plane),
            Planned::Weather(at, observed) => write!(f, "weather/{}/{at}", observed.airport),
            Planned::Schedule(schedule) => write!(f, "schedule/{}", schedule.flight),
            Planned::Depart(depart) => write!(f, "depart/{}", depart.flight),
            Planned::Cancel(cancel) => write!(f, "cancel/{}", cancel.flight),
            Planned::Land(land) => write!(f, "land/{}", land.flight),
            Planned::Divert(divert) => write!(f, "divert/{}", divert.flight),
        }
    }
}
