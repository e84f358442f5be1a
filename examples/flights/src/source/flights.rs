//! The table of flights.

use std::collections::HashMap;

use diptych::{Command, Timestamp};
use foldhash::fast::RandomState;

use super::{
    Source, SourceError,
    table::{Quotes, Row, Table},
};
use crate::{
    commands::{CancelFlight, DepartFlight, DivertFlight, LandFlight, ScheduleFlight},
    ids::{Airport, BoardId, Day, FlightId, Plane},
    planned::PlannedCommand,
    time::plus_minutes,
};

const COLUMNS: [&str; 19] = [
    "year",
    "month",
    "day",
    "dep_time",
    "sched_dep_time",
    "dep_delay",
    "arr_time",
    "sched_arr_time",
    "arr_delay",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "air_time",
    "distance",
    "hour",
    "minute",
    "time_hour",
];

/// The index of each column.
mod column {
    pub(super) const YEAR: usize = 0;
    pub(super) const MONTH: usize = 1;
    pub(super) const DAY: usize = 2;
    pub(super) const DEP_TIME: usize = 3;
    pub(super) const DEP_DELAY: usize = 5;
    pub(super) const ARR_DELAY: usize = 8;
    pub(super) const CARRIER: usize = 9;
    pub(super) const FLIGHT: usize = 10;
    pub(super) const TAILNUM: usize = 11;
    pub(super) const ORIGIN: usize = 12;
    pub(super) const DEST: usize = 13;
    pub(super) const AIR_TIME: usize = 14;
    pub(super) const DISTANCE: usize = 15;
    pub(super) const MINUTE: usize = 17;
    pub(super) const TIME_HOUR: usize = 18;
}

/// The contents of a row. A year has many rows, so the fields are small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlightRow {
    flight: FlightId,
    destination: Airport,
    plane: Option<Plane>,
    distance_miles: u16,
    /// Scheduled departure, in minutes since the epoch.
    departs_minute: i32,
    /// Delay of the departure; `None` if the flight did not leave.
    departure_delay: Option<i16>,
    /// Time in the air; `None` if the flight did not reach its destination.
    air_minutes: Option<i16>,
    arrival_delay: Option<i16>,
}

impl FlightRow {
    /// Assumed time from the departure to the news that a flight was diverted. The file does not
    /// say it.
    const DIVERTED_AFTER_MINUTES: i64 = 240;

    fn read(row: &Row<'_>) -> Result<FlightRow, SourceError> {
        let (year, month, day) =
            (row.value(column::YEAR)?, row.value(column::MONTH)?, row.value(column::DAY)?);
        let day = Day::new(year, month, day).ok_or_else(|| {
            row.wrong(column::DAY, format!("{year}-{month}-{day} is no day of the calendar"))
        })?;
        let board = BoardId { origin: row.value(column::ORIGIN)?, day };
        let number = row.value(column::FLIGHT)?;
        let flight = FlightId::new(row.value(column::CARRIER)?, number, board);
        let flight = flight.ok_or_else(|| {
            row.wrong(column::FLIGHT, format!("{number} has more than four digits"))
        })?;
        let read = FlightRow {
            flight,
            destination: row.value(column::DEST)?,
            plane: row.known(column::TAILNUM)?,
            distance_miles: row.value(column::DISTANCE)?,
            departs_minute: departs_minute(row)?,
            departure_delay: match row.text(column::DEP_TIME)? {
                "NA" => None,
                _ => Some(row.value(column::DEP_DELAY)?),
            },
            air_minutes: row.known(column::AIR_TIME)?,
            arrival_delay: row.known(column::ARR_DELAY)?,
        };
        read.check(row)?;
        Ok(read)
    }

    /// Checks that the row's commands are valid, so that the load cannot fail half-way.
    fn check(&self, row: &Row<'_>) -> Result<(), SourceError> {
        let wrong = |column| move |invalid: diptych::Invalid| row.wrong(column, invalid.problem);
        self.schedule().validate().map_err(wrong(column::TIME_HOUR))?;
        self.leave().validate().map_err(wrong(column::DEP_DELAY))?;
        match self.ended_at() {
            Some(_) => self.end().validate().map_err(wrong(column::AIR_TIME)),
            None => Ok(()),
        }
    }

    /// The day of the flight in the timetable.
    pub(crate) fn day(&self) -> Day {
        self.flight.day()
    }

    /// The time at which the flight enters the timetable.
    pub(crate) fn scheduled_at(&self) -> Timestamp {
        self.schedule().scheduled_at()
    }

    /// The time at which the flight departs or is cancelled.
    pub(crate) fn left_at(&self) -> Timestamp {
        plus_minutes(self.departs_at(), self.departure_delay.unwrap_or(0).into())
    }

    /// The time at which the flight lands or is diverted; `None` if it did not depart.
    pub(crate) fn ended_at(&self) -> Option<Timestamp> {
        self.departure_delay?;
        let minutes = self.air_minutes.map_or(FlightRow::DIVERTED_AFTER_MINUTES, i64::from);
        Some(plus_minutes(self.left_at(), minutes))
    }

    fn departs_at(&self) -> Timestamp {
        plus_minutes(Timestamp::from_micros(0), self.departs_minute.into())
    }

    pub(crate) fn schedule(&self) -> ScheduleFlight {
        ScheduleFlight {
            flight: self.flight,
            departs_at: self.departs_at(),
            destination: self.destination,
            plane: self.plane,
            distance_miles: Some(self.distance_miles),
        }
    }

    /// The command that departs or cancels the flight.
    pub(crate) fn leave(&self) -> PlannedCommand {
        let (flight, at) = (self.flight, self.left_at());
        match self.departure_delay {
            Some(_) => PlannedCommand::Depart(DepartFlight { flight, plane: self.plane, at }),
            None => PlannedCommand::Cancel(CancelFlight { flight, at }),
        }
    }

    /// The command that lands or diverts the flight, if it departed.
    pub(crate) fn end(&self) -> PlannedCommand {
        let flight = self.flight;
        match self.air_minutes {
            Some(minutes) => {
                let at = plus_minutes(self.left_at(), minutes.into());
                let arrival_delay_minutes = self.arrival_delay.map(i32::from);
                PlannedCommand::Land(LandFlight { flight, at, arrival_delay_minutes })
            }
            None => {
                let at = plus_minutes(self.left_at(), FlightRow::DIVERTED_AFTER_MINUTES);
                PlannedCommand::Divert(DivertFlight { flight, at })
            }
        }
    }
}

/// The scheduled departure. The file gives the hour in UTC, so changes of the clock have no effect.
fn departs_minute(row: &Row<'_>) -> Result<i32, SourceError> {
    const MINUTE_MICROS: i64 = 60_000_000;
    let hour: Timestamp = row.value(column::TIME_HOUR)?;
    let minute: u8 = row.value(column::MINUTE)?;
    if minute >= 60 {
        return Err(row.wrong(column::MINUTE, format!("{minute} is no minute of an hour")));
    }
    let minutes = hour.as_micros().div_euclid(MINUTE_MICROS).saturating_add(minute.into());
    i32::try_from(minutes).map_err(|_| row.wrong(column::TIME_HOUR, format!("{hour} is too far")))
}

/// Reads all rows.
pub(super) fn read(file: &str, bytes: &[u8]) -> Result<Vec<FlightRow>, SourceError> {
    let mut table = Table::open(file, bytes, &COLUMNS, Quotes::None)?;
    let mut flights = Vec::new();
    let mut rows: HashMap<FlightId, usize, RandomState> = HashMap::default();
    while let Some(row) = table.row()? {
        if flights.len() == Source::ROWS {
            return Err(SourceError::TooManyRows { file: file.to_owned() });
        }
        let read = FlightRow::read(&row)?;
        if let Some(first) = rows.insert(read.flight, row.number) {
            let (file, flight) = (file.to_owned(), read.flight.to_string());
            return Err(SourceError::Twice { file, row: row.number, first, flight });
        }
        flights.push(read);
    }
    match flights.is_empty() {
        true => Err(SourceError::Empty { file: file.to_owned() }),
        false => Ok(flights),
    }
}
