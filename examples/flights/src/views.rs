//! The right panel: what is shown. One file for each view, with the questions to it.
//!
//! Every view is folded from the same [`Happening`]s, and each keeps what
//! its questions need and nothing else. None looks into another: what the board shows of a flight
//! and what the airline's figures count of it came over the hinge twice.

mod board;
mod delays;
mod happenings;
mod names;
mod planes;
mod punctuality;
mod refusals;
mod routes;
#[cfg(test)]
mod tests;

use diptych::Recorded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events::Happening;

pub use board::{Board, BoardRow, DepartureBoard, DepartureBoardAnswer, FlightCard, FlightDetails};
pub use delays::{
    DelayByHour, DelayByHourAnswer, DelayByWeather, DelayByWeatherAnswer, DelayOfHour,
    DelayOfWeather, WeatherDelay,
};
pub use happenings::{
    CountOfType, FlightDays, Happenings, HappeningsAnswer, Kind, RecentHappening, RecentHappenings,
};
pub use names::{AllNames, NameOfAirport, Names, NamesAnswer};
pub use planes::{Leg, PlaneDay, PlaneDayAnswer, Planes};
pub use punctuality::{Punctuality, PunctualityAnswer, PunctualityByAirline, PunctualityOfAirline};
pub use refusals::{CountOfRule, Refusals, RefusalsAnswer, RefusalsByRule, RefusedCommand};
pub use routes::{RankedRoute, RouteOrder, RouteRanking, RouteRankingAnswer, Routes};

/// The actor of commands that come from outside, and are in no file.
pub const VISITOR: &str = "visitor";

/// Whether the time of the demo follows an event: it is of the files, and was over when it was
/// recorded.
///
/// A command without an instant is so when it is recorded, years after the flights; and anyone may
/// send one of the year 9000. Either is kept and shown, and would leave the boards empty for all if
/// they went along.
fn moves_time(event: &Recorded<Happening>) -> bool {
    let is_of_a_visitor = event.metadata.actor.as_ref().is_some_and(|actor| actor == VISITOR);
    !is_of_a_visitor && event.occurred_at() < event.recorded_at
}

/// So many minutes late is late, as it is counted everywhere.
const LATE_MINUTES: i32 = 15;

/// A number of something, and the sum of its minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Minutes {
    count: u64,
    sum: i64,
}

impl Minutes {
    fn add(&mut self, minutes: i32) {
        self.count += 1;
        self.sum += i64::from(minutes);
    }

    /// The mean in whole tenths, so that it is the same everywhere; none of nothing.
    fn mean_tenths(self) -> Option<i64> {
        let count = i64::try_from(self.count).ok().filter(|count| *count > 0)?;
        Some((self.sum * 10 + count / 2).div_euclid(count))
    }

    fn mean(self) -> Option<f64> {
        self.mean_tenths().map(|tenths| tenths as f64 / 10.0)
    }
}

/// About what an entry of a `BTreeMap` takes beside key and value: its share of nodes that are not
/// full.
fn map_bytes<K, V>(entries: usize) -> usize {
    entries * (size_of::<K>() + size_of::<V>()) * 3 / 2
}
