//! A command that a row of a file says.

use std::fmt;

use diptych::{Command, Invalid, Timestamp};

use crate::{
    commands::{CancelFlight, DepartFlight, DivertFlight, LandFlight, ScheduleFlight},
    events::{AirlineNamed, AirportNamed, PlaneRegistered, WeatherObserved},
};

/// A command of a plan. Its `Display` is the idempotency key of the command.
pub(crate) enum PlannedCommand {
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

impl PlannedCommand {
    /// Checks the command's own data. After a success, only a rule can refuse the command.
    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        match self {
            PlannedCommand::Schedule(schedule) => schedule.validate(),
            PlannedCommand::Depart(depart) => depart.validate(),
            PlannedCommand::Cancel(cancel) => cancel.validate(),
            PlannedCommand::Land(land) => land.validate(),
            PlannedCommand::Divert(divert) => divert.validate(),
            PlannedCommand::Airline(_)
            | PlannedCommand::Airport(_)
            | PlannedCommand::Plane(_)
            | PlannedCommand::Weather(..) => Ok(()),
        }
    }
}

impl fmt::Display for PlannedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlannedCommand::Airline(named) => write!(f, "airline/{}", named.airline),
            PlannedCommand::Airport(named) => write!(f, "airport/{}", named.airport),
            PlannedCommand::Plane(registered) => write!(f, "plane/{}", registered.plane),
            PlannedCommand::Weather(at, observed) => write!(f, "weather/{}/{at}", observed.airport),
            PlannedCommand::Schedule(schedule) => write!(f, "schedule/{}", schedule.flight),
            PlannedCommand::Depart(depart) => write!(f, "depart/{}", depart.flight),
            PlannedCommand::Cancel(cancel) => write!(f, "cancel/{}", cancel.flight),
            PlannedCommand::Land(land) => write!(f, "land/{}", land.flight),
            PlannedCommand::Divert(divert) => write!(f, "divert/{}", divert.flight),
        }
    }
}
