//! All commands of a file and of the small tables, ordered by time.

use std::sync::Arc;

use diptych::Timestamp;

use crate::{
    ids::Day,
    planned::PlannedCommand,
    source::{Facts, FlightRow, Source, SourceError},
};

/// All commands, ordered by the time of their facts. At equal times the small tables come first,
/// then flights that enter the timetable, then departures and cancellations, then landings and
/// diversions. Within each of these groups, commands are in the order of their rows.
///
/// A year has a million commands, so each takes only a few bytes that refer to its row.
#[derive(Clone, Debug)]
pub struct Plan {
    flights: Arc<[FlightRow]>,
    facts: Arc<Facts>,
    steps: Vec<Step>,
    source: String,
    total: usize,
}

/// One command, as a reference to the row with its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step {
    /// Seconds since the epoch.
    second: i64,
    kind: StepKind,
    row: u32,
}

/// The table and the command of a step. The order of the variants is the order at equal times.
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
        // No table has this many rows.
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        Step { second: at.as_micros().div_euclid(SECOND_MICROS), kind, row }
    }

    pub(crate) fn at(&self) -> Timestamp {
        Timestamp::from_micros(self.second.saturating_mul(SECOND_MICROS))
    }
}

/// The time of all names: 2012-12-31T00:00:00Z, before the first flight of 2013 enters a timetable.
const NAMED_AT: Timestamp = Timestamp::from_micros(1_356_912_000 * SECOND_MICROS);

impl Plan {
    /// Reads all rows of a file and of the small tables, and orders their commands by time.
    ///
    /// # Errors
    /// [`SourceError`] with the first fault in the file.
    pub fn of(source: &Source) -> Result<Plan, SourceError> {
        Ok(Plan::new(source.flights()?, Facts::read()?, source.digest()))
    }

    fn new(flights: Vec<FlightRow>, facts: Facts, source: String) -> Plan {
        let mut steps = Vec::with_capacity(flights.len() * 3 + facts.weather.len());
        for (row, flight) in flights.iter().enumerate() {
            steps.push(Step::new(flight.scheduled_at(), StepKind::Schedule, row));
            steps.push(Step::new(flight.left_at(), StepKind::Leave, row));
            if let Some(ended_at) = flight.ended_at() {
                steps.push(Step::new(ended_at, StepKind::End, row));
            }
        }
        // Keeps only the weather between the first and the last flight.
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

    /// Keeps the commands before an instant.
    #[must_use]
    pub fn until(mut self, instant: Timestamp) -> Plan {
        let part = self.steps.partition_point(|step| step.at() < instant);
        self.steps.truncate(part);
        self
    }

    /// The number of commands.
    pub fn commands(&self) -> usize {
        self.steps.len()
    }

    /// Whether the plan still has all commands of the file.
    pub fn is_whole(&self) -> bool {
        self.steps.len() == self.total
    }

    /// The digest of the file.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The days of the first and of the last flight in the file, whether or not the plan keeps
    /// them.
    pub fn days(&self) -> Option<(Day, Day)> {
        let days = || self.flights.iter().map(FlightRow::day);
        Some((days().min()?, days().max()?))
    }

    /// The time of the first departure; `None` if no flight departs.
    pub fn first_departure(&self) -> Option<Timestamp> {
        self.steps.iter().find(|step| step.kind == StepKind::Leave).map(Step::at)
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The command of a step of this plan.
    #[allow(clippy::indexing_slicing)] // A step is made of a row that is there.
    pub(crate) fn command(&self, step: &Step) -> PlannedCommand {
        let row = step.row as usize;
        match step.kind {
            StepKind::Airline => PlannedCommand::Airline(self.facts.airlines[row].clone()),
            StepKind::Airport => PlannedCommand::Airport(self.facts.airports[row].clone()),
            StepKind::Plane => PlannedCommand::Plane(self.facts.planes[row].clone()),
            StepKind::Weather => {
                let (at, observed) = &self.facts.weather[row];
                PlannedCommand::Weather(*at, observed.clone())
            }
            StepKind::Schedule => PlannedCommand::Schedule(self.flights[row].schedule()),
            StepKind::Leave => self.flights[row].leave(),
            StepKind::End => self.flights[row].end(),
        }
    }
}
